// Package restconf is the device's side of the bootstrap-server API (RFC 8572 §7): one TLS connection to one address of
// one server, on which the RESTCONF root is discovered, bootstrapping data is fetched and progress is reported. The
// device always presents its certificate. A session is either authenticated, when the server's certificate was anchored
// before the first byte of HTTP, or provisional; a provisional server learns nothing about the device beyond its
// certificate and never gets a report, whatever the caller asks for. Servers are talked to in JSON, or in XML when they
// cannot do otherwise. Replies are bounded in size and time and decoded
// strictly, and everything a server can do wrong has a reason code.
package restconf

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/http1"
)

// Options says which server to connect to, as whom, and what to demand of it.
type Options struct {
	Host    string     // host name or IP literal without brackets: SNI (names only), Host header, name in the certificate
	Port    uint16     // never 0
	Address netip.Addr // the address of Host to connect to; no other one is used
	// Dial opens the TCP connection; nil means a plain net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Certificate is the device's identity: the leaf and all intermediates, with a crypto.Signer. It is presented to
	// every server that asks (R5.3-03). SupportedSignatureAlgorithms, when set, limits the key.
	Certificate tls.Certificate
	// MaxVersion is the highest version of TLS that the key of Certificate can sign for; 0 is the highest there is. With a
	// key that cannot sign TLS 1.3 handshakes crypto/tls would agree on TLS 1.3 nevertheless, and then fail or present no
	// certificate.
	MaxVersion uint16
	// Anchors are whom to believe about the server's certificate. Nil asks for a provisional connection, which accepts
	// any certificate and believes nothing; an empty list is not nil, and nothing satisfies it.
	Anchors  []artifacts.TrustAnchor
	Clock    artifacts.Clock
	Lenient  bool         // tolerate encoding mistakes of peers, with a warning
	Logger   *slog.Logger // nil discards
	Timeouts Timeouts
}

// Timeouts bounds every wait for a server. A zero field takes the default.
type Timeouts struct {
	Dial      time.Duration // TCP connection; default 10 s
	Handshake time.Duration // TLS handshake, including the signature by a slow TPM; default 30 s
	Header    time.Duration // from the request to the end of the reply's header; default 30 s
	Body      time.Duration // from there to the end of the reply's body; default 2 min
	Report    time.Duration // a whole progress report, including a reconnection; default 30 s (R7-19)
}

func (t Timeouts) withDefaults() Timeouts {
	orElse := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	orElse(&t.Dial, 10*time.Second)
	orElse(&t.Handshake, 30*time.Second)
	orElse(&t.Header, 30*time.Second)
	orElse(&t.Body, 2*time.Minute)
	orElse(&t.Report, 30*time.Second)
	return t
}

// Session is a conversation with one address of one bootstrap server. It holds one connection at a time; when the server
// closes it, the next request opens another one to the same address, resuming the TLS session where the server allows,
// so that the device's key is asked for one signature per server. It is safe for concurrent use; requests wait for each
// other.
type Session struct {
	options  Options
	log      *slog.Logger
	origin   url.URL
	turn     chan struct{} // holds one token, which an exchange takes
	http     *http1.Conn   // of whose turn it is; used says that it has had an exchange
	used     bool
	sessions tls.ClientSessionCache

	mu       sync.Mutex
	live     *conn // the newest connection
	evidence *artifacts.ServerEvidence
	root     *url.URL // of the RESTCONF API, once discovered
	encoding encoding // of requests
	settled  bool     // the server was asked in both encodings, or answered in XML
}

// maxHeader bounds the header of a reply, in bytes.
const maxHeader = 64 << 10

// Connect opens the TLS connection. With anchors the server is authenticated during the handshake: when that fails the
// error is the *artifacts.Error that says why, and no HTTP was sent (R5.5-05). Other errors are *Error, or wrap ctx's.
func Connect(ctx context.Context, o Options) (*Session, error) {
	origin, err := originOf(o.Host, o.Port)
	if err != nil {
		return nil, err
	}
	if len(o.Certificate.Certificate) == 0 || o.Certificate.PrivateKey == nil {
		return nil, fail(CodeSignatureFailed, "there is no device certificate to present to bootstrap servers",
			"provision the device's identity", nil)
	}
	o.Timeouts = o.Timeouts.withDefaults()
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Session{
		options:  o,
		log:      o.Logger.With("server", origin.Host, "address", o.Address.String()),
		origin:   origin,
		sessions: tls.NewLRUClientSessionCache(1),
		encoding: inJSON,
		turn:     make(chan struct{}, 1),
	}
	s.turn <- struct{}{}
	if err := s.connect(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// Evidence returns the proof that the server was authenticated, or nil on a provisional session.
func (s *Session) Evidence() *artifacts.ServerEvidence {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.evidence
}

// PeerCertificates returns the certificates the server presented on its newest connection, leaf first. On a provisional
// session nothing was checked about them.
func (s *Session) PeerCertificates() []*x509.Certificate {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.live.ConnectionState().PeerCertificates
}

// Close closes the connection. The session must not be used afterwards.
func (s *Session) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	// It may have been closed already, and nothing is lost when closing fails.
	_ = s.live.Close()
	return nil
}

// originOf builds the origin of all URLs of a session.
func originOf(host string, port uint16) (url.URL, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		host = addr.WithZone("").String() // a zone means nothing to the server
		if addr.Is6() {
			host = "[" + host + "]"
		}
	} else if !plainHostName(host) {
		return url.URL{}, fail(CodeConnectFailed, "the server's name "+strconv.Quote(printable(host, 64))+" is not a host name",
			"correct the name in the configuration or where it was discovered", nil)
	}
	if port == 0 {
		return url.URL{}, fail(CodeConnectFailed, "port 0 cannot be connected to", "give a port from 1 to 65535", nil)
	}
	if port != 443 {
		host += ":" + strconv.Itoa(int(port))
	}
	return url.URL{Scheme: "https", Host: host, Path: "/"}, nil
}

func plainHostName(host string) bool {
	return host != "" && len(host) <= 253 &&
		strings.Trim(strings.ToLower(host), "abcdefghijklmnopqrstuvwxyz0123456789-._") == ""
}
