package signature

import (
	"bytes"
	"crypto/subtle"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/artifacts/cms"
	"github.com/xpu-sztp/ztp/pkg/reason"
)

const fixCMS = "sign with `openssl cms -sign -binary -md sha256 -signer CERTIFICATE -inkey KEY -in IMAGE -outform DER`"

// parseCMS reads a detached signature over plain data.
func parseCMS(data []byte) (*cms.SignedData, error) {
	if bytes.HasPrefix(data, []byte("-----BEGIN")) {
		der, ok := dearmor(data, "CMS", "PKCS7")
		if !ok {
			return nil, malformed("the signature is not one PEM block of type \"CMS\" or \"PKCS7\"", nil)
		}
		data = der
	}
	message, err := cms.Parse(data)
	switch {
	case errors.Is(err, cms.ErrUnsupported):
		return nil, refuse(CodeAlgorithm, "the CMS signature is made in a way that is not accepted", fixCMS, err)
	case err != nil:
		return nil, malformed("the signature is not a CMS message", err)
	case message.Signed == nil || len(message.Signed.Signers) == 0:
		return nil, refuse(CodeMalformed, "the CMS message is not signed", fixCMS, nil)
	case message.Signed.Content != nil:
		return nil, refuse(CodeMalformed, "the CMS message has content, and is no detached signature", fixCMS, nil)
	case !message.Signed.ContentType.Equal(cms.TypeData):
		return nil, refuse(CodeMalformed, fmt.Sprintf("the CMS signature is over content of type %v, and an image is plain data",
			message.Signed.ContentType), fixCMS, nil)
	}
	return message.Signed, nil
}

// verifyCMS verifies the signature over the signed attributes, which name the digest of the image. Of several signatures one
// by somebody who is believed is enough.
func (p *Policy) verifyCMS(data []byte) (*Claim, error) {
	signed, err := parseCMS(data)
	if err != nil {
		return nil, err
	}
	failure := refuse(CodeUntrusted, "the image is signed by "+signed.Signers[0].String()+", whom image.signers does not name",
		"have somebody sign it whom image.signers names, or add the certificate there", nil)
	if p.Signers.Owner && p.Owner == nil {
		failure.Msg += "; nor is there an owner certificate, since the onboarding information came unsigned from a trusted server"
	}
	for _, c := range p.candidates(signed) {
		claim, refusal := p.verifyBy(c, signed)
		if refusal == nil {
			return claim, nil
		}
		if failure.Code == CodeUntrusted { // later ones may be a stranger's
			failure = refusal
		}
	}
	return nil, failure
}

// standing is why a certificate might be believed.
type standing int

const (
	owner    standing = iota // its path to what the voucher pins was verified, at this time
	named                    // a person chose this very certificate
	stranger                 // it came along, and must be certified by an authority that was named
)

type candidate struct {
	certificate *x509.Certificate
	standing    standing
}

// candidates lists the certificates that a signature names, those that are certain to be believed first.
func (p *Policy) candidates(signed *cms.SignedData) []candidate {
	var list []candidate
	add := func(c *x509.Certificate, s standing) {
		if slices.ContainsFunc(signed.Signers, func(by cms.Signer) bool { return by.Names(c) }) &&
			!slices.ContainsFunc(list, func(known candidate) bool { return known.certificate.Equal(c) }) {
			list = append(list, candidate{c, s})
		}
	}
	if p.Signers.Owner && p.Owner != nil {
		add(p.Owner, owner)
	}
	for _, c := range p.Signers.certificates {
		add(c, named)
	}
	for _, c := range signed.Certificates {
		add(c, stranger)
	}
	return list
}

func (p *Policy) verifyBy(c candidate, signed *cms.SignedData) (*Claim, *reason.Error) {
	name := cms.NameOf(c.certificate.RawSubject)
	if c.standing == owner {
		name = "owner certificate " + name
	}
	if refusal := p.refusal(c, name, signed.Certificates); refusal != nil {
		return nil, refusal
	}
	hash, digest, err := signed.DigestSignedBy(c.certificate)
	switch {
	case errors.Is(err, cms.ErrUnsupported):
		return nil, refuse(CodeAlgorithm, "the signature of "+name+" is made in a way that is not accepted", fixCMS, err)
	case err != nil:
		return nil, refuse(CodeMismatch, "the signature of "+name+" is wrong", "sign the image anew", err)
	}
	return &Claim{
		Signer: name,
		Hash:   hash,
		holds:  func(sum []byte) bool { return subtle.ConstantTimeCompare(sum, digest) == 1 },
	}, nil
}

// refusal says why c is not believed about images, or returns nil.
func (p *Policy) refusal(c candidate, name string, others []*x509.Certificate) *reason.Error {
	const signing = x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment
	const fix = "have somebody sign it whom image.signers names"
	cert := c.certificate
	var err error
	switch {
	case cert.KeyUsage != 0 && cert.KeyUsage&signing == 0:
		return refuse(CodeUntrusted, "the image is signed by "+name+", whose certificate is not for signatures", fix, nil)
	case c.standing == named && p.Clock.Accurate() && p.Clock.Now.Before(cert.NotBefore):
		return p.untimely(name, "is believed from "+stamp(cert.NotBefore)+" on")
	case c.standing == named && p.Clock.Accurate() && p.Clock.Now.After(cert.NotAfter):
		return p.untimely(name, "was believed until "+stamp(cert.NotAfter))
	case c.standing != stranger:
		return nil
	// An authority may also certify web servers and devices, which must not sign images.
	case !slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageCodeSigning):
		return refuse(CodeUntrusted, "the image is signed by "+name+", whom image.signers does not name and whose certificate is not for "+
			"code signing", fix+", or add the certificate there", nil)
	}
	err = artifacts.CertificationPath(cert, p.Signers.certificates, others, x509.ExtKeyUsageCodeSigning, p.Clock)
	switch {
	case errors.Is(err, artifacts.ErrPeriod):
		return refuse(CodeExpired, "the certificate of "+name+", who signed the image, does not hold at this time",
			"have somebody sign it whose certificate holds, or correct the device's clock", err)
	case err != nil:
		return refuse(CodeUntrusted, "the image is signed by "+name+", who has no path to an authority that image.signers names",
			fix+", and put all intermediate certificates into the signature", err)
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
