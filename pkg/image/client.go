package image

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/xpu-sztp/ztp/pkg/reason"
)

const (
	maxRedirects = 5
	maxAddresses = 16 // of one mirror
	maxHeader    = 64 << 10
)

// newClient makes the HTTP client of one fetch.
func (f *fetch) newClient() *http.Client {
	transport := &http.Transport{
		DialContext:            f.dial,
		DialTLSContext:         f.dialTLS,
		ResponseHeaderTimeout:  f.request.Stall,
		MaxResponseHeaderBytes: maxHeader,
		DisableCompression:     true,
		MaxIdleConnsPerHost:    -1, // none: a request is repeated because the connection of the one before failed
		MaxConnsPerHost:        1,
		Protocols:              new(http.Protocols),
	}
	transport.Protocols.SetHTTP1(true)
	return &http.Client{Transport: transport, CheckRedirect: f.checkRedirect}
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
func (f *fetch) checkRedirect(next *http.Request, via []*http.Request) error {
	// Otherwise net/http reads on in the body of the redirect, for as long as a server cares to send it.
	next.Response.Body.Close()
	from := via[len(via)-1].URL
	sameOrigin := next.URL.Scheme == from.Scheme && strings.EqualFold(hostPort(next.URL), hostPort(from))
	bothTLS := next.URL.Scheme == "https" && from.Scheme == "https"
	switch {
	case len(via) > maxRedirects:
		return fail(CodeURIRefused, "the mirror redirects too often", "check the file server", nil)
	case next.URL.User != nil || !sameOrigin && !(f.request.CrossOrigin && bothTLS):
		return fail(CodeURIRefused, "the mirror redirects to another server, "+display(next.URL.Scheme+"://"+next.URL.Host),
			"name that server in the onboarding information", nil)
	}
	next.Header.Del("Referer") // the query of a URI may hold a secret
	return nil
}

func hostPort(u *url.URL) string {
	switch port := u.Port(); {
	case port != "":
		return net.JoinHostPort(u.Hostname(), port)
	case u.Scheme == "https":
		return net.JoinHostPort(u.Hostname(), "443")
	}
	return net.JoinHostPort(u.Hostname(), "80")
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
