package cms_test

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"testing"

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
	// A wrong signature of one takes nothing from the other's, and gives nothing to its own.
	der[len(der)-1] ^= 1
	s = mustParse(t, der).Signed
	errs := []error{s.SignedBy(w.signer.Certificate), s.SignedBy(w.other.Certificate)}
	if good := slices.Index(errs, nil); good < 0 || !errors.Is(errs[1-good], cms.ErrSignature) {
		t.Errorf("with one wrong signature: %v", errs)
	}
	if err := s.SignedBy(w.root.Certificate); !errors.Is(err, cms.ErrNotSigner) {
		t.Errorf("by neither: %v", err)
	}
}

func TestSignedAttributes(t *testing.T) {
	w := shared()
	sign := ecdsaWith(t, privateKey(t, w.signer))
	digest := sha256.Sum256(content)
	contentType := attribute("1.2.840.113549.1.9.3", oidDER(typeJSON))
	messageDigest := attribute("1.2.840.113549.1.9.4", octets(digest[:]))
	var unknown [][]byte
	for i := range 31 {
		unknown = append(unknown, attribute(fmt.Sprintf("1.2.3.%d", i), octets(nil)))
	}
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
		{name: "no-content-type-id-data", typ: typeData, attrs: [][]byte{messageDigest}, want: cms.ErrSignature},
		{name: "no-content-type", attrs: [][]byte{messageDigest}, want: cms.ErrSignature},
		{name: "other-content-type", attrs: [][]byte{attribute("1.2.840.113549.1.9.3", oidDER(typeVoucher)), messageDigest},
			want: cms.ErrSignature},
		{name: "no-digest", attrs: [][]byte{contentType}, want: cms.ErrSignature},
		{name: "other-digest", attrs: [][]byte{contentType, attribute("1.2.840.113549.1.9.4", octets(make([]byte, 32)))},
			want: cms.ErrSignature},
		{name: "two-digests", attrs: [][]byte{contentType, messageDigest, messageDigest}, want: cms.ErrMalformed, parse: true},
		{name: "two-values", attrs: [][]byte{contentType, attribute("1.2.840.113549.1.9.4", octets(digest[:]), octets(digest[:]))},
			want: cms.ErrMalformed, parse: true},
		{name: "other-order", attrs: [][]byte{messageDigest, contentType}},
		{name: "unknown-with-two-values", attrs: [][]byte{contentType, messageDigest, attribute(typeVoucher, octets(nil), octets(nil))}},
		{name: "unknown-twice", attrs: [][]byte{contentType, messageDigest, attribute(typeVoucher, octets(nil)), attribute(typeVoucher, octets(nil))},
			want: cms.ErrMalformed, parse: true},
		{name: "no-value", attrs: [][]byte{contentType, attribute("1.2.840.113549.1.9.4")}, want: cms.ErrMalformed, parse: true},
		{name: "digest-in-pieces", attrs: [][]byte{contentType, attribute("1.2.840.113549.1.9.4", element(0x24, octets(digest[:])))},
			want: cms.ErrMalformed, parse: true},
		{name: "two-content-type-values", attrs: [][]byte{attribute("1.2.840.113549.1.9.3", oidDER(typeJSON), oidDER(typeJSON)), messageDigest},
			want: cms.ErrMalformed, parse: true},
		{name: "signing-time", attrs: [][]byte{contentType, messageDigest, attribute("1.2.840.113549.1.9.5", element(asn1.UTCTime, []byte("250101000000Z")))}},
		{name: "two-signing-times", attrs: [][]byte{contentType, messageDigest, attribute("1.2.840.113549.1.9.5",
			element(asn1.UTCTime, []byte("250101000000Z")), element(asn1.UTCTime, []byte("250101000000Z")))}, want: cms.ErrMalformed, parse: true},
		{name: "signing-time-generalized", attrs: [][]byte{contentType, messageDigest, attribute("1.2.840.113549.1.9.5", element(asn1.GeneralizedTime, []byte("20500101000000Z")))}},
		{name: "signing-time-of-other-type", attrs: [][]byte{contentType, messageDigest, attribute("1.2.840.113549.1.9.5", octets(nil))}, want: cms.ErrMalformed, parse: true},
		{name: "attribute-of-three", attrs: [][]byte{contentType, messageDigest, element(asn1.SEQUENCE, oidDER(typeVoucher), element(asn1.SET), octets(nil))},
			want: cms.ErrMalformed, parse: true},
		{name: "no-set", attrs: [][]byte{contentType, messageDigest, element(asn1.SEQUENCE, oidDER(typeVoucher))}, want: cms.ErrMalformed, parse: true},
		{name: "as-many-as-can", attrs: append([][]byte{contentType, messageDigest}, unknown[:30]...)},
		{name: "one-too-many", attrs: append([][]byte{contentType, messageDigest}, unknown...), want: cms.ErrLimit, parse: true},
		{name: "empty-id-data", typ: typeData, attrs: [][]byte{{}}, want: cms.ErrSignature},
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

// TestSignerInfoFaults is what is wrong beside the signature, which is right each time.
func TestSignerInfoFaults(t *testing.T) {
	w := shared()
	sign := ecdsaWith(t, privateKey(t, w.signer))
	digest := sha256.Sum256(content)
	for name, test := range map[string]struct {
		message message
		want    error
	}{
		"right":                   {message{}, nil},
		"digest-not-announced":    {message{announced: crypto.SHA384}, cms.ErrMalformed},
		"not-announced-unsigned":  {message{announced: crypto.SHA384, noAttrs: true, typ: typeData}, cms.ErrMalformed},
		"unsigned-attribute":      {message{unsigned: attribute(typeVoucher, octets(nil))}, nil},
		"unsigned-content-type":   {message{unsigned: attribute("1.2.840.113549.1.9.3", oidDER(typeJSON))}, cms.ErrMalformed},
		"unsigned-digest":         {message{unsigned: attribute("1.2.840.113549.1.9.4", octets(digest[:]))}, cms.ErrMalformed},
		"unsigned-signing-time":   {message{unsigned: attribute("1.2.840.113549.1.9.5", element(asn1.UTCTime, []byte("250101000000Z")))}, cms.ErrMalformed},
		"unsigned-as-many-as-can": {message{unsigned: bytes.Repeat(attribute(typeVoucher, octets(nil)), 32)}, nil},
		"version-1":               {message{outer: 1}, nil},
		"version-3-of-signer":     {message{inner: []byte{2, 1, 3}}, nil},
		"version-0-of-signer":     {message{inner: []byte{2, 1, 0}}, cms.ErrUnsupported},
		"version-2-of-signer":     {message{inner: []byte{2, 1, 2}}, cms.ErrUnsupported},
		"version-4-of-signer":     {message{inner: []byte{2, 1, 4}}, cms.ErrUnsupported},
		"no-version-of-signer":    {message{inner: []byte{}}, cms.ErrMalformed},
		"announced-16-times":      {message{digests: 16}, nil},
		"announced-17-times":      {message{digests: 17}, cms.ErrLimit},
		"issuer-as-long-as-can":   {message{issuer: element(asn1.SEQUENCE, make([]byte, 16<<10-4))}, cms.ErrNotSigner},
		"issuer-a-byte-longer":    {message{issuer: element(asn1.SEQUENCE, make([]byte, 16<<10-3))}, cms.ErrLimit},
		"serial-as-long-as-can":   {message{serial: bytes.Repeat([]byte{1}, 62)}, cms.ErrNotSigner},
		"serial-a-byte-longer":    {message{serial: bytes.Repeat([]byte{1}, 63)}, cms.ErrLimit},
		"key-id-as-long-as-can":   {message{keyID: make([]byte, 64)}, cms.ErrNotSigner},
		"unsigned-no-attribute":   {message{unsigned: []byte{5, 0}}, cms.ErrMalformed},
		"unsigned-many":           {message{unsigned: bytes.Repeat(attribute(typeVoucher, octets(nil)), 33)}, cms.ErrLimit},
		"attributes-many":         {message{attrs: slices.Repeat([][]byte{attribute(typeVoucher, octets(nil))}, 33)}, cms.ErrLimit},
		"long-issuer":             {message{issuer: element(asn1.SEQUENCE, make([]byte, 17<<10))}, cms.ErrLimit},
		"long-serial":             {message{serial: bytes.Repeat([]byte{1}, 65)}, cms.ErrLimit},
		"serial-not-shortest":     {message{serial: []byte{0, 0, 1}}, cms.ErrMalformed},
		"empty-serial":            {message{serial: []byte{}}, cms.ErrMalformed},
		"long-key-identifier":     {message{keyID: make([]byte, 65)}, cms.ErrLimit},
		"empty-key-identifier":    {message{keyID: []byte{}}, cms.ErrMalformed},
		"other-issuer":            {message{issuer: element(asn1.SEQUENCE)}, cms.ErrNotSigner},
		"other-serial":            {message{serial: []byte{1}}, cms.ErrNotSigner},
		"key-identifier":          {message{keyID: w.signer.Certificate.SubjectKeyId}, nil},
		"shorter-key-identifier":  {message{keyID: w.signer.Certificate.SubjectKeyId[1:]}, cms.ErrNotSigner},
		"rsa-by-name":             {message{scheme: "1.2.840.113549.1.1.11"}, cms.ErrUnsupported},
		"unknown-scheme":          {message{scheme: typeVoucher}, cms.ErrUnsupported},
		"ecdsa-with-sha1-by-name": {message{scheme: "1.2.840.10045.4.1"}, cms.ErrUnsupported},
	} {
		t.Run(name, func(t *testing.T) {
			test.message.signer, test.message.sign = w.signer, sign
			m, err := cms.Parse(test.message.build())
			if err == nil {
				err = m.Signed.SignedBy(w.signer.Certificate)
			}
			if !errors.Is(err, test.want) {
				t.Errorf("%v, want %v", err, test.want)
			}
		})
	}
}

// TestPKCS7 is RFC 5652 §5.2.1: content that is not an OCTET STRING was signed without its tag and length.
func TestPKCS7(t *testing.T) {
	w := shared()
	sign := ecdsaWith(t, privateKey(t, w.signer))
	m := message{signer: w.signer, sign: sign, element: asn1.UTF8String}
	s := mustParse(t, m.build()).Signed
	if err := s.SignedBy(w.signer.Certificate); err != nil || !s.PKCS7 || !bytes.Equal(s.Content, content) {
		t.Errorf("PKCS7 %v, content %q, %v", s.PKCS7, s.Content, err)
	}
	m.typ = typeData // in which PKCS #7 has an OCTET STRING, too
	if _, err := cms.Parse(m.build()); !errors.Is(err, cms.ErrMalformed) {
		t.Errorf("id-data: %v", err)
	}
	der := w.Run("smime", "-sign", "-binary", "-nodetach", "-in", w.Write(content), "-signer", w.signer.CertFile, "-inkey", w.signer.KeyFile,
		"-outform", "DER")
	s = mustParse(t, der).Signed
	if err := s.SignedBy(w.signer.Certificate); err != nil || s.PKCS7 || !bytes.Equal(s.Content, content) {
		t.Errorf("openssl smime: PKCS7 %v, content %q, %v", s.PKCS7, s.Content, err)
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
	detached := w.Run("cms", "-sign", "-binary", "-in", w.Write(content), "-outform", "DER", "-signer", w.signer.CertFile, "-inkey", w.signer.KeyFile)
	unsigned := opensslpki.ContentInfo("1.2.840.113549.1.7.2", addBytes(element(asn1.SEQUENCE, []byte{2, 1, 1}, element(asn1.SET),
		element(asn1.SEQUENCE, oidDER(typeData), element(0xa0, octets(content))), element(asn1.SET))))
	for name, der := range map[string][]byte{"signed": w.Sign(w.signer, content), "detached": detached, "unsigned": unsigned} {
		if mustParse(t, der).Signed.Degenerate() {
			t.Errorf("a %s message is degenerate", name)
		}
	}
}
