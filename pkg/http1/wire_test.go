package http1

import (
	"context"
	"io"
	"net"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// wire is the connection to a server that sends something and does not care for what it is sent.
type wire struct {
	from   io.Reader
	sizes  []int // of the buffers that were read into
	closed atomic.Int32
}

func (w *wire) Read(p []byte) (int, error) {
	w.sizes = append(w.sizes, len(p))
	return w.from.Read(p)
}

func (w *wire) Write(p []byte) (int, error)      { return len(p), nil }
func (w *wire) Close() error                     { w.closed.Add(1); return nil }
func (w *wire) LocalAddr() net.Addr              { return nil }
func (w *wire) RemoteAddr() net.Addr             { return nil }
func (w *wire) SetDeadline(time.Time) error      { return nil }
func (w *wire) SetReadDeadline(time.Time) error  { return nil }
func (w *wire) SetWriteDeadline(time.Time) error { return nil }

func playing(reply string) *wire { return &wire{from: strings.NewReader(reply)} }

// silence is a connection that stays open and says nothing, until the test is over.
func silence(t *testing.T) io.Reader {
	r, w := io.Pipe()
	t.Cleanup(func() { w.Close() })
	return r
}

func get(t testing.TB, target string) *Request {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	return &Request{Method: "GET", URL: u}
}

// ask makes one exchange and reads the whole body.
func ask(c *Conn, r *Request) (resp *Response, body string, err error) {
	resp, err = c.RoundTrip(context.Background(), r)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	return resp, string(all), err
}
