package artifacts

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/xpu-sztp/ztp/artifacts/cms"
	"github.com/xpu-sztp/ztp/artifacts/revinfo"
)

// undatedAge is for how long an OCSP response without nextUpdate counts: it means that there is always a newer one
// (RFC 6960 §4.2.2.1), and whoever relays it must not be able to keep it.
const undatedAge = time.Hour

// What is looked at for one certificate. Who relays the artifacts may add evidence without end, and every signature takes
// milliseconds to find wrong; they could as well leave evidence out. What was fetched is looked at first.
const (
	maxIssuers  = 2
	maxVerified = 8 // lists that cover it, and OCSP responses about it
)

// revocation checks the paths of the owner certificate by the voucher's rule: always demands a good and fresh status of
// every certificate on a path, never looks at nothing, and without a rule what is listed is refused and nothing is asked
// for. The evidence is what came inside of the artifacts and what the caller fetched; neither is believed more than the
// other. The pinned certificate's own status counts too, unless it is self-signed, in which case none can exist. Where
// status is missing that could be fetched, the error wraps a StatusNeeded.
func (v *validation) revocation(rule revocationRule, paths [][]*x509.Certificate, fetched Status, carriers []*cms.SignedData) (string, error) {
	if rule == revocationNever {
		return "not checked: the voucher forbids it", nil
	}
	if rule == revocationAlways && !v.policy.Clock.Accurate() && !v.policy.UncheckedRevocation {
		return "", refuse(CodeRevocationUnknown,
			"the voucher demands a revocation check, which is not possible without an accurate clock",
			"give the device an accurate clock, or get a voucher without domain-cert-revocation-checks", nil)
	}
	e := evidence{clock: v.policy.Clock}
	e.parse(fetched)
	for _, c := range carriers {
		e.certificates = append(e.certificates, c.Certificates...)
		e.parse(Status{CRLs: c.CRLs, OCSPResponses: c.OCSP})
	}
	return e.checkPaths(paths, rule == revocationAlways)
}

// evidence is the revocation lists and OCSP responses at hand, not verified yet, with certificates that may have issued them.
type evidence struct {
	clock        Clock
	lists        []*revinfo.List
	responses    []*revinfo.Response
	certificates []*x509.Certificate
	unusable     string // why some of it says nothing about anybody; "" when all does
}

// parse keeps what can be read. What cannot gives no status, which is an error only where one is demanded.
func (e *evidence) parse(s Status) {
	for _, der := range s.CRLs {
		if list, err := revinfo.ParseList(der); err == nil {
			e.lists = append(e.lists, list)
		} else {
			e.unusable = "the revocation list at hand cannot be read"
		}
	}
	for _, der := range s.OCSPResponses {
		switch response, err := revinfo.ParseResponse(der); {
		case err != nil:
			e.unusable = "the OCSP response at hand cannot be read"
		case response.Failure != "":
			e.unusable = "the OCSP responder answered " + response.Failure
		default:
			e.responses = append(e.responses, response)
		}
	}
}

// checkPaths returns what is known about the first path that holds, or why none does. What fetching could change comes
// before what is certain, since that path may hold after all.
func (e *evidence) checkPaths(paths [][]*x509.Certificate, demanded bool) (string, error) {
	var refusal *Error
	needed := new(StatusNeeded)
	for _, path := range paths {
		known, unknown, revoked := e.checkPath(path)
		switch {
		case revoked == nil && demanded && len(unknown) > 0:
			asked := len(needed.Requests) > 0
			if can := needed.add(unknown); refusal == nil || can && !asked {
				refusal = unknown[0].refuse(can)
			}
		case revoked != nil && len(needed.Requests) == 0:
			refusal = revoked
		case revoked != nil:
		case len(known) == 0:
			return "not demanded, or nothing that could be revoked", nil
		default:
			return fmt.Sprintf("%s not revoked: %s", plural(len(known), "certificate"), strings.Join(known, "; ")), nil
		}
	}
	if len(needed.Requests) > 0 {
		refusal.Err = needed
	}
	return "", refusal
}

// checkPath looks up every certificate of a path that somebody could revoke.
func (e *evidence) checkPath(path []*x509.Certificate) (known []string, unknown []missingStatus, _ *Error) {
	for i, c := range path {
		if selfSigned(c) {
			continue
		}
		var issuers []*x509.Certificate
		if i+1 < len(path) {
			issuers = path[i+1 : i+2]
		} else {
			issuers = e.issuers(c)
		}
		good, why, refusal := e.check(c, issuers)
		switch {
		case refusal != nil:
			return nil, nil, refusal
		case good != "":
			known = append(known, subject(c)+" by the "+good)
		default:
			unknown = append(unknown, missingStatus{c, issuers, why})
		}
	}
	return known, unknown, nil
}

// issuers returns certificates at hand of c's issuer. Anybody can make more of them with the same name and key, so a few do.
func (e *evidence) issuers(c *x509.Certificate) (found []*x509.Certificate) {
	for _, p := range e.certificates {
		if issued(p, c) && weakKey([]*x509.Certificate{p}) == nil {
			if found = append(found, p); len(found) == maxIssuers {
				break
			}
		}
	}
	return found
}

// finding is what one list or response says about a certificate.
type finding struct {
	source    string // such as "OCSP response of" and a time
	revokedAt time.Time
	revoked   bool
	why       string // why it is no good status, "" when it is one
}

// check looks c up in everything that one of its issuers, which are believed, vouches for. Revoked anywhere is revoked, old
// evidence included. good is the evidence for a good and fresh status, or else why says why there is none.
func (e *evidence) check(c *x509.Certificate, issuers []*x509.Certificate) (good, why string, _ *Error) {
	why = "no revocation list or OCSP response about it came along"
	if e.unusable != "" {
		why = e.unusable
	}
	if len(issuers) == 0 {
		why = "the certificate of its issuer did not come along"
	}
	for _, f := range append(e.inLists(c, issuers), e.inResponses(c, issuers)...) {
		switch {
		case f.revoked:
			return "", "", refuse(CodeOwnerRevoked,
				fmt.Sprintf("the certificate of %s was revoked on %s, says the %s", subject(c), stamp(f.revokedAt), f.source),
				"issue a new certificate, and sign with it or with what it issues", nil)
		case f.why != "":
			why = f.why
		default:
			good = f.source
		}
	}
	return good, why, nil
}

func (e *evidence) inLists(c *x509.Certificate, issuers []*x509.Certificate) (found []finding) {
	verified := 0
	for _, list := range e.lists {
		if !bytes.Equal(list.Issuer, c.RawIssuer) {
			continue
		}
		f := finding{source: "revocation list of " + stamp(list.ThisUpdate)}
		if !list.Covers(c) {
			f.why = "the revocation list at hand leaves out some certificates or reasons"
		} else if verified++; verified > maxVerified {
			f.why = "there are more revocation lists of its issuer at hand than are looked at"
		} else if err := signedByOne(list, issuers); err != nil {
			f.why = "the revocation list at hand does not count: " + err.Error()
		} else if f.revokedAt, f.revoked = list.Revoked(c.SerialNumber); !f.revoked {
			f.why = e.stale("revocation list", list.ThisUpdate, list.NextUpdate)
		}
		found = append(found, f)
	}
	return found
}

// signedByOne returns nil if one of issuers signed list, or else why the last of them did not.
func signedByOne(list *revinfo.List, issuers []*x509.Certificate) error {
	err := revinfo.ErrNotAuthorized
	for _, p := range issuers {
		if err = list.SignedBy(p); err == nil {
			return nil
		}
	}
	return err
}

func (e *evidence) inResponses(c *x509.Certificate, issuers []*x509.Certificate) (found []finding) {
	verified := 0
	for _, response := range e.responses {
		for _, issuer := range issuers {
			about := slices.DeleteFunc(slices.Clone(response.Answers), func(a revinfo.Answer) bool { return !a.About(c, issuer) })
			if len(about) == 0 {
				continue
			}
			if verified++; verified > maxVerified {
				return append(found, finding{why: "there are more OCSP responses about it at hand than are looked at"})
			}
			if why := e.unfitResponse(response, c, issuer); why != "" {
				found = append(found, finding{why: why})
				continue
			}
			for i := range about {
				found = append(found, e.answer(&about[i]))
			}
		}
	}
	return found
}

// unfitResponse returns why a response about c does not count, whatever it says, or "".
func (e *evidence) unfitResponse(r *revinfo.Response, c, issuer *x509.Certificate) string {
	responder, err := r.Responder(issuer)
	switch {
	case err != nil:
		return "the OCSP response at hand does not count: " + err.Error()
	case responder.Equal(issuer):
		return ""
	}
	return e.unfitResponder(responder, c, issuer)
}

// answer judges what a response that counts says.
func (e *evidence) answer(a *revinfo.Answer) finding {
	f := finding{source: "OCSP response of " + stamp(a.ThisUpdate), revoked: a.Status == revinfo.Revoked, revokedAt: a.RevokedAt}
	switch {
	case f.revoked:
	case a.Status == revinfo.Unknown:
		f.why = "the OCSP responder does not know it"
	default:
		until := a.NextUpdate
		if until.IsZero() {
			until = a.ThisUpdate.Add(undatedAge)
		}
		f.why = e.stale("OCSP response", a.ThisUpdate, until)
	}
	return f
}

// unfitResponder returns why a certificate that issuer gave to an OCSP responder does not count now. Its own status is not demanded:
// such certificates are short-lived, and the next one's status would have to come from somewhere too (RFC 6960 §4.2.2.2.1).
// But one that a list names as revoked does not count.
func (e *evidence) unfitResponder(responder, c, issuer *x509.Certificate) string {
	now := e.clock.Now
	switch {
	case bytes.Equal(responder.RawSubjectPublicKeyInfo, c.RawSubjectPublicKeyInfo): // not Equal: anybody can respell an ECDSA signature
		return "the OCSP response at hand was signed with the key of the very certificate that it is about"
	case e.clock.Accurate() && (now.Before(responder.NotBefore) || now.After(responder.NotAfter)):
		return fmt.Sprintf("the certificate of OCSP responder %s is valid from %s to %s, the clock says %s",
			subject(responder), stamp(responder.NotBefore), stamp(responder.NotAfter), stamp(now))
	}
	for _, f := range e.inLists(responder, []*x509.Certificate{issuer}) {
		if f.revoked {
			return fmt.Sprintf("the certificate of OCSP responder %s was revoked", subject(responder))
		}
	}
	return ""
}

// statusSkew is how far the clock may be behind that of who made the evidence: a responder signs its answer when it is asked,
// and no two clocks agree. Evidence ends on time.
const statusSkew = 5 * time.Minute

// stale returns why evidence says nothing about now, or "". Without an accurate clock nothing is stale.
func (e *evidence) stale(what string, from, to time.Time) string {
	now := e.clock.Now
	switch {
	case !e.clock.Accurate():
		return ""
	case to.IsZero():
		return "the " + what + " at hand has no end of validity"
	case from.After(now.Add(statusSkew)) || now.After(to):
		return fmt.Sprintf("the %s at hand is valid from %s to %s, the clock says %s", what, stamp(from), stamp(to), stamp(now))
	}
	return ""
}

// missingStatus is a certificate without good status.
type missingStatus struct {
	certificate *x509.Certificate
	issuers     []*x509.Certificate // that are at hand
	why         string
}

// refuse makes the refusal of a path; fetchable tells that all that is missing on it could be fetched.
func (m *missingStatus) refuse(fetchable bool) *Error {
	fix := "put fresh revocation lists or OCSP responses for all certificates, and the certificates of their issuers, " +
		"into the owner certificate artifact"
	if fetchable {
		fix = "let the device reach these addresses, or put fresh revocation lists or OCSP responses for all certificates " +
			"into the owner certificate artifact"
	}
	return refuse(CodeRevocationUnknown,
		fmt.Sprintf("the voucher demands the revocation status of %s: %s", subject(m.certificate), m.why), fix, nil)
}
