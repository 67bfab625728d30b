package image

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
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

// A checkpoint that is read is one that was written, and whatever it says is safe to go on from.
func FuzzCheckpoint(f *testing.F) {
	r := Request{SHA256: make([]byte, 32)}.withDefaults()
	good, err := encodeCheckpoint(Checkpoint{SHA256: r.SHA256, Offset: 5, Total: 10, Hash: []byte{1}, Source: make([]byte, 32), ETag: `"v1"`, Mark: []byte{2}})
	if err != nil {
		f.Fatal(err)
	}
	_, text, _ := bytes.Cut(good, []byte("\n"))
	f.Add(good, false)
	f.Add(text, true)
	f.Add([]byte(`{"offset":9223372036854775807,"total":-1}`), true)
	f.Add([]byte(`null`), true)
	f.Fuzz(func(t *testing.T, data []byte, seal bool) {
		if seal { // what a fuzzer cannot guess
			sum := sha256.Sum256(data)
			data = append([]byte(checkpointMagic+hex.EncodeToString(sum[:])+"\n"), data...)
		}
		at, err := decodeCheckpoint(data)
		if err != nil {
			return
		}
		again, err := encodeCheckpoint(*at)
		if err != nil {
			return // too large in another notation
		}
		back, err := decodeCheckpoint(again)
		if diff := cmp.Diff(at, back, cmpopts.EquateEmpty()); err != nil || diff != "" {
			t.Fatal(err, diff)
		}
		if at.fits(r) == nil && (at.Offset < 1 || at.Offset > r.MaxSize || at.Total > 0 && at.Offset > at.Total ||
			strings.ContainsAny(at.ETag, "\r\n") || len(at.Mark) > MaxMark) {
			t.Fatalf("fits: %+v", at)
		}
	})
}

// What counts as a strong entity tag can be sent back as it is.
func FuzzStrongTag(f *testing.F) {
	for _, seed := range []string{`"v1"`, `W/"v1"`, `""`, `"`, "\"\r\n\"", `"5f3-\"x"`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, etag string) {
		if tag := strongTag(etag); tag != "" && (tag != etag || tag[0] != '"' || strings.ContainsFunc(tag, func(r rune) bool { return r < ' ' || r > '~' })) {
			t.Fatalf("%q is taken for %q", etag, tag)
		}
	})
}
