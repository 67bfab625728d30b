package source

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/dhcp"
	"github.com/xpu-sztp/ztp/pkg/link"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// family is the IP version of an attempt, in the words of the status.
type family string

const (
	ipv4 family = "ipv4"
	ipv6 family = "ipv6"
)

// Waits for what routers say, which may be nothing.
const (
	routerWait      = 2500 * time.Millisecond
	routeWait       = 3 * time.Second
	unannouncedWait = 10 * time.Second // for DHCPv6 where routers say that there is none
)

// attempt is one family on one interface in one round.
type attempt struct {
	*round
	link   link.Link
	family family
	client dhcp.Client
	undo   []func() // in order of what was done
}

// run gets on the network, visits what that led to, and leaves nothing behind. It reports whether there was a visit; then
// err is the visitor's. plugged ends with the interface's carrier and concerns only what comes before the visit: a visit
// may outlast an interruption, which its own configuration of the network can well cause.
func (a *attempt) run(ctx, plugged context.Context) (visited bool, err error) {
	defer a.cleanUp()
	a.show(func(i *state.Interface) { i.State, i.Managed, i.Detail = "acquiring", a.link.Managed, "" })
	lease, applied, err := a.connect(plugged)
	if err != nil {
		if plugged.Err() != nil {
			err = ended(ctx)
		}
		code, _ := reason.Of(err)
		a.Logger.Info("no way to a bootstrap server here", "interface", a.link.Name, "family", string(a.family), "reason", string(code))
		a.show(func(i *state.Interface) { i.State, i.Detail = "unbound", err.Error() })
		return false, err
	}
	a.showLease(lease, applied)
	lead, err := a.lead(lease)
	if err != nil {
		a.show(func(i *state.Interface) { i.Detail = err.Error() })
		return false, err
	}
	stop := a.keep(ctx, lease, applied)
	defer stop() // the client must be idle when the lease is released
	a.visiting.Lock()
	defer a.visiting.Unlock()
	if a.won {
		return false, errOver
	}
	if plugged.Err() != nil {
		return false, ended(ctx)
	}
	err = a.visit(ctx, lead)
	a.won = err == nil
	return true, err
}

// ended is why an attempt is over before its visit: with the round, whose context is ctx, or with the interface.
func ended(ctx context.Context) error {
	if ctx.Err() != nil {
		return errOver
	}
	return errEnded
}

// keep extends the lease in the background. A lease that is lost takes its address along; what that means for the visit,
// its connections will tell.
func (a *attempt) keep(ctx context.Context, lease *dhcp.Lease, applied *link.Lease) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		err := dhcp.Keep(ctx, a.client, lease, func(next *dhcp.Lease) error {
			*lease = *next
			a.show(func(i *state.Interface) { i.LeaseEnds = next.Ends() })
			return applied.Extend(next)
		})
		if err != nil {
			a.Logger.Warn("the lease is lost", "interface", a.link.Name, "error", err)
			a.show(func(i *state.Interface) { i.State, i.Detail, i.Addresses = "unbound", err.Error(), nil })
			if err := applied.Remove(); err != nil {
				a.Logger.Warn("the lease could not be removed from the interface", "interface", a.link.Name, "error", err)
			}
		}
	}()
	return func() { cancel(); <-kept }
}

// connect gets a lease or, where somebody else configures the interface, what DHCP has to say besides.
func (a *attempt) connect(ctx context.Context) (*dhcp.Lease, *link.Lease, error) {
	ctx, cancel := context.WithTimeout(ctx, a.Timeout)
	defer cancel()
	if a.family == ipv4 {
		return a.connect4(ctx)
	}
	return a.connect6(ctx)
}

func (a *attempt) connect4(ctx context.Context) (*dhcp.Lease, *link.Lease, error) {
	duid := dhcp.DUID(a.Serial, a.link.MAC)
	a.client = &dhcp.Client4{MAC: a.link.MAC, MTU: a.link.MTU, ClientID: dhcp.ClientID(duid, dhcp.IAID(a.link.Name)),
		Open: dhcp.SocketsV4(a.link.Interface()), Logger: a.Logger.With("interface", a.link.Name)}
	if a.link.Managed != "" {
		address, err := a.foreignAddress(ctx)
		if err != nil {
			return nil, nil, err
		}
		return a.inform(ctx, address)
	}
	a.undo = append(a.undo, a.System.PrepareIPv4(a.link))
	return a.acquire(ctx)
}

func (a *attempt) connect6(ctx context.Context) (*dhcp.Lease, *link.Lease, error) {
	if link.IPv6Disabled(a.link) {
		return nil, nil, &reason.Error{Code: NoAddress, Msg: "IPv6 is disabled on the interface"}
	}
	if a.link.Managed == "" {
		a.undo = append(a.undo, a.System.PrepareIPv6(a.link))
	}
	local, err := a.linkLocal(ctx)
	if err != nil {
		return nil, nil, err
	}
	a.client = &dhcp.Client6{DUID: dhcp.DUID(a.Serial, a.link.MAC), IAID: dhcp.IAID(a.link.Name),
		Open: dhcp.SocketV6(a.link.Interface(), local), Logger: a.Logger.With("interface", a.link.Name)}
	if a.link.Managed != "" {
		return a.inform(ctx, netip.Addr{})
	}
	router := a.listen(ctx)
	if !router.Heard || router.Managed {
		lease, applied, err := a.acquire(ctx)
		if err == nil {
			a.awaitRoute(ctx, lease.Address.IsValid())
		}
		return lease, applied, err
	}
	if !router.Other {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, unannouncedWait)
		defer cancel()
	}
	lease, applied, err := a.inform(ctx, netip.Addr{})
	if err != nil && a.wellKnown == nil {
		return nil, nil, err
	}
	if err != nil { // the router's word is enough to reach servers that are known already
		lease, applied = &dhcp.Lease{}, &link.Lease{}
	}
	a.awaitRoute(ctx, false)
	return lease, applied, nil
}

// acquire gets a lease and applies it. An address that another host uses is declined, once.
func (a *attempt) acquire(ctx context.Context) (*dhcp.Lease, *link.Lease, error) {
	for tries := 1; ; tries++ {
		lease, err := a.client.Acquire(ctx)
		if err != nil {
			return nil, nil, err
		}
		applied, err := a.System.Apply(ctx, a.link, lease)
		if err == nil {
			a.undo = append(a.undo, func() { a.giveBack(lease, applied) })
			return lease, applied, nil
		}
		client6, v6 := a.client.(*dhcp.Client6)
		if !v6 || !errors.Is(err, link.ErrDuplicate) {
			_ = a.client.Release(lease) // best effort; the lease was never used
			return nil, nil, &reason.Error{Code: reason.Code(dhcp.NoLease), Msg: "cannot apply the lease", Err: err}
		}
		_ = client6.Decline(lease)
		if tries == 2 {
			return nil, nil, &reason.Error{Code: reason.Code(dhcp.NoLease), Msg: "the DHCPv6 server leases addresses that are in use", Err: err}
		}
	}
}

// giveBack releases the lease while the interface still has the address, then takes that away.
func (a *attempt) giveBack(lease *dhcp.Lease, applied *link.Lease) {
	routes := applied.Routes()
	if err := a.client.Release(lease); err != nil {
		a.Logger.Debug("the lease could not be released", "interface", a.link.Name, "error", err)
	}
	if err := applied.Remove(); err != nil {
		a.Logger.Warn("the lease could not be removed from the interface", "interface", a.link.Name, "error", err)
	}
	a.show(func(i *state.Interface) {
		i.State, i.Addresses, i.RoutesRemoved, i.LeaseEnds = "unbound", nil, routes, time.Time{}
		if i.Detail == "" {
			i.Detail = "the lease was released"
		}
	})
}

func (a *attempt) inform(ctx context.Context, address netip.Addr) (*dhcp.Lease, *link.Lease, error) {
	lease, err := a.client.Inform(ctx, address)
	return lease, &link.Lease{}, err
}

// foreignAddress waits for the IPv4 address that somebody else gives the interface.
func (a *attempt) foreignAddress(ctx context.Context) (found netip.Addr, err error) {
	err = a.System.AwaitLink(ctx, a.link.Index, func(l *link.Link) bool {
		if l == nil || len(l.Global(false)) == 0 {
			return false
		}
		found = l.Global(false)[0]
		return true
	})
	if err != nil {
		return found, &reason.Error{Code: NoAddress, Msg: fmt.Sprintf("%s manages the interface and has not given it an IPv4 address", a.link.Managed),
			Fix: "look at its configuration, or let the agent have the interface"}
	}
	return found, nil
}

func (a *attempt) linkLocal(ctx context.Context) (found netip.Addr, err error) {
	err = a.System.AwaitLink(ctx, a.link.Index, func(l *link.Link) bool {
		if l != nil {
			found = l.LinkLocal()
		}
		return found.IsValid()
	})
	if err != nil {
		return found, &reason.Error{Code: NoAddress, Msg: "the interface has no link-local IPv6 address",
			Fix: "look whether another host uses the same hardware address"}
	}
	return found, nil
}

// listen returns what routers advertise, asking them if need be. Silence is an answer too.
func (a *attempt) listen(ctx context.Context) (heard link.Router) {
	know := func(l *link.Link) bool {
		if l != nil {
			heard = l.Router
		}
		return heard.Heard
	}
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
	_ = a.System.AwaitLink(wait, a.link.Index, know)
	return heard
}

// awaitRoute waits a moment for an address, unless there is one, and for the default route that routers advertise. A
// network without either may still reach a server on the link.
func (a *attempt) awaitRoute(ctx context.Context, addressed bool) {
	ctx, cancel := context.WithTimeout(ctx, routeWait)
	defer cancel()
	if !addressed {
		_ = a.System.AwaitLink(ctx, a.link.Index, func(l *link.Link) bool { return l == nil || len(l.Global(true)) > 0 })
	}
	if _, err := a.System.AwaitDefaultRoute(ctx, a.link); err != nil {
		a.Logger.Info("no IPv6 default route was advertised", "interface", a.link.Name)
	}
}

// lead makes what the visitor gets of a lease.
func (a *attempt) lead(lease *dhcp.Lease) (Lead, error) {
	name, prefer := "dhcp4", "ip4"
	if a.family == ipv6 {
		name, prefer = "dhcp6", "ip6"
	}
	l := Lead{Source: name, Interface: a.link.Name,
		Network: &link.Network{Interface: a.link.Name, DNS: lease.DNS, Domains: lease.Domains, Prefer: prefer}}
	for _, w := range lease.Warnings {
		l.Warnings = append(l.Warnings, fmt.Sprintf("%s %s: %s", a.link.Name, name, w))
	}
	if a.wellKnown != nil {
		l.Source, l.Servers, l.Trusted = wellKnownName, a.wellKnown, true
		return l, nil
	}
	for _, s := range lease.Servers {
		l.Servers = append(l.Servers, artifacts.BootstrapServer{Address: s.Host, Port: s.Port})
	}
	switch {
	case len(l.Servers) > 0:
		return l, nil
	case lease.OptionError != nil:
		return l, lease.OptionError
	}
	option := fmt.Sprintf("DHCPv4 option %d", dhcp.OptionV4Redirect)
	if a.family == ipv6 {
		option = fmt.Sprintf("DHCPv6 option %d", dhcp.OptionV6Redirect)
	}
	return l, &reason.Error{Code: NoOption, Msg: fmt.Sprintf("the DHCP server %v did not send %s", lease.Server, option),
		Fix: "configure the option on the DHCP server; `ztp-lab dhcp-option URL` prints it for common servers"}
}

func (a *attempt) cleanUp() {
	for i := len(a.undo) - 1; i >= 0; i-- {
		a.undo[i]()
	}
}
