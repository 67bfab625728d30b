package tpm

import (
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// storageRoot is where the TCG's provisioning guidance keeps the storage root key.
const storageRoot tpm2.TPMHandle = 0x81000001

// direction says which way a secret goes.
type direction int

const (
	inward  direction = iota // the first parameter of the command is encrypted
	outward                  // the first parameter of the response is encrypted
)

// secretly runs one command in a session that encrypts its secret parameter with AES-128-CFB, so that who listens to the
// bus between us and the TPM does not learn it (TPM 2.0 Part 1, 19 and 21). The session key comes from a salt that only
// the TPM's storage root key can read; there is no way around it to an unencrypted command. What
// is changed on the way is noticed, because only the TPM and we can make the session's HMAC. Nobody vouches for the storage
// key itself, though: who can not only listen but replace it by a key of their own, and so read the salt and encrypt it
// anew for the TPM, goes unnoticed and learns the secrets.
//
// Signatures and certificates are no secrets, and the empty password is none either: they go in plain.
func (s *session) secretly(way direction, command func(tpm2.Session) error) error {
	encrypt := tpm2.AESEncryption(128, tpm2.EncryptOut)
	if way == inward {
		encrypt = tpm2.AESEncryption(128, tpm2.EncryptIn)
	}
	encryption, handle, err := s.salted(encrypt)
	if err != nil {
		return err
	}
	defer s.flush(handle)
	err = command(encryption)
	var rejected tpm2.TPMFmt1Error
	if errors.As(err, &rejected) {
		if ofSession, n := rejected.Session(); ofSession && n == 2 { // the key's own authorization is the first
			return &Error{Code: CodeFailure, Msg: "the TPM and we do not share the key of an encrypted session", Err: err,
				Fix: "look for who changes what goes to the TPM: a program between, or hardware on its bus"}
		}
	}
	return err
}

// authorized runs one command as the owner of a hierarchy, whose password, unless it is empty, does not go over the bus.
func (s *session) authorized(hierarchy tpm2.TPMHandle, password []byte, command func(tpm2.AuthHandle) error) error {
	if len(password) == 0 {
		return command(tpm2.AuthHandle{Handle: hierarchy, Auth: tpm2.PasswordAuth(nil)})
	}
	authorization, handle, err := s.salted(tpm2.Auth(password))
	if err != nil {
		return err
	}
	defer s.flush(handle)
	return command(tpm2.AuthHandle{Handle: hierarchy, Auth: authorization})
}

// salted starts a session whose salt is encrypted to the first storage key that can be had. The storage key is flushed
// at once when it was made for this: the TPM has room for three objects, and a parent and its child may need two.
func (s *session) salted(option tpm2.AuthOption) (tpm2.Session, tpm2.TPMHandle, error) {
	key, err := s.storageKey()
	if err != nil {
		return nil, 0, explain("preparing an encrypted session", err)
	}
	if key.transient {
		defer s.flush(key.handle)
	}
	salted, _, err := tpm2.HMACSession(s, tpm2.TPMAlgSHA256, 16, option, tpm2.Salted(key.handle, *key.area))
	if err != nil {
		return nil, 0, explain("starting an encrypted session", err)
	}
	return salted, salted.Handle(), nil
}

// saltKey is a key that only the TPM can decrypt with.
type saltKey struct {
	handle    tpm2.TPMHandle
	area      *tpm2.TPMTPublic
	transient bool
}

// storageKey finds the storage root key, or derives one. Where the owner hierarchy has a password the null hierarchy
// serves as well: its keys are this TPM's until it is restarted.
func (s *session) storageKey() (saltKey, error) {
	area, _, err := readPublic(s, storageRoot)
	switch {
	case err == nil && storing(area):
		return saltKey{handle: storageRoot, area: area}, nil
	case err != nil && !errors.Is(err, tpm2.TPMRCHandle):
		return saltKey{}, err
	}
	for _, template := range []tpm2.TPMTPublic{tpm2.ECCSRKTemplate, tpm2.RSASRKTemplate} {
		for _, hierarchy := range []tpm2.TPMHandle{tpm2.TPMRHOwner, tpm2.TPMRHNull} {
			key, failed := s.derive(tpm2.AuthHandle{Handle: hierarchy, Auth: tpm2.PasswordAuth(nil)}, template)
			if failed == nil {
				return saltKey{key.handle, key.area, true}, nil
			}
			err = fmt.Errorf("deriving a storage key: %w", failed)
			if !isAuthFailure(failed) && !errors.Is(failed, tpm2.TPMRCHierarchy) {
				break // another hierarchy would not help
			}
		}
		var rc tpm2.TPMRC
		if !errors.As(err, &rc) || rc.IsWarning() || errors.Is(err, tpm2.TPMRCFailure) {
			break // nor would another kind of key
		}
	}
	return saltKey{}, err
}

// storing tells whether a key can carry a salt: a storage key that cannot leave the TPM, of a kind we can encrypt to.
func storing(area *tpm2.TPMTPublic) bool {
	if a := area.ObjectAttributes; !a.Decrypt || a.SignEncrypt || !a.Restricted || !a.FixedTPM {
		return false
	}
	_, err := publicKey(area)
	return err == nil
}
