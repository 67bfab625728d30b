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
	rsp, err := tpm2.NVReadPublic{NVIndex: handle}.Execute(s)
	if err != nil {
		return nvIndex{}, err
	}
	area, err := rsp.NVPublic.Contents()
	return nvIndex{handle, rsp.NVName, area}, err
}

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
		rsp, err := tpm2.NVRead{
			AuthHandle: auth,
			NVIndex:    tpm2.NamedHandle{Handle: n.handle, Name: n.name},
			Size:       uint16(min(chunk, size-len(content))),
			Offset:     uint16(len(content)),
		}.Execute(s)
		if err != nil {
			return nil, err
		}
		if len(rsp.Data.Buffer) == 0 {
			return nil, errors.New("the TPM returned no data")
		}
		content = append(content, rsp.Data.Buffer...)
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

// handles lists the handles between first and last that exist, at most limit of them, in ascending order.
func handles(s *session, first, last tpm2.TPMHandle, limit int) (found []tpm2.TPMHandle, err error) {
	for len(found) < limit {
		rsp, err := tpm2.GetCapability{
			Capability: tpm2.TPMCapHandles, Property: uint32(first), PropertyCount: uint32(limit - len(found)),
		}.Execute(s)
		if err != nil {
			return nil, err
		}
		page, err := rsp.CapabilityData.Data.Handles()
		if err != nil {
			return nil, err
		}
		for _, h := range page.Handle {
			if h > last || h < first {
				return found, nil
			}
			found = append(found, h)
			first = h + 1
		}
		if len(page.Handle) == 0 || !rsp.MoreData {
			return found, nil
		}
	}
	return found[:limit], nil
}

// property returns one of the TPM's properties, 0 when it does not have it.
func property(s *session, p tpm2.TPMPT) (uint32, error) {
	rsp, err := tpm2.GetCapability{
		Capability: tpm2.TPMCapTPMProperties, Property: uint32(p), PropertyCount: 1,
	}.Execute(s)
	if err != nil {
		return 0, err
	}
	props, err := rsp.CapabilityData.Data.TPMProperties()
	if err != nil {
		return 0, err
	}
	for _, tagged := range props.TPMProperty {
		if tagged.Property == p {
			return tagged.Value, nil
		}
	}
	return 0, nil
}

// locked tells whether the TPM says that it is in lockout (TPM 2.0 Part 1, 19.8): then it uses no key that is protected
// against guessing its password, which IDevID keys are although they have none.
func (c *conn) locked(ctx context.Context) bool {
	const inLockout = 1 << 9 // TPMA_PERMANENT, Part 2, 8.6
	var permanent uint32
	err := c.do(ctx, commandTimeout, "asking for its lockout", func(s *session) (err error) {
		permanent, err = property(s, tpm2.TPMPTPermanent)
		return err
	})
	return err == nil && permanent&inLockout != 0
}

// algorithms lists what the TPM implements.
func algorithms(s *session) (found []tpm2.TPMAlgID, err error) {
	for next := uint32(0); next <= 0xFFFF; {
		rsp, err := tpm2.GetCapability{Capability: tpm2.TPMCapAlgs, Property: next, PropertyCount: 256}.Execute(s)
		if err != nil {
			return nil, err
		}
		page, err := rsp.CapabilityData.Data.Algorithms()
		if err != nil {
			return nil, err
		}
		for _, a := range page.AlgProperties {
			found = append(found, a.Alg)
			next = max(next, uint32(a.Alg)+1)
		}
		if len(page.AlgProperties) == 0 || !rsp.MoreData {
			break
		}
	}
	return found, nil
}
