package e2e

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"github.com/xpu-sztp/ztp/test/lab"
	"github.com/xpu-sztp/ztp/test/lab/device"
	"github.com/xpu-sztp/ztp/test/lab/pki"
	"github.com/xpu-sztp/ztp/tpm"
)

// TestEncryptedArtifacts: one identity key serves TLS and decryption where it may decrypt (R9-02, R9-08).
func TestEncryptedArtifacts(t *testing.T) {
	l := newLab(t, lab.Options{Family: lab.Loopback})
	l.Onboard(onboarding(l), "minimal")
	l.Encrypt(nil)
	d := newDevice(t, l, device.Options{FileKey: true, Command: []string{"run", "--once", "--url", l.RedirectAt.URL()}})
	wantOnboarded(t, l, d)
}

// TestEncryptedForSigningKey: an IDevID key made to the TCG's templates only signs. The refusal and the status say so, and
// what to do; once that is done, which is a second key that decrypts, the device is provisioned (T-14).
func TestEncryptedForSigningKey(t *testing.T) {
	l := newLab(t, lab.Options{Family: lab.Loopback})
	l.Onboard(onboarding(l), "minimal")
	l.Encrypt(nil)
	d := newDevice(t, l, device.Options{Command: []string{"run", "--once", "--url", l.RedirectAt.URL()}})
	wantRefused(t, within(t, time.Minute), d, "encrypted-no-key")
	out, _, err := d.Ztp(t.Context(), "status", "--verbose")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"whose identity key can only sign", "give the device a second key that decrypts",
		"encrypted", "the identity key only signs and no other is at hand, see identity.decrypt-key"} {
		if !strings.Contains(out, want) {
			t.Errorf("the status does not say %q:\n%s", want, out)
		}
	}

	cert := decryptCertificate(t, makeKey(t, d, 0x81020002, decrypting(rsaTemplate())))
	if err := d.Write("etc/ztp/decrypt.pem", pki.PEM(cert)); err != nil {
		t.Fatal(err)
	}
	if err := d.Write("etc/ztp/ztp.toml.d/60-decrypt.toml", []byte(decryptConfig)); err != nil {
		t.Fatal(err)
	}
	l.Encrypt(cert)
	wantOnboarded(t, l, d)
}

const decryptConfig = "[identity]\ndecrypt-key = \"0x81020002\"\ndecrypt-certificate = \"/etc/ztp/decrypt.pem\"\n"

// TestEncryptedForDecryptKey: beside an IDevID key that only signs, the device has a second one in its TPM that decrypts
// (T-14).
func TestEncryptedForDecryptKey(t *testing.T) {
	for name, template := range map[string]tpm2.TPMTPublic{"RSA": rsaTemplate(), "P-256": eccTemplate(tpm2.TPMTECCScheme{})} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, lab.Options{Family: lab.Loopback})
			l.Onboard(onboarding(l), "minimal")
			d := newDevice(t, l, device.Options{Config: decryptConfig, Command: []string{"run", "--once", "--url", l.RedirectAt.URL()}})
			cert := decryptCertificate(t, makeKey(t, d, 0x81020002, decrypting(template)))
			if err := d.Write("etc/ztp/decrypt.pem", pki.PEM(cert)); err != nil {
				t.Fatal(err)
			}
			l.Encrypt(cert)
			wantOnboarded(t, l, d)
			if key := status(t, d).Identity.DecryptKey; !strings.Contains(key, "0x81020002") {
				t.Errorf("the status says that encrypted data is read with %q", key)
			}
		})
	}
}

// TestIdentityKeysOfOtherMakers: IDevID keys in the TPM that are not the TCG's. Those that sign and decrypt do both (R3-07,
// R5.1-06, R9-02, R9-08), and one on P-256 that is bound to SHA-384 stays at TLS 1.2 (T-15). The certificate is one of
// several in the TPM.
func TestIdentityKeysOfOtherMakers(t *testing.T) {
	for name, test := range map[string]struct {
		template  tpm2.TPMTPublic
		encrypted bool
	}{
		"RSA-decrypts":            {both(rsaTemplate()), true},
		"P-256-decrypts":          {both(eccTemplate(tpm2.TPMTECCScheme{})), true},
		"P-256-bound-to-SHA-384":  {eccTemplate(ecdsaSHA384()), false},
		"RSA-bound-to-PKCS1-v1.5": {rsaBoundToPKCS1(), false},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, lab.Options{Family: lab.Loopback})
			l.Onboard(onboarding(l), "minimal")
			if test.encrypted {
				l.Encrypt(nil)
			}
			d := newDevice(t, l, device.Options{Config: "[identity]\nkey = \"0x81020005\"\n",
				Command: []string{"run", "--once", "--url", l.RedirectAt.URL()}})
			idevid, err := d.Certify(makeKey(t, d, 0x81020005, test.template), d.Model, d.Serial)
			if err != nil {
				t.Fatal(err)
			}
			factory := tpm.Factory{TPM: "unix:" + d.Path("dev/tpm.sock")}
			if err := factory.WriteCertificate(t.Context(), tpm.IDevIDCertificate+7, idevid.Certificate.Raw); err != nil {
				t.Fatal(err)
			}
			wantOnboarded(t, l, d)
		})
	}
}

func wantOnboarded(t *testing.T, l *lab.Lab, d *device.Device) {
	t.Helper()
	if exit, err := d.Run(within(t, time.Minute), 3); exit != 0 || err != nil {
		t.Fatalf("exit code %d, %v, %+v", exit, err, status(t, d).Reason)
	}
	wantProvisioned(t, l, d)
}

// eccTemplate is for a key on P-256 that signs.
func eccTemplate(scheme tpm2.TPMTECCScheme) tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{
			FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true, SignEncrypt: true},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: tpm2.TPMECCNistP256, Scheme: scheme}),
	}
}

func ecdsaSHA384() tpm2.TPMTECCScheme {
	return tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA,
		Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA384})}
}

// rsaTemplate is for an RSA key that signs.
func rsaTemplate() tpm2.TPMTPublic {
	area := eccTemplate(tpm2.TPMTECCScheme{})
	area.Type, area.Parameters = tpm2.TPMAlgRSA, tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{KeyBits: 2048})
	return area
}

func rsaBoundToPKCS1() tpm2.TPMTPublic {
	area := rsaTemplate()
	area.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{KeyBits: 2048,
		Scheme: tpm2.TPMTRSAScheme{Scheme: tpm2.TPMAlgRSASSA,
			Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSASSA, &tpm2.TPMSSigSchemeRSASSA{HashAlg: tpm2.TPMAlgSHA256})}})
	return area
}

func decrypting(area tpm2.TPMTPublic) tpm2.TPMTPublic {
	area.ObjectAttributes.SignEncrypt, area.ObjectAttributes.Decrypt = false, true
	return area
}

func both(area tpm2.TPMTPublic) tpm2.TPMTPublic {
	area.ObjectAttributes.Decrypt = true
	return area
}

// makeKey makes a key in the device's TPM and returns its public half.
func makeKey(t *testing.T, d *device.Device, handle tpm2.TPMHandle, template tpm2.TPMTPublic) crypto.PublicKey {
	t.Helper()
	chip, err := linuxudstpm.Open(d.Path("dev/tpm.sock"))
	if err != nil {
		t.Fatal(err)
	}
	owner := tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}
	key, err := tpm2.CreatePrimary{PrimaryHandle: owner, InPublic: tpm2.New2B(template)}.Execute(chip)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (tpm2.EvictControl{Auth: owner, PersistentHandle: handle,
		ObjectHandle: tpm2.NamedHandle{Handle: key.ObjectHandle, Name: key.Name}}).Execute(chip); err != nil {
		t.Fatal(err)
	}
	if _, err := (tpm2.FlushContext{FlushHandle: key.ObjectHandle}).Execute(chip); err != nil {
		t.Fatal(err)
	}
	area, err := key.OutPublic.Contents()
	if err != nil {
		t.Fatal(err)
	}
	public, err := tpm2.Pub(*area)
	if err != nil {
		t.Fatal(err)
	}
	return public
}

// decryptCertificate is one by an authority that nobody needs to know: it only says for which key to encrypt.
func decryptCertificate(t *testing.T, public crypto.PublicKey) *x509.Certificate {
	t.Helper()
	ca, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	issuer := &x509.Certificate{Subject: pkix.Name{CommonName: "Maker Encryption CA"}}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "decrypts"},
		KeyUsage:  x509.KeyUsageKeyAgreement | x509.KeyUsageKeyEncipherment,
		NotBefore: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: pki.Forever,
	}, issuer, public, ca)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}
