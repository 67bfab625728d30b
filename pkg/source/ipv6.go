package source

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/xpu-sztp/ztp/dhcp"
	"github.com/xpu-sztp/ztp/pkg/link"
	"github.com/xpu-sztp/ztp/pkg/reason"
)

// Waits for what routers and DHCPv6 servers say, which may be nothing. The finders look at what there is without them when they
// are over, and once more when somebody has spoken up.
const (
	routerWait  = 2500 * time.Millisecond
	routeWait   = 3 * time.Second
	silentWait  = 10 * time.Second // for DHCPv6
	stopgapWait = 4 * time.Second  // for DHCPv6 where there are addresses without it
)

// maxTurns bounds how often routers can make one attempt begin anew by saying something else about DHCPv6.
const maxTurns = 4

// way is how an interface gets at what DHCPv6 has to say; the lesser the more.
type way int

const (
	unasked way = iota
	soliciting
	informing
	without
)

// wayOf obeys the M and O flags (RFC 4861 §4.2). Where no router speaks there may still be a server.
func wayOf(r link.Router) way {
	switch {
	case !r.Heard, r.Managed:
		return soliciting
	case r.Other:
		return informing
	}
	return without
}

// promising reports whether DHCPv6 may still answer: it was asked in vain, or routers say by now, or within a moment, that there is
// more to ask. Whoever says first that there is not must not speak for the others.
func (a *attempt) promising(ctx context.Context) bool {
	if a.unanswered || a.way <= soliciting {
		return a.unanswered
	}
	ctx, cancel := context.WithTimeout(ctx, routerWait)
	defer cancel()
	return a.System.AwaitLink(ctx, a.link.Index, func(l *link.Link) bool { return l != nil && wayOf(l.Router) < a.way }) == nil
}

// Why a conversation about DHCPv6 ends early.
var (
	errOtherFlags = errors.New("routers say something else by now")
	errNoDHCPv6   = &reason.Error{Code: dhcp.NoAnswer, Msg: "routers advertise that there is no DHCPv6 here",
		Fix: "let routers set the M or the O flag when a DHCPv6 server is to name the bootstrap servers, or name a domain with records"}
)

func (a *attempt) connect6(ctx context.Context) (*dhcp.Lease, *link.Lease, error) {
	if link.IPv6Disabled(a.link) {
		return nil, nil, &reason.Error{Code: NoAddress, Msg: "IPv6 is disabled on the interface",
			Fix: "if it is to be used, look at net.ipv6.conf.INTERFACE.disable_ipv6"}
	}
	if a.link.Managed == "" {
		a.undo = append(a.undo, a.System.PrepareIPv6(a.link))
	}
	local, err := a.linkLocal(ctx)
	if err != nil {
		return nil, nil, err
	}
	a.client = &dhcp.Client6{DUID: dhcp.DUID(a.Serial, a.link.MAC), IAID: dhcp.IAID(a.link.Name),
		Open: dhcp.SocketV6(a.link.Interface(), local), Servers: a.dhcpServers(a.link.Index),
		Logger: a.Logger.With("interface", a.link.Name)}
	if a.link.Managed != "" {
		return a.consult(ctx, netip.Addr{})
	}
	a.listen(ctx)
	for turn := 1; ; turn++ {
		lease, applied, err := a.dhcp6(ctx, local, turn < maxTurns)
		if errors.Is(err, errOtherFlags) {
			continue
		}
		if err == nil || errors.As(err, new(*leaseless)) {
			a.awaitRoute(ctx, err == nil && lease.Address.IsValid())
		}
		return lease, applied, err
	}
}

// dhcp6 asks DHCPv6 what routers say that there is to ask. Its error is errOtherFlags when they say something else meanwhile, if
// that may interrupt it.
func (a *attempt) dhcp6(ctx context.Context, local netip.Addr, interruptible bool) (lease *dhcp.Lease, applied *link.Lease, err error) {
	a.way = wayOf(a.now().Router)
	a.Logger.Debug("IPv6 routers", "interface", a.link.Name, "heard", a.now().Router.Heard, "managed", a.now().Router.Managed,
		"other", a.now().Router.Other)
	if a.way == without {
		a.unanswered = false
		return nil, nil, &leaseless{errNoDHCPv6}
	}
	asking, stop := a.until(ctx, func(l *link.Link) error {
		switch {
		case interruptible && wayOf(l.Router) != a.way:
			return errOtherFlags
		case isDuplicate(l, local):
			return duplicateLinkLocal(local)
		}
		return nil
	})
	defer stop()
	asking, cancel := context.WithTimeout(asking, a.dhcp6Wait())
	defer cancel()
	if a.way == soliciting {
		if lease, applied, err = a.acquire(asking); err != nil {
			err = &leaseless{err}
		}
	} else {
		lease, applied, err = a.inform(asking, netip.Addr{})
	}
	var other *reason.Error
	if cause := context.Cause(asking); err != nil && (errors.Is(cause, errOtherFlags) || errors.As(cause, &other) && other.Code == DuplicateAddress) {
		return nil, nil, cause
	}
	if a.unanswered = err != nil; errors.Is(err, context.Canceled) && ctx.Err() != nil {
		err = &leaseless{context.Cause(ctx)} // patience is over, or the interface lost
	}
	return lease, applied, err
}

func (a *attempt) dhcp6Wait() time.Duration {
	now := a.now()
	switch {
	case a.patient:
		return a.Timeout
	case a.way == informing, len(now.Global(true)) > 0:
		return stopgapWait
	}
	return silentWait
}

// until returns a context that ends when wrong finds fault with the interface, with that as its cause. stop must be called.
func (a *attempt) until(ctx context.Context, wrong func(*link.Link) error) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		var fault error
		_ = a.System.AwaitLink(ctx, a.link.Index, func(l *link.Link) bool {
			if l != nil {
				fault = wrong(l)
			}
			return fault != nil
		})
		if fault != nil {
			cancel(fault)
		}
	}()
	return ctx, func() { cancel(nil); <-done }
}

// unique ends looking when duplicate address detection, which went on while the address was used already, finds another host that
// has the leased address, or all addresses where none was leased. One that was found but not told yet ends it with stop.
func (a *attempt) unique(looking context.Context, end context.CancelCauseFunc, u *Uplink) (stop func()) {
	ctx, cancel := context.WithCancel(looking)
	done := make(chan struct{})
	go func() {
		defer close(done)
		var leased netip.Addr
		if u.Lease != nil {
			leased = u.Lease.Address.Addr()
		}
		if err := a.System.AwaitUnique(ctx, a.link, leased); errors.Is(err, link.ErrDuplicate) {
			what := "the addresses of this interface"
			if leased.IsValid() {
				what = fmt.Sprintf("%v, which the DHCPv6 server leased", leased)
			}
			end(&reason.Error{Code: DuplicateAddress, Msg: "another host uses " + what, Err: err,
				Fix: "look in the neighbour tables of routers who has the address"})
		}
	}()
	return func() { cancel(); <-done }
}

func (a *attempt) now() link.Link { return a.System.Now(a.link) }

// linkLocal waits for the link-local address. The kernel says soon when another host has it.
func (a *attempt) linkLocal(ctx context.Context) (found netip.Addr, err error) {
	var duplicate netip.Addr
	err = a.System.AwaitLink(ctx, a.link.Index, func(l *link.Link) bool {
		if l == nil {
			return false
		}
		found = l.LinkLocal()
		for _, address := range l.Addresses {
			if address.Duplicate && address.Addr().IsLinkLocalUnicast() {
				duplicate = address.Addr()
			}
		}
		return found.IsValid() || duplicate.IsValid()
	})
	switch {
	case err != nil:
		return found, &reason.Error{Code: NoAddress, Msg: "the interface has no link-local IPv6 address",
			Fix: "look whether IPv6 is configured to make none (addr_gen_mode)"}
	case !found.IsValid():
		return found, duplicateLinkLocal(duplicate)
	}
	return found, nil
}

func isDuplicate(l *link.Link, address netip.Addr) bool {
	for _, a := range l.Addresses {
		if a.Addr() == address {
			return a.Duplicate
		}
	}
	return false
}

func duplicateLinkLocal(address netip.Addr) error {
	return &reason.Error{Code: DuplicateAddress, Msg: fmt.Sprintf("another host uses the link-local address %v", address),
		Fix: "look whether another host has the same hardware address, or claims every address"}
}

// listen waits for what routers advertise, asking them if need be. Silence is an answer too. What the kernel remembers suffices
// where DHCPv6 will tell the name servers.
func (a *attempt) listen(ctx context.Context) {
	solicit, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := a.System.SolicitRouters(solicit, a.link); err != nil && solicit.Err() == nil {
			a.Logger.Debug("cannot solicit routers", "interface", a.link.Name, "error", err)
		}
	}()
	a.undo = append(a.undo, func() { cancel(); <-done }) // it goes on while there is no router
	wait, stop := context.WithTimeout(ctx, routerWait)
	defer stop()
	_ = a.System.AwaitLink(wait, a.link.Index, func(l *link.Link) bool {
		return l != nil && (l.Router.Recent || l.Router.Heard && wayOf(l.Router) != without)
	})
}

// awaitRoute waits a moment for an address, unless there is one, and for the default route that routers advertise. A
// network without either may still reach a server on the link.
func (a *attempt) awaitRoute(ctx context.Context, addressed bool) {
	if !a.now().Router.Heard {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, routeWait)
	defer cancel()
	if !addressed {
		_ = a.System.AwaitLink(ctx, a.link.Index, func(l *link.Link) bool { return l == nil || len(l.Global(true)) > 0 })
	}
	if _, err := a.System.AwaitDefaultRoute(ctx, a.link); err != nil {
		a.Logger.Info("no IPv6 default route was advertised", "interface", a.link.Name)
	}
}
