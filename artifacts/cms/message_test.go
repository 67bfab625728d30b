package cms_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"slices"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/xpu-sztp/ztp/artifacts/internal/opensslpki"
)

// message makes a SignedData with faults that the openssl command does not make. The zero values are right.
type message struct {
	signer  *opensslpki.Entity
	sign    func([]byte) []byte
	typ     string // default: JSON
	content []byte
	attrs   [][]byte // default: content type and digest
	noAttrs bool
	scheme  string      // default: ECDSA with SHA-256
	signers int         // default: 1
	hash    crypto.Hash // default: SHA-256

	announced crypto.Hash // default: hash
	unsigned  []byte      // unsigned attributes
	element   asn1.Tag    // of the content; default: OCTET STRING
	issuer    []byte      // default: that of signer's certificate
	serial    []byte      // default: that of signer's certificate
	keyID     []byte      // instead of both
	params    []byte      // of the digest and signature algorithms
	scheming  []byte      // of the signature algorithm; default: params
	outer     byte        // version of the SignedData; default: 3
	inner     []byte      // version of the SignerInfo; default: 1
	digests   int         // how often the digest algorithm is announced; default: 1
}

// hashOID is the AlgorithmIdentifier of a digest.
func hashOID(h crypto.Hash, params []byte) []byte {
	last := map[crypto.Hash]string{crypto.SHA256: "1", crypto.SHA384: "2", crypto.SHA512: "3"}[h]
	return element(asn1.SEQUENCE, oidDER("2.16.840.1.101.3.4.2."+last), params)
}

func (m message) build() []byte {
	if m.typ == "" {
		m.typ = typeJSON
	}
	if m.content == nil {
		m.content = content
	}
	if m.scheme == "" {
		m.scheme = "1.2.840.10045.4.3.2"
	}
	if m.hash == 0 {
		m.hash = crypto.SHA256
	}
	if m.announced == 0 {
		m.announced = m.hash
	}
	if m.element == 0 {
		m.element = asn1.OCTET_STRING
	}
	if m.scheming == nil {
		m.scheming = m.params
	}
	if m.outer == 0 {
		m.outer = 3
	}
	if m.inner == nil {
		m.inner = []byte{2, 1, 1}
	}
	c := m.signer.Certificate
	id := element(asn1.SEQUENCE, slices.Concat(c.RawIssuer, integer(c)))
	if m.issuer != nil {
		id = element(asn1.SEQUENCE, slices.Concat(m.issuer, integer(c)))
	}
	if m.serial != nil {
		id = element(asn1.SEQUENCE, slices.Concat(c.RawIssuer, element(asn1.INTEGER, m.serial)))
	}
	if m.keyID != nil {
		id = element(asn1.Tag(0).ContextSpecific(), m.keyID)
	}
	h := m.hash.New()
	h.Write(m.content)
	if m.attrs == nil {
		m.attrs = [][]byte{attribute("1.2.840.113549.1.9.3", oidDER(m.typ)), attribute("1.2.840.113549.1.9.4", octets(h.Sum(nil)))}
	}
	set := bytes.Join(m.attrs, nil)
	signed := m.content
	if !m.noAttrs {
		signed = element(asn1.SET, set)
	}
	info := [][]byte{m.inner, id, hashOID(m.hash, m.params)}
	if !m.noAttrs {
		info = append(info, element(asn1.Tag(0).ContextSpecific().Constructed(), set))
	}
	info = append(info, element(asn1.SEQUENCE, oidDER(m.scheme), m.scheming), octets(m.sign(signed)))
	if m.unsigned != nil {
		info = append(info, element(asn1.Tag(1).ContextSpecific().Constructed(), m.unsigned))
	}
	infos := bytes.Repeat(element(asn1.SEQUENCE, info...), max(1, m.signers))
	inner := element(asn1.SEQUENCE, []byte{2, 1, m.outer}, element(asn1.SET, bytes.Repeat(hashOID(m.announced, m.params), max(1, m.digests))),
		element(asn1.SEQUENCE, oidDER(m.typ), element(asn1.Tag(0).ContextSpecific().Constructed(), element(m.element, m.content))),
		element(asn1.SET, infos))
	return opensslpki.ContentInfo("1.2.840.113549.1.7.2", addBytes(inner))
}

func element(tag asn1.Tag, parts ...[]byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1(tag, func(b *cryptobyte.Builder) { b.AddBytes(bytes.Join(parts, nil)) })
	return b.BytesOrPanic()
}

func octets(b []byte) []byte { return element(asn1.OCTET_STRING, b) }

func integer(c *x509.Certificate) []byte {
	var b cryptobyte.Builder
	b.AddASN1BigInt(c.SerialNumber)
	return b.BytesOrPanic()
}

func oidDER(text string) []byte {
	in := cryptobyte.String(opensslpki.Data(text, nil))
	var body, oid cryptobyte.String
	if !in.ReadASN1(&body, asn1.SEQUENCE) || !body.ReadASN1Element(&oid, asn1.OBJECT_IDENTIFIER) {
		panic("object identifier")
	}
	return oid
}

func attribute(oid string, values ...[]byte) []byte {
	return element(asn1.SEQUENCE, oidDER(oid), element(asn1.SET, values...))
}

func privateKey(t testing.TB, e *opensslpki.Entity) crypto.Signer {
	t.Helper()
	text, err := os.ReadFile(e.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key.(crypto.Signer)
}

func ecdsaWith(t testing.TB, key crypto.Signer) func([]byte) []byte {
	return func(message []byte) []byte {
		digest := sha256.Sum256(message)
		sig, err := ecdsa.SignASN1(rand.Reader, key.(*ecdsa.PrivateKey), digest[:])
		if err != nil {
			t.Fatal(fmt.Errorf("sign: %w", err))
		}
		return sig
	}
}
