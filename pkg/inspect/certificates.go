package inspect

import (
	"crypto"
	"crypto/x509"
	"errors"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/artifacts/cms"
	"github.com/xpu-sztp/ztp/artifacts/revinfo"
)

// decodeCarrier is for what only carries certificates, which devices want to be degenerate: neither signed nor with content.
func (a *Artifact) decodeCarrier(s *cms.SignedData, lenient bool) {
	a.Kind, a.Form = certificatesKind(s.Certificates), FormCertificates
	deviation := "not a degenerate SignedData: it is signed"
	if s.Content != nil {
		deviation += ", over empty content"
	}
	switch {
	case s.Degenerate():
		if _, err := artifacts.ParseTrustAnchor(a.der); err != nil && a.Kind == KindAnchor && len(a.Recipients) == 0 {
			a.warn("no trust anchor: " + err.Error())
		}
	case lenient:
		a.warn(deviation + ", which devices accept with trust.lenient = true only")
	default:
		a.fail(artifacts.CodeOwnerMalformed, deviation+", which devices accept with trust.lenient = true only",
			"make it with `openssl crl2pkcs7 -nocrl -certfile CHAIN.pem -outform DER`; if it should be signed content, sign with -nodetach")
	}
}

// certificatesKind tells trust anchors, which are chains of authorities, from owner certificates. A device knows which one it
// has by where it came from.
func certificatesKind(certs []*x509.Certificate) Kind {
	kind := KindOwner
	for _, c := range certs {
		if !c.IsCA {
			return KindOwner
		}
		kind = KindAnchor
	}
	return kind
}

// decodeCertificates reads certificates that are not in a CMS, in DER one after the other. They are the server's, if there are
// anchors for one, and else probably a mistake.
func (a *Artifact) decodeCertificates(data []byte, o *Options) {
	certs, err := parseCertificates(data)
	if err != nil {
		a.fail(CodeNotArtifact, err.Error(), notArtifactHint)
		return
	}
	a.Kind, a.Form = KindCertificates, FormBare
	a.setCertificates(certs)
	if len(o.ServerAnchors) == 0 {
		a.warn("no artifact but bare certificates: name those of the maker's voucher service with --voucher-anchor, the device's with " +
			"--device-cert, and put an owner's into a CMS with `openssl crl2pkcs7 -nocrl -certfile`")
	}
}

func parseCertificates(data []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	in := cryptobyte.String(data)
	for !in.Empty() {
		var der cryptobyte.String
		if !in.ReadASN1Element(&der, casn1.SEQUENCE) {
			return nil, errors.New("not a certificate in DER")
		}
		c, err := cms.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		if certs = append(certs, c); len(certs) > maxCertificates {
			return nil, errors.New("too many certificates")
		}
	}
	return certs, nil
}

const maxCertificates = 256 // in one file

// PrivateKey reads a key in DER that no password protects: PKCS#8, PKCS#1 or SEC 1.
func PrivateKey(der []byte) (key crypto.PrivateKey, err error) {
	const limit = 5 << 10 // an RSA key of 8192 bits; larger ones take long to check
	if len(der) > limit {
		return nil, errors.New("too large for a private key")
	}
	if key, err = x509.ParsePKCS8PrivateKey(der); err == nil {
		return key, nil
	}
	if key, err = x509.ParsePKCS1PrivateKey(der); err == nil {
		return key, nil
	}
	if key, err = x509.ParseECPrivateKey(der); err == nil {
		return key, nil
	}
	return nil, errors.New("not a private key, or one with a password")
}

func isPrivateKey(der []byte) bool {
	_, err := PrivateKey(der)
	return err == nil
}

// Certificates reads the certificates of a file: PEM, DER or base64, bare or in a CMS. There is at least one.
func Certificates(data []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for _, p := range unwrap("", data) {
		a := p.decode(new(Options))
		switch {
		case a.Problem != nil:
			return nil, errors.New(a.Problem.Message)
		case a.Form != FormCertificates && a.Kind != KindCertificates, len(a.x509) == 0:
			return nil, errors.New("holds " + string(a.Kind) + " where certificates are expected")
		}
		certs = append(certs, a.x509...)
	}
	return certs, nil
}

func (a *Artifact) setCertificates(certs []*x509.Certificate) {
	a.x509 = certs
	a.Certificates = artifacts.ViewCertificates(certs)
}

func revocationOf(der []byte) Revocation {
	list, err := revinfo.ParseList(der)
	if err != nil {
		return Revocation{Issuer: "an unreadable name", Unreadable: err.Error()}
	}
	return Revocation{Issuer: cms.NameOf(list.Issuer), ThisUpdate: list.ThisUpdate, NextUpdate: list.NextUpdate, Revoked: list.Entries}
}

// answersOf lists what an OCSP response says, each certificate by its serial number.
func answersOf(der []byte) (answers []OCSPAnswer) {
	response, err := revinfo.ParseResponse(der)
	if err == nil && response.Failure != "" {
		err = errors.New("the responder answered " + response.Failure)
	}
	if err != nil {
		return []OCSPAnswer{{SerialNumber: "an unreadable number", Unreadable: err.Error()}}
	}
	for _, a := range response.Answers {
		answers = append(answers, OCSPAnswer{
			SerialNumber: new(big.Int).SetBytes(a.Serial).Text(16), Status: a.Status, ThisUpdate: a.ThisUpdate, NextUpdate: a.NextUpdate,
		})
	}
	return answers
}
