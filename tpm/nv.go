package tpm

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// NV indices the TCG sets aside for device identities.
const (
	identityFirst = 0x01C90000
	identityLast  = 0x01C9FFFF
	chainFirst    = 0x01C90100 // concatenated DER of the certificate chain, continued in the indices after it
	chainLast     = 0x01C901FF
)

const (
	maxIndices    = 128      // indices that are looked at
	maxNVBytes    = 64 << 10 // of all of them together
	defaultNVRead = 512      // bytes a TPM reads at once when it does not tell
	maxNVRead     = 2048
)

// isPolicyIndex reports whether an index is one of those that hold policies for recoverable keys, not certificates.
func isPolicyIndex(h tpm2.TPMHandle) bool {
	return h >= 0x01C90010 && h <= 0x01C90013 || h >= 0x01C90018 && h <= 0x01C9001B
}

// unreadable is the error for an NV index that exists but does not give its content to us.
func unreadable(handle tpm2.TPMHandle, why string, cause error) error {
	return &Error{Code: CodeCertificateMissing, Msg: fmt.Sprintf("NV index 0x%08X cannot be read: %s", uint32(handle), why),
		Err: cause, Fix: "define the index so that it can be read with the owner's or its own empty password"}
}

// nvIndex is an NV index and its public area.
type nvIndex struct {
	handle tpm2.TPMHandle
	name   tpm2.TPM2BName
	area   *tpm2.TPMSNVPublic
}

// readNV returns the content of an NV index. When tryPassword is false, an index is not tried with the empty password
// if a wrong one would count towards the TPM's lockout: a scan must not lock the TPM.
func (c *conn) readNV(ctx context.Context, handle tpm2.TPMHandle, tryPassword bool) (content []byte, err error) {
	err = c.do(ctx, commandTimeout, fmt.Sprintf("reading NV index 0x%08X", uint32(handle)), func(s *session) error {
		index, err := describe(s, handle)
		if err != nil {
			return err
		}
		attrs := index.area.Attributes
		switch {
		case !attrs.Written:
			return unreadable(handle, "it was never written", nil)
		case attrs.ReadLocked:
			return unreadable(handle, "it is locked", nil)
		case attrs.NT != tpm2.TPMNTOrdinary:
			return unreadable(handle, "it is a counter, a bit field or the like", nil)
		}
		chunk, err := property(s, tpm2.TPMPTNVBufferMax)
		if err != nil {
			return err
		}
		if chunk == 0 {
			chunk = defaultNVRead
		}
		err = unreadable(handle, "it needs a policy or a password", nil)
		for _, auth := range index.readers(tryPassword) {
			content, err = index.read(s, auth, int(min(chunk, maxNVRead)))
			if !isAuthFailure(err) {
				break
			}
			err = unreadable(handle, "it needs a password", err)
		}
		return err
	})
	return content, err
}

func describe(s *session, handle tpm2.TPMHandle) (nvIndex, error) {
	rsp, err := s.execute(nvReadPublic(handle))
	if err != nil {
		return nvIndex{}, err
	}
	public, err := rsp.sized()
	if err != nil {
		return nvIndex{}, err
	}
	area, err := tpm2.Unmarshal[tpm2.TPMSNVPublic](public)
	if err != nil {
		return nvIndex{}, err
	}
	name, err := rsp.sized()
	return nvIndex{handle, tpm2.TPM2BName{Buffer: name}, area}, err
}

// named is the index in a command that somebody else authorizes.
func (n nvIndex) named() tpm2.AuthHandle { return tpm2.AuthHandle{Handle: n.handle, Name: n.name} }

// readers returns the authorizations worth trying, all with the empty password.
func (n nvIndex) readers(tryPassword bool) (auths []tpm2.AuthHandle) {
	attrs := n.area.Attributes
	self := tpm2.AuthHandle{Handle: n.handle, Name: n.name, Auth: tpm2.PasswordAuth(nil)}
	if attrs.AuthRead && attrs.NoDA {
		auths = append(auths, self)
	}
	if attrs.OwnerRead {
		auths = append(auths, owner())
	}
	if attrs.AuthRead && !attrs.NoDA && tryPassword {
		auths = append(auths, self)
	}
	return auths
}

func owner() tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}
}

func (n nvIndex) read(s *session, auth tpm2.AuthHandle, chunk int) ([]byte, error) {
	size := int(n.area.DataSize)
	content := make([]byte, 0, size)
	for len(content) < size {
		rsp, err := s.execute(nvRead(auth, n.named(), min(chunk, size-len(content)), len(content)))
		if err != nil {
			return nil, err
		}
		data, err := rsp.sized()
		if err != nil {
			return nil, err
		}
		if len(data) == 0 {
			return nil, errors.New("the TPM returned no data")
		}
		content = append(content, data...)
	}
	return content, nil
}

func isAuthFailure(err error) bool {
	for _, rc := range []tpm2.TPMRC{tpm2.TPMRCBadAuth, tpm2.TPMRCAuthFail, tpm2.TPMRCAuthUnavailable,
		tpm2.TPMRCAuthType, tpm2.TPMRCNVAuthorization, tpm2.TPMRCLockout} {
		if errors.Is(err, rc) {
			return true
		}
	}
	return false
}
