package source

import (
	"cmp"
	"context"
	"errors"
	"strings"

	"github.com/xpu-sztp/ztp/dhcp"
)

// Uplink is a network that one family of one interface gives, while it is held for finders to look at.
type Uplink struct {
	Interface string // empty for the machine's own network
	IPv6      bool
	Network   Network
	Lease     *dhcp.Lease // what DHCP said; nil when it said nothing
	NoLease   error       // why Lease is nil; nil on the machine's own network
	Domains   []string    // where the network's own names are, the closest first
}

// Finder looks for leads on one uplink after another.
type Finder interface {
	// Name is the configuration's name for the kind of place.
	Name() string
	// Find calls visit with each lead on u, in order, until one succeeds, and then returns nil. It returns errors of visit as
	// they are; ErrNothing when there is no such place on u; otherwise an explained error that says why there is no lead.
	Find(ctx context.Context, u *Uplink, visit func(Lead) error) error
}

// ErrNothing is returned by finders that have no place to look on an uplink.
var ErrNothing = errors.New("nothing to look at")

// FindersError says what each finder of Networks came to.
type FindersError struct{ Findings []Finding }

// Finding is what one finder came to on all uplinks together.
type Finding struct {
	Finder string
	Err    error
}

// Error tells what each finder came to; what is true of several finders, such as that there is no network, only of the first.
func (e *FindersError) Error() string {
	var told []string
	known := map[string]bool{}
	for _, f := range e.Findings {
		if f.Err == errNotAsked && len(e.Findings) > 1 {
			continue
		}
		parts := []string{f.Err.Error()}
		if in := (*inVain)(nil); errors.As(f.Err, &in) {
			parts = in.parts
		}
		var fresh []string
		for _, part := range parts {
			if !known[part] {
				fresh = append(fresh, part)
			}
			known[part] = true
		}
		told = append(told, f.Finder+": "+cmp.Or(strings.Join(fresh, "; "), "likewise"))
	}
	return "no bootstrap server was found by " + strings.Join(told, "; by ")
}

// Reason returns the code that tells most about all of them.
func (e *FindersError) Reason() string { code, _ := mostTelling(e.Unwrap()); return string(code) }

// Hint returns what to do about that.
func (e *FindersError) Hint() string { _, fix := mostTelling(e.Unwrap()); return fix }

// Unwrap returns the errors of all finders.
func (e *FindersError) Unwrap() []error {
	var errs []error
	for _, f := range e.Findings {
		errs = append(errs, f.Err)
	}
	return errs
}
