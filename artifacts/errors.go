package artifacts

// Code is a stable identifier of a refusal; operators match on it.
type Code string

// Step names a step of validation, in the order of RFC 8572 §5.4.
type Step string

// Assertion is the assertion leaf of a voucher (RFC 8366 §5.3).
type Assertion string

// Error is a refusal of an artifact or a server certificate.
type Error struct {
	Code Code
	Step Step
	Msg  string // what was wrong, lowercase, without a final stop
	Fix  string // what a person can do about it
	Err  error
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

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
