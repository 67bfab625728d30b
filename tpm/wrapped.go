package tpm

import (
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// wrappedKey is a key that is stored outside the TPM, encrypted by a parent inside.
type wrappedKey struct {
	file  *tss2Key
	saved []byte // the loaded key (TPMS_CONTEXT), so that the parent need not be derived for every signature
}

func (w *wrappedKey) acquire(s *session) (tpm2.AuthHandle, func(), error) {
	name, err := tpm2.ObjectName(w.file.area)
	if err != nil {
		return tpm2.AuthHandle{}, nil, err
	}
	handle, err := w.load(s)
	if err != nil {
		return tpm2.AuthHandle{}, nil, err
	}
	return tpm2.AuthHandle{Handle: handle, Name: *name, Auth: tpm2.PasswordAuth(nil)}, func() { s.flush(handle) }, nil
}

func (w *wrappedKey) load(s *session) (tpm2.TPMHandle, error) {
	if w.saved != nil {
		rsp, err := s.execute(contextLoad(w.saved))
		if err == nil {
			return rsp.handle, nil
		}
		w.saved = nil // the TPM was reset since
	}
	handle, err := w.loadFromParents(s)
	if err != nil {
		return 0, err
	}
	if rsp, err := s.execute(contextSave(handle)); err == nil {
		w.saved = rsp.parameters
	}
	return handle, nil
}

func (w *wrappedKey) loadFromParents(s *session) (tpm2.TPMHandle, error) {
	var last error
	for _, template := range w.parents() {
		handle, err := w.loadUnder(s, template)
		if err == nil {
			return handle, nil
		}
		last = err
		if !errors.Is(err, tpm2.TPMRCIntegrity) {
			return 0, err
		}
	}
	return 0, &Error{Code: CodeKeyUnusable, Msg: "the key file was not made by this TPM, or the TPM was cleared since",
		Err: last, Fix: "make the key again on this device, under the owner hierarchy or its persistent parent"}
}

// parents returns the templates of the storage keys that may have wrapped the key, most likely first; one nil when the
// parent is persistent. The standard wants templates with an empty unique field, and ECC unless the file says RSA.
// Some tools fill unique with zeros, as the TCG's provisioning guidance does, or forget to say RSA.
func (w *wrappedKey) parents() []*tpm2.TPMTPublic {
	if w.file.parent >= persistentFirst {
		return []*tpm2.TPMTPublic{nil}
	}
	ecc, eccZeros := tpm2.ECCSRKTemplate, tpm2.ECCSRKTemplate
	ecc.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{})
	rsa, rsaZeros := tpm2.RSASRKTemplate, tpm2.RSASRKTemplate
	rsa.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{})
	if w.file.rsaParent {
		return []*tpm2.TPMTPublic{&rsa, &rsaZeros}
	}
	return []*tpm2.TPMTPublic{&ecc, &eccZeros, &rsa, &rsaZeros}
}

// loadUnder loads the key under the parent made from a template, or the persistent one, and forgets the parent.
func (w *wrappedKey) loadUnder(s *session, template *tpm2.TPMTPublic) (tpm2.TPMHandle, error) {
	parent := tpm2.AuthHandle{Handle: w.file.parent, Auth: tpm2.PasswordAuth(nil)}
	switch {
	case template == nil && w.file.parent <= persistentLast:
		_, name, err := readPublic(s, w.file.parent)
		if errors.Is(err, tpm2.TPMRCHandle) {
			return 0, unusable("provision the storage key, or make the key again under the owner hierarchy",
				"the key's parent %#08x is not in this TPM", uint32(w.file.parent))
		}
		if err != nil {
			return 0, err
		}
		parent.Name = name
	case w.file.parent == tpm2.TPMRHOwner, w.file.parent == tpm2.TPMRHEndorsement:
		key, err := s.derive(parent, *template)
		if err != nil {
			return 0, fmt.Errorf("deriving the parent key: %w", err)
		}
		defer s.flush(key.handle)
		parent.Handle, parent.Name = key.handle, key.name
	default:
		return 0, unusable("make the key again under the owner hierarchy",
			"the key's parent %#08x is neither the owner hierarchy nor a persistent key", uint32(w.file.parent))
	}
	var loaded tpm2.TPMHandle
	err := s.secretly(inward, func(encryption tpm2.Session) error {
		rsp, err := s.execute(load(parent, w.file.private, w.file.area).encrypted(encryption))
		if err == nil {
			loaded = rsp.handle
		}
		return err
	})
	return loaded, err
}
