package artifacts

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"github.com/xpu-sztp/ztp/artifacts/cms"
)

// ownerSigned validates signed data: it returns the owner certificate only if the owner that the voucher names signed ci.
// The steps and their order are those of RFC 8572 §5.4; the first failure ends it.
func (v *validation) ownerSigned(b Bundle, ci *cms.SignedData) (*x509.Certificate, error) {
	ov, err := v.readVoucher(b.OwnershipVoucher)
	if err != nil {
		return nil, err
	}
	oc, err := v.readOwner(b.OwnerCertificate)
	if err != nil {
		return nil, err
	}
	voucher, err := v.believeVoucher(ov)
	if err != nil {
		return nil, err
	}
	owner, paths, err := v.ownerPath(oc, ci, voucher.pinned)
	if err != nil {
		return nil, err
	}
	err = v.step(StepOwnerRevocation, func() (string, error) {
		return v.revocation(voucher.revocation, paths, b.Status, []*cms.SignedData{ov, oc})
	})
	if err != nil {
		return nil, err
	}
	if err := v.step(StepOwnerSignature, func() (string, error) { return ownerSignature(ci, owner) }); err != nil {
		return nil, err
	}
	return owner, nil
}

// ValidateVoucher applies to a voucher alone what Validate does with it before it turns to the owner certificate's path: whoever
// makes vouchers can see what a device would say. The trail is returned in both cases. Errors are *Error.
func ValidateVoucher(voucher []byte, d Device, p Policy) (Trail, []string, error) {
	v := &validation{device: d, policy: p}
	ov, err := v.readVoucher(voucher)
	if err == nil {
		_, err = v.believeVoucher(ov)
	}
	return v.trail, v.warnings, err
}

// believeVoucher returns what the voucher says once it is known to come from the maker and to be for this device.
func (v *validation) believeVoucher(ov *cms.SignedData) (*voucher, error) {
	if err := v.step(StepVoucherSignature, func() (string, error) { return v.voucherSignature(ov) }); err != nil {
		return nil, err
	}
	voucher, err := v.voucherContents(ov.Content)
	if err != nil {
		return nil, err
	}
	return voucher, v.checkVoucher(voucher)
}

// readVoucher reads the container of the ownership voucher (RFC 8572 §3.3).
func (v *validation) readVoucher(der []byte) (ov *cms.SignedData, err error) {
	err = v.step(StepVoucher, func() (string, error) {
		if len(der) == 0 {
			return "", refuse(CodeVoucherMissing, "the conveyed information is signed, but there is no ownership voucher",
				"send the voucher and the owner certificate along with it", nil)
		}
		message, encrypted, err := v.open(der, CodeVoucherMalformed, certifies)
		if err != nil {
			return "", err
		}
		if ov = message.Signed; ov == nil || len(ov.Signers) == 0 {
			return "", refuse(CodeVoucherUnsigned, "the ownership voucher is not signed",
				"get a voucher from the device's maker", nil)
		}
		if ov.Content == nil || !ov.ContentType.Equal(cms.TypeVoucherJSON) && !ov.ContentType.Equal(cms.TypeData) {
			return "", refuse(CodeVoucherMalformed, fmt.Sprintf("content type %v is not a voucher", ov.ContentType),
				"get a voucher from the device's maker", nil)
		}
		return fmt.Sprintf("%s%d bytes", encrypted, len(der)), nil
	})
	return ov, err
}

// readOwner reads the container of the owner certificate (RFC 8572 §3.2).
func (v *validation) readOwner(der []byte) (oc *cms.SignedData, err error) {
	const fix = "make it with `openssl crl2pkcs7 -nocrl -certfile CHAIN.pem -outform DER`"
	err = v.step(StepOwner, func() (string, error) {
		if len(der) == 0 {
			return "", refuse(CodeOwnerMissing, "the conveyed information is signed, but there is no owner certificate",
				"send the voucher and the owner certificate along with it", nil)
		}
		message, encrypted, err := v.open(der, CodeOwnerMalformed, certifies)
		if err != nil {
			return "", err
		}
		oc = message.Signed
		if oc == nil || !oc.Degenerate() && !v.policy.Lenient {
			return "", refuse(CodeOwnerMalformed, "the owner certificate is not a certificates-only CMS SignedData"+notDegenerate(oc), fix, nil)
		}
		if !oc.Degenerate() {
			v.warn("the owner certificate artifact is signed, which has no meaning")
		}
		if len(oc.Certificates) == 0 {
			return "", refuse(CodeOwnerMalformed, "the owner certificate artifact holds no certificate", fix, nil)
		}
		return encrypted + plural(len(oc.Certificates), "certificate"), nil
	})
	return oc, err
}

// notDegenerate says what producers do instead of a certificates-only SignedData; s may be nil.
func notDegenerate(s *cms.SignedData) string {
	switch {
	case s == nil:
		return ""
	case len(s.Signers) > 0 && len(s.Content) == 0:
		return ": it is signed, over empty content, which is tolerated with trust.lenient"
	case len(s.Signers) > 0:
		return ": it is signed content, which is tolerated with trust.lenient"
	}
	return ": it has content, which is tolerated with trust.lenient"
}

// ownerPath finds the owner certificate and its paths to the pinned domain certificate, which may be a root, an
// intermediate or the owner certificate itself.
func (v *validation) ownerPath(oc, ci *cms.SignedData, pinned *x509.Certificate) (
	owner *x509.Certificate, paths [][]*x509.Certificate, err error) {
	err = v.step(StepOwnerPath, func() (string, error) {
		if owner, err = findOwner(oc, ci); err != nil {
			return "", err
		}
		if owner.KeyUsage != 0 && owner.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
			return "", refuse(CodeOwnerKeyUsage,
				fmt.Sprintf("the key usage of owner certificate %s does not include digital signatures", subject(owner)),
				"issue the owner certificate with key usage digitalSignature", nil)
		}
		paths, err = pathQuery{
			leaf:   owner,
			roots:  []*x509.Certificate{pinned},
			others: oc.Certificates,
			usage:  x509.ExtKeyUsageAny,
		}.verify(v.policy.Clock)
		if errors.Is(err, ErrPeriod) {
			return "", refuse(CodeOwnerExpired, "the owner certificate's path does not hold at this time",
				"renew the certificate, or correct the device's clock", err)
		}
		if err != nil {
			return "", refuse(CodeOwnerUntrusted,
				fmt.Sprintf("owner certificate %s has no path to the domain certificate %s that the voucher pins",
					subject(owner), subject(pinned)),
				"send all intermediate certificates, or get a voucher for this owner's domain", err)
		}
		return fmt.Sprintf("%s, pinned by %s", subject(owner), subject(pinned)), nil
	})
	return owner, paths, err
}

// findOwner returns the certificate in oc that issued no other; if there are several, the one that ci's signature names.
// The CMS holds its certificates in no order.
func findOwner(oc, ci *cms.SignedData) (*x509.Certificate, error) {
	leaves := slices.DeleteFunc(slices.Clone(oc.Certificates), func(c *x509.Certificate) bool {
		return slices.ContainsFunc(oc.Certificates, func(other *x509.Certificate) bool {
			return !other.Equal(c) && issued(c, other)
		})
	})
	if len(leaves) == 1 {
		return leaves[0], nil
	}
	for _, c := range leaves {
		if slices.ContainsFunc(ci.Signers, func(s cms.Signer) bool { return s.Names(c) }) {
			return c, nil
		}
	}
	return nil, refuse(CodeOwnerMalformed,
		fmt.Sprintf("which of %s is the owner's cannot be told", plural(len(oc.Certificates), "certificate")),
		"put in the owner certificate and its issuers only", nil)
}

// ownerSignature verifies that owner itself signed ci, and not its issuer or another certificate.
func ownerSignature(ci *cms.SignedData, owner *x509.Certificate) (string, error) {
	err := ci.SignedBy(owner)
	switch {
	case err == nil:
		return "by " + subject(owner), nil
	case errors.Is(err, cms.ErrNotSigner):
		return "", refuse(CodeSignedByOther, fmt.Sprintf("the conveyed information is signed by %s, not by owner certificate %s",
			ci.Signers[0].String(), subject(owner)), "sign it with the owner certificate's key", nil)
	case errors.Is(err, cms.ErrUnsupported):
		return "", container(CodeSignatureInvalid, err)
	}
	return "", refuse(CodeSignatureInvalid,
		fmt.Sprintf("the signature of owner certificate %s over the conveyed information is wrong", subject(owner)),
		"sign the conveyed information anew", err)
}
