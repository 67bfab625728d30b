package cms_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"slices"
	"testing"

	casn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/xpu-sztp/ztp/artifacts/cms"
	"github.com/xpu-sztp/ztp/artifacts/internal/opensslpki"
)

// collection makes a degenerate SignedData of whatever certificates and lists are.
func collection(certificates, lists []byte) []byte {
	parts := [][]byte{{2, 1, 1}, element(casn1.SET), element(casn1.SEQUENCE, oidDER(typeData))}
	if certificates != nil {
		parts = append(parts, element(0xa0, certificates))
	}
	if lists != nil {
		parts = append(parts, element(0xa1, lists))
	}
	return opensslpki.ContentInfo("1.2.840.113549.1.7.2", addBytes(element(casn1.SEQUENCE, append(parts, element(casn1.SET))...)))
}

// listOf makes what looks like a revocation list of size bytes, of which there are more than 64 KiB.
func listOf(size int) []byte {
	return sized(size, func(n int) []byte {
		return element(casn1.SEQUENCE, element(casn1.SEQUENCE, []byte{2, 1, 1}, octets(make([]byte, n))), element(casn1.SEQUENCE),
			element(casn1.BIT_STRING, []byte{0}))
	})
}

// sized returns what of makes of a number that leads to size bytes.
func sized(size int, of func(n int) []byte) []byte {
	n := size
	for made := of(n); ; made = of(n) {
		if len(made) == size {
			return made
		}
		n += size - len(made)
	}
}

// certificate makes a certificate with a key and an extension of some bytes.
func certificate(t *testing.T, public any, extension int) []byte {
	t.Helper()
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	if public == nil {
		public = key.Public()
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1),
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: make([]byte, extension)}}}
	der, err := x509.CreateCertificate(nil, template, template, public, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestLimits stands on both sides of each limit.
func TestLimits(t *testing.T) {
	w := shared()
	sign := ecdsaWith(t, privateKey(t, w.signer))
	now := w.signer.Certificate.NotBefore
	crl := opensslpki.Contents(w.CRL(w.root, now, now.AddDate(0, 1, 0)))
	certified := func(size int) []byte { return sized(size, func(n int) []byte { return certificate(t, nil, n) }) }
	keyOf := func(bits uint) []byte {
		n := new(big.Int).SetBit(big.NewInt(1), int(bits)-1, 1)
		return certificate(t, &rsa.PublicKey{N: n, E: 65537}, 0)
	}
	device := w.curve("P-256")
	for name, test := range map[string]struct {
		limit int
		of    func(n int) []byte
	}{
		"size": {cms.MaxSize, func(n int) []byte {
			return sized(n, func(n int) []byte { return opensslpki.Data(typeJSON, make([]byte, n)) })
		}},
		"certificates":       {cms.MaxCertificates, func(n int) []byte { return collection(bytes.Repeat(w.signer.Certificate.Raw, n), nil) }},
		"certificate-bytes":  {cms.MaxCertificateBytes, func(n int) []byte { return collection(certified(n), nil) }},
		"rsa-bits":           {cms.MaxRSABits, func(n int) []byte { return collection(keyOf(uint(n)), nil) }},
		"revocation-lists":   {cms.MaxCRLs, func(n int) []byte { return collection(nil, bytes.Repeat(crl, n)) }},
		"revocation-bytes":   {cms.MaxCRLBytes, func(n int) []byte { return collection(nil, listOf(n)) }},
		"revocation-bytes-2": {cms.MaxCRLBytes, func(n int) []byte { return collection(nil, slices.Concat(crl, listOf(n-len(crl)))) }},
		"signers":            {cms.MaxSigners, func(n int) []byte { return message{signer: w.signer, sign: sign, signers: n}.build() }},
		"recipients":         {cms.MaxRecipients, func(n int) []byte { return agreed{device: device, copies: []int{n}}.build(t) }},
		"recipients-apart":   {cms.MaxRecipients, func(n int) []byte { return agreed{device: device, copies: slices.Repeat([]int{1}, n)}.build(t) }},
		"recipients-in-two":  {cms.MaxRecipients, func(n int) []byte { return agreed{device: device, copies: []int{n - 1, 1}}.build(t) }},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := cms.Parse(test.of(test.limit)); err != nil {
				t.Errorf("as many as allowed: %v", err)
			}
			if _, err := cms.Parse(test.of(test.limit + 1)); !errors.Is(err, cms.ErrLimit) {
				t.Errorf("one more: %v", err)
			}
		})
	}
}

// TestCertificateForms refuses what is in the place of certificates and is none.
func TestCertificateForms(t *testing.T) {
	fine := shared().signer.Certificate.Raw
	for name, test := range map[string]struct {
		certificates []byte
		want         error
	}{
		"two":          {slices.Concat(fine, fine), nil},
		"none":         {[]byte{}, nil},
		"empty":        {element(casn1.SEQUENCE), cms.ErrMalformed},
		"fine-then-no": {slices.Concat(fine, element(casn1.SEQUENCE, fine)), cms.ErrMalformed},
		"cut":          {fine[:len(fine)-1], cms.ErrMalformed},
		"attributes":   {element(0xa2, fine), cms.ErrUnsupported},
		"set":          {element(casn1.SET, fine), cms.ErrUnsupported},
	} {
		if m, err := cms.Parse(collection(test.certificates, nil)); !errors.Is(err, test.want) || (m == nil) != (err != nil) {
			t.Errorf("%s: %+v, %v, want %v", name, m, err, test.want)
		}
	}
}

// TestRevocationListForms tells lists from what else could be in their place, without reading their entries.
func TestRevocationListForms(t *testing.T) {
	sequence := func(parts ...[]byte) []byte { return element(casn1.SEQUENCE, parts...) }
	body, algorithm, signature := sequence([]byte{2, 1, 1}), sequence(), element(casn1.BIT_STRING, []byte{0})
	for name, test := range map[string]struct {
		list []byte
		want error
	}{
		"version-2":       {sequence(body, algorithm, signature), nil},
		"version-1":       {sequence(sequence(algorithm), algorithm, signature), nil},
		"certificate":     {sequence(sequence(element(0xa0, []byte{2, 1, 2})), algorithm, signature), cms.ErrMalformed},
		"empty-body":      {sequence(sequence(), algorithm, signature), cms.ErrMalformed},
		"no-body":         {sequence([]byte{2, 1, 1}, algorithm, signature), cms.ErrMalformed},
		"no-algorithm":    {sequence(body, signature), cms.ErrMalformed},
		"no-signature":    {sequence(body, algorithm), cms.ErrMalformed},
		"more":            {sequence(body, algorithm, signature, []byte{5, 0}), cms.ErrMalformed},
		"empty":           {sequence(), cms.ErrMalformed},
		"other-kind":      {element(0xa1, oidDER(typeVoucher), octets(nil)), nil},
		"not-an-element":  {[]byte{0x30}, cms.ErrMalformed},
		"other-kind-bare": {element(0xa1), nil},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := cms.Parse(collection(nil, test.list))
			if !errors.Is(err, test.want) {
				t.Fatalf("Parse: %v, want %v", err, test.want)
			}
			if known := test.list[0] == byte(casn1.SEQUENCE); err == nil && (len(m.Signed.CRLs) == 1) != known {
				t.Errorf("%d lists", len(m.Signed.CRLs))
			}
		})
	}
}
