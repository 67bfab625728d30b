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
	"fmt"
	"math/big"
	"strings"

	"golang.org/x/crypto/cryptobyte"

	"github.com/xpu-sztp/ztp/artifacts/cms"
)

// sshKey is a public key in the wire format of RFC 4253 §6.6, RFC 5656 §3.1 and RFC 8709 §4.
type sshKey struct {
	kind string
	blob string
	key  crypto.PublicKey // ed25519.PublicKey, *ecdsa.PublicKey or *rsa.PublicKey
}

const (
	kindEd25519 = "ssh-ed25519"
	kindRSA     = "ssh-rsa"
	kindECDSA   = "ecdsa-sha2-"
	minRSABits  = 2048
)

// sshCurve is an elliptic curve and the hash that RFC 5656 §6.2.1 gives its signatures.
type sshCurve struct {
	name  string
	curve elliptic.Curve
	hash  crypto.Hash
}

func sshCurveOf(kind string) (sshCurve, bool) {
	switch name, _ := strings.CutPrefix(kind, kindECDSA); name {
	case "nistp256":
		return sshCurve{name, elliptic.P256(), crypto.SHA256}, true
	case "nistp384":
		return sshCurve{name, elliptic.P384(), crypto.SHA384}, true
	case "nistp521":
		return sshCurve{name, elliptic.P521(), crypto.SHA512}, true
	}
	return sshCurve{}, false
}

// isKeyType tells the name of a type of key, also of one that is refused, from options.
func isKeyType(s string) bool {
	s = strings.TrimPrefix(s, "sk-")
	return strings.HasPrefix(s, "ssh-") || strings.HasPrefix(s, kindECDSA)
}

// fingerprint is how OpenSSH shows a key.
func fingerprint(blob string) string {
	sum := sha256.Sum256([]byte(blob))
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:])
}

// refusedKind says why a type of key is not accepted, or returns nil.
func refusedKind(kind string) error {
	_, curve := sshCurveOf(kind)
	switch {
	case kind == kindEd25519, kind == kindRSA, curve:
		return nil
	case strings.HasPrefix(kind, "sk-"):
		return fmt.Errorf("keys of security keys (%.60q) are not supported", kind)
	case strings.Contains(kind, "-cert-v0"):
		return fmt.Errorf("OpenSSH certificates (%.60q) are not supported", kind)
	}
	return fmt.Errorf("keys of type %.60q are not supported", kind)
}

// parseSSHKey reads a key as it stands in a .pub file.
func parseSSHKey(kind, encoded string) (sshKey, error) {
	if err := refusedKind(kind); err != nil {
		return sshKey{}, err
	}
	blob, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || encoded == "" {
		return sshKey{}, fmt.Errorf("the key behind %q is not in base64", kind)
	}
	k := sshKey{kind: kind, blob: string(blob)}
	in := cryptobyte.String(blob)
	name, ok := readString(&in)
	if !ok || name != kind {
		return sshKey{}, fmt.Errorf("the key behind %q is of type %.60q", kind, name)
	}
	if err := k.parse(&in); err != nil {
		return sshKey{}, fmt.Errorf("%s key: %w", kind, err)
	}
	if !in.Empty() {
		return sshKey{}, fmt.Errorf("%s key: %d bytes too many", kind, len(in))
	}
	return k, nil
}

// parse reads what follows the name of the type.
func (k *sshKey) parse(in *cryptobyte.String) error {
	errDamaged := errors.New("it is damaged")
	if c, ok := sshCurveOf(k.kind); ok {
		name, ok1 := readString(in)
		point, ok2 := readString(in)
		if !ok1 || !ok2 || name != c.name {
			return errDamaged
		}
		key, err := ecdsa.ParseUncompressedPublicKey(c.curve, []byte(point))
		k.key = key
		return err
	}
	if k.kind == kindEd25519 {
		key, ok := readString(in)
		if !ok || len(key) != ed25519.PublicKeySize {
			return errDamaged
		}
		k.key = ed25519.PublicKey(key)
		return nil
	}
	e, ok1 := readInteger(in)
	n, ok2 := readInteger(in)
	if !ok1 || !ok2 || e.BitLen() > 31 || n.Bit(0) == 0 {
		return errDamaged
	}
	if bits := n.BitLen(); bits < minRSABits || bits > cms.MaxRSABits {
		return fmt.Errorf("it has %d bits, from %d to %d are accepted", bits, minRSABits, cms.MaxRSABits)
	}
	k.key = &rsa.PublicKey{N: n, E: int(e.Int64())}
	return nil
}

// scheme returns the hash of a signature by this key and of the type that a signature names (RFC 8332 §3 for RSA).
func (k *sshKey) scheme(name string) (crypto.Hash, bool) {
	c, curve := sshCurveOf(k.kind)
	switch {
	case curve && name == k.kind:
		return c.hash, true
	case k.kind == kindEd25519 && name == kindEd25519:
		return 0, true
	case k.kind == kindRSA && name == "rsa-sha2-256":
		return crypto.SHA256, true
	case k.kind == kindRSA && name == "rsa-sha2-512":
		return crypto.SHA512, true
	}
	return 0, false
}

// verify checks what a signature holds behind its type.
func (k *sshKey) verify(hash crypto.Hash, message, signature []byte) bool {
	if key, ok := k.key.(ed25519.PublicKey); ok {
		return ed25519.Verify(key, message, signature)
	}
	h := hash.New()
	h.Write(message)
	digest := h.Sum(nil)
	if key, ok := k.key.(*rsa.PublicKey); ok {
		return rsa.VerifyPKCS1v15(key, hash, digest, signature) == nil
	}
	in := cryptobyte.String(signature)
	r, ok1 := readInteger(&in)
	s, ok2 := readInteger(&in)
	return ok1 && ok2 && in.Empty() && ecdsa.Verify(k.key.(*ecdsa.PublicKey), digest, r, s)
}

// readString reads a string of RFC 4251 §5.
func readString(in *cryptobyte.String) (string, bool) {
	var n uint32
	var s []byte
	if !in.ReadUint32(&n) || uint64(n) > uint64(len(*in)) || !in.ReadBytes(&s, int(n)) {
		return "", false
	}
	return string(s), true
}

// readInteger reads a positive mpint of RFC 4251 §5, in its shortest form.
func readInteger(in *cryptobyte.String) (*big.Int, bool) {
	s, ok := readString(in)
	if !ok || s == "" || s[0] >= 0x80 || s[0] == 0 && (len(s) == 1 || s[1] < 0x80) || len(s) > cms.MaxRSABits/8+1 {
		return nil, false
	}
	return new(big.Int).SetBytes([]byte(s)), true
}
