package link

import (
	"context"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/xpu-sztp/ztp/dhcp"
	"github.com/xpu-sztp/ztp/pkg/link/rtnetlink"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// Leased returns what the network is known by on which the agent itself has an interface; lease may be nil.
func (s *System) Leased(l Link, lease *dhcp.Lease) (n state.Network) {
	if lease != nil {
		n = appendNames(n, lease.Domains, lease.Server)
		for _, r := range lease.Routes {
			if r.Destination.Bits() == 0 && r.Gateway.IsValid() {
				n = append(n, router(l.Index, r.Gateway))
			}
		}
	}
	return appendRouters(n, rtnetlink.IPv6, l.Index) // they advertise themselves
}

// Seen returns what the networks are known by that the machine is on, from what the kernel and managers of interfaces tell.
// Nothing is sent, and nothing is changed.
func (s *System) Seen(ctx context.Context) (n state.Network) {
	n = appendRouters(n, rtnetlink.IPv4, 0)
	n = appendRouters(n, rtnetlink.IPv6, 0)
	links, _ := s.Links()
	for _, l := range links {
		if l.Managed == "" || !l.Carrier {
			continue
		}
		for _, ipv6 := range []bool{false, true} {
			given := s.Given(ctx, l, ipv6)
			n = appendNames(n, given.Domains, given.Server)
		}
	}
	return n
}

func appendNames(n state.Network, domains []string, server netip.Addr) state.Network {
	for _, d := range domains {
		n = append(n, state.FactDomain+d)
	}
	if server.IsValid() {
		n = append(n, state.FactServer+server.String())
	}
	return n
}

// appendRouters appends the gateways of the default routes of the main table, by way of one interface, or of any for index 0.
func appendRouters(n state.Network, family rtnetlink.Family, index int) state.Network {
	routes, err := rtnetlink.Routes(family, unix.RT_TABLE_MAIN)
	if err != nil {
		return n
	}
	for _, r := range routes {
		if r.Destination.Bits() != 0 {
			continue
		}
		for _, hop := range append(r.Hops, r.Hop) {
			if hop.Gateway.IsValid() && (index == 0 || hop.Index == index) {
				n = append(n, router(hop.Index, hop.Gateway))
			}
		}
	}
	return n
}

func router(index int, address netip.Addr) string {
	fact := state.FactRouter + address.String()
	if mac := neighbour(index, address); mac != nil {
		fact += " " + mac.String()
	}
	return fact
}

// neighbour returns the hardware address of a host on the link, nil when the kernel does not know it.
func neighbour(index int, address netip.Addr) net.HardwareAddr {
	family := rtnetlink.IPv4
	if address.Is6() {
		family = rtnetlink.IPv6
	}
	neighbours, _ := rtnetlink.Neighbours(family)
	for _, n := range neighbours {
		if n.Index == index && n.Address == address.WithZone("") {
			return n.HardwareAddr
		}
	}
	return nil
}
