package cms

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"time"
)

// Signer says who signs and how.
type Signer struct {
	Certificate  *x509.Certificate
	Key          crypto.Signer
	Include      []*x509.Certificate // certificates to carry; empty carries none, as signed conveyed information may
	BySubjectKey bool                // name the signer by subject key identifier instead of issuer and serial number
	Time         time.Time           // the signing time attribute; the zero value means now
	// AttributeType replaces the content type in the signed attributes; nil means the right one. For negative tests.
	AttributeType asn1.ObjectIdentifier
}

type signerInfo struct {
	Version            int
	SID                asn1.RawValue
	DigestAlgorithm    pkix.AlgorithmIdentifier
	SignedAttrs        asn1.RawValue
	SignatureAlgorithm pkix.AlgorithmIdentifier
	Signature          []byte
}

type attribute struct {
	Type   asn1.ObjectIdentifier
	Values []asn1.RawValue `asn1:"set"`
}

// Sign returns content of the given type as SignedData with one signer and signed attributes (RFC 5652 §5).
func Sign(contentType asn1.ObjectIdentifier, content []byte, s Signer) ([]byte, error) {
	hash, digestAlg, signatureAlg, err := algorithms(s.Key.Public())
	if err != nil {
		return nil, err
	}
	attrs, err := signedAttributes(contentType, content, hash, s)
	if err != nil {
		return nil, err
	}
	// What is signed is the SET OF; what is stored carries the implicit tag [0] instead (RFC 5652 §5.4).
	signature, err := s.Key.Sign(rand.Reader, sum(hash, attrs), hash)
	if err != nil {
		return nil, err
	}
	stored := append([]byte{0xa0}, attrs[1:]...)
	sid, version, err := signerID(s)
	if err != nil {
		return nil, err
	}
	info, err := asn1.Marshal(signerInfo{
		Version: version, SID: sid, DigestAlgorithm: digestAlg, SignedAttrs: asn1.RawValue{FullBytes: stored},
		SignatureAlgorithm: signatureAlg, Signature: signature,
	})
	if err != nil {
		return nil, err
	}
	sd, err := asn1.Marshal(signedData{
		Version:          signedDataVersion(contentType, version),
		DigestAlgorithms: []pkix.AlgorithmIdentifier{digestAlg},
		Encapsulated:     encapsulated{Type: contentType, Content: content},
		Certificates:     certificateSet(s.Include),
		SignerInfos:      []asn1.RawValue{{FullBytes: info}},
	})
	if err != nil {
		return nil, err
	}
	return wrap(SignedData, sd)
}

// signedDataVersion follows RFC 5652 §5.1.
func signedDataVersion(contentType asn1.ObjectIdentifier, signerVersion int) int {
	if contentType.Equal(Data) && signerVersion == 1 {
		return 1
	}
	return 3
}

func signerID(s Signer) (sid asn1.RawValue, version int, err error) {
	if s.BySubjectKey {
		if len(s.Certificate.SubjectKeyId) == 0 {
			return sid, 0, errors.New("the signer's certificate has no subject key identifier")
		}
		return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, Bytes: s.Certificate.SubjectKeyId}, 3, nil
	}
	der, err := asn1.Marshal(nameOf(s.Certificate))
	return asn1.RawValue{FullBytes: der}, 1, err
}

func nameOf(c *x509.Certificate) issuerAndSerial {
	return issuerAndSerial{Issuer: asn1.RawValue{FullBytes: c.RawIssuer}, Serial: c.SerialNumber}
}

func signedAttributes(contentType asn1.ObjectIdentifier, content []byte, hash crypto.Hash, s Signer) ([]byte, error) {
	at := s.Time
	if at.IsZero() {
		at = time.Now()
	}
	if s.AttributeType != nil {
		contentType = s.AttributeType
	}
	var attrs []attribute
	for _, a := range []struct {
		id    asn1.ObjectIdentifier
		value any
	}{{oidContentType, contentType}, {oidSigningTime, at.UTC()}, {oidMessageDigest, sum(hash, content)}} {
		der, err := asn1.Marshal(a.value)
		if err != nil {
			return nil, err
		}
		attrs = append(attrs, attribute{Type: a.id, Values: []asn1.RawValue{{FullBytes: der}}})
	}
	return asn1.MarshalWithParams(attrs, "set")
}

func sum(hash crypto.Hash, b []byte) []byte {
	h := hash.New()
	h.Write(b)
	return h.Sum(nil)
}

// algorithms picks the digest that matches the strength of the key.
func algorithms(pub crypto.PublicKey) (crypto.Hash, pkix.AlgorithmIdentifier, pkix.AlgorithmIdentifier, error) {
	id := func(oid asn1.ObjectIdentifier) pkix.AlgorithmIdentifier {
		return pkix.AlgorithmIdentifier{Algorithm: oid}
	}
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		if k.Curve.Params().BitSize > 256 {
			return crypto.SHA384, id(oidSHA384), id(oidECDSASHA384), nil
		}
		return crypto.SHA256, id(oidSHA256), id(oidECDSASHA256), nil
	case *rsa.PublicKey:
		return crypto.SHA256, id(oidSHA256), pkix.AlgorithmIdentifier{Algorithm: oidRSAEncryption, Parameters: asn1.NullRawValue}, nil
	}
	return 0, id(nil), id(nil), fmt.Errorf("cannot sign with a key of type %T: use RSA or ECDSA", pub)
}
