package cms

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	_ "crypto/sha256" // register the hashes of the allow-list
	_ "crypto/sha512"
	"crypto/subtle"
	"crypto/x509"
	"fmt"

	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

const minRSABits = 2048

// SignedBy verifies that cert's key made a signature over the content, and that the signature's own identifier names
// cert. Whether cert is to be believed is the caller's business. A message may have several signers: one good signature
// that names cert is enough, and what others signed, or whether they did, neither helps nor hurts. Errors wrap
// ErrNotSigner when no signature names cert, ErrUnsupported when one does but with an algorithm or key outside the
// allow-list (SHA-256, SHA-384 and SHA-512; ECDSA on P-256, P-384 and P-521; RSA of at least 2048 bits with PKCS#1 v1.5, or
// PSS with a salt and the same hash throughout; Ed25519 with SHA-512), and ErrSignature otherwise.
func (s *SignedData) SignedBy(cert *x509.Certificate) error {
	err := ErrNotSigner
	for i := range s.Signers {
		if !s.Signers[i].Names(cert) {
			continue
		}
		if err = s.verify(&s.Signers[i], cert); err == nil {
			return nil
		}
	}
	return err
}

func (s *SignedData) verify(signer *Signer, cert *x509.Certificate) error {
	if s.Content == nil {
		return fmt.Errorf("%w: there is no content", ErrSignature)
	}
	hash, err := signer.digest.hash()
	if err != nil {
		return err
	}
	signed, err := s.signedBytes(signer, hash)
	if err != nil {
		return err
	}
	return signer.verify(cert, hash, signed)
}

// DigestSignedBy verifies like SignedBy, for content that is somewhere else ("detached", RFC 5652 §5.2): it returns the
// message digest among the signed attributes, and how it was made. Holding it against the content is up to the caller.
// Signatures without signed attributes are ErrUnsupported, since the caller could not tell content from the signed
// attributes of another message; a message with content is ErrSignature.
func (s *SignedData) DigestSignedBy(cert *x509.Certificate) (hash crypto.Hash, digest []byte, err error) {
	err = ErrNotSigner
	for i := range s.Signers {
		signer := &s.Signers[i]
		if !signer.Names(cert) {
			continue
		}
		if hash, err = s.verifyDetached(signer, cert); err == nil {
			return hash, signer.messageDigest, nil
		}
	}
	return 0, nil, err
}

func (s *SignedData) verifyDetached(signer *Signer, cert *x509.Certificate) (crypto.Hash, error) {
	if s.Content != nil {
		return 0, fmt.Errorf("%w: the content is in the message", ErrSignature)
	}
	if signer.attrs == nil {
		return 0, fmt.Errorf("%w: a detached signature without signed attributes", ErrUnsupported)
	}
	hash, err := signer.digest.hash()
	if err != nil {
		return 0, err
	}
	if err := s.checkAttributes(signer); err != nil {
		return 0, err
	}
	if len(signer.messageDigest) != hash.Size() {
		return 0, fmt.Errorf("%w: message digest of %d bytes by %v", ErrSignature, len(signer.messageDigest), hash)
	}
	return hash, signer.verify(cert, hash, signer.attrs)
}

// verify checks the signature over signed; hash is what s.digest names.
func (s *Signer) verify(cert *x509.Certificate, hash crypto.Hash, signed []byte) error {
	scheme, err := s.signing.scheme(hash)
	if err != nil {
		return err
	}
	if scheme.kind == schemeEd25519 && hash != crypto.SHA512 { // RFC 8419 §3
		return fmt.Errorf("%w: Ed25519 with a digest by %v", ErrUnsupported, hash)
	}
	return scheme.verify(cert, hash, signed, s.signature)
}

// signedBytes returns what the signature covers, after holding the signed attributes against the content
// (RFC 5652 §5.4).
func (s *SignedData) signedBytes(signer *Signer, hash crypto.Hash) ([]byte, error) {
	if signer.attrs == nil {
		if !s.ContentType.Equal(TypeData) {
			return nil, fmt.Errorf("%w: content type %v requires signed attributes", ErrSignature, s.ContentType)
		}
		// Without attributes the signature covers the content itself. A signature made over attributes of another
		// message would verify for content that is those attributes, so such content is refused.
		if bytes.HasPrefix(s.Content, []byte{byte(casn1.SET)}) {
			return nil, fmt.Errorf("%w: content could be the signed attributes of another message", ErrSignature)
		}
		return s.Content, nil
	}
	if err := s.checkAttributes(signer); err != nil {
		return nil, err
	}
	h := hash.New()
	h.Write(s.Content)
	if subtle.ConstantTimeCompare(h.Sum(nil), signer.messageDigest) != 1 {
		return nil, fmt.Errorf("%w: the content was changed after it was signed", ErrSignature)
	}
	return signer.attrs, nil
}

// checkAttributes makes sure that the signed attributes are those of content of this type.
func (s *SignedData) checkAttributes(signer *Signer) error {
	if signer.contentType == nil || signer.messageDigest == nil {
		return fmt.Errorf("%w: content type or message digest is not among the signed attributes", ErrSignature)
	}
	if !signer.contentType.Equal(s.ContentType) {
		return fmt.Errorf("%w: content is of type %v, the signature is for type %v",
			ErrSignature, s.ContentType, signer.contentType)
	}
	return nil
}

// verify checks signature over message with the key of cert. hash is the digest algorithm of the SignerInfo.
func (s scheme) verify(cert *x509.Certificate, hash crypto.Hash, message, signature []byte) error {
	h := hash.New()
	h.Write(message)
	digest := h.Sum(nil)
	var good bool
	switch key := cert.PublicKey.(type) {
	case *ecdsa.PublicKey:
		if s.kind != schemeECDSA || key.Curve == elliptic.P224() {
			return keyMismatch(s, cert)
		}
		good = ecdsa.VerifyASN1(key, digest, signature)
	case ed25519.PublicKey:
		if s.kind != schemeEd25519 {
			return keyMismatch(s, cert)
		}
		good = ed25519.Verify(key, message, signature)
	case *rsa.PublicKey:
		if key.N.BitLen() < minRSABits {
			return fmt.Errorf("%w: RSA key of %d bits, at least %d", ErrUnsupported, key.N.BitLen(), minRSABits)
		}
		switch s.kind {
		case schemePKCS1:
			good = rsa.VerifyPKCS1v15(key, hash, digest, signature) == nil
		case schemePSS:
			good = rsa.VerifyPSS(key, hash, digest, signature, &rsa.PSSOptions{SaltLength: s.salt}) == nil
		default:
			return keyMismatch(s, cert)
		}
	default:
		return keyMismatch(s, cert)
	}
	if !good {
		return ErrSignature
	}
	return nil
}

func keyMismatch(s scheme, cert *x509.Certificate) error {
	return fmt.Errorf("%w: %s signature with a key of type %v", ErrUnsupported, s.kind, cert.PublicKeyAlgorithm)
}
