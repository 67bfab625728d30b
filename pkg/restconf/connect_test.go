package restconf_test

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/progress"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/restconf"
)

// One signature of the device's key serves discovery, data and reports, also when the server closes the connection after
// every reply (R5.3-03, design of the TPM's load).
func TestOneSignaturePerServer(t *testing.T) {
	version := func(v uint16) func(*lab, *tls.Config) {
		return func(_ *lab, c *tls.Config) { c.MaxVersion = v }
	}
	tests := []struct {
		name    string
		handler http.HandlerFunc
		version uint16
		conns   int32
	}{
		{"kept open, TLS 1.3", good, tls.VersionTLS13, 1},
		{"kept open, TLS 1.2", good, tls.VersionTLS12, 1},
		{"closed after every reply, TLS 1.3", closing(good), tls.VersionTLS13, 7},
		{"closed after every reply, TLS 1.2", closing(good), tls.VersionTLS12, 7},
	}
	for _, tt := range tests {
		for _, mode := range []string{"authenticated", "provisional"} {
			t.Run(tt.name+"/"+mode, func(t *testing.T) {
				l := newLab(t, tt.handler, version(tt.version))
				o, reports := l.authenticated(), 5
				if mode == "provisional" {
					o, reports = l.options, 0
				}
				s := connect(t, o)
				if _, err := s.GetBootstrappingData(t.Context(), restconf.Input{}); err != nil {
					t.Fatal(err)
				}
				for range reports {
					if err := s.ReportProgress(t.Context(), progress.Report{Type: progress.Informational}); err != nil {
						t.Fatal(err)
					}
				}
				if got := l.signer.n.Load(); got != 1 {
					t.Errorf("%d signatures", got)
				}
				if want := min(tt.conns, int32(2+reports)); l.conns.Load() != want {
					t.Errorf("%d connections, want %d", l.conns.Load(), want)
				}
				if (s.Evidence() != nil) != (mode == "authenticated") || s.Evidence().Valid() != (mode == "authenticated") {
					t.Errorf("evidence %v", s.Evidence())
				}
			})
		}
	}
}

// A connection that was idle for long and closed by the server in the meantime is replaced without the caller noticing.
func TestIdleConnectionClosed(t *testing.T) {
	l := newLab(t, good)
	s := connect(t, l.authenticated())
	if _, err := s.GetBootstrappingData(t.Context(), restconf.Input{}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		l.server.CloseClientConnections()
		if err := s.ReportProgress(t.Context(), progress.Report{Type: progress.BootstrapInitiated}); err != nil {
			t.Fatal(err)
		}
	}
	if n := l.signer.n.Load(); n != 1 {
		t.Errorf("%d signatures", n)
	}
}

// The device presents its leaf and all intermediates (R5.3-03, R5.3-04), also to a server that names other authorities,
// and tells a name but never an address by SNI.
func TestClientCertificate(t *testing.T) {
	unrelated := func(l *lab, c *tls.Config) {
		c.ClientAuth = tls.RequireAnyClientCert
		c.ClientCAs = pool(l.root)
	}
	for _, change := range []func(*lab, *tls.Config){func(*lab, *tls.Config) {}, unrelated} {
		l := newLab(t, good, change)
		for _, host := range []string{serverName, "127.0.0.1"} {
			o := l.authenticated()
			o.Host = host
			if _, err := connect(t, o).GetBootstrappingData(t.Context(), restconf.Input{}); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff([]string{serverName, ""}, l.names); diff != "" {
			t.Error(diff)
		}
		for _, chain := range l.peers {
			if len(chain) != 2 || chain[0].Subject.SerialNumber != "AC-000123" || !chain[1].Equal(l.issuing.certificate) {
				t.Errorf("presented %d certificates", len(chain))
			}
		}
	}
}

// A server that does not authenticate gets no byte of HTTP and no signature (R5.5-05), on the first connection and on
// later ones.
func TestServerAuthentication(t *testing.T) {
	tests := []struct {
		name string
		host string
		code reason.Code
		by   func(t *testing.T, l *lab) []artifacts.TrustAnchor
	}{
		{"other root", serverName, "tls-server-untrusted", func(t *testing.T, l *lab) []artifacts.TrustAnchor {
			c := newAuthority(t, "another root", nil).certificate
			return []artifacts.TrustAnchor{{Lowest: c, Chain: []*x509.Certificate{c}}}
		}},
		{"no anchors", serverName, "tls-server-untrusted", func(*testing.T, *lab) []artifacts.TrustAnchor { return []artifacts.TrustAnchor{} }},
		{"other name", "bs2.example.net", "tls-name-mismatch", func(_ *testing.T, l *lab) []artifacts.TrustAnchor { return l.authenticated().Anchors }},
		{"other address", "127.0.0.2", "tls-name-mismatch", func(_ *testing.T, l *lab) []artifacts.TrustAnchor { return l.authenticated().Anchors }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab(t, good)
			o := l.authenticated()
			o.Host, o.Anchors = tt.host, tt.by(t, l)
			_, err := restconf.Connect(t.Context(), o)
			var refused *artifacts.Error
			if !errors.As(err, &refused) {
				t.Fatalf("got %v, want an *artifacts.Error", err)
			}
			wantCode(t, err, tt.code)
			if len(l.paths()) > 0 || l.signer.n.Load() > 0 {
				t.Errorf("requests %v, %d signatures", l.paths(), l.signer.n.Load())
			}
		})
	}
	t.Run("on reconnection", func(t *testing.T) {
		impostor := false
		l := newLab(t, closing(good), func(l *lab, c *tls.Config) {
			other := newAuthority(t, "another root", nil).issue(t, x509.Certificate{DNSNames: []string{serverName}})
			genuine := c.Certificates[0]
			c.SessionTicketsDisabled = true
			c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
				if impostor {
					return &other, nil
				}
				return &genuine, nil
			}
		})
		s := connect(t, l.authenticated())
		if _, err := s.GetBootstrappingData(t.Context(), restconf.Input{}); err != nil {
			t.Fatal(err)
		}
		before := len(l.paths())
		impostor = true
		err := s.ReportProgress(t.Context(), progress.Report{Type: progress.BootstrapInitiated})
		var refused *artifacts.Error
		if !errors.As(err, &refused) {
			t.Fatalf("got %v, want an *artifacts.Error", err)
		}
		wantCode(t, err, "tls-server-untrusted")
		if len(l.paths()) != before {
			t.Errorf("the impostor was sent %v", l.paths()[before:])
		}
	})
}

// A provisional connection accepts any certificate, of one dial only: the next session verifies again (R7-05).
func TestProvisional(t *testing.T) {
	l := newLab(t, good)
	o := l.options
	o.Host = "whatever.example"
	s := connect(t, o)
	if s.Evidence() != nil || len(s.PeerCertificates()) != 1 {
		t.Errorf("evidence %v, certificates %v", s.Evidence(), s.PeerCertificates())
	}
	o.Anchors = l.authenticated().Anchors
	if _, err := restconf.Connect(t.Context(), o); err == nil {
		t.Error("an authenticated session accepted the wrong name")
	}
}

func TestConnectFailures(t *testing.T) {
	plain := func(answer string) func(t *testing.T, o *restconf.Options) {
		return func(t *testing.T, o *restconf.Options) {
			o.Dial = func(context.Context, string, string) (net.Conn, error) {
				client, server := net.Pipe()
				go func() {
					go io.Copy(io.Discard, server)
					io.WriteString(server, answer)
					server.Close()
				}()
				return client, nil
			}
		}
	}
	tests := []struct {
		name   string
		server func(*lab, *tls.Config)
		change func(t *testing.T, o *restconf.Options)
		code   reason.Code
	}{
		{"refused", nil, func(t *testing.T, o *restconf.Options) {
			closed, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			o.Port = netip.MustParseAddrPort(closed.Addr().String()).Port()
			closed.Close()
		}, restconf.CodeConnectFailed},
		{"no answer", nil, func(t *testing.T, o *restconf.Options) {
			o.Timeouts.Dial = time.Millisecond
			o.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }
		}, restconf.CodeConnectFailed},
		{"handshake hangs", nil, func(t *testing.T, o *restconf.Options) {
			o.Timeouts.Handshake = 20 * time.Millisecond
			o.Dial = func(context.Context, string, string) (net.Conn, error) {
				client, server := net.Pipe()
				go io.Copy(io.Discard, server)
				return client, nil
			}
		}, restconf.CodeTLSFailure},
		{"plain HTTP", nil, plain("HTTP/1.1 400 Bad Request\r\n\r\n"), restconf.CodeTLSFailure},
		{"closed at once", nil, plain(""), restconf.CodeTLSFailure},
		{"TLS 1.1", func(_ *lab, c *tls.Config) { c.MaxVersion = tls.VersionTLS11; c.MinVersion = tls.VersionTLS10 }, nil, restconf.CodeTLSFailure},
		{"device unknown, TLS 1.2", func(l *lab, c *tls.Config) { c.ClientCAs = pool(l.root); c.MaxVersion = tls.VersionTLS12 }, nil,
			restconf.CodeCertificateRefused},
		{"key fails, TLS 1.2", func(_ *lab, c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, func(t *testing.T, o *restconf.Options) {
			o.Certificate.PrivateKey.(*countingSigner).err = errors.New("TPM_RC_LOCKOUT")
		}, restconf.CodeSignatureFailed},
		{"key fails, TLS 1.3", nil, func(t *testing.T, o *restconf.Options) {
			o.Certificate.PrivateKey.(*countingSigner).err = &reason.Error{Code: "tpm-unreachable", Msg: "no TPM"}
		}, "tpm-unreachable"},
		{"no identity", nil, func(t *testing.T, o *restconf.Options) { o.Certificate = tls.Certificate{} }, restconf.CodeSignatureFailed},
		{"no host", nil, func(t *testing.T, o *restconf.Options) { o.Host = "" }, restconf.CodeConnectFailed},
		{"host with a path", nil, func(t *testing.T, o *restconf.Options) { o.Host = "a/b" }, restconf.CodeConnectFailed},
		{"host with a line end", nil, func(t *testing.T, o *restconf.Options) { o.Host = "a\r\nX: y" }, restconf.CodeConnectFailed},
		{"no port", nil, func(t *testing.T, o *restconf.Options) { o.Port = 0 }, restconf.CodeConnectFailed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var l *lab
			if tt.server != nil {
				l = newLab(t, good, tt.server)
			} else {
				l = newLab(t, good)
			}
			o := l.options
			if tt.change != nil {
				tt.change(t, &o)
			}
			_, err := restconf.Connect(t.Context(), o)
			wantCode(t, err, tt.code)
			if len(l.paths()) > 0 {
				t.Errorf("requests %v", l.paths())
			}
		})
	}
}

func TestConnectFailureNamesTheAddressOnce(t *testing.T) {
	o := newLab(t, good).options
	o.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: network, Addr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(address)), Err: syscall.ECONNREFUSED}
	}
	_, err := restconf.Connect(t.Context(), o)
	want := fmt.Sprintf("no connection to %s: connection refused", netip.AddrPortFrom(o.Address, o.Port))
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	o.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, syscall.EHOSTUNREACH }
	_, err = restconf.Connect(t.Context(), o)
	if _, hint := reason.Of(err); !strings.Contains(hint, "routes") {
		t.Errorf("hint %q", hint)
	}
}

// silentSigner is a key whose TPM does not answer.
type silentSigner struct {
	crypto.Signer
	asked chan struct{}
	ended <-chan struct{} // the end of the test
}

func (s silentSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	close(s.asked)
	<-s.ended
	return nil, errors.New("the test is over")
}

// TestSilentKey: whoever stops the session does not wait for the TPM, and the server is not blamed for it.
func TestSilentKey(t *testing.T) {
	l := newLab(t, good)
	signer := silentSigner{l.signer, make(chan struct{}), t.Context().Done()}
	o := l.options
	o.Certificate.PrivateKey = signer
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-signer.asked; cancel() }()
	if _, err := restconf.Connect(ctx, o); !errors.Is(err, context.Canceled) {
		t.Errorf("stopped: %v", err)
	}

	o.Certificate.PrivateKey = silentSigner{l.signer, make(chan struct{}), t.Context().Done()}
	o.Timeouts.Handshake = 50 * time.Millisecond
	_, err := restconf.Connect(t.Context(), o)
	wantCode(t, err, restconf.CodeSignatureFailed)
	if _, hint := reason.Of(err); !strings.Contains(hint, "TPM") {
		t.Errorf("hint %q", hint)
	}
}

// In TLS 1.3 the server looks at the device's certificate after the handshake is over for the device; the first request
// tells the truth nevertheless.
func TestCertificateRefusedAfterHandshake(t *testing.T) {
	refusals := map[string]func(*lab, *tls.Config){
		"unknown authority": func(l *lab, c *tls.Config) { c.ClientCAs = pool(l.root) },
		"own check": func(_ *lab, c *tls.Config) {
			c.VerifyConnection = func(tls.ConnectionState) error { return errors.New("serial number not registered") }
		},
	}
	for name, refuse := range refusals {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, good, refuse)
			s, err := restconf.Connect(t.Context(), l.options)
			if err == nil {
				defer s.Close()
				_, err = s.GetBootstrappingData(t.Context(), restconf.Input{})
			}
			wantCode(t, err, restconf.CodeCertificateRefused)
		})
	}
}

// A refusal is heard without asking for anything, and nobody else is taken for one who refuses.
func TestAwaitRefusal(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*lab, *tls.Config)
		want   reason.Code
	}{
		"refused":     {func(l *lab, c *tls.Config) { c.ClientCAs = pool(l.root) }, restconf.CodeCertificateRefused},
		"welcome":     {func(*lab, *tls.Config) {}, ""},
		"TLS 1.2":     {func(_ *lab, c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, ""},
		"1.2 refused": {func(l *lab, c *tls.Config) { c.MaxVersion, c.ClientCAs = tls.VersionTLS12, pool(l.root) }, restconf.CodeCertificateRefused},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, good, test.change)
			s, err := restconf.Connect(t.Context(), l.options)
			if err == nil {
				defer s.Close()
				patience := time.Minute
				if test.want == "" {
					patience = 50 * time.Millisecond
				}
				err = s.AwaitRefusal(patience)
			}
			if code, _ := reason.Of(err); code != test.want || len(l.paths()) != 0 {
				t.Errorf("%v, and the server saw %v", err, l.paths())
			}
		})
	}
}

// A key that cannot sign TLS 1.3 handshakes keeps the connection at TLS 1.2.
func TestKeyWithoutPSS(t *testing.T) {
	for _, tt := range []struct {
		max  uint16
		want []uint16
	}{
		{0, []uint16{tls.VersionTLS13, tls.VersionTLS12}},
		{tls.VersionTLS13, []uint16{tls.VersionTLS13, tls.VersionTLS12}},
		{tls.VersionTLS12, []uint16{tls.VersionTLS12}},
	} {
		var offered []uint16
		l := newLab(t, good, func(_ *lab, c *tls.Config) {
			c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
				offered = hello.SupportedVersions
				return nil, errors.New("that was all")
			}
		})
		o := l.options
		o.MaxVersion = tt.max
		_, err := restconf.Connect(t.Context(), o)
		wantCode(t, err, restconf.CodeTLSFailure)
		if diff := cmp.Diff(tt.want, offered); diff != "" {
			t.Errorf("%#x: %s", tt.max, diff)
		}
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	l := newLab(t, func(w http.ResponseWriter, r *http.Request) { cancel(); <-r.Context().Done() })
	s := connect(t, l.options)
	_, err := s.GetBootstrappingData(ctx, restconf.Input{})
	wantCode(t, err, reason.Cancelled)
	_, err = restconf.Connect(ctx, l.options)
	wantCode(t, err, reason.Cancelled)
}
