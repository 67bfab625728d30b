// Package cms makes the CMS structures (RFC 5652) of SZTP artifacts: bare typed content, signed data with any content
// type and with or without certificates, degenerate certificate sets, and enveloped data for RSA and elliptic-curve
// recipients. It writes what a well-behaved owner or MASA would write, and offers the few variations that are legal, so that
// a device can be shown all of them. It reads nothing.
package cms

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"slices"
)

// Content types (RFC 5652 §14, RFC 8572 §10.5, RFC 8366 §8.2).
var (
	Data              = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	SignedData        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	EnvelopedData     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 3}
	VoucherJSON       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 40}
	ConveyedXML       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 42}
	ConveyedJSON      = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 43}
	oidContentType    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}
	oidMessageDigest  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}
	oidSigningTime    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 5}
	oidSHA256         = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	oidSHA384         = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}
	oidECDSASHA256    = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}
	oidECDSASHA384    = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}
	oidRSAEncryption  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidAES256CBC      = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}
	oidAES256Wrap     = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 45}
	oidStdDHSHA256KDF = asn1.ObjectIdentifier{1, 3, 132, 1, 11, 1}
	oidECPublicKey    = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
)

type contentInfo struct {
	Type    asn1.ObjectIdentifier
	Content asn1.RawValue `asn1:"explicit,optional,tag:0"`
}

type signedData struct {
	Version          int
	DigestAlgorithms []pkix.AlgorithmIdentifier `asn1:"set"`
	Encapsulated     encapsulated
	Certificates     asn1.RawValue   `asn1:"optional"`
	SignerInfos      []asn1.RawValue `asn1:"set"`
}

type encapsulated struct {
	Type    asn1.ObjectIdentifier
	Content []byte `asn1:"explicit,optional,omitempty,tag:0"`
}

type issuerAndSerial struct {
	Issuer asn1.RawValue
	Serial *big.Int
}

// Unsigned returns content as a bare ContentInfo of the given type.
func Unsigned(contentType asn1.ObjectIdentifier, content []byte) ([]byte, error) {
	octets, err := asn1.Marshal(content)
	if err != nil {
		return nil, err
	}
	return wrap(contentType, octets)
}

// Certificates returns a degenerate SignedData that carries certs and no signer (RFC 8572 §3.2).
func Certificates(certs ...*x509.Certificate) ([]byte, error) {
	if len(certs) == 0 {
		return nil, fmt.Errorf("a certificate set needs at least one certificate")
	}
	sd, err := asn1.Marshal(signedData{Version: 1, Encapsulated: encapsulated{Type: Data}, Certificates: certificateSet(certs)})
	if err != nil {
		return nil, err
	}
	return wrap(SignedData, sd)
}

func wrap(contentType asn1.ObjectIdentifier, content []byte) ([]byte, error) {
	return asn1.Marshal(contentInfo{
		Type: contentType,
		// The explicit tag of the field is written by hand because encoding/asn1 ignores field tags on raw values.
		Content: asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: content},
	})
}

// certificateSet returns certs in the order DER wants for a set.
func certificateSet(certs []*x509.Certificate) asn1.RawValue {
	if len(certs) == 0 {
		return asn1.RawValue{}
	}
	var raw [][]byte
	for _, c := range certs {
		raw = append(raw, c.Raw)
	}
	slices.SortFunc(raw, bytes.Compare)
	return asn1.RawValue{
		Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: bytes.Join(slices.CompactFunc(raw, bytes.Equal), nil),
	}
}
