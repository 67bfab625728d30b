package artifacts_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/xpu-sztp/ztp/artifacts"
)

func TestVoucherContents(t *testing.T) {
	w := shared()
	raw := func(changes object) string { return string(w.voucherDocument(changes)) }
	for name, test := range map[string]struct {
		json     string
		lenient  bool
		code     artifacts.Code
		warnings int
	}{
		"fine":                          {json: raw(nil)},
		"last-renewal-date":             {json: raw(object{"last-renewal-date": "2026-01-01T00:00:00Z"})},
		"leaves-of-the-successor":       {json: raw(object{"pinned-domain-pubk": "AA==", "est-domain": "x", "extensions": []string{}}), warnings: 3},
		"no-created-on":                 {json: raw(object{"created-on": nil}), code: artifacts.CodeVoucherMalformed},
		"no-serial-number":              {json: raw(object{"serial-number": nil}), code: artifacts.CodeVoucherMalformed},
		"empty-serial-number":           {json: raw(object{"serial-number": ""}), code: artifacts.CodeVoucherMalformed},
		"no-pinned-domain-cert":         {json: raw(object{"pinned-domain-cert": nil}), code: artifacts.CodeVoucherMalformed},
		"only-pinned-key":               {json: raw(object{"pinned-domain-cert": nil, "pinned-domain-pubk": "AA=="}), code: artifacts.CodeVoucherMalformed},
		"pinned-domain-cert-pem":        {json: raw(object{"pinned-domain-cert": "-----BEGIN CERTIFICATE-----"}), code: artifacts.CodeVoucherMalformed},
		"pinned-domain-cert-garbage":    {json: raw(object{"pinned-domain-cert": "AAAA"}), code: artifacts.CodeVoucherMalformed},
		"pinned-domain-cert-trailing":   {json: raw(object{"pinned-domain-cert": b64(append(w.ownerRoot.Certificate.Raw[:len(w.ownerRoot.Certificate.Raw):len(w.ownerRoot.Certificate.Raw)], 0))}), code: artifacts.CodeVoucherMalformed},
		"pinned-domain-cert-with-lines": {json: raw(object{"pinned-domain-cert": b64(w.ownerRoot.Certificate.Raw)[:64] + "\n" + b64(w.ownerRoot.Certificate.Raw)[64:]}), code: artifacts.CodeVoucherMalformed},
		"the-same-lenient":              {json: raw(object{"pinned-domain-cert": b64(w.ownerRoot.Certificate.Raw)[:64] + "\n" + b64(w.ownerRoot.Certificate.Raw)[64:]}), lenient: true, warnings: 1},
		"stray-member-beside":           {json: strings.Replace(raw(nil), "{", `{"XMLName":{},`, 1), code: artifacts.CodeVoucherMalformed},
		"stray-member-beside-lenient":   {json: strings.Replace(raw(nil), "{", `{"XMLName":{},`, 1), lenient: true, warnings: 1},
		"stray-member-inside":           {json: raw(object{"XMLName": object{}}), warnings: 1},
		"unqualified":                   {json: strings.Replace(raw(nil), "ietf-voucher:", "", 1), code: artifacts.CodeVoucherMalformed},
		"serial-number-is-a-number":     {json: raw(object{"serial-number": 1}), code: artifacts.CodeVoucherMalformed},
		"created-on-without-zone":       {json: raw(object{"created-on": "2025-01-01T00:00:00"}), code: artifacts.CodeVoucherMalformed},
		"created-on-is-a-day":           {json: raw(object{"created-on": "2025-01-01"}), code: artifacts.CodeVoucherMalformed},
		"created-on-with-space":         {json: raw(object{"created-on": "2025-01-01 00:00:00Z"}), code: artifacts.CodeVoucherMalformed},
		"created-on-impossible":         {json: raw(object{"created-on": "2025-02-30T00:00:00Z"}), code: artifacts.CodeVoucherMalformed},
		"expires-on-null":               {json: strings.Replace(raw(nil), `"expires-on":"`, `"expires-on":null,"x":"`, 1), code: artifacts.CodeVoucherMalformed},
		"expires-on-in-other-case":      {json: strings.Replace(raw(nil), `"expires-on"`, `"Expires-on"`, 1), code: artifacts.CodeVoucherMalformed},
		"the-same-when-lenient":         {json: strings.Replace(raw(nil), `"expires-on"`, `"Expires-on"`, 1), lenient: true, code: artifacts.CodeVoucherMalformed},
		"serial-number-twice":           {json: strings.Replace(raw(nil), `"serial-number"`, `"serial-number":"other","serial-number"`, 1), code: artifacts.CodeVoucherMalformed},
		"nonce-and-expiry-are-read":     {json: raw(object{"idevid-issuer": "*"}), code: artifacts.CodeVoucherMalformed},
		"not-json":                      {json: "<voucher/>", code: artifacts.CodeVoucherMalformed},
		"empty":                         {json: "", code: artifacts.CodeVoucherMalformed},
		"null":                          {json: `{"ietf-voucher:voucher":null}`, code: artifacts.CodeVoucherMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			c := signedCase{w: w, ovJSON: []byte(test.json), policy: func(p *artifacts.Policy) { p.Lenient = test.lenient }}
			if conveyed := c.check(t, test.code, artifacts.StepVoucherContents); conveyed != nil && len(conveyed.Warnings) != test.warnings {
				t.Errorf("warnings %q", conveyed.Warnings)
			}
		})
	}
}

// TestLenientOwnerCertificate takes an owner certificate artifact and a trust anchor that are signed for no reason.
func TestLenientOwnerCertificate(t *testing.T) {
	w := shared()
	signed := w.Sign(w.stray, nil, "-certfile", w.PEM(w.owner, w.ownerCA))
	change := func(b *artifacts.Bundle) { b.OwnerCertificate = signed }
	signedCase{w: w, bundle: change}.check(t, artifacts.CodeOwnerMalformed, artifacts.StepOwner)
	lenient := func(p *artifacts.Policy) { p.Lenient = true }
	if conveyed := (signedCase{w: w, bundle: change, policy: lenient}).check(t, "", ""); conveyed != nil && len(conveyed.Warnings) != 1 {
		t.Errorf("warnings %q", conveyed.Warnings)
	}

	document := encode(object{"ietf-sztp-conveyed-info:redirect-information": object{"bootstrap-server": []object{
		{"address": "a.example", "trust-anchor": b64(w.Sign(w.tlsRoot, nil))}}}})
	b, d, p := signedCase{w: w, document: document}.build()
	_, _, err := artifacts.Validate(b, nil, d, p)
	refused(t, err, artifacts.CodeAnchorMalformed, artifacts.StepTrustAnchor)
	p.Lenient = true
	conveyed, _, err := artifacts.Validate(b, nil, d, p)
	refused(t, err, "", "")
	if err == nil && (len(conveyed.Warnings) != 1 || !conveyed.Redirect.Servers[0].Anchors[0].Lowest.Equal(w.tlsRoot.Certificate)) {
		t.Errorf("conveyed %+v", conveyed)
	}
}

// TestPKCS7 has the maker and the owner sign in the form that preceded CMS. The signature does not cover the content's tag.
func TestPKCS7(t *testing.T) {
	w := shared()
	former := func(der, document []byte) []byte {
		at := bytes.Index(der, document) - 4
		if at < 0 || der[at] != 0x04 || der[at+1] != 0x82 {
			t.Fatal("content is not an OCTET STRING with its length in two bytes")
		}
		der = bytes.Clone(der)
		der[at] = 0x0c
		return der
	}
	document, voucher := onboardingDocument, w.voucherDocument(nil)
	for len(document) < 256 {
		document = append(bytes.Clone(document), ' ')
	}
	for name, test := range map[string]struct {
		bundle func(*artifacts.Bundle)
		code   artifacts.Code
		step   artifacts.Step
	}{
		"voucher": {func(b *artifacts.Bundle) {
			b.OwnershipVoucher = former(b.OwnershipVoucher, voucher)
		}, artifacts.CodeVoucherMalformed, artifacts.StepVoucher},
		"conveyed": {func(b *artifacts.Bundle) {
			b.ConveyedInformation = former(b.ConveyedInformation, document)
		}, artifacts.CodeConveyedMalformed, artifacts.StepConveyed},
		"encrypted": {func(b *artifacts.Bundle) {
			b.OwnershipVoucher = w.Encrypt(w.device, former(b.OwnershipVoucher, voucher), "-aes-256-cbc")
		}, artifacts.CodeUnreadable, artifacts.StepVoucher},
	} {
		t.Run(name, func(t *testing.T) {
			c := signedCase{w: w, document: document, ovJSON: voucher, bundle: test.bundle, device: func(d *artifacts.Device) {
				d.Certificate, d.KeyAgreement = w.device.Certificate, agreementKey(t, w.device)
			}}
			c.check(t, test.code, test.step)
			c.policy = func(p *artifacts.Policy) { p.Lenient = true }
			if conveyed := c.check(t, "", ""); conveyed != nil && !slices.ContainsFunc(conveyed.Warnings, func(w string) bool { return strings.Contains(w, "PKCS #7") }) {
				t.Errorf("warnings %q", conveyed.Warnings)
			}
		})
	}
}
