package artifacts_test

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/artifacts/internal/opensslpki"
)

// TestVoucherSignerPurpose has the maker issue certificates for all kinds of purposes, and each of them sign a voucher.
func TestVoucherSignerPurpose(t *testing.T) { // RV-13
	w := shared()
	const leaf, digital = "basicConstraints=critical,CA:FALSE", "keyUsage=critical,digitalSignature"
	for name, test := range map[string]struct {
		extensions []string
		code       artifacts.Code
	}{
		"no-usage-at-all":        {[]string{leaf}, ""},
		"digital-signatures":     {[]string{leaf, digital}, ""},
		"content-commitment":     {[]string{leaf, "keyUsage=critical,nonRepudiation"}, ""},
		"for-code":               {[]string{leaf, digital, "extendedKeyUsage=codeSigning"}, ""},
		"for-servers-and-code":   {[]string{leaf, digital, "extendedKeyUsage=serverAuth,codeSigning"}, ""},
		"for-servers-and-others": {[]string{leaf, digital, "extendedKeyUsage=serverAuth,1.2.3.4"}, ""},
		"for-others":             {[]string{leaf, digital, "extendedKeyUsage=1.2.3.4"}, ""},
		"for-servers":            {[]string{leaf, digital, "extendedKeyUsage=serverAuth"}, artifacts.CodeVoucherUntrusted},
		"for-clients":            {[]string{leaf, digital, "extendedKeyUsage=clientAuth"}, artifacts.CodeVoucherUntrusted},
		"for-both":               {[]string{leaf, digital, "extendedKeyUsage=serverAuth,clientAuth"}, artifacts.CodeVoucherUntrusted},
		"for-certificates":       {opensslpki.Authority, artifacts.CodeVoucherUntrusted},
		"for-keys":               {[]string{leaf, "keyUsage=critical,keyAgreement"}, artifacts.CodeVoucherUntrusted},
		"no-key-identifiers":     {[]string{leaf, "subjectKeyIdentifier=none", "authorityKeyIdentifier=none"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			signer := w.Issue(w.makerRoot, "/O=Acme/CN=Acme "+name, test.extensions...)
			signedCase{w: w, masa: signer}.check(t, test.code, artifacts.StepVoucherSignature)
		})
	}
}

// TestVoucherSignerAmongDecoys has strangers certify the key of the voucher service, so that several certificates have the
// identifier of the signer.
func TestVoucherSignerAmongDecoys(t *testing.T) {
	w := shared()
	chain := entities{w.masaCA}
	for _, issuer := range (entities{w.strayRoot, w.ownerRoot, w.tlsRoot, w.ownerCA}) {
		chain = append(chain, w.Recertify(w.masa, issuer, "/O=Decoy/CN=Acme MASA", opensslpki.Signer...))
	}
	signedCase{w: w, masa: w.masa, masaChain: chain, ovArgs: []string{"-keyid"}}.check(t, "", "")
	signedCase{w: w, masa: w.masa, masaChain: chain[1:], ovArgs: []string{"-keyid"}}.check(t, artifacts.CodeVoucherUntrusted, artifacts.StepVoucherSignature)
}

// TestVoucherSignerCandidates has more and more certificates with the identifier of the signer before the right one: what they
// can make the device do is bounded.
func TestVoucherSignerCandidates(t *testing.T) {
	w := shared()
	chain := entities{w.masaCA}
	for i := range 8 { // CMS puts certificates in the order of their lengths, and these are shorter
		chain = append(chain, w.Recertify(w.masa, w.strayRoot, "/CN="+string(rune('A'+i)), opensslpki.Signer...))
	}
	signedCase{w: w, masa: w.masa, masaChain: chain[:8], ovArgs: []string{"-keyid"}}.check(t, "", "")
	signedCase{w: w, masa: w.masa, masaChain: chain, ovArgs: []string{"-keyid"}}.check(t, artifacts.CodeVoucherUntrusted, artifacts.StepVoucherSignature)
}

// TestOwnerWithoutKeyIdentifiers: key identifiers may be absent, in the certificate or in its issuer's; what is absent
// contradicts nothing.
func TestOwnerWithoutKeyIdentifiers(t *testing.T) {
	w := shared()
	none := []string{"subjectKeyIdentifier=none", "authorityKeyIdentifier=none"}
	root := w.Issue(nil, "/O=Owner/CN=Bare root", append(none, opensslpki.Authority...)...)
	for name, issuer := range map[string]*opensslpki.Entity{"issuer-has-one": w.ownerCA, "neither": root} {
		t.Run(name, func(t *testing.T) {
			owner := w.Issue(issuer, "/O=Owner/CN=Bare owner", append(none, opensslpki.Signer...)...)
			signedCase{w: w, ciSigner: owner, owners: entities{owner}, voucher: object{"pinned-domain-cert": b64(issuer.Certificate.Raw)}}.check(t, "", "")
		})
	}
	t.Run("only-the-owner-has-one", func(t *testing.T) {
		owner := w.Issue(w.ownerCA, "/O=Owner/CN=Owner", opensslpki.Signer...)
		bare := w.Recertify(w.ownerCA, w.ownerRoot, "/O=Owner/CN=Owner issuing CA", append(none[:1:1], opensslpki.Authority...)...)
		signedCase{w: w, ciSigner: owner, owners: entities{owner, bare}}.check(t, "", "")
	})
}

// TestPeriodInWords: who reads that a path does not hold at this time has to learn which certificate it is, and when it does.
func TestPeriodInWords(t *testing.T) {
	w := shared()
	short := w.IssueKey([]string{"ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-days", "100"}, w.tlsCA, "/CN=Short-lived",
		"basicConstraints=critical,CA:FALSE", "extendedKeyUsage=serverAuth", "subjectAltName=DNS:bs1.example.net")
	start, end := short.Certificate.NotBefore.Format(time.RFC3339), short.Certificate.NotAfter.Format(time.RFC3339)
	for name, now := range map[string]time.Time{
		"over":    short.Certificate.NotAfter.Add(time.Second),
		"not yet": w.tlsCA.Certificate.NotBefore.Add(-time.Hour),
	} {
		_, err := artifacts.AuthenticateServer([]*x509.Certificate{short.Certificate, w.tlsCA.Certificate}, "bs1.example.net",
			artifacts.PlainAnchors(w.chain(w.tlsRoot)), artifacts.Clock{Now: now, Confidence: artifacts.ClockRTC})
		refused(t, err, artifacts.CodeServerExpired, artifacts.StepServerCertificate)
		text := err.Error()
		for _, want := range []string{"Short-lived", start, end, now.UTC().Format(time.RFC3339)} {
			if !strings.Contains(text, want) {
				t.Errorf("%s: %q does not say %s", name, text, want)
			}
		}
	}
}

// TestVoucherDateForms writes dates in all ways that RFC 3339 allows, and some that it does not.
func TestVoucherDateForms(t *testing.T) { // RV-01, R5.4-02
	w := shared()
	now := w.now().UTC().Truncate(24 * time.Hour).Add(12*time.Hour + 500*time.Millisecond)
	if now.Before(w.now()) { // noon tomorrow, then: the certificates must have been made, and the voucher expires in a day
		now = now.Add(24 * time.Hour)
	}
	day := now.Format("2006-01-02")
	for name, test := range map[string]struct {
		member, date string
		code         artifacts.Code
		step         artifacts.Step
	}{
		"fraction-before":       {"created-on", day + "T12:00:00.499999999Z", "", ""},
		"fraction-equal":        {"created-on", day + "T12:00:00.5Z", "", ""},
		"fraction-after":        {"created-on", day + "T12:00:00.500000001Z", artifacts.CodeVoucherNotYetValid, artifacts.StepVoucherDates},
		"offset-east":           {"created-on", day + "T14:00:00+02:00", "", ""},
		"offset-east-later":     {"created-on", day + "T14:00:01+02:00", artifacts.CodeVoucherNotYetValid, artifacts.StepVoucherDates},
		"offset-west":           {"created-on", day + "T07:00:00-05:00", "", ""},
		"offset-west-later":     {"created-on", day + "T07:00:01-05:00", artifacts.CodeVoucherNotYetValid, artifacts.StepVoucherDates},
		"offset-of-half-hours":  {"created-on", day + "T17:30:00+05:30", "", ""},
		"expires-east":          {"expires-on", day + "T14:00:00+02:00", artifacts.CodeVoucherExpired, artifacts.StepVoucherDates},
		"expires-east-later":    {"expires-on", day + "T14:00:01+02:00", "", ""},
		"expires-fraction":      {"expires-on", day + "T12:00:00.5Z", artifacts.CodeVoucherExpired, artifacts.StepVoucherDates},
		"expires-fraction-more": {"expires-on", day + "T12:00:00.500000001Z", "", ""},
		"expires-2049":          {"expires-on", "2049-12-31T23:59:59Z", "", ""},
		"expires-2050":          {"expires-on", "2050-01-01T00:00:00Z", "", ""},
		"expires-9999":          {"expires-on", "9999-12-31T23:59:59Z", "", ""},
		"expires-10000":         {"expires-on", "10000-01-01T00:00:00Z", artifacts.CodeVoucherMalformed, artifacts.StepVoucherContents},
		"expires-in-1970":       {"expires-on", "1970-01-01T00:00:00Z", artifacts.CodeVoucherExpired, artifacts.StepVoucherDates},
		"expires-in-year-1":     {"expires-on", "0001-01-01T00:00:00Z", artifacts.CodeVoucherMalformed, artifacts.StepVoucherContents},
		"the-same-elsewhere":    {"expires-on", "0001-01-01T01:00:00+01:00", artifacts.CodeVoucherMalformed, artifacts.StepVoucherContents},
		"a-second-after-that":   {"expires-on", "0001-01-01T00:00:01Z", artifacts.CodeVoucherExpired, artifacts.StepVoucherDates},
		"leap-second":           {"created-on", "2016-12-31T23:59:60Z", artifacts.CodeVoucherMalformed, artifacts.StepVoucherContents},
		"comma":                 {"created-on", "2020-01-01T00:00:00,5Z", artifacts.CodeVoucherMalformed, artifacts.StepVoucherContents},
		"one-digit-hour":        {"created-on", "2020-01-01T0:00:00Z", artifacts.CodeVoucherMalformed, artifacts.StepVoucherContents},
		"offset-of-a-day":       {"created-on", "2020-01-01T00:00:00+24:00", artifacts.CodeVoucherMalformed, artifacts.StepVoucherContents},
		"offset-of-23:59":       {"created-on", "2020-01-01T00:00:00-23:59", "", ""},
		"offset-of-60-minutes":  {"created-on", "2020-01-01T00:00:00+01:60", artifacts.CodeVoucherMalformed, artifacts.StepVoucherContents},
		"small-letters":         {"created-on", "2020-01-01t00:00:00z", artifacts.CodeVoucherMalformed, artifacts.StepVoucherContents},
		"empty":                 {"created-on", "", artifacts.CodeVoucherMalformed, artifacts.StepVoucherContents},
		"space-after":           {"created-on", "2020-01-01T00:00:00Z ", artifacts.CodeVoucherMalformed, artifacts.StepVoucherContents},
	} {
		t.Run(name, func(t *testing.T) {
			signedCase{w: w, voucher: object{"created-on": "2020-01-01T00:00:00Z"}.with(object{test.member: test.date}),
				policy: func(p *artifacts.Policy) {
					p.Clock = artifacts.Clock{Now: now.In(time.FixedZone("", -11*3600)), Confidence: artifacts.ClockRTC}
				},
			}.check(t, test.code, test.step)
		})
	}
}
