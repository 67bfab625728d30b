package cms

import (
	"bytes"
	"crypto"
	"encoding/asn1"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// algorithm is an AlgorithmIdentifier.
type algorithm struct {
	oid    asn1.ObjectIdentifier
	params cryptobyte.String // one whole element, or empty
	raw    []byte            // the identifier as it was sent
}

func readAlgorithm(in *cryptobyte.String) (algorithm, error) {
	var a algorithm
	var element, body cryptobyte.String
	if !in.ReadASN1Element(&element, casn1.SEQUENCE) {
		return a, malformed("algorithm identifier")
	}
	a.raw = element
	var tag casn1.Tag
	if !element.ReadASN1(&body, casn1.SEQUENCE) || !body.ReadASN1ObjectIdentifier(&a.oid) ||
		!body.Empty() && !body.ReadAnyASN1Element(&a.params, &tag) || !body.Empty() {
		return a, malformed("algorithm identifier")
	}
	return a, nil
}

// plain refuses parameters other than NULL.
func (a algorithm) plain() error {
	if len(a.params) != 0 && !bytes.Equal(a.params, []byte{5, 0}) {
		return malformed("parameters of algorithm %v", a.oid)
	}
	return nil
}

// hash returns the digest algorithm of the allow-list.
func (a algorithm) hash() (crypto.Hash, error) {
	var h crypto.Hash
	switch a.oid.String() {
	case "2.16.840.1.101.3.4.2.1":
		h = crypto.SHA256
	case "2.16.840.1.101.3.4.2.2":
		h = crypto.SHA384
	case "2.16.840.1.101.3.4.2.3":
		h = crypto.SHA512
	case "1.3.14.3.2.26":
		return 0, fmt.Errorf("%w: digest algorithm SHA-1", ErrUnsupported)
	case "1.2.840.113549.2.5":
		return 0, fmt.Errorf("%w: digest algorithm MD5", ErrUnsupported)
	default:
		return 0, fmt.Errorf("%w: digest algorithm %v", ErrUnsupported, a.oid)
	}
	return h, a.plain()
}

// schemeKind is a family of signature algorithms.
type schemeKind string

const (
	schemeECDSA   schemeKind = "ECDSA"
	schemeEd25519 schemeKind = "Ed25519"
	schemePKCS1   schemeKind = "RSA PKCS#1 v1.5"
	schemePSS     schemeKind = "RSA-PSS"
)

type scheme struct {
	kind schemeKind
	salt int // bytes, for RSA-PSS
}

// scheme returns the signature scheme of the allow-list. A scheme that names a hash must name the one of the digest
// algorithm (RFC 8933 §3).
func (a algorithm) scheme(hash crypto.Hash) (scheme, error) {
	var s scheme
	named := hash
	switch a.oid.String() {
	case "1.2.840.10045.4.3.2":
		s.kind, named = schemeECDSA, crypto.SHA256
	case "1.2.840.10045.4.3.3":
		s.kind, named = schemeECDSA, crypto.SHA384
	case "1.2.840.10045.4.3.4":
		s.kind, named = schemeECDSA, crypto.SHA512
	case "1.2.840.113549.1.1.1":
		s.kind = schemePKCS1
	case "1.2.840.113549.1.1.11":
		s.kind, named = schemePKCS1, crypto.SHA256
	case "1.2.840.113549.1.1.12":
		s.kind, named = schemePKCS1, crypto.SHA384
	case "1.2.840.113549.1.1.13":
		s.kind, named = schemePKCS1, crypto.SHA512
	case "1.3.101.112":
		s.kind = schemeEd25519
	case "1.2.840.113549.1.1.10":
		salt, err := a.pss(hash)
		return scheme{kind: schemePSS, salt: salt}, err
	default:
		return s, fmt.Errorf("%w: signature algorithm %v", ErrUnsupported, a.oid)
	}
	if named != hash {
		return s, fmt.Errorf("%w: signature with %v over a digest with %v", ErrUnsupported, named, hash)
	}
	return s, a.plain()
}

// pss reads RSASSA-PSS-params (RFC 4055 §3.1) and returns the length of the salt.
func (a algorithm) pss(hash crypto.Hash) (salt int, err error) {
	params := a.params
	var body, hashField, mgfField, saltField, trailerField cryptobyte.String
	var hasHash, hasMGF, hasSalt, hasTrailer bool
	if !params.ReadASN1(&body, casn1.SEQUENCE) ||
		!body.ReadOptionalASN1(&hashField, &hasHash, explicit(0)) ||
		!body.ReadOptionalASN1(&mgfField, &hasMGF, explicit(1)) ||
		!body.ReadOptionalASN1(&saltField, &hasSalt, explicit(2)) ||
		!body.ReadOptionalASN1(&trailerField, &hasTrailer, explicit(3)) || !body.Empty() {
		return 0, malformed("parameters of RSA-PSS")
	}
	if !hasHash || !hasMGF {
		return 0, fmt.Errorf("%w: RSA-PSS with SHA-1", ErrUnsupported)
	}
	if err := sameHash(hashField, hash); err != nil {
		return 0, err
	}
	if err := mgf1(mgfField, hash); err != nil {
		return 0, err
	}
	salt = 20
	if hasSalt && (!saltField.ReadASN1Integer(&salt) || !saltField.Empty()) {
		return 0, malformed("parameters of RSA-PSS")
	}
	// crypto/rsa takes a length of zero to mean any length.
	if salt < 1 || salt > MaxRSABits/8 {
		return 0, fmt.Errorf("%w: RSA-PSS with a salt of %d bytes", ErrUnsupported, salt)
	}
	trailer := 1
	if hasTrailer && (!trailerField.ReadASN1Integer(&trailer) || !trailerField.Empty()) || trailer != 1 {
		return 0, malformed("parameters of RSA-PSS")
	}
	return salt, nil
}

func sameHash(in cryptobyte.String, want crypto.Hash) error {
	a, err := readAlgorithm(&in)
	if err != nil {
		return err
	}
	if !in.Empty() {
		return malformed("hash of RSA-PSS")
	}
	h, err := a.hash()
	if err == nil && h != want {
		err = fmt.Errorf("%w: RSA-PSS with %v over a digest with %v", ErrUnsupported, h, want)
	}
	return err
}

func mgf1(in cryptobyte.String, want crypto.Hash) error {
	a, err := readAlgorithm(&in)
	if err != nil {
		return err
	}
	if !in.Empty() || a.oid.String() != "1.2.840.113549.1.1.8" {
		return fmt.Errorf("%w: mask generation function %v", ErrUnsupported, a.oid)
	}
	return sameHash(a.params, want)
}
