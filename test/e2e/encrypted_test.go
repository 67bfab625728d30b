package e2e

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"github.com/xpu-sztp/ztp/test/lab"
	"github.com/xpu-sztp/ztp/test/lab/bootstrap"
	"github.com/xpu-sztp/ztp/test/lab/cms"
	"github.com/xpu-sztp/ztp/test/lab/device"
)

// encrypt has the owner's server encrypt all three artifacts for the device's identity certificate (RFC 8572 §3.4).
func encrypt(l *lab.Lab) { encryptFor(l, nil) }

// encryptFor does so for another certificate.
func encryptFor(l *lab.Lab, recipient *x509.Certificate) {
	l.AnswerOwner(func(r bootstrap.Request) (bootstrap.Answer, error) {
		answer, err := l.Promotion(r)
		if !r.Input.SignedDataPreferred {
			answer, err = l.SignedOnboarding(r)
		}
		for _, der := range []*[]byte{&answer.Bundle.ConveyedInformation, &answer.Bundle.OwnerCertificate, &answer.Bundle.OwnershipVoucher} {
			if err == nil {
				*der, err = cms.Encrypt(*der, cmp.Or(recipient, r.Chain[0]), cms.Whole)
			}
		}
		return answer, err
	})
}

// TestEncryptedArtifacts: one identity key serves TLS and decryption where it may decrypt (R9-02, R9-08).
func TestEncryptedArtifacts(t *testing.T) {
	l := newLab(t, lab.Options{Family: lab.Loopback})
	l.Onboard(onboarding(l), "minimal")
	encrypt(l)
	d := newDevice(t, l, device.Options{FileKey: true, Command: []string{"run", "--once", "--url", l.RedirectAt.URL()}})
	if exit, err := d.Run(within(t, time.Minute), 3); exit != 0 || err != nil {
		t.Fatalf("exit code %d, %v, %+v", exit, err, status(t, d).Reason)
	}
	wantProvisioned(t, l, d)
}

// TestEncryptedForSigningKey: an IDevID key made to the TCG's templates only signs, and status says so (T-14).
func TestEncryptedForSigningKey(t *testing.T) {
	l := newLab(t, lab.Options{Family: lab.Loopback})
	l.Onboard(onboarding(l), "minimal")
	encrypt(l)
	d := newDevice(t, l, device.Options{Command: []string{"run", "--once", "--url", l.RedirectAt.URL()}})
	wantRefused(t, within(t, time.Minute), d, "encrypted-no-key")
}

// TestEncryptedForDecryptKey: beside an IDevID key that only signs, the device has a second one in its TPM that decrypts
// (T-14).
func TestEncryptedForDecryptKey(t *testing.T) {
	l := newLab(t, lab.Options{Family: lab.Loopback})
	l.Onboard(onboarding(l), "minimal")
	d := newDevice(t, l, device.Options{
		Command: []string{"run", "--once", "--url", l.RedirectAt.URL()},
		Config:  "[identity]\ndecrypt-key = \"0x81020002\"\ndecrypt-certificate = \"/etc/ztp/decrypt.pem\"\n",
	})
	cert := makeDecryptKey(t, d.Path("dev/tpm.sock"), 0x81020002)
	if err := d.Write("etc/ztp/decrypt.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})); err != nil {
		t.Fatal(err)
	}
	encryptFor(l, cert)
	if exit, err := d.Run(within(t, time.Minute), 3); exit != 0 || err != nil {
		t.Fatalf("exit code %d, %v, %+v", exit, err, status(t, d).Reason)
	}
	wantProvisioned(t, l, d)
	if key := status(t, d).Identity.DecryptKey; !strings.Contains(key, "0x81020002") {
		t.Errorf("the status says that encrypted data is read with %q", key)
	}
}

// makeDecryptKey gives a TPM an elliptic-curve key that only decrypts, and returns its certificate.
func makeDecryptKey(t *testing.T, socket string, handle tpm2.TPMHandle) *x509.Certificate {
	t.Helper()
	device, err := linuxudstpm.Open(socket)
	if err != nil {
		t.Fatal(err)
	}
	owner := tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}
	key, err := tpm2.CreatePrimary{PrimaryHandle: owner, InPublic: tpm2.New2B(tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{
			FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true, Decrypt: true},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: tpm2.TPMECCNistP256}),
	})}.Execute(device)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (tpm2.EvictControl{Auth: owner, PersistentHandle: handle,
		ObjectHandle: tpm2.NamedHandle{Handle: key.ObjectHandle, Name: key.Name}}).Execute(device); err != nil {
		t.Fatal(err)
	}
	if _, err := (tpm2.FlushContext{FlushHandle: key.ObjectHandle}).Execute(device); err != nil {
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
	ca, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	issuer := &x509.Certificate{Subject: pkix.Name{CommonName: "Maker Encryption CA"}}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "decrypts"}, KeyUsage: x509.KeyUsageKeyAgreement,
		NotBefore: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
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
