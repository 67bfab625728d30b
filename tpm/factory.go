package tpm

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// Where the TCG places a device's identity.
const (
	IDevIDHandle      uint32 = 0x81020000    // persistent handle of the key
	IDevIDCertificate uint32 = identityFirst // NV index of the certificate
	IDevIDChain       uint32 = chainFirst    // NV index of the certificates above it, continued in those after it
)

// Factory provisions a TPM with a device identity: what a maker does once, and a lab for each device.
type Factory struct {
	TPM       string // as in Options
	Overwrite bool   // replace keys and NV indices that exist instead of refusing with code tpm-occupied
	// OwnerPassword and EndorsementPassword are those of the TPM's hierarchies, empty unless somebody took ownership of it.
	OwnerPassword, EndorsementPassword []byte
}

// CreateIDevID creates an IDevID key in the endorsement hierarchy, keeps it at a persistent handle (IDevIDHandle for the
// usual place) and returns its public key. The same TPM makes the same key again until its endorsement seed changes, so
// that nothing is overwritten when the key is there already.
func (f Factory) CreateIDevID(ctx context.Context, template Template, handle uint32) (public crypto.PublicKey, err error) {
	area, err := template.area()
	if err != nil {
		return nil, err
	}
	if handle < persistentFirst || handle > persistentLast {
		return nil, &Error{Code: CodeFailure, Msg: fmt.Sprintf("%#08x is not a persistent handle", handle),
			Fix: "use 0x81020000"}
	}
	err = f.run(ctx, "creating the IDevID key", func(s *session) error {
		var key primaryKey
		err := s.authorized(tpm2.TPMRHEndorsement, f.EndorsementPassword, func(endorsement tpm2.AuthHandle) (err error) {
			key, err = s.derive(endorsement, area)
			return template.judge(err)
		})
		if err != nil {
			return err
		}
		defer s.flush(key.handle)
		if err := f.keep(s, tpm2.AuthHandle{Handle: key.handle, Name: key.name}, tpm2.TPMHandle(handle)); err != nil {
			return err
		}
		public, err = publicKey(key.area)
		return err
	})
	return public, err
}

// keep makes an object persistent, unless it is already or something else must stay there.
func (f Factory) keep(s *session, object tpm2.AuthHandle, handle tpm2.TPMHandle) error {
	_, name, err := readPublic(s, handle)
	switch {
	case errors.Is(err, tpm2.TPMRCHandle):
		return f.evict(s, object, handle)
	case err != nil:
		return err
	case bytes.Equal(name.Buffer, object.Name.Buffer):
		return nil
	case !f.Overwrite:
		return occupied(fmt.Sprintf("there is another key at %#08x", uint32(handle)))
	}
	if err := f.evict(s, tpm2.AuthHandle{Handle: handle, Name: name}, handle); err != nil {
		return err
	}
	return f.evict(s, object, handle)
}

func occupied(what string) error {
	return &Error{Code: CodeOccupied, Msg: what, Fix: "leave it, or ask for it to be overwritten (--force)"}
}

func (f Factory) evict(s *session, object tpm2.AuthHandle, persistent tpm2.TPMHandle) error {
	return s.authorized(tpm2.TPMRHOwner, f.OwnerPassword, func(owner tpm2.AuthHandle) error {
		_, err := s.execute(evictControl(owner, object, persistent))
		return err
	})
}

// connect opens the TPM, which a factory step cannot do without.
func (f Factory) connect() (*conn, error) {
	if f.TPM == "" || f.TPM == "none" {
		return nil, &Error{Code: CodeUnreachable, Msg: "no TPM is configured",
			Fix: "set identity.tpm, or name the TPM (--tpm /dev/tpmrm0)"}
	}
	return connect(f.TPM)
}

func (f Factory) run(ctx context.Context, doing string, operation func(*session) error) error {
	c, err := f.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	return c.do(ctx, keygenTimeout, doing, operation)
}
