package inspect_test

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
	"golang.org/x/crypto/ocsp"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/inspect"
	"github.com/xpu-sztp/ztp/test/lab/artifact"
	"github.com/xpu-sztp/ztp/test/lab/pki"
)

// carrier makes an owner certificate artifact of certificates, with a revocation list and OCSP responses (RFC 5940).
func carrier(certificates []*x509.Certificate, list []byte, responses ...[]byte) []byte {
	id := func(b *cryptobyte.Builder, arcs ...int) { b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier(arcs)) }
	tag := func(n uint8) casn1.Tag { return casn1.Tag(n).ContextSpecific().Constructed() }
	nothing := func(*cryptobyte.Builder) {}
	var b cryptobyte.Builder
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		id(b, 1, 2, 840, 113549, 1, 7, 2)
		b.AddASN1(tag(0), func(b *cryptobyte.Builder) {
			b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1Int64(1)
				b.AddASN1(casn1.SET, nothing)
				b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) { id(b, 1, 2, 840, 113549, 1, 7, 1) })
				b.AddASN1(tag(0), func(b *cryptobyte.Builder) {
					for _, c := range certificates {
						b.AddBytes(c.Raw)
					}
				})
				b.AddASN1(tag(1), func(b *cryptobyte.Builder) {
					b.AddBytes(list)
					for _, r := range responses {
						b.AddASN1(tag(1), func(b *cryptobyte.Builder) {
							id(b, 1, 3, 6, 1, 5, 5, 7, 16, 2)
							b.AddBytes(r)
						})
					}
				})
				b.AddASN1(casn1.SET, nothing)
			})
		})
	})
	return b.BytesOrPanic()
}

// TestCarriedStatus shows what evidence came along, readable or not.
func TestCarriedStatus(t *testing.T) {
	owner, err := pki.NewOwner("Owner")
	if err != nil {
		t.Fatal(err)
	}
	from, to := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2027, 2, 1, 0, 0, 0, 0, time.UTC)
	list, err1 := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: from, NextUpdate: to,
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: big.NewInt(7), RevocationTime: from}}}, owner.Root.Certificate, owner.Root.Key)
	response, err2 := ocsp.CreateResponse(owner.Issuing.Certificate, owner.Issuing.Certificate, ocsp.Response{Status: ocsp.Revoked,
		SerialNumber: big.NewInt(0xabc), ThisUpdate: from, NextUpdate: to, RevokedAt: from, IssuerHash: crypto.SHA256}, owner.Issuing.Key)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	der := carrier(owner.Signer.Chain(), list, response, []byte{0x30, 3, 0x0a, 1, 6}, []byte{0x30, 0})
	report := inspect.Inspect([]inspect.Input{{Name: "oc.cms", Data: der}}, inspect.Options{})
	wantLists := []inspect.Revocation{{Issuer: "CN=Owner Root CA,O=Owner", ThisUpdate: from, NextUpdate: to, Revoked: 1}}
	wantAnswers := []inspect.OCSPAnswer{
		{SerialNumber: "abc", Status: "revoked", ThisUpdate: from, NextUpdate: to},
		{SerialNumber: "an unreadable number", Unreadable: "the responder answered unauthorized"},
		{SerialNumber: "an unreadable number", Unreadable: "malformed revocation information: structure of the OCSP response"},
	}
	if diff := cmp.Diff(wantLists, report.Artifacts[0].Revocations); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(wantAnswers, report.Artifacts[0].OCSP); diff != "" {
		t.Error(diff)
	}
	if text := report.Text(); !strings.Contains(text, "abc") || !strings.Contains(text, "the responder answered unauthorized") {
		t.Error(text)
	}
}

// TestStatusThatIsMissing says where a device would ask, and that nothing was asked here.
func TestStatusThatIsMissing(t *testing.T) {
	const url = "http://crl.owner.example/root.crl"
	maker, err1 := pki.NewManufacturer("Acme")
	root, err2 := pki.Root(pki.Profile{CommonName: "Owner root"})
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	owner, err1 := root.Issue(pki.Profile{CommonName: "Owner", CRLs: []string{url}})
	if err1 != nil {
		t.Fatal(err1)
	}
	document, err1 := artifact.Onboarding{PreScript: []byte("#!/bin/sh\n")}.JSON()
	ci, err2 := artifact.Signed(document, owner)
	oc, err3 := artifact.OwnerCertificate(owner, root.Certificate)
	ov, err4 := artifact.Voucher{CreatedOn: time.Now().Add(-time.Minute), ExpiresOn: time.Now().Add(time.Hour), Assertion: "verified",
		SerialNumber: "AC-1", Pinned: root.Certificate, RevocationChecks: new(true)}.Sign(maker.MASA)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
	report := inspect.Inspect([]inspect.Input{{Name: "ci", Data: ci}, {Name: "oc", Data: oc}, {Name: "ov", Data: ov}}, inspect.Options{
		VoucherAnchors: []*x509.Certificate{maker.Root.Certificate}, Device: artifacts.Device{SerialNumber: "AC-1"},
		Clock: artifacts.Clock{Now: time.Now(), Confidence: artifacts.ClockRTC}})
	p := report.Validation.Problem
	if p == nil || p.Code != string(artifacts.CodeRevocationUnknown) || !strings.Contains(p.Message, url) || !strings.Contains(strings.Join(report.Validation.Missing, " "), "not fetched here") {
		t.Errorf("problem %+v", p)
	}
}
