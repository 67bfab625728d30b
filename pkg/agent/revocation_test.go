package agent_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"math/big"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ocsp"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/agent"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/restconf"
	"github.com/xpu-sztp/ztp/pkg/revocation"
	"github.com/xpu-sztp/ztp/pkg/source"
	"github.com/xpu-sztp/ztp/pkg/state"
	"github.com/xpu-sztp/ztp/test/lab/artifact"
	"github.com/xpu-sztp/ztp/test/lab/pki"
)

const (
	ocspURL  = "http://ocsp.owner.example/"
	ownerURL = "http://crl.owner.example/issuing.crl"
	rootURL  = "http://crl.owner.example/root.crl"
)

// publish gives the owner certificates that say where their status is.
func (o *ownership) publish() {
	o.t.Helper()
	var err1, err2 error
	o.owner.Issuing, err1 = o.owner.Root.Issue(pki.Profile{CommonName: "Issuing", CA: true, CRLs: []string{rootURL}})
	o.owner.Signer, err2 = o.owner.Issuing.Issue(pki.Profile{CommonName: "Owner", CRLs: []string{ownerURL}, OCSP: []string{ocspURL}})
	if err := errors.Join(err1, err2); err != nil {
		o.t.Fatal(err)
	}
}

// list is a revocation list of an issuer.
func (o *ownership) list(issuer *pki.Entity, revoked ...*pki.Entity) []byte {
	o.t.Helper()
	template := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(time.Hour)}
	for _, r := range revoked {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{
			SerialNumber: r.Certificate.SerialNumber, RevocationTime: template.ThisUpdate})
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, issuer.Certificate, issuer.Key)
	if err != nil {
		o.t.Fatal(err)
	}
	return der
}

// response is an OCSP response about the owner certificate.
func (o *ownership) response(status int) []byte {
	o.t.Helper()
	issuer := o.owner.Issuing
	der, err := ocsp.CreateResponse(issuer.Certificate, issuer.Certificate, ocsp.Response{Status: status,
		SerialNumber: o.owner.Signer.Certificate.SerialNumber, ThisUpdate: time.Now().Add(-time.Minute),
		NextUpdate: time.Now().Add(time.Hour), RevokedAt: time.Now().Add(-time.Hour), IssuerHash: crypto.SHA1}, issuer.Key)
	if err != nil {
		o.t.Fatal(err)
	}
	return der
}

// web is a fetcher in memory: it asks the first place that each certificate names for the way that is asked for.
type web struct {
	*world
	pages    map[string][]byte
	requests []revocation.Request
}

func (f *web) Fetch(_ context.Context, r revocation.Request) (status artifacts.Status, attempts []revocation.Attempt) {
	f.requests = append(f.requests, r)
	for _, want := range r.Wanted {
		urls, list := want.OCSPURLs, &status.OCSPResponses
		if len(urls) == 0 {
			urls, list = want.CRLURLs, &status.CRLs
		}
		f.note("fetch %s", urls[0])
		page, ok := f.pages[urls[0]]
		attempt := revocation.Attempt{Subject: want.Subject, URL: urls[0], OCSP: len(want.OCSPURLs) > 0, Bytes: len(page)}
		if !ok {
			attempt.Err = errors.New("nobody answers")
		} else {
			*list = append(*list, page)
		}
		attempts = append(attempts, attempt)
	}
	return status, attempts
}

// TestRevocationStatusIsFetched lets a voucher demand revocation checks of an owner who publishes the status.
func TestRevocationStatusIsFetched(t *testing.T) {
	const connect = "connect 192.0.2.1 192.0.2.1:443 provisional"
	const onboarded = "onboard signed reports=false level=minimal"
	const fetchOCSP, fetchOwner, fetchRoot = "fetch " + ocspURL, "fetch " + ownerURL, "fetch " + rootURL
	o := newOwnership(t)
	o.publish()
	good, revoked, unknown := o.response(ocsp.Good), o.response(ocsp.Revoked), o.response(ocsp.Unknown)
	root, issuing, issuingRevoked := o.list(o.owner.Root), o.list(o.owner.Issuing), o.list(o.owner.Issuing, o.owner.Signer)
	for name, test := range map[string]struct {
		demand *bool
		pages  map[string][]byte
		code   artifacts.Code
		trace  []string
	}{
		"good":            {new(true), map[string][]byte{ocspURL: good, rootURL: root}, "", []string{connect, fetchOCSP, fetchRoot, onboarded}},
		"revoked":         {new(true), map[string][]byte{ocspURL: revoked, rootURL: root}, artifacts.CodeOwnerRevoked, []string{connect, fetchOCSP, fetchRoot}},
		"issuer-revoked":  {new(true), map[string][]byte{ocspURL: good, rootURL: o.list(o.owner.Root, o.owner.Issuing)}, artifacts.CodeOwnerRevoked, []string{connect, fetchOCSP, fetchRoot}},
		"responder-away":  {new(true), map[string][]byte{ownerURL: issuing, rootURL: root}, "", []string{connect, fetchOCSP, fetchRoot, fetchOwner, onboarded}},
		"does-not-know":   {new(true), map[string][]byte{ocspURL: unknown, ownerURL: issuing, rootURL: root}, "", []string{connect, fetchOCSP, fetchRoot, fetchOwner, onboarded}},
		"list-revokes":    {new(true), map[string][]byte{ocspURL: unknown, ownerURL: issuingRevoked, rootURL: root}, artifacts.CodeOwnerRevoked, []string{connect, fetchOCSP, fetchRoot, fetchOwner}},
		"all-away":        {new(true), nil, artifacts.CodeRevocationUnknown, []string{connect, fetchOCSP, fetchRoot, fetchOwner}},
		"root-away":       {new(true), map[string][]byte{ocspURL: good}, artifacts.CodeRevocationUnknown, []string{connect, fetchOCSP, fetchRoot}},
		"nonsense":        {new(true), map[string][]byte{ocspURL: {0x30, 0}, ownerURL: {0x30, 0}, rootURL: {0x30, 0}}, artifacts.CodeRevocationUnknown, []string{connect, fetchOCSP, fetchRoot, fetchOwner}},
		"says-false":      {new(false), map[string][]byte{ocspURL: revoked}, "", []string{connect, onboarded}},
		"demands-nothing": {nil, map[string][]byte{ocspURL: revoked}, "", []string{connect, onboarded}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.servers["192.0.2.1"] = &serverThere{signed: o.demanding(t, test.demand)}
			lead := w.lead(false, at("192.0.2.1"))
			lead.Interface = "eth0"
			a := o.agent(w, leads{lead})
			fetcher := &web{world: w, pages: test.pages}
			a.Revocation = fetcher
			_, err := a.Round(t.Context(), 1)
			if test.code == "" && err != nil || test.code != "" && !hasReason(err, reason.Code(test.code)) {
				t.Errorf("%v, want %q", err, test.code)
			}
			w.wantTrace(t, test.trace...)
			for _, r := range fetcher.requests {
				if r.Network != source.Network(w) || !r.Refuse(netip.MustParseAddr("127.0.0.1")) || r.Refuse(netip.MustParseAddr("192.0.2.1")) {
					t.Error("not by the network of the lead, or without its rules for addresses")
				}
			}
			fetches := 0
			for _, line := range test.trace {
				if strings.HasPrefix(line, "fetch ") {
					fetches++
				}
			}
			if shown := w.status.Servers[0].StatusFetches; len(shown) != fetches {
				t.Errorf("shown are %+v", shown)
			}
		})
	}
}

// TestRevocationStatusIsNotHere: an owner's authority names this machine, and the lead is one that a person named.
func TestRevocationStatusIsNotHere(t *testing.T) {
	o := newOwnership(t)
	o.publish()
	w := newWorld(t)
	w.servers["192.0.2.1"] = &serverThere{signed: o.demanding(t, new(true))}
	a := o.agent(w, leads{w.lead(false, at("192.0.2.1"))})
	fetcher := &web{world: w}
	a.Revocation = fetcher
	if _, err := a.Round(t.Context(), 1); !hasReason(err, reason.Code(artifacts.CodeRevocationUnknown)) {
		t.Error(err)
	}
	for _, r := range fetcher.requests {
		for _, here := range []string{"127.0.0.1", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::", "ff02::1"} {
			if !r.Refuse(netip.MustParseAddr(here)) {
				t.Errorf("%s would be asked", here)
			}
		}
	}
	if len(fetcher.requests) == 0 {
		t.Error("nothing was asked")
	}
}

// demanding answers with signed onboarding information whose voucher has the flag.
func (o *ownership) demanding(t *testing.T, flag *bool) func(restconf.Input) artifacts.Bundle {
	document := script(t, "signed")
	return func(restconf.Input) artifacts.Bundle {
		return o.sign(document, func(v *artifact.Voucher) { v.RevocationChecks = flag })
	}
}

// TestRevocationFailureIsExplained says which place did not answer, and what can be done.
func TestRevocationFailureIsExplained(t *testing.T) {
	o := newOwnership(t)
	o.publish()
	for name, test := range map[string]struct {
		fetches bool
		message []string
		hint    string
	}{
		"fetched": {true, []string{"192.0.2.1:443: the voucher demands", "; it could not be fetched: OCSP response for CN=Owner from " + ocspURL + ": nobody answers", ownerURL + ": nobody answers", "CN=Owner"}, "reach"},
		"carried": {false, []string{"no revocation list or OCSP response"}, `[trust] revocation = "fetch"`},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.servers["192.0.2.1"] = &serverThere{signed: o.demanding(t, new(true))}
			a := o.agent(w, leads{w.lead(false, at("192.0.2.1"))})
			if test.fetches {
				a.Revocation = &web{world: w}
			}
			_, err := a.Round(t.Context(), 1)
			why := agent.Explain(err)
			if why.Code != string(artifacts.CodeRevocationUnknown) || !strings.Contains(why.Hint, test.hint) {
				t.Errorf("reason %+v", why)
			}
			for _, part := range test.message {
				if !strings.Contains(why.Message, part) {
					t.Errorf("%q does not say %q", why.Message, part)
				}
			}
		})
	}
}

// TestNoNetworkNoFetch has data come from where there is no network, such as removable storage.
func TestNoNetworkNoFetch(t *testing.T) {
	w, o := newWorld(t), newOwnership(t)
	o.publish()
	bundle := o.demanding(t, new(true))(restconf.Input{})
	a := o.agent(w, leads{{Source: "usb", Bundle: &bundle}})
	fetcher := &web{world: w}
	a.Revocation = fetcher
	_, err := a.Round(t.Context(), 1)
	if !hasReason(err, reason.Code(artifacts.CodeRevocationUnknown)) || len(fetcher.requests) != 0 {
		t.Errorf("asked for %+v, %v", fetcher.requests, err)
	}
}

// TestNothingIsFetchedEarly spoils what is checked before the owner's revocation status: nobody is asked for that then.
func TestNothingIsFetchedEarly(t *testing.T) {
	o := newOwnership(t)
	o.publish()
	stranger, err := pki.NewOwner("Stranger")
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*artifact.Voucher){
		"serial-number": func(v *artifact.Voucher) { v.SerialNumber = "AC-2" },
		"expired":       func(v *artifact.Voucher) { v.ExpiresOn = time.Now().Add(-time.Second) },
		"nonce":         func(v *artifact.Voucher) { v.Nonce = make([]byte, 16) },
		"other-owner":   func(v *artifact.Voucher) { v.Pinned = stranger.Root.Certificate },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.servers["192.0.2.1"] = &serverThere{signed: func(restconf.Input) artifacts.Bundle {
				return o.sign(script(t, "signed"), func(v *artifact.Voucher) {
					v.RevocationChecks = new(true)
					spoil(v)
				})
			}}
			a := o.agent(w, leads{w.lead(false, at("192.0.2.1"))})
			a.Revocation = &web{world: w}
			if _, err := a.Round(t.Context(), 1); err == nil {
				t.Error("no error")
			}
			w.wantTrace(t, "connect 192.0.2.1 192.0.2.1:443 provisional")
		})
	}
}

// TestFetchesAreShown: people see what was asked of whom, also when it was to no avail.
func TestFetchesAreShown(t *testing.T) {
	w, o := newWorld(t), newOwnership(t)
	o.publish()
	w.servers["192.0.2.1"] = &serverThere{signed: o.demanding(t, new(true))}
	a := o.agent(w, leads{w.lead(false, at("192.0.2.1"))})
	a.Revocation = &web{world: w, pages: map[string][]byte{rootURL: o.list(o.owner.Root), ownerURL: o.list(o.owner.Issuing)}}
	if _, err := a.Round(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	want := []state.StatusFetch{
		{URL: ocspURL, Detail: "OCSP response for CN=Owner from " + ocspURL + ": nobody answers"},
		{URL: rootURL, OK: true, Detail: "revocation list for CN=Issuing from " + rootURL},
		{URL: ownerURL, OK: true, Detail: "revocation list for CN=Owner from " + ownerURL},
	}
	got := w.status.Servers[0].StatusFetches
	for i := range got {
		got[i].Detail, _, _ = strings.Cut(got[i].Detail, ", ")
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
