package cms_test

import (
	"bytes"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/smallstep/pkcs7"

	"github.com/xpu-sztp/ztp/artifacts/cms"
	"github.com/xpu-sztp/ztp/artifacts/internal/opensslpki"
	"github.com/xpu-sztp/ztp/test/libcrypto"
)

// FuzzParse holds Parse against the promise of a signature. Whatever a message was changed into, if it still counts as
// signed by the key that signed the seeds, its content is that of a seed; and if it counts as signed by the key of a
// certificate that it brings, it does for OpenSSL, with equal content.
func FuzzParse(f *testing.F) {
	w := shared()
	f.Add(opensslpki.Data(typeJSON, content))
	f.Add(w.Sign(w.signer, content, "-econtent_type", typeJSON))
	f.Add(w.Sign(w.signer, content, "-econtent_type", typeData, "-keyid", "-noattr", "-nocerts"))
	f.Add(w.Sign(w.signer, content, "-stream"))
	f.Add(w.Certificates([]*opensslpki.Entity{w.signer, w.root}))
	f.Add(w.Encrypt(w.other, content, "-aes-256-cbc"))
	f.Add(w.Encrypt(w.other, w.Sign(w.signer, content), "-aes-128-gcm"))
	reader := recipient(f, w.other)
	f.Fuzz(func(t *testing.T, der []byte) {
		m, err := cms.Parse(der)
		if err != nil {
			explained(t, err)
			return
		}
		if set := count(m.Data != nil, m.Signed != nil, m.Enveloped != nil); set != 1 {
			t.Fatalf("%d kinds of content", set)
		}
		if m.Enveloped != nil {
			told := strings.Join(m.Enveloped.Recipients(), "")
			if m, err = m.Enveloped.Open(reader); err != nil {
				explained(t, err)
				return
			}
			if len(told) > cms.MaxRecipients*maxTold {
				t.Fatalf("recipients are told in %d bytes", len(told))
			}
			der = nil
		}
		if m.Signed == nil {
			return
		}
		if m.Signed.SignedBy(w.signer.Certificate) == nil && !bytes.Equal(m.Signed.Content, content) {
			t.Fatalf("forged content %q", m.Signed.Content)
		}
		for _, s := range m.Signed.Signers {
			if told := s.String() + s.Algorithm(); len(told) > maxTold {
				t.Fatalf("signer is told in %d bytes", len(told))
			}
		}
		bringsItsSigner(t, der, m.Signed)
	})
}

const maxTold = 2000

// explained makes sure that an error is one of those that are documented, and short.
func explained(t *testing.T, err error) {
	t.Helper()
	for _, kind := range []error{cms.ErrMalformed, cms.ErrLimit, cms.ErrUnsupported, cms.ErrNotRecipient, cms.ErrNoKey, cms.ErrDecrypt} {
		if errors.Is(err, kind) && len(err.Error()) < maxTold {
			return
		}
	}
	t.Fatalf("error %.3000v", err)
}

// bringsItsSigner asks OpenSSL about the signature by a certificate in s, which was read from der. OpenSSL is not shown
// the other certificates and revocation lists: no signature covers them, and it refuses some for reasons of its own.
func bringsItsSigner(t *testing.T, der []byte, s *cms.SignedData) {
	t.Helper()
	if len(s.Signers) != 1 || s.PKCS7 {
		return
	}
	bare, ok := withoutCertificates(der)
	for i := 0; ok && i < len(s.Certificates); i++ {
		c := s.Certificates[i]
		if s.SignedBy(c) != nil {
			continue
		}
		v, err := libcrypto.New(libcrypto.Options{Certificates: []*x509.Certificate{c}})
		if err != nil {
			continue // OpenSSL does not read the certificate
		}
		theirs, err := v.Verify(bare, nil)
		v.Close()
		if err != nil || !bytes.Equal(theirs, s.Content) {
			t.Fatalf("accepted %x; OpenSSL: %x, %v", s.Content, theirs, err)
		}
	}
}

// withoutCertificates takes certificates and revocation lists out of a SignedData, if it is DER.
func withoutCertificates(der []byte) (bare []byte, ok bool) {
	nodes, ok := readNodes(der, nil)
	if !ok || len(nodes) != 1 || len(nodes[0].children) != 2 || len(nodes[0].children[1].children) != 1 {
		return nil, false
	}
	signed := nodes[0].children[1].children[0]
	signed.children = slices.DeleteFunc(signed.children, func(n *node) bool { return n.tag&0x80 != 0 })
	return nodes[0].build(), true
}

func count(facts ...bool) (n int) {
	for _, f := range facts {
		if f {
			n++
		}
	}
	return n
}

// TestAgainstPKCS7 reads what another implementation wrote.
func TestAgainstPKCS7(t *testing.T) {
	w := shared()
	rsa := w.IssueKey([]string{"rsa:2048"}, w.root, "/CN=rsa", opensslpki.Signer...)
	for name, signer := range map[string]*opensslpki.Entity{"ecdsa": w.signer, "rsa": rsa} {
		t.Run(name, func(t *testing.T) {
			s := mustParse(t, signWithPKCS7(t, signer)).Signed
			if err := s.SignedBy(signer.Certificate); err != nil || !bytes.Equal(s.Content, content) {
				t.Errorf("content %q, %v", s.Content, err)
			}
		})
	}
	t.Run("degenerate", func(t *testing.T) {
		der, err := pkcs7.DegenerateCertificate(append(bytes.Clone(w.signer.Certificate.Raw), w.root.Certificate.Raw...))
		if err != nil {
			t.Fatal(err)
		}
		if s := mustParse(t, der).Signed; len(s.Certificates) != 2 || !s.Degenerate() {
			t.Errorf("%d certificates", len(s.Certificates))
		}
	})
}

func signWithPKCS7(t testing.TB, signer *opensslpki.Entity) []byte {
	t.Helper()
	s, err := pkcs7.NewSignedData(content)
	if err != nil {
		t.Fatal(err)
	}
	s.SetDigestAlgorithm(pkcs7.OIDDigestAlgorithmSHA256)
	if err := s.AddSigner(signer.Certificate, privateKey(t, signer), pkcs7.SignerInfoConfig{}); err != nil {
		t.Fatal(err)
	}
	der, err := s.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestDecryptAgainstPKCS7 reads what another implementation encrypted.
func TestDecryptAgainstPKCS7(t *testing.T) {
	w := shared()
	device := w.IssueKey([]string{"rsa:2048"}, w.root, "/CN=RSA device")
	before := pkcs7.ContentEncryptionAlgorithm
	defer func() { pkcs7.ContentEncryptionAlgorithm = before }()
	for name, kind := range map[string]int{
		"aes128-cbc": pkcs7.EncryptionAlgorithmAES128CBC, "aes256-cbc": pkcs7.EncryptionAlgorithmAES256CBC,
	} {
		t.Run(name, func(t *testing.T) {
			pkcs7.ContentEncryptionAlgorithm = kind
			der, err := pkcs7.Encrypt(content, []*x509.Certificate{device.Certificate})
			if err != nil {
				t.Fatal(err)
			}
			m, err := open(t, der, recipient(t, device))
			if err != nil || !bytes.Equal(m.Data, content) {
				t.Errorf("Open: %v", err)
			}
		})
	}
}
