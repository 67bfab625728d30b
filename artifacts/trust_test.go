package artifacts_test

import (
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/artifacts/internal/opensslpki"
)

func TestTrustDecision(t *testing.T) {
	w := shared()
	server := trusted(t)
	bare := func(document []byte) func(*artifacts.Bundle) {
		return func(b *artifacts.Bundle) {
			*b = artifacts.Bundle{ConveyedInformation: opensslpki.Data(typeJSON, document)}
		}
	}
	withOne := func(voucher bool) func(*artifacts.Bundle) {
		return func(b *artifacts.Bundle) {
			b.ConveyedInformation = opensslpki.Data(typeJSON, redirectDocument)
			if voucher {
				b.OwnerCertificate = nil
			} else {
				b.OwnershipVoucher = nil
			}
		}
	}
	why := func(test signedCase) string {
		switch {
		case test.bundle == nil:
			return "the owner signed the data"
		case test.server.Valid():
			return "the server was authenticated"
		}
		return "neither signed nor from an authenticated server"
	}
	withOthers := func(document []byte) func(*artifacts.Bundle) {
		return func(b *artifacts.Bundle) { b.ConveyedInformation = opensslpki.Data(typeJSON, document) }
	}
	for name, test := range map[string]struct {
		signedCase
		code     artifacts.Code
		trusted  bool
		warnings int
	}{
		"unsigned-onboarding-trusted-server":          {signedCase{server: server, bundle: bare(onboardingDocument)}, "", true, 0},
		"unsigned-onboarding-untrusted":               {signedCase{bundle: bare(onboardingDocument)}, artifacts.CodeUnsigned, false, 0},
		"unsigned-onboarding-zero-evidence":           {signedCase{server: &artifacts.ServerEvidence{}, bundle: bare(onboardingDocument)}, artifacts.CodeUnsigned, false, 0},
		"unsigned-redirect-trusted-server":            {signedCase{server: server, bundle: bare(redirectDocument)}, "", true, 0},
		"unsigned-redirect-untrusted":                 {signedCase{bundle: bare(redirectDocument)}, "", false, 0},
		"signed-onboarding-trusted-server":            {signedCase{server: server}, "", true, 0},
		"signed-onboarding-untrusted":                 {signedCase{}, "", true, 0},
		"signed-redirect-untrusted":                   {signedCase{document: redirectDocument}, "", true, 0},
		"unsigned-redirect-with-voucher-untrusted":    {signedCase{bundle: withOthers(redirectDocument)}, "", false, 1},
		"unsigned-redirect-with-voucher-alone":        {signedCase{bundle: withOne(true)}, "", false, 1},
		"unsigned-redirect-with-certificate-alone":    {signedCase{bundle: withOne(false)}, "", false, 1},
		"unsigned-onboarding-with-voucher-untrusted":  {signedCase{bundle: withOthers(onboardingDocument)}, artifacts.CodeUnsigned, false, 1},
		"unsigned-onboarding-with-voucher-of-trusted": {signedCase{server: server, bundle: withOthers(onboardingDocument)}, "", true, 1},
	} {
		t.Run(name, func(t *testing.T) {
			test.w = w
			b, d, p := test.build()
			conveyed, trail, err := artifacts.Validate(b, test.server, d, p)
			refused(t, err, test.code, artifacts.StepTrust)
			if len(trail.Steps) == 0 || trail.Steps[len(trail.Steps)-1].Step != artifacts.StepTrust {
				t.Errorf("trail %+v", trail)
			} else if detail := trail.Steps[len(trail.Steps)-1].Detail; !strings.HasSuffix(detail, why(test.signedCase)) {
				t.Errorf("believed because: %s", detail)
			}
			if err == nil && (conveyed.Trusted != test.trusted || len(conveyed.Warnings) != test.warnings) {
				t.Errorf("trusted %v, warnings %q", conveyed.Trusted, conveyed.Warnings)
			}
		})
	}
	t.Run("trusted-server-and-invalid-signature", func(t *testing.T) {
		signedCase{w: w, server: server, ciSigner: w.stray}.check(t, artifacts.CodeSignedByOther, artifacts.StepOwnerSignature)
	})
	t.Run("trusted-server-and-voucher-of-another", func(t *testing.T) {
		signedCase{w: w, server: server, voucher: object{"serial-number": "AC-1"}}.check(t, artifacts.CodeVoucherSerial, artifacts.StepVoucherSerial)
	})
}

// TestRequireSigned: where only signed data counts, an authenticated server may still redirect.
func TestRequireSigned(t *testing.T) {
	w := shared()
	server := trusted(t)
	bare := func(document []byte) func(*artifacts.Bundle) {
		return func(b *artifacts.Bundle) {
			*b = artifacts.Bundle{ConveyedInformation: opensslpki.Data(typeJSON, document)}
		}
	}
	require := func(p *artifacts.Policy) { p.RequireSigned = true }
	for name, test := range map[string]struct {
		signedCase
		code artifacts.Code
	}{
		"onboarding, signed":                 {signedCase{server: server}, ""},
		"onboarding, signed, unknown server": {signedCase{}, ""},
		"onboarding":                         {signedCase{server: server, bundle: bare(onboardingDocument)}, artifacts.CodeNotSigned},
		"onboarding, unknown server":         {signedCase{bundle: bare(onboardingDocument)}, artifacts.CodeUnsigned},
		"redirect":                           {signedCase{server: server, bundle: bare(redirectDocument)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			test.w, test.policy = w, require
			b, d, p := test.build()
			_, _, err := artifacts.Validate(b, test.server, d, p)
			refused(t, err, test.code, artifacts.StepTrust)
		})
	}
}

// TestSignedFaultsAfterTrust has a valid signature over data that cannot be used.
func TestSignedFaultsAfterTrust(t *testing.T) {
	w := shared()
	signedCase{w: w, document: []byte(`{}`)}.check(t, artifacts.CodeConveyedInvalid, artifacts.StepContents)
	signedCase{w: w, document: []byte(`<onboarding-information/>`), ciType: typeXML}.check(t, artifacts.CodeConveyedInvalid, artifacts.StepContents)
	signedCase{w: w, document: w.Encrypt(w.device, redirectDocument), ciType: typeData}.check(t, artifacts.CodeConveyedInvalid, artifacts.StepContents)
	_, _, err := artifacts.Validate(artifacts.Bundle{}, nil, artifacts.Device{}, artifacts.Policy{})
	var e *artifacts.Error
	if !errors.As(err, &e) || e.Code != artifacts.CodeConveyedMissing || e.Hint() == "" {
		t.Errorf("error %v", err)
	}
}

// TestOldVoucher has `openssl smime` sign the voucher: PKCS #7 as it was before CMS, which knows no other content than data.
func TestOldVoucher(t *testing.T) { // RV-12
	w := shared()
	sign := func(document []byte) func(*artifacts.Bundle) {
		return func(b *artifacts.Bundle) {
			b.OwnershipVoucher = w.Run("smime", "-sign", "-binary", "-nodetach", "-in", w.Write(document), "-signer", w.masa.CertFile,
				"-inkey", w.masa.KeyFile, "-certfile", w.masaCA.CertFile, "-outform", "DER")
		}
	}
	signedCase{w: w, bundle: sign(w.voucherDocument(nil))}.check(t, "", "")
	signedCase{w: w, bundle: sign(w.voucherDocument(object{"serial-number": "AC-1"}))}.check(t, artifacts.CodeVoucherSerial, artifacts.StepVoucherSerial)
	signedCase{w: w, bundle: func(b *artifacts.Bundle) {
		sign(w.voucherDocument(nil))(b)
		replaceInVoucher(serial, "AC-000124")(b)
	}}.check(t, artifacts.CodeVoucherSignature, artifacts.StepVoucherSignature)
}

// TestOwner: who signed is known of information that somebody signed, whoever sent it, and of no other.
func TestOwner(t *testing.T) {
	w := shared()
	server := trusted(t)
	bare := func(b *artifacts.Bundle) {
		b.ConveyedInformation = opensslpki.Data(typeJSON, onboardingDocument) // beside the certificate and the voucher
	}
	for name, test := range map[string]struct {
		signedCase
		want *x509.Certificate
	}{
		"signed":                     {signedCase{}, w.owner.Certificate},
		"signed-by-trusted-server":   {signedCase{server: server}, w.owner.Certificate},
		"unsigned-by-trusted-server": {signedCase{server: server, bundle: bare}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			test.w = w
			b, d, p := test.build()
			conveyed, _, err := artifacts.Validate(b, test.server, d, p)
			if err != nil {
				t.Fatal(err)
			}
			got := conveyed.Onboarding.Owner()
			if (got == nil) != (test.want == nil) || got != nil && !got.Equal(test.want) {
				t.Errorf("owner %v", got)
			}
			if got != nil {
				got.PublicKey = nil // of a copy
				if conveyed.Onboarding.Owner().PublicKey == nil {
					t.Error("the owner can be changed")
				}
			}
		})
	}
}

func TestCertificationPath(t *testing.T) {
	w := shared()
	code := w.Issue(w.ownerCA, "/O=Owner/CN=Release", append([]string{"extendedKeyUsage=codeSigning"}, opensslpki.Signer...)...)
	web := w.Issue(w.ownerCA, "/O=Owner/CN=Web", append([]string{"extendedKeyUsage=serverAuth"}, opensslpki.Signer...)...)
	now := artifacts.Clock{Now: w.now(), Confidence: artifacts.ClockRTC}
	late := artifacts.Clock{Now: code.Certificate.NotAfter.Add(time.Hour), Confidence: artifacts.ClockRTC}
	lateWithout := artifacts.Clock{Now: late.Now, Confidence: artifacts.ClockNone}
	var twins []*x509.Certificate
	for range 9 {
		twins = append(twins, w.ownerRoot.Certificate)
	}
	for name, test := range map[string]struct {
		signer, anchor *opensslpki.Entity
		others         []*x509.Certificate
		clock          artifacts.Clock
		good, expired  bool
	}{
		"path":                   {code, w.ownerRoot, []*x509.Certificate{w.ownerCA.Certificate}, now, true, false},
		"directly":               {code, w.ownerCA, nil, now, true, false},
		"intermediate-missing":   {code, w.ownerRoot, nil, now, false, false},
		"other-root":             {code, w.strayRoot, []*x509.Certificate{w.ownerCA.Certificate}, now, false, false},
		"for-web-servers":        {web, w.ownerCA, nil, now, false, false},
		"expired":                {code, w.ownerCA, nil, late, false, true},
		"expired, without clock": {code, w.ownerCA, nil, lateWithout, true, false},
		"tangled":                {code, w.ownerCA, twins, now, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			err := artifacts.CertificationPath(test.signer.Certificate, []*x509.Certificate{test.anchor.Certificate}, test.others,
				x509.ExtKeyUsageCodeSigning, test.clock)
			if (err == nil) != test.good || errors.Is(err, artifacts.ErrPeriod) != test.expired {
				t.Error(err)
			}
		})
	}
}
