package signature

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"math/big"
	"strings"

	"golang.org/x/crypto/cryptobyte"

	"github.com/xpu-sztp/ztp/artifacts/cms"
)

// sshKey is a public key in the wire format of RFC 4253 §6.6, RFC 5656 §3.1 and RFC 8709 §4.
type sshKey struct {
	kind string
	blob []byte
	key  crypto.PublicKey // ed25519.PublicKey, *ecdsa.PublicKey or *rsa.PublicKey
}

// sshScheme is a kind of signature that is accepted of a kind of key.
type sshScheme struct {
	signature, key string
	hash           crypto.Hash
	curve          func() elliptic.Curve // whose name the key's kind ends with
}

const (
	kindRSA   = "ssh-rsa"
	kindECDSA = "ecdsa-sha2-"
)

var sshSchemes = [...]sshScheme{
	{"ssh-ed25519", "ssh-ed25519", crypto.SHA512, nil}, // which Ed25519 uses itself
	{"rsa-sha2-256", kindRSA, crypto.SHA256, nil},      // RFC 8332 §3
	{"rsa-sha2-512", kindRSA, crypto.SHA512, nil},
	{kindECDSA + "nistp256", kindECDSA + "nistp256", crypto.SHA256, elliptic.P256}, // RFC 5656 §6.2.1
	{kindECDSA + "nistp384", kindECDSA + "nistp384", crypto.SHA384, elliptic.P384},
	{kindECDSA + "nistp521", kindECDSA + "nistp521", crypto.SHA512, elliptic.P521},
}

// schemeOf finds the scheme of a key, of a kind of signature unless that is "". It returns nil when there is none.
func schemeOf(key, signature string) *sshScheme {
	for i := range sshSchemes {
		if s := &sshSchemes[i]; s.key == key && (signature == "" || s.signature == signature) {
			return s
		}
	}
	return nil
}

// isKeyType tells the name of a type of key, also of one that is refused, from options.
func isKeyType(s string) bool {
	s = strings.TrimPrefix(s, "sk-")
	return strings.HasPrefix(s, "ssh-") || strings.HasPrefix(s, kindECDSA)
}

// describeSSH names a key as OpenSSH does.
func describeSSH(blob []byte) string {
	var kind []byte
	in := cryptobyte.String(blob)
	readStrings(&in, &kind)
	sum := sha256.Sum256(blob)
	return cms.Printable(string(kind)) + " key SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:])
}

// parseSSHKey reads a key as it stands in a .pub file.
func parseSSHKey(kind, encoded string) (k sshKey, err error) {
	scheme := schemeOf(kind, "")
	if scheme == nil {
		return k, errors.New("keys of type \"" + kind + "\" are not supported; use Ed25519, ECDSA or RSA, without certificates and security keys")
	}
	k.kind = kind
	k.blob, err = base64.StdEncoding.DecodeString(encoded)
	var name, first, second []byte
	in := cryptobyte.String(k.blob)
	switch ok := readStrings(&in, &name, &first); {
	case !ok || string(name) != kind:
	case scheme.curve != nil:
		readStrings(&in, &second)
		if kindECDSA+string(first) == kind {
			k.key, err = ecdsa.ParseUncompressedPublicKey(scheme.curve(), second)
		}
	case kind == kindRSA:
		readStrings(&in, &second)
		e, n := positive(first), positive(second)
		if bits := n.BitLen(); e.BitLen() > 31 || bits < 2048 || bits > cms.MaxRSABits {
			err = errors.New("the RSA key has fewer than 2048 bits, or more than 8192")
		}
		k.key = &rsa.PublicKey{N: n, E: int(e.Int64())}
	case len(first) == ed25519.PublicKeySize:
		k.key = ed25519.PublicKey(first)
	}
	if err == nil && (k.key == nil || !in.Empty()) {
		err = errors.New("the key is damaged, or is not of type " + kind)
	}
	return k, err
}

// verifies tells whether signature is one by k over message.
func (k *sshKey) verifies(scheme *sshScheme, message, signature []byte) bool {
	h := scheme.hash.New()
	h.Write(message)
	digest := h.Sum(nil)
	switch key := k.key.(type) {
	case ed25519.PublicKey:
		return ed25519.Verify(key, message, signature)
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(key, scheme.hash, digest, signature) == nil
	case *ecdsa.PublicKey:
		var r, s []byte
		in := cryptobyte.String(signature)
		return readStrings(&in, &r, &s) && in.Empty() && ecdsa.Verify(key, digest, positive(r), positive(s))
	}
	return false
}

// readStrings reads strings of RFC 4251 §5.
func readStrings(in *cryptobyte.String, to ...*[]byte) bool {
	for _, s := range to {
		var n uint32
		if !in.ReadUint32(&n) || n > MaxSize || !in.ReadBytes(s, int(n)) {
			return false
		}
	}
	return true
}

// positive reads the inside of a positive mpint of RFC 4251 §5, in its shortest form. It returns 0 for anything else.
func positive(s []byte) *big.Int {
	n := new(big.Int)
	if len(s) > 0 && s[0] < 0x80 && (s[0] != 0 || len(s) > 1 && s[1] >= 0x80) && len(s) <= cms.MaxRSABits/8+1 {
		n.SetBytes(s)
	}
	return n
}
