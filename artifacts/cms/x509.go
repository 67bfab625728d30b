package cms

import (
	"crypto"
	"crypto/x509"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
)

// VerifySignature verifies a signature as it stands beside what is signed in X.509: in revocation lists and OCSP responses.
// identifier is the DER of its AlgorithmIdentifier. The allow-list is that of SignedData.SignedBy; errors wrap
// ErrUnsupported, ErrMalformed or ErrSignature.
func VerifySignature(signer *x509.Certificate, identifier, message, signature []byte) error {
	in := cryptobyte.String(identifier)
	a, err := readAlgorithm(&in)
	if err != nil {
		return err
	}
	if !in.Empty() {
		return malformed("algorithm identifier")
	}
	if a.oid.String() == "1.2.840.113549.1.1.1" {
		return fmt.Errorf("%w: signature algorithm %v names no digest", ErrUnsupported, a.oid)
	}
	for _, hash := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		var s scheme
		if s, err = a.scheme(hash); err == nil {
			return s.verify(signer, hash, message, signature)
		}
	}
	return err
}
