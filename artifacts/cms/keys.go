package cms

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1" // OAEP and the key derivation of RFC 5753 default to it, and do not rely on its collision resistance
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// unwrap recovers the content-encryption key with RSA.
func (k keyTransport) unwrap(d crypto.Decrypter, size int) ([]byte, error) {
	var options crypto.DecrypterOpts
	switch k.algorithm.oid.String() {
	case "1.2.840.113549.1.1.1":
		// With a length crypto/rsa itself answers a bad padding with a random key.
		//lint:ignore SA1019 what others encrypted this way must be read
		options = &rsa.PKCS1v15DecryptOptions{SessionKeyLen: size}
	case "1.2.840.113549.1.1.7":
		oaep, err := k.algorithm.oaep()
		if err != nil {
			return nil, err
		}
		options = oaep
	default:
		return nil, fmt.Errorf("%w: key transport algorithm %v", ErrUnsupported, k.algorithm.oid)
	}
	spare := randomKey(size)
	key, err := d.Decrypt(rand.Reader, k.key, options)
	if failed := keyFailure(err); failed != nil {
		return nil, failed
	}
	if err != nil || len(key) != size {
		return spare, nil
	}
	return key, nil
}

// keyFailure returns an error wrapping ErrKeyFailed when err says of itself that the key could not be used at all, which no
// ciphertext decides. Whatever else an implementation of a key returns may depend on the padding.
func keyFailure(err error) error {
	var known interface{ KeyFailed() bool }
	if errors.As(err, &known) && known.KeyFailed() {
		return fmt.Errorf("%w: %w", ErrKeyFailed, err)
	}
	return nil
}

// oaep reads RSAES-OAEP-params (RFC 4055 §4.1).
func (a algorithm) oaep() (*rsa.OAEPOptions, error) {
	o := &rsa.OAEPOptions{Hash: crypto.SHA1, MGFHash: crypto.SHA1}
	params := a.params
	var body, hashField, mgfField, label cryptobyte.String
	var hasHash, hasMGF, hasLabel bool
	if len(params) != 0 && !params.ReadASN1(&body, casn1.SEQUENCE) ||
		!body.ReadOptionalASN1(&hashField, &hasHash, explicit(0)) ||
		!body.ReadOptionalASN1(&mgfField, &hasMGF, explicit(1)) ||
		!body.ReadOptionalASN1(&label, &hasLabel, explicit(2)) || !body.Empty() {
		return nil, malformed("parameters of RSA-OAEP")
	}
	var err error
	if hasHash {
		if o.Hash, err = readKeyHash(hashField); err != nil {
			return nil, err
		}
	}
	if hasMGF {
		mgf, err := readAlgorithm(&mgfField)
		if err != nil || !mgfField.Empty() || mgf.oid.String() != "1.2.840.113549.1.1.8" {
			return nil, malformed("parameters of RSA-OAEP")
		}
		if o.MGFHash, err = readKeyHash(mgf.params); err != nil {
			return nil, err
		}
	}
	if hasLabel {
		source, err := readAlgorithm(&label)
		var value cryptobyte.String
		if err != nil || !label.Empty() || source.oid.String() != "1.2.840.113549.1.1.9" ||
			!source.params.ReadASN1(&value, casn1.OCTET_STRING) {
			return nil, malformed("parameters of RSA-OAEP")
		}
		o.Label = value
	}
	return o, nil
}

// readKeyHash reads a hash where SHA-1 is allowed as well.
func readKeyHash(in cryptobyte.String) (crypto.Hash, error) {
	a, err := readAlgorithm(&in)
	if err != nil || !in.Empty() {
		return 0, malformed("hash of RSA-OAEP")
	}
	if a.oid.String() == "1.3.14.3.2.26" {
		return crypto.SHA1, a.plain()
	}
	return a.hash()
}

// unwrap recovers the content-encryption key with elliptic-curve Diffie-Hellman, the X9.63 key derivation and AES key
// wrap (RFC 5753 §3.1.3, §7.1).
func (k keyAgreement) unwrap(r Recipient, size int) ([]byte, error) {
	kdf, err := k.algorithm.derivation()
	if err != nil {
		return nil, err
	}
	inner := k.algorithm.params
	wrap, err := readAlgorithm(&inner)
	if err != nil {
		return nil, malformed("key wrap algorithm")
	}
	wrapSize, err := wrap.wrapping()
	if err != nil {
		return nil, err
	}
	own, ok := r.Certificate.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%w: key agreement with a key of type %v", ErrUnsupported, r.Certificate.PublicKeyAlgorithm)
	}
	peer, err := k.originator.on(own)
	if err != nil {
		return nil, err
	}
	secret, err := r.KeyAgreement.ECDH(peer)
	if failed := keyFailure(err); failed != nil {
		return nil, failed
	}
	if err != nil {
		return nil, ErrDecrypt
	}
	key, err := unwrapAES(x963(kdf, secret, sharedInfo(wrap.raw, k.ukm, wrapSize), wrapSize), k.key)
	if err != nil || len(key) != size {
		return nil, ErrDecrypt
	}
	return key, nil
}

// on returns the sender's key, which must be a point of the curve of the recipient's own key.
func (o originatorKey) on(own *ecdsa.PublicKey) (*ecdh.PublicKey, error) {
	if o.static {
		return nil, fmt.Errorf("%w: key agreement with a key of the sender that is not in the message", ErrUnsupported)
	}
	if len(o.curve) != 0 && !bytes.Equal(o.curve, []byte{5, 0}) && !bytes.Equal(o.curve, curveIdentifier(own.Curve)) {
		return nil, fmt.Errorf("%w: key agreement with a key of another curve than %s", ErrUnsupported, own.Params().Name)
	}
	recipient, err := own.ECDH()
	if err != nil {
		return nil, fmt.Errorf("%w: key agreement: %v", ErrUnsupported, err)
	}
	// This refuses points that are not on the curve, the point at infinity, and compressed points.
	peer, err := recipient.Curve().NewPublicKey(o.point)
	if err != nil {
		return nil, ErrDecrypt
	}
	return peer, nil
}

// curveIdentifier is the DER of a named curve's object identifier (RFC 5480 §2.1.1.1).
func curveIdentifier(curve elliptic.Curve) []byte {
	switch curve {
	case elliptic.P256():
		return []byte{6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7}
	case elliptic.P384():
		return []byte{6, 5, 0x2b, 0x81, 4, 0, 34}
	case elliptic.P521():
		return []byte{6, 5, 0x2b, 0x81, 4, 0, 35}
	}
	return nil
}

// wrapping returns the size of the key of an AES key wrap, in bytes.
func (a algorithm) wrapping() (size int, err error) {
	switch a.oid.String() {
	case "2.16.840.1.101.3.4.1.5":
		size = 16
	case "2.16.840.1.101.3.4.1.25":
		size = 24
	case "2.16.840.1.101.3.4.1.45":
		size = 32
	default:
		return 0, fmt.Errorf("%w: key wrap algorithm %v", ErrUnsupported, a.oid)
	}
	return size, a.plain()
}

// derivation returns the hash of the key derivation function of a dhSinglePass scheme (RFC 5753 §7.1.4). Those with
// cofactor are the same as those without on the curves that are read, whose cofactor is one.
func (a algorithm) derivation() (crypto.Hash, error) {
	switch a.oid.String() {
	case "1.3.133.16.840.63.0.2", "1.3.133.16.840.63.0.3":
		return crypto.SHA1, nil
	case "1.3.132.1.11.0", "1.3.132.1.14.0":
		return crypto.SHA224, nil
	case "1.3.132.1.11.1", "1.3.132.1.14.1":
		return crypto.SHA256, nil
	case "1.3.132.1.11.2", "1.3.132.1.14.2":
		return crypto.SHA384, nil
	case "1.3.132.1.11.3", "1.3.132.1.14.3":
		return crypto.SHA512, nil
	}
	return 0, fmt.Errorf("%w: key agreement algorithm %v", ErrUnsupported, a.oid)
}

// sharedInfo is the DER of ECC-CMS-SharedInfo (RFC 5753 §7.2).
func sharedInfo(wrap, ukm []byte, size int) []byte {
	var b cryptobyte.Builder
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(wrap)
		if ukm != nil {
			b.AddASN1(explicit(0), func(b *cryptobyte.Builder) { b.AddASN1OctetString(ukm) })
		}
		b.AddASN1(explicit(2), func(b *cryptobyte.Builder) {
			b.AddASN1OctetString(binary.BigEndian.AppendUint32(nil, uint32(size)*8))
		})
	})
	return b.BytesOrPanic()
}

// x963 is the key derivation function of ANSI X9.63 (SEC 1 §3.6.1).
func x963(hash crypto.Hash, secret, info []byte, size int) []byte {
	var out []byte
	for counter := uint32(1); len(out) < size; counter++ {
		h := hash.New()
		h.Write(secret)
		h.Write(binary.BigEndian.AppendUint32(nil, counter))
		h.Write(info)
		out = h.Sum(out)
	}
	return out[:size]
}

// unwrapAES is the inverse of AES key wrap (RFC 3394 §2.2.2).
func unwrapAES(kek, wrapped []byte) ([]byte, error) {
	if len(wrapped)%8 != 0 || len(wrapped) < 24 || len(wrapped) > 64 {
		return nil, ErrDecrypt
	}
	block, err := aes.NewCipher(kek)
	if err != nil {
		return nil, err
	}
	n := len(wrapped)/8 - 1
	var buf [aes.BlockSize]byte
	copy(buf[:8], wrapped)
	key := append([]byte{}, wrapped[8:]...)
	for step := 6 * n; step > 0; step-- {
		chunk := key[(step-1)%n*8:][:8]
		binary.BigEndian.PutUint64(buf[:8], binary.BigEndian.Uint64(buf[:8])^uint64(step))
		copy(buf[8:], chunk)
		block.Decrypt(buf[:], buf[:])
		copy(chunk, buf[8:])
	}
	if subtle.ConstantTimeCompare(buf[:8], []byte{0xa6, 0xa6, 0xa6, 0xa6, 0xa6, 0xa6, 0xa6, 0xa6}) != 1 {
		return nil, ErrDecrypt
	}
	return key, nil
}
