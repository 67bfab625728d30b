package restconf_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xpu-sztp/ztp/pkg/progress"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/restconf"
)

// pipes is a listener whose connections never leave the process, so that time can be faked.
type pipes struct {
	server chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes { return &pipes{server: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.server:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 443} }

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	p.server <- server
	return client, nil
}

// A server that is slow in whatever way is given up after a time that the options bound, and no later (R7-18, R7-19).
func TestSlowServers(t *testing.T) {
	untilGone := func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	drip := func(w http.ResponseWriter, r *http.Request) {
		for {
			if _, err := io.WriteString(w, " "); err != nil {
				return
			}
			w.(http.Flusher).Flush()
			time.Sleep(time.Second)
		}
	}
	data := func(s *restconf.Session) error {
		_, err := s.GetBootstrappingData(context.Background(), restconf.Input{})
		return err
	}
	report := func(s *restconf.Session) error {
		return s.ReportProgress(context.Background(), progress.Report{Type: progress.BootstrapError})
	}
	after := func(h http.HandlerFunc, path string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != path {
				http.NotFound(w, r)
				return
			}
			w.Header().Set("Content-Type", "application/yang-data+json")
			h(w, r)
		}
	}
	tests := []struct {
		name    string
		handler http.HandlerFunc
		call    func(*restconf.Session) error
		want    time.Duration
	}{
		{"host-meta hangs", untilGone, data, 30 * time.Second},
		{"data hangs", after(untilGone, pathGBD), data, 30 * time.Second},
		{"data drips", after(drip, pathGBD), data, 2 * time.Minute},
		{"report hangs", after(untilGone, pathRP), report, 30 * time.Second},
		{"report drips", after(drip, pathRP), report, 30 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				listener := newPipes()
				l := newLab(t, tt.handler, func(l *lab, _ *tls.Config) {
					l.server.Listener.Close()
					l.server.Listener = listener
				})
				o := l.authenticated()
				o.Dial = listener.dial
				s := connect(t, o)
				started := time.Now()
				err := tt.call(s)
				if took := time.Since(started); took != tt.want {
					t.Errorf("took %v, want %v", took, tt.want)
				}
				wantCode(t, err, restconf.CodeServerTimeout)
			})
		})
	}
	t.Run("caller's own limit", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			listener := newPipes()
			l := newLab(t, untilGone, func(l *lab, _ *tls.Config) {
				l.server.Listener.Close()
				l.server.Listener = listener
			})
			o := l.authenticated()
			o.Dial = listener.dial
			s := connect(t, o)
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			err := s.ReportProgress(ctx, progress.Report{Type: progress.BootstrapError})
			wantCode(t, err, reason.TimedOut)
		})
	})
}
