package tpm

import (
	"context"
	"crypto/x509"
	"errors"
	"strings"
)

// A use is what a key is for.
type use int

const (
	forIdentity   use = iota // identity.key and identity.certificate in the configuration
	forDecryption            // identity.decrypt-key and identity.decrypt-certificate
)

// maker is how such a key is made in a TPM.
func (u use) maker() string {
	if u == forDecryption {
		return "one that decrypts and is not restricted, such as of tpm2_createprimary, kept by tpm2_evictcontrol"
	}
	return "`ztp identity csr`"
}

// A pair is a private key and its certificate, found where they may lie.
type pair struct {
	conn *conn // nil without a TPM
	use  use

	key         privateKey
	where       string              // the key, for people
	certificate string              // where the certificate was found, for people
	chain       []*x509.Certificate // leaf first
	warnings    []string
}

// find looks for the key and then for its certificate.
func (p *pair) find(ctx context.Context, key, certificate string) error {
	err := p.findKey(ctx, key)
	if err == nil {
		err = p.findCertificate(ctx, certificate)
	}
	var e *Error
	if p.use == forIdentity || !errors.As(err, &e) {
		return err
	}
	adapted := *e // the hint has to name the settings of this key
	adapted.Fix = strings.NewReplacer(
		"identity.key", "identity.decrypt-key", "identity.certificate", "identity.decrypt-certificate").Replace(adapted.Fix)
	return &adapted
}
