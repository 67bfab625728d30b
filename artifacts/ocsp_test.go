package artifacts_test

import (
	"crypto/ecdsa"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/artifacts/internal/opensslpki"
	"github.com/xpu-sztp/ztp/artifacts/revinfo"
)

// responder makes certificates and OCSP responses about the owner certificate, by its issuer unless a case says otherwise.
type responder struct {
	world
	root string // the revocation list by which the issuer itself is good
}

func newResponder(w world) responder {
	return responder{w, w.CRL(w.ownerRoot, w.now().Add(-24*time.Hour), w.now().Add(24*time.Hour))}
}

const day = "1"

func (r responder) good(args ...string) string {
	return r.Respond(opensslpki.OCSP{Issuer: r.ownerCA, Subjects: entities{r.owner}, Args: append([]string{"-ndays", day}, args...)})
}

// by is a good response signed by another than the issuer.
func (r responder) by(signer *opensslpki.Entity, args ...string) string {
	return r.Respond(opensslpki.OCSP{Issuer: r.ownerCA, Signer: signer, Subjects: entities{r.owner},
		Args: append([]string{"-ndays", day}, args...)})
}

func (r responder) delegated(issuer *opensslpki.Entity, extensions ...string) *opensslpki.Entity {
	return r.Issue(issuer, "/O=Owner/CN=OCSP responder", append([]string{"basicConstraints=critical,CA:FALSE"}, extensions...)...)
}

const ocspSigning = "extendedKeyUsage=OCSPSigning"

// check judges the response as it travels in the owner certificate artifact and as it was fetched: the rules are the same.
func (r responder) check(t *testing.T, code artifacts.Code, policy func(*artifacts.Policy), files ...string) {
	t.Helper()
	files = append(files, r.root)
	always := object{"domain-cert-revocation-checks": true}
	t.Run("carried", func(t *testing.T) {
		signedCase{w: r.world, voucher: always, crls: files, policy: policy}.check(t, code, artifacts.StepOwnerRevocation)
	})
	t.Run("fetched", func(t *testing.T) {
		signedCase{w: r.world, voucher: always, policy: policy, bundle: func(b *artifacts.Bundle) { b.Status = fetched(files...) }}.
			check(t, code, artifacts.StepOwnerRevocation)
	})
}

// fetched sorts files by what is in them.
func fetched(files ...string) (s artifacts.Status) {
	for _, f := range files {
		der := opensslpki.Contents(f)
		if _, err := revinfo.ParseList(der); err == nil {
			s.CRLs = append(s.CRLs, der)
		} else {
			s.OCSPResponses = append(s.OCSPResponses, der)
		}
	}
	return s
}

func TestOCSPResponses(t *testing.T) {
	r := newResponder(shared())
	about := func(o opensslpki.OCSP) string {
		o.Issuer, o.Args = r.ownerCA, append(o.Args, "-ndays", day)
		return r.Respond(o)
	}
	delegate := r.delegated(r.ownerCA, ocspSigning)
	sibling := r.Issue(r.ownerCA, "/O=Owner/CN=Other owner", opensslpki.Signer...)
	weak := r.IssueKey([]string{"rsa:1024"}, r.ownerCA, "/CN=Weak responder", ocspSigning)
	rsa := r.IssueKey([]string{"rsa:2048"}, r.ownerCA, "/CN=RSA responder", ocspSigning)
	unknown, revoked := artifacts.CodeRevocationUnknown, artifacts.CodeOwnerRevoked
	listed := r.CRL(r.ownerCA, r.now().Add(-time.Hour), r.now().Add(time.Hour), delegate)
	for name, test := range map[string]struct {
		files []string
		code  artifacts.Code
	}{
		"good":                        {files: []string{r.good()}},
		"revoked":                     {files: []string{about(opensslpki.OCSP{Revoked: entities{r.owner}})}, code: revoked},
		"unknown":                     {files: []string{about(opensslpki.OCSP{Strange: entities{r.owner}})}, code: unknown},
		"good-and-unknown":            {files: []string{about(opensslpki.OCSP{Strange: entities{r.owner}}), r.good()}},
		"good-and-revoked":            {files: []string{about(opensslpki.OCSP{Revoked: entities{r.owner}}), r.good()}, code: revoked},
		"good-response-revoking-list": {files: []string{r.good(), r.CRL(r.ownerCA, r.now().Add(-time.Hour), r.now().Add(time.Hour), r.owner)}, code: revoked},
		"with-a-nonce":                {files: []string{r.good("-nonce")}},
		"without-a-nonce":             {files: []string{r.good("-no_nonce")}},
		"responder-by-key":            {files: []string{r.good("-resp_key_id")}},
		"without-certificates":        {files: []string{r.good("-resp_no_certs")}},
		"sha256-identifiers":          {files: []string{r.good("-sha256")}},
		"sha512-identifiers":          {files: []string{r.good("-sha512")}},
		"sha224-identifiers":          {files: []string{r.good("-sha224")}, code: unknown},
		"among-others":                {files: []string{about(opensslpki.OCSP{Subjects: entities{sibling, r.owner}, Revoked: entities{r.stray}})}},
		"sha384-signature":            {files: []string{r.good("-rmd", "sha384")}},
		"sha1-signature":              {files: []string{r.good("-rmd", "sha1")}, code: unknown},
		"broken-signature":            {files: []string{r.good("-badsig")}, code: unknown},
		"about-another":               {files: []string{about(opensslpki.OCSP{Subjects: entities{sibling}})}, code: unknown},
		"of-another-issuer": {files: []string{r.Respond(opensslpki.OCSP{Issuer: r.strayRoot, Subjects: entities{r.owner},
			Args: []string{"-ndays", day}})}, code: unknown},
		"signed-by-another-authority":  {files: []string{r.by(r.strayRoot)}, code: unknown},
		"signed-by-the-root":           {files: []string{r.by(r.ownerRoot)}, code: unknown},
		"delegated":                    {files: []string{r.by(delegate)}},
		"delegated-by-key":             {files: []string{r.by(delegate, "-resp_key_id")}},
		"delegated-rsa":                {files: []string{r.by(rsa)}},
		"delegated-pss":                {files: []string{r.by(rsa, "-rsigopt", "rsa_padding_mode:pss", "-rsigopt", "rsa_pss_saltlen:32")}},
		"delegated-sha1-signature":     {files: []string{r.by(rsa, "-rmd", "sha1")}, code: unknown},
		"delegated-weak-key":           {files: []string{r.by(weak)}, code: unknown},
		"delegated-without-itself":     {files: []string{r.by(delegate, "-resp_no_certs")}, code: unknown},
		"delegated-without-purpose":    {files: []string{r.by(r.delegated(r.ownerCA))}, code: unknown},
		"delegated-for-any-purpose":    {files: []string{r.by(r.delegated(r.ownerCA, "extendedKeyUsage=anyExtendedKeyUsage"))}, code: unknown},
		"delegated-other-key-usage":    {files: []string{r.by(r.delegated(r.ownerCA, ocspSigning, "keyUsage=keyEncipherment"))}, code: unknown},
		"delegated-unknown-critical":   {files: []string{r.by(r.delegated(r.ownerCA, ocspSigning, "1.2.3.4=critical,DER:0500"))}, code: unknown},
		"delegated-by-another":         {files: []string{r.by(r.delegated(r.strayRoot, ocspSigning))}, code: unknown},
		"delegated-by-the-root":        {files: []string{r.by(r.delegated(r.ownerRoot, ocspSigning))}, code: unknown},
		"delegated-self-signed":        {files: []string{r.by(r.delegated(nil, ocspSigning))}, code: unknown},
		"delegated-revoked":            {files: []string{r.by(delegate), r.CRL(r.ownerCA, r.now().Add(-2*time.Hour), r.now().Add(-time.Hour), delegate)}, code: unknown},
		"delegated-revoked-other-good": {files: []string{r.by(delegate), listed}}, // the list itself says that the owner is good
		"failure":                      {files: []string{r.WriteOCSP([]byte{0x30, 3, 0x0a, 1, 3})}, code: unknown},
		"failure-then-good":            {files: []string{r.WriteOCSP([]byte{0x30, 3, 0x0a, 1, 6}), r.good()}},
		"success-without-answer":       {files: []string{r.WriteOCSP([]byte{0x30, 3, 0x0a, 1, 0})}, code: unknown},
		"empty":                        {files: []string{r.WriteOCSP([]byte{0x30, 0})}, code: unknown},
	} {
		t.Run(name, func(t *testing.T) { r.check(t, test.code, nil, test.files...) })
	}
}

// TestOCSPDates holds responses against a clock one second off each end of their validity, and against none.
func TestOCSPDates(t *testing.T) {
	r := newResponder(shared())
	dated, undated := r.good(), r.Respond(opensslpki.OCSP{Issuer: r.ownerCA, Subjects: entities{r.owner}})
	answer := func(file string) revinfo.Answer {
		response, err := revinfo.ParseResponse(opensslpki.Contents(file))
		if err != nil {
			t.Fatal(err)
		}
		return response.Answers[0]
	}
	from, to := answer(dated).ThisUpdate, answer(dated).NextUpdate
	if !answer(undated).NextUpdate.IsZero() || to.Sub(from) != 24*time.Hour {
		t.Fatalf("responses are valid from %v to %v and to %v", from, to, answer(undated).NextUpdate)
	}
	short := r.IssueKey([]string{"ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-days", "1"}, r.ownerCA, "/CN=Old responder", ocspSigning)
	delegated, end := r.by(short, "-ndays", "2"), short.Certificate.NotAfter
	hour := answer(undated).ThisUpdate.Add(time.Hour)
	unknown := artifacts.CodeRevocationUnknown
	for name, test := range map[string]struct {
		file       string
		now        time.Time
		confidence artifacts.Confidence
		code       artifacts.Code
	}{
		"begins":               {dated, from, artifacts.ClockRTC, ""},
		"begins-in-a-second":   {dated, from.Add(-time.Second), artifacts.ClockRTC, ""},
		"ends":                 {dated, to, artifacts.ClockRTC, ""},
		"ended-a-second-ago":   {dated, to.Add(time.Second), artifacts.ClockRTC, unknown},
		"ends-in-a-second":     {dated, to.Add(-time.Second), artifacts.ClockAuthenticated, ""},
		"undated-fresh":        {undated, hour, artifacts.ClockRTC, ""},
		"undated-old":          {undated, hour.Add(time.Second), artifacts.ClockRTC, unknown},
		"responder-holds":      {delegated, end, artifacts.ClockRTC, ""},
		"responder-expired":    {delegated, end.Add(time.Second), artifacts.ClockRTC, unknown},
		"old-without-clock":    {dated, to.Add(time.Second), artifacts.ClockNone, ""},
		"undated-in-year-1970": {undated, time.Unix(0, 0), artifacts.ClockNone, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := r
			r.root = r.CRL(r.ownerRoot, from.Add(-48*time.Hour), to.Add(48*time.Hour))
			r.check(t, test.code, func(p *artifacts.Policy) {
				p.Clock = artifacts.Clock{Now: test.now, Confidence: test.confidence}
				p.UncheckedRevocation = true
			}, test.file)
		})
	}
}

// TestOCSPDamaged cuts, stretches and changes a response that was fetched.
func TestOCSPDamaged(t *testing.T) {
	r := newResponder(shared())
	whole := opensslpki.Contents(r.good())
	root := opensslpki.Contents(r.root)
	b, d, p := signedCase{w: r.world, voucher: object{"domain-cert-revocation-checks": true}}.build()
	judge := func(response []byte) error {
		b.Status = artifacts.Status{CRLs: [][]byte{root}, OCSPResponses: [][]byte{response}}
		_, _, err := artifacts.Validate(b, nil, d, p)
		return err
	}
	if err := judge(whole); err != nil {
		t.Fatal(err)
	}
	for name, response := range map[string][]byte{
		"trailing-byte": append(slices.Clone(whole), 0),
		"two":           append(slices.Clone(whole), whole...),
		"nothing":       {},
		"oversized":     append(slices.Clone(whole), make([]byte, revinfo.MaxResponseBytes)...),
		"a-list":        root,
		"html":          []byte("<html>Please log in</html>"),
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, judge(response), artifacts.CodeRevocationUnknown, artifacts.StepOwnerRevocation)
		})
	}
	t.Run("cut", func(t *testing.T) {
		for n := range whole {
			refused(t, judge(whole[:n]), artifacts.CodeRevocationUnknown, artifacts.StepOwnerRevocation)
		}
	})
	// Everything but the certificates that come along, which this response does not need, is signed or says what is.
	response := opensslpki.Contents(r.good("-resp_no_certs"))
	t.Run("changed", func(t *testing.T) {
		for i := range response {
			changed := slices.Clone(response)
			changed[i] ^= 1
			refused(t, judge(changed), artifacts.CodeRevocationUnknown, artifacts.StepOwnerRevocation)
		}
	})
}

// TestOCSPAboutItself has the owner certificate, which is allowed to sign OCSP responses, say that it is good.
func TestOCSPAboutItself(t *testing.T) {
	r := newResponder(shared())
	self := r.Issue(r.ownerCA, "/O=Owner/CN=Owner", append(slices.Clone(opensslpki.Signer), ocspSigning)...)
	file := r.Respond(opensslpki.OCSP{Issuer: r.ownerCA, Signer: self, Subjects: entities{self}, Args: []string{"-ndays", day}})
	signedCase{w: r.world, voucher: object{"domain-cert-revocation-checks": true}, owners: entities{self, r.ownerCA}, ciSigner: self,
		crls: []string{r.root, file}}.check(t, artifacts.CodeRevocationUnknown, artifacts.StepOwnerRevocation)
}

// TestOCSPAboutItselfRespelled has an authority vouch for itself by a copy of its certificate that differs in what nobody
// signed: of the two numbers in an ECDSA signature anybody can negate one.
func TestOCSPAboutItselfRespelled(t *testing.T) {
	r := newResponder(shared())
	issuing := r.Issue(r.ownerRoot, "/O=Owner/CN=Owner issuing CA 2", "basicConstraints=critical,CA:TRUE",
		"keyUsage=critical,keyCertSign,cRLSign,digitalSignature", ocspSigning)
	owner := r.ownedBy(issuing)
	respelled := *issuing
	respelled.CertFile = r.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: respell(t, issuing, r.ownerRoot)}))
	about := r.Respond(opensslpki.OCSP{Issuer: issuing, Subjects: entities{owner}, Args: []string{"-ndays", day}})
	for name, signer := range map[string]*opensslpki.Entity{"itself": issuing, "respelled": &respelled} {
		t.Run(name, func(t *testing.T) {
			self := r.Respond(opensslpki.OCSP{Issuer: r.ownerRoot, Signer: signer, Subjects: entities{issuing}, Args: []string{"-ndays", day}})
			signedCase{w: r.world, voucher: object{"domain-cert-revocation-checks": true}, owners: entities{owner, issuing}, ciSigner: owner,
				crls: []string{self, about}}.check(t, artifacts.CodeRevocationUnknown, artifacts.StepOwnerRevocation)
		})
	}
}

// respell returns e's certificate with the other signature that its issuer's key verifies.
func respell(t *testing.T, e, issuer *opensslpki.Entity) []byte {
	t.Helper()
	var c struct {
		Signed, Algorithm asn1.RawValue
		Signature         asn1.BitString
	}
	var pair struct{ R, S *big.Int }
	_, err := asn1.Unmarshal(e.Certificate.Raw, &c)
	if err == nil {
		_, err = asn1.Unmarshal(c.Signature.Bytes, &pair)
	}
	if err != nil {
		t.Fatal(err)
	}
	pair.S.Sub(issuer.Certificate.PublicKey.(*ecdsa.PublicKey).Params().N, pair.S)
	signature, err := asn1.Marshal(pair)
	if err != nil {
		t.Fatal(err)
	}
	c.Signature = asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}
	der, err := asn1.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestOCSPOfWeakIssuer pins an authority whose own issuer has a key that anybody could have found by now.
func TestOCSPOfWeakIssuer(t *testing.T) {
	r := newResponder(shared())
	weak := r.IssueKey([]string{"rsa:1024"}, nil, "/O=Owner/CN=Weak root", opensslpki.Authority...)
	issuing := r.Recertify(r.ownerCA, weak, "/O=Owner/CN=Owner issuing CA", opensslpki.Authority...)
	owner := r.ownedBy(issuing)
	pinned := r.Respond(opensslpki.OCSP{Issuer: weak, Signer: r.delegated(weak, ocspSigning), Subjects: entities{issuing}, Args: []string{"-ndays", day}})
	about := r.Respond(opensslpki.OCSP{Issuer: issuing, Subjects: entities{owner}, Args: []string{"-ndays", day}})
	signedCase{w: r.world, voucher: object{"domain-cert-revocation-checks": true, "pinned-domain-cert": b64(issuing.Certificate.Raw)},
		owners: entities{owner, issuing, weak}, ciSigner: owner, crls: []string{pinned, about}}.
		check(t, artifacts.CodeRevocationUnknown, artifacts.StepOwnerRevocation)
}

// TestOCSPForPinned checks a pinned intermediate by a response of its issuer, whose certificate came along.
func TestOCSPForPinned(t *testing.T) {
	r := newResponder(shared())
	about := func(revoked bool) string {
		o := opensslpki.OCSP{Issuer: r.ownerRoot, Args: []string{"-ndays", day}}
		if revoked {
			o.Revoked = entities{r.ownerCA}
		} else {
			o.Subjects = entities{r.ownerCA}
		}
		return r.Respond(o)
	}
	owners := entities{r.owner, r.ownerCA, r.ownerRoot}
	for name, test := range map[string]struct {
		revoked bool
		owners  entities
		code    artifacts.Code
	}{
		"good":           {false, owners, ""},
		"revoked":        {true, owners, artifacts.CodeOwnerRevoked},
		"without-issuer": {false, owners[:2], artifacts.CodeRevocationUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			signedCase{w: r.world, voucher: object{"domain-cert-revocation-checks": true, "pinned-domain-cert": b64(r.ownerCA.Certificate.Raw)},
				owners: test.owners, crls: []string{r.good(), about(test.revoked)}}.check(t, test.code, artifacts.StepOwnerRevocation)
		})
	}
}
