package link

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/xpu-sztp/ztp/dhcp"
	"github.com/xpu-sztp/ztp/pkg/link/rtnetlink"
)

// Leased routes are in one routing table for each interface. Three rules lead there: sockets that are bound to the interface
// use it first, so that networks with the same addresses on two interfaces both work; so does what comes from the leased
// address, so that answers leave where questions came in; and everybody else does when no other table knows a way. Nothing
// that a DHCP server says can draw traffic from routes that somebody else has configured.
const (
	tableBase    = 143_000_000 // plus the index of the interface
	tables       = 1_000_000   // how many there may be
	ruleFirst    = 143         // before the main table
	ruleLast     = 32_800      // after the main and the default table
	leasedMetric = 4096        // weak also on kernels that have one table for everything
)

// route adds the leased routes and the rules that lead to them.
func (a *Lease) route(lease *dhcp.Lease) error {
	routes := a.routes(lease)
	for _, r := range routes {
		if err := a.do(r, r.route().Add); err != nil {
			return fmt.Errorf("add route %v: %w", r, err)
		}
	}
	if len(routes) == 0 {
		return nil
	}
	for _, r := range a.rules() {
		err := a.do(r, r.rule().Add)
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT) {
			a.system.log.Warn("the kernel has no policy routing; leased routes are in its only table", "interface", a.link.Name)
			return nil
		}
		if err != nil {
			return fmt.Errorf("add %v: %w", r, err)
		}
	}
	return nil
}

// routes returns the route to the link's own prefix and those of the lease, the ones without a gateway first. What DHCPv6
// leases has neither: routers advertise them.
func (a *Lease) routes(lease *dhcp.Lease) []change {
	base := change{Kind: "route", Index: a.link.Index, Interface: a.link.Name, Metric: leasedMetric,
		Table: tableBase + a.link.Index, Source: lease.Address.Addr()}
	var routes []change
	add := func(dst netip.Prefix, gw netip.Addr) {
		r := base
		r.Prefix, r.Gateway = dst, gw
		if !slices.Contains(routes, r) {
			routes = append(routes, r)
		}
	}
	if lease.Address.IsValid() && !lease.Address.IsSingleIP() {
		add(lease.Address.Masked(), netip.Addr{})
	}
	for _, onLink := range []bool{true, false} {
		for _, r := range lease.Routes {
			if onLink == !r.Gateway.IsValid() {
				add(r.Destination, r.Gateway)
			}
		}
	}
	return routes
}

func (a *Lease) rules() []change {
	base := change{Kind: "rule", Index: a.link.Index, Interface: a.link.Name, IPv6: a.address.Addr().Is6(), Table: tableBase + a.link.Index}
	bound, from, last := base, base, base
	bound.Priority, bound.Bound = ruleFirst, true
	from.Priority, from.Prefix = ruleFirst, netip.PrefixFrom(a.address.Addr(), a.address.Addr().BitLen())
	last.Priority = ruleLast
	// A literal of three would have the compiler compare arrays of them, 2 KB.
	rules := append([]change(nil), bound)
	if !a.elsewhere() {
		rules = append(rules, from)
	}
	return append(rules, last)
}

// elsewhere reports whether somebody else gave the leased address to another interface. What the machine sends from it must
// then not leave by the routes of the lease.
func (a *Lease) elsewhere() bool {
	links, err := list()
	leased := a.address.Addr()
	return err != nil || slices.ContainsFunc(links, func(l Link) bool {
		return l.Index != a.link.Index && !a.system.changes.hasAddress(l.Index, leased) &&
			slices.ContainsFunc(l.Addresses, func(other Address) bool { return other.Addr() == leased })
	})
}

// needs reports whether the machine has a router or a name server at an address, by networks that somebody else configured. With
// the address as its own it would ask itself, whatever the routes say.
func (s *System) needs(address netip.Addr) bool {
	routers := appendRouters(appendRouters(nil, rtnetlink.IPv4, 0), rtnetlink.IPv6, 0)
	servers, _ := s.SystemResolver()
	return len(routers) > 0 && slices.Contains(servers, address) ||
		slices.ContainsFunc(routers, func(r string) bool { return strings.Fields(r)[1] == address.String() })
}

// rule is c for the kernel.
func (c change) rule() *rtnetlink.Rule {
	r := &rtnetlink.Rule{Family: rtnetlink.IPv4, Table: c.Table, Priority: c.Priority, Source: c.Prefix, Protocol: unix.RTPROT_DHCP}
	if c.IPv6 {
		r.Family = rtnetlink.IPv6
	}
	if c.Bound {
		r.Interface = c.Interface
	}
	return r
}

// Routes returns the routes that were added, as `ip route` writes them.
func (a *Lease) Routes() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var routes []string
	for _, c := range a.made {
		if c.Kind == "route" {
			c.Interface = a.name
			routes = append(routes, c.String())
		}
	}
	return routes
}

// sweep takes away rules and routes that an earlier process left, without its record. Addresses end by themselves.
func sweep() error {
	left := func(table int) bool { return table > tableBase && table < tableBase+tables }
	rules, err := rtnetlink.Rules(rtnetlink.Any)
	errs := []error{err}
	for _, r := range rules {
		if left(r.Table) {
			errs = append(errs, r.Delete())
		}
	}
	routes, err := rtnetlink.Routes(rtnetlink.Any, rtnetlink.AllTables)
	errs = append(errs, err)
	for _, r := range routes {
		if left(r.Table) {
			errs = append(errs, r.Delete())
		}
	}
	return errors.Join(errs...)
}

// followNames has rules name their interfaces as those are called now: the kernel looks for the name, and stops finding it
// when udev renames an interface.
func (s *System) followNames() {
	s.naming.Lock()
	defer s.naming.Unlock()
	links, _ := s.Links()
	s.mu.Lock()
	leases := slices.Clone(s.leases)
	s.mu.Unlock()
	for _, a := range leases {
		i := slices.IndexFunc(links, func(l Link) bool { return l.Index == a.link.Index })
		if i < 0 {
			continue
		}
		if err := a.rename(links[i].Name); err != nil {
			s.log.Warn("cannot move a rule to the new name of its interface", "interface", links[i].Name, "error", err)
		}
	}
}

func (a *Lease) rename(name string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.name == name {
		return nil
	}
	a.name = name
	for i, old := range a.made {
		if !old.Bound {
			continue
		}
		c := old
		c.Interface = name
		if err := a.system.changes.do(c, c.rule().Add); err != nil {
			return err
		}
		a.made[i] = c
		if err := a.system.changes.undo(old); err != nil {
			return err
		}
	}
	return nil
}
