package tpm

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"slices"

	"github.com/google/go-tpm/tpm2"
)

// capabilities is what a key can do in TLS.
type capabilities struct {
	schemes    []tls.SignatureScheme // nil: everything crypto/tls knows for the kind of key
	maxVersion uint16
}

// TLSCertificate returns the identity for use as a TLS client certificate, limited to the signature schemes the key can
// make, and the highest TLS version those allow: tls.VersionTLS13, or tls.VersionTLS12 for RSA keys without PSS as
// TLS 1.3 wants it (RFC 8446, 4.2.3). The caller must set tls.Config.MaxVersion to it, because crypto/tls would agree on
// TLS 1.3 and then present no certificate. The first call on an RSA key in a TPM may make one signature, see Probes.
func (id *Identity) TLSCertificate(ctx context.Context) (cert tls.Certificate, maxVersion uint16, err error) {
	can, err := id.identity.key.capabilities(ctx)
	if err != nil {
		return tls.Certificate{}, 0, err
	}
	cert = tls.Certificate{PrivateKey: id.identity.key, Leaf: id.Chain[0], SupportedSignatureAlgorithms: can.schemes}
	for _, c := range id.Chain {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	return cert, can.maxVersion, nil
}

var signingHashes = []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512}

// capabilities asks the TPM once what the key can do.
func (k *tpmKey) capabilities(ctx context.Context) (capabilities, error) {
	k.learning.Lock()
	defer k.learning.Unlock()
	if k.learnt != nil {
		return *k.learnt, nil
	}
	hashes, err := k.usableHashes(ctx)
	if err != nil {
		return capabilities{}, err
	}
	var can capabilities
	switch pub := k.public.(type) {
	case *ecdsa.PublicKey:
		can = ecdsaCapabilities(pub, hashes)
	case *rsa.PublicKey:
		pss := false
		if k.scheme != tpm2.TPMAlgRSASSA {
			if pss, err = k.probePSS(ctx, hashes); err != nil {
				return capabilities{}, err
			}
		}
		can = rsaCapabilities(hashes, k.scheme != tpm2.TPMAlgRSAPSS, pss)
	}
	if len(can.schemes) == 0 {
		return capabilities{}, unusable("create the key with scheme null",
			"the key in %s can make no signature that TLS 1.2 or 1.3 accepts", k.where)
	}
	k.learnt = &can
	return can, nil
}

// usableHashes returns which of signingHashes both the TPM implements and the key allows.
func (k *tpmKey) usableHashes(ctx context.Context) (usable []crypto.Hash, err error) {
	var algs []tpm2.TPMAlgID
	err = k.conn.do(ctx, commandTimeout, "asking for the TPM's algorithms", func(s *session) error {
		algs, err = algorithms(s)
		return err
	})
	for _, h := range signingHashes {
		if alg, ok := tpmHash(h); ok && slices.Contains(algs, alg) && (k.scheme == tpm2.TPMAlgNull || k.hash == h) {
			usable = append(usable, h)
		}
	}
	return usable, err
}

func ecdsaCapabilities(pub *ecdsa.PublicKey, hashes []crypto.Hash) capabilities {
	schemes := map[crypto.Hash]tls.SignatureScheme{
		crypto.SHA256: tls.ECDSAWithP256AndSHA256,
		crypto.SHA384: tls.ECDSAWithP384AndSHA384,
		crypto.SHA512: tls.ECDSAWithP521AndSHA512,
	}
	// TLS 1.3 ties the hash to the curve, TLS 1.2 does not.
	natural := map[int]crypto.Hash{256: crypto.SHA256, 384: crypto.SHA384, 521: crypto.SHA512}[pub.Curve.Params().BitSize]
	can := capabilities{maxVersion: tls.VersionTLS12}
	for _, h := range hashes {
		can.schemes = append(can.schemes, schemes[h])
		if h == natural {
			can.maxVersion = tls.VersionTLS13
		}
	}
	return can
}

func rsaCapabilities(hashes []crypto.Hash, pkcs1, pss bool) capabilities {
	can := capabilities{maxVersion: tls.VersionTLS12}
	if pss && len(hashes) > 0 {
		can.maxVersion = tls.VersionTLS13
		for _, h := range hashes {
			can.schemes = append(can.schemes, map[crypto.Hash]tls.SignatureScheme{
				crypto.SHA256: tls.PSSWithSHA256, crypto.SHA384: tls.PSSWithSHA384, crypto.SHA512: tls.PSSWithSHA512}[h])
		}
	}
	if pkcs1 {
		for _, h := range hashes {
			can.schemes = append(can.schemes, map[crypto.Hash]tls.SignatureScheme{
				crypto.SHA256: tls.PKCS1WithSHA256, crypto.SHA384: tls.PKCS1WithSHA384, crypto.SHA512: tls.PKCS1WithSHA512}[h])
		}
	}
	return can
}

// probePSS finds out whether the TPM makes PSS signatures with a salt as long as the digest. TPMs differ (some use the
// longest salt that fits), and nothing but a signature tells.
func (k *tpmKey) probePSS(ctx context.Context, hashes []crypto.Hash) (bool, error) {
	if len(hashes) == 0 {
		return false, nil
	}
	opts := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hashes[0]}
	text := sha256.Sum256([]byte("what this key can do"))
	h := hashes[0].New()
	h.Write(text[:])
	digest := h.Sum(nil)

	sig, err := k.sign(ctx, digest, opts)
	if errors.Is(err, tpm2.TPMRCScheme) || errors.Is(err, tpm2.TPMRCValue) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	k.probed.Add(1)
	return verify(k.public, digest, sig, opts) == nil, nil
}
