package artifacts

import (
	"bytes"
	"net/url"
	"slices"
	"strings"

	"github.com/xpu-sztp/ztp/artifacts/cms"
	"github.com/xpu-sztp/ztp/artifacts/revinfo"
)

// Limits of what is asked for.
const (
	maxStatusRequests = 8    // certificates
	maxStatusURLs     = 3    // of one kind for one certificate
	maxStatusURLBytes = 1024 // of one
)

// Status is revocation status that the caller of Validate fetched, nothing verified.
type Status struct {
	CRLs          [][]byte // DER of certificate lists (RFC 5280 §5)
	OCSPResponses [][]byte // DER of OCSPResponse (RFC 6960 §4.2.1)
}

// StatusNeeded is wrapped by an Error of CodeRevocationUnknown when everything up to the owner certificate's path holds, the
// voucher demands its revocation status, and what is missing may be fetched from where the certificates say. A caller that
// can fetch puts the answers into Bundle.Status and has Validate judge anew.
type StatusNeeded struct {
	Requests []StatusRequest // one for each certificate, at least one
}

// StatusRequest is one certificate whose status is missing. It names at least one place, with http or https and a host.
type StatusRequest struct {
	Subject     string   // for people
	OCSPURLs    []string // where OCSPRequest may be posted (RFC 6960 appendix A)
	OCSPRequest []byte   // DER
	CRLURLs     []string // of its issuer's revocation list
}

// Error names the places.
func (e *StatusNeeded) Error() string {
	var places []string
	for _, r := range e.Requests {
		for _, u := range slices.Concat(r.OCSPURLs, r.CRLURLs) {
			if u = cms.Printable(u); !slices.Contains(places, u) {
				places = append(places, u)
			}
		}
	}
	if more := len(places) - 2*maxStatusURLs; more > 0 {
		places = append(places[:2*maxStatusURLs], "and "+plural(more, "more place"))
	}
	return "it can be had from " + strings.Join(places, ", ")
}

// add asks for all of missing and returns true; or for none of it, when something in it could not be answered and the rest
// would be of no use.
func (e *StatusNeeded) add(missing []missingStatus) bool {
	requests := e.Requests
	for i := range missing {
		m := &missing[i]
		r := StatusRequest{
			Subject:  subject(m.certificate),
			OCSPURLs: fetchable(m.certificate.OCSPServer),
			CRLURLs:  fetchable(m.certificate.CRLDistributionPoints),
		}
		if len(m.issuers) == 0 || len(r.OCSPURLs)+len(r.CRLURLs) == 0 {
			return false
		}
		if len(r.OCSPURLs) > 0 {
			r.OCSPRequest = revinfo.Request(m.certificate, m.issuers[0])
		}
		same := func(other StatusRequest) bool { // paths share certificates
			return bytes.Equal(r.OCSPRequest, other.OCSPRequest) && r.Subject == other.Subject && slices.Equal(r.CRLURLs, other.CRLURLs)
		}
		if !slices.ContainsFunc(requests, same) {
			requests = append(requests, r)
		}
	}
	if len(requests) > maxStatusRequests {
		return false
	}
	e.Requests = requests
	return true
}

// fetchable keeps the first URLs that can be fetched over the web; others are of no use to a device.
func fetchable(uris []string) (urls []string) {
	for _, text := range uris {
		u, err := url.Parse(text)
		if err != nil || len(text) > maxStatusURLBytes || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
			continue
		}
		if urls = append(urls, text); len(urls) == maxStatusURLs {
			break
		}
	}
	return urls
}
