package cms_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"testing"

	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/xpu-sztp/ztp/artifacts/cms"
	"github.com/xpu-sztp/ztp/artifacts/internal/opensslpki"
)

// TestPSSParameters holds the parameters against RFC 4055 §3.1: one hash throughout, and the salt that is really there.
func TestPSSParameters(t *testing.T) {
	w := shared()
	signer := w.IssueKey([]string{"rsa:2048"}, w.root, "/CN=rsa", opensslpki.Signer...)
	made := func(md string, options ...string) []byte {
		args := []string{"-md", md, "-keyopt", "rsa_padding_mode:pss"}
		for _, o := range options {
			args = append(args, "-keyopt", o)
		}
		return w.Sign(signer, content, args...)
	}
	salt := func(n byte) []byte {
		der := made("sha256", "rsa_pss_saltlen:32")
		at := bytes.LastIndex(der, []byte{0xa2, 3, 2, 1, 32})
		der[at+4] = n
		return der
	}
	const mgf1 = "1.2.840.113549.1.1.8"
	mgf := func(oid string, hash ...[]byte) []byte {
		return element(0xa1, element(asn1.SEQUENCE, append([][]byte{oidDER(oid)}, hash...)...))
	}
	sha256Field, mgfField := element(0xa0, hashOID(crypto.SHA256, nil)), mgf(mgf1, hashOID(crypto.SHA256, nil))
	saltField := func(der ...byte) []byte { return element(0xa2, der) }
	trailerField := func(der ...byte) []byte { return element(0xa3, der) }
	key := privateKey(t, signer)
	written := func(salt int, params ...[]byte) []byte {
		return message{signer: signer, scheme: "1.2.840.113549.1.1.10", scheming: element(asn1.SEQUENCE, params...), sign: func(b []byte) []byte {
			digest := sha256.Sum256(b)
			sig, err := key.Sign(rand.Reader, digest[:], &rsa.PSSOptions{SaltLength: salt, Hash: crypto.SHA256})
			if err != nil {
				t.Fatal(err)
			}
			return sig
		}}.build()
	}
	for name, test := range map[string]struct {
		der  []byte
		want error
	}{
		"default":             {made("sha256"), nil},
		"salt-of-one":         {made("sha256", "rsa_pss_saltlen:1"), nil},
		"salt-of-20":          {made("sha256", "rsa_pss_saltlen:20"), nil},
		"salt-as-long-as-can": {made("sha512", "rsa_pss_saltlen:max"), nil},
		"salt-as-said":        {salt(32), nil},
		"no-salt":             {made("sha256", "rsa_pss_saltlen:0"), cms.ErrUnsupported},
		"salt-longer":         {salt(31), cms.ErrSignature},
		"salt-shorter":        {salt(33), cms.ErrSignature},
		"salt-negative":       {salt(0xff), cms.ErrUnsupported},
		"mgf-sha1":            {made("sha256", "rsa_mgf1_md:sha1"), cms.ErrUnsupported},
		"mgf-sha512":          {made("sha256", "rsa_mgf1_md:sha512"), cms.ErrUnsupported},
		"sha1":                {made("sha1"), cms.ErrUnsupported},

		// What the openssl command does not write, beside a right signature with SHA-256 and a salt as long as the number.
		"written":              {written(32, sha256Field, mgfField, saltField(2, 1, 32)), nil},
		"salt-by-default":      {written(20, sha256Field, mgfField), nil},
		"salt-not-by-default":  {written(32, sha256Field, mgfField), cms.ErrSignature},
		"salt-written-twice":   {written(32, sha256Field, mgfField, saltField(2, 1, 32, 2, 1, 32)), cms.ErrMalformed},
		"salt-not-a-number":    {written(32, sha256Field, mgfField, saltField(4, 1, 32)), cms.ErrMalformed},
		"salt-of-1024":         {written(32, sha256Field, mgfField, saltField(2, 2, 4, 0)), cms.ErrSignature},
		"salt-of-1025":         {written(32, sha256Field, mgfField, saltField(2, 2, 4, 1)), cms.ErrUnsupported},
		"trailer-1":            {written(32, sha256Field, mgfField, saltField(2, 1, 32), trailerField(2, 1, 1)), nil},
		"trailer-2":            {written(32, sha256Field, mgfField, saltField(2, 1, 32), trailerField(2, 1, 2)), cms.ErrMalformed},
		"trailer-twice":        {written(32, sha256Field, mgfField, saltField(2, 1, 32), trailerField(2, 1, 1, 2, 1, 1)), cms.ErrMalformed},
		"trailer-not-a-number": {written(32, sha256Field, mgfField, saltField(2, 1, 32), trailerField(4, 1, 1)), cms.ErrMalformed},
		"one-field-more":       {written(32, sha256Field, mgfField, saltField(2, 1, 32), trailerField(2, 1, 1), element(0xa4)), cms.ErrMalformed},
		"no-parameters":        {written(32), cms.ErrUnsupported},
		"no-hash":              {written(32, mgfField, saltField(2, 1, 32)), cms.ErrUnsupported},
		"no-mgf":               {written(32, sha256Field, saltField(2, 1, 32)), cms.ErrUnsupported},
		"hash-sha384":          {written(32, element(0xa0, hashOID(crypto.SHA384, nil)), mgfField, saltField(2, 1, 32)), cms.ErrUnsupported},
		"hash-empty":           {written(32, element(0xa0), mgfField, saltField(2, 1, 32)), cms.ErrMalformed},
		"hash-unknown":         {written(32, element(0xa0, element(asn1.SEQUENCE, oidDER(typeVoucher))), mgfField, saltField(2, 1, 32)), cms.ErrUnsupported},
		"hash-twice":           {written(32, element(0xa0, hashOID(crypto.SHA256, nil), hashOID(crypto.SHA256, nil)), mgfField, saltField(2, 1, 32)), cms.ErrMalformed},
		"mgf-empty":            {written(32, sha256Field, element(0xa1), saltField(2, 1, 32)), cms.ErrMalformed},
		"mgf-unknown":          {written(32, sha256Field, mgf(typeVoucher, hashOID(crypto.SHA256, nil)), saltField(2, 1, 32)), cms.ErrUnsupported},
		"mgf-of-two-hashes":    {written(32, sha256Field, mgf(mgf1, hashOID(crypto.SHA256, nil), hashOID(crypto.SHA256, nil)), saltField(2, 1, 32)), cms.ErrMalformed},
		"mgf-of-no-hash":       {written(32, sha256Field, mgf(mgf1), saltField(2, 1, 32)), cms.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			if err := mustParse(t, test.der).Signed.SignedBy(signer.Certificate); !errors.Is(err, test.want) {
				t.Errorf("SignedBy: %v, want %v", err, test.want)
			}
		})
	}
}
