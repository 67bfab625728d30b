package cms_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/artifacts/cms"
	"github.com/xpu-sztp/ztp/artifacts/internal/opensslpki"
)

// TestOCSPResponsesInside finds OCSP responses among the revocation information (RFC 5940), and passes over other formats.
func TestOCSPResponsesInside(t *testing.T) {
	w := shared()
	file := w.Respond(opensslpki.OCSP{Issuer: w.root, Subjects: []*opensslpki.Entity{w.signer}})
	now := w.signer.Certificate.NotBefore
	list := w.CRL(w.root, now, now.AddDate(0, 1, 0))
	der := w.Certificates([]*opensslpki.Entity{w.signer}, list, file, list)
	s := mustParse(t, der).Signed
	if diff := cmp.Diff([][]byte{opensslpki.Contents(file)}, s.OCSP); diff != "" || len(s.CRLs) != 2 {
		t.Errorf("%d lists, %s", len(s.CRLs), diff)
	}
	format := []byte("\x06\x08\x2b\x06\x01\x05\x05\x07\x10\x02")
	other := bytes.Replace(der, format, append(format[:len(format)-1:len(format)-1], 4), 1) // id-ri-scvp
	if s := mustParse(t, other).Signed; len(s.OCSP) != 0 || len(s.CRLs) != 2 {
		t.Errorf("%d responses in another format, %d lists", len(s.OCSP), len(s.CRLs))
	}
	two := w.WriteOCSP(bytes.Repeat(opensslpki.Contents(file), 2))
	if _, err := cms.Parse(w.Certificates([]*opensslpki.Entity{w.signer}, two)); !errors.Is(err, cms.ErrMalformed) {
		t.Errorf("two responses in one: %v", err)
	}
	integer := w.WriteOCSP([]byte{2, 1, 0})
	if _, err := cms.Parse(w.Certificates([]*opensslpki.Entity{w.signer}, integer)); !errors.Is(err, cms.ErrMalformed) {
		t.Errorf("a number as response: %v", err)
	}
}

// TestVerifySignature signs as X.509 does, with OpenSSL, and names algorithms well and badly.
func TestVerifySignature(t *testing.T) {
	w := shared()
	rsa := w.IssueKey([]string{"rsa:2048"}, w.root, "/CN=RSA")
	weak := w.IssueKey([]string{"rsa:1024"}, w.root, "/CN=weak")
	edwards := w.IssueKey([]string{"ed25519"}, w.root, "/CN=Ed25519")
	const (
		sha256RSA = "300d06092a864886f70d01010b0500"
		plainRSA  = "300d06092a864886f70d0101010500"
		sha1RSA   = "300d06092a864886f70d0101050500"
		ecdsa256  = "300a06082a8648ce3d040302"
		sha384RSA = "300d06092a864886f70d01010c0500"
		sha512RSA = "300d06092a864886f70d01010d0500"
		ecdsa512  = "300a06082a8648ce3d040304"
		ecdsa384  = "300a06082a8648ce3d040303"
		ed25519   = "300506032b6570"
		sha1ECDSA = "300906072a8648ce3d0401"
	)
	sign := func(e *opensslpki.Entity, digest string) []byte {
		if digest == "" {
			return w.Run("pkeyutl", "-sign", "-rawin", "-inkey", e.KeyFile, "-in", w.Write(content))
		}
		return w.Run("dgst", "-"+digest, "-sign", e.KeyFile, w.Write(content))
	}
	for name, test := range map[string]struct {
		signer     *opensslpki.Entity
		digest     string
		identifier string
		want       error
	}{
		"rsa":                {rsa, "sha256", sha256RSA, nil},
		"rsa-384":            {rsa, "sha384", sha384RSA, nil},
		"rsa-512":            {rsa, "sha512", sha512RSA, nil},
		"rsa-512-named-384":  {rsa, "sha512", sha384RSA, cms.ErrSignature},
		"rsa-named-ecdsa":    {rsa, "sha256", ecdsa256, cms.ErrUnsupported},
		"rsa-named-ed25519":  {rsa, "sha256", ed25519, cms.ErrUnsupported},
		"ecdsa-512":          {w.signer, "sha512", ecdsa512, nil},
		"ed25519-named-rsa":  {edwards, "", sha256RSA, cms.ErrUnsupported},
		"rsa-other-digest":   {rsa, "sha384", sha256RSA, cms.ErrSignature},
		"rsa-without-digest": {rsa, "sha256", plainRSA, cms.ErrUnsupported},
		"rsa-sha1":           {rsa, "sha1", sha1RSA, cms.ErrUnsupported},
		"rsa-weak":           {weak, "sha256", sha256RSA, cms.ErrUnsupported},
		"ecdsa":              {w.signer, "sha256", ecdsa256, nil},
		"ecdsa-384":          {w.signer, "sha384", ecdsa384, nil},
		"ecdsa-sha1":         {w.signer, "sha1", sha1ECDSA, cms.ErrUnsupported},
		"ecdsa-named-rsa":    {w.signer, "sha256", sha256RSA, cms.ErrUnsupported},
		"ed25519":            {edwards, "", ed25519, nil},
		"trailing-byte":      {w.signer, "sha256", ecdsa256 + "00", cms.ErrMalformed},
		"no-identifier":      {w.signer, "sha256", "", cms.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			identifier, err := hex.DecodeString(test.identifier)
			if err != nil {
				t.Fatal(err)
			}
			if err := cms.VerifySignature(test.signer.Certificate, identifier, content, sign(test.signer, test.digest)); !errors.Is(err, test.want) {
				t.Errorf("%v, want %v", err, test.want)
			}
		})
	}
}
