package cms_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/xpu-sztp/ztp/artifacts/cms"
	"github.com/xpu-sztp/ztp/artifacts/internal/opensslpki"
)

func (w world) curve(name string) *opensslpki.Entity {
	return w.IssueKey([]string{"ec", "-pkeyopt", "ec_paramgen_curve:" + name}, w.root, "/CN="+name, opensslpki.Signer...)
}

// TestEverySignatureOption reads what `openssl cms -sign` makes of each of its options, and refuses what the allow-list
// leaves out.
func TestEverySignatureOption(t *testing.T) {
	w := shared()
	rsa := w.IssueKey([]string{"rsa:2048"}, w.root, "/CN=rsa", opensslpki.Signer...)
	keys := map[string]*opensslpki.Entity{
		"p256": w.signer, "p384": w.curve("P-384"), "p521": w.curve("P-521"), "p224": w.curve("P-224"),
		"rsa": rsa, "rsa-pss": rsa, "rsa3072": w.IssueKey([]string{"rsa:3072"}, w.root, "/CN=rsa 3072", opensslpki.Signer...),
		"rsa1024": w.IssueKey([]string{"rsa:1024"}, w.root, "/CN=weak", opensslpki.Signer...),
	}
	read := 0
	for keyName, key := range keys {
		for _, digest := range []string{"sha256", "sha384", "sha512", "sha1", "md5", "sha224", "sha3-256", "sha512-256", "ripemd160"} {
			t.Run(keyName+"/"+digest, func(t *testing.T) {
				args := []string{"cms", "-sign", "-binary", "-nodetach", "-md", digest, "-econtent_type", typeJSON, "-in", w.Write(content),
					"-signer", key.CertFile, "-inkey", key.KeyFile, "-outform", "DER"}
				if keyName == "rsa-pss" {
					args = append(args, "-keyopt", "rsa_padding_mode:pss")
				}
				der, err := w.Try(args...)
				if err != nil {
					return // not a combination that OpenSSL knows
				}
				allowed := strings.Contains("sha256 sha384 sha512", digest) && keyName != "p224" && keyName != "rsa1024"
				err = mustParse(t, der).Signed.SignedBy(key.Certificate)
				if allowed && err != nil || !allowed && !errors.Is(err, cms.ErrUnsupported) {
					t.Errorf("allowed %v: %v", allowed, err)
				}
				if err == nil {
					read++
				}
			})
		}
	}
	if want := 6 * 3; read != want {
		t.Errorf("%d combinations were read, want %d", read, want)
	}
	for name, args := range map[string][]string{
		"keyid":      {"-keyid"},
		"nocerts":    {"-nocerts"},
		"stream":     {"-stream"},
		"noindef":    {"-noindef"},
		"cades":      {"-cades"},
		"receipts":   {"-receipt_request_to", "a@example.com", "-receipt_request_all"},
		"certfile":   {"-certfile", w.root.CertFile},
		"two":        {"-signer", w.other.CertFile, "-inkey", w.other.KeyFile},
		"two-kinds":  {"-signer", rsa.CertFile, "-inkey", rsa.KeyFile, "-keyid"},
		"everything": {"-keyid", "-stream", "-cades", "-md", "sha512", "-certfile", w.root.CertFile},
	} {
		t.Run(name, func(t *testing.T) {
			der := w.Run(append([]string{"cms", "-sign", "-binary", "-nodetach", "-econtent_type", typeJSON, "-in", w.Write(content), "-outform", "DER",
				"-signer", w.signer.CertFile, "-inkey", w.signer.KeyFile}, args...)...)
			s := mustParse(t, der).Signed
			if err := s.SignedBy(w.signer.Certificate); err != nil || !bytes.Equal(s.Content, content) {
				t.Errorf("content %q, %v", s.Content, err)
			}
		})
	}
	t.Run("detached", func(t *testing.T) {
		der := w.Run("cms", "-sign", "-binary", "-in", w.Write(content), "-outform", "DER", "-signer", w.signer.CertFile, "-inkey", w.signer.KeyFile)
		s := mustParse(t, der).Signed
		if err := s.SignedBy(w.signer.Certificate); s.Content != nil || !errors.Is(err, cms.ErrSignature) {
			t.Errorf("content %q, %v", s.Content, err)
		}
	})
}

// encryption is what an option of OpenSSL stands for, the arguments for it, and what comes of it.
type encryption struct {
	args []string
	want error
}

// TestEveryEncryptionOption reads what `openssl cms -encrypt` makes of every combination of its options for a kind of key.
func TestEveryEncryptionOption(t *testing.T) {
	w := shared()
	refused := func(args ...string) encryption { return encryption{args, cms.ErrUnsupported} }
	fine := func(args ...string) encryption { return encryption{args, nil} }
	ciphers := map[string]encryption{
		"aes128-cbc": fine("-aes-128-cbc"), "aes192-cbc": fine("-aes-192-cbc"), "aes256-cbc": fine("-aes-256-cbc"),
		"aes128-gcm": fine("-aes-128-gcm"), "aes192-gcm": fine("-aes-192-gcm"), "aes256-gcm": fine("-aes-256-gcm"),
		"3des": refused("-des3"), "camellia": refused("-camellia-128-cbc"), "aes-ofb": refused("-aes-128-ofb"), "aes-ctr": refused("-aes-128-ctr"),
	}
	padding := map[string]encryption{"pkcs1": fine(), "oaep": fine("-keyopt", "rsa_padding_mode:oaep"),
		"oaep-label": fine("-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_label:616263")}
	derivation := map[string]encryption{"default": fine()}
	hashes := map[string]error{"sha1": nil, "sha256": nil, "sha384": nil, "sha512": nil, "sha224": cms.ErrUnsupported, "md5": cms.ErrUnsupported}
	for hash, err := range hashes {
		for mgf, mgfErr := range hashes {
			want := err
			if mgfErr != nil {
				want = mgfErr
			}
			padding["oaep-"+hash+"-mgf1-"+mgf] = encryption{[]string{"-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:" + hash,
				"-keyopt", "rsa_mgf1_md:" + mgf}, want}
		}
		if hash == "md5" {
			continue
		}
		derivation[hash] = fine("-keyopt", "ecdh_kdf_md:"+hash)
		derivation["cofactor-"+hash] = fine("-keyopt", "ecdh_kdf_md:"+hash, "-keyopt", "ecdh_cofactor_mode:1")
	}
	wrapping := map[string]encryption{"wrap": fine(), "wrap128": fine("-aes128-wrap"), "wrap192": fine("-aes192-wrap"),
		"wrap256": fine("-aes256-wrap"), "wrap3des": refused("-des3-wrap")}
	naming := map[string]encryption{"serial": fine(), "keyid": fine("-keyid")}
	plain := map[string]encryption{"": fine()}

	rsa := w.IssueKey([]string{"rsa:2048"}, w.root, "/CN=RSA device")
	reader := recipient(t, rsa)
	read := w.encryptions(t, "rsa", rsa, reader, ciphers, map[string]encryption{"pkcs1": fine()}, naming)
	read += w.encryptions(t, "rsa", rsa, reader, map[string]encryption{"aes256-cbc": fine("-aes-256-cbc")}, padding, plain)
	for _, curve := range []string{"P-256", "P-384", "P-521", "P-224"} {
		device := w.curve(curve)
		if curve == "P-224" {
			reader := cms.Recipient{Certificate: device.Certificate, KeyAgreement: recipient(t, w.signer).KeyAgreement}
			w.encryptions(t, curve, device, reader, map[string]encryption{"": refused("-aes-128-cbc")}, plain, plain)
			continue
		}
		reader := recipient(t, device)
		read += w.encryptions(t, curve, device, reader, ciphers, map[string]encryption{"default": fine()}, naming)
		read += w.encryptions(t, curve, device, reader, map[string]encryption{"aes192-cbc": fine("-aes-192-cbc")}, derivation, wrapping)
	}
	if want := 6*2 + 3 + 4*4 + 3*(6*2+(1+2*5)*4); read != want {
		t.Errorf("%d combinations were read, want %d", read, want)
	}
}

// encryptions tries each combination of first, second and third, and returns how many were read.
func (w world) encryptions(t *testing.T, kind string, device *opensslpki.Entity, reader cms.Recipient,
	first, second, third map[string]encryption) (read int) {
	for a, one := range first {
		for b, two := range second {
			for c, three := range third {
				t.Run(kind+"/"+a+"/"+b+"/"+c, func(t *testing.T) {
					args := []string{"cms", "-encrypt", "-binary", "-in", w.Write(content), "-outform", "DER"}
					args = append(append(append(args, one.args...), "-recip", device.CertFile), two.args...)
					der, err := w.Try(append(args, three.args...)...)
					if err != nil {
						return // not a combination that OpenSSL knows
					}
					m, err := open(t, der, reader)
					if want := errors.Join(one.want, two.want, three.want); want != nil {
						if !errors.Is(err, cms.ErrUnsupported) {
							t.Errorf("Open: %v, want a refusal", err)
						}
					} else if err != nil || !bytes.Equal(m.Data, content) {
						t.Errorf("Open: %v", err)
					}
					if err == nil {
						read++
					}
				})
			}
		}
	}
	return read
}

// TestOtherRecipients passes over recipients that are not ours, of whatever kind.
func TestOtherRecipients(t *testing.T) {
	w := shared()
	device, rsa := w.curve("P-256"), w.IssueKey([]string{"rsa:2048"}, w.root, "/CN=RSA device")
	secret := []string{"-secretkey", "000102030405060708090a0b0c0d0e0f", "-secretkeyid", "0001"}
	password := []string{"-pwri_password", "secret"}
	var crowd []string
	for range 20 {
		crowd = append(crowd, "-recip", w.signer.CertFile)
	}
	for name, test := range map[string]struct {
		args []string
		want error
	}{
		"secret-key":   {append(secret, "-recip", device.CertFile), nil},
		"password":     {append(password, "-recip", device.CertFile), nil},
		"all-kinds":    {append(append(append(secret, password...), crowd...), "-recip", rsa.CertFile, "-recip", device.CertFile), nil},
		"only-secret":  {secret, cms.ErrNotRecipient},
		"only-passwd":  {password, cms.ErrNotRecipient},
		"only-another": {[]string{"-recip", w.other.CertFile}, cms.ErrNotRecipient},
	} {
		t.Run(name, func(t *testing.T) {
			der := w.Run(append([]string{"cms", "-encrypt", "-binary", "-aes-128-cbc", "-in", w.Write(content), "-outform", "DER"}, test.args...)...)
			m, err := open(t, der, recipient(t, device))
			if !errors.Is(err, test.want) || err == nil && !bytes.Equal(m.Data, content) {
				t.Errorf("Open: %v, want %v", err, test.want)
			}
		})
	}
}

// TestOtherContentTypes refuses what OpenSSL can make beside what artifacts are.
func TestOtherContentTypes(t *testing.T) {
	w := shared()
	in := w.Write(content)
	for name, args := range map[string][]string{
		"digested":  {"-digest_create"},
		"encrypted": {"-EncryptedData_encrypt", "-aes-128-cbc", "-secretkey", "000102030405060708090a0b0c0d0e0f"},
	} {
		t.Run(name, func(t *testing.T) {
			der := w.Run(append([]string{"cms", "-binary", "-in", in, "-outform", "DER"}, args...)...)
			if m, err := cms.Parse(der); !errors.Is(err, cms.ErrUnsupported) {
				t.Errorf("Parse: %+v, %v", m, err)
			}
		})
	}
}
