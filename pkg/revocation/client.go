package revocation

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"time"

	"github.com/xpu-sztp/ztp/artifacts/cms"
)

const (
	dialTime = 5 * time.Second // for one address
	sequence = 0x30            // what lists and responses begin with
)

// client speaks HTTP over the network of a request.
type client struct {
	http   *http.Client
	to     Network
	refuse func(netip.Addr) bool
}

func newClient(r Request) *client {
	c := &client{to: r.Network, refuse: r.Refuse}
	transport := &http.Transport{
		DialContext: c.dial,
		// Evidence is signed and judged by itself: who keeps it vouches for nothing, and plain HTTP is the custom.
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true},
		MaxResponseHeaderBytes: maxHeader,
		DisableCompression:     true,
		DisableKeepAlives:      true,
		Protocols:              new(http.Protocols),
	}
	transport.Protocols.SetHTTP1(true)
	c.http = &http.Client{Transport: transport, CheckRedirect: checkRedirect}
	return c
}

// exchange returns what one URL answers: DER of up to limit bytes.
func (c *client) exchange(ctx context.Context, target string, body []byte, limit int) ([]byte, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, errors.New("not a URL")
	}
	if err := followable(u); err != nil {
		return nil, err
	}
	resp, err := c.http.Do(newRequest(ctx, u, body))
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = quoted{wrapped.Err} // without the URL, which the attempt has
		}
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the server answered with HTTP %d", resp.StatusCode)
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

// quoted is an error of net/http, which may quote as much of an answer as there is of its header.
type quoted struct{ error }

func (q quoted) Error() string { return cms.Printable(q.error.Error()) }
func (q quoted) Unwrap() error { return q.error }

// newRequest makes a POST of an OCSP request or, without a body, a GET. It says nothing of the device.
func newRequest(ctx context.Context, u *url.URL, body []byte) *http.Request {
	r := (&http.Request{Method: http.MethodGet, URL: u, Header: http.Header{
		"Accept-Encoding": {"identity"},
		"User-Agent":      nil,
	}}).WithContext(ctx)
	if body != nil {
		r.Method = http.MethodPost
		r.Header.Set("Content-Type", "application/ocsp-request")
		r.Header.Set("Accept", "application/ocsp-response")
		r.ContentLength = int64(len(body))
		r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
		r.Body, _ = r.GetBody()
	}
	return r
}

func followable(u *url.URL) error {
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		return errors.New("only http and https are followed, without credentials")
	}
	return nil
}

func checkRedirect(next *http.Request, via []*http.Request) error {
	// Otherwise net/http reads on in the body of the redirect, for as long as a server cares to send it.
	next.Response.Body.Close()
	if len(via) > maxRedirects {
		return errors.New("redirected too often")
	}
	next.Header.Del("Referer")
	return followable(next.URL)
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
