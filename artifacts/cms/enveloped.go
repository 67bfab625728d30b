package cms

import (
	"crypto"
	"crypto/ecdh"
	"crypto/x509"
	"encoding/asn1"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// EnvelopedData is RFC 5652 §6.1 or AuthEnvelopedData of RFC 5083 §2.1.
type EnvelopedData struct {
	ContentType   asn1.ObjectIdentifier // of the plaintext, as the sender labelled it
	transport     []keyTransport
	agreement     []keyAgreement
	cipher        algorithm
	ciphertext    []byte
	authenticated bool
	aad           []byte // the authenticated attributes as SET OF
	mac           []byte
}

// Recipient is who tries to read an EnvelopedData.
type Recipient struct {
	Certificate  *x509.Certificate
	Decrypter    crypto.Decrypter // the RSA key of Certificate; nil when there is none
	KeyAgreement KeyAgreement     // the elliptic-curve key of Certificate; nil when there is none
	// Errors of the two with a method KeyFailed() bool that returns true are told by Open, with ErrKeyFailed.
}

// KeyAgreement derives a secret with an elliptic-curve key; *ecdh.PrivateKey implements it.
type KeyAgreement interface {
	// ECDH returns the x coordinate of the shared point, as long as the curve's field.
	ECDH(peer *ecdh.PublicKey) ([]byte, error)
}

func parseEnveloped(in cryptobyte.String, authenticated bool) (*EnvelopedData, error) {
	e := &EnvelopedData{authenticated: authenticated}
	var body, recipients, content cryptobyte.String
	var version int
	if !in.ReadASN1(&body, casn1.SEQUENCE) || !in.Empty() || !body.ReadASN1Integer(&version) ||
		!body.SkipOptionalASN1(explicit(0)) ||
		!body.ReadASN1(&recipients, casn1.SET) ||
		!body.ReadASN1(&content, casn1.SEQUENCE) {
		return nil, malformed("structure of EnvelopedData")
	}
	if version < 0 || version > 4 {
		return nil, fmt.Errorf("%w: EnvelopedData version %d", ErrUnsupported, version)
	}
	if err := e.parseContent(content); err != nil {
		return nil, err
	}
	if authenticated {
		if err := e.parseAuthentication(&body); err != nil {
			return nil, err
		}
	}
	last := uint8(1)
	if authenticated {
		last = 2
	}
	if !body.SkipOptionalASN1(explicit(last)) || !body.Empty() {
		return nil, malformed("structure of EnvelopedData")
	}
	return e, e.parseRecipients(recipients)
}

func (e *EnvelopedData) parseContent(in cryptobyte.String) error {
	var err error
	if !in.ReadASN1ObjectIdentifier(&e.ContentType) {
		return malformed("no type of the encrypted content")
	}
	if e.cipher, err = readAlgorithm(&in); err != nil {
		return err
	}
	var ok bool
	if e.ciphertext, ok = readOctets(&in, casn1.Tag(0).ContextSpecific()); !ok || !in.Empty() {
		return malformed("encrypted content")
	}
	return nil
}

// parseAuthentication reads what AuthEnvelopedData has more: authenticated attributes, and the MAC, which for GCM is the
// tag (RFC 5084 §3.2).
func (e *EnvelopedData) parseAuthentication(body *cryptobyte.String) error {
	var attrs, mac cryptobyte.String
	var hasAttrs bool
	if !body.ReadOptionalASN1(&attrs, &hasAttrs, explicit(1)) || !body.ReadASN1(&mac, casn1.OCTET_STRING) {
		return malformed("structure of AuthEnvelopedData")
	}
	e.mac = mac
	if !hasAttrs {
		return nil
	}
	e.aad = append(appendHeader(nil, byte(casn1.SET), len(attrs)), attrs...)
	list, err := readAttributes(attrs)
	if err == nil {
		err = unique(list)
	}
	for i := 0; i < len(list) && err == nil; i++ {
		if list[i].kind.Equal(oidContentType) {
			var kind asn1.ObjectIdentifier
			if kind, err = list[i].contentType(); err == nil && !kind.Equal(e.ContentType) {
				err = malformed("content is of type %v, the authenticated attributes say %v", e.ContentType, kind)
			}
		}
	}
	return err
}
