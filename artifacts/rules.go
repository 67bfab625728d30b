package artifacts

import (
	"bytes"
	"crypto/subtle"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/xpu-sztp/ztp/artifacts/cms"
)

const maxSignerCandidates = 8

// voucherSignature verifies that a certificate which chains to a voucher trust anchor signed the voucher. Certificates in
// the voucher are ways to an anchor, never anchors.
func (v *validation) voucherSignature(ov *cms.SignedData) (string, error) {
	if len(v.policy.VoucherAnchors) == 0 {
		return "", refuse(CodeVoucherUntrusted, "no trust anchor for vouchers is configured",
			"configure the certificate of the maker's voucher service", nil)
	}
	refusal := refuse(CodeVoucherUntrusted,
		fmt.Sprintf("the voucher is signed by %s, whose certificate is neither in it nor configured", ov.Signers[0].String()),
		"get a voucher that carries the certificates of its signer", nil)
	// Several certificates can have one identifier, if the sender is playing; the work it can make us do is bounded.
	candidates := slices.DeleteFunc(slices.Concat(ov.Certificates, v.policy.VoucherAnchors), func(c *x509.Certificate) bool {
		return !slices.ContainsFunc(ov.Signers, func(s cms.Signer) bool { return s.Names(c) })
	})
	for _, signer := range candidates[:min(len(candidates), maxSignerCandidates)] {
		if refusal = v.signedVoucher(ov, signer); refusal == nil {
			return fmt.Sprintf("by %s", subject(signer)), nil
		}
	}
	return "", refusal
}

func (v *validation) signedVoucher(ov *cms.SignedData, signer *x509.Certificate) *Error {
	if refusal := v.otherPurpose(signer); refusal != nil {
		return refusal
	}
	_, err := pathQuery{
		leaf:   signer,
		roots:  v.policy.VoucherAnchors,
		others: ov.Certificates,
		usage:  x509.ExtKeyUsageAny,
	}.verify(v.policy.Clock)
	switch {
	case errors.Is(err, ErrPeriod):
		return refuse(CodeVoucherExpired, "the certificate that signed the voucher does not hold at this time",
			"get a new voucher, or correct the device's clock", err)
	case err != nil:
		return refuse(CodeVoucherUntrusted, fmt.Sprintf("the voucher is signed by %s, which is not trusted", subject(signer)),
			"get a voucher from the device's maker, or configure the trust anchor of whoever signed it", err)
	}
	if err := ov.SignedBy(signer); errors.Is(err, cms.ErrUnsupported) {
		return container(CodeVoucherSignature, err)
	} else if err != nil {
		return refuse(CodeVoucherSignature, fmt.Sprintf("the signature of %s over the voucher is wrong", subject(signer)),
			"get the voucher anew from the device's maker", err)
	}
	return nil
}

// otherPurpose refuses certificates that were not issued to sign vouchers. What a maker gives its devices, of whatever
// product line, and its web servers may chain to the same anchor as its voucher service's: a key out of another device, or
// of a redirect server, must not be able to give this device away. Devices have a serialNumber in their subject
// (IEEE 802.1AR §8.6); a key usage and an extended one exclude every purpose they do not name (RFC 5280 §4.2.1.3,
// §4.2.1.12). A certificate that is itself an anchor was chosen by a person for this very purpose.
func (v *validation) otherPurpose(signer *x509.Certificate) *Error {
	if slices.ContainsFunc(v.policy.VoucherAnchors, signer.Equal) {
		return nil
	}
	const fix = "get a voucher from the device's maker, or configure the certificate of its voucher service itself as trust anchor"
	if signer.Subject.SerialNumber != "" {
		return refuse(CodeVoucherUntrusted, fmt.Sprintf("the voucher is signed by a device, %s", subject(signer)), fix, nil)
	}
	if len(signer.ExtKeyUsage) > 0 && len(signer.UnknownExtKeyUsage) == 0 && !slices.ContainsFunc(signer.ExtKeyUsage, notTLS) {
		return refuse(CodeVoucherUntrusted, fmt.Sprintf("the voucher is signed by %s, whose certificate is for TLS only", subject(signer)), fix, nil)
	}
	const signing = x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment
	if signer.KeyUsage != 0 && signer.KeyUsage&signing == 0 {
		return refuse(CodeVoucherUntrusted, fmt.Sprintf("the voucher is signed by %s, whose certificate is not for signatures", subject(signer)), fix, nil)
	}
	return nil
}

func notTLS(u x509.ExtKeyUsage) bool {
	return u != x509.ExtKeyUsageServerAuth && u != x509.ExtKeyUsageClientAuth
}

// voucherContents decodes a voucher whose signature holds.
func (v *validation) voucherContents(data []byte) (contents *voucher, err error) {
	err = v.step(StepVoucherContents, func() (string, error) {
		d := decoder{lenient: v.policy.Lenient}
		contents = d.voucher(data)
		v.warnings = append(v.warnings, d.warnings...)
		if d.err != nil {
			return "", refuse(CodeVoucherMalformed, "the voucher breaks the rules of RFC 8366 §5.3",
				"get a correct voucher from the device's maker", d.err)
		}
		return fmt.Sprintf("pins %s", subject(contents.pinned)), nil
	})
	return contents, err
}

// checkVoucher holds the voucher against the device, in the order of RFC 8572 §5.4.
func (v *validation) checkVoucher(contents *voucher) error {
	checks := []struct {
		step  Step
		check func(*voucher) (string, error)
	}{
		{StepVoucherDates, v.voucherDates},
		{StepVoucherAssertion, v.voucherAssertion},
		{StepVoucherSerial, v.voucherSerial},
		{StepVoucherIssuer, v.voucherIssuer},
		{StepVoucherNonce, v.voucherNonce},
	}
	for _, c := range checks {
		if err := v.step(c.step, func() (string, error) { return c.check(contents) }); err != nil {
			return err
		}
	}
	return nil
}

func (v *validation) voucherDates(contents *voucher) (string, error) {
	clock := v.policy.Clock
	if !clock.Accurate() {
		return "not checked: the clock is not accurate", nil
	}
	if contents.createdOn.After(clock.Now) {
		return "", refuse(CodeVoucherNotYetValid, fmt.Sprintf("the voucher was created on %s, the clock says %s",
			stamp(contents.createdOn), stamp(clock.Now)), "correct the device's clock, or get a new voucher", nil)
	}
	if contents.expiresOn.IsZero() {
		return fmt.Sprintf("created on %s, does not expire", stamp(contents.createdOn)), nil
	}
	if !clock.Now.Before(contents.expiresOn) {
		return "", refuse(CodeVoucherExpired, fmt.Sprintf("the voucher expired on %s, the clock says %s",
			stamp(contents.expiresOn), stamp(clock.Now)), "get a new voucher, or correct the device's clock", nil)
	}
	return fmt.Sprintf("%s to %s", stamp(contents.createdOn), stamp(contents.expiresOn)), nil
}

func (v *validation) voucherAssertion(contents *voucher) (string, error) {
	accepted := v.policy.Assertions
	if len(accepted) == 0 {
		accepted = []Assertion{Verified, Logged, Proximity, AgentProximity}
		if contents.assertion == "" {
			return "none", nil // only a lenient decoder lets it pass
		}
	}
	if !slices.Contains(accepted, contents.assertion) {
		return "", refuse(CodeVoucherAssertion, fmt.Sprintf("the voucher's assertion is %q, accepted are %q",
			cms.Printable(string(contents.assertion)), accepted), "get a voucher with an accepted assertion, or configure it as accepted", nil)
	}
	return string(contents.assertion), nil
}

func (v *validation) voucherSerial(contents *voucher) (string, error) {
	if contents.serial != v.device.SerialNumber {
		return "", refuse(CodeVoucherSerial, fmt.Sprintf("the voucher is for serial number %q, this device is %q",
			cms.Printable(contents.serial), v.device.SerialNumber), "get a voucher for this device", nil)
	}
	return contents.serial, nil
}

func (v *validation) voucherIssuer(contents *voucher) (string, error) {
	if contents.issuer == nil {
		return "not named", nil
	}
	own := v.device.AuthorityKeyID
	if slices.ContainsFunc(keyIdentifiers(contents.issuer), func(id []byte) bool { return sameKeyID(id, own) }) {
		return hex.EncodeToString(own), nil
	}
	has := "has none"
	if len(own) > 0 {
		has = "has " + hex.EncodeToString(own)
	}
	return "", refuse(CodeVoucherIssuer, fmt.Sprintf("the voucher is for a device with authority key identifier %s, this device %s",
		cms.Printable(hex.EncodeToString(contents.issuer)), has), "get a voucher for this device", nil)
}

// voucherNonce holds the voucher's nonce against the one that was sent (RFC 8366 §5.3).
func (v *validation) voucherNonce(contents *voucher) (string, error) {
	sent := v.policy.Nonce
	switch {
	case contents.nonce != nil && sent == nil:
		return "", refuse(CodeVoucherNonce, "the voucher has a nonce, but the device sent none in this session",
			"get a voucher without a nonce for this way of delivery", nil)
	case contents.nonce != nil:
		if subtle.ConstantTimeCompare(contents.nonce, sent) != 1 {
			return "", refuse(CodeVoucherNonce, "the voucher's nonce is not the one that the device sent in this session",
				"get a voucher for the nonce of this session", nil)
		}
		return "as sent", nil
	case sent == nil:
		return "none sent, none in the voucher", nil
	case v.policy.RequireNonce:
		return "", refuse(CodeVoucherNoNonce, "the voucher has no nonce, and this device requires one",
			"get a voucher for the nonce of this session, or do not require it", nil)
	case contents.expiresOn.IsZero() && !v.policy.LongLived:
		return "", refuse(CodeVoucherNoNonce, "the voucher has neither the nonce that was sent nor an end",
			"get a voucher with the nonce of this session or with expires-on, or accept long-lived vouchers", nil)
	}
	return "sent, but not in the voucher, which is accepted", nil
}

// sameKeyID compares key identifiers; none equals nothing.
func sameKeyID(a, b []byte) bool { return len(a) > 0 && bytes.Equal(a, b) }
