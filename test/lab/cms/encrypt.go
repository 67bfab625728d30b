package cms

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
)

// Style says what exactly is encrypted; devices meet both in the field.
type Style int

// The styles.
const (
	// Typed encrypts the content of the ContentInfo and labels it with its type, as RFC 8572 §3.1 describes it.
	Typed Style = iota
	// Whole encrypts the whole ContentInfo and labels it id-data, as `openssl cms -encrypt` does.
	Whole
)

type envelopedData struct {
	Version    int
	Recipients []asn1.RawValue `asn1:"set"`
	Encrypted  encryptedContentInfo
}

type encryptedContentInfo struct {
	Type      asn1.ObjectIdentifier
	Algorithm pkix.AlgorithmIdentifier
	Content   []byte `asn1:"tag:0"`
}

type keyTrans struct {
	Version      int
	Recipient    issuerAndSerial
	Algorithm    pkix.AlgorithmIdentifier
	EncryptedKey []byte
}

type keyAgree struct {
	Version    int
	Originator asn1.RawValue
	Algorithm  pkix.AlgorithmIdentifier
	Keys       []recipientKey
}

type originatorKey struct {
	Algorithm pkix.AlgorithmIdentifier
	PublicKey asn1.BitString
}

type recipientKey struct {
	Recipient    issuerAndSerial
	EncryptedKey []byte
}

// Encrypt returns the artifact (a DER ContentInfo) as EnvelopedData for one recipient, with AES-256-CBC: key transport for
// an RSA certificate, ephemeral-static ECDH for an elliptic-curve one.
func Encrypt(artifact []byte, to *x509.Certificate, style Style) ([]byte, error) {
	label, plain, err := plaintext(artifact, style)
	if err != nil {
		return nil, err
	}
	key, iv := make([]byte, 32), make([]byte, aes.BlockSize)
	rand.Read(key)
	rand.Read(iv)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	padded := pad(plain)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(padded, padded)
	recipient, version, err := recipientInfo(key, to)
	if err != nil {
		return nil, err
	}
	ivDER, err := asn1.Marshal(iv)
	if err != nil {
		return nil, err
	}
	ed, err := asn1.Marshal(envelopedData{
		Version:    version,
		Recipients: []asn1.RawValue{{FullBytes: recipient}},
		Encrypted: encryptedContentInfo{
			Type:      label,
			Algorithm: pkix.AlgorithmIdentifier{Algorithm: oidAES256CBC, Parameters: asn1.RawValue{FullBytes: ivDER}},
			Content:   padded,
		},
	})
	if err != nil {
		return nil, err
	}
	return wrap(EnvelopedData, ed)
}

func plaintext(artifact []byte, style Style) (asn1.ObjectIdentifier, []byte, error) {
	if style == Whole {
		return Data, artifact, nil
	}
	var ci contentInfo
	if rest, err := asn1.Unmarshal(artifact, &ci); err != nil || len(rest) > 0 {
		return nil, nil, fmt.Errorf("the artifact to encrypt is not one ContentInfo: %w", err)
	}
	inner := ci.Content.Bytes // without the explicit tag
	if ci.Type.Equal(SignedData) {
		return ci.Type, inner, nil
	}
	var octets []byte
	if _, err := asn1.Unmarshal(inner, &octets); err != nil {
		return nil, nil, fmt.Errorf("the content to encrypt is no OCTET STRING: %w", err)
	}
	return ci.Type, octets, nil
}

func recipientInfo(key []byte, to *x509.Certificate) (der []byte, version int, err error) {
	switch pub := to.PublicKey.(type) {
	case *rsa.PublicKey:
		//lint:ignore SA1019 PKCS #1 v1.5 is what OpenSSL uses for RSA recipients, and what devices must read
		encrypted, err := rsa.EncryptPKCS1v15(rand.Reader, pub, key)
		if err != nil {
			return nil, 0, err
		}
		der, err = asn1.Marshal(keyTrans{
			Version: 0, Recipient: nameOf(to), EncryptedKey: encrypted,
			Algorithm: pkix.AlgorithmIdentifier{Algorithm: oidRSAEncryption, Parameters: asn1.NullRawValue},
		})
		return der, 0, err
	case *ecdsa.PublicKey:
		der, err := agree(key, to, pub)
		return der, 2, err
	}
	return nil, 0, fmt.Errorf("cannot encrypt for a key of type %T: use RSA or ECDSA", to.PublicKey)
}

// agree makes a KeyAgreeRecipientInfo with dhSinglePass-stdDH-sha256kdf and AES-256 key wrap (RFC 5753 §3.1).
func agree(key []byte, to *x509.Certificate, pub *ecdsa.PublicKey) ([]byte, error) {
	peer, err := pub.ECDH()
	if err != nil {
		return nil, err
	}
	ephemeral, err := peer.Curve().GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	shared, err := ephemeral.ECDH(peer)
	if err != nil {
		return nil, err
	}
	wrapAlg := pkix.AlgorithmIdentifier{Algorithm: oidAES256Wrap}
	info, err := sharedInfo(wrapAlg)
	if err != nil {
		return nil, err
	}
	kek := sha256.Sum256(append(append(shared, 0, 0, 0, 1), info...))
	wrapped, err := wrapKey(kek[:], key)
	if err != nil {
		return nil, err
	}
	params, err := asn1.Marshal(wrapAlg)
	if err != nil {
		return nil, err
	}
	originator, err := originatorInfo(ephemeral.PublicKey())
	if err != nil {
		return nil, err
	}
	return asn1.MarshalWithParams(keyAgree{
		Version:    3,
		Originator: originator,
		Algorithm:  pkix.AlgorithmIdentifier{Algorithm: oidStdDHSHA256KDF, Parameters: asn1.RawValue{FullBytes: params}},
		Keys:       []recipientKey{{Recipient: nameOf(to), EncryptedKey: wrapped}},
	}, "tag:1")
}

// originatorInfo is the explicit [0] around the choice [1] of OriginatorIdentifierOrKey.
func originatorInfo(pub *ecdh.PublicKey) (asn1.RawValue, error) {
	point := pub.Bytes()
	key, err := asn1.MarshalWithParams(originatorKey{
		Algorithm: pkix.AlgorithmIdentifier{Algorithm: oidECPublicKey},
		PublicKey: asn1.BitString{Bytes: point, BitLength: 8 * len(point)},
	}, "tag:1")
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: key}, err
}

// sharedInfo is ECC-CMS-SharedInfo of RFC 5753 §7.2.
func sharedInfo(wrapAlg pkix.AlgorithmIdentifier) ([]byte, error) {
	return asn1.Marshal(struct {
		KeyInfo    pkix.AlgorithmIdentifier
		SuppPubInf []byte `asn1:"explicit,tag:2"`
	}{wrapAlg, binary.BigEndian.AppendUint32(nil, 256)})
}

// wrapKey is the AES key wrap of RFC 3394 §2.2.1.
func wrapKey(kek, key []byte) ([]byte, error) {
	block, err := aes.NewCipher(kek)
	if err != nil {
		return nil, err
	}
	n := len(key) / 8
	out := append([]byte{0xa6, 0xa6, 0xa6, 0xa6, 0xa6, 0xa6, 0xa6, 0xa6}, key...)
	var buf [16]byte
	for j := range 6 {
		for i := 1; i <= n; i++ {
			copy(buf[:8], out[:8])
			copy(buf[8:], out[8*i:8*i+8])
			block.Encrypt(buf[:], buf[:])
			binary.BigEndian.PutUint64(out[:8], binary.BigEndian.Uint64(buf[:8])^uint64(n*j+i))
			copy(out[8*i:], buf[8:])
		}
	}
	return out, nil
}

func pad(b []byte) []byte {
	n := aes.BlockSize - len(b)%aes.BlockSize
	padded := append([]byte(nil), b...)
	for range n {
		padded = append(padded, byte(n))
	}
	return padded
}
