package artifacts_test

import (
	"bytes"
	"encoding/asn1"
	"testing"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/artifacts/internal/opensslpki"
)

// withoutSigners is SignedData that has content and no signer, which OpenSSL does not make.
func withoutSigners(content []byte) []byte {
	type encapsulated struct {
		Type    asn1.ObjectIdentifier
		Content []byte `asn1:"explicit,tag:0"`
	}
	type signedData struct {
		Version      int
		Digests      []asn1.RawValue `asn1:"set"`
		Encapsulated encapsulated
		Signers      []asn1.RawValue `asn1:"set"`
	}
	der, err := asn1.Marshal(struct {
		Type    asn1.ObjectIdentifier
		Content signedData `asn1:"explicit,tag:0"`
	}{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}, signedData{Version: 1,
		Encapsulated: encapsulated{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}, content}}})
	if err != nil {
		panic(err)
	}
	return der
}

func TestContainerFaults(t *testing.T) {
	w := shared()
	fine := opensslpki.Data(typeJSON, redirectDocument)
	certs := w.Certificates(entities{w.owner})
	for name, test := range map[string]struct {
		der  []byte
		code artifacts.Code
	}{
		"none":          {nil, artifacts.CodeConveyedMissing},
		"pem":           {[]byte("-----BEGIN CMS-----\n"), artifacts.CodeConveyedMalformed},
		"json":          {redirectDocument, artifacts.CodeConveyedMalformed},
		"no-content":    {w.Run("cms", "-sign", "-binary", "-in", w.Write(redirectDocument), "-signer", w.owner.CertFile, "-inkey", w.owner.KeyFile, "-outform", "DER"), artifacts.CodeConveyedMalformed},
		"no-signers":    {withoutSigners(redirectDocument), artifacts.CodeConveyedMalformed},
		"trailing-byte": {append(bytes.Clone(fine), 0), artifacts.CodeConveyedMalformed},
		"truncated":     {fine[:len(fine)-1], artifacts.CodeConveyedMalformed},
		"too-large":     {make([]byte, 16<<20+1), artifacts.CodeTooLarge},
		"degenerate":    {certs, artifacts.CodeConveyedMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := artifacts.Validate(artifacts.Bundle{ConveyedInformation: test.der}, trusted(t), artifacts.Device{}, artifacts.Policy{})
			refused(t, err, test.code, artifacts.StepConveyed)
		})
	}
	t.Run("owner-and-voucher", func(t *testing.T) {
		for name, test := range map[string]struct {
			change func(*artifacts.Bundle)
			code   artifacts.Code
			step   artifacts.Step
		}{
			"voucher-missing":     {func(b *artifacts.Bundle) { b.OwnershipVoucher = nil }, artifacts.CodeVoucherMissing, artifacts.StepVoucher},
			"voucher-garbage":     {func(b *artifacts.Bundle) { b.OwnershipVoucher = []byte{1} }, artifacts.CodeVoucherMalformed, artifacts.StepVoucher},
			"voucher-degenerate":  {func(b *artifacts.Bundle) { b.OwnershipVoucher = certs }, artifacts.CodeVoucherUnsigned, artifacts.StepVoucher},
			"voucher-bare":        {func(b *artifacts.Bundle) { b.OwnershipVoucher = opensslpki.Data(typeVoucher, w.voucherDocument(nil)) }, artifacts.CodeVoucherUnsigned, artifacts.StepVoucher},
			"voucher-is-conveyed": {func(b *artifacts.Bundle) { b.OwnershipVoucher = b.ConveyedInformation }, artifacts.CodeVoucherMalformed, artifacts.StepVoucher},
			"voucher-no-content": {func(b *artifacts.Bundle) {
				b.OwnershipVoucher = w.Run("cms", "-sign", "-binary", "-in", w.Write(w.voucherDocument(nil)), "-signer", w.masa.CertFile, "-inkey", w.masa.KeyFile, "-outform", "DER")
			}, artifacts.CodeVoucherMalformed, artifacts.StepVoucher},
			"voucher-no-signers":    {func(b *artifacts.Bundle) { b.OwnershipVoucher = withoutSigners(w.voucherDocument(nil)) }, artifacts.CodeVoucherUnsigned, artifacts.StepVoucher},
			"owner-is-data":         {func(b *artifacts.Bundle) { b.OwnerCertificate = opensslpki.Data(typeData, certs) }, artifacts.CodeOwnerMalformed, artifacts.StepOwner},
			"owner-is-empty":        {func(b *artifacts.Bundle) { b.OwnerCertificate = w.Run("crl2pkcs7", "-nocrl", "-outform", "DER") }, artifacts.CodeOwnerMalformed, artifacts.StepOwner},
			"owner-missing":         {func(b *artifacts.Bundle) { b.OwnerCertificate = nil }, artifacts.CodeOwnerMissing, artifacts.StepOwner},
			"owner-garbage":         {func(b *artifacts.Bundle) { b.OwnerCertificate = []byte{1} }, artifacts.CodeOwnerMalformed, artifacts.StepOwner},
			"owner-is-signed":       {func(b *artifacts.Bundle) { b.OwnerCertificate = b.OwnershipVoucher }, artifacts.CodeOwnerMalformed, artifacts.StepOwner},
			"owner-is-one-der-cert": {func(b *artifacts.Bundle) { b.OwnerCertificate = w.owner.Certificate.Raw }, artifacts.CodeOwnerMalformed, artifacts.StepOwner},
			"both-missing":          {func(b *artifacts.Bundle) { b.OwnerCertificate, b.OwnershipVoucher = nil, nil }, artifacts.CodeVoucherMissing, artifacts.StepVoucher},
		} {
			t.Run(name, func(t *testing.T) {
				signedCase{w: w, bundle: test.change}.check(t, test.code, test.step)
				signedCase{w: w, bundle: test.change, server: trusted(t)}.check(t, test.code, test.step)
			})
		}
	})
}

// TestTrustDecision is the matrix of what is believed from whom.
