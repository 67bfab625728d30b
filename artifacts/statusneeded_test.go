package artifacts_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/artifacts/internal/opensslpki"
)

// published is an owner whose certificates say where their status is.
type published struct {
	world
	issuing, owner *opensslpki.Entity
}

const (
	ocspURL  = "http://ocsp.owner.example/"
	ownerURL = "http://crl.owner.example/issuing.crl"
	rootURL  = "https://crl.owner.example/root.crl"
)

func newPublished(w world) published {
	issuing := w.Recertify(w.ownerCA, w.ownerRoot, "/O=Owner/CN=Owner issuing CA",
		append(slices.Clone(opensslpki.Authority), "crlDistributionPoints=URI:"+rootURL)...)
	return published{w, issuing, w.ownedBy(issuing, "crlDistributionPoints=URI:"+ownerURL, "authorityInfoAccess=OCSP;URI:"+ocspURL)}
}

// ownedBy certifies the owner's key anew.
func (w world) ownedBy(issuer *opensslpki.Entity, extensions ...string) *opensslpki.Entity {
	return w.Recertify(w.owner, issuer, "/O=Owner/CN=Owner", append(slices.Clone(opensslpki.Signer), extensions...)...)
}

func (p published) signedCase() signedCase {
	return signedCase{w: p.world, voucher: object{"domain-cert-revocation-checks": true}, owners: entities{p.owner, p.issuing}, ciSigner: p.owner}
}

// needed validates c and returns what is asked for.
func needed(c signedCase) (*artifacts.StatusNeeded, error) {
	b, d, p := c.build()
	_, _, err := artifacts.Validate(b, c.server, d, p)
	var n *artifacts.StatusNeeded
	errors.As(err, &n)
	return n, err
}

// request is what OpenSSL would ask an OCSP responder.
func (w world) request(issuer, subject *opensslpki.Entity) []byte {
	return w.Run("ocsp", "-issuer", issuer.CertFile, "-cert", subject.CertFile, "-no_nonce", "-reqout", "/dev/stdout")
}

func TestStatusNeeded(t *testing.T) {
	p := newPublished(shared())
	start, end := p.now().Add(-time.Hour), p.now().Add(time.Hour)
	forOwner := artifacts.StatusRequest{Subject: "CN=Owner,O=Owner", OCSPURLs: []string{ocspURL},
		OCSPRequest: p.request(p.issuing, p.owner), CRLURLs: []string{ownerURL}}
	forIssuer := artifacts.StatusRequest{Subject: "CN=Owner issuing CA,O=Owner", CRLURLs: []string{rootURL}}
	stale := p.CRL(p.ownerCA, start, p.now().Add(-time.Second))
	goodRoot, goodOwner := p.CRL(p.ownerRoot, start, end), p.CRL(p.ownerCA, start, end)
	for name, test := range map[string]struct {
		crls []string
		want []artifacts.StatusRequest
	}{
		"nothing-carried":   {nil, []artifacts.StatusRequest{forOwner, forIssuer}},
		"issuer-carried":    {[]string{goodRoot}, []artifacts.StatusRequest{forOwner}},
		"owner-carried":     {[]string{goodOwner}, []artifacts.StatusRequest{forIssuer}},
		"stale-carried":     {[]string{goodRoot, stale}, []artifacts.StatusRequest{forOwner}},
		"revoked-carried":   {[]string{p.CRL(p.ownerCA, start, end, p.owner)}, nil},
		"revoked-elsewhere": {[]string{p.CRL(p.ownerRoot, start, end, p.issuing)}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			c := p.signedCase()
			c.crls = test.crls
			n, err := needed(c)
			code := artifacts.CodeRevocationUnknown
			if test.want == nil {
				code = artifacts.CodeOwnerRevoked
			}
			refused(t, err, code, artifacts.StepOwnerRevocation)
			var got []artifacts.StatusRequest
			if n != nil {
				got = n.Requests
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if n != nil && !strings.Contains(err.Error(), n.Requests[0].CRLURLs[0]) {
				t.Errorf("%q does not say where", err)
			}
		})
	}
	t.Run("answered", func(t *testing.T) {
		c := p.signedCase()
		c.bundle = func(b *artifacts.Bundle) {
			b.Status = fetched(goodRoot, p.Respond(opensslpki.OCSP{Issuer: p.issuing, Subjects: entities{p.owner}, Args: []string{"-ndays", "1"}}))
		}
		c.check(t, "", "")
	})
}

// TestStatusNeededOnlyThen has nothing to be asked for: it is not demanded, or does not matter any more.
func TestStatusNeededOnlyThen(t *testing.T) {
	p := newPublished(shared())
	for name, test := range map[string]struct {
		change func(*signedCase)
		code   artifacts.Code
	}{
		"not-demanded":   {func(c *signedCase) { c.voucher["domain-cert-revocation-checks"] = nil }, ""},
		"forbidden":      {func(c *signedCase) { c.voucher["domain-cert-revocation-checks"] = false }, ""},
		"voucher-signer": {func(c *signedCase) { c.masa = p.stray }, artifacts.CodeVoucherUntrusted},
		"voucher-serial": {func(c *signedCase) { c.voucher["serial-number"] = "AC-9" }, artifacts.CodeVoucherSerial},
		"voucher-dates":  {func(c *signedCase) { c.voucher["expires-on"] = "2001-01-01T00:00:00Z" }, artifacts.CodeVoucherExpired},
		"voucher-nonce":  {func(c *signedCase) { c.voucher["nonce"] = b64(make([]byte, 16)) }, artifacts.CodeVoucherNonce},
		"other-owner":    {func(c *signedCase) { c.voucher["pinned-domain-cert"] = b64(p.strayRoot.Certificate.Raw) }, artifacts.CodeOwnerUntrusted},
		"owner-usage": {func(c *signedCase) {
			c.owners[0] = p.Recertify(p.owner, p.issuing, "/O=Owner/CN=Owner", "keyUsage=keyEncipherment", "crlDistributionPoints=URI:"+ownerURL)
		}, artifacts.CodeOwnerKeyUsage},
		"no-clock": {func(c *signedCase) {
			c.policy = func(p *artifacts.Policy) { p.Clock.Confidence = artifacts.ClockNone }
		}, artifacts.CodeRevocationUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			c := p.signedCase()
			test.change(&c)
			n, err := needed(c)
			if n != nil || test.code == "" && err != nil {
				t.Errorf("asks for %+v, %v", n, err)
			}
			var refusal *artifacts.Error
			if errors.As(err, &refusal); test.code != "" && (refusal == nil || refusal.Code != test.code) {
				t.Errorf("%v, want %s", err, test.code)
			}
		})
	}
}

// TestStatusNeededOfNoUse has something missing that fetching would not change, so that nothing is asked for.
func TestStatusNeededOfNoUse(t *testing.T) {
	p := newPublished(shared())
	places := "crlDistributionPoints=URI:" + rootURL
	pinned := p.signedCase()
	pinned.voucher["pinned-domain-cert"] = b64(p.issuing.Certificate.Raw) // whose issuer did not come along

	half := p.signedCase()
	half.owners = entities{p.ownedBy(p.ownerCA, places), p.ownerCA} // the issuer's certificate names no place
	half.ciSigner = half.owners[0]

	long := p.signedCase()
	issuer := p.ownerRoot
	var chain entities
	for i := range 8 {
		issuer = p.Issue(issuer, fmt.Sprintf("/CN=CA %d", i), append(slices.Clone(opensslpki.Authority), places)...)
		chain = append(chain, issuer)
	}
	long.ciSigner = p.ownedBy(issuer, places)
	long.owners = append(chain, long.ciSigner)
	for name, c := range map[string]signedCase{"no-issuer": pinned, "half": half, "too-many": long} {
		t.Run(name, func(t *testing.T) {
			n, err := needed(c)
			refused(t, err, artifacts.CodeRevocationUnknown, artifacts.StepOwnerRevocation)
			if n != nil {
				t.Errorf("asks for %+v", n)
			}
		})
	}
	t.Run("as-many-as-can-be", func(t *testing.T) {
		long.ciSigner = p.ownedBy(chain[6], places)
		long.owners = append(slices.Clone(chain[:7]), long.ciSigner)
		if n, err := needed(long); n == nil || len(n.Requests) != 8 {
			t.Errorf("asks for %+v, %v", n, err)
		}
	})
}

// TestStatusNeededPlaces puts what devices do not fetch into a certificate.
func TestStatusNeededPlaces(t *testing.T) {
	w := shared()
	long := "http://" + strings.Repeat("a", 1024)
	for name, test := range map[string]struct {
		uris []string
		want []string
	}{
		"http-and-https": {[]string{ownerURL, rootURL}, []string{ownerURL, rootURL}},
		"ldap":           {[]string{"ldap://directory.example/cn=x?certificateRevocationList"}, nil},
		"ldap-then-http": {[]string{"ldap:///cn=x", ownerURL}, []string{ownerURL}},
		"file":           {[]string{"file:///etc/shadow"}, nil},
		"ftp":            {[]string{"ftp://crl.example/x"}, nil},
		"no-host":        {[]string{"http:///x"}, nil},
		"credentials":    {[]string{"http://user:secret@crl.example/x"}, nil},
		"not-a-uri":      {[]string{"http://[::1"}, nil},
		"long":           {[]string{long}, nil},
		"many":           {[]string{"http://a/", "http://b/", "http://c/", "http://d/"}, []string{"http://a/", "http://b/", "http://c/"}},
		"upper-case":     {[]string{"HTTP://crl.example/x"}, []string{"HTTP://crl.example/x"}},
	} {
		for _, kind := range []string{"list", "responder"} {
			t.Run(kind+"-"+name, func(t *testing.T) {
				var sections []string
				for i, u := range test.uris {
					prefix := fmt.Sprintf("URI.%d=", i)
					if kind == "responder" {
						prefix = fmt.Sprintf("OCSP;URI.%d=", i)
					}
					sections = append(sections, prefix+u)
				}
				extension := "crlDistributionPoints=@s\n[s]\n"
				if kind == "responder" {
					extension = "authorityInfoAccess=@s\n[s]\n"
				}
				owner := w.ownedBy(w.ownerCA, extension+strings.Join(sections, "\n"))
				root := w.CRL(w.ownerRoot, w.now().Add(-time.Hour), w.now().Add(time.Hour))
				n, err := needed(signedCase{w: w, voucher: object{"domain-cert-revocation-checks": true}, owners: entities{owner, w.ownerCA},
					ciSigner: owner, crls: []string{root}})
				refused(t, err, artifacts.CodeRevocationUnknown, artifacts.StepOwnerRevocation)
				var got []string
				if n != nil {
					got = append(n.Requests[0].CRLURLs, n.Requests[0].OCSPURLs...)
					if (n.Requests[0].OCSPRequest != nil) != (kind == "responder") {
						t.Errorf("asks for %+v", n.Requests[0])
					}
				}
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		}
	}
}
