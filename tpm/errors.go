package tpm

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// Code is a stable identifier of a failure; operators match on it.
type Code string

// The codes of this package.
const (
	CodeUnreachable        Code = "tpm-unreachable"              // nothing answers at the configured path
	CodeTimeout            Code = "tpm-timeout"                  // the TPM took a command and did not answer in time
	CodeFailure            Code = "tpm-failure"                  // the TPM refused a command or answered nonsense
	CodePassword           Code = "tpm-password"                 // the TPM wants a password, or another one
	CodeLockout            Code = "tpm-lockout"                  // too many wrong passwords: the TPM uses no protected key for a while
	CodeFull               Code = "tpm-full"                     // no room for another persistent key or NV index
	CodeUnsupported        Code = "tpm-unsupported"              // the TPM does not make this kind of key
	CodeOccupied           Code = "tpm-occupied"                 // provisioning would overwrite a key or an NV index
	CodeKeyMissing         Code = "identity-key-missing"         // no key at the configured handle or path
	CodeKeyUnusable        Code = "identity-key-unusable"        // there is a key, but it cannot sign for this device
	CodeCertificateMissing Code = "identity-certificate-missing" // no certificate where one was expected
	CodeMismatch           Code = "identity-mismatch"            // the certificate is for another key
	CodeNoSerial           Code = "identity-no-serial"           // the certificate's subject carries no serial number
	CodeSerialMismatch     Code = "identity-serial-mismatch"     // the certificate carries another serial number than configured
	CodeChainInvalid       Code = "identity-chain-invalid"       // certificates to be installed are not the chain above the device's
	CodeCancelled          Code = "cancelled"                    // the caller gave up
)

// Error is what every exported function of this package returns on failure.
type Error struct {
	Code Code
	Msg  string // what happened and why, lowercase, without a final stop
	Fix  string // what a person can do about it
	Err  error  // the cause; may be nil
}

// Error returns the message followed by its cause.
func (e *Error) Error() string {
	if e.Err == nil {
		return e.Msg
	}
	return e.Msg + ": " + e.Err.Error()
}

// Reason returns the stable code.
func (e *Error) Reason() string { return string(e.Code) }

// Hint returns what a person can do about it.
func (e *Error) Hint() string { return e.Fix }

// KeyFailed reports whether a key could not be used at all, whatever it was asked to do. An error that could depend on what
// was to be decrypted is not one of these: who sent that must not learn of it.
func (e *Error) KeyFailed() bool {
	switch e.Code {
	case CodeUnreachable, CodeTimeout, CodeLockout, CodeKeyUnusable, CodeCancelled:
		return true
	}
	return false
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// errSilent is the cause of a TPM call's context when the TPM used up the time that one command may take.
var errSilent = errors.New("no answer")

// explain turns the failure of a TPM command into an *Error. doing completes the sentence "the TPM failed while …".
func explain(doing string, err error) error {
	var known *Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known):
		return err
	case errors.Is(err, context.Canceled):
		return &Error{Code: CodeCancelled, Msg: doing + " was cancelled", Err: err}
	case errors.Is(err, errSilent), errors.Is(err, context.DeadlineExceeded):
		return &Error{Code: CodeTimeout, Msg: "the TPM did not answer in time while " + doing, Err: err,
			Fix: "see whether another program holds the TPM; a TPM that stays silent needs a power cycle"}
	case errors.Is(err, tpm2.TPMRCFailure):
		return &Error{Code: CodeFailure, Msg: "the TPM is in failure mode", Err: err,
			Fix: "power-cycle the device; when that does not help the TPM is broken (a software TPM: check its state folder)"}
	case errors.Is(err, tpm2.TPMRCLockout):
		return &Error{Code: CodeLockout, Msg: "the TPM is locked because of too many wrong passwords", Err: err,
			Fix: endLockout}
	case errors.Is(err, tpm2.TPMRCAuthFail), errors.Is(err, tpm2.TPMRCBadAuth):
		return &Error{Code: CodePassword, Msg: "the TPM wants a password, or another one, for " + doing, Err: err,
			Fix: "leave the passwords of the identity key and its NV indices empty; in the factory give those of the hierarchies " +
				"(--owner-password-file, --endorsement-password-file)"}
	case errors.Is(err, tpm2.TPMRCHierarchy):
		return &Error{Code: CodeFailure, Msg: "a hierarchy of the TPM is disabled, which is needed for " + doing, Err: err,
			Fix: "enable the TPM's owner and endorsement hierarchies in the firmware, then restart"}
	case errors.Is(err, tpm2.TPMRCNVSpace):
		return &Error{Code: CodeFull, Msg: "the TPM has no room left for " + doing, Err: err,
			Fix: "remove keys and NV indices that nobody needs (tpm2_getcap handles-persistent, handles-nv-index), or keep the " +
				"certificates in files (identity.certificate)"}
	case errors.Is(err, tpm2.TPMRCObjectMemory), errors.Is(err, tpm2.TPMRCObjectHandles):
		return &Error{Code: CodeFailure, Msg: "the TPM has no room for another object while " + doing, Err: err,
			Fix: "use the resource-managed device /dev/tpmrm0, or flush what others left with tpm2_flushcontext -t"}
	case errors.Is(err, tpm2.TPMRCSessionMemory), errors.Is(err, tpm2.TPMRCSessionHandles):
		return &Error{Code: CodeFailure, Msg: "the TPM has no room for another session while " + doing, Err: err,
			Fix: "use the resource-managed device /dev/tpmrm0, or flush what others left with tpm2_flushcontext -l"}
	}
	return &Error{Code: CodeFailure, Msg: "the TPM failed while " + doing, Err: err,
		Fix: "look at the kernel log for the TPM; compare with tpm2_getcap properties-fixed"}
}

const endLockout = "wait for the lockout to expire, or clear it with tpm2_dictionarylockout -c; power cuts while a key is in use count as well"

func unusable(fix, format string, args ...any) *Error {
	return &Error{Code: CodeKeyUnusable, Msg: fmt.Sprintf(format, args...), Fix: fix}
}
