package cms_test

import (
	"bytes"
	"crypto/x509"
	"testing"

	"github.com/smallstep/pkcs7"

	"github.com/xpu-sztp/ztp/artifacts/cms"
	"github.com/xpu-sztp/ztp/artifacts/internal/opensslpki"
)

// FuzzParse holds Parse against the promise of a signature: whatever a message was changed into, if it still counts as
// signed by the key that signed the seeds, its content is that of a seed.
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
			return
		}
		if set := count(m.Data != nil, m.Signed != nil, m.Enveloped != nil); set != 1 {
			t.Fatalf("%d kinds of content", set)
		}
		if m.Enveloped != nil {
			if m, err = m.Enveloped.Open(reader); err != nil {
				return
			}
		}
		if m.Signed != nil && m.Signed.SignedBy(w.signer.Certificate) == nil && !bytes.Equal(m.Signed.Content, content) {
			t.Fatalf("forged content %q", m.Signed.Content)
		}
	})
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

// TestMutationsAgainstPKCS7 changes every byte of signed messages: what this package accepts, the other implementation
// accepts too, with the same content. Certificates in the messages stay as they are: the signature does not cover them.
func TestMutationsAgainstPKCS7(t *testing.T) {
	w := shared()
	for name, der := range map[string][]byte{
		"openssl": w.Sign(w.signer, content, "-econtent_type", typeJSON),
		"pkcs7":   signWithPKCS7(t, w.signer),
	} {
		t.Run(name, func(t *testing.T) {
			accepted := 0
			certificate := bytes.Index(der, w.signer.Certificate.Raw)
			for i := range der {
				if certificate >= 0 && i >= certificate && i < certificate+len(w.signer.Certificate.Raw) {
					continue
				}
				for _, bit := range []byte{1, 0x20, 0x80} {
					changed := bytes.Clone(der)
					changed[i] ^= bit
					m, err := cms.Parse(changed)
					if err != nil || m.Signed == nil || m.Signed.SignedBy(w.signer.Certificate) != nil {
						continue
					}
					accepted++
					theirs, err := verifyWithPKCS7(changed, w.signer.Certificate)
					if err != nil || !bytes.Equal(theirs, m.Signed.Content) || !bytes.Equal(theirs, content) {
						t.Errorf("byte %d, bit %#x: ours %q, theirs %q, %v", i, bit, m.Signed.Content, theirs, err)
					}
				}
			}
			if accepted == len(der)*3 {
				t.Error("everything was accepted")
			}
		})
	}
}

func verifyWithPKCS7(der []byte, signer *x509.Certificate) ([]byte, error) {
	p, err := pkcs7.Parse(der)
	if err != nil {
		return nil, err
	}
	p.Certificates = []*x509.Certificate{signer}
	return p.Content, p.Verify()
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
