package cms_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/xpu-sztp/ztp/artifacts/cms"
	"github.com/xpu-sztp/ztp/artifacts/internal/opensslpki"
)

func TestSignatureAlgorithms(t *testing.T) {
	w := shared()
	rsa := w.IssueKey([]string{"rsa:2048"}, w.root, "/CN=rsa", opensslpki.Signer...)
	curve := func(name string) *opensslpki.Entity {
		return w.IssueKey([]string{"ec", "-pkeyopt", "ec_paramgen_curve:" + name}, w.root, "/CN="+name, opensslpki.Signer...)
	}
	pss := []string{"-keyopt", "rsa_padding_mode:pss"}
	for _, test := range []struct {
		name   string
		signer *opensslpki.Entity
		args   []string
		want   error
	}{
		{"ecdsa-p256-sha256", w.signer, []string{"-md", "sha256"}, nil},
		{"ecdsa-p256-sha384", w.signer, []string{"-md", "sha384"}, nil},
		{"ecdsa-p384-sha384", curve("P-384"), []string{"-md", "sha384"}, nil},
		{"ecdsa-p521-sha512", curve("P-521"), []string{"-md", "sha512"}, nil},
		{"rsa-pkcs1-sha256", rsa, []string{"-md", "sha256"}, nil},
		{"rsa-pkcs1-sha512", rsa, []string{"-md", "sha512"}, nil},
		{"rsa-pss-sha256", rsa, append([]string{"-md", "sha256"}, pss...), nil},
		{"rsa-pss-sha384-digest-salt", rsa, append([]string{"-md", "sha384"}, append(pss, "-keyopt", "rsa_pss_saltlen:digest")...), nil},
		{"sha1", w.signer, []string{"-md", "sha1"}, cms.ErrUnsupported},
		{"rsa-sha1", rsa, []string{"-md", "sha1"}, cms.ErrUnsupported},
		{"rsa-pss-sha1", rsa, append([]string{"-md", "sha1"}, pss...), cms.ErrUnsupported},
		{"md5", rsa, []string{"-md", "md5"}, cms.ErrUnsupported},
		{"p224", curve("P-224"), []string{"-md", "sha256"}, cms.ErrUnsupported},
		{"rsa-1024", w.IssueKey([]string{"rsa:1024"}, w.root, "/CN=weak", opensslpki.Signer...), []string{"-md", "sha256"},
			cms.ErrUnsupported},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := mustParse(t, w.Sign(test.signer, content, append(test.args, "-econtent_type", typeJSON)...))
			if err := m.Signed.SignedBy(test.signer.Certificate); !errors.Is(err, test.want) {
				t.Errorf("SignedBy: %v, want %v", err, test.want)
			}
			if !bytes.Equal(m.Signed.Content, content) || !m.Signed.ContentType.Equal(cms.TypeConveyedJSON) {
				t.Errorf("content %q of type %v", m.Signed.Content, m.Signed.ContentType)
			}
		})
	}
}

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
	der := message{signer: signer, sign: sign, scheme: "1.3.101.112"}.build()
	if err := mustParse(t, der).Signed.SignedBy(signer.Certificate); err != nil {
		t.Error(err)
	}
}

func TestSignerIdentifier(t *testing.T) {
	w := shared()
	for name, args := range map[string][]string{
		"issuer-and-serial":      nil,
		"subject-key-identifier": {"-keyid"},
		"no-certificates":        {"-nocerts"},
		"id-data":                {"-econtent_type", typeData},
		"no-attributes":          {"-econtent_type", typeData, "-noattr"},
	} {
		t.Run(name, func(t *testing.T) {
			s := mustParse(t, w.Sign(w.signer, content, args...)).Signed
			if err := s.SignedBy(w.signer.Certificate); err != nil {
				t.Errorf("by the signer: %v", err)
			}
			if err := s.SignedBy(w.other.Certificate); !errors.Is(err, cms.ErrNotSigner) {
				t.Errorf("by another: %v", err)
			}
			if err := s.SignedBy(w.root.Certificate); !errors.Is(err, cms.ErrNotSigner) {
				t.Errorf("by the issuer: %v", err)
			}
		})
	}
}

// TestIdentifierNamesTheKey gives a signature of one key the identifier of another.
func TestIdentifierNamesTheKey(t *testing.T) {
	w := shared()
	key := privateKey(t, w.other)
	der := message{signer: w.signer, sign: ecdsaWith(t, key)}.build()
	if err := mustParse(t, der).Signed.SignedBy(w.signer.Certificate); !errors.Is(err, cms.ErrSignature) {
		t.Errorf("SignedBy: %v", err)
	}
}

func TestSeveralSigners(t *testing.T) {
	w := shared()
	der := w.Sign(w.signer, content, "-signer", w.other.CertFile, "-inkey", w.other.KeyFile, "-econtent_type", typeJSON)
	s := mustParse(t, der).Signed
	if len(s.Signers) != 2 {
		t.Fatalf("%d signers", len(s.Signers))
	}
	for _, e := range []*opensslpki.Entity{w.signer, w.other} {
		if err := s.SignedBy(e.Certificate); err != nil {
			t.Error(err)
		}
	}
}

func TestSignedAttributes(t *testing.T) {
	w := shared()
	sign := ecdsaWith(t, privateKey(t, w.signer))
	digest := sha256.Sum256(content)
	contentType := attribute("1.2.840.113549.1.9.3", oidDER(typeJSON))
	messageDigest := attribute("1.2.840.113549.1.9.4", octets(digest[:]))
	for _, test := range []struct {
		name  string
		attrs [][]byte
		typ   string
		want  error
		parse bool // want comes from Parse
	}{
		{name: "right", attrs: [][]byte{contentType, messageDigest}},
		{name: "stripped", want: cms.ErrSignature},
		{name: "stripped-id-data", typ: typeData},
		{name: "no-content-type", attrs: [][]byte{messageDigest}, want: cms.ErrSignature},
		{name: "other-content-type", attrs: [][]byte{attribute("1.2.840.113549.1.9.3", oidDER(typeVoucher)), messageDigest},
			want: cms.ErrSignature},
		{name: "no-digest", attrs: [][]byte{contentType}, want: cms.ErrSignature},
		{name: "other-digest", attrs: [][]byte{contentType, attribute("1.2.840.113549.1.9.4", octets(make([]byte, 32)))},
			want: cms.ErrSignature},
		{name: "two-digests", attrs: [][]byte{contentType, messageDigest, messageDigest}, want: cms.ErrMalformed, parse: true},
		{name: "two-values", attrs: [][]byte{contentType, attribute("1.2.840.113549.1.9.4", octets(digest[:]), octets(digest[:]))},
			want: cms.ErrMalformed, parse: true},
		{name: "two-content-types", attrs: [][]byte{contentType, contentType, messageDigest}, want: cms.ErrMalformed, parse: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			m, err := cms.Parse(message{signer: w.signer, sign: sign, attrs: test.attrs, noAttrs: test.attrs == nil,
				typ: test.typ}.build())
			if err == nil && !test.parse {
				err = m.Signed.SignedBy(w.signer.Certificate)
			}
			if !errors.Is(err, test.want) {
				t.Errorf("%v, want %v", err, test.want)
			}
		})
	}
}

// TestAttributesAsContent presents the signed attributes of a genuine message as content without attributes.
func TestAttributesAsContent(t *testing.T) {
	w := shared()
	var signed, signature []byte
	sign := ecdsaWith(t, privateKey(t, w.signer))
	genuine := message{signer: w.signer, sign: func(b []byte) []byte {
		signed, signature = b, sign(b)
		return signature
	}}.build()
	if err := mustParse(t, genuine).Signed.SignedBy(w.signer.Certificate); err != nil {
		t.Fatal(err)
	}
	forged := message{signer: w.signer, sign: func([]byte) []byte { return signature }, noAttrs: true, typ: typeData,
		content: signed}.build()
	if err := mustParse(t, forged).Signed.SignedBy(w.signer.Certificate); !errors.Is(err, cms.ErrSignature) {
		t.Errorf("SignedBy: %v", err)
	}
}

// TestDigestOfOneHashSignatureOfAnother is RFC 8933.
func TestDigestOfOneHashSignatureOfAnother(t *testing.T) {
	w := shared()
	sign := ecdsaWith(t, privateKey(t, w.signer))
	der := message{signer: w.signer, sign: sign, scheme: "1.2.840.10045.4.3.3"}.build()
	if err := mustParse(t, der).Signed.SignedBy(w.signer.Certificate); !errors.Is(err, cms.ErrUnsupported) {
		t.Errorf("SignedBy: %v", err)
	}
}

func TestDegenerate(t *testing.T) {
	w := shared()
	s := mustParse(t, w.Certificates([]*opensslpki.Entity{w.signer, w.root})).Signed
	if !s.Degenerate() || len(s.Certificates) != 2 {
		t.Errorf("degenerate %v, %d certificates", s.Degenerate(), len(s.Certificates))
	}
	if err := s.SignedBy(w.signer.Certificate); !errors.Is(err, cms.ErrNotSigner) {
		t.Errorf("SignedBy: %v", err)
	}
	now := w.signer.Certificate.NotBefore
	crl := w.CRL(w.root, now, now.AddDate(0, 1, 0), w.other)
	s = mustParse(t, w.Certificates([]*opensslpki.Entity{w.signer}, crl, crl)).Signed
	if len(s.CRLs) != 2 {
		t.Errorf("%d revocation lists", len(s.CRLs))
	}
	if mustParse(t, w.Sign(w.signer, content)).Signed.Degenerate() {
		t.Error("a signed message is degenerate")
	}
}

func TestLimits(t *testing.T) {
	w := shared()
	many := slices.Repeat([]*opensslpki.Entity{w.signer}, cms.MaxCertificates+1)
	now := w.signer.Certificate.NotBefore
	crl := w.CRL(w.root, now, now.AddDate(0, 1, 0))
	for name, der := range map[string][]byte{
		"certificates":     w.Certificates(many),
		"revocation-lists": w.Certificates(many[:1], slices.Repeat([]string{crl}, cms.MaxCRLs+1)...),
		"size":             opensslpki.Data(typeJSON, make([]byte, cms.MaxSize)),
		"signers":          message{signer: w.signer, sign: ecdsaWith(t, privateKey(t, w.signer)), signers: cms.MaxSigners + 1}.build(),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := cms.Parse(der); !errors.Is(err, cms.ErrLimit) {
				t.Errorf("Parse: %v", err)
			}
		})
	}
	if _, err := cms.Parse(w.Certificates(many[:cms.MaxCertificates])); err != nil {
		t.Errorf("as many certificates as allowed: %v", err)
	}
}

// message makes a SignedData with faults that the openssl command does not make. The zero values are right.
type message struct {
	signer  *opensslpki.Entity
	sign    func([]byte) []byte
	typ     string // default: JSON
	content []byte
	attrs   [][]byte // default: content type and digest
	noAttrs bool
	scheme  string // default: ECDSA with SHA-256
	signers int    // default: 1
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
	digest := sha256.Sum256(m.content)
	if m.attrs == nil {
		m.attrs = [][]byte{attribute("1.2.840.113549.1.9.3", oidDER(m.typ)), attribute("1.2.840.113549.1.9.4", octets(digest[:]))}
	}
	set := bytes.Join(m.attrs, nil)
	signed := m.content
	if !m.noAttrs {
		signed = element(asn1.SET, set)
	}
	sha := element(asn1.SEQUENCE, oidDER("2.16.840.1.101.3.4.2.1"))
	c := m.signer.Certificate
	info := [][]byte{{2, 1, 1}, element(asn1.SEQUENCE, append(slices.Clone(c.RawIssuer), integer(c)...)), sha}
	if !m.noAttrs {
		info = append(info, element(asn1.Tag(0).ContextSpecific().Constructed(), set))
	}
	info = append(info, element(asn1.SEQUENCE, oidDER(m.scheme)), octets(m.sign(signed)))
	infos := bytes.Repeat(element(asn1.SEQUENCE, info...), max(1, m.signers))
	inner := element(asn1.SEQUENCE, []byte{2, 1, 3}, element(asn1.SET, sha),
		element(asn1.SEQUENCE, oidDER(m.typ), element(asn1.Tag(0).ContextSpecific().Constructed(), octets(m.content))),
		element(asn1.SET, infos))
	return opensslpki.ContentInfo("1.2.840.113549.1.7.2", func(b *cryptobyte.Builder) { b.AddBytes(inner) })
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
