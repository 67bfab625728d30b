package image_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xpu-sztp/ztp/pkg/image"
	"github.com/xpu-sztp/ztp/pkg/reason"
)

// pipes is a network of one server whose connections never leave the process, so that time can be faked.
type pipes struct {
	server chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.server:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 80} }

func (p *pipes) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil
}

func (p *pipes) DialContext(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	p.server <- server
	return client, nil
}

// slowSink is storage that stalls.
type slowSink struct{ memory }

func (s *slowSink) Write(p []byte) (int, error) {
	time.Sleep(5 * time.Minute)
	return s.memory.Write(p)
}

func TestSlow(t *testing.T) {
	b := content(100_000)
	drip := func(pieces int, every time.Duration) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", strconv.Itoa(len(b)))
			for i := range pieces {
				if _, err := w.Write(b[i*len(b)/pieces : (i+1)*len(b)/pieces]); err != nil {
					return
				}
				w.(http.Flusher).Flush()
				time.Sleep(every)
			}
		}
	}
	tests := []struct {
		name    string
		handler http.HandlerFunc
		sink    image.Sink
		limit   time.Duration
		code    reason.Code
		most    time.Duration
	}{
		{"slow but fast enough", drip(100, time.Second/2), &memory{}, 0, "", time.Minute},
		{"a byte a second", drip(len(b), time.Second), &memory{}, 0, image.CodeTimeout, 9*30*time.Second + 3*time.Minute},
		{"a byte a second, limited", drip(len(b), time.Second), &memory{}, time.Minute, image.CodeTimeout, time.Minute},
		{"storage slower than the network", drip(1, 0), &slowSink{}, 0, "", 6 * time.Minute},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				network := &pipes{server: make(chan net.Conn), closed: make(chan struct{})}
				server := &http.Server{Handler: tt.handler}
				go server.Serve(network)
				defer server.Shutdown(context.Background()) // waits for the handlers
				r := request(b, "http://mirror.example/os.bin")
				r.Network, r.Timeout = network, tt.limit
				started := time.Now()
				_, err := image.Fetch(t.Context(), r, tt.sink)
				wantCode(t, err, tt.code)
				if took := time.Since(started); took > tt.most {
					t.Errorf("took %v, want at most %v", took, tt.most)
				}
			})
		})
	}
}

// TestHostileMirrorLeavesTimeForTheNext has the first mirror do what it can to hold the device without being called slow.
func TestHostileMirrorLeavesTimeForTheNext(t *testing.T) {
	b := content(100_000)
	pour := func(w http.ResponseWriter, piece string, every time.Duration) {
		for {
			if _, err := io.WriteString(w, piece); err != nil {
				return
			}
			w.(http.Flusher).Flush()
			time.Sleep(every)
		}
	}
	tests := []struct {
		name string
		bad  http.HandlerFunc
		most time.Duration
	}{
		{"never ends", func(w http.ResponseWriter, r *http.Request) { pour(w, strings.Repeat("x", 2<<10), time.Second) }, 31 * time.Minute},
		{"redirect that drips", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/bad/next" {
				http.NotFound(w, r)
				return
			}
			w.Header().Set("Location", "/bad/next")
			w.WriteHeader(http.StatusFound)
			pour(w, "x", time.Minute)
		}, 2 * time.Minute},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				network := &pipes{server: make(chan net.Conn), closed: make(chan struct{})}
				mux := http.NewServeMux()
				mux.HandleFunc("/bad/", tt.bad)
				mux.HandleFunc("/good", func(w http.ResponseWriter, r *http.Request) { w.Write(b) })
				server := &http.Server{Handler: mux}
				go server.Serve(network)
				defer server.Shutdown(context.Background()) // waits for the handlers
				r := request(b, "http://mirror.example/bad/os.bin", "http://mirror.example/good")
				r.Network = network
				started := time.Now()
				_, err := image.Fetch(t.Context(), r, &memory{})
				wantCode(t, err, "")
				if took := time.Since(started); took > tt.most {
					t.Errorf("took %v, want at most %v", took, tt.most)
				}
			})
		})
	}
}

// Progress is shown about twice a second and no more often.
func TestProgressIsSparse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := content(20 << 20)
		network := &pipes{server: make(chan net.Conn), closed: make(chan struct{})}
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", strconv.Itoa(len(b)))
			for i := range 20 {
				w.Write(b[i<<20 : (i+1)<<20])
				time.Sleep(time.Second)
			}
		})}
		go server.Serve(network)
		defer server.Shutdown(context.Background()) // waits for the handlers
		r := request(b, "http://mirror.example/os.bin")
		r.Network = network
		var calls []image.Progress
		r.Progress = func(p image.Progress) { calls = append(calls, p) }
		if _, err := image.Fetch(t.Context(), r, &memory{}); err != nil {
			t.Fatal(err)
		}
		if len(calls) < 15 || len(calls) > 45 {
			t.Errorf("%d calls", len(calls))
		}
		last := int64(0)
		for i, c := range calls {
			if c.Bytes < last || i > 0 && c.Total != int64(len(b)) || c.Done != (i == len(calls)-1) {
				t.Errorf("call %d: %+v", i, c)
			}
			if i > 1 && (c.Rate < 500<<10 || c.Rate > 3<<20) {
				t.Errorf("call %d: rate %d", i, c.Rate)
			}
			last = c.Bytes
		}
	})
}
