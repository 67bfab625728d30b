package restconf

import (
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/http1"
	"github.com/xpu-sztp/ztp/pkg/reason"
)

// conn remembers the alert with which the server ended the connection. In TLS 1.3 a server refuses the device's
// certificate after the client's handshake is done, when a request may be under way already.
type conn struct {
	*tls.Conn
	mu    sync.Mutex
	alert error
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if isRemoteAlert(err) {
		c.mu.Lock()
		c.alert = err
		c.mu.Unlock()
	}
	return n, err
}

func (c *conn) remoteAlert() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.alert
}

// send sends r on the connection that there is. When that cannot be used any more, or the server turns out to have closed it
// since the exchange before, it is sent on a new one: both RPCs may be repeated, since one only reads, and a report that arrives
// twice says the same twice.
func (s *Session) send(ctx context.Context, r *http1.Request) (*http1.Response, error) {
	if s.http.Reusable() {
		resp, err := s.http.RoundTrip(ctx, r)
		if !s.used || !errors.Is(err, http1.ErrNoReply) {
			s.used = true
			return resp, err
		}
	}
	s.log.DebugContext(ctx, "the server closed the connection; opening another one")
	if err := s.connect(ctx); err != nil {
		return nil, err
	}
	s.used = true
	return s.http.RoundTrip(ctx, r)
}

// connect opens a TLS connection. On an authenticated session every connection has to authenticate by itself, before any
// HTTP is sent on it; the session keeps the evidence of the newest one.
func (s *Session) connect(ctx context.Context) error {
	tcp, err := s.dial(ctx)
	if err != nil {
		return err
	}
	var evidence *artifacts.ServerEvidence
	limited, cancel := context.WithTimeout(ctx, s.options.Timeouts.Handshake)
	defer cancel()
	signer := &watchedSigner{ctx: limited}
	c := &conn{Conn: tls.Client(tcp, s.tlsConfig(signer, &evidence))}
	err = c.HandshakeContext(limited)

	if err != nil {
		_ = tcp.Close()
		return s.explainHandshake(ctx, limited, signer, err)
	}
	s.http, s.used = http1.NewConn(c, http1.Limits{Header: maxHeader, Wait: s.options.Timeouts.Header}), false
	s.mu.Lock()
	defer s.mu.Unlock()
	s.evidence, s.live = evidence, c
	return nil
}

func (s *Session) dial(ctx context.Context) (net.Conn, error) {
	limited, cancel := context.WithTimeout(ctx, s.options.Timeouts.Dial)
	defer cancel()
	address := netip.AddrPortFrom(s.options.Address, s.options.Port).String()
	tcp, err := s.options.Dial(limited, "tcp", address)
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err // without the address, which the message has
	}
	switch {
	case err == nil:
		return tcp, nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("connecting to %s: %w", address, context.Cause(ctx))
	case limited.Err() != nil:
		return nil, fail(CodeConnectFailed, fmt.Sprintf("%s did not answer within %v", address, s.options.Timeouts.Dial),
			"check routing and firewalls between the device and the server", err)
	}
	fix := "check that the server runs and listens on that port"
	if errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.EHOSTUNREACH) {
		fix = "check that the server is up, that the default gateway is right and answers, and the routes between them"
	}
	return nil, fail(CodeConnectFailed, "no connection to "+address, fix, err)
}

// tlsConfig makes the configuration of one connection. Go's own verification is replaced by VerifyConnection, which,
// unlike VerifyPeerCertificate, also runs when a session is resumed.
func (s *Session) tlsConfig(signer *watchedSigner, evidence **artifacts.ServerEvidence) *tls.Config {
	certificate := s.options.Certificate
	if key, ok := certificate.PrivateKey.(crypto.Signer); ok {
		signer.Signer = key
		certificate.PrivateKey = signer
	}
	config := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		MaxVersion:         s.options.MaxVersion,
		ServerName:         s.options.Host, // crypto/tls leaves IP literals out of the SNI
		InsecureSkipVerify: true,
		ClientSessionCache: s.sessions,
		// Certificates would be filtered by the authorities that the server names; the device has only this one.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &certificate, nil },
	}
	if s.options.Anchors != nil {
		config.VerifyConnection = func(state tls.ConnectionState) error {
			var err error
			*evidence, err = artifacts.AuthenticateServer(state.PeerCertificates, s.options.Host, s.options.Anchors, s.options.Clock)
			return err
		}
	}
	return config
}

// watchedSigner remembers that the key failed, which crypto/tls reports as a plain text, and does not wait for a key that
// is silent longer than ctx: a crypto.Signer cannot be told to stop.
type watchedSigner struct {
	crypto.Signer
	ctx context.Context
	err error
}

func (w *watchedSigner) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	var signature []byte
	signed := make(chan error, 1)
	go func() {
		var err error
		signature, err = w.Signer.Sign(rand, digest, opts)
		signed <- err
	}()
	select {
	case w.err = <-signed:
		return signature, w.err
	case <-w.ctx.Done():
		w.err = fail(CodeSignatureFailed, "no signature in time",
			"see whether another program holds the TPM; a TPM that stays silent needs a power cycle", nil)
		return nil, w.err
	}
}

func (s *Session) explainHandshake(ctx, limited context.Context, signer *watchedSigner, err error) error {
	var refused *artifacts.Error
	var notTLS tls.RecordHeaderError
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("TLS handshake with %s: %w", s.origin.Host, context.Cause(ctx))
	case errors.As(err, &refused):
		return refused
	case signer.err != nil:
		code, hint := reason.Of(signer.err)
		if code == reason.Internal {
			code = CodeSignatureFailed
		}
		return fail(code, "the device's key could not sign the TLS handshake", hint, signer.err)
	case limited.Err() != nil:
		return fail(CodeTLSFailure, fmt.Sprintf("the server did not finish the TLS handshake within %v", s.options.Timeouts.Handshake),
			"check that the port is that of a bootstrap server", nil)
	case errors.As(err, &notTLS):
		return fail(CodeTLSFailure, "the server does not speak TLS on this port", "bootstrap servers speak HTTPS; check the port", err)
	case isRemoteAlert(err):
		return explainAlert(err)
	case errors.Is(err, io.EOF) || isReset(err):
		return fail(CodeTLSFailure, "the server closed the connection during the TLS handshake",
			"look at the server's log; it may not accept the device's certificate", err)
	}
	return fail(CodeTLSFailure, "the TLS handshake failed", "check the server's TLS versions, algorithms and certificate", err)
}
