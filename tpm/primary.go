package tpm

import (
	"github.com/google/go-tpm/tpm2"
	"golang.org/x/crypto/cryptobyte"
)

// primaryKey is a transient key that was derived from the seed of a hierarchy.
type primaryKey struct {
	handle tpm2.TPMHandle
	area   *tpm2.TPMTPublic
	name   tpm2.TPM2BName
}

// derive returns the key that a hierarchy has for a template. It must be flushed.
func (s *session) derive(hierarchy tpm2.AuthHandle, template tpm2.TPMTPublic) (primaryKey, error) {
	rsp, err := s.execute(createPrimary(hierarchy, template))
	if err != nil {
		return primaryKey{}, err
	}
	key, err := rsp.primaryKey()
	if err != nil {
		s.flush(rsp.handle)
	}
	return key, err
}

func (r *response) primaryKey() (key primaryKey, err error) {
	key.handle = r.handle
	if key.area, err = r.public(); err != nil {
		return key, err
	}
	var creationData, creationHash, ticketDigest cryptobyte.String
	const ticketHead = 2 + 4 // tag and hierarchy
	if p := &r.parameters; !p.ReadUint16LengthPrefixed(&creationData) || !p.ReadUint16LengthPrefixed(&creationHash) ||
		!p.Skip(ticketHead) || !p.ReadUint16LengthPrefixed(&ticketDigest) {
		return key, errMalformed
	}
	key.name.Buffer, err = r.sized()
	return key, err
}
