package tpm

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"math/big"

	"github.com/google/go-tpm/tpm2"
)

const noDecrypt = "use a second key made for decryption; IDevID keys made to the TCG's templates only sign"

// tpmDecrypter decrypts with an RSA key inside a TPM.
type tpmDecrypter struct{ *tpmKey }

func (k *tpmKey) decrypter() (crypto.Decrypter, error) {
	if _, ok := k.public.(*rsa.PublicKey); !ok || !k.area.ObjectAttributes.Decrypt || k.scheme != tpm2.TPMAlgNull {
		return nil, unusable(noDecrypt, "the key in %s may not decrypt", k.where)
	}
	return tpmDecrypter{k}, nil
}

// Decrypt implements crypto.Decrypter with the options of crypto/rsa. With a SessionKeyLen a bad padding yields a
// random key instead of an error, as in rsa.DecryptPKCS1v15SessionKey, so that nobody can use the device as an oracle. The
// error is rsa.ErrDecryption for ciphertexts that were not made for the key, and else tells what is wrong with key or TPM.
//
// The TPM does the RSA operation only, which succeeds whatever was encrypted, and the padding is taken away here, in constant
// time: from a TPM that takes it away itself an error comes back sooner than a plaintext, which who sent the ciphertext can
// measure. There is no other way where the key is bound to a scheme, or the TPM refuses the bare operation.
func (d tpmDecrypter) Decrypt(_ io.Reader, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	unpad, err := unpadder(opts)
	if err != nil {
		return nil, err
	}
	if params, err := d.area.Parameters.RSADetail(); err == nil && params.Scheme.Scheme == tpm2.TPMAlgNull {
		block, err := d.rsaDecrypt(ciphertext, tpm2.TPMTRSADecrypt{Scheme: tpm2.TPMAlgNull})
		switch {
		case err == nil:
			return unpad(d.wholeBlock(block))
		case errors.Is(err, tpm2.TPMRCValue), errors.Is(err, tpm2.TPMRCSize):
			return nil, rsa.ErrDecryption // as everybody sees, the ciphertext is not a number below the modulus
		case !errors.Is(err, tpm2.TPMRCScheme):
			return nil, err
		}
	}
	return d.decryptPadded(ciphertext, opts)
}

// wholeBlock puts back zeros that a TPM may have left out at the beginning.
func (d tpmDecrypter) wholeBlock(block []byte) []byte {
	size := d.public.(*rsa.PublicKey).Size()
	if len(block) >= size {
		return block
	}
	return append(make([]byte, size-len(block)), block...)
}

// decryptPadded has the TPM take the padding away.
func (d tpmDecrypter) decryptPadded(ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	scheme := tpm2.TPMTRSADecrypt{
		Scheme:  tpm2.TPMAlgRSAES,
		Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSAES, &tpm2.TPMSEncSchemeRSAES{}),
	}
	keyLen := 0
	switch o := opts.(type) {
	//lint:ignore SA1019 CMS from the field still transports keys this way (RFC 3370, 4.2.1)
	case *rsa.PKCS1v15DecryptOptions:
		keyLen = o.SessionKeyLen
	case *rsa.OAEPOptions:
		alg, ok := tpmHash(o.Hash)
		if o.Hash == crypto.SHA1 {
			alg, ok = tpm2.TPMAlgSHA1, true // OAEP does not rely on collision resistance, and CMS defaults to SHA-1
		}
		if !ok || o.MGFHash != 0 && o.MGFHash != o.Hash || len(o.Label) != 0 {
			return nil, unusable("make the key with scheme null",
				"the key in %s decrypts OAEP only with one hash for everything and without a label", d.where)
		}
		scheme.Scheme = tpm2.TPMAlgOAEP
		scheme.Details = tpm2.NewTPMUAsymScheme(tpm2.TPMAlgOAEP, &tpm2.TPMSEncSchemeOAEP{HashAlg: alg})
	}
	plain, err := d.rsaDecrypt(ciphertext, scheme)
	badPadding := errors.Is(err, tpm2.TPMRCValue)
	switch {
	case keyLen > 0 && (badPadding || err == nil && len(plain) != keyLen):
		plain = make([]byte, keyLen)
		_, err = rand.Read(plain)
	case badPadding:
		err = rsa.ErrDecryption
	}
	return plain, err
}

func (k *tpmKey) rsaDecrypt(ciphertext []byte, scheme tpm2.TPMTRSADecrypt) (plain []byte, err error) {
	err = k.use(context.Background(), "decrypting", func(s *session, key tpm2.AuthHandle) error {
		return s.secretly(outward, func(encryption tpm2.Session) error {
			rsp, err := s.execute(rsaDecrypt(key, ciphertext, scheme).encrypted(encryption))
			if err != nil {
				return err
			}
			plain, err = rsp.sized()
			return err
		})
	})
	return plain, err
}

func (k *tpmKey) mayAgree() error {
	if _, ok := k.public.(*ecdsa.PublicKey); !ok || !k.area.ObjectAttributes.Decrypt || k.scheme != tpm2.TPMAlgNull {
		return unusable(noDecrypt, "the key in %s may not agree on a secret", k.where)
	}
	return nil
}

func (k *tpmKey) ecdh(peer *ecdh.PublicKey) (secret []byte, err error) {
	if err := k.mayAgree(); err != nil {
		return nil, err
	}
	pub := k.public.(*ecdsa.PublicKey)
	own, err := pub.ECDH()
	if err != nil || peer == nil || peer.Curve() != own.Curve() {
		return nil, unusable("", "the peer's key is not on the curve of the key in %s", k.where)
	}
	x, y, err := tpm2.ECCPoint(peer)
	if err != nil {
		return nil, unusable("", "the peer's key is not usable: %v", err)
	}
	size := (pub.Curve.Params().BitSize + 7) / 8
	point := tpm2.TPMSECCPoint{
		X: tpm2.TPM2BECCParameter{Buffer: x.FillBytes(make([]byte, size))},
		Y: tpm2.TPM2BECCParameter{Buffer: y.FillBytes(make([]byte, size))},
	}
	err = k.use(context.Background(), "agreeing on a secret", func(s *session, key tpm2.AuthHandle) error {
		var answer []byte
		err := s.secretly(outward, func(encryption tpm2.Session) error {
			rsp, err := s.execute(ecdhZGen(key, point).encrypted(encryption))
			if err != nil {
				return err
			}
			answer, err = rsp.sized()
			return err
		})
		if err != nil {
			return err
		}
		z, err := tpm2.Unmarshal[tpm2.TPMSECCPoint](answer)
		if err != nil {
			return err
		}
		shared := new(big.Int).SetBytes(z.X.Buffer)
		if shared.BitLen() > 8*size {
			return fmt.Errorf("shared secret of %d bits", shared.BitLen())
		}
		secret = shared.FillBytes(make([]byte, size))
		return nil
	})
	return secret, err
}
