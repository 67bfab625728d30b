package config

import (
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
)

// Static is how an interface is configured on a network without DHCP.
type Static struct {
	Addresses []netip.Prefix `toml:"addresses"` // one, or one of each family
	Gateways  []netip.Addr   `toml:"gateways"`  // default routers, at most one of each family
	DNS       []netip.Addr   `toml:"dns"`       // name servers in the order to ask; empty means the system's resolver
	Domains   []string       `toml:"domains"`   // where the network's own names are, the closest first
}

// Families reports which families have an address.
func (s *Static) Families() (ipv4, ipv6 bool) {
	for _, a := range s.Addresses {
		ipv4, ipv6 = ipv4 || a.Addr().Is4(), ipv6 || a.Addr().Is6()
	}
	return ipv4, ipv6
}

// StaticFor returns the static configuration of an interface, or nil: the one under its name, otherwise the first one, in the
// order of the alphabet, under a pattern that matches it.
func (d *Discovery) StaticFor(ifname string) *Static {
	if s, ok := d.Static[ifname]; ok {
		return &s
	}
	for _, pattern := range slices.Sorted(maps.Keys(d.Static)) {
		if matched, _ := filepath.Match(pattern, ifname); matched {
			s := d.Static[pattern]
			return &s
		}
	}
	return nil
}

// check returns the key whose value makes no sense.
func (s *Static) check(name string) (key string, err error) {
	if err := interfaceGlobs([]string{name}); err != nil {
		return "", err
	}
	var own [2]netip.Prefix // of IPv4 and IPv6
	var gateways [2]bool
	for _, p := range s.Addresses {
		i := version(p.Addr())
		if own[i].IsValid() || p.Bits() < 8 || !host(p.Addr(), p) {
			return "addresses", fmt.Errorf("%v is not a host's address on a link, or the second of an IP version", p)
		}
		own[i] = p
	}
	for _, g := range s.Gateways {
		i := version(g)
		linkLocal := g.Is6() && g.IsLinkLocalUnicast() && g.Zone() == "" && own[i].IsValid()
		if gateways[i] || !linkLocal && (g == own[i].Addr() || !own[i].Contains(g) || !host(g, own[i])) {
			return "gateways", fmt.Errorf("%v is not another host on the link of an address, or the second of an IP version", g)
		}
		gateways[i] = true
	}
	for _, a := range s.DNS {
		i := version(a)
		linkLocal := a.IsLinkLocalUnicast() && a.Zone() == ""
		if !own[i].IsValid() || a == own[i].Addr() || !linkLocal && !host(a, netip.PrefixFrom(a, a.BitLen())) {
			return "dns", fmt.Errorf("%v is not another host that an address can reach", a)
		}
	}
	for _, d := range s.Domains {
		if !domain(d) {
			return "domains", fmt.Errorf("%q is not a domain", d)
		}
	}
	if len(s.Addresses) == 0 || len(s.DNS) > maxTables || len(s.Domains) > maxTables {
		return "", fmt.Errorf("has no addresses, or more than %d name servers or domains", maxTables)
	}
	return "", nil
}

func version(a netip.Addr) int {
	if a.Is6() {
		return 1
	}
	return 0
}

// host reports whether a can be one host's address on the link p.
func host(a netip.Addr, p netip.Prefix) bool {
	if !a.IsGlobalUnicast() || a.Is4In6() || a.Zone() != "" {
		return false
	}
	if p.Bits() >= a.BitLen()-1 { // point to point (RFC 3021, RFC 6164)
		return true
	}
	if a == p.Masked().Addr() {
		return false // the network itself, or any router (RFC 4291 §2.6.1)
	}
	return a.Is6() || p.Contains(a.Next()) // the last one is for all
}

// domain reports whether s is a name of DNS whose labels are letters, digits, hyphens and underscores.
func domain(s string) bool {
	s = strings.TrimSuffix(s, ".")
	for label := range strings.SplitSeq(s, ".") {
		odd := func(r rune) bool {
			return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
		}
		if label == "" || len(label) > 63 || strings.ContainsFunc(label, odd) {
			return false
		}
	}
	return len(s) <= 253
}
