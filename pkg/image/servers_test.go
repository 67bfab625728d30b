package image_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/pkg/image"
	"github.com/xpu-sztp/ztp/pkg/reason"
)

// network resolves every name to the loopback addresses it lists, and counts.
type network struct {
	addresses []string
	mu        sync.Mutex
	dialled   []string
}

func (n *network) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	if host == "unknown.example" {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	var list []netip.Addr
	for _, a := range n.addresses {
		list = append(list, netip.MustParseAddr(a))
	}
	return list, nil
}

func (n *network) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	n.mu.Lock()
	n.dialled = append(n.dialled, address)
	n.mu.Unlock()
	return new(net.Dialer).DialContext(ctx, network, address)
}

// memory is a sink that remembers.
type memory struct {
	bytes.Buffer
	resets int
}

func (m *memory) Reset() error { m.Buffer.Reset(); m.resets++; return nil }

// content is an image that is no multiple of any buffer.
func content(size int) []byte {
	b := make([]byte, size)
	rng := rand.NewChaCha8([32]byte{1})
	rng.Read(b)
	return b
}

func digest(b []byte) []byte { sum := sha256.Sum256(b); return sum[:] }

func request(b []byte, uris ...string) image.Request {
	return image.Request{URIs: uris, SHA256: digest(b), Network: &network{addresses: []string{"127.0.0.1"}},
		RetryWait: time.Millisecond, MaxSize: 64 << 20}
}

func wantCode(t *testing.T, err error, want reason.Code) {
	t.Helper()
	if code, _ := reason.Of(err); code != want {
		t.Fatalf("got %q (%v), want code %q", code, err, want)
	}
}

func wantImage(t *testing.T, sink *memory, want []byte) {
	t.Helper()
	if !bytes.Equal(sink.Bytes(), want) {
		t.Fatalf("the sink holds %d bytes with %x, want %d with %x", sink.Len(), digest(sink.Bytes()), len(want), digest(want))
	}
}

// serve starts a plain HTTP server and returns its URL.
func serve(t testing.TB, h http.HandlerFunc) string {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// file serves b as a file server would.
func file(b []byte, etag string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if etag != "" {
			w.Header().Set("ETag", etag)
		}
		http.ServeContent(w, r, "image.bin", time.Time{}, bytes.NewReader(b))
	}
}

// cutting serves with h but breaks the connection after so many bytes of each of the first replies.
func cutting(h http.HandlerFunc, after ...int) http.HandlerFunc {
	var mu sync.Mutex
	return func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if len(after) == 0 {
			h(w, r)
			return
		}
		limit := after[0]
		after = after[1:]
		h(&cut{w, limit}, r)
	}
}

type cut struct {
	http.ResponseWriter
	left int
}

func (c *cut) Write(p []byte) (int, error) {
	if len(p) <= c.left {
		c.left -= len(p)
		return c.ResponseWriter.Write(p)
	}
	c.ResponseWriter.Write(p[:c.left])
	c.ResponseWriter.(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
}

// quiet is for servers whose clients are expected to leave them.
func quiet() *log.Logger { return log.New(io.Discard, "", 0) }
