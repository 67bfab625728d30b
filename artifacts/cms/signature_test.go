package cms_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"errors"
	"testing"

	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/xpu-sztp/ztp/artifacts/cms"
	"github.com/xpu-sztp/ztp/artifacts/internal/opensslpki"
)

// TestEd25519 holds signatures against RFC 8419, which asks for SHA-512 throughout.
func TestEd25519(t *testing.T) {
	w := shared()
	signer := w.IssueKey([]string{"ed25519"}, w.root, "/CN=ed", opensslpki.Signer...)
	key := privateKey(t, signer)
	sign := func(attrs []byte) []byte {
		sig, err := key.Sign(rand.Reader, attrs, crypto.Hash(0))
		if err != nil {
			t.Fatal(err)
		}
		return sig
	}
	for name, test := range map[string]struct {
		message message
		want    error
	}{
		"sha512":                    {message{hash: crypto.SHA512}, nil},
		"sha256":                    {message{hash: crypto.SHA256}, cms.ErrUnsupported},
		"sha384":                    {message{hash: crypto.SHA384}, cms.ErrUnsupported},
		"without-attributes":        {message{hash: crypto.SHA512, noAttrs: true, typ: typeData}, nil},
		"without-attributes-sha256": {message{hash: crypto.SHA256, noAttrs: true, typ: typeData}, cms.ErrUnsupported},
		"digest-not-announced":      {message{hash: crypto.SHA512, announced: crypto.SHA256, noAttrs: true, typ: typeData}, nil},
		"other-key": {message{hash: crypto.SHA512, sign: func(b []byte) []byte {
			sig := sign(b)
			sig[3] ^= 1
			return sig
		}}, cms.ErrSignature},
		"ecdsa-by-name": {message{hash: crypto.SHA256, scheme: "1.2.840.10045.4.3.2"}, cms.ErrUnsupported},
	} {
		t.Run(name, func(t *testing.T) {
			m := test.message
			m.signer = signer
			if m.sign == nil {
				m.sign = sign
			}
			if m.scheme == "" {
				m.scheme = "1.3.101.112"
			}
			if err := mustParse(t, m.build()).Signed.SignedBy(signer.Certificate); !errors.Is(err, test.want) {
				t.Errorf("SignedBy: %v, want %v", err, test.want)
			}
		})
	}
}

// TestEd25519WithAttributes: only what has no attributes needs no digest, and so need not announce one.
func TestEd25519WithAttributes(t *testing.T) {
	w := shared()
	sign := func([]byte) []byte { return make([]byte, 64) }
	m := message{signer: w.signer, sign: sign, hash: crypto.SHA512, announced: crypto.SHA256, scheme: "1.3.101.112"}
	if _, err := cms.Parse(m.build()); !errors.Is(err, cms.ErrMalformed) {
		t.Errorf("Parse: %v", err)
	}
}

// TestTwoSignaturesOfOne: one that is good is enough, wherever it is.
func TestTwoSignaturesOfOne(t *testing.T) {
	w := shared()
	sign := ecdsaWith(t, privateKey(t, w.signer))
	var good []byte
	der := message{signer: w.signer, signers: 2, sign: func(b []byte) []byte {
		good = sign(b)
		return good
	}}.build()
	bad := bytes.Clone(good)
	bad[len(bad)-1] ^= 1
	first := bytes.Replace(der, good, bad, 1)
	both := bytes.ReplaceAll(der, good, bad)
	last := bytes.Clone(der)
	last[len(last)-1] ^= 1
	for name, test := range map[string]struct {
		der  []byte
		want error
	}{"first-wrong": {first, nil}, "last-wrong": {last, nil}, "both-wrong": {both, cms.ErrSignature}} {
		if err := mustParse(t, test.der).Signed.SignedBy(w.signer.Certificate); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
}

// TestSignatureOverNothing has the signer have signed nothing at all: no message may count as that.
func TestSignatureOverNothing(t *testing.T) {
	w := shared()
	sign := ecdsaWith(t, privateKey(t, w.signer))
	nothing := func([]byte) []byte { return sign(nil) }
	for name, m := range map[string]message{
		"no-attributes":     {noAttrs: true},
		"as-attributes":     {noAttrs: true, typ: typeData, content: element(asn1.SET)},
		"without-digest":    {attrs: [][]byte{attribute("1.2.840.113549.1.9.3", oidDER(typeJSON))}},
		"with-other-digest": {attrs: [][]byte{attribute("1.2.840.113549.1.9.3", oidDER(typeJSON)), attribute("1.2.840.113549.1.9.4", octets(nil))}},
		"with-attributes":   {},
	} {
		m.signer, m.sign = w.signer, nothing
		if err := mustParse(t, m.build()).Signed.SignedBy(w.signer.Certificate); !errors.Is(err, cms.ErrSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
	detached := w.Run("cms", "-sign", "-binary", "-in", w.Write(nil), "-outform", "DER", "-signer", w.signer.CertFile, "-inkey", w.signer.KeyFile)
	if s := mustParse(t, detached).Signed; s.Content != nil || !errors.Is(s.SignedBy(w.signer.Certificate), cms.ErrSignature) {
		t.Errorf("detached: content %q, %v", s.Content, s.SignedBy(w.signer.Certificate))
	}
}
