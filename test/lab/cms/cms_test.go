package cms_test

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/smallstep/pkcs7"

	"github.com/xpu-sztp/ztp/test/lab/cms"
	"github.com/xpu-sztp/ztp/test/lab/pki"
)

var content = []byte(`{"ietf-sztp-conveyed-info:redirect-information":{"bootstrap-server":[{"address":"bs1.example.net","port":8443}]}}`)

func must[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// openssl runs the program in dir.
func openssl(t *testing.T, dir string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("openssl", args...)
	cmd.Dir = dir
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("openssl %v: %v\n%s", args, err, errs.String())
	}
	return out.Bytes()
}

func write(t *testing.T, dir, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestUnsignedBytes(t *testing.T) {
	der := must(cms.Unsigned(cms.ConveyedJSON, content))(t)
	if len(der) != 133 {
		t.Errorf("%d bytes, want 133", len(der))
	}
	want := must(hex.DecodeString("308182060b2a864886f70d010910012ba07304717b226965"))(t)
	if !bytes.HasPrefix(der, want) {
		t.Errorf("starts with %x, want %x", der[:len(want)], want)
	}
}

func TestSignedDataVerifiesWithOpenSSL(t *testing.T) {
	for _, key := range []pki.KeyType{pki.P256, pki.P384, pki.RSA2048} {
		root := must(pki.Root(pki.Profile{CommonName: "root"}))(t)
		signer := must(root.Issue(pki.Profile{CommonName: "signer", Key: key}))(t)
		for name, s := range map[string]cms.Signer{
			"with-certificates": {Include: signer.Chain()},
			"without":           {},
			"by-subject-key":    {BySubjectKey: true, Include: signer.Chain()},
		} {
			t.Run(string(key)+"/"+name, func(t *testing.T) {
				s.Certificate, s.Key = signer.Certificate, signer.Key
				if s.BySubjectKey {
					// An end-entity certificate gets no subject key identifier from crypto/x509.
					s.Certificate.SubjectKeyId = nil
					if _, err := cms.Sign(cms.VoucherJSON, content, s); err == nil {
						t.Fatal("signed without the identifier it was told to use")
					}
					ca := must(root.Issue(pki.Profile{CommonName: "ca", CA: true, Key: key, KeyUsage: x509.KeyUsageDigitalSignature}))(t)
					s.Certificate, s.Key, s.Include = ca.Certificate, ca.Key, ca.Chain()
				}
				dir := t.TempDir()
				write(t, dir, "root.pem", pki.PEM(root.Certificate))
				write(t, dir, "signer.pem", pki.PEM(s.Certificate))
				write(t, dir, "signed.der", must(cms.Sign(cms.VoucherJSON, content, s))(t))
				got := openssl(t, dir, "cms", "-verify", "-binary", "-inform", "DER", "-in", "signed.der", "-CAfile", "root.pem",
					"-certfile", "signer.pem", "-purpose", "any")
				if !bytes.Equal(got, content) {
					t.Errorf("content %q", got)
				}
				printed := openssl(t, dir, "cms", "-cmsout", "-print", "-noout", "-inform", "DER", "-in", "signed.der")
				if n := bytes.Count(printed, []byte("1.2.840.113549.1.9.16.1.40")); n != 2 {
					t.Errorf("the voucher type appears %d times, want as eContentType and as signed attribute", n)
				}
			})
		}
	}
}

func TestWrongAttributeType(t *testing.T) {
	signer := must(pki.SelfSigned(pki.Profile{CommonName: "signer"}))(t)
	dir := t.TempDir()
	write(t, dir, "root.pem", pki.PEM(signer.Certificate))
	write(t, dir, "signed.der", must(cms.Sign(cms.ConveyedJSON, content, cms.Signer{
		Certificate: signer.Certificate, Key: signer.Key, Include: signer.Chain(), AttributeType: cms.Data,
	}))(t))
	printed := openssl(t, dir, "cms", "-cmsout", "-print", "-noout", "-inform", "DER", "-in", "signed.der")
	if n := bytes.Count(printed, []byte("1.2.840.113549.1.9.16.1.43")); n != 1 {
		t.Errorf("the conveyed-information type appears %d times, want as eContentType alone", n)
	}
}

func TestCertificatesAreReadByOpenSSL(t *testing.T) {
	root := must(pki.Root(pki.Profile{CommonName: "root"}))(t)
	owner := must(root.Issue(pki.Profile{CommonName: "owner"}))(t)
	dir := t.TempDir()
	write(t, dir, "set.der", must(cms.Certificates(owner.Chain()...))(t))
	out := openssl(t, dir, "pkcs7", "-inform", "DER", "-in", "set.der", "-print_certs", "-noout")
	for _, subject := range []string{"CN = owner", "CN = root"} {
		if !bytes.Contains(out, []byte(subject)) {
			t.Errorf("no %q in\n%s", subject, out)
		}
	}
	if der := must(cms.Certificates(root.Certificate, root.Certificate))(t); len(must(pkcs7.Parse(der))(t).Certificates) != 1 {
		t.Error("a set holds each certificate once")
	}
}

func TestOpenSSLDecrypts(t *testing.T) {
	root := must(pki.Root(pki.Profile{CommonName: "root"}))(t)
	unsigned := must(cms.Unsigned(cms.ConveyedJSON, content))(t)
	signed := must(cms.Sign(cms.ConveyedJSON, content, cms.Signer{Certificate: root.Certificate, Key: root.Key}))(t)
	_, signedData, ok := bytes.Cut(signed, must(hex.DecodeString("06092a864886f70d010702"))(t))
	if !ok {
		t.Fatal("the signed artifact is not signedData")
	}
	for _, key := range []pki.KeyType{pki.P256, pki.P384, pki.RSA2048} {
		t.Run(string(key), func(t *testing.T) {
			device := must(root.Issue(pki.Profile{
				CommonName: "device", Key: key, KeyUsage: x509.KeyUsageKeyAgreement | x509.KeyUsageKeyEncipherment,
			}))(t)
			dir := t.TempDir()
			if err := device.Save(dir, "device"); err != nil {
				t.Fatal(err)
			}
			for _, c := range []struct {
				artifact, want []byte
				style          cms.Style
			}{
				{unsigned, content, cms.Typed},
				{unsigned, unsigned, cms.Whole},
				{signed, signedData[4:], cms.Typed}, // without the explicit tag and its three bytes of length
				{signed, signed, cms.Whole},
			} {
				write(t, dir, "encrypted.der", must(cms.Encrypt(c.artifact, device.Certificate, c.style))(t))
				got := openssl(t, dir, "cms", "-decrypt", "-binary", "-inform", "DER", "-in", "encrypted.der",
					"-recip", "device.pem", "-inkey", "device.key")
				if !bytes.Equal(got, c.want) {
					t.Errorf("style %d: decrypted %x, want %x", c.style, got, c.want)
				}
			}
		})
	}
}
