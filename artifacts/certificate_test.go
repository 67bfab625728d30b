package artifacts_test

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/artifacts/internal/opensslpki"
)

// flaw is a certificate with one wrong attribute. In it, what is empty is as it should be.
type flaw struct {
	key        []string // arguments of -newkey
	extensions []string
	below      bool // a further authority between this one and the leaf
	after      time.Duration
	otherName  bool // its issuer has the right key and another name
	otherKey   bool // its issuer has the right name and another key
}

const keyIdentifier = "DER:30168014" + "0101010101010101010101010101010101010101"

// flaws are wrong in authorities and leaves alike.
func flaws(usual []string) map[string]flaw {
	with := func(more ...string) []string { return append(more, usual...) }
	ec := []string{"ec", "-pkeyopt", "ec_paramgen_curve:P-256"}
	return map[string]flaw{
		"rsa-1024":            {key: []string{"rsa:1024"}, extensions: usual},
		"p-224":               {key: []string{"ec", "-pkeyopt", "ec_paramgen_curve:P-224"}, extensions: usual},
		"sha-1":               {key: append(ec, "-sha1"), extensions: usual},
		"unknown-critical":    {extensions: with("1.2.3.4=critical,DER:0500")},
		"issuer-of-that-name": {extensions: usual, otherKey: true},
		"issuer-of-that-key":  {extensions: usual, otherName: true},
		"key-identifier":      {extensions: with("authorityKeyIdentifier=" + keyIdentifier)},
		"expired":             {key: append(ec, "-days", "100"), extensions: usual, after: 200 * 24 * time.Hour},
	}
}

// authorityFlaws are those of certificates that issue others.
func authorityFlaws() map[string]flaw {
	all := flaws(opensslpki.Authority)
	const usage = "keyUsage=critical,keyCertSign,cRLSign"
	for name, extensions := range map[string][]string{
		"not-an-authority":      {"basicConstraints=critical,CA:FALSE", usage},
		"no-basic-constraints":  {usage},
		"key-usage":             {"basicConstraints=critical,CA:TRUE", "keyUsage=critical,digitalSignature"},
		"other-names-permitted": {"basicConstraints=critical,CA:TRUE", usage, "nameConstraints=critical,permitted;DNS:example.org"},
		"name-excluded":         {"basicConstraints=critical,CA:TRUE", usage, "nameConstraints=critical,excluded;DNS:example.net"},
	} {
		all[name] = flaw{extensions: extensions}
	}
	all["path-length"] = flaw{extensions: []string{"basicConstraints=critical,CA:TRUE,pathlen:0", usage}, below: true}
	return all
}

// flawedIssue issues a certificate that has a flaw.
func (w world) flawedIssue(f flaw, issuer *opensslpki.Entity, subject string) *opensslpki.Entity {
	if f.key == nil {
		f.key = []string{"ec", "-pkeyopt", "ec_paramgen_curve:P-256"}
	}
	switch {
	case f.otherName:
		issuer = w.Recertify(issuer, nil, "/O=Other/CN=Other", opensslpki.Authority...)
	case f.otherKey:
		of := issuer.Certificate.Subject
		issuer = w.Issue(nil, "/O="+of.Organization[0]+"/CN="+of.CommonName, opensslpki.Authority...)
	}
	return w.IssueKey(f.key, issuer, subject, f.extensions...)
}

// role is a place at which chains of certificates are believed.
type role struct {
	root             *opensslpki.Entity
	leaf             []string // extensions
	wrongUsage       []string
	usageCode        artifacts.Code
	untrusted, ended artifacts.Code
	check            func(t *testing.T, leaf *opensslpki.Entity, others entities, now time.Time, code artifacts.Code)
}

func (w world) roles() map[string]role {
	signer := append([]string{"subjectAltName=DNS:bs1.example.net"}, opensslpki.Signer...)
	clock := func(now time.Time) func(*artifacts.Policy) {
		return func(p *artifacts.Policy) { p.Clock.Now = now }
	}
	lasting := object{"expires-on": nil}
	return map[string]role{
		"owner": {
			root: w.ownerRoot, leaf: signer, untrusted: artifacts.CodeOwnerUntrusted, ended: artifacts.CodeOwnerExpired,
			wrongUsage: []string{"keyUsage=critical,keyAgreement"}, usageCode: artifacts.CodeOwnerKeyUsage,
			check: func(t *testing.T, leaf *opensslpki.Entity, others entities, now time.Time, code artifacts.Code) {
				signedCase{w: w, voucher: lasting, ciSigner: leaf, owners: append(entities{leaf}, others...), policy: clock(now)}.
					check(t, code, artifacts.StepOwnerPath)
			},
		},
		"voucher": {
			root: w.makerRoot, leaf: signer, untrusted: artifacts.CodeVoucherUntrusted, ended: artifacts.CodeVoucherExpired,
			wrongUsage: []string{"keyUsage=critical,keyAgreement"}, usageCode: artifacts.CodeVoucherUntrusted,
			check: func(t *testing.T, leaf *opensslpki.Entity, others entities, now time.Time, code artifacts.Code) {
				signedCase{w: w, voucher: lasting, masa: leaf, masaChain: others, policy: clock(now)}.
					check(t, code, artifacts.StepVoucherSignature)
			},
		},
		"server": {
			root: w.tlsRoot, leaf: append([]string{"extendedKeyUsage=serverAuth"}, signer...),
			untrusted: artifacts.CodeServerUntrusted, ended: artifacts.CodeServerExpired,
			wrongUsage: []string{"subjectAltName=DNS:bs1.example.net", "extendedKeyUsage=clientAuth"}, usageCode: artifacts.CodeServerUntrusted,
			check: func(t *testing.T, leaf *opensslpki.Entity, others entities, now time.Time, code artifacts.Code) {
				evidence, err := artifacts.AuthenticateServer(append([]*x509.Certificate{leaf.Certificate}, w.chain(others...)...), "bs1.example.net",
					artifacts.PlainAnchors(w.chain(w.tlsRoot)), artifacts.Clock{Now: now, Confidence: artifacts.ClockRTC})
				refused(t, err, code, artifacts.StepServerCertificate)
				if evidence.Valid() != (code == "") {
					t.Error("evidence of a server that was refused, or none")
				}
			},
		},
	}
}

// TestCertificateAttributes has one attribute of one certificate wrong at a time, in each chain that is believed.
func TestCertificateAttributes(t *testing.T) {
	w := shared()
	for who, r := range w.roles() {
		name := "/O=" + r.root.Certificate.Subject.Organization[0] + "/CN=" + who
		run := func(t *testing.T, ca, leaf flaw, code artifacts.Code) {
			if ca.extensions == nil {
				ca.extensions = opensslpki.Authority
			}
			if leaf.extensions == nil {
				leaf.extensions = r.leaf
			}
			authority := w.flawedIssue(ca, r.root, name+" CA")
			others, issuer := entities{authority}, authority
			if ca.below {
				issuer = w.Issue(authority, name+" lower CA", opensslpki.Authority...)
				others = entities{issuer, authority}
			}
			r.check(t, w.flawedIssue(leaf, issuer, name+" leaf"), others, w.now().Add(max(ca.after, leaf.after)), code)
		}
		code := func(f flaw) artifacts.Code {
			if f.after != 0 {
				return r.ended
			}
			return r.untrusted
		}
		t.Run(who+"/none", func(t *testing.T) { run(t, flaw{}, flaw{}, "") })
		t.Run(who+"/three-levels", func(t *testing.T) { run(t, flaw{below: true}, flaw{}, "") })
		for what, f := range authorityFlaws() {
			t.Run(who+"/authority/"+what, func(t *testing.T) { run(t, f, flaw{}, code(f)) })
		}
		for what, f := range flaws(r.leaf) {
			t.Run(who+"/leaf/"+what, func(t *testing.T) { run(t, flaw{}, f, code(f)) })
		}
		t.Run(who+"/leaf/usage", func(t *testing.T) { run(t, flaw{}, flaw{extensions: r.wrongUsage}, r.usageCode) })
	}
}
