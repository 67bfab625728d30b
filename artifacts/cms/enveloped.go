package cms

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"math/big"

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

// keyTransport is KeyTransRecipientInfo (RFC 5652 §6.2.1).
type keyTransport struct {
	recipient recipientID
	algorithm algorithm
	key       []byte
}

// keyAgreement is one recipient of a KeyAgreeRecipientInfo whose originator sent an ephemeral key (RFC 5753 §3.1).
type keyAgreement struct {
	recipient recipientID
	point     []byte // the ephemeral key
	ukm       []byte // user keying material; nil when absent
	algorithm algorithm
	key       []byte
}

type recipientID struct {
	issuer []byte // with serial, or
	serial *big.Int
	keyID  []byte
}

func (r recipientID) names(cert *x509.Certificate) bool {
	if r.keyID != nil {
		return bytes.Equal(r.keyID, cert.SubjectKeyId)
	}
	return bytes.Equal(r.issuer, cert.RawIssuer) && r.serial.Cmp(cert.SerialNumber) == 0
}

// Recipient is who tries to read an EnvelopedData.
type Recipient struct {
	Certificate  *x509.Certificate
	Decrypter    crypto.Decrypter // the RSA key of Certificate; nil when there is none
	KeyAgreement KeyAgreement     // the elliptic-curve key of Certificate; nil when there is none
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
	if hasAttrs {
		e.aad = append(appendHeader(nil, byte(casn1.SET), len(attrs)), attrs...)
	}
	e.mac = mac
	return nil
}

// parseRecipients keeps the recipients by key transport and by key agreement; those by password, by a shared key
// encryption key or in another way are not ours and are passed over.
func (e *EnvelopedData) parseRecipients(in cryptobyte.String) error {
	list, err := elements(in, MaxRecipients, "recipients")
	if err != nil {
		return err
	}
	for _, der := range list {
		switch {
		case der.PeekASN1Tag(casn1.SEQUENCE):
			err = e.parseKeyTransport(der)
		case der.PeekASN1Tag(explicit(1)):
			err = e.parseKeyAgreement(der)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (e *EnvelopedData) parseKeyTransport(in cryptobyte.String) error {
	var k keyTransport
	var body, key cryptobyte.String
	var version int
	if !in.ReadASN1(&body, casn1.SEQUENCE) || !body.ReadASN1Integer(&version) {
		return malformed("structure of KeyTransRecipientInfo")
	}
	var err error
	if k.recipient.issuer, k.recipient.serial, k.recipient.keyID, err = readIdentifier(&body); err != nil {
		return err
	}
	if k.algorithm, err = readAlgorithm(&body); err != nil {
		return err
	}
	if !body.ReadASN1(&key, casn1.OCTET_STRING) || !body.Empty() {
		return malformed("structure of KeyTransRecipientInfo")
	}
	k.key = key
	e.transport = append(e.transport, k)
	return nil
}

func (e *EnvelopedData) parseKeyAgreement(in cryptobyte.String) error {
	var k keyAgreement
	var body, originator, ukmField, ukm, keys cryptobyte.String
	var version int
	var hasUKM bool
	if !in.ReadASN1(&body, explicit(1)) || !body.ReadASN1Integer(&version) ||
		!body.ReadASN1(&originator, explicit(0)) ||
		!body.ReadOptionalASN1(&ukmField, &hasUKM, explicit(1)) {
		return malformed("structure of KeyAgreeRecipientInfo")
	}
	if hasUKM {
		if !ukmField.ReadASN1(&ukm, casn1.OCTET_STRING) || !ukmField.Empty() {
			return malformed("user keying material")
		}
		k.ukm = ukm
	}
	var err error
	if k.algorithm, err = readAlgorithm(&body); err != nil {
		return err
	}
	if !body.ReadASN1(&keys, casn1.SEQUENCE) || !body.Empty() {
		return malformed("structure of KeyAgreeRecipientInfo")
	}
	if !originator.PeekASN1Tag(explicit(1)) {
		return nil // a static key in a certificate: not a form we read, and maybe for another recipient
	}
	if k.point, err = readOriginatorKey(originator); err != nil {
		return err
	}
	list, err := elements(keys, MaxRecipients, "recipients")
	if err != nil {
		return err
	}
	for _, der := range list {
		if k.recipient, k.key, err = readEncryptedKey(der); err != nil {
			return err
		}
		if len(e.agreement) == MaxRecipients {
			return fmt.Errorf("%w: more than %d recipients", ErrLimit, MaxRecipients)
		}
		e.agreement = append(e.agreement, k)
	}
	return nil
}

// readOriginatorKey returns the point of an OriginatorPublicKey. Its curve is the recipient's (RFC 5753 §3.1.1).
func readOriginatorKey(in cryptobyte.String) ([]byte, error) {
	var body cryptobyte.String
	var point []byte
	if !in.ReadASN1(&body, explicit(1)) || !in.Empty() {
		return nil, malformed("originator key")
	}
	if _, err := readAlgorithm(&body); err != nil {
		return nil, err
	}
	if !body.ReadASN1BitStringAsBytes(&point) || !body.Empty() {
		return nil, malformed("originator key")
	}
	return point, nil
}

// readEncryptedKey reads RecipientEncryptedKey.
func readEncryptedKey(in cryptobyte.String) (recipientID, []byte, error) {
	var id recipientID
	var body, keyed, keyID, key cryptobyte.String
	if !in.ReadASN1(&body, casn1.SEQUENCE) {
		return id, nil, malformed("recipient's encrypted key")
	}
	var err error
	if body.PeekASN1Tag(explicit(0)) {
		if !body.ReadASN1(&keyed, explicit(0)) || !keyed.ReadASN1(&keyID, casn1.OCTET_STRING) || len(keyID) == 0 {
			return id, nil, malformed("recipient key identifier")
		}
		id.keyID = keyID
	} else if id.issuer, id.serial, id.keyID, err = readIdentifier(&body); err != nil {
		return id, nil, err
	}
	if !body.ReadASN1(&key, casn1.OCTET_STRING) || !body.Empty() {
		return id, nil, malformed("recipient's encrypted key")
	}
	return id, key, nil
}
