package signature

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
)

// Signers is who may sign images.
type Signers struct {
	Owner bool // the owner certificate of the onboarding information

	ssh          []sshSigner
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
	switch {
	case bytes.Contains(file, []byte("PRIVATE KEY-----")), bytes.Contains(file, []byte("encrypted secret key")):
		return errors.New("holds a private key; only public ones belong on a device")
	case bytes.HasPrefix(file, []byte("-----BEGIN ")):
		return errors.New("is neither certificates in PEM, nor allowed_signers of OpenSSH, nor a public key of minisign")
	case bytes.HasPrefix(file, []byte(untrustedComment)), bytes.HasPrefix(file, []byte("RW")) && !bytes.ContainsAny(bytes.TrimSpace(file), " \t\n"):
		key, err := parseMinisignKey(file)
		if err != nil {
			return err
		}
		s.minisign = append(s.minisign, key)
	default:
		lines, err := parseAllowedSigners(file)
		if err != nil {
			return err
		}
		s.ssh = append(s.ssh, lines...)
	}
	return s.bounded()
}

func (s *Signers) bounded() error {
	if s.count() > maxSigners {
		return fmt.Errorf("more than %d signers", maxSigners)
	}
	return nil
}
