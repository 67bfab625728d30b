package artifacts_test

import (
	"crypto"
	"crypto/ecdh"
	"encoding/asn1"
	"errors"
	"testing"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/artifacts/internal/opensslpki"
	"github.com/xpu-sztp/ztp/test/lab/cms"
)

func TestEncryptedArtifacts(t *testing.T) {
	w := shared()
	rsa := w.IssueKey([]string{"rsa:2048"}, w.idevidCA, "/CN=RSA device/serialNumber="+serial)
	withRSA := func(d *artifacts.Device) {
		d.Certificate, d.Decrypter = rsa.Certificate, privateKey(t, rsa).(crypto.Decrypter)
	}
	withEC := func(d *artifacts.Device) {
		d.Certificate, d.KeyAgreement = w.device.Certificate, agreementKey(t, w.device)
	}
	encrypt := func(der []byte, to *opensslpki.Entity) []byte { return w.Encrypt(to, der, "-aes-256-cbc") }
	all := func(to *opensslpki.Entity) func(*artifacts.Bundle) {
		return func(b *artifacts.Bundle) {
			b.ConveyedInformation = encrypt(b.ConveyedInformation, to)
			b.OwnerCertificate = encrypt(b.OwnerCertificate, to)
			b.OwnershipVoucher = encrypt(b.OwnershipVoucher, to)
		}
	}
	for name, test := range map[string]struct {
		signedCase
		code artifacts.Code
		step artifacts.Step
	}{
		"all-rsa":          {signedCase{device: withRSA, bundle: all(rsa)}, "", ""},
		"all-ec":           {signedCase{device: withEC, bundle: all(w.device)}, "", ""},
		"other-device":     {signedCase{device: withEC, bundle: all(w.otherDevice)}, artifacts.CodeNotForDevice, artifacts.StepConveyed},
		"no-key":           {signedCase{bundle: all(w.device)}, artifacts.CodeNotForDevice, artifacts.StepConveyed},
		"twice":            {signedCase{device: withEC, bundle: func(b *artifacts.Bundle) { all(w.device)(b); all(w.device)(b) }}, artifacts.CodeUnreadable, artifacts.StepConveyed},
		"voucher-of-other": {signedCase{device: withEC, bundle: func(b *artifacts.Bundle) { b.OwnershipVoucher = encrypt(b.OwnershipVoucher, w.otherDevice) }}, artifacts.CodeNotForDevice, artifacts.StepVoucher},
		"owner-is-text":    {signedCase{device: withEC, bundle: func(b *artifacts.Bundle) { b.OwnerCertificate = encrypt([]byte("text"), w.device) }}, artifacts.CodeUnreadable, artifacts.StepOwner},
		"garbage":          {signedCase{device: withEC, bundle: func(b *artifacts.Bundle) { b.ConveyedInformation = encrypt([]byte("garbage"), w.device) }}, artifacts.CodeUnreadable, artifacts.StepConveyed},
		"key-only-signs":   {signedCase{device: func(d *artifacts.Device) { d.Certificate = w.device.Certificate }, bundle: all(w.device)}, artifacts.CodeCannotDecrypt, artifacts.StepConveyed},
		"key-is-silent": {signedCase{device: func(d *artifacts.Device) {
			d.Certificate, d.KeyAgreement = w.device.Certificate, silentKey{}
		}, bundle: all(w.device)}, artifacts.CodeKeyFailed, artifacts.StepConveyed},
		"3des": {signedCase{device: withRSA, bundle: func(b *artifacts.Bundle) { b.ConveyedInformation = w.Encrypt(rsa, b.ConveyedInformation, "-des3") }}, artifacts.CodeAlgorithmRefused, artifacts.StepConveyed},
		"damaged": {signedCase{device: withEC, bundle: func(b *artifacts.Bundle) {
			b.ConveyedInformation = encrypt(b.ConveyedInformation, w.device)
			b.ConveyedInformation[len(b.ConveyedInformation)-1] ^= 1
		}}, artifacts.CodeUnreadable, artifacts.StepConveyed},
		"tampered-inside": {signedCase{device: withEC, voucher: object{"serial-number": "AC-1"}, bundle: all(w.device)},
			artifacts.CodeVoucherSerial, artifacts.StepVoucherSerial},
	} {
		t.Run(name, func(t *testing.T) {
			test.w = w
			test.check(t, test.code, test.step)
		})
	}
	t.Run("unsigned", func(t *testing.T) {
		for name, contentType := range map[string]asn1.ObjectIdentifier{"labelled-json": cms.ConveyedJSON, "labelled-data": cms.Data} {
			t.Run(name, func(t *testing.T) { // R3-03: OpenSSL labels everything id-data
				plain, err := cms.Unsigned(contentType, redirectDocument)
				if err != nil {
					t.Fatal(err)
				}
				sealed, err := cms.Encrypt(plain, w.device.Certificate, cms.Typed)
				if err != nil {
					t.Fatal(err)
				}
				var d artifacts.Device
				withEC(&d)
				conveyed, _, err := artifacts.Validate(artifacts.Bundle{ConveyedInformation: sealed}, nil, d, artifacts.Policy{})
				refused(t, err, "", "")
				if err == nil && conveyed.Redirect == nil {
					t.Errorf("conveyed %+v", conveyed)
				}
			})
		}
		for name, plaintext := range map[string][]byte{"document": redirectDocument, "content-info": opensslpki.Data(typeJSON, redirectDocument)} {
			t.Run(name, func(t *testing.T) {
				var d artifacts.Device
				withEC(&d)
				b := artifacts.Bundle{ConveyedInformation: encrypt(plaintext, w.device)}
				conveyed, _, err := artifacts.Validate(b, nil, d, artifacts.Policy{})
				refused(t, err, "", "")
				if err == nil && (conveyed.Redirect == nil || conveyed.Trusted) {
					t.Errorf("conveyed %+v", conveyed)
				}
			})
		}
		onboarding := artifacts.Bundle{ConveyedInformation: encrypt(onboardingDocument, w.device)}
		var d artifacts.Device
		withEC(&d)
		_, _, err := artifacts.Validate(onboarding, nil, d, artifacts.Policy{})
		refused(t, err, artifacts.CodeUnsigned, artifacts.StepTrust)
	})
}

// silentKey is in a TPM that gives no answer.
type silentKey struct{}

func (silentKey) ECDH(*ecdh.PublicKey) ([]byte, error) { return nil, silence{errors.New("no answer")} }

type silence struct{ error }

func (silence) KeyFailed() bool { return true }

// TestSignedAroundEncrypted has signedData outside and envelopedData inside, the wrong way round.
func TestSignedAroundEncrypted(t *testing.T) {
	w := shared()
	inner := w.Encrypt(w.device, redirectDocument)
	for _, contentType := range []string{typeData, "1.2.840.113549.1.7.3"} {
		b := artifacts.Bundle{ConveyedInformation: w.Sign(w.owner, inner, "-econtent_type", contentType)}
		_, _, err := artifacts.Validate(b, nil, artifacts.Device{}, artifacts.Policy{})
		if err == nil {
			t.Errorf("%s: accepted", contentType)
		}
		signedCase{w: w, document: inner, ciType: typeData}.check(t, artifacts.CodeConveyedInvalid, artifacts.StepContents)
	}
}
