package artifacts_test

import (
	"slices"
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/artifacts/internal/opensslpki"
)

func TestDomainCertRevocationChecks(t *testing.T) {
	w := shared()
	day := 24 * time.Hour
	start, end := w.now().Add(-day), w.now().Add(day)
	good := []string{w.CRL(w.ownerRoot, start, end, w.stray), w.CRL(w.ownerCA, start, end)}
	revoked := []string{good[0], w.CRL(w.ownerCA, start, end, w.owner)}
	revokedCA := []string{w.CRL(w.ownerRoot, start, end, w.ownerCA), good[1]}
	stale := []string{good[0], w.CRL(w.ownerCA, start, w.now().Add(-time.Second))}
	future := []string{good[0], w.CRL(w.ownerCA, w.now().Add(time.Hour), end)}
	forged := []string{w.CRL(w.strayRoot, start, end), good[1]} // same issuer name, another key
	staleRevoked := []string{good[0], w.CRL(w.ownerCA, start, w.now().Add(-time.Second), w.owner)}
	none := func(p *artifacts.Policy) { p.Clock.Confidence = artifacts.ClockNone }
	unchecked := func(p *artifacts.Policy) { p.Clock.Confidence, p.UncheckedRevocation = artifacts.ClockNone, true }
	pinnedCA := b64(w.ownerCA.Certificate.Raw)
	for name, test := range map[string]struct {
		flag   any
		crls   []string
		policy func(*artifacts.Policy)
		pinned any
		owners entities
		code   artifacts.Code
	}{
		"true-good":                        {flag: true, crls: good},
		"true-good-and-stale":              {flag: true, crls: append(stale[1:], good...)},
		"true-good-and-forged":             {flag: true, crls: append(good[:2:2], forged[0])},
		"true-revoked":                     {flag: true, crls: revoked, code: artifacts.CodeOwnerRevoked},
		"true-intermediate-revoked":        {flag: true, crls: revokedCA, code: artifacts.CodeOwnerRevoked},
		"true-stale":                       {flag: true, crls: stale, code: artifacts.CodeRevocationUnknown},
		"true-stale-but-revoked":           {flag: true, crls: append(good[1:2:2], staleRevoked...), code: artifacts.CodeOwnerRevoked},
		"true-not-yet-valid":               {flag: true, crls: future, code: artifacts.CodeRevocationUnknown},
		"true-forged":                      {flag: true, crls: forged, code: artifacts.CodeRevocationUnknown},
		"true-absent":                      {flag: true, code: artifacts.CodeRevocationUnknown},
		"true-only-for-the-owner":          {flag: true, crls: good[1:], code: artifacts.CodeRevocationUnknown},
		"true-only-for-the-issuer":         {flag: true, crls: good[:1], code: artifacts.CodeRevocationUnknown},
		"string-true-good":                 {flag: "true", crls: good},
		"string-true-absent":               {flag: "true", code: artifacts.CodeRevocationUnknown},
		"false-revoked":                    {flag: false, crls: revoked},
		"false-absent":                     {flag: false},
		"string-false-revoked":             {flag: "false", crls: revoked},
		"unset-absent":                     {},
		"unset-stale":                      {crls: stale},
		"unset-good":                       {crls: good},
		"unset-revoked":                    {crls: revoked, code: artifacts.CodeOwnerRevoked},
		"unset-revoked-without-clock":      {crls: revoked, policy: none, code: artifacts.CodeOwnerRevoked},
		"true-without-clock":               {flag: true, crls: good, policy: none, code: artifacts.CodeRevocationUnknown},
		"true-without-clock-unchecked":     {flag: true, crls: stale, policy: unchecked},
		"true-without-clock-revoked":       {flag: true, crls: revoked, policy: unchecked, code: artifacts.CodeOwnerRevoked},
		"true-without-clock-absent":        {flag: true, policy: unchecked, code: artifacts.CodeRevocationUnknown},
		"true-pinned-intermediate":         {flag: true, crls: good, pinned: pinnedCA, owners: entities{w.owner, w.ownerCA, w.ownerRoot}},
		"true-pinned-intermediate-revoked": {flag: true, crls: revokedCA, pinned: pinnedCA, owners: entities{w.owner, w.ownerCA, w.ownerRoot}, code: artifacts.CodeOwnerRevoked},
		"true-pinned-intermediate-unknown": {flag: true, crls: good[1:], pinned: pinnedCA, code: artifacts.CodeRevocationUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			changes := object{"domain-cert-revocation-checks": test.flag}
			if test.pinned != nil {
				changes["pinned-domain-cert"] = test.pinned
			}
			owners := test.owners
			if owners == nil {
				owners = entities{w.owner, w.ownerCA}
			}
			signedCase{w: w, voucher: changes, crls: test.crls, owners: owners, policy: test.policy}.check(t, test.code,
				artifacts.StepOwnerRevocation)
		})
	}
	for name, flag := range map[string]any{"number": 1, "word": "yes", "null-is-a-word": "null", "other-case": "True"} {
		t.Run("malformed-"+name, func(t *testing.T) {
			signedCase{w: w, voucher: object{"domain-cert-revocation-checks": flag}}.check(t, artifacts.CodeVoucherMalformed,
				artifacts.StepVoucherContents)
		})
	}
}

// TestRevocationNothingToRevoke pins a self-signed owner certificate: nobody could revoke it.
func TestRevocationNothingToRevoke(t *testing.T) {
	w := shared()
	self := w.Issue(nil, "/CN=Lone owner", "keyUsage=critical,digitalSignature")
	signedCase{w: w, owners: entities{self}, ciSigner: self, voucher: object{
		"domain-cert-revocation-checks": true, "pinned-domain-cert": b64(self.Certificate.Raw),
	}}.check(t, "", "")
}

// TestRevocationListInVoucher has the lists travel in the voucher instead of the owner certificate artifact.
func TestRevocationListInVoucher(t *testing.T) {
	w := shared()
	start, end := w.now().Add(-time.Hour), w.now().Add(time.Hour)
	root := w.CRL(w.ownerRoot, start, end)
	for name, test := range map[string]struct {
		list string
		code artifacts.Code
	}{
		"good":    {w.CRL(w.ownerCA, start, end), ""},
		"revoked": {w.CRL(w.ownerCA, start, end, w.owner), artifacts.CodeOwnerRevoked},
	} {
		t.Run(name, func(t *testing.T) {
			signedCase{w: w, voucher: object{"domain-cert-revocation-checks": true}, bundle: func(b *artifacts.Bundle) {
				b.OwnershipVoucher = opensslpki.AddCRLs(b.OwnershipVoucher, root, test.list)
			}}.check(t, test.code, artifacts.StepOwnerRevocation)
		})
	}
}

// TestRevocationListScope signs lists that speak about less than all certificates and reasons.
func TestRevocationListScope(t *testing.T) {
	w := shared()
	day := 24 * time.Hour
	start, end := w.now().Add(-day), w.now().Add(day)
	root := w.CRL(w.ownerRoot, start, end)
	const point = "issuingDistributionPoint=critical,@idp\n[idp]\nfullname=URI:http://crl.example/owner"
	named := w.Recertify(w.owner, w.ownerCA, "/O=Owner/CN=Owner", append(slices.Clone(opensslpki.Signer),
		"crlDistributionPoints=URI:http://crl.example/owner")...)
	for name, test := range map[string]struct {
		extension string
		owner     *opensslpki.Entity
		code      artifacts.Code
	}{
		"user-certificates":      {"issuingDistributionPoint=critical,@idp\n[idp]\nonlyuser=TRUE", nil, ""},
		"authority-certificates": {"issuingDistributionPoint=critical,@idp\n[idp]\nonlyCA=TRUE", nil, artifacts.CodeRevocationUnknown},
		"some-reasons":           {"issuingDistributionPoint=critical,@idp\n[idp]\nonlysomereasons=keyCompromise", nil, artifacts.CodeRevocationUnknown},
		"indirect":               {"issuingDistributionPoint=critical,@idp\n[idp]\nindirectCRL=TRUE", nil, artifacts.CodeRevocationUnknown},
		"point":                  {point, named, ""},
		"another-point":          {point + "/2", named, artifacts.CodeRevocationUnknown},
		"point-of-no-name":       {point, nil, artifacts.CodeRevocationUnknown},
		"one-point-of-several":   {point + "/2,URI:http://crl.example/owner", named, ""},
		"whole-with-point-named": {"authorityKeyIdentifier=keyid", named, ""},
		"unknown-critical":       {"1.2.3.4=critical,DER:0500", nil, artifacts.CodeRevocationUnknown},
		"unknown":                {"1.2.3.4=DER:0500", nil, ""},
		"delta":                  {"2.5.29.27=critical,DER:020101", nil, artifacts.CodeRevocationUnknown},
		"delta-not-critical":     {"2.5.29.27=DER:020101", nil, artifacts.CodeRevocationUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			list := w.CRLWith(test.extension, w.ownerCA, start, end)
			c := signedCase{w: w, voucher: object{"domain-cert-revocation-checks": true}, crls: []string{root, list}}
			if test.owner != nil {
				c.owners, c.ciSigner = entities{test.owner, w.ownerCA}, test.owner
			}
			c.check(t, test.code, artifacts.StepOwnerRevocation)
		})
	}
}

// TestRevocationListSigner has lists signed by whom or how they do not count.
func TestRevocationListSigner(t *testing.T) {
	w := shared()
	start, end := w.now().Add(-time.Hour), w.now().Add(time.Hour)
	root := w.CRL(w.ownerRoot, start, end)
	issuing := w.Recertify(w.ownerCA, w.ownerRoot, "/O=Owner/CN=Owner issuing CA", "basicConstraints=critical,CA:TRUE",
		"keyUsage=critical,keyCertSign")
	for name, test := range map[string]struct {
		digest string
		issuer *opensslpki.Entity
		code   artifacts.Code
	}{
		"sha256":               {"sha256", w.ownerCA, ""},
		"sha512":               {"sha512", w.ownerCA, ""},
		"sha1":                 {"sha1", w.ownerCA, artifacts.CodeRevocationUnknown},
		"not-for-signing-them": {"sha256", issuing, artifacts.CodeRevocationUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			list := w.CRLWith("authorityKeyIdentifier=keyid\n[d]\ndefault_md="+test.digest, w.ownerCA, start, end)
			signedCase{w: w, voucher: object{"domain-cert-revocation-checks": true}, crls: []string{root, list},
				owners: entities{w.owner, test.issuer}}.check(t, test.code, artifacts.StepOwnerRevocation)
		})
	}
}

// TestRevocationListDates holds lists against a clock one second off each end of their validity, which begins five minutes
// early for clocks that are behind.
func TestRevocationListDates(t *testing.T) {
	w := shared()
	start, end := w.now().Add(5*time.Minute).Truncate(time.Second), w.now().Add(time.Hour).Truncate(time.Second)
	early := start.Add(-5 * time.Minute)
	lists := []string{w.CRL(w.ownerRoot, start.Add(-time.Hour), end.Add(time.Hour)), w.CRL(w.ownerCA, start, end)}
	for name, test := range map[string]struct {
		now  time.Time
		code artifacts.Code
	}{
		"begins":                {start, ""},
		"begins-in-5-minutes":   {early, ""},
		"begins-a-second-later": {early.Add(-time.Second), artifacts.CodeRevocationUnknown},
		"ends":                  {end, ""},
		"ended-a-second-ago":    {end.Add(time.Second), artifacts.CodeRevocationUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			signedCase{w: w, voucher: object{"domain-cert-revocation-checks": true}, crls: lists,
				policy: func(p *artifacts.Policy) { p.Clock.Now = test.now }}.check(t, test.code, artifacts.StepOwnerRevocation)
		})
	}
}
