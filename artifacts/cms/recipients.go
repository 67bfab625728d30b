package cms

import (
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// keyTransport is KeyTransRecipientInfo (RFC 5652 §6.2.1).
type keyTransport struct {
	recipient identifier
	algorithm algorithm
	key       []byte
}

// keyAgreement is one recipient of a KeyAgreeRecipientInfo (RFC 5753 §3.1).
type keyAgreement struct {
	recipient  identifier
	originator originatorKey
	ukm        []byte // user keying material; nil when absent
	algorithm  algorithm
	key        []byte
}

// originatorKey is the sender's ephemeral key. Of a static key, which is in a certificate, only static is set.
type originatorKey struct {
	static bool
	curve  cryptobyte.String // parameters of id-ecPublicKey
	point  []byte
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
		case !der.PeekASN1Tag(explicit(2)) && !der.PeekASN1Tag(explicit(3)) && !der.PeekASN1Tag(explicit(4)):
			err = malformed("kind of recipient")
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
	if k.recipient, err = readIdentifier(&body); err != nil {
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
	if k.originator, err = readOriginator(originator); err != nil {
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

// readOriginator reads OriginatorIdentifierOrKey.
func readOriginator(in cryptobyte.String) (k originatorKey, err error) {
	if !in.PeekASN1Tag(explicit(1)) {
		k.static = true
		if _, err = readIdentifier(&in); err == nil && !in.Empty() {
			err = malformed("originator")
		}
		return k, err
	}
	var body cryptobyte.String
	if !in.ReadASN1(&body, explicit(1)) || !in.Empty() {
		return k, malformed("originator key")
	}
	a, err := readAlgorithm(&body)
	if err != nil {
		return k, err
	}
	if a.oid.String() != "1.2.840.10045.2.1" {
		return k, fmt.Errorf("%w: key agreement with an originator key of type %v", ErrUnsupported, a.oid)
	}
	k.curve = a.params
	if !body.ReadASN1BitStringAsBytes(&k.point) || !body.Empty() {
		return k, malformed("originator key")
	}
	return k, nil
}

// readEncryptedKey reads RecipientEncryptedKey.
func readEncryptedKey(in cryptobyte.String) (id identifier, encrypted []byte, err error) {
	var body, keyed, key cryptobyte.String
	var byKey bool
	if !in.ReadASN1(&body, casn1.SEQUENCE) || !body.ReadOptionalASN1(&keyed, &byKey, explicit(0)) {
		return id, nil, malformed("recipient's encrypted key")
	}
	if byKey {
		// A date and other attributes may follow, with which a recipient could choose among keys of one identifier.
		if id, err = readKeyIdentifier(&keyed, casn1.OCTET_STRING); err == nil && (!keyed.SkipOptionalASN1(casn1.GeneralizedTime) ||
			!keyed.SkipOptionalASN1(casn1.SEQUENCE) || !keyed.Empty()) {
			err = malformed("recipient key identifier")
		}
	} else {
		id, err = readIdentifier(&body)
	}
	if err != nil {
		return id, nil, err
	}
	if !body.ReadASN1(&key, casn1.OCTET_STRING) || !body.Empty() {
		return id, nil, malformed("recipient's encrypted key")
	}
	return id, key, nil
}
