package source

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

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

// attempt is one family on one interface in one round.
type attempt struct {
	*round
	link   link.Link
	family family // empty for the machine's own network
	client dhcp.Client
	given  *link.Given // what the manager of the interface has for it; nil where nobody else manages it
	told   bool        // its own lease told the bootstrap servers
	held   *holding    // of the lease, if there is one
	undo   []func()    // in order of what was done

	// Of IPv6 only.
	way        way  // how DHCPv6 was asked last
	unanswered bool // in vain
	patient    bool // there is nothing else to do than to wait for it
	duplicate  bool // another host has the leased address, which is to be declined
}

// run gets on the network, has the finders look there, and leaves nothing behind. plugged ends with the interface's carrier
// and concerns only what comes before a visit: a visit may outlast an interruption, which its own configuration of the
// network can well cause. joining, which ends with it or sooner, is for coming to a network. Where neither routers nor DHCPv6 servers
// speak up at once, the finders look at what there is without them, and again when they have.
func (a *attempt) run(ctx, plugged, joining context.Context) result {
	defer a.cleanUp()
	a.begin()
	connecting, cancel := context.WithTimeout(joining, a.Timeout)
	defer cancel()
	first := a.once(ctx, plugged, connecting)
	if a.duplicate && !first.won {
		a.cleanUp() // declines the address; the server then has another
		first = a.once(ctx, plugged, connecting)
	}
	if first.won || connecting.Err() != nil || !a.promising(connecting) {
		return first
	}
	a.cleanUp()
	a.patient = true
	a.show(func(i *state.Interface) { i.State, i.Detail, i.Reason = "acquiring", "", "" })
	second := a.once(ctx, plugged, connecting)
	second.findings = append(first.findings, second.findings...)
	return second
}

func (a *attempt) once(ctx, plugged, connecting context.Context) result {
	uplink, applied, err := a.connect(connecting)
	if err != nil {
		if cause := context.Cause(connecting); plugged.Err() != nil || errors.Is(cause, errPatience) {
			err = ended(ctx, connecting)
		}
		return a.disconnected(err)
	}
	if uplink.Lease != nil {
		a.showLease(uplink.Lease, applied)
	}
	if a.held != nil {
		stop := a.keep(ctx)
		defer stop() // the client must be idle when the lease is released
	}
	looking, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	settle := func() {}
	if uplink.IPv6 && a.link.Managed == "" {
		settle = a.unique(looking, cancel, uplink)
	}
	res := a.look(looking, plugged, uplink)
	settle()
	if cause := context.Cause(looking); errors.Is(cause, link.ErrDuplicate) {
		a.duplicate = uplink.Lease != nil && uplink.Lease.Address.IsValid()
		if !res.won {
			return a.disconnected(cause)
		}
	}
	res.leased = uplink.Lease != nil
	if res.leased && !res.won && ctx.Err() == nil && plugged.Err() == nil {
		a.dhcpServers(a.link.Index).Fruitless(uplink.Lease)
	}
	return res
}

// disconnected shows why there is no network, or no more, and is the result of that.
func (a *attempt) disconnected(err error) result {
	code, _ := reason.Of(err)
	a.Logger.Info("no network here", "interface", a.link.Name, "family", string(a.family), "reason", string(code))
	a.show(func(i *state.Interface) { i.State, i.Detail, i.Reason = "unbound", err.Error(), string(code) })
	return a.failed(err)
}

// failed is the result of an attempt that came to no network.
func (a *attempt) failed(err error) result {
	res := result{index: a.link.Index}
	for _, f := range a.active() {
		res.findings = append(res.findings, finding{finder: f.Name(), err: &attemptError{a.link.Name, a.family, err}})
	}
	return res
}

// look has one finder after the other look at the uplink.
func (a *attempt) look(ctx, plugged context.Context, u *Uplink) result {
	res := result{index: a.link.Index}
	looking, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(plugged, cancel)()
	inVain := map[ServerKey]error{}
	told := a.family == "" // what is wrong with this network is told once, by the first finder; of the others the sources tell
	for _, f := range a.active() {
		found := finding{finder: f.Name()}
		var spent time.Duration
		found.err = f.Find(looking, u, func(l Lead) error {
			l.InVain = inVain
			l.Where = func() state.Network { return a.where(u) }
			won, visited, err := a.visitLead(ctx, plugged, l, &spent)
			res.won, found.visited = won, found.visited || visited
			return err
		})
		if res.won {
			return res
		}
		if errors.Is(found.err, ErrNothing) {
			continue
		}
		if !found.visited {
			if plugged.Err() != nil {
				found.err = ended(ctx, plugged)
			}
			if !told {
				code, _ := reason.Of(found.err)
				a.show(func(i *state.Interface) { i.Detail, i.Reason = found.err.Error(), string(code) })
			}
			found.err = &attemptError{u.Interface, a.family, found.err}
		}
		told = true
		res.findings = append(res.findings, found)
	}
	return res
}

// where tells what the network is known by.
func (a *attempt) where(u *Uplink) state.Network {
	if a.family == "" || a.link.Managed != "" {
		seen, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		return a.System.Seen(seen)
	}
	return a.System.Leased(a.link, u.Lease)
}

// finderTime is what visits to the leads of one finder on one network may take before no further one begins. The agent bounds
// each, but neighbours can make up dozens that all take as long as they may.
const finderTime = time.Hour

// visitLead visits a lead when it is its turn, unless another visit has succeeded meanwhile or the interface is gone, and adds
// what that took to spent.
func (a *attempt) visitLead(ctx, plugged context.Context, l Lead, spent *time.Duration) (won, visited bool, _ error) {
	a.visiting.Lock()
	defer a.visiting.Unlock()
	if a.won {
		return false, false, errOver
	}
	if plugged.Err() != nil {
		return false, false, ended(ctx, plugged)
	}
	if *spent >= finderTime {
		return false, false, errTooLong
	}
	began := time.Now()
	err := a.visit(ctx, l)
	*spent += time.Since(began)
	a.won = err == nil
	return a.won, true, err
}

// ended is why an attempt is over before its visit: with the round, whose context is ctx, for want of time, or with the
// interface.
func ended(ctx, plugged context.Context) error {
	if ctx.Err() != nil {
		return errOver
	}
	if cause := context.Cause(plugged); errors.Is(cause, errPatience) {
		return cause
	}
	return errEnded
}

// connect gets on the network: with a lease or, where somebody else configures the interface or IPv6 routers give addresses,
// with what DHCP has to say besides, if anything.
func (a *attempt) connect(ctx context.Context) (*Uplink, *link.Lease, error) {
	connect, s := a.connect4, a.static(a.link)
	switch {
	case s != nil:
		connect = func(ctx context.Context) (*dhcp.Lease, *link.Lease, error) { return a.connectStatic(ctx, s) }
	case a.family == ipv6:
		connect = a.connect6
	}
	lease, applied, err := connect(ctx)
	if err != nil && !errors.As(err, new(*leaseless)) {
		return nil, nil, err
	}
	u := &Uplink{Interface: a.link.Name, IPv6: a.family == ipv6}
	n := &link.Network{Interface: a.link.Name, Index: a.link.Index, Prefer: "ip4"}
	if u.IPv6 {
		n.Prefer = "ip6"
	}
	if err != nil {
		u.NoLease = errors.Unwrap(err)
		code, _ := reason.Of(u.NoLease)
		a.show(func(i *state.Interface) { i.State, i.Detail, i.Reason = "unbound", u.NoLease.Error(), string(code) })
	} else {
		u.Lease = lease
		n.DNS, n.Domains = lease.DNS, lease.Domains
	}
	if s != nil { // no server has said anything
		u.Lease = nil
		n.System, _ = a.System.SystemResolver()
	}
	a.addGiven(n)
	router := a.now().Router
	if u.IPv6 { // what DHCPv6 said comes first (RFC 8106 §5.3.1)
		n.DNS, n.Domains = union(n.DNS, router.DNS), union(n.Domains, router.Domains)
	}
	u.Network, u.Domains = n, n.Domains
	a.showNetwork(n, router)
	return u, applied, nil
}

// union returns a and what b has besides.
func union[T comparable](a, b []T) []T {
	all := slices.Clone(a)
	for _, v := range b {
		if !slices.Contains(all, v) {
			all = append(all, v)
		}
	}
	return all
}

// leaseless says that there is a network although DHCP said nothing, and why it did not.
type leaseless struct{ error }

func (l *leaseless) Unwrap() error { return l.error }

func (a *attempt) connect4(ctx context.Context) (*dhcp.Lease, *link.Lease, error) {
	duid := dhcp.DUID(a.Serial, a.link.MAC)
	a.client = &dhcp.Client4{MAC: a.link.MAC, MTU: a.link.MTU, ClientID: dhcp.ClientID(duid, dhcp.IAID(a.link.Name)), VendorClass: a.VendorClass,
		Open: dhcp.SocketsV4(a.link.Interface()), OpenARP: dhcp.SocketARP(a.link.Interface()), Servers: a.dhcpServers(a.link.Index),
		Logger: a.Logger.With("interface", a.link.Name)}
	if a.link.Managed != "" {
		address, err := a.foreignAddress(ctx)
		if err != nil {
			return nil, nil, err
		}
		return a.consult(ctx, address)
	}
	a.undo = append(a.undo, a.System.PrepareIPv4(a.link))
	return a.acquire(ctx)
}

func (a *attempt) inform(ctx context.Context, address netip.Addr) (*dhcp.Lease, *link.Lease, error) {
	lease, err := a.client.Inform(ctx, address)
	if err != nil {
		return nil, nil, &leaseless{err}
	}
	return lease, &link.Lease{}, nil
}

func (a *attempt) cleanUp() {
	for i := len(a.undo) - 1; i >= 0; i-- {
		a.undo[i]()
	}
	a.undo, a.held, a.duplicate = nil, nil, false
}
