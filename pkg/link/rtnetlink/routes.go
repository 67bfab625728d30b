package rtnetlink

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Route is a unicast route.
type Route struct {
	Destination netip.Prefix
	Hop                    // the only one, or
	Hops        []Hop      // several
	Source      netip.Addr // preferred for what is sent this way; invalid for none
	Table       int
	Metric      int
	Protocol    uint8 // who made a new route: RTPROT_DHCP, …

	message []byte
}

// Hop is where a route leads.
type Hop struct {
	Index   int        // of the interface
	Gateway netip.Addr // invalid when the destination is on the link
}

// AllTables stands for the routes of all tables.
const AllTables = unix.RT_TABLE_UNSPEC

// Routes lists the routes of a family in a table, or in AllTables.
func Routes(family Family, table int) (routes []Route, err error) {
	messages, err := dump(unix.RTM_GETROUTE, unix.RTM_NEWROUTE, append([]byte{byte(family)}, make([]byte, unix.SizeofRtMsg-1)...))
	if err != nil {
		return nil, err
	}
	for _, m := range messages {
		if len(m) < unix.SizeofRtMsg || family != Any && Family(m[0]) != family || binary.NativeEndian.Uint32(m[8:])&unix.RTM_F_CLONED != 0 {
			continue
		}
		if r := parseRoute(m); table == AllTables || r.Table == table {
			routes = append(routes, r)
		}
	}
	return routes, nil
}

var errFamilies = errors.New("the addresses of a route are of different families")

// Add adds the route, which must not be there. Its gateway counts as reachable on the link.
func (r *Route) Add() error {
	b, err := r.encode(unix.RTN_UNICAST)
	if err != nil {
		return err
	}
	return change(unix.RTM_NEWROUTE, create, b)
}

// Delete takes away the route, which was listed or added.
func (r *Route) Delete() error {
	b, err := r.message, error(nil)
	if b == nil {
		b, err = r.encode(unix.RTN_UNSPEC)
	}
	if err != nil {
		return err
	}
	return change(unix.RTM_DELROUTE, 0, b)
}

func (r *Route) encode(kind uint8) ([]byte, error) {
	ip := r.Destination.Addr()
	for _, other := range []netip.Addr{r.Gateway, r.Source} {
		if other.IsValid() && other.Is4() != ip.Is4() {
			return nil, errFamilies
		}
	}
	scope, flags := uint8(unix.RT_SCOPE_LINK), uint32(0)
	if r.Gateway.IsValid() {
		scope, flags = unix.RT_SCOPE_UNIVERSE, unix.RTNH_F_ONLINK
	}
	b := routeHeader(familyOf(ip), r.Destination.Bits(), 0, r.Protocol, scope, kind, flags)
	b = attribute(b, unix.RTA_DST, ip.AsSlice())
	if r.Source.IsValid() {
		b = attribute(b, unix.RTA_PREFSRC, r.Source.AsSlice())
	}
	if r.Gateway.IsValid() {
		b = attribute(b, unix.RTA_GATEWAY, r.Gateway.AsSlice())
	}
	b = uint32Attribute(b, unix.RTA_TABLE, uint32(r.Table))
	b = uint32Attribute(b, unix.RTA_PRIORITY, uint32(r.Metric))
	return uint32Attribute(b, unix.RTA_OIF, uint32(r.Index)), nil
}

// routeHeader is struct rtmsg, or struct fib_rule_hdr, which only names some fields differently. Tables have an attribute.
func routeHeader(family Family, destinationBits, sourceBits int, protocol, scope, kind uint8, flags uint32) []byte {
	b := []byte{byte(family), byte(destinationBits), byte(sourceBits), 0, unix.RT_TABLE_UNSPEC, protocol, scope, kind}
	return binary.NativeEndian.AppendUint32(b, flags)
}

func parseRoute(message []byte) Route {
	r := Route{Table: int(message[4]), Protocol: message[5], message: message}
	var destination netip.Addr
	if destination = netip.IPv4Unspecified(); Family(message[0]) == IPv6 {
		destination = netip.IPv6Unspecified()
	}
	attributes(message, unix.SizeofRtMsg, func(kind uint16, value []byte) {
		switch kind {
		case unix.RTA_DST:
			destination, _ = netip.AddrFromSlice(value)
		case unix.RTA_GATEWAY:
			r.Gateway, _ = netip.AddrFromSlice(value)
		case unix.RTA_PREFSRC:
			r.Source, _ = netip.AddrFromSlice(value)
		case unix.RTA_OIF:
			r.Index = int(number(value))
		case unix.RTA_PRIORITY:
			r.Metric = int(number(value))
		case unix.RTA_TABLE:
			r.Table = int(number(value))
		case unix.RTA_MULTIPATH:
			r.Hops = parseHops(value)
		}
	})
	r.Destination = netip.PrefixFrom(destination, int(message[1]))
	return r
}

// parseHops reads a sequence of struct rtnexthop, each with attributes.
func parseHops(b []byte) (hops []Hop) {
	for len(b) >= unix.SizeofRtNexthop {
		size := int(binary.NativeEndian.Uint16(b))
		if size < unix.SizeofRtNexthop || size > len(b) {
			break
		}
		hop := Hop{Index: int(binary.NativeEndian.Uint32(b[4:]))}
		attributes(b[:size], unix.SizeofRtNexthop, func(kind uint16, value []byte) {
			if kind == unix.RTA_GATEWAY {
				hop.Gateway, _ = netip.AddrFromSlice(value)
			}
		})
		hops = append(hops, hop)
		b = b[min((size+unix.RTA_ALIGNTO-1)&^(unix.RTA_ALIGNTO-1), len(b)):]
	}
	return hops
}
