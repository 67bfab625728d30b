package e2e

import (
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/test/lab"
	"github.com/xpu-sztp/ztp/test/lab/bootstrap"
	"github.com/xpu-sztp/ztp/test/lab/cms"
	"github.com/xpu-sztp/ztp/test/lab/device"
)

// encrypt has the owner's server encrypt all three artifacts for the device's identity certificate (RFC 8572 §3.4).
func encrypt(l *lab.Lab) {
	l.AnswerOwner(func(r bootstrap.Request) (bootstrap.Answer, error) {
		answer, err := l.Promotion(r)
		if !r.Input.SignedDataPreferred {
			answer, err = l.SignedOnboarding(r)
		}
		for _, der := range []*[]byte{&answer.Bundle.ConveyedInformation, &answer.Bundle.OwnerCertificate, &answer.Bundle.OwnershipVoucher} {
			if err == nil {
				*der, err = cms.Encrypt(*der, r.Chain[0], cms.Whole)
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
