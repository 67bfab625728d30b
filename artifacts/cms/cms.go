// Package cms reads Cryptographic Message Syntax (RFC 5652) from untrusted peers: plain content, SignedData (with signers,
// or degenerate and holding only certificates), EnvelopedData and AuthEnvelopedData. It is a reader of DER and refuses
// everything else, trailing bytes included, but for the few forms that Parse lists. Size, depth and counts are bounded
// before anything is allocated, and time is linear in the input. Parsing verifies nothing: SignedData.SignedBy does, for a
// certificate the caller chose to believe.
package cms

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Limits of what is read.
const (
	MaxSize             = 16 << 20 // bytes of a whole message
	MaxCertificates     = 32       // in one SignedData
	MaxCertificateBytes = 64 << 10
	MaxRSABits          = 8192    // of a key in a certificate
	MaxCRLs             = 16      // in one SignedData
	MaxCRLBytes         = 1 << 20 // of all revocation lists in one SignedData
	MaxSigners          = 8
	MaxRecipients       = 256
	maxAlgorithms       = 16
	maxAttributes       = 32       // of one signer
	maxName             = 16 << 10 // bytes of an issuer's name in an identifier
	maxIdentifier       = 64       // bytes of a serial number or key identifier
)

// The kinds of failure, matched with errors.Is. Errors wrap one of them and say more.
var (
	ErrMalformed    = errors.New("malformed CMS")
	ErrLimit        = errors.New("over the limit of what is read")
	ErrUnsupported  = errors.New("refused by algorithm or form")
	ErrNotSigner    = errors.New("no signature names this certificate")
	ErrSignature    = errors.New("signature does not verify")
	ErrNotRecipient = errors.New("not encrypted for this device")
	ErrNoKey        = errors.New("encrypted for this device, whose key cannot decrypt")
	ErrKeyFailed    = errors.New("the key of this device failed")
	ErrDecrypt      = errors.New("decryption failed")
)

// Content types (RFC 5652 §4, RFC 8572 §3.1, RFC 8366 §5.4).
var (
	TypeData          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	TypeSigned        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	TypeEnveloped     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 3}
	TypeAuthEnveloped = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 23}
	TypeVoucherJSON   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 40}
	TypeConveyedXML   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 42}
	TypeConveyedJSON  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 43}
)

// Message is a ContentInfo. Exactly one of Data, Signed and Enveloped is set, Data being non-nil even when empty.
type Message struct {
	Type      asn1.ObjectIdentifier
	Data      []byte // the value of the OCTET STRING
	Signed    *SignedData
	Enveloped *EnvelopedData
}

// Parse reads a whole message. Slices of the result may point into der. Errors wrap ErrMalformed, ErrLimit or
// ErrUnsupported.
//
// A message is DER, with these exceptions and no others:
//
//   - If it begins with an indefinite length, so may each element that is directly inside of one that does, at most 32 of
//     them and 8 deep. They mean what they would with definite lengths. What is inside an element of definite length is DER
//     again, as signed attributes and certificates are. OpenSSL and Bouncy Castle write so when they stream.
//   - Content, encrypted or not, may be an OCTET STRING in pieces, which are primitive. Their values count, joined. Where
//     indefinite lengths led, so may every OCTET STRING.
//   - The elements of a SET may be in any order. A signature is held against the signed attributes in the order in which
//     they came.
//   - Version numbers need only be some that the structure ever had; they follow from what else is there.
//   - Algorithms without parameters may have NULL for parameters, or nothing, whichever their specification demands.
//   - Values that are a field's default may be written out, as in the parameters of RSA-PSS, RSA-OAEP and AES-GCM.
//   - Certificates that only accompany an encryption, unprotected attributes, recipients by password or shared key, and
//     revocation information other than X.509 lists and OCSP responses are passed over unread.
//   - Authenticated attributes may be missing where content that is not id-data is encrypted with AES-GCM (RFC 5083 §2.1
//     demands them): OpenSSL cannot write them, and encryption is no proof of origin.
//   - Signed content of a type other than id-data may be something else than an OCTET STRING; see SignedData.PKCS7.
func Parse(der []byte) (*Message, error) {
	switch {
	case len(der) > MaxSize:
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrLimit, len(der), MaxSize)
	case len(der) == 0:
		return nil, malformed("empty")
	case bytes.HasPrefix(der, []byte("-----BEGIN")):
		return nil, malformed("PEM text where DER is expected")
	}
	der, err := definite(der)
	if err != nil {
		return nil, err
	}
	input := cryptobyte.String(der)
	var body cryptobyte.String
	if !input.ReadASN1(&body, casn1.SEQUENCE) {
		return nil, malformed("not a DER sequence")
	}
	if !input.Empty() {
		return nil, malformed("%d trailing bytes", len(input))
	}
	return parseContentInfo(body)
}

// parseContentInfo reads what is inside the outermost SEQUENCE.
func parseContentInfo(body cryptobyte.String) (*Message, error) {
	m := new(Message)
	var content cryptobyte.String
	if !body.ReadASN1ObjectIdentifier(&m.Type) {
		return nil, malformed("no content type")
	}
	if !body.ReadASN1(&content, explicit(0)) || !body.Empty() {
		return nil, malformed("no single content of type %v", m.Type)
	}
	var err error
	switch {
	case m.Type.Equal(TypeSigned):
		m.Signed, err = parseSignedData(content)
	case m.Type.Equal(TypeEnveloped):
		m.Enveloped, err = parseEnveloped(content, false)
	case m.Type.Equal(TypeAuthEnveloped):
		m.Enveloped, err = parseEnveloped(content, true)
	case isDocument(m.Type):
		var ok bool
		if m.Data, ok = readOctets(&content, casn1.OCTET_STRING); !ok || !content.Empty() {
			err = malformed("content of type %v is not an OCTET STRING", m.Type)
		}
	default:
		err = fmt.Errorf("%w: content type %v", ErrUnsupported, m.Type)
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}

// isDocument reports whether content of type t is plain bytes in an OCTET STRING.
func isDocument(t asn1.ObjectIdentifier) bool {
	return t.Equal(TypeData) || t.Equal(TypeConveyedJSON) || t.Equal(TypeConveyedXML) || t.Equal(TypeVoucherJSON)
}

// ParseCertificate reads one certificate within the limits of this package.
func ParseCertificate(der []byte) (*x509.Certificate, error) {
	if len(der) > MaxCertificateBytes {
		return nil, fmt.Errorf("%w: certificate of %d bytes, at most %d", ErrLimit, len(der), MaxCertificateBytes)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, malformed("certificate: %v", err)
	}
	if k, ok := c.PublicKey.(*rsa.PublicKey); ok && k.N.BitLen() > MaxRSABits {
		return nil, fmt.Errorf("%w: RSA key of %d bits, at most %d", ErrLimit, k.N.BitLen(), MaxRSABits)
	}
	return c, nil
}

// readOctets reads an OCTET STRING with the given primitive tag, whole or in one level of pieces. The result is never nil
// when ok.
func readOctets(in *cryptobyte.String, tag casn1.Tag) (value []byte, ok bool) {
	if in.PeekASN1Tag(tag) {
		var s cryptobyte.String
		ok = in.ReadASN1(&s, tag)
		return s, ok
	}
	var pieces, piece cryptobyte.String
	if !in.ReadASN1(&pieces, tag.Constructed()) {
		return nil, false
	}
	value = make([]byte, 0, len(pieces))
	for !pieces.Empty() {
		if !pieces.ReadASN1(&piece, casn1.OCTET_STRING) {
			return nil, false
		}
		value = append(value, piece...)
	}
	return value, true
}

// elements splits in into its elements, each with its header, and refuses more than limit of them.
func elements(in cryptobyte.String, limit int, what string) ([]cryptobyte.String, error) {
	var list []cryptobyte.String
	for !in.Empty() {
		var e cryptobyte.String
		var tag casn1.Tag
		if !in.ReadAnyASN1Element(&e, &tag) {
			return nil, malformed("%s", what)
		}
		if len(list) == limit {
			return nil, fmt.Errorf("%w: more than %d %s", ErrLimit, limit, what)
		}
		list = append(list, e)
	}
	return list, nil
}

// explicit is the tag of a constructed context-specific element.
func explicit(n uint8) casn1.Tag { return casn1.Tag(n).ContextSpecific().Constructed() }

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, args...)...)
}
