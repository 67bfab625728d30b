// Package revocation fetches revocation status from where certificates say it is: OCSP responses by HTTP POST (RFC 6960
// appendix A), certificate revocation lists by GET (RFC 5280 §4.2.1.13). It reaches the network by way of the lead that the
// certificates came with. Nothing it returns is believed: answers are signed, and package artifacts judges them, which is
// why servers are not authenticated. Sizes, times and counts are bounded, and nothing is kept for later.
package revocation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/artifacts/cms"
	"github.com/xpu-sztp/ztp/artifacts/revinfo"
)

// Limits of one Fetch.
const (
	maxTotal     = 16 << 20 // bytes of all answers
	maxAttempts  = 16       // URLs that are asked
	maxRedirects = 5
	maxAddresses = 8 // of one host
	maxHeader    = 64 << 10
)

// Network reaches the servers; every source.Network is one.
type Network interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// Request says what to fetch and how to get there.
type Request struct {
	Wanted  []artifacts.StatusRequest
	Network Network
	// Refuse tells which addresses are not connected to, whoever names them; nil refuses none.
	Refuse func(netip.Addr) bool
}

// Attempt is one URL that was asked.
type Attempt struct {
	Subject string // of the certificate whose status was wanted
	URL     string // fit for people
	OCSP    bool   // or else a revocation list
	Bytes   int
	Err     error // why there is no answer; nil when there is one
}

// Fetcher fetches revocation status. The zero value works.
type Fetcher struct {
	Timeout time.Duration // for one URL, with its redirects; default 20 s
	Total   time.Duration // for one Fetch; default 2 min
	Logger  *slog.Logger  // nil discards
}

var errSlow = errors.New("no whole answer in time")

// Fetch asks, for each certificate that is wanted, its OCSP responders in turn until one answers, or if it has none, the
// places of its issuer's revocation list. It returns every answer and what became of every attempt.
func (f *Fetcher) Fetch(ctx context.Context, r Request) (answers artifacts.Status, attempts []Attempt) {
	ctx, cancel := context.WithTimeoutCause(ctx, or(f.Total, 2*time.Minute), errSlow)
	defer cancel()
	c := newClient(r)
	total := 0
	lists := map[string]bool{} // that were asked for, with whether they came
	for _, wanted := range r.Wanted {
		ocsp := len(wanted.OCSPURLs) > 0
		urls := wanted.CRLURLs
		if ocsp {
			urls = wanted.OCSPURLs
		}
		for _, url := range urls {
			came, asked := lists[url]
			if came && !ocsp {
				break
			}
			if asked && !ocsp || ctx.Err() != nil || len(attempts) == maxAttempts {
				continue
			}
			limit, body := revinfo.MaxListBytes, []byte(nil)
			if ocsp {
				limit, body = revinfo.MaxResponseBytes, wanted.OCSPRequest
			}
			answer, err := f.ask(ctx, c, url, body, min(limit, maxTotal-total))
			total += len(answer)
			attempts = append(attempts, Attempt{wanted.Subject, cms.Printable(url), ocsp, len(answer), err})
			f.log(ctx, &attempts[len(attempts)-1])
			if !ocsp {
				lists[url] = err == nil
			}
			if err != nil {
				continue
			}
			if ocsp {
				answers.OCSPResponses = append(answers.OCSPResponses, answer)
			} else {
				answers.CRLs = append(answers.CRLs, answer)
			}
			break
		}
	}
	return answers, attempts
}

// ask makes one request: POST with a body, GET without.
func (f *Fetcher) ask(ctx context.Context, c *client, url string, body []byte, limit int) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, or(f.Timeout, 20*time.Second), errSlow)
	defer cancel()
	answer, err := c.exchange(ctx, url, body, limit)
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return answer, err
}

// String describes the attempt for people.
func (a *Attempt) String() string {
	kind := "revocation list"
	if a.OCSP {
		kind = "OCSP response"
	}
	text := fmt.Sprintf("%s for %s from %s", kind, a.Subject, a.URL)
	if a.Err != nil {
		return text + ": " + a.Err.Error()
	}
	return fmt.Sprintf("%s, %d bytes", text, a.Bytes)
}

func (f *Fetcher) log(ctx context.Context, a *Attempt) {
	switch {
	case f.Logger == nil:
	case a.Err != nil:
		f.Logger.WarnContext(ctx, "cannot fetch revocation status", "url", a.URL, "subject", a.Subject, "error", a.Err)
	default:
		f.Logger.InfoContext(ctx, "fetched revocation status", "url", a.URL, "subject", a.Subject, "bytes", a.Bytes)
	}
}

func or(d, otherwise time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return otherwise
}
