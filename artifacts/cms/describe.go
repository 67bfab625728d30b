package cms

import (
	"crypto/x509"
	"fmt"
)

// Algorithm names the signature algorithm for people, also when SignedBy would refuse it.
func (s *Signer) Algorithm() string {
	hash, err := s.digest.hash()
	if err != nil {
		return err.Error()
	}
	scheme, err := s.signing.scheme(hash)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%s with %v", scheme.kind, hash)
}

// Recipients identifies for people who can decrypt e. Recipients by password or shared key are not among them.
func (e *EnvelopedData) Recipients() []string {
	var list []string
	for _, r := range e.recipients() {
		list = append(list, r.String())
	}
	return list
}

// For reports whether cert is among the recipients.
func (e *EnvelopedData) For(cert *x509.Certificate) bool {
	for _, r := range e.recipients() {
		if r.names(cert) {
			return true
		}
	}
	return false
}

func (e *EnvelopedData) recipients() []*identifier {
	var ids []*identifier
	for i := range e.transport {
		ids = append(ids, &e.transport[i].recipient)
	}
	for i := range e.agreement {
		ids = append(ids, &e.agreement[i].recipient)
	}
	return ids
}
