package revocation

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"time"

	"github.com/xpu-sztp/ztp/artifacts/cms"
	"github.com/xpu-sztp/ztp/pkg/http1"
)

const (
	dialTime = 5 * time.Second // for one address
	sequence = 0x30            // what lists and responses begin with
)

// client speaks HTTP over the network of a request, with a connection for each exchange.
type client struct {
	to     Network
	refuse func(netip.Addr) bool
}

func newClient(r Request) *client { return &client{to: r.Network, refuse: r.Refuse} }

// exchange returns what one URL answers: DER of up to limit bytes.
func (c *client) exchange(ctx context.Context, target string, body []byte, limit int) ([]byte, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, errors.New("not a URL")
	}
	if err := followable(u); err != nil {
		return nil, err
	}
	send := func(r *http1.Request) (*http1.Response, error) { return c.send(ctx, r) }
	resp, err := http1.Follow(newRequest(u, body), send, checkRedirect)
	if err != nil {
		return nil, quoted{err}
	}
	defer resp.Body.Close()
	if resp.Status != 200 {
		return nil, fmt.Errorf("the server answered with HTTP %d", resp.Status)
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, int64(limit)+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("the answer broke off: %w", err)
	case len(answer) > limit:
		return nil, fmt.Errorf("the answer has more than the %d bytes that are read", limit)
	case len(answer) == 0 || answer[0] != sequence:
		return nil, errors.New("the answer is not in DER")
	}
	return answer, nil
}

// quoted is an error of an exchange, which may quote as much of an answer as there is of its header.
type quoted struct{ error }

func (q quoted) Error() string { return cms.Printable(q.error.Error()) }
func (q quoted) Unwrap() error { return q.error }

// newRequest makes a POST of an OCSP request or, without a body, a GET. It says nothing of the device.
func newRequest(u *url.URL, body []byte) *http1.Request {
	r := &http1.Request{Method: "GET", URL: u, Body: body, Close: true, Header: http1.Header{"Accept-Encoding": {"identity"}}}
	if body != nil {
		r.Method = "POST"
		r.Header.Set("Content-Type", "application/ocsp-request")
		r.Header.Set("Accept", "application/ocsp-response")
	}
	return r
}

// send makes one exchange. Evidence is signed and judged by itself: who keeps it vouches for nothing, and plain HTTP is the
// custom.
func (c *client) send(ctx context.Context, r *http1.Request) (*http1.Response, error) {
	conn, err := c.dial(ctx, "tcp", http1.HostPort(r.URL))
	if err != nil {
		return nil, err
	}
	if r.URL.Scheme == "https" {
		secured := tls.Client(conn, &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true, ServerName: r.URL.Hostname()})
		if err := secured.HandshakeContext(ctx); err != nil {
			conn.Close()
			return nil, err
		}
		conn = secured
	}
	return http1.NewConn(conn, http1.Limits{Header: maxHeader}).RoundTrip(ctx, r)
}

func followable(u *url.URL) error {
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		return errors.New("only http and https are followed, without credentials")
	}
	return nil
}

func checkRedirect(next *url.URL, before []*url.URL) error {
	if len(before) > maxRedirects {
		return errors.New("redirected too often")
	}
	return followable(next)
}

// dial connects to the first address of a host that accepts.
func (c *client) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	addresses, err := c.lookup(ctx, host)
	if err != nil {
		return nil, err
	}
	var failures []error
	for _, a := range addresses[:min(len(addresses), maxAddresses)] {
		limited, cancel := context.WithTimeout(ctx, dialTime)
		conn, err := c.to.DialContext(limited, network, net.JoinHostPort(a.String(), port))
		cancel()
		if err == nil {
			return conn, nil
		}
		failures = append(failures, err)
	}
	return nil, errors.Join(failures...)
}

// lookup returns the addresses of host that may be connected to; there is at least one.
func (c *client) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	addresses := make([]netip.Addr, 1)
	var err error
	if addresses[0], err = netip.ParseAddr(host); err != nil {
		if addresses, err = c.to.LookupNetIP(ctx, "ip", host); err != nil {
			return nil, fmt.Errorf("its name cannot be resolved: %w", err)
		}
	}
	if c.refuse != nil {
		addresses = slices.DeleteFunc(addresses, c.refuse)
	}
	if len(addresses) == 0 {
		return nil, errors.New("its name has no address that may be asked")
	}
	return addresses, nil
}
