package link

import (
	"context"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/xpu-sztp/ztp/dhcp"
	"github.com/xpu-sztp/ztp/pkg/state"
	"golang.org/x/sys/unix"
)

// Leased returns what the network is known by on which the agent itself has an interface; lease may be nil.
func (s *System) Leased(l Link, lease *dhcp.Lease) (n state.Network) {
	if lease != nil {
		n.Domains = lease.Domains
		addServer(&n, lease.Server)
		for _, r := range lease.Routes {
			if r.Destination.Bits() == 0 && r.Gateway.IsValid() {
				n.Routers = append(n.Routers, gateway(l.Index, r.Gateway))
			}
		}
	}
	n.Routers = append(n.Routers, defaultRoutes(netlink.FAMILY_V6, l.Index)...) // routers advertise them
	return n
}

// Seen returns what the networks are known by that the machine is on, from what the kernel and managers of interfaces tell.
// Nothing is sent, and nothing is changed.
func (s *System) Seen(ctx context.Context) (n state.Network) {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		n.Routers = append(n.Routers, defaultRoutes(family, 0)...)
	}
	links, _ := s.Links()
	for _, l := range links {
		if l.Managed == "" || !l.Carrier {
			continue
		}
		for _, ipv6 := range []bool{false, true} {
			domains, server := s.given(ctx, l, ipv6)
			n.Domains = append(n.Domains, domains...)
			addServer(&n, server)
		}
	}
	return n
}

// given is what the manager of an interface tells of its lease.
func (s *System) given(_ context.Context, l Link, ipv6 bool) (domains []string, server netip.Addr) {
	if l.Managed != "systemd-networkd" || ipv6 {
		return nil, server
	}
	lease := filepath.Join(s.watcher.run, "systemd/netif/leases", strconv.Itoa(l.Index))
	server, _ = netip.ParseAddr(lookup(lease, "SERVER_ADDRESS"))
	return strings.Fields(lookup(lease, "DOMAINNAME")), server
}

func addServer(n *state.Network, server netip.Addr) {
	if server.IsValid() {
		n.Servers = append(n.Servers, server.String())
	}
}

// defaultRoutes returns the gateways of the default routes of the main table, by way of one interface, or of any for index 0.
func defaultRoutes(family, index int) (found []state.Gateway) {
	routes, err := retryDump(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil
	}
	for _, r := range routes {
		if r.Dst != nil {
			if bits, _ := r.Dst.Mask.Size(); bits != 0 {
				continue
			}
		}
		hops := append(r.MultiPath, &netlink.NexthopInfo{LinkIndex: r.LinkIndex, Gw: r.Gw})
		for _, hop := range hops {
			address, ok := netip.AddrFromSlice(hop.Gw)
			if ok && (index == 0 || hop.LinkIndex == index) {
				found = append(found, gateway(hop.LinkIndex, address.Unmap()))
			}
		}
	}
	return found
}

// gateway adds the hardware address as far as the kernel has needed it.
func gateway(index int, address netip.Addr) state.Gateway {
	g := state.Gateway{Address: address.String()}
	family := netlink.FAMILY_V4
	if address.Is6() {
		family = netlink.FAMILY_V6
	}
	neighbours, err := retryDump(func() ([]netlink.Neigh, error) { return netlink.NeighList(index, family) })
	if err != nil {
		return g
	}
	for _, n := range neighbours {
		if known, _ := netip.AddrFromSlice(n.IP); known.Unmap() == address && len(n.HardwareAddr) > 0 && n.State&unix.NUD_FAILED == 0 {
			g.MAC = n.HardwareAddr.String()
		}
	}
	return g
}
