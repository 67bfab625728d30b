package restconf_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/progress"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/restconf"
)

// Nothing that one session learnt lives on in another to the same server: no ticket of a provisional visit is resumed by an
// authenticated one, which would also let servers recognize each other's visitors.
func TestSessionsShareNothing(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		var resumed atomic.Int32
		l := newLab(t, good, func(_ *lab, c *tls.Config) {
			c.MaxVersion = version
			c.VerifyConnection = func(state tls.ConnectionState) error {
				if state.DidResume {
					resumed.Add(1)
				}
				return nil
			}
		})
		for i, o := range []restconf.Options{l.options, l.authenticated(), l.options} {
			s := connect(t, o)
			if _, err := s.GetBootstrappingData(t.Context(), restconf.Input{}); err != nil {
				t.Fatal(err)
			}
			s.Close()
			if n := l.signer.n.Load(); n != int32(i+1) || resumed.Load() != 0 {
				t.Errorf("visit %d: %d signatures, %d sessions resumed", i+1, n, resumed.Load())
			}
		}
	}
}

// The greeting tells neither what the device would speak inside nor, for an address, whom it looks for; and nobody learns
// the names of the device's interfaces.
func TestHelloRevealsNothing(t *testing.T) { // R9-06
	for host, want := range map[string]struct{ name, header string }{
		"127.0.0.1":      {"", "127.0.0.1"},
		"2001:db8::1":    {"", "[2001:db8::1]"},
		"fe80::1%eth0":   {"", "[fe80::1]"},
		serverName:       {serverName, serverName},
		serverName + ".": {serverName, serverName + "."},
	} {
		var header string
		l := newLab(t, func(w http.ResponseWriter, r *http.Request) { header = r.Host; good(w, r) }, func(_ *lab, c *tls.Config) {
			c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
				if len(hello.SupportedProtos) > 0 || hello.ServerName != want.name {
					t.Errorf("%s: server name %q, protocols %q", host, hello.ServerName, hello.SupportedProtos)
				}
				return nil, nil
			}
		})
		o := l.options
		o.Host = host
		if _, err := connect(t, o).GetBootstrappingData(t.Context(), restconf.Input{}); err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("%s:%d", want.header, o.Port); header != want {
			t.Errorf("Host: %s, want %s", header, want)
		}
	}
}

// A server is judged with the intermediate certificates that it sends, and by the device's clock.
func TestServerChainAndClock(t *testing.T) { // R5.3-02, R5.4-11
	for name, test := range map[string]struct {
		late       time.Duration
		confidence artifacts.Confidence
		code       reason.Code
	}{
		"in time":            {0, artifacts.ClockRTC, ""},
		"too late":           {2 * time.Hour, artifacts.ClockAuthenticated, "tls-server-expired"},
		"too early":          {-2 * time.Hour, artifacts.ClockRTC, "tls-server-expired"},
		"late without clock": {2 * time.Hour, artifacts.ClockNone, ""},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, good, func(l *lab, c *tls.Config) {
				between := newAuthority(t, "server CA", l.root)
				c.Certificates = []tls.Certificate{between.issue(t, x509.Certificate{DNSNames: []string{serverName}}, between)}
			})
			o := l.authenticated()
			o.Clock = artifacts.Clock{Now: time.Now().Add(test.late), Confidence: test.confidence}
			s, err := restconf.Connect(t.Context(), o)
			wantCode(t, err, test.code)
			if err == nil {
				s.Close()
			}
			if len(l.paths()) > 0 {
				t.Errorf("requests %v", l.paths())
			}
		})
	}
}

// A proxy of the environment would be one more party between device and server, and whoever starts the daemon has none to
// choose. net/http reads the environment once, which is why this happens in a process of its own.
func TestProxyIsIgnored(t *testing.T) {
	const proxy = "http://127.0.0.1:1"
	if os.Getenv("HTTPS_PROXY") != proxy {
		again := exec.Command(os.Args[0], "-test.run=^TestProxyIsIgnored$")
		again.Env = append(os.Environ(), "HTTPS_PROXY="+proxy)
		if out, err := again.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	if _, err := connect(t, newLab(t, good).authenticated()).GetBootstrappingData(t.Context(), restconf.Input{}); err != nil {
		t.Error(err)
	}
}

// closingConn counts in its counter how many connections are open.
type closingConn struct {
	net.Conn
	open *atomic.Int32
	once atomic.Bool
}

func (c *closingConn) Close() error {
	if c.once.CompareAndSwap(false, true) {
		c.open.Add(-1)
	}
	return c.Conn.Close()
}

// counted makes o count its open connections.
func counted(o *restconf.Options) *atomic.Int32 {
	open := new(atomic.Int32)
	o.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		open.Add(1)
		return &closingConn{Conn: c, open: open}, nil
	}
	return open
}

// No connection is left behind, neither to a server that did not authenticate nor by a session that was closed.
func TestConnectionsAreClosed(t *testing.T) {
	l := newLab(t, good)
	o := l.authenticated()
	o.Host = "bs2.example.net"
	open := counted(&o)
	_, err := restconf.Connect(t.Context(), o)
	wantCode(t, err, "tls-name-mismatch")
	if n := open.Load(); n != 0 {
		t.Errorf("after a failed handshake %d connections are open", n)
	}
	for _, ask := range []bool{false, true} {
		o := l.authenticated()
		open := counted(&o)
		s := connect(t, o)
		if ask {
			if _, err := s.GetBootstrappingData(t.Context(), restconf.Input{}); err != nil {
				t.Fatal(err)
			}
		}
		if n := open.Load(); n != 1 {
			t.Errorf("%d connections are open", n)
		}
		s.Close()
		if n := open.Load(); n != 0 {
			t.Errorf("after Close %d connections are open", n)
		}
	}
}

// A connection that cannot be opened again says so, in the words of the first one.
func TestServerGoneBetweenRequests(t *testing.T) {
	l := newLab(t, closing(good))
	s := connect(t, l.authenticated())
	if _, err := s.GetBootstrappingData(t.Context(), restconf.Input{}); err != nil {
		t.Fatal(err)
	}
	l.server.Close()
	wantCode(t, s.ReportProgress(t.Context(), progress.Report{Type: progress.Informational}), restconf.CodeConnectFailed)
}

// A server that does not read JSON may end the connection before it reads XML.
func TestServerGoneBetweenEncodings(t *testing.T) {
	l := newLab(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.Header.Get("Content-Type") {
		case "application/yang-data+json":
			w.WriteHeader(http.StatusUnsupportedMediaType)
		case "application/yang-data+xml":
			panic(http.ErrAbortHandler)
		default:
			http.NotFound(w, r)
		}
	})
	_, err := connect(t, l.options).GetBootstrappingData(t.Context(), restconf.Input{})
	wantCode(t, err, restconf.CodeConnectionLost)
}

// Requests say how long they are: servers that take no chunks exist. A reply may say that it is as it is.
func TestPlainBodies(t *testing.T) {
	l := newLab(t, func(w http.ResponseWriter, r *http.Request) {
		if body, _ := io.ReadAll(r.Body); r.ContentLength != int64(len(body)) || len(r.TransferEncoding) > 0 {
			t.Errorf("%s: length %d of %d bytes, encoding %q", r.URL.Path, r.ContentLength, len(body), r.TransferEncoding)
		}
		w.Header().Set("Content-Encoding", "identity")
		good(w, r)
	})
	if _, err := connect(t, l.options).GetBootstrappingData(t.Context(), restconf.Input{}); err != nil {
		t.Error(err)
	}
}

// A server that drops the connection in the middle of its reply refused nothing.
func TestResetInTheMiddle(t *testing.T) {
	l := newLab(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != pathGBD {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Length", "1000")
		io.WriteString(w, "{")
		w.(http.Flusher).Flush()
		c, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		tcp := c.(*tls.Conn).NetConn().(*net.TCPConn)
		tcp.SetLinger(0)
		tcp.Close()
	})
	_, err := connect(t, l.options).GetBootstrappingData(t.Context(), restconf.Input{})
	wantCode(t, err, restconf.CodeConnectionLost)
}

// Renegotiation would let a server change who it is after it was authenticated, or ask for signature after signature. OpenSSL
// asks for it here; Go's servers cannot.
func TestRenegotiationIsRefused(t *testing.T) {
	l := newLab(t, good)
	certificate := l.root.issue(t, x509.Certificate{DNSNames: []string{serverName}})
	key, err := x509.MarshalPKCS8PrivateKey(certificate.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "server.pem")
	text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate[0]}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	server := exec.Command("openssl", "s_server", "-tls1_2", "-accept", "127.0.0.1:0", "-naccept", "1", "-cert", file, "-key", file)
	stdin, err1 := server.StdinPipe()
	stdout, err2 := server.StdoutPipe()
	if err := errors.Join(err1, err2, server.Start()); err != nil {
		t.Fatal(err)
	}
	defer func() { server.Process.Kill(); server.Wait() }()
	lines := bufio.NewScanner(stdout)
	o := l.options
	for lines.Scan() {
		if address, ok := strings.CutPrefix(lines.Text(), "ACCEPT "); ok {
			o.Port = netip.MustParseAddrPort(address).Port()
			break
		}
	}
	asked := make(chan bool, 1)
	go func() {
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), "GET ") {
				io.WriteString(stdin, "R\n")
				asked <- true
			}
		}
	}()
	o.Timeouts.Header = 2 * time.Second
	_, err = connect(t, o).GetBootstrappingData(t.Context(), restconf.Input{})
	if code, _ := reason.Of(err); err == nil || code == restconf.CodeServerTimeout {
		t.Errorf("got %v", err)
	}
	select {
	case <-asked:
	default:
		t.Error("the server never asked to renegotiate")
	}
	if n := l.signer.n.Load(); n != 0 {
		t.Errorf("%d signatures for renegotiation", n)
	}
}
