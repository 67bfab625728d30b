package tpm

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"math/big"
	"sync"
	"sync/atomic"

	"github.com/google/go-tpm/tpm2"
)

// minRSABits is the shortest RSA key that is accepted as an identity (NIST SP 800-131A).
const minRSABits = 2048

// A holder makes a key ready for one operation. release undoes that and must always be called.
type holder interface {
	acquire(*session) (key tpm2.AuthHandle, release func(), err error)
}

// residentKey is a key at a persistent handle.
type residentKey struct {
	handle tpm2.TPMHandle
	name   tpm2.TPM2BName
}

func (k residentKey) acquire(*session) (tpm2.AuthHandle, func(), error) {
	return tpm2.AuthHandle{Handle: k.handle, Name: k.name, Auth: tpm2.PasswordAuth(nil)}, func() {}, nil
}

// tpmKey is a private key inside a TPM.
type tpmKey struct {
	conn   *conn
	where  string // for people
	area   *tpm2.TPMTPublic
	public crypto.PublicKey
	scheme tpm2.TPMAlgID // the only signature scheme the key can do, or TPMAlgNull for any
	hash   crypto.Hash   // the only hash, when scheme is fixed
	holder holder

	signed, probed atomic.Int64
	hasPassword    atomic.Bool // the TPM said so
	learning       sync.Mutex
	learnt         *capabilities // nil until first asked for
}

// newTPMKey checks that a key with this public area can be used for what it is meant for.
func newTPMKey(c *conn, u use, where string, area *tpm2.TPMTPublic, h holder) (*tpmKey, error) {
	fix := "create an unrestricted signing key with an empty password (the TCG's IDevID templates do)"
	if u == forDecryption {
		fix = "create an unrestricted decryption key with an empty password and scheme null"
	}
	attrs := area.ObjectAttributes
	switch {
	case u == forDecryption && !attrs.Decrypt:
		return nil, unusable(fix, "the key in %s may not decrypt", where)
	case u == forIdentity && !attrs.SignEncrypt:
		return nil, unusable(fix, "the key in %s may not sign", where)
	case attrs.Restricted && u == forDecryption:
		return nil, unusable(fix, "the key in %s is restricted: it decrypts only what the TPM itself understands", where)
	case attrs.Restricted:
		return nil, unusable(fix, "the key in %s is restricted: it signs only what the TPM itself produced", where)
	case !attrs.UserWithAuth:
		return nil, unusable(fix, "the key in %s can be used only by satisfying a policy", where)
	}
	public, err := publicKey(area)
	if err != nil {
		return nil, &Error{Code: CodeKeyUnusable, Msg: "the key in " + where + " is of an unsupported kind", Err: err,
			Fix: "use RSA with 2048 bits or more, or ECC on NIST P-256 or P-384"}
	}
	k := &tpmKey{conn: c, where: where, area: area, public: public, holder: h}
	fix = "create the key with scheme null, RSASSA, RSAPSS or ECDSA"
	if u == forDecryption {
		fix = "create the key with scheme null, RSAES, OAEP or ECDH"
	}
	if k.scheme, k.hash, err = fixedScheme(area, u); err != nil {
		return nil, &Error{Code: CodeKeyUnusable, Msg: "the key in " + where + " has an unsupported scheme", Err: err, Fix: fix}
	}
	return k, nil
}

// publicKey converts a public area, checking what crypto/rsa and crypto/ecdsa rely on.
func publicKey(area *tpm2.TPMTPublic) (crypto.PublicKey, error) {
	switch area.Type {
	case tpm2.TPMAlgRSA:
		params, err := area.Parameters.RSADetail()
		if err != nil {
			return nil, err
		}
		modulus, err := area.Unique.RSA()
		if err != nil {
			return nil, err
		}
		pub, err := tpm2.RSAPub(params, modulus)
		if err != nil {
			return nil, err
		}
		if pub.N.BitLen() < minRSABits || pub.N.BitLen() > 4096 || pub.N.Bit(0) == 0 || pub.E < 3 || pub.E%2 == 0 {
			return nil, fmt.Errorf("RSA with a modulus of %d bits and exponent %d", pub.N.BitLen(), pub.E)
		}
		return pub, nil
	case tpm2.TPMAlgECC:
		params, err := area.Parameters.ECCDetail()
		if err != nil {
			return nil, err
		}
		point, err := area.Unique.ECC()
		if err != nil {
			return nil, err
		}
		var curve elliptic.Curve
		switch params.CurveID {
		case tpm2.TPMECCNistP256:
			curve = elliptic.P256()
		case tpm2.TPMECCNistP384:
			curve = elliptic.P384()
		case tpm2.TPMECCNistP521:
			curve = elliptic.P521()
		default:
			return nil, fmt.Errorf("elliptic curve %#x", uint16(params.CurveID))
		}
		size := (curve.Params().BitSize + 7) / 8
		x, y := new(big.Int).SetBytes(point.X.Buffer), new(big.Int).SetBytes(point.Y.Buffer)
		if x.BitLen() > 8*size || y.BitLen() > 8*size {
			return nil, errors.New("elliptic curve point out of range")
		}
		encoded := make([]byte, 1+2*size)
		encoded[0] = 4 // uncompressed, SEC 1 2.3.3
		x.FillBytes(encoded[1 : 1+size])
		y.FillBytes(encoded[1+size:])
		return ecdsa.ParseUncompressedPublicKey(curve, encoded)
	}
	return nil, fmt.Errorf("object type %#x", uint16(area.Type))
}

// fixedScheme returns the signature scheme a key is bound to, or TPMAlgNull. A key that is for decryption must not be bound
// to one; where it is bound to a scheme of encryption the TPM sees to that.
func fixedScheme(area *tpm2.TPMTPublic, u use) (tpm2.TPMAlgID, crypto.Hash, error) {
	var scheme tpm2.TPMAlgID
	var details *tpm2.TPMUAsymScheme
	if rsaParams, err := area.Parameters.RSADetail(); err == nil {
		scheme, details = rsaParams.Scheme.Scheme, &rsaParams.Scheme.Details
	} else if eccParams, err := area.Parameters.ECCDetail(); err == nil {
		scheme, details = eccParams.Scheme.Scheme, &eccParams.Scheme.Details
	}
	var alg tpm2.TPMIAlgHash
	if u == forDecryption {
		switch scheme {
		case tpm2.TPMAlgNull, tpm2.TPMAlgRSAES, tpm2.TPMAlgOAEP, tpm2.TPMAlgECDH:
			return tpm2.TPMAlgNull, 0, nil
		}
		return 0, 0, fmt.Errorf("scheme %#x", uint16(scheme))
	}
	switch scheme {
	case tpm2.TPMAlgNull:
		return scheme, 0, nil
	case tpm2.TPMAlgRSASSA:
		d, err := details.RSASSA()
		if err != nil {
			return 0, 0, err
		}
		alg = d.HashAlg
	case tpm2.TPMAlgRSAPSS:
		d, err := details.RSAPSS()
		if err != nil {
			return 0, 0, err
		}
		alg = d.HashAlg
	case tpm2.TPMAlgECDSA:
		d, err := details.ECDSA()
		if err != nil {
			return 0, 0, err
		}
		alg = d.HashAlg
	default:
		return 0, 0, fmt.Errorf("scheme %#x", uint16(scheme))
	}
	hash, err := alg.Hash()
	return scheme, hash, err
}

func (k *tpmKey) Public() crypto.PublicKey { return k.public }
func (k *tpmKey) signatures() int64        { return k.signed.Load() }
func (k *tpmKey) probes() int64            { return k.probed.Load() }

// Sign signs a digest inside the TPM. It implements crypto.Signer; rand is not used.
func (k *tpmKey) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	sig, err := k.sign(context.Background(), digest, opts)
	if err != nil {
		return nil, err
	}
	k.signed.Add(1)
	if err := verify(k.public, digest, sig, opts); err != nil {
		// Besides a salt of the wrong length this catches faults, which would give an RSA key away.
		return nil, &Error{Code: CodeFailure, Msg: "the TPM made a signature that does not verify", Err: err,
			Fix: "power-cycle the device; update the TPM's firmware"}
	}
	return sig, nil
}

func (k *tpmKey) sign(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	scheme, err := k.signScheme(digest, opts)
	if err != nil {
		return nil, unusable("", "the key in %s cannot make this signature: %v", k.where, err)
	}
	var signature *tpm2.TPMTSignature
	err = k.use(ctx, "signing", func(s *session, key tpm2.AuthHandle) error {
		rsp, err := s.execute(signDigest(key, digest, scheme))
		if err != nil {
			return err
		}
		signature, err = tpm2.Unmarshal[tpm2.TPMTSignature](rsp.parameters)
		return err
	})
	if err != nil {
		return nil, err
	}
	sig, err := encodeSignature(signature)
	return sig, explain("reading a signature", err)
}

// use runs an operation with the key, which is there only as long as the operation lasts.
func (k *tpmKey) use(ctx context.Context, doing string, operation func(*session, tpm2.AuthHandle) error) error {
	password := unusable("remove the key's password with tpm2_changeauth, or provision the key again",
		"the key in %s has a password", k.where)
	if k.hasPassword.Load() {
		return password // each further attempt with the empty one would bring the TPM closer to its lockout
	}
	err := k.conn.do(ctx, commandTimeout, doing+" with the key in "+k.where, func(s *session) error {
		key, release, err := k.holder.acquire(s)
		if err != nil {
			return err
		}
		defer release()
		return operation(s, key)
	})
	var known *Error
	if (errors.Is(err, tpm2.TPMRCAuthFail) || errors.Is(err, tpm2.TPMRCBadAuth)) && errors.As(err, &known) && known.Code == CodePassword {
		k.hasPassword.Store(true)
		password.Err = err
		return password
	}
	return err
}

// signScheme says what to ask of the TPM, or why the key cannot do it.
func (k *tpmKey) signScheme(digest []byte, opts crypto.SignerOpts) (tpm2.TPMTSigScheme, error) {
	none := tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull}
	hash := opts.HashFunc()
	alg, ok := tpmHash(hash)
	if !ok {
		return none, fmt.Errorf("hash %v is not supported", hash)
	}
	if len(digest) != hash.Size() {
		return none, fmt.Errorf("a %v digest has %d bytes, not %d", hash, hash.Size(), len(digest))
	}
	scheme := tpm2.TPMAlgECDSA
	if _, isRSA := k.public.(*rsa.PublicKey); isRSA {
		scheme = tpm2.TPMAlgRSASSA
		if pss, ok := opts.(*rsa.PSSOptions); ok {
			scheme = tpm2.TPMAlgRSAPSS
			if salt := pss.SaltLength; salt > 0 && salt != hash.Size() {
				return none, fmt.Errorf("a PSS salt of %d bytes is not supported", salt)
			}
		}
	}
	if k.scheme != tpm2.TPMAlgNull && (k.scheme != scheme || k.hash != hash) {
		return none, fmt.Errorf("it is bound to scheme %#x with %v", uint16(k.scheme), k.hash)
	}
	return tpm2.TPMTSigScheme{Scheme: scheme, Details: tpm2.NewTPMUSigScheme(scheme, &tpm2.TPMSSchemeHash{HashAlg: alg})}, nil
}
