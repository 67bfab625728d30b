package artifacts_test

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/artifacts/internal/opensslpki"
)

// forms are the ways in which signed data may come.
func (w world) forms() map[string]signedCase {
	rsa := w.IssueKey([]string{"rsa:2048"}, w.ownerCA, "/O=Owner/CN=RSA owner", opensslpki.Signer...)
	rsaMASA := w.IssueKey([]string{"rsa:2048"}, w.masaCA, "/O=Acme/CN=RSA MASA", opensslpki.Signer...)
	onboardingXML := []byte(xmlOnboarding("<pre-configuration-script>" + b64([]byte("#!/bin/sh\nexit 0\n")) + "</pre-configuration-script>"))
	return map[string]signedCase{
		"json":           {},
		"xml":            {document: onboardingXML, ciType: typeXML},
		"redirect":       {document: redirectDocument},
		"id-data":        {ciType: typeData, ovType: typeData},
		"key-identifier": {ciArgs: []string{"-keyid"}, ovArgs: []string{"-keyid"}},
		"streamed":       {ciArgs: []string{"-stream"}, ovArgs: []string{"-stream"}},
		"rsa":            {ciSigner: rsa, owners: entities{rsa, w.ownerCA}, masa: rsaMASA, masaChain: entities{w.masaCA}},
		"rsa-pss": {ciSigner: rsa, owners: entities{rsa, w.ownerCA}, masa: rsaMASA, masaChain: entities{w.masaCA},
			ciArgs: []string{"-keyopt", "rsa_padding_mode:pss"}, ovArgs: []string{"-keyopt", "rsa_padding_mode:pss"}},
	}
}

// tampering is a change that ends validation in a step.
type tampering struct {
	change func(*signedCase)
	code   artifacts.Code
	step   artifacts.Step
}

func (w world) tamperings() map[string]tampering {
	voucher := func(changes object) func(*signedCase) { return func(c *signedCase) { c.voucher = changes } }
	bundle := func(f func(*artifacts.Bundle)) func(*signedCase) { return func(c *signedCase) { c.bundle = f } }
	policy := func(f func(*artifacts.Policy)) func(*signedCase) { return func(c *signedCase) { c.policy = f } }
	at := func(d time.Duration) string { return w.now().Add(d).UTC().Format(time.RFC3339) }
	end := w.owner.Certificate.NotAfter.Add(time.Hour)
	return map[string]tampering{
		"conveyed-truncated": {bundle(func(b *artifacts.Bundle) {
			b.ConveyedInformation = b.ConveyedInformation[:len(b.ConveyedInformation)-1]
		}),
			artifacts.CodeConveyedMalformed, artifacts.StepConveyed},
		"voucher-absent":     {bundle(func(b *artifacts.Bundle) { b.OwnershipVoucher = nil }), artifacts.CodeVoucherMissing, artifacts.StepVoucher},
		"voucher-truncated":  {bundle(func(b *artifacts.Bundle) { b.OwnershipVoucher = b.OwnershipVoucher[:99] }), artifacts.CodeVoucherMalformed, artifacts.StepVoucher},
		"owner-absent":       {bundle(func(b *artifacts.Bundle) { b.OwnerCertificate = nil }), artifacts.CodeOwnerMissing, artifacts.StepOwner},
		"owner-truncated":    {bundle(func(b *artifacts.Bundle) { b.OwnerCertificate = b.OwnerCertificate[:99] }), artifacts.CodeOwnerMalformed, artifacts.StepOwner},
		"voucher-untrusted":  {policy(func(p *artifacts.Policy) { p.VoucherAnchors = []*x509.Certificate{w.ownerRoot.Certificate} }), artifacts.CodeVoucherUntrusted, artifacts.StepVoucherSignature},
		"voucher-changed":    {bundle(replaceInVoucher(serial, "AC-000124")), artifacts.CodeVoucherSignature, artifacts.StepVoucherSignature},
		"voucher-signature":  {bundle(func(b *artifacts.Bundle) { flipLast(b.OwnershipVoucher) }), artifacts.CodeVoucherSignature, artifacts.StepVoucherSignature},
		"voucher-contents":   {voucher(object{"serial-number": nil}), artifacts.CodeVoucherMalformed, artifacts.StepVoucherContents},
		"voucher-future":     {voucher(object{"created-on": at(time.Hour)}), artifacts.CodeVoucherNotYetValid, artifacts.StepVoucherDates},
		"voucher-expired":    {voucher(object{"expires-on": at(-time.Hour)}), artifacts.CodeVoucherExpired, artifacts.StepVoucherDates},
		"voucher-assertion":  {voucher(object{"assertion": "hearsay"}), artifacts.CodeVoucherAssertion, artifacts.StepVoucherAssertion},
		"voucher-serial":     {voucher(object{"serial-number": "AC-000124"}), artifacts.CodeVoucherSerial, artifacts.StepVoucherSerial},
		"voucher-issuer":     {voucher(object{"idevid-issuer": b64(w.owner.Certificate.AuthorityKeyId)}), artifacts.CodeVoucherIssuer, artifacts.StepVoucherIssuer},
		"voucher-nonce":      {voucher(object{"nonce": b64([]byte("0123456789abcdef"))}), artifacts.CodeVoucherNonce, artifacts.StepVoucherNonce},
		"pinned-another":     {voucher(object{"pinned-domain-cert": b64(w.strayRoot.Certificate.Raw)}), artifacts.CodeOwnerUntrusted, artifacts.StepOwnerPath},
		"owner-chain-broken": {func(c *signedCase) { c.owners = entities{cmp.Or(c.ciSigner, w.owner)} }, artifacts.CodeOwnerUntrusted, artifacts.StepOwnerPath},
		"too-late":           {policy(func(p *artifacts.Policy) { p.Clock.Now = end }), artifacts.CodeVoucherExpired, artifacts.StepVoucherSignature},
		"revocation-unknown": {voucher(object{"domain-cert-revocation-checks": true}), artifacts.CodeRevocationUnknown, artifacts.StepOwnerRevocation},
		"signed-by-another":  {func(c *signedCase) { c.ciSigner, c.ciArgs = w.ownerCA, nil }, artifacts.CodeSignedByOther, artifacts.StepOwnerSignature},
		"conveyed-changed":   {bundle(func(b *artifacts.Bundle) { change(b.ConveyedInformation, "information") }), artifacts.CodeSignatureInvalid, artifacts.StepOwnerSignature},
		"conveyed-signature": {bundle(func(b *artifacts.Bundle) { flipLast(b.ConveyedInformation) }), artifacts.CodeSignatureInvalid, artifacts.StepOwnerSignature},
		"conveyed-contents":  {func(c *signedCase) { c.document = []byte(" ") }, artifacts.CodeConveyedInvalid, artifacts.StepContents},
	}
}

// flipLast changes a bit of the last byte, which is in the signature; the ends of indefinite lengths are passed over.
func flipLast(der []byte) { der[len(bytes.TrimRight(der, "\x00"))-1] ^= 1 }

// change changes a bit in the first appearance of text.
func change(der []byte, text string) { der[bytes.Index(der, []byte(text))] ^= 1 }

// TestTamperedForms tampers with every form of signed data in every way that RFC 8572 §5.4 distinguishes.
func TestTamperedForms(t *testing.T) {
	w := shared()
	for form, c := range w.forms() {
		t.Run(form, func(t *testing.T) {
			c.w = w
			t.Run("untouched", func(t *testing.T) { c.check(t, "", "") })
			for name, tampered := range w.tamperings() {
				t.Run(name, func(t *testing.T) {
					c := c
					tampered.change(&c)
					c.check(t, tampered.code, tampered.step)
				})
			}
		})
	}
}
