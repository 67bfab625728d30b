package artifacts_test

import (
	"crypto/x509"
	"encoding/asn1"
	"strings"
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/artifacts/internal/opensslpki"
)

type entities = []*opensslpki.Entity

func TestSignedData(t *testing.T) {
	w := shared()
	for name, c := range map[string]signedCase{
		"onboarding":             {},
		"redirect":               {document: redirectDocument},
		"id-data":                {ciType: typeData, ovType: typeData},
		"key-identifier":         {ciArgs: []string{"-keyid"}, ovArgs: []string{"-keyid"}},
		"without-attributes":     {ciType: typeData, ciArgs: []string{"-noattr"}},
		"streamed":               {ciArgs: []string{"-stream"}, ovArgs: []string{"-stream"}},
		"masa-under-root":        {masa: w.masaDirect},
		"voucher-carries-anchor": {masa: w.masa, masaChain: entities{w.masaCA, w.makerRoot}},
		"anchor-is-masa": {masa: w.masa, policy: func(p *artifacts.Policy) {
			p.VoucherAnchors = []*x509.Certificate{w.masa.Certificate}
		}},
		"anchor-is-voucher-ca": {masa: w.masa, policy: func(p *artifacts.Policy) {
			p.VoucherAnchors = []*x509.Certificate{w.stray.Certificate, w.masaCA.Certificate}
		}},
		"anchor-signed-the-voucher-without-certificates": {ovArgs: []string{"-nocerts"}, masa: w.masa,
			policy: func(p *artifacts.Policy) { p.VoucherAnchors = []*x509.Certificate{w.masa.Certificate} }},
	} {
		t.Run(name, func(t *testing.T) {
			c.w = w
			conveyed := c.check(t, "", "")
			if conveyed == nil {
				return
			}
			if !conveyed.Signed || !conveyed.Trusted {
				t.Errorf("signed %v, trusted %v", conveyed.Signed, conveyed.Trusted)
			}
			if c.document == nil && !conveyed.Onboarding.Valid() || c.document != nil && !conveyed.Redirect.Trusted {
				t.Error("the data cannot be used")
			}
			if len(conveyed.Warnings) != 0 {
				t.Errorf("warnings %q", conveyed.Warnings)
			}
		})
	}
}

func TestVoucherSignature(t *testing.T) {
	w := shared()
	selfMade := w.Issue(nil, "/O=Acme/CN=Acme root", opensslpki.Authority...)
	forged := w.Issue(selfMade, "/O=Acme/CN=Acme MASA", opensslpki.Signer...)
	otherLineCA := w.Issue(w.makerRoot, "/O=Acme/CN=Acme X200 IDevID CA", opensslpki.Authority...)
	otherLine := w.Issue(otherLineCA, "/O=Acme/CN=X200/serialNumber=AC-000777", "basicConstraints=critical,CA:FALSE")
	webServer := w.Issue(w.makerRoot, "/O=Acme/CN=redirect.acme.example", append([]string{"extendedKeyUsage=serverAuth"}, opensslpki.Signer...)...)
	weak := w.IssueKey([]string{"rsa:1024"}, w.makerRoot, "/CN=weak MASA", opensslpki.Signer...)
	for name, test := range map[string]struct {
		signedCase
		code artifacts.Code
	}{
		"other-root":                 {signedCase{masa: w.stray, masaChain: entities{w.strayRoot}}, artifacts.CodeVoucherUntrusted},
		"self-made-root-in-voucher":  {signedCase{masa: forged, masaChain: entities{selfMade}}, artifacts.CodeVoucherUntrusted},
		"intermediate-missing":       {signedCase{masa: w.masa, masaChain: entities{w.makerRoot}}, artifacts.CodeVoucherUntrusted},
		"signer-certificate-missing": {signedCase{ovArgs: []string{"-nocerts"}}, artifacts.CodeVoucherUntrusted},
		"no-anchors": {signedCase{policy: func(p *artifacts.Policy) { p.VoucherAnchors = nil }},
			artifacts.CodeVoucherUntrusted},
		"another-device":         {signedCase{masa: w.otherDevice, masaChain: entities{w.idevidCA}}, artifacts.CodeVoucherUntrusted},
		"this-device":            {signedCase{masa: w.device, masaChain: entities{w.idevidCA}}, artifacts.CodeVoucherUntrusted},
		"device-of-another-line": {signedCase{masa: otherLine, masaChain: entities{otherLineCA}}, artifacts.CodeVoucherUntrusted},
		"device-of-another-line-without-own-issuer": {signedCase{masa: otherLine, masaChain: entities{otherLineCA},
			device: func(d *artifacts.Device) { d.AuthorityKeyID = nil }}, artifacts.CodeVoucherUntrusted},
		"maker's-web-server": {signedCase{masa: webServer}, artifacts.CodeVoucherUntrusted},
		"for-TLS-but-configured": {signedCase{masa: webServer, policy: func(p *artifacts.Policy) {
			p.VoucherAnchors = append(p.VoucherAnchors, webServer.Certificate)
		}}, ""},
		"weak-key":        {signedCase{masa: weak}, artifacts.CodeVoucherUntrusted},
		"sha1":            {signedCase{ovArgs: []string{"-md", "sha1"}}, artifacts.CodeAlgorithmRefused},
		"changed-content": {signedCase{bundle: replaceInVoucher(serial, "AC-000124")}, artifacts.CodeVoucherSignature},
		"changed-by-one-bit-at-the-end": {signedCase{bundle: func(b *artifacts.Bundle) {
			b.OwnershipVoucher[len(b.OwnershipVoucher)-1] ^= 1
		}}, artifacts.CodeVoucherSignature},
		"signer-expired": {signedCase{policy: func(p *artifacts.Policy) {
			p.Clock.Now = w.masa.Certificate.NotAfter.Add(time.Second)
		}}, artifacts.CodeVoucherExpired},
		"signer-not-yet-valid": {signedCase{policy: func(p *artifacts.Policy) {
			p.Clock.Now = w.makerRoot.Certificate.NotBefore.Add(-time.Second)
		}}, artifacts.CodeVoucherExpired},
	} {
		t.Run(name, func(t *testing.T) {
			test.w = w
			test.check(t, test.code, artifacts.StepVoucherSignature)
		})
	}
}

// replaceInVoucher changes bytes inside of the signed voucher.
func replaceInVoucher(from, to string) func(*artifacts.Bundle) {
	return func(b *artifacts.Bundle) {
		b.OwnershipVoucher = []byte(strings.Replace(string(b.OwnershipVoucher), from, to, 1))
	}
}

func TestVoucherDates(t *testing.T) {
	w := shared()
	now := w.now().Truncate(time.Second)
	at := func(d time.Duration) string { return now.Add(d).UTC().Format(time.RFC3339) }
	clock := func(c artifacts.Confidence) func(*artifacts.Policy) {
		return func(p *artifacts.Policy) { p.Clock = artifacts.Clock{Now: now, Confidence: c} }
	}
	for name, test := range map[string]struct {
		changes object
		clock   artifacts.Confidence
		code    artifacts.Code
	}{
		"created-now":                      {object{"created-on": at(0)}, artifacts.ClockRTC, ""},
		"created-in-a-second":              {object{"created-on": at(time.Second)}, artifacts.ClockRTC, artifacts.CodeVoucherNotYetValid},
		"created-a-second-ago":             {object{"created-on": at(-time.Second)}, artifacts.ClockAuthenticated, ""},
		"expires-in-a-second":              {object{"expires-on": at(time.Second)}, artifacts.ClockAuthenticated, ""},
		"expires-now":                      {object{"expires-on": at(0)}, artifacts.ClockRTC, artifacts.CodeVoucherExpired},
		"expired-a-second-ago":             {object{"expires-on": at(-time.Second)}, artifacts.ClockRTC, artifacts.CodeVoucherExpired},
		"never-expires":                    {object{"expires-on": nil}, artifacts.ClockRTC, ""},
		"year-9999":                        {object{"expires-on": "9999-12-31T23:59:59Z"}, artifacts.ClockRTC, ""},
		"other-time-zone":                  {object{"created-on": now.In(time.FixedZone("", 2*3600)).Format(time.RFC3339)}, artifacts.ClockRTC, ""},
		"fraction-of-a-second":             {object{"created-on": now.UTC().Format("2006-01-02T15:04:05.0Z")}, artifacts.ClockRTC, ""},
		"expired-without-accurate-clock":   {object{"expires-on": at(-time.Hour)}, artifacts.ClockNone, ""},
		"created-later-and-no-clock":       {object{"created-on": at(time.Hour)}, artifacts.ClockNone, ""},
		"expired-with-unstated-confidence": {object{"expires-on": at(-time.Hour)}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			signedCase{w: w, voucher: test.changes, policy: clock(test.clock)}.check(t, test.code, artifacts.StepVoucherDates)
		})
	}
}

// TestNoClock boots in 1970: nothing expires, and nothing is not yet valid.
func TestNoClock(t *testing.T) {
	w := shared()
	for name, now := range map[string]time.Time{"1970": time.Unix(0, 0), "2200": time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC), "zero": {}} {
		t.Run(name, func(t *testing.T) {
			none := signedCase{w: w, policy: func(p *artifacts.Policy) { p.Clock = artifacts.Clock{Now: now, Confidence: artifacts.ClockNone} }}
			none.check(t, "", "")
			rtc := signedCase{w: w, policy: func(p *artifacts.Policy) { p.Clock = artifacts.Clock{Now: now, Confidence: artifacts.ClockRTC} }}
			rtc.check(t, artifacts.CodeVoucherExpired, artifacts.StepVoucherSignature)
		})
	}
}

func TestVoucherAssertion(t *testing.T) {
	w := shared()
	for name, test := range map[string]struct {
		assertion any
		accepted  []artifacts.Assertion
		lenient   bool
		code      artifacts.Code
		step      artifacts.Step
	}{
		"verified":               {assertion: "verified"},
		"logged":                 {assertion: "logged"},
		"proximity":              {assertion: "proximity"},
		"agent-proximity":        {assertion: "agent-proximity"},
		"accepted":               {assertion: "logged", accepted: []artifacts.Assertion{artifacts.Verified, artifacts.Logged}},
		"not-accepted":           {assertion: "logged", accepted: []artifacts.Assertion{artifacts.Verified}, code: artifacts.CodeVoucherAssertion},
		"unknown":                {assertion: "hearsay", code: artifacts.CodeVoucherAssertion},
		"other-case":             {assertion: "Verified", code: artifacts.CodeVoucherAssertion},
		"missing":                {code: artifacts.CodeVoucherMalformed, step: artifacts.StepVoucherContents},
		"empty-lenient":          {assertion: "", lenient: true},
		"empty-lenient-and-rule": {assertion: "", lenient: true, accepted: []artifacts.Assertion{artifacts.Verified}, code: artifacts.CodeVoucherAssertion},
	} {
		t.Run(name, func(t *testing.T) {
			if test.step == "" {
				test.step = artifacts.StepVoucherAssertion
			}
			signedCase{w: w, voucher: object{"assertion": test.assertion}, policy: func(p *artifacts.Policy) {
				p.Assertions, p.Lenient = test.accepted, test.lenient
			}}.check(t, test.code, test.step)
		})
	}
}

func TestVoucherSerialNumber(t *testing.T) {
	w := shared()
	for _, other := range []string{"AC-000124", "ac-000123", "AC-000123 ", " AC-000123", "0AC-000123", "AC-00012", "AC-000123\x00"} {
		t.Run(other, func(t *testing.T) {
			c := signedCase{w: w, voucher: object{"serial-number": other}}
			c.check(t, artifacts.CodeVoucherSerial, artifacts.StepVoucherSerial)
		})
	}
	t.Run("message", func(t *testing.T) {
		b, d, p := signedCase{w: w, voucher: object{"serial-number": "AC-000124"}}.build()
		_, _, err := artifacts.Validate(b, nil, d, p)
		if err == nil || !strings.Contains(err.Error(), "AC-000124") || !strings.Contains(err.Error(), serial) {
			t.Errorf("the error does not name both serial numbers: %v", err)
		}
	})
}

func TestVoucherIDevIDIssuer(t *testing.T) {
	w := shared()
	id := w.device.Certificate.AuthorityKeyId
	var extension []byte
	for _, e := range w.device.Certificate.Extensions {
		if e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 35}) {
			extension = e.Value
		}
	}
	wrapped, err := asn1.Marshal(extension)
	if err != nil {
		t.Fatal(err)
	}
	other := w.owner.Certificate.AuthorityKeyId
	noAKI := func(d *artifacts.Device) { d.AuthorityKeyID = nil }
	for name, test := range map[string]struct {
		leaf   []byte
		device func(*artifacts.Device)
		code   artifacts.Code
	}{
		"key-identifier":                   {id, nil, ""},
		"authority-key-identifier":         {extension, nil, ""},
		"octet-string":                     {wrapped, nil, ""},
		"other":                            {other, nil, artifacts.CodeVoucherIssuer},
		"prefix":                           {id[:19], nil, artifacts.CodeVoucherIssuer},
		"trailing-byte":                    {append(extension[:len(extension):len(extension)], 0), nil, artifacts.CodeVoucherIssuer},
		"octet-string-and-more":            {append(wrapped[:len(wrapped):len(wrapped)], 0), nil, artifacts.CodeVoucherIssuer},
		"empty":                            {[]byte{}, nil, artifacts.CodeVoucherIssuer},
		"device-without-key-identifier":    {id, noAKI, artifacts.CodeVoucherIssuer},
		"empty-and-device-without":         {[]byte{}, noAKI, artifacts.CodeVoucherIssuer},
		"empty-identifier-device-without":  {[]byte{0x30, 2, 0x80, 0}, noAKI, artifacts.CodeVoucherIssuer},
		"identifier-missing-in-a-sequence": {[]byte{0x30, 0}, nil, artifacts.CodeVoucherIssuer},
	} {
		t.Run(name, func(t *testing.T) {
			c := signedCase{w: w, voucher: object{"idevid-issuer": b64(test.leaf)}, device: test.device}
			c.check(t, test.code, artifacts.StepVoucherIssuer)
		})
	}
}

func TestVoucherNonce(t *testing.T) {
	w := shared()
	nonce := []byte("0123456789abcdef0123456789abcdef")
	stale := []byte("fedcba9876543210fedcba9876543210")
	for name, test := range map[string]struct {
		voucher object
		sent    []byte
		policy  artifacts.Policy
		code    artifacts.Code
		step    artifacts.Step
	}{
		"equal":                      {voucher: object{"nonce": b64(nonce), "expires-on": nil}, sent: nonce},
		"equal-with-expiry":          {voucher: object{"nonce": b64(nonce)}, sent: nonce},
		"equal-and-required":         {voucher: object{"nonce": b64(nonce)}, sent: nonce, policy: artifacts.Policy{RequireNonce: true}},
		"of-an-earlier-session":      {voucher: object{"nonce": b64(stale)}, sent: nonce, code: artifacts.CodeVoucherNonce},
		"prefix":                     {voucher: object{"nonce": b64(nonce[:16])}, sent: nonce, code: artifacts.CodeVoucherNonce},
		"none-sent":                  {voucher: object{"nonce": b64(nonce)}, code: artifacts.CodeVoucherNonce},
		"neither":                    {voucher: object{"expires-on": nil}},
		"only-sent-with-expiry":      {sent: nonce},
		"only-sent-without-expiry":   {voucher: object{"expires-on": nil}, sent: nonce, code: artifacts.CodeVoucherNoNonce},
		"only-sent-but-long-lived":   {voucher: object{"expires-on": nil}, sent: nonce, policy: artifacts.Policy{LongLived: true}},
		"only-sent-and-required":     {sent: nonce, policy: artifacts.Policy{RequireNonce: true}, code: artifacts.CodeVoucherNoNonce},
		"none-sent-nothing-required": {policy: artifacts.Policy{RequireNonce: true}},
		"shortest":                   {voucher: object{"nonce": b64(nonce[:8])}, sent: nonce[:8]},
		"too-short":                  {voucher: object{"nonce": b64(nonce[:7])}, sent: nonce[:7], code: artifacts.CodeVoucherMalformed, step: artifacts.StepVoucherContents},
		"too-long":                   {voucher: object{"nonce": b64(append(nonce, 1))}, sent: nonce, code: artifacts.CodeVoucherMalformed, step: artifacts.StepVoucherContents},
	} {
		t.Run(name, func(t *testing.T) {
			if test.step == "" {
				test.step = artifacts.StepVoucherNonce
			}
			signedCase{w: w, voucher: test.voucher, policy: func(p *artifacts.Policy) {
				p.Nonce, p.RequireNonce, p.LongLived = test.sent, test.policy.RequireNonce, test.policy.LongLived
			}}.check(t, test.code, test.step)
		})
	}
}

func TestOwnerCertificateChain(t *testing.T) {
	w := shared()
	selfSigned := w.Issue(nil, "/CN=Lone owner", opensslpki.Signer...)
	authority := w.Issue(nil, "/CN=Owner that is a CA", "basicConstraints=critical,CA:TRUE", "keyUsage=critical,digitalSignature,keyCertSign")
	noUsage := w.Issue(w.ownerCA, "/CN=Owner without key usage")
	serverUsage := w.Issue(w.ownerCA, "/CN=Owner for servers", append(opensslpki.Signer, "extendedKeyUsage=serverAuth")...)
	encipher := w.Issue(w.ownerCA, "/CN=Owner that cannot sign", "keyUsage=critical,keyAgreement")
	weak := w.IssueKey([]string{"rsa:1024"}, w.ownerCA, "/CN=Weak owner", opensslpki.Signer...)
	notCA := w.Issue(w.owner, "/CN=Issued by an end entity", opensslpki.Signer...)
	pin := func(e *opensslpki.Entity) object { return object{"pinned-domain-cert": b64(e.Certificate.Raw)} }
	chain := entities{w.owner, w.ownerCA}
	for name, test := range map[string]struct {
		signedCase
		code artifacts.Code
		step artifacts.Step
	}{
		"pdc-is-root":            {signedCase{voucher: pin(w.ownerRoot)}, "", ""},
		"pdc-is-root-and-inside": {signedCase{voucher: pin(w.ownerRoot), owners: entities{w.ownerRoot, w.ownerCA, w.owner}}, "", ""},
		"pdc-is-intermediate":    {signedCase{voucher: pin(w.ownerCA), owners: entities{w.owner}}, "", ""},
		"pdc-is-intermediate-and-inside": {signedCase{voucher: pin(w.ownerCA), owners: entities{w.ownerCA, w.owner}},
			"", ""},
		"pdc-is-owner":            {signedCase{voucher: pin(w.owner), owners: entities{w.owner}}, "", ""},
		"pdc-is-owner-with-chain": {signedCase{voucher: pin(w.owner), owners: chain}, "", ""},
		"self-signed":             {signedCase{voucher: pin(selfSigned), owners: entities{selfSigned}, ciSigner: selfSigned}, "", ""},
		"self-signed-ca":          {signedCase{voucher: pin(authority), owners: entities{authority}, ciSigner: authority}, "", ""},
		"without-key-usage":       {signedCase{owners: entities{w.ownerCA, noUsage}, ciSigner: noUsage}, "", ""},
		"other-extended-key-usage": {signedCase{owners: entities{w.ownerCA, serverUsage}, ciSigner: serverUsage},
			"", ""},
		"with-a-stranger": {signedCase{owners: entities{w.stray, w.ownerCA, w.owner}}, "", ""},
		"signer-in-the-conveyed-information-too": {signedCase{bundle: func(b *artifacts.Bundle) {
			b.ConveyedInformation = w.Sign(w.owner, onboardingDocument, "-econtent_type", typeJSON)
		}}, "", ""},
		"key-usage":              {signedCase{owners: entities{w.ownerCA, encipher}, ciSigner: encipher}, artifacts.CodeOwnerKeyUsage, artifacts.StepOwnerPath},
		"intermediate-missing":   {signedCase{owners: entities{w.owner}}, artifacts.CodeOwnerUntrusted, artifacts.StepOwnerPath},
		"pdc-of-the-same-name":   {signedCase{voucher: pin(w.strayRoot)}, artifacts.CodeOwnerUntrusted, artifacts.StepOwnerPath},
		"pdc-below-the-owner":    {signedCase{voucher: pin(w.owner), owners: entities{w.ownerCA}}, artifacts.CodeOwnerKeyUsage, artifacts.StepOwnerPath},
		"pdc-is-a-sibling":       {signedCase{voucher: pin(noUsage)}, artifacts.CodeOwnerUntrusted, artifacts.StepOwnerPath},
		"weak-key":               {signedCase{owners: entities{w.ownerCA, weak}, ciSigner: weak}, artifacts.CodeOwnerUntrusted, artifacts.StepOwnerPath},
		"issued-by-an-owner":     {signedCase{voucher: pin(w.owner), owners: entities{notCA, w.owner}, ciSigner: notCA}, artifacts.CodeOwnerUntrusted, artifacts.StepOwnerPath},
		"owner-of-another":       {signedCase{owners: entities{w.stray, w.strayRoot}, ciSigner: w.stray}, artifacts.CodeOwnerUntrusted, artifacts.StepOwnerPath},
		"ambiguous":              {signedCase{owners: entities{w.ownerCA, noUsage, serverUsage}}, artifacts.CodeOwnerMalformed, artifacts.StepOwnerPath},
		"signed-by-intermediate": {signedCase{ciSigner: w.ownerCA}, artifacts.CodeSignedByOther, artifacts.StepOwnerSignature},
		"signed-by-pdc":          {signedCase{ciSigner: w.ownerRoot, owners: entities{w.owner, w.ownerCA, w.ownerRoot}}, artifacts.CodeSignedByOther, artifacts.StepOwnerSignature},
		"signed-by-stranger-inside": {signedCase{ciSigner: w.stray, owners: entities{w.owner, w.ownerCA, w.stray}},
			artifacts.CodeOwnerUntrusted, artifacts.StepOwnerPath},
		"signed-by-maker": {signedCase{ciSigner: w.masa}, artifacts.CodeSignedByOther, artifacts.StepOwnerSignature},
		"changed": {signedCase{bundle: func(b *artifacts.Bundle) {
			b.ConveyedInformation = []byte(strings.Replace(string(b.ConveyedInformation), "pre-conf", "pre-cong", 1))
		}}, artifacts.CodeSignatureInvalid, artifacts.StepOwnerSignature},
		"sha1": {signedCase{ciArgs: []string{"-md", "sha1"}}, artifacts.CodeAlgorithmRefused, artifacts.StepOwnerSignature},
	} {
		t.Run(name, func(t *testing.T) {
			test.w = w
			test.check(t, test.code, test.step)
		})
	}
}

// TestOwnerCertificateExpiry uses an owner certificate whose end is before those of all others.
func TestOwnerCertificateExpiry(t *testing.T) {
	w := shared()
	issue := func() *opensslpki.Entity {
		return w.IssueKey([]string{"ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-days", "100"}, w.ownerCA, "/CN=Short-lived owner",
			opensslpki.Signer...)
	}
	short := issue()
	for !short.Certificate.NotBefore.After(w.masa.Certificate.NotBefore) { // in the second in which the others were issued
		short = issue()
	}
	end := short.Certificate.NotAfter
	for name, test := range map[string]struct {
		now        time.Time
		confidence artifacts.Confidence
		code       artifacts.Code
	}{
		"at-its-start":            {short.Certificate.NotBefore, artifacts.ClockRTC, ""},
		"at-its-end":              {end, artifacts.ClockRTC, ""},
		"a-second-after-its-end":  {end.Add(time.Second), artifacts.ClockRTC, artifacts.CodeOwnerExpired},
		"a-second-before-it":      {short.Certificate.NotBefore.Add(-time.Second), artifacts.ClockAuthenticated, artifacts.CodeOwnerExpired},
		"expired-without-a-clock": {end.AddDate(1, 0, 0), artifacts.ClockNone, ""},
		"not-yet-without-a-clock": {time.Unix(0, 0), artifacts.ClockNone, ""},
	} {
		t.Run(name, func(t *testing.T) {
			// The voucher and its signer are older than all of this.
			signedCase{w: w, owners: entities{short, w.ownerCA}, ciSigner: short,
				voucher: object{"expires-on": nil, "created-on": "2020-01-01T00:00:00Z"},
				policy:  func(p *artifacts.Policy) { p.Clock = artifacts.Clock{Now: test.now, Confidence: test.confidence} },
			}.check(t, test.code, artifacts.StepOwnerPath)
		})
	}
}
