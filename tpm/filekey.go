package tpm

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"sync/atomic"
)

// fileKey is a private key in memory, read from a plain file.
type fileKey struct {
	crypto.Signer
	where  string
	signed atomic.Int64
}

func (p *pair) useFileKey(location string, block *pem.Block) error {
	signer, err := parsePlainKey(block)
	if err != nil {
		return &Error{Code: CodeKeyUnusable, Msg: "cannot use the private key in " + location, Err: err,
			Fix: "use an unencrypted PKCS#8, PKCS#1 or SEC1 file with an RSA key of 2048 bits or more, or a NIST curve"}
	}
	if _, canAgree := signer.(*ecdsa.PrivateKey); p.use == forDecryption && !canAgree {
		if _, canDecrypt := signer.(crypto.Decrypter); !canDecrypt {
			return unusable("use an RSA key, or one on a NIST curve", "the key in %s can only sign", location)
		}
	}
	p.key = &fileKey{Signer: signer, where: location}
	copied := "the private key is a plain file, " + location + ": whoever becomes root on this device " +
		"can copy the device's identity; keep the key in a TPM in production"
	if p.use == forDecryption {
		copied = "the decrypt key is a plain file, " + location + ": whoever becomes root on this device can copy it and " +
			"read what others encrypted for the device"
	}
	p.warnings = append(p.warnings, copied)
	if info, err := os.Stat(location); err == nil && info.Mode().Perm()&0o077 != 0 {
		p.warnings = append(p.warnings,
			fmt.Sprintf("the private key file %s has mode %04o; make it 0600", location, info.Mode().Perm()))
	}
	return nil
}

func parsePlainKey(block *pem.Block) (crypto.Signer, error) {
	var key any
	var err error
	switch {
	case block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "":
		return nil, fmt.Errorf("it is encrypted with a password")
	case block.Type == "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case block.Type == "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case block.Type == "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		return nil, fmt.Errorf("PEM type %q is not known", block.Type)
	}
	if err != nil {
		return nil, err
	}
	switch key := key.(type) {
	case *rsa.PrivateKey:
		if key.N.BitLen() < minRSABits {
			return nil, fmt.Errorf("the RSA key has only %d bits", key.N.BitLen())
		}
		return key, nil
	case *ecdsa.PrivateKey:
		return key, nil
	case ed25519.PrivateKey:
		return key, nil
	}
	return nil, fmt.Errorf("%T cannot sign", key)
}

func (k *fileKey) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	sig, err := k.Signer.Sign(rand, digest, opts)
	if err == nil {
		k.signed.Add(1)
	}
	return sig, err
}

func (k *fileKey) signatures() int64 { return k.signed.Load() }
func (k *fileKey) probes() int64     { return 0 }

func (k *fileKey) capabilities(context.Context) (capabilities, error) {
	return capabilities{maxVersion: tls.VersionTLS13}, nil
}

func (k *fileKey) decrypter() (crypto.Decrypter, error) {
	if d, ok := k.Signer.(crypto.Decrypter); ok {
		return d, nil
	}
	return nil, unusable("", "the key in %s is not RSA and cannot decrypt", k.where)
}

func (k *fileKey) mayAgree() error {
	if _, ok := k.Signer.(*ecdsa.PrivateKey); !ok {
		return unusable("", "the key in %s is not an ECC key and cannot agree on a secret", k.where)
	}
	return nil
}

func (k *fileKey) ecdh(peer *ecdh.PublicKey) ([]byte, error) {
	if err := k.mayAgree(); err != nil {
		return nil, err
	}
	private, err := k.Signer.(*ecdsa.PrivateKey).ECDH()
	if err == nil {
		var secret []byte
		if secret, err = private.ECDH(peer); err == nil {
			return secret, nil
		}
	}
	return nil, &Error{Code: CodeKeyUnusable, Msg: "cannot agree on a secret with the key in " + k.where, Err: err}
}
