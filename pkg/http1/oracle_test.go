package http1

import (
	"bufio"
	"bytes"
	"io"
	"maps"
	"net/http"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// FuzzReply holds what is made of a connection's bytes against net/http: what is accepted here, that accepts too, with the same
// status, header and body, and with the same bytes left behind the body. Replies that net/http accepts may be refused here:
//   - a length besides a transfer coding, and a coding in HTTP/1.0, which frame a body in two ways;
//   - spaces in names of fields, HTTP versions other than 1.0 and 1.1, codes below 100, spaces before the code;
//   - a change of the protocol, and more than five interim replies.
//
// The other way around there are two differences, which the test makes up for: net/http refuses chunked replies that announce
// to send the framing of their body as trailers, which are not looked at here; and it makes "Pragma: no-cache" a Cache-Control.
func FuzzReply(f *testing.F) {
	for _, tt := range replies {
		f.Add([]byte(tt.reply), tt.method == "HEAD")
	}
	f.Fuzz(func(t *testing.T, reply []byte, head bool) {
		r := get(t, "http://example.net/")
		if r.Close = true; head {
			r.Method = "HEAD"
		}
		w := &wire{from: bytes.NewReader(reply)}
		c := NewConn(w, Limits{Header: int64(len(reply)) + 1})
		resp, body, err := ask(c, r)
		if w.closed.Load() != 1 {
			t.Fatalf("closed %d times", w.closed.Load())
		}
		if err != nil || resp.Header["Trailer"] != nil {
			return
		}
		from := bufio.NewReader(bytes.NewReader(reply))
		want, wantBody, err := askOracle(from, r.Method)
		if err != nil {
			t.Fatalf("%d %q %q, which net/http refuses: %v", resp.Status, resp.Header, body, err)
		}
		if resp.Status != want.StatusCode || body != wantBody {
			t.Errorf("%d %q, want %d %q", resp.Status, body, want.StatusCode, wantBody)
		}
		if diff := cmp.Diff(comparableHeader(want.Header), comparableHeader(http.Header(resp.Header))); diff != "" {
			t.Errorf("header (-want +got):\n%s", diff)
		}
		left, _ := io.ReadAll(c.reader)
		wantLeft, _ := io.ReadAll(from)
		if !bytes.Equal(left, wantLeft) {
			t.Errorf("%q is left behind the reply, want %q", left, wantLeft)
		}
	})
}

// askOracle reads the final reply with its body.
func askOracle(from *bufio.Reader, method string) (*http.Response, string, error) {
	for {
		resp, err := http.ReadResponse(from, &http.Request{Method: method})
		if err != nil {
			return nil, "", err
		}
		if resp.StatusCode/100 != 1 {
			body, err := io.ReadAll(resp.Body)
			return resp, string(body), err
		}
	}
}

// comparableHeader is a header without what net/http takes out of it or puts in.
func comparableHeader(h http.Header) http.Header {
	h = maps.Clone(h)
	for _, name := range []string{"Connection", "Content-Length", "Transfer-Encoding"} {
		delete(h, name)
	}
	if slices.Equal(h["Cache-Control"], []string{"no-cache"}) && h["Pragma"] != nil {
		delete(h, "Cache-Control")
	}
	return h
}
