package link

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/xpu-sztp/ztp/dhcp"
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
		if err := a.do(r, func() error { return netlink.RouteAdd(r.route()) }); err != nil {
			return fmt.Errorf("add route %v: %w", r, err)
		}
	}
	if len(routes) == 0 {
		return nil
	}
	for _, r := range a.rules() {
		err := a.do(r, func() error { return netlink.RuleAdd(r.rule()) })
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

// rule is c for the kernel.
func (c change) rule() *netlink.Rule {
	r := netlink.NewRule()
	r.Family, r.Table, r.Priority, r.Protocol = netlink.FAMILY_V4, c.Table, c.Priority, unix.RTPROT_DHCP
	if c.IPv6 {
		r.Family = netlink.FAMILY_V6
	}
	if c.Bound {
		r.OifName = c.Interface
	}
	if c.Prefix.IsValid() {
		r.Src = ipNet(c.Prefix)
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
	return errors.Join(sweepKind(unix.RTM_GETROUTE, unix.RTM_NEWROUTE, unix.RTM_DELROUTE),
		sweepKind(unix.RTM_GETRULE, unix.RTM_NEWRULE, unix.RTM_DELRULE))
}

// sweepKind deletes what the kernel lists, by the very message that lists it, where that is about one of our tables.
func sweepKind(get, item, del int) error {
	messages, err := retryDump(func() ([][]byte, error) {
		list := nl.NewNetlinkRequest(get, unix.NLM_F_DUMP)
		list.AddData(&nl.RtMsg{}) // of every family; the header of rules is as large
		return list.Execute(unix.NETLINK_ROUTE, uint16(item))
	})
	errs := []error{err}
	for _, m := range messages {
		table, err := attribute(m[unix.SizeofRtMsg:], unix.RTA_TABLE) // of rules, FRA_TABLE, which is the same
		if err != nil || len(table) != 4 {
			continue
		}
		if t := nl.NativeEndian().Uint32(table); t > tableBase && t < tableBase+tables {
			one := nl.NewNetlinkRequest(del, unix.NLM_F_ACK)
			one.AddRawData(m)
			_, err := one.Execute(unix.NETLINK_ROUTE, 0)
			errs = append(errs, err)
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
		if err := a.system.changes.do(c, func() error { return netlink.RuleAdd(c.rule()) }); err != nil {
			return err
		}
		a.made[i] = c
		if err := a.system.changes.undo(old); err != nil {
			return err
		}
	}
	return nil
}
