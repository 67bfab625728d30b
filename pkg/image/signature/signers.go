package signature

import (
	"crypto/x509"
	"errors"
	"strings"
)

// Signers is who may sign images.
type Signers struct {
	Owner bool // the owner certificate of the onboarding information

	ssh          []*sshSigner
	minisign     []minisignKey
	certificates []*x509.Certificate
}

// maxSigners bounds the keys and certificates of all files together.
const maxSigners = 256

// Empty reports whether nobody may sign.
func (s *Signers) Empty() bool { return !s.Owner && s.count() == 0 }

func (s *Signers) count() int { return len(s.ssh) + len(s.minisign) + len(s.certificates) }

// AddCertificates adds certificates that sign images themselves, or, if they are authorities', issued certificates for
// code signing that do.
func (s *Signers) AddCertificates(certificates []*x509.Certificate) error {
	s.certificates = append(s.certificates, certificates...)
	return s.bounded()
}

// AddKeys adds the keys of a file: of minisign's public keys one, of OpenSSH's allowed_signers any number. Errors that
// belong to a line begin with its number.
func (s *Signers) AddKeys(file []byte) error {
	text := string(file)
	var err error
	switch {
	case strings.Contains(text, "PRIVATE KEY-----"), strings.Contains(text, "encrypted secret key"):
		return errors.New("holds a private key; only public ones belong on a device")
	case strings.HasPrefix(text, untrustedComment):
		err = s.addMinisign(text)
	default:
		err = s.addAllowedSigners(text)
	}
	if err != nil {
		return err
	}
	return s.bounded()
}

func (s *Signers) bounded() error {
	if s.count() > maxSigners {
		return errors.New("there are more than 256 signers")
	}
	return nil
}
