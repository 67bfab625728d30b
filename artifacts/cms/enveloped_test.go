package cms_test

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"errors"
	"io"
	"testing"

	"golang.org/x/crypto/cryptobyte"

	"github.com/xpu-sztp/ztp/artifacts/cms"
	"github.com/xpu-sztp/ztp/artifacts/internal/opensslpki"
)

func addBytes(data []byte) func(*cryptobyte.Builder) {
	return func(b *cryptobyte.Builder) { b.AddBytes(data) }
}

func recipient(t testing.TB, e *opensslpki.Entity) cms.Recipient {
	t.Helper()
	r := cms.Recipient{Certificate: e.Certificate}
	switch key := privateKey(t, e).(type) {
	case *ecdsa.PrivateKey:
		agreement, err := key.ECDH()
		if err != nil {
			t.Fatal(err)
		}
		r.KeyAgreement = agreement
	case crypto.Decrypter:
		r.Decrypter = key
	}
	return r
}

func open(t testing.TB, der []byte, r cms.Recipient) (*cms.Message, error) {
	t.Helper()
	m := mustParse(t, der)
	if m.Enveloped == nil {
		t.Fatalf("not encrypted: %v", m.Type)
	}
	return m.Enveloped.Open(r)
}

func TestDecryptedForms(t *testing.T) {
	w := shared()
	device := w.Issue(w.root, "/CN=P-256 device")
	signed := w.Sign(w.signer, content, "-econtent_type", typeJSON)
	bare := cryptobyte.String(signed)
	var info, inner cryptobyte.String
	if !bare.ReadASN1(&info, 0x30) || !info.SkipASN1(6) || !info.ReadASN1(&inner, 0xa0) {
		t.Fatal("signed message")
	}
	// OpenSSL labels what it encrypts as id-data, and -econtent_type does not change it.
	for name, test := range map[string]struct {
		plaintext []byte
		signed    bool
		want      error
	}{
		"document":               {content, false, nil},
		"content-info-unsigned":  {opensslpki.Data(typeJSON, content), false, nil},
		"content-info-signed":    {signed, true, nil},
		"bare-signed-data":       {inner, true, nil},
		"streamed-signed":        {w.Sign(w.signer, content, "-stream", "-econtent_type", typeJSON), true, nil},
		"encrypted-again":        {w.Encrypt(device, content), false, cms.ErrDecrypt},
		"signed-and-trailing":    {append(bytes.Clone(signed), 0), false, cms.ErrDecrypt},
		"sequence-of-no-meaning": {[]byte{0x30, 0}, false, cms.ErrDecrypt},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := open(t, w.Encrypt(device, test.plaintext, "-aes-256-cbc"), recipient(t, device))
			if !errors.Is(err, test.want) {
				t.Fatalf("Open: %v, want %v", err, test.want)
			}
			if err != nil {
				return
			}
			got := m.Data
			if test.signed {
				got = m.Signed.Content
				if err := m.Signed.SignedBy(w.signer.Certificate); err != nil {
					t.Error(err)
				}
			}
			if !bytes.Equal(got, content) {
				t.Errorf("content %q", got)
			}
		})
	}
	t.Run("streamed-encryption", func(t *testing.T) {
		m, err := open(t, w.Encrypt(device, content, "-aes-256-cbc", "-stream"), recipient(t, device))
		if err != nil || !bytes.Equal(m.Data, content) {
			t.Errorf("%v", err)
		}
	})
}

// TestPlaintextLabels decrypts what the openssl command does not label: only of id-data and SignedData a structure is read.
func TestPlaintextLabels(t *testing.T) {
	w := shared()
	device := w.IssueKey([]string{"rsa:2048"}, w.root, "/CN=RSA device")
	key, iv := make([]byte, 16), make([]byte, 16)
	nested := opensslpki.Data(typeVoucher, content)
	for name, test := range map[string]struct {
		label     string
		plaintext []byte
		want      []byte // nil is a refusal
	}{
		"document":                {typeJSON, content, content},
		"document-like-structure": {typeJSON, nested, nested},
		"voucher-like-structure":  {typeVoucher, []byte{0x30, 0}, []byte{0x30, 0}},
		"data-with-structure":     {typeData, nested, content},
		"data-empty":              {typeData, []byte{}, []byte{}},
		"data-with-zero":          {typeData, []byte{0x30}, nil},
		"signed-with-structure":   {"1.2.840.113549.1.7.2", nested, content},
		"signed-with-text":        {"1.2.840.113549.1.7.2", content, nil},
		"signed-with-nothing":     {"1.2.840.113549.1.7.2", []byte{}, nil},
		"enveloped":               {"1.2.840.113549.1.7.3", nested, nil},
		"unknown":                 {"1.2.3", content, nil},
	} {
		t.Run(name, func(t *testing.T) {
			e := transported{device: device, key: key, cipher: aes128CBC, params: octets(iv), typ: test.label, encrypted: encryptCBC(t, key, iv, test.plaintext)}
			m, err := open(t, e.build(t), recipient(t, device))
			if test.want == nil && err != cms.ErrDecrypt || test.want != nil && (err != nil || !bytes.Equal(m.Data, test.want) || m.Signed != nil) {
				t.Errorf("%+v, %v", m, err)
			}
		})
	}
}

func TestRecipients(t *testing.T) {
	w := shared()
	rsa := w.IssueKey([]string{"rsa:2048"}, w.root, "/CN=RSA device")
	ec := w.Issue(w.root, "/CN=P-256 device")
	other := w.Issue(w.root, "/CN=another device")
	both := w.Encrypt(rsa, content, "-aes-256-cbc", ec.CertFile)
	for name, e := range map[string]*opensslpki.Entity{"rsa": rsa, "ec": ec} {
		m, err := open(t, both, recipient(t, e))
		if err != nil || !bytes.Equal(m.Data, content) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, r := range map[string]cms.Recipient{
		"another":        recipient(t, other),
		"no-certificate": {Decrypter: recipient(t, rsa).Decrypter},
	} {
		if _, err := open(t, both, r); err != cms.ErrNotRecipient {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, e := range []*opensslpki.Entity{rsa, ec} { // T-14: a key that can only sign
		if _, err := open(t, both, cms.Recipient{Certificate: e.Certificate}); err != cms.ErrNoKey {
			t.Errorf("without keys: %v", err)
		}
	}
}

// brokenDecrypter fails as hardware does, with an error for a bad padding.
type brokenDecrypter struct{ crypto.Decrypter }

func (brokenDecrypter) Decrypt(io.Reader, []byte, crypto.DecrypterOpts) ([]byte, error) {
	return nil, errors.New("padding is wrong")
}

// wellKey fails with an error that says that the key itself is well.
type wellKey struct{ crypto.Decrypter }

type wellness struct{ error }

func (wellness) KeyFailed() bool { return false }

func (wellKey) Decrypt(io.Reader, []byte, crypto.DecrypterOpts) ([]byte, error) {
	return nil, wellness{errors.New("padding is wrong")}
}

// silentKey fails as a TPM does that gives no answer.
type silentKey struct{ crypto.Decrypter }

type silence struct{ error }

func (silence) KeyFailed() bool { return true }

func (silentKey) Decrypt(io.Reader, []byte, crypto.DecrypterOpts) ([]byte, error) {
	return nil, silence{errors.New("no answer")}
}

func (silentKey) ECDH(*ecdh.PublicKey) ([]byte, error) { return nil, silence{errors.New("no answer")} }

// TestDecryptionFailuresLookAlike changes every byte of encrypted messages, one at a time: whatever it breaks, the error is
// the same.
func TestDecryptionFailuresLookAlike(t *testing.T) {
	w := shared()
	rsa := w.IssueKey([]string{"rsa:2048"}, w.root, "/CN=RSA device")
	ec := w.Issue(w.root, "/CN=P-256 device")
	signed := w.Sign(w.signer, content, "-econtent_type", typeJSON)
	for name, test := range map[string]struct {
		device *opensslpki.Entity
		cipher string
	}{"rsa-cbc": {rsa, "-aes-128-cbc"}, "ec-cbc": {ec, "-aes-256-cbc"}, "ec-gcm": {ec, "-aes-128-gcm"}} {
		t.Run(name, func(t *testing.T) {
			der := w.Encrypt(test.device, signed, test.cipher)
			r := recipient(t, test.device)
			failures := 0
			for i := 0; i < len(der); i += 3 {
				changed := bytes.Clone(der)
				changed[i] ^= 0x41
				m, err := cms.Parse(changed)
				if err != nil || m.Enveloped == nil {
					continue
				}
				m, err = m.Enveloped.Open(r)
				switch {
				case err == cms.ErrDecrypt:
					failures++
				case err == nil && m.Signed != nil && m.Signed.SignedBy(w.signer.Certificate) == nil && !bytes.Equal(m.Signed.Content, content):
					t.Fatalf("byte %d: forged content", i)
				case err != nil && !errors.Is(err, cms.ErrUnsupported) && !errors.Is(err, cms.ErrNotRecipient) && !errors.Is(err, cms.ErrMalformed):
					t.Errorf("byte %d: %v", i, err)
				}
			}
			if failures < 50 {
				t.Errorf("%d failures of %d bytes", failures, len(der))
			}
		})
	}
	t.Run("hardware", func(t *testing.T) {
		r := recipient(t, rsa)
		for _, key := range []crypto.Decrypter{brokenDecrypter{r.Decrypter}, wellKey{r.Decrypter}} {
			r.Decrypter = key
			if _, err := open(t, w.Encrypt(rsa, signed, "-aes-256-cbc"), r); err != cms.ErrDecrypt {
				t.Errorf("%T: Open: %v", key, err)
			}
		}
	})
	t.Run("no-answer", func(t *testing.T) {
		for _, device := range []*opensslpki.Entity{rsa, ec} {
			r := recipient(t, device)
			if r.Decrypter != nil {
				r.Decrypter = silentKey{Decrypter: r.Decrypter}
			} else {
				r.KeyAgreement = silentKey{}
			}
			_, err := open(t, w.Encrypt(device, signed, "-aes-256-cbc"), r)
			if !errors.Is(err, cms.ErrKeyFailed) || !errors.As(err, new(silence)) {
				t.Errorf("Open: %v", err)
			}
		}
	})
}
