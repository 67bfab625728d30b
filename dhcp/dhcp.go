// Package dhcp asks DHCPv4 and DHCPv6 servers on one interface for an address, the way to the network, and the bootstrap
// servers of RFC 8572 §8: option 143 of DHCPv4 and option 136 of DHCPv6. It reads and writes packets only; applying a lease
// to the system is the caller's work. Everything received is untrusted and bounded, and Server values are never more than
// hints about whom to ask. Message formats are those of github.com/insomniacslk/dhcp; the exchanges (RFC 2131, RFC 8415),
// option overloading (RFC 3396) and the bootstrap server list are here.
package dhcp

import (
	"context"
	"net/netip"
	"time"
)

// The options of RFC 8572 §8.
const (
	OptionV4Redirect = 143 // OPTION_V4_SZTP_REDIRECT
	OptionV6Redirect = 136 // OPTION_V6_SZTP_REDIRECT
)

// Lease is what a DHCP server gave. It holds for both families.
type Lease struct {
	// Address is the leased address with the length of its on-link prefix; DHCPv6 addresses have /128, because only router
	// advertisements say what is on the link (RFC 5942). It is invalid when only configuration was asked for.
	Address netip.Prefix
	Routes  []Route      // DHCPv4 only, in the server's order
	DNS     []netip.Addr // in the order to ask
	Domains []string     // search domains
	Server  netip.Addr   // the server, for people and, in DHCPv4, for renewal

	Obtained  time.Time
	Renew     time.Duration // T1, from Obtained
	Rebind    time.Duration // T2, from Obtained
	Preferred time.Duration // DHCPv6: how long new connections may use Address; 0 is as long as Valid
	Valid     time.Duration // 0 means for ever

	Servers     []Server // what the bootstrap server option held, in order; nil without the option
	OptionError error    // an *Error that says why the option, which was there, holds no usable server
	Warnings    []string // deviations that were tolerated or ignored, for people

	serverID []byte // DHCPv6: the server's DUID
}

// Route is a destination and the router to it. An invalid Gateway means that the destination is on the link.
type Route struct {
	Destination netip.Prefix
	Gateway     netip.Addr
}

// Ends returns when the lease runs out, in UTC, or the zero time when it does not.
func (l *Lease) Ends() time.Time {
	if l.Valid == 0 || !l.Address.IsValid() {
		return time.Time{}
	}
	return l.Obtained.Add(l.Valid).UTC()
}

// Client is one family's DHCP client on one interface: *Client4 or *Client6. Errors are *Error unless ctx ended for another
// reason than its deadline.
type Client interface {
	// Acquire asks for a lease until there is one or ctx ends.
	Acquire(ctx context.Context) (*Lease, error)
	// Inform asks for configuration without an address, for an interface that somebody else configures. DHCPv4 needs the
	// address that the interface has.
	Inform(ctx context.Context, address netip.Addr) (*Lease, error)
	// Extend asks once the lease's T1 has come for more time and returns the new lease; it gives up when the lease runs out.
	Extend(ctx context.Context, lease *Lease) (*Lease, error)
	// Release gives the lease back. It sends one message and waits for nothing (DHCPv4), or a moment for the answer (DHCPv6).
	Release(lease *Lease) error
}

// Keep extends lease in time until ctx ends, which is no error, or the lease is lost, which is. changed is called with
// every new lease, before the old one is out.
func Keep(ctx context.Context, c Client, lease *Lease, changed func(*Lease) error) error {
	for {
		if lease.Valid == 0 || !lease.Address.IsValid() {
			<-ctx.Done()
			return nil
		}
		// Machines that got their leases together must not all renew together (RFC 2131 §4.4.5).
		late := randomly(nil, max(1, (lease.Rebind-lease.Renew)/10))
		timer := time.NewTimer(time.Until(lease.Obtained.Add(lease.Renew + late)))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		next, err := c.Extend(ctx, lease)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if err := changed(next); err != nil {
			return err
		}
		lease = next
	}
}

// Reason codes of this package.
const (
	NoAnswer     = "no-dhcp-answer"                // no DHCP server answered
	NoLease      = "no-lease"                      // a server answered but gave no usable lease, or took it back
	BadOption    = "bad-bootstrap-server-option"   // the bootstrap server option holds nothing usable
	SocketFailed = "dhcp-socket"                   // the system refused the socket
	NotEncodable = "bootstrap-server-not-a-server" // EncodeServerList was given something that is no bootstrap server URL
)

// Error is an explained error: a stable code, a message and what to do about it.
type Error struct {
	Code string
	Msg  string
	Fix  string
	Err  error // may be nil
}

// Error returns the message followed by its cause.
func (e *Error) Error() string {
	if e.Err == nil {
		return e.Msg
	}
	return e.Msg + ": " + e.Err.Error()
}

// Reason returns the stable code.
func (e *Error) Reason() string { return e.Code }

// Hint returns what to do about it.
func (e *Error) Hint() string { return e.Fix }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
