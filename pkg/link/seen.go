package link

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/xpu-sztp/ztp/dhcp"
	"github.com/xpu-sztp/ztp/pkg/state"
	"golang.org/x/sys/unix"
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
	return appendRouters(n, netlink.FAMILY_V6, l.Index) // they advertise themselves
}

// Seen returns what the networks are known by that the machine is on, from what the kernel and managers of interfaces tell.
// Nothing is sent, and nothing is changed.
func (s *System) Seen(ctx context.Context) (n state.Network) {
	n = appendRouters(n, netlink.FAMILY_V4, 0)
	n = appendRouters(n, netlink.FAMILY_V6, 0)
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
func appendRouters(n state.Network, family, index int) state.Network {
	routes, err := retryDump(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return n
	}
	for _, r := range routes {
		if r.Dst != nil {
			if bits, _ := r.Dst.Mask.Size(); bits != 0 {
				continue
			}
		}
		for _, hop := range append(r.MultiPath, &netlink.NexthopInfo{LinkIndex: r.LinkIndex, Gw: r.Gw}) {
			if address, ok := netip.AddrFromSlice(hop.Gw); ok && (index == 0 || hop.LinkIndex == index) {
				n = append(n, router(hop.LinkIndex, address.Unmap()))
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

// Of struct ndmsg and the attributes that follow it (include/uapi/linux/neighbour.h).
const (
	ndIndex    = 4 // offset
	ndLength   = 12
	ndaAddress = 1
	ndaLink    = 2
)

// neighbour returns the hardware address of a host on the link, nil when the kernel does not know it.
func neighbour(index int, address netip.Addr) (mac net.HardwareAddr) {
	family := uint8(unix.AF_INET)
	if address.Is6() {
		family = unix.AF_INET6
	}
	req := nl.NewNetlinkRequest(unix.RTM_GETNEIGH, unix.NLM_F_DUMP)
	req.AddData(&netlink.Ndmsg{Family: family})
	messages, err := retryDump(func() ([][]byte, error) { return req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWNEIGH) })
	if err != nil {
		return nil
	}
	for _, m := range messages {
		if len(m) < ndLength || int(binary.NativeEndian.Uint32(m[ndIndex:])) != index {
			continue
		}
		attrs, err := nl.ParseRouteAttr(m[ndLength:])
		if err != nil {
			continue
		}
		same := false
		var link net.HardwareAddr
		for _, a := range attrs {
			switch a.Attr.Type & attrType {
			case ndaAddress:
				known, _ := netip.AddrFromSlice(a.Value)
				same = known == address.WithZone("")
			case ndaLink:
				link = a.Value
			}
		}
		if same {
			return link
		}
	}
	return nil
}
