package agent

import (
	"fmt"
	"slices"

	"github.com/xpu-sztp/ztp/pkg/reason"
)

// Reason codes of the loop itself.
const (
	CodeNoServer      reason.Code = "no-server"         // no source led to a bootstrap server
	CodeNameNotFound  reason.Code = "name-not-found"    // a server's host name has no address
	CodeRedirectLoop  reason.Code = "redirect-loop"     // a redirect led back to where it came from
	CodeRedirectDepth reason.Code = "redirect-too-deep" // more than maxRedirects redirects in a row
	CodeBadAddress    reason.Code = "address-refused"   // a list from the network names an address that cannot be a server's
	CodeSearchTooLong reason.Code = "search-too-long"   // one server led to too many others, or a search took too long
)

// Stage is how far a lead got before it failed. The furthest failure of a round is the one worth showing first.
type Stage int

// The stages, in order.
const (
	StageDiscover Stage = iota // looking for a lead
	StageResolve               // finding the addresses of a server
	StageConnect               // TCP, TLS, authentication
	StageObtain                // asking for bootstrapping data
	StageValidate              // judging it
	StageOnboard               // executing it
)

// Failure is one thing that went wrong in a round.
type Failure struct {
	Stage Stage
	Err   error
}

// RoundError says why a round over all sources did not bootstrap the device. It is explained by its furthest failure.
type RoundError struct {
	Failures []Failure // in the order they happened; never empty
	Wish     Wish      // what a server asked for; zero when none did
}

// Furthest returns the first among the failures of the furthest stage.
func (e *RoundError) Furthest() Failure {
	return slices.MaxFunc(e.Failures, func(a, b Failure) int { return int(a.Stage - b.Stage) })
}

// Error names the furthest failure and counts the others.
func (e *RoundError) Error() string {
	msg := e.Furthest().Err.Error()
	switch n := len(e.Failures) - 1; {
	case n == 1:
		msg += " (and 1 more failure)"
	case n > 1:
		msg += fmt.Sprintf(" (and %d more failures)", n)
	}
	return msg
}

// Reason returns the code of the furthest failure.
func (e *RoundError) Reason() string { code, _ := reason.Of(e.Furthest().Err); return string(code) }

// Hint returns the hint of the furthest failure.
func (e *RoundError) Hint() string { _, hint := reason.Of(e.Furthest().Err); return hint }

// Unwrap returns all failures.
func (e *RoundError) Unwrap() []error {
	errs := make([]error, len(e.Failures))
	for i, f := range e.Failures {
		errs[i] = f.Err
	}
	return errs
}

// serverError names the server that a failure is about, which the failure itself does not know.
type serverError struct {
	url string
	err error
}

func (e *serverError) Error() string { return e.url + ": " + e.err.Error() }
func (e *serverError) Unwrap() error { return e.err }

// finalError ends the processing of a lead at once instead of moving on to the next server: RFC 8572 §5.3 leaves to the
// boot sequence after onboarding information was met, whether it was executed or refused.
type finalError struct{ error }

func (e finalError) Unwrap() error { return e.error }
