// Package link knows the network interfaces: it follows them through netlink as they come, go and change, tells which of
// them the agent may use and who else configures them, and applies DHCP leases to those that nobody configures, with routes in
// tables that draw nobody else's traffic. It undoes every change, also one left behind by a crash. A Network reaches hosts by
// way of one interface with the name servers that were learned there, and neighbours by multicast DNS; the system's own
// resolver configuration is never touched.
package link

import (
	"net"
	"net/netip"
	"path"
	"slices"
	"sort"

	"golang.org/x/sys/unix"

	"github.com/xpu-sztp/ztp/pkg/link/rtnetlink"
)

// Link is an interface at one moment.
type Link struct {
	Index     int
	Name      string
	Kind      string // "ethernet", or as `ip -d link` has it: "vlan", "bond", …
	MAC       net.HardwareAddr
	MTU       int
	Up        bool   // administratively
	Carrier   bool   // the other end is there
	Skip      string // why the agent does not use it; empty when it may
	carriers  uint32 // how often it has got its carrier
	hopeless  bool   // Skip holds also when the configuration names the interface
	Life      int    // another one each time the interface gets its carrier or may be used, or has another hardware address or manager
	Managed   string // who configures it: "systemd-networkd", "NetworkManager", "manual"; empty when nobody does
	Settled   bool   // they are done with it, as far as they tell
	Addresses []Address
	Router    Router
}

// Address is an address of an interface.
type Address struct {
	netip.Prefix
	Tentative bool // it must not be used before duplicate address detection has finished
	// Optimistic: it may be used while duplicate address detection goes on (RFC 4429).
	Optimistic bool
	Duplicate  bool // duplicate address detection found another host
	Permanent  bool // it does not expire
}

// Router is what router advertisements said (RFC 4861 §4.2): those of all routers together since the agent listens, before
// that the latest one, as the kernel remembers it.
type Router struct {
	Heard   bool
	Recent  bool // the agent has heard it itself; otherwise DNS and Domains are not known
	Managed bool // addresses come by DHCPv6
	Other   bool // other configuration does
	// What routers said about names since the agent runs (RFC 8106), without what has expired.
	DNS     []netip.Addr
	Domains []string
}

// Usable reports whether the agent can look for bootstrap servers on the interface now.
func (l *Link) Usable() bool { return l.Skip == "" && l.Up && l.Carrier }

// LinkLocal returns the link-local IPv6 address that can be used, or an invalid one.
func (l *Link) LinkLocal() netip.Addr {
	for _, a := range l.Addresses {
		if a.Addr().Is6() && a.Addr().IsLinkLocalUnicast() && !a.Tentative && !a.Duplicate {
			return a.Addr()
		}
	}
	return netip.Addr{}
}

// Global returns the addresses of a family that other networks can know and that are in use.
func (l *Link) Global(ipv6 bool) []netip.Addr {
	var addrs []netip.Addr
	for _, a := range l.Addresses {
		if a.Addr().Is6() == ipv6 && a.Addr().IsGlobalUnicast() && !a.Tentative && !a.Duplicate {
			addrs = append(addrs, a.Addr())
		}
	}
	return addrs
}

// Interface returns the interface in the form of package net.
func (l *Link) Interface() *net.Interface {
	return &net.Interface{Index: l.Index, Name: l.Name, HardwareAddr: l.MAC, MTU: l.MTU}
}

// list reads all interfaces from the kernel. Skip reflects their kind only.
func list() ([]Link, error) {
	addresses, err := rtnetlink.Addresses()
	if err != nil {
		return nil, err
	}
	known, err := rtnetlink.Links()
	if err != nil {
		return nil, err
	}
	all := machine{}
	links := make([]Link, 0, len(known))
	for i := range known {
		t := traitsOf(&known[i])
		all[t.Index] = t
		l := Link{Index: t.Index, Name: t.Name, Kind: t.shown(), MAC: t.HardwareAddr, MTU: t.MTU, Router: routerOf(t.Inet6Flags),
			carriers: t.Carriers, Up: t.Flags&unix.IFF_UP != 0, Carrier: t.Flags&unix.IFF_LOWER_UP != 0 && t.OperState != operDormant}
		for _, a := range addresses {
			if a.Index == t.Index {
				l.Addresses = append(l.Addresses, address(&a))
			}
		}
		links = append(links, l)
	}
	for i := range links {
		links[i].Skip, links[i].hopeless = all.unsuitable(all[links[i].Index])
	}
	// Package slices would compile its sorting anew for this type, 28 KB.
	sort.Slice(links, func(i, j int) bool { return links[i].Index < links[j].Index })
	return links, nil
}

// operDormant is IF_OPER_DORMANT (include/uapi/linux/if.h): the carrier is there, but something must happen first (RFC 2863).
const operDormant = 5

func address(a *rtnetlink.Address) Address {
	return Address{
		Prefix:     a.Prefix,
		Tentative:  a.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_OPTIMISTIC) == unix.IFA_F_TENTATIVE,
		Optimistic: a.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_OPTIMISTIC) == unix.IFA_F_TENTATIVE|unix.IFA_F_OPTIMISTIC,
		Duplicate:  a.Flags&unix.IFA_F_DADFAILED != 0,
		Permanent:  a.Flags&unix.IFA_F_PERMANENT != 0,
	}
}

// skip returns why the agent leaves an interface alone, or "". An interface that include names, without a wildcard, is used
// whatever its kind, if it can be.
func skip(l *Link, include, exclude []string) string {
	if l.Skip != "" && (l.hopeless || !slices.Contains(include, l.Name)) {
		return l.Skip
	}
	return filtered(l.Name, include, exclude)
}

// filtered returns why a name is not among the configured interfaces, or "". Patterns are those of path.Match; exclude is
// stronger, and an empty include means all.
func filtered(name string, include, exclude []string) string {
	matches := func(pattern string) bool {
		ok, err := path.Match(pattern, name)
		return ok && err == nil
	}
	switch {
	case slices.ContainsFunc(exclude, matches):
		return "excluded by configuration"
	case len(include) > 0 && !slices.ContainsFunc(include, matches):
		return "not included by configuration"
	}
	return ""
}

// Flags of IFLA_INET6_FLAGS (include/net/if_inet6.h).
const (
	ifRAReceived  = 0x20
	ifRAManaged   = 0x40
	ifRAOtherConf = 0x80
)

// routerOf is what the kernel remembers of router advertisements.
func routerOf(flags uint32) Router {
	return Router{Heard: flags&ifRAReceived != 0, Managed: flags&ifRAManaged != 0, Other: flags&ifRAOtherConf != 0}
}
