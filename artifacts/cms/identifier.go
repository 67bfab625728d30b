package cms

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// identifier names a certificate: by issuer and serial number, or by its subject key identifier.
type identifier struct {
	issuer []byte // with serial, or
	serial *big.Int
	keyID  []byte
}

func (i identifier) names(cert *x509.Certificate) bool {
	if i.keyID != nil {
		return bytes.Equal(i.keyID, cert.SubjectKeyId)
	}
	return bytes.Equal(i.issuer, cert.RawIssuer) && i.serial.Cmp(cert.SerialNumber) == 0
}

// String renders the identifier for people.
func (i identifier) String() string {
	if i.keyID != nil {
		return "key identifier " + hex.EncodeToString(i.keyID)
	}
	return fmt.Sprintf("serial number %x of %s", i.serial, NameOf(i.issuer))
}

// readIdentifier reads IssuerAndSerialNumber or [0] SubjectKeyIdentifier.
func readIdentifier(in *cryptobyte.String) (id identifier, err error) {
	if primitive := casn1.Tag(0).ContextSpecific(); in.PeekASN1Tag(primitive) {
		return readKeyIdentifier(in, primitive)
	}
	var body, name, serial cryptobyte.String
	if !in.ReadASN1(&body, casn1.SEQUENCE) || !body.ReadASN1Element(&name, casn1.SEQUENCE) ||
		!body.ReadASN1Element(&serial, casn1.INTEGER) || !body.Empty() {
		return id, malformed("issuer and serial number")
	}
	if len(name) > maxName || len(serial) > maxIdentifier {
		return id, fmt.Errorf("%w: issuer of %d bytes with a serial number of %d", ErrLimit, len(name), len(serial))
	}
	id.issuer, id.serial = name, new(big.Int)
	if !serial.ReadASN1Integer(id.serial) {
		return id, malformed("serial number")
	}
	return id, nil
}

func readKeyIdentifier(in *cryptobyte.String, tag casn1.Tag) (id identifier, err error) {
	var key cryptobyte.String
	if !in.ReadASN1(&key, tag) || len(key) == 0 {
		return id, malformed("key identifier")
	}
	if len(key) > maxIdentifier {
		return id, fmt.Errorf("%w: key identifier of %d bytes, at most %d", ErrLimit, len(key), maxIdentifier)
	}
	id.keyID = key
	return id, nil
}
