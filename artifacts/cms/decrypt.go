package cms

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Open decrypts e and reads the plaintext, which is a document or a SignedData; further encryption is refused. The errors
// are ErrNotRecipient when no recipient information names r, ErrNoKey when one does but r has not the key for it, errors
// wrapping ErrUnsupported for algorithms outside the allow-list and ErrKeyFailed for a key that says that it cannot be used,
// such as one in a TPM that does not answer, and else ErrDecrypt itself: whether the key, the padding or the plaintext was
// wrong is not told, since a peer could learn the plaintext of a recorded message from the difference.
func (e *EnvelopedData) Open(r Recipient) (*Message, error) {
	c, err := e.contentCipher()
	if err != nil {
		return nil, err
	}
	key, err := e.contentKey(r, c.keySize)
	if err != nil {
		return nil, err
	}
	// What was padded wrongly is read as well, so that the time does not tell whether the padding or the rest was wrong.
	plaintext, good := c.open(key, e.ciphertext)
	m, err := e.parsePlaintext(plaintext)
	if err != nil || !good {
		return nil, ErrDecrypt
	}
	return m, nil
}

// contentKey unwraps the content-encryption key of size bytes for r. A key that cannot be unwrapped by RSA is replaced by
// a random one, so that the failure shows only where a wrong key would.
func (e *EnvelopedData) contentKey(r Recipient, size int) ([]byte, error) {
	if r.Certificate == nil {
		return nil, ErrNotRecipient
	}
	refusal := ErrNotRecipient
	for _, k := range e.transport {
		if k.recipient.names(r.Certificate) {
			if r.Decrypter != nil {
				return k.unwrap(r.Decrypter, size)
			}
			refusal = ErrNoKey
		}
	}
	for _, k := range e.agreement {
		if k.recipient.names(r.Certificate) {
			if r.KeyAgreement != nil {
				return k.unwrap(r, size)
			}
			refusal = ErrNoKey
		}
	}
	return nil, refusal
}

// parsePlaintext reads what was encrypted. Strictly it is the content without its ContentInfo (RFC 5652 §6.1), but the
// OpenSSL command line encrypts a whole ContentInfo and labels it id-data.
func (e *EnvelopedData) parsePlaintext(plaintext []byte) (*Message, error) {
	wrapped := e.ContentType.Equal(TypeSigned) || e.ContentType.Equal(TypeData)
	if wrapped && len(plaintext) > 0 && plaintext[0] == byte(casn1.SEQUENCE) {
		return parseNested(plaintext)
	}
	if !isDocument(e.ContentType) {
		return nil, malformed("plaintext of type %v", e.ContentType)
	}
	return &Message{Type: e.ContentType, Data: plaintext}, nil
}

// parseNested reads a ContentInfo or a bare SignedData.
func parseNested(plaintext []byte) (*Message, error) {
	der, err := definite(plaintext)
	if err != nil {
		return nil, err
	}
	input := cryptobyte.String(der)
	var body cryptobyte.String
	if !input.ReadASN1(&body, casn1.SEQUENCE) || !input.Empty() {
		return nil, malformed("plaintext")
	}
	if body.PeekASN1Tag(casn1.INTEGER) {
		s, err := parseSignedData(der)
		return &Message{Type: TypeSigned, Signed: s}, err
	}
	m, err := parseContentInfo(body)
	if err == nil && m.Enveloped != nil {
		err = fmt.Errorf("%w: encryption within encryption", ErrUnsupported)
	}
	return m, err
}

// contentCipher is a content-encryption algorithm with its parameters.
type contentCipher struct {
	keySize int // bytes
	iv      []byte
	gcm     bool
	aad     []byte
	tag     []byte
}

func (e *EnvelopedData) contentCipher() (contentCipher, error) {
	var c contentCipher
	switch e.cipher.oid.String() {
	case "2.16.840.1.101.3.4.1.2":
		c.keySize = 16
	case "2.16.840.1.101.3.4.1.22":
		c.keySize = 24
	case "2.16.840.1.101.3.4.1.42":
		c.keySize = 32
	case "2.16.840.1.101.3.4.1.6":
		c.keySize, c.gcm = 16, true
	case "2.16.840.1.101.3.4.1.26":
		c.keySize, c.gcm = 24, true
	case "2.16.840.1.101.3.4.1.46":
		c.keySize, c.gcm = 32, true
	default:
		return c, fmt.Errorf("%w: content encryption algorithm %v", ErrUnsupported, e.cipher.oid)
	}
	if c.gcm != e.authenticated {
		return c, fmt.Errorf("%w: content encryption algorithm %v in this place", ErrUnsupported, e.cipher.oid)
	}
	if c.gcm {
		return e.gcm(c)
	}
	params := e.cipher.params
	var iv cryptobyte.String
	if !params.ReadASN1(&iv, casn1.OCTET_STRING) || len(iv) != aes.BlockSize {
		return c, malformed("initialisation vector")
	}
	c.iv = iv
	return c, nil
}

// gcm reads GCMParameters (RFC 5084 §3.2).
func (e *EnvelopedData) gcm(c contentCipher) (contentCipher, error) {
	params := e.cipher.params
	var body, nonce cryptobyte.String
	size := 12
	if !params.ReadASN1(&body, casn1.SEQUENCE) || !body.ReadASN1(&nonce, casn1.OCTET_STRING) ||
		!body.Empty() && !body.ReadASN1Integer(&size) || !body.Empty() {
		return c, malformed("parameters of AES-GCM")
	}
	if len(nonce) != 12 || size < 12 || size > 16 || len(e.mac) != size {
		return c, fmt.Errorf("%w: AES-GCM with a nonce of %d and a tag of %d bytes", ErrUnsupported, len(nonce), len(e.mac))
	}
	c.iv, c.aad, c.tag = nonce, e.aad, e.mac
	return c, nil
}

// open decrypts. When good is false, the plaintext is of no meaning.
func (c contentCipher) open(key, ciphertext []byte) (plaintext []byte, good bool) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, false
	}
	if c.gcm {
		aead, err := cipher.NewGCMWithTagSize(block, len(c.tag))
		if err != nil {
			return nil, false
		}
		sealed := append(append(make([]byte, 0, len(ciphertext)+len(c.tag)), ciphertext...), c.tag...)
		plaintext, err = aead.Open(sealed[:0], c.iv, sealed, c.aad)
		return plaintext, err == nil
	}
	if len(ciphertext) == 0 || len(ciphertext)%aes.BlockSize != 0 {
		return nil, false
	}
	plaintext = make([]byte, len(ciphertext))
	cipher.NewCBCDecrypter(block, c.iv).CryptBlocks(plaintext, ciphertext)
	return unpad(plaintext)
}

// unpad removes the padding of RFC 5652 §6.3 without telling by its timing which byte was wrong. A whole block goes when
// the padding is not good.
func unpad(plaintext []byte) (unpadded []byte, isGood bool) {
	n := int(plaintext[len(plaintext)-1])
	good := subtle.ConstantTimeLessOrEq(1, n) & subtle.ConstantTimeLessOrEq(n, aes.BlockSize)
	for i, b := range plaintext[len(plaintext)-aes.BlockSize:] {
		inside := subtle.ConstantTimeLessOrEq(aes.BlockSize-i, n)
		same := subtle.ConstantTimeByteEq(b, byte(n))
		good &= subtle.ConstantTimeSelect(inside, same, 1)
	}
	n = subtle.ConstantTimeSelect(good, n, aes.BlockSize)
	return plaintext[:len(plaintext)-n], good == 1
}

// randomKey stands in for a key that could not be unwrapped.
func randomKey(size int) []byte {
	key := make([]byte, size)
	rand.Read(key)
	return key
}
