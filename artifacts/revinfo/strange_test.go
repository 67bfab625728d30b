package revinfo_test

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
	"golang.org/x/crypto/ocsp"

	"github.com/xpu-sztp/ztp/artifacts/cms"
	"github.com/xpu-sztp/ztp/artifacts/internal/opensslpki"
	"github.com/xpu-sztp/ztp/artifacts/revinfo"
)

// What OpenSSL's command line does not make is made here.

func key(t *testing.T, e *opensslpki.Entity) crypto.Signer {
	t.Helper()
	text, err := os.ReadFile(e.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return k.(crypto.Signer)
}

// parts of a response: ResponseData, and what follows it.
type parts struct{ data, algorithm, rest []byte }

func split(t *testing.T, der []byte) parts {
	t.Helper()
	in := cryptobyte.String(der)
	var body, wrapped, content, basic, inner, data, algorithm cryptobyte.String
	explicit := casn1.Tag(0).ContextSpecific().Constructed()
	if !in.ReadASN1(&body, casn1.SEQUENCE) || !body.SkipASN1(casn1.ENUM) || !body.ReadASN1(&wrapped, explicit) ||
		!wrapped.ReadASN1(&content, casn1.SEQUENCE) || !content.SkipASN1(casn1.OBJECT_IDENTIFIER) || !content.ReadASN1(&basic, casn1.OCTET_STRING) ||
		!basic.ReadASN1(&inner, casn1.SEQUENCE) || !inner.ReadASN1(&data, casn1.SEQUENCE) || !inner.ReadASN1Element(&algorithm, casn1.SEQUENCE) ||
		!inner.SkipASN1(casn1.BIT_STRING) {
		t.Fatal("not an OCSP response")
	}
	return parts{data, algorithm, inner}
}

// signedBy makes a response of the parts, with more at the end of the data.
func (p parts) signedBy(t *testing.T, e *opensslpki.Entity, more []byte) []byte {
	t.Helper()
	sequence := func(contents ...[]byte) []byte {
		var b cryptobyte.Builder
		b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
			for _, c := range contents {
				b.AddBytes(c)
			}
		})
		return b.BytesOrPanic()
	}
	data := sequence(p.data, more)
	digest := sha256.Sum256(data)
	signature, err := key(t, e).Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	var bits cryptobyte.Builder
	bits.AddASN1BitString(signature)
	basic := sequence(data, p.algorithm, bits.BytesOrPanic(), p.rest)
	var b cryptobyte.Builder
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Enum(0)
		b.AddASN1(casn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
			b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 1})
				b.AddASN1OctetString(basic)
			})
		})
	})
	return b.BytesOrPanic()
}

// extensions is responseExtensions with one extension that nobody knows.
func extensions(critical bool) []byte {
	var b cryptobyte.Builder
	b.AddASN1(casn1.Tag(1).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
		b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{1, 2, 3, 4})
				if critical {
					b.AddASN1Boolean(true)
				}
				b.AddASN1OctetString([]byte{5, 0})
			})
		})
	})
	return b.BytesOrPanic()
}

// TestStrangeResponses are signed by whom the authority allows that, and yet do not count.
func TestStrangeResponses(t *testing.T) {
	w := shared()
	plain, delegated := split(t, w.plain), split(t, w.delegated)
	t.Run("extension", func(t *testing.T) {
		r, err := revinfo.ParseResponse(plain.signedBy(t, w.ca, extensions(false)))
		if err == nil {
			_, err = r.Responder(w.ca.Certificate)
		}
		if err != nil {
			t.Error(err)
		}
	})
	t.Run("critical-extension", func(t *testing.T) {
		if _, err := revinfo.ParseResponse(plain.signedBy(t, w.ca, extensions(true))); !errors.Is(err, revinfo.ErrMalformed) {
			t.Error(err)
		}
	})
	t.Run("signed-by-another-than-the-responder", func(t *testing.T) {
		for name, signer := range map[string]*opensslpki.Entity{"responder": w.delegate, "authority": w.ca, "stranger": w.rekeyed} {
			r, err := revinfo.ParseResponse(delegated.signedBy(t, signer, nil))
			if err == nil {
				_, err = r.Responder(w.ca.Certificate)
			}
			if signer == w.delegate && err != nil || signer != w.delegate && !errors.Is(err, cms.ErrSignature) {
				t.Errorf("by the %s: %v", name, err)
			}
		}
	})
	t.Run("names-another-responder", func(t *testing.T) {
		plain.rest = delegated.rest // the certificate of the responder that really signs
		r, err := revinfo.ParseResponse(plain.signedBy(t, w.delegate, nil))
		if err != nil {
			t.Fatal(err)
		}
		if _, err = r.Responder(w.ca.Certificate); err == nil {
			t.Error("verifies")
		}
	})
}

// TestStrangeAnswers are about another certificate, or say more than is understood.
func TestStrangeAnswers(t *testing.T) {
	w := shared()
	unknown := []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Value: []byte{5, 0}}}
	critical := []pkix.Extension{{Id: unknown[0].Id, Value: unknown[0].Value, Critical: true}}
	for name, test := range map[string]struct {
		issuer     *x509.Certificate
		extensions []pkix.Extension
		about      bool
	}{
		"plain":                       {w.ca.Certificate, nil, true},
		"extension":                   {w.ca.Certificate, unknown, true},
		"critical-extension":          {w.ca.Certificate, critical, false},
		"critical-before-another":     {w.ca.Certificate, append(critical[:1:1], unknown...), false},
		"same-key-under-another-name": {w.renamed.Certificate, nil, false},
		"same-name-with-another-key":  {w.rekeyed.Certificate, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			der, err := ocsp.CreateResponse(test.issuer, w.ca.Certificate, ocsp.Response{Status: ocsp.Good, IssuerHash: crypto.SHA1,
				SerialNumber: w.good.Certificate.SerialNumber, ThisUpdate: time.Now(), ExtraExtensions: test.extensions}, key(t, w.ca))
			if err != nil {
				t.Fatal(err)
			}
			r, err := revinfo.ParseResponse(der)
			if err != nil {
				t.Fatal(err)
			}
			if about := r.Answers[0].About(w.good.Certificate, w.ca.Certificate); about != test.about {
				t.Errorf("about it: %v", about)
			}
		})
	}
}

// TestStrangeEntries makes a list unfit by an entry that belongs to another issuer or has to be understood.
func TestStrangeEntries(t *testing.T) {
	w := shared()
	for name, test := range map[string]struct {
		extension pkix.Extension
		covers    bool
	}{
		"not-critical":       {pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Value: []byte{5, 0}}, true},
		"certificate-issuer": {pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 29}, Value: []byte{0x30, 0}}, false},
		"unknown-critical":   {pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Value: []byte{5, 0}, Critical: true}, false},
	} {
		t.Run(name, func(t *testing.T) {
			der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now(),
				NextUpdate: time.Now().Add(time.Hour), RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: big.NewInt(1),
					RevocationTime: time.Now(), ExtraExtensions: []pkix.Extension{test.extension}}}}, w.ca.Certificate, key(t, w.ca))
			if err != nil {
				t.Fatal(err)
			}
			list, err := revinfo.ParseList(der)
			if err != nil {
				t.Fatal(err)
			}
			if covers := list.Covers(w.good.Certificate); covers != test.covers {
				t.Errorf("covers it: %v", covers)
			}
		})
	}
}
