// Package reason gives every refusal and failure of the agent a stable code and a sentence a person can act on. Codes
// are part of the product's interface: they appear in `ztp status --json`, in the journal and in progress reports, and
// operators match on them, so they are never renamed. Packages that stand alone (artifacts, dhcp, tpm) carry their own
// error types; whatever has the two methods of Explained takes part.
package reason

import (
	"context"
	"errors"
)

// Code is a stable, lowercase, dash-separated identifier such as "tls-failure".
type Code string

// Codes that do not belong to one package. Every other code is declared by the package that produces it.
const (
	Internal  Code = "internal"  // a bug or an unforeseen system error; the message is all there is
	Cancelled Code = "cancelled" // the session was stopped from outside (SIGTERM, ztp disable)
	TimedOut  Code = "timed-out" // a bounded wait ran out
)

// Explained is implemented by errors that say more than their message: a stable code, and what to do about it.
// The hint may be empty.
type Explained interface {
	error
	Reason() string
	Hint() string
}

// Error is the explained error of the packages under pkg/.
type Error struct {
	Code Code
	Msg  string // what happened and why, lowercase, without a final stop
	Fix  string // what a person can do about it; may be empty
	Err  error  // the cause; may be nil
}

// Error returns the message followed by its cause.
func (e *Error) Error() string {
	switch {
	case e.Err == nil:
		return e.Msg
	case e.Msg == "":
		return e.Err.Error()
	}
	return e.Msg + ": " + e.Err.Error()
}

// Reason returns the stable code.
func (e *Error) Reason() string { return string(e.Code) }

// Hint returns what to do about it, or the hint of the cause when this error has none of its own.
func (e *Error) Hint() string {
	if e.Fix != "" || e.Err == nil {
		return e.Fix
	}
	var inner Explained
	if errors.As(e.Err, &inner) {
		return inner.Hint()
	}
	return ""
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Of returns the outermost code found in err's chain and its hint. Context errors and errors without a code have codes
// of their own, so the result is never empty for a non-nil error.
func Of(err error) (code Code, hint string) {
	var ex Explained
	switch {
	case err == nil:
		return "", ""
	case errors.As(err, &ex):
		return Code(ex.Reason()), ex.Hint()
	case errors.Is(err, context.DeadlineExceeded):
		return TimedOut, ""
	case errors.Is(err, context.Canceled):
		return Cancelled, ""
	}
	return Internal, ""
}
