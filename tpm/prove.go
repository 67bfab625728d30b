package tpm

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
)

// Prove makes one signature over something random, in a way that TLS could ask for, and verifies it by the device's
// certificate: whoever sees a connection by this identity would believe it. Errors are *Error.
func (id *Identity) Prove(ctx context.Context) error {
	can, err := id.identity.key.capabilities(ctx)
	if err != nil {
		return err
	}
	var opts crypto.SignerOpts = crypto.SHA256
	public := id.Chain[0].PublicKey
	if len(can.schemes) > 0 {
		opts = optionsOf(can.schemes[0])
	}
	if _, isEC := public.(*ecdsa.PublicKey); !isEC && can.maxVersion == tls.VersionTLS13 {
		opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: opts.HashFunc()}
	}
	h := opts.HashFunc().New()
	challenge := rand.Text()
	h.Write([]byte(challenge))
	digest := h.Sum(nil)
	signed := make(chan error, 1) // a crypto.Signer cannot be told to stop; its own time limit ends it later
	var signature []byte
	go func() {
		var err error
		signature, err = id.Signer().Sign(rand.Reader, digest, opts)
		signed <- err
	}()
	select {
	case err = <-signed:
	case <-ctx.Done():
		err = explain("making a signature", ctx.Err())
	}
	if err != nil {
		return err
	}
	if err := verify(public, digest, signature, opts); err != nil {
		return &Error{Code: CodeMismatch, Msg: "what the key in " + id.Key + " signs does not verify by the certificate in " + id.Certificate,
			Fix: "power-cycle the device; when that does not help the TPM computes wrongly", Err: err}
	}
	return nil
}

// optionsOf is how the hash of a scheme is told to a crypto.Signer.
func optionsOf(scheme tls.SignatureScheme) crypto.SignerOpts {
	switch scheme {
	case tls.ECDSAWithP384AndSHA384, tls.PSSWithSHA384, tls.PKCS1WithSHA384:
		return crypto.SHA384
	case tls.ECDSAWithP521AndSHA512, tls.PSSWithSHA512, tls.PKCS1WithSHA512:
		return crypto.SHA512
	}
	return crypto.SHA256
}
