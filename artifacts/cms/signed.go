package cms

import (
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// SignedData is RFC 5652 §5.1. Its certificates and revocation lists are an unordered set that no signature covers.
type SignedData struct {
	Version     int
	ContentType asn1.ObjectIdentifier
	Content     []byte // nil when absent
	// PKCS7 says that the content is an element of another type than OCTET STRING, as PKCS #7 had it before CMS. Content is
	// then what is inside of it, which is also what was signed (RFC 5652 §5.2.1).
	PKCS7        bool
	Certificates []*x509.Certificate
	CRLs         [][]byte // DER of X.509 certificate lists, not yet parsed
	OCSP         [][]byte // DER of OCSP responses (RFC 5940), not yet parsed
	Signers      []Signer
}

// Signer is a SignerInfo (RFC 5652 §5.3).
type Signer struct {
	id        identifier
	digest    algorithm
	signing   algorithm
	attrs     []byte // the signed attributes as SET OF, which is what was signed; nil when absent
	signature []byte

	contentType   asn1.ObjectIdentifier
	messageDigest []byte
}

var (
	oidOCSPResponse = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 16, 2}
	oidEd25519      = asn1.ObjectIdentifier{1, 3, 101, 112}
)

// Degenerate reports whether the message only carries certificates (RFC 5652 §5.1, "certs-only").
func (s *SignedData) Degenerate() bool { return len(s.Signers) == 0 && s.Content == nil }

// Names reports whether the signer identifier names cert.
func (s *Signer) Names(cert *x509.Certificate) bool { return s.id.names(cert) }

// String identifies the signer for people.
func (s *Signer) String() string { return s.id.String() }

func parseSignedData(in cryptobyte.String) (*SignedData, error) {
	s := new(SignedData)
	var body, digests, encap, certs, crls, signers cryptobyte.String
	if !in.ReadASN1(&body, casn1.SEQUENCE) || !in.Empty() ||
		!body.ReadASN1Integer(&s.Version) ||
		!body.ReadASN1(&digests, casn1.SET) ||
		!body.ReadASN1(&encap, casn1.SEQUENCE) ||
		!body.ReadOptionalASN1(&certs, nil, explicit(0)) ||
		!body.ReadOptionalASN1(&crls, nil, explicit(1)) ||
		!body.ReadASN1(&signers, casn1.SET) || !body.Empty() {
		return nil, malformed("structure of SignedData")
	}
	// The version follows from what is inside (RFC 5652 §5.1) and common encoders get it wrong; it decides nothing.
	if s.Version < 1 || s.Version > 5 {
		return nil, fmt.Errorf("%w: SignedData version %d", ErrUnsupported, s.Version)
	}
	announced, err := readAlgorithms(digests)
	if err != nil {
		return nil, err
	}
	if err := s.parseContent(encap); err != nil {
		return nil, err
	}
	if err := s.parseCertificates(certs); err != nil {
		return nil, err
	}
	if err := s.parseCRLs(crls); err != nil {
		return nil, err
	}
	return s, s.parseSigners(signers, announced)
}

// readAlgorithms reads the digest algorithms that a verifier in one pass has to know before the content.
func readAlgorithms(in cryptobyte.String) ([]algorithm, error) {
	list, err := elements(in, maxAlgorithms, "digest algorithms")
	algorithms := make([]algorithm, len(list))
	for i := 0; i < len(list) && err == nil; i++ {
		algorithms[i], err = readAlgorithm(&list[i])
	}
	return algorithms, err
}

func (s *SignedData) parseContent(in cryptobyte.String) error {
	if !in.ReadASN1ObjectIdentifier(&s.ContentType) {
		return malformed("no type of the encapsulated content")
	}
	if in.Empty() {
		return nil
	}
	var content cryptobyte.String
	if !in.ReadASN1(&content, explicit(0)) || !in.Empty() {
		return malformed("encapsulated content")
	}
	var ok bool
	if content.PeekASN1Tag(casn1.OCTET_STRING) || content.PeekASN1Tag(constructedOctets) || s.ContentType.Equal(TypeData) {
		s.Content, ok = readOctets(&content, casn1.OCTET_STRING)
	} else {
		var tag casn1.Tag
		var value cryptobyte.String
		ok = content.ReadAnyASN1(&value, &tag)
		s.Content, s.PKCS7 = value, true
	}
	if !ok || !content.Empty() {
		return malformed("encapsulated content is not one OCTET STRING")
	}
	return nil
}

func (s *SignedData) parseCertificates(in cryptobyte.String) error {
	list, err := elements(in, MaxCertificates, "certificates")
	if err != nil {
		return err
	}
	for _, der := range list {
		if !der.PeekASN1Tag(casn1.SEQUENCE) {
			return fmt.Errorf("%w: a certificate that is not X.509", ErrUnsupported)
		}
		c, err := ParseCertificate(der)
		if err != nil {
			return err
		}
		s.Certificates = append(s.Certificates, c)
	}
	return nil
}

// parseCRLs keeps X.509 revocation lists and OCSP responses; other kinds of revocation information are passed over.
func (s *SignedData) parseCRLs(in cryptobyte.String) error {
	list, err := elements(in, MaxCRLs, "revocation lists")
	if err != nil {
		return err
	}
	if len(in) > MaxCRLBytes {
		return fmt.Errorf("%w: revocation lists of %d bytes, at most %d", ErrLimit, len(in), MaxCRLBytes)
	}
	for _, der := range list {
		if !der.PeekASN1Tag(casn1.SEQUENCE) {
			if err := s.parseOtherRevocation(der); err != nil {
				return err
			}
			continue
		}
		if !looksLikeCRL(der) {
			return malformed("revocation list")
		}
		s.CRLs = append(s.CRLs, der)
	}
	return nil
}

// parseOtherRevocation keeps what is in an OtherRevocationInfoFormat if that is an OCSP response (RFC 5940 §2.1).
func (s *SignedData) parseOtherRevocation(in cryptobyte.String) error {
	var body, response cryptobyte.String
	var format asn1.ObjectIdentifier
	if !in.ReadASN1(&body, explicit(1)) || !body.ReadASN1ObjectIdentifier(&format) {
		return nil
	}
	if !format.Equal(oidOCSPResponse) {
		return nil
	}
	if !body.ReadASN1Element(&response, casn1.SEQUENCE) || !body.Empty() {
		return malformed("OCSP response")
	}
	s.OCSP = append(s.OCSP, response)
	return nil
}

// looksLikeCRL tells a revocation list from a certificate and other things without looking at its entries.
func looksLikeCRL(in cryptobyte.String) bool {
	var list, body cryptobyte.String
	return in.ReadASN1(&list, casn1.SEQUENCE) &&
		list.ReadASN1(&body, casn1.SEQUENCE) && (body.PeekASN1Tag(casn1.INTEGER) || body.PeekASN1Tag(casn1.SEQUENCE)) &&
		list.SkipASN1(casn1.SEQUENCE) && list.SkipASN1(casn1.BIT_STRING) && list.Empty()
}

func (s *SignedData) parseSigners(in cryptobyte.String, announced []algorithm) error {
	list, err := elements(in, MaxSigners, "signers")
	if err != nil {
		return err
	}
	for _, der := range list {
		signer, err := parseSigner(der)
		if err != nil {
			return err
		}
		// Pure Ed25519 without attributes needs no digest of the content, and may announce none (RFC 8419 §3.2).
		pure := signer.attrs == nil && signer.signing.oid.Equal(oidEd25519)
		if !pure && !slices.ContainsFunc(announced, func(a algorithm) bool { return a.oid.Equal(signer.digest.oid) }) {
			return malformed("digest algorithm %v of a signer is not announced", signer.digest.oid)
		}
		s.Signers = append(s.Signers, *signer)
	}
	return nil
}

func parseSigner(in cryptobyte.String) (*Signer, error) {
	s := new(Signer)
	var body, attrs, signature, unsigned cryptobyte.String
	var version int
	var hasAttrs bool
	if !in.ReadASN1(&body, casn1.SEQUENCE) || !body.ReadASN1Integer(&version) {
		return nil, malformed("structure of SignerInfo")
	}
	if version != 1 && version != 3 {
		return nil, fmt.Errorf("%w: SignerInfo version %d", ErrUnsupported, version)
	}
	var err error
	if s.id, err = readIdentifier(&body); err != nil {
		return nil, err
	}
	if s.digest, err = readAlgorithm(&body); err != nil {
		return nil, err
	}
	if !body.ReadOptionalASN1(&attrs, &hasAttrs, explicit(0)) {
		return nil, malformed("signed attributes")
	}
	if hasAttrs {
		// The signature covers the attributes under the tag of a SET OF, not the one they were sent with (RFC 5652 §5.4).
		s.attrs = append(appendHeader(nil, byte(casn1.SET), len(attrs)), attrs...)
		if err := s.parseSignedAttributes(attrs); err != nil {
			return nil, err
		}
	}
	if s.signing, err = readAlgorithm(&body); err != nil {
		return nil, err
	}
	if !body.ReadASN1(&signature, casn1.OCTET_STRING) || !body.ReadOptionalASN1(&unsigned, nil, explicit(1)) || !body.Empty() {
		return nil, malformed("structure of SignerInfo")
	}
	s.signature = signature
	return s, checkUnsignedAttributes(unsigned)
}
