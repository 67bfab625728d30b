package config

import (
	"bytes"
	"crypto/x509"
	"fmt"
)

// loadSigners reads who may sign images.
func (l *loader) loadSigners() error {
	const key = "image.signers"
	for _, s := range l.config.Image.Signers {
		if s == ownerSigns {
			l.config.Signers.Owner = true
			continue
		}
		if err := l.addSigners(s); err != nil {
			return invalid(l.origins[key], key, err, "name files of certificates in PEM, of allowed_signers as `ssh-keygen -Y verify` "+
				"reads them, or public keys of minisign")
		}
	}
	return nil
}

// addSigners tells by its contents what a file is.
func (l *loader) addSigners(file string) error {
	data, err := readBounded(file, maxAnchorFile)
	if err != nil {
		return err
	}
	if bytes.Contains(data, []byte("-----BEGIN CERTIFICATE-----")) {
		certs, err := parseCertificates(file, data, func(*x509.Certificate) error { return nil })
		if err != nil {
			return err
		}
		return l.config.Signers.AddCertificates(certs)
	}
	if err := l.config.Signers.AddKeys(data); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}
