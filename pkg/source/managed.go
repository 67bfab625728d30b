package source

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/xpu-sztp/ztp/dhcp"
	"github.com/xpu-sztp/ztp/pkg/dns"
	"github.com/xpu-sztp/ztp/pkg/link"
	"github.com/xpu-sztp/ztp/pkg/reason"
)

// informWait is how long DHCP may take to answer on an interface that somebody else configures. There may be no DHCP at all,
// and finders have other places to look at.
const informWait = 10 * time.Second

// settleWait is how long a manager may take to say what it has for an interface after that has an address: systemd-networkd
// writes its files later.
const settleWait = 2 * time.Second

// consult learns what there is to know on an interface that somebody else configures: from its manager, whose own lease may
// hold the option, and otherwise from DHCP, without asking for an address.
func (a *attempt) consult(ctx context.Context, address netip.Addr) (*dhcp.Lease, *link.Lease, error) {
	settling, stop := context.WithTimeout(ctx, settleWait)
	_ = a.System.AwaitLink(settling, a.link.Index, func(l *link.Link) bool { return l == nil || l.Settled })
	stop()
	g := a.System.Given(ctx, a.link, a.family == ipv6)
	a.given = &g
	if len(g.Option) > 0 {
		if lease := dhcp.Foreign(g.Server, g.Option); lease.OptionError == nil {
			a.told = true
			return lease, &link.Lease{}, nil
		}
		a.Logger.Warn("its manager's lease names no usable bootstrap server; asking DHCP", "interface", a.link.Name)
	}
	ctx, cancel := context.WithTimeout(ctx, informWait)
	defer cancel()
	return a.inform(ctx, address)
}

// manager is who configures an interface, when not the agent, in a sentence.
func manager(l link.Link) string {
	if l.Managed == link.ByHand {
		return "a person"
	}
	return l.Managed
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
	if err == nil || !errors.Is(err, context.DeadlineExceeded) {
		return found, err
	}
	e := &reason.Error{Code: NoAddress, Msg: manager(a.link) + " manages the interface and has not given it an IPv4 address",
		Fix: "look at its configuration, or let the agent have the interface"}
	now := a.System.Given(context.WithoutCancel(ctx), a.link, false).State
	if now != "" {
		e.Msg += "; it calls the interface " + now
	}
	if now == "pending" || now == "initialized" { // systemd-networkd has not looked for a configuration (networkctl(1))
		e.Code, e.Fix = Undecided, "look whether udev knows the interface, with `networkctl status "+a.link.Name+"`"
	}
	return found, e
}

// addGiven adds what the manager told to what DHCP did. What people told the manager comes first; where nobody told it anything,
// the system's resolver may know.
func (a *attempt) addGiven(n *link.Network) {
	if a.given == nil {
		return
	}
	n.System = a.given.System
	if len(a.given.DNS) > 0 {
		n.DNS = a.given.DNS
	}
	n.Domains = union(a.given.Domains, n.Domains)
}

// machine is the machine's own network: what it has by interfaces that the agent does not use.
type machine struct {
	System
	names *link.Network
}

var _ Asker = machine{}

// ownNetwork returns an uplink by the machine's own network, its resolver's search domains included.
func ownNetwork(s *link.System) *Uplink {
	servers, domains := s.SystemResolver()
	return &Uplink{Network: machine{names: &link.Network{System: servers}}, Domains: domains}
}

// Ask asks the name servers of the system's resolver.
func (m machine) Ask(ctx context.Context, name dns.Name, t dns.Type) ([]dns.Record, error) {
	return m.names.Ask(ctx, name, t)
}

// AskLink asks nobody: whose neighbours they would be is not known.
func (machine) AskLink(context.Context, dns.Name, dns.Type) ([]dns.Record, error) {
	return nil, dns.ErrNoAnswer
}
