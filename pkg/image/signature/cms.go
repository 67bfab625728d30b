package signature

import (
	"bytes"
	"crypto/subtle"
	"crypto/x509"
	"errors"
	"slices"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/artifacts/cms"
	"github.com/xpu-sztp/ztp/pkg/reason"
)

// parseCMS reads a detached signature over plain data.
func parseCMS(data []byte) (*cms.SignedData, error) {
	if bytes.HasPrefix(data, []byte("-----BEGIN")) {
		data = dearmor(data, "CMS", "PKCS7")
	}
	message, err := cms.Parse(data)
	switch {
	case errors.Is(err, cms.ErrUnsupported):
		return nil, refuse(algorithm, "the CMS signature is made in a way that is not accepted", err)
	case err == nil && message.Signed != nil && len(message.Signed.Signers) > 0 && message.Signed.Content == nil &&
		message.Signed.ContentType.Equal(cms.TypeData):
		return message.Signed, nil
	}
	return nil, refuse(malformed, "it is not a detached CMS signature over plain data", err)
}

// verifyCMS verifies the signature over the signed attributes, which name the digest of the image. Of several signatures one
// by somebody who is believed is enough.
func (p *Policy) verifyCMS(data []byte) (*Claim, error) {
	signed, err := parseCMS(data)
	if err != nil {
		return nil, err
	}
	why := "whom image.signers does not name"
	if p.Signers.Owner && p.Owner == nil {
		why = "and must be by the owner certificate or others" + ownerless
	}
	failure := untrustedSigner(signed.Signers[0].String(), why)
	for _, cert := range slices.Concat([]*x509.Certificate{p.owner()}, p.Signers.certificates, signed.Certificates) {
		if cert == nil || !slices.ContainsFunc(signed.Signers, func(s cms.Signer) bool { return s.Names(cert) }) {
			continue
		}
		claim, refusal := p.verifyBy(cert, signed)
		if refusal == nil {
			return claim, nil
		}
		if failure.Code == CodeUntrusted { // later ones may be a stranger's
			failure = refusal
		}
	}
	return nil, failure
}

func (p *Policy) verifyBy(cert *x509.Certificate, signed *cms.SignedData) (*Claim, *reason.Error) {
	name := cms.NameOf(cert.RawSubject)
	if refusal := p.disbelief(cert, name, signed.Certificates); refusal != nil {
		return nil, refusal
	}
	hash, digest, err := signed.DigestSignedBy(cert)
	switch {
	case errors.Is(err, cms.ErrUnsupported):
		return nil, refuse(algorithm, "the signature of "+name+" is made in a way that is not accepted", err)
	case err != nil:
		return nil, refuse(mismatch, "the signature of "+name+" is wrong", err)
	}
	return &Claim{
		Signer: name,
		Hash:   hash,
		holds:  func(sum []byte) bool { return subtle.ConstantTimeCompare(sum, digest) == 1 },
	}, nil
}

// disbelief says why cert is not believed about images, or returns nil. others are certificates that came along.
func (p *Policy) disbelief(cert *x509.Certificate, name string, others []*x509.Certificate) *reason.Error {
	const signing = x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment
	switch {
	case cert.KeyUsage != 0 && cert.KeyUsage&signing == 0:
		return untrustedSigner(name, "whose certificate is not for signatures")
	case p.owner() != nil && p.owner().Equal(cert):
		return nil // its path to what the voucher pins was verified, at this time
	case slices.ContainsFunc(p.Signers.certificates, cert.Equal):
		return p.untimely(name, cert.NotBefore, cert.NotAfter) // a person chose this very certificate
	case !slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageCodeSigning):
		// An authority may also certify web servers and devices, which must not sign images.
		return untrustedSigner(name, "whom image.signers does not name, and whose certificate is not for code signing")
	}
	err := artifacts.CertificationPath(cert, p.Signers.certificates, others, x509.ExtKeyUsageCodeSigning, p.Clock)
	switch {
	case errors.Is(err, artifacts.ErrPeriod):
		return refuse(expired, "the image is signed by "+name, err)
	case err != nil:
		return refuse(untrusted, "the image is signed by "+name+", who has no path to an authority that image.signers names", err)
	}
	return nil
}
