package image

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
)

// What is accepted is one range up to the end, and nothing but the way it is written is lost.
func FuzzContentRange(f *testing.F) {
	for _, seed := range []string{"bytes 0-9/10", "bytes 5-9/10", "bytes 5-9/*", "bytes */10", "bytes 9-5/10", "items 0-9/10", "bytes 0-18446744073709551615/1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		start, total, ok := parseContentRange(value)
		if !ok {
			return
		}
		if start < 0 || start >= total {
			t.Fatalf("start %d of %d", start, total)
		}
		again, size, ok := parseContentRange(fmt.Sprintf("bytes %d-%d/%d", start, total-1, total))
		if !ok || again != start || size != total {
			t.Fatalf("%d of %d became %d of %d", start, total, again, size)
		}
	})
}

// What is shown of a URI is printable and holds neither password nor query.
func FuzzDisplay(f *testing.F) {
	f.Add("https://user:s3cret@host/path?s3cret#s3cret")
	f.Add("http://[::1%25eth0]/\x1b[31m")
	f.Fuzz(func(t *testing.T, uri string) {
		shown := display(uri)
		if strings.ContainsFunc(shown, func(r rune) bool { return r < ' ' || r == 0x7f }) || len(shown) > 210 {
			t.Fatalf("shown as %q", shown)
		}
		if u, err := url.Parse(shown); err == nil && (u.RawQuery != "" || u.User != nil) {
			t.Fatalf("%q shown as %q", uri, shown)
		}
	})
}
