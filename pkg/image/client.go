package image

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"strings"

	"github.com/xpu-sztp/ztp/pkg/http1"
	"github.com/xpu-sztp/ztp/pkg/reason"
)

const (
	maxRedirects = 5
	maxAddresses = 16 // of one mirror
	maxHeader    = 64 << 10
)

// get asks for what is at u, with fields added to the header, and follows redirects as far as the origin that the onboarding
// information named. Each request has a connection of its own: it is repeated because the one before failed.
func (f *fetch) get(ctx context.Context, u *url.URL, fields http1.Header) (*http1.Response, error) {
	r := &http1.Request{Method: "GET", URL: u, Close: true, Header: http1.Header{"Accept-Encoding": {"identity"}}}
	maps.Copy(r.Header, fields)
	return http1.Follow(r, func(r *http1.Request) (*http1.Response, error) { return f.exchange(ctx, r) }, f.checkRedirect)
}

func (f *fetch) exchange(ctx context.Context, r *http1.Request) (*http1.Response, error) {
	dial := f.dial
	if r.URL.Scheme == "https" {
		dial = f.dialTLS
	}
	conn, err := dial(ctx, "tcp", http1.HostPort(r.URL))
	if err != nil {
		return nil, err
	}
	f.progress.Server = conn.RemoteAddr().String()
	return http1.NewConn(conn, http1.Limits{Header: maxHeader, Wait: f.request.Stall}).RoundTrip(ctx, r)
}

// dialTLS connects to a mirror by TLS. Without Request.Authenticate servers are not authenticated (RFC 8572 §5.6): https then
// keeps the transfer private, the digest alone decides about the bytes.
func (f *fetch) dialTLS(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	conn, err := f.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	secured := tls.Client(conn, &tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: host, InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error { return f.authenticate(state.PeerCertificates, host) },
	})
	limited, cancel := context.WithTimeout(ctx, f.request.Stall)
	defer cancel()
	err = secured.HandshakeContext(limited)
	var known *reason.Error
	switch {
	case err == nil:
		return secured, nil
	case limited.Err() == nil && !errors.As(err, &known):
		err = fail(CodeTLS, "there is no TLS connection to the mirror",
			"check that the file server speaks TLS 1.2 or later at this port", err)
	}
	conn.Close()
	return nil, err
}

func (f *fetch) authenticate(chain []*x509.Certificate, host string) error {
	if f.request.Authenticate == nil {
		return nil
	}
	if err := f.request.Authenticate(chain, host); err != nil {
		_, hint := reason.Of(err)
		return fail(CodeTLS, "the mirror is not who it should be", hint, err)
	}
	return nil
}

// checkRedirect keeps redirects on the origin that the onboarding information named.
func (f *fetch) checkRedirect(next *url.URL, before []*url.URL) error {
	from := before[len(before)-1]
	sameOrigin := next.Scheme == from.Scheme && strings.EqualFold(http1.HostPort(next), http1.HostPort(from))
	bothTLS := next.Scheme == "https" && from.Scheme == "https"
	switch {
	case len(before) > maxRedirects:
		return fail(CodeURIRefused, "the mirror redirects too often", "check the file server", nil)
	case next.User != nil || !sameOrigin && !(f.request.CrossOrigin && bothTLS):
		return fail(CodeURIRefused, "the mirror redirects to another server, "+display(next.Scheme+"://"+next.Host),
			"name that server in the onboarding information", nil)
	}
	return nil
}

// dial connects to the first address of a mirror that accepts.
func (f *fetch) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	addresses, err := f.lookup(ctx, host)
	if err != nil {
		return nil, fail(CodeUnreachable, fmt.Sprintf("the mirror's name %.64q has no address", host),
			"check the name and the name servers the device was given", err)
	}
	var failures []error
	for _, a := range addresses[:min(len(addresses), maxAddresses)] {
		limited, cancel := context.WithTimeout(ctx, f.request.Dial)
		conn, err := f.request.Network.DialContext(limited, network, net.JoinHostPort(a.String(), port))
		cancel()
		if err == nil {
			return conn, nil
		}
		failures = append(failures, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, fail(CodeUnreachable, "no address of the mirror can be connected to",
		"check that the file server runs, and routing and firewalls on the way", errors.Join(failures...))
}

func (f *fetch) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	limited, cancel := context.WithTimeout(ctx, f.request.Dial)
	defer cancel()
	addresses, err := f.request.Network.LookupNetIP(limited, "ip", host)
	if err == nil && len(addresses) == 0 {
		err = errors.New("no addresses")
	}
	return addresses, err
}
