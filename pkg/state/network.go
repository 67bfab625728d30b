package state

import "slices"

// Network is what the networks are known by that a device is on, or was: a device may have several, and a network may have
// two routers and two DHCP servers that stand in for one another. The zero value is known by nothing.
type Network struct {
	Routers []Gateway `json:"routers,omitempty"`
	Domains []string  `json:"domains,omitempty"`
	// Servers are the addresses of DHCP servers.
	Servers []string `json:"dhcp_servers,omitempty"`
}

// Gateway is a default gateway.
type Gateway struct {
	Address string `json:"address"`
	MAC     string `json:"mac,omitempty"` // empty when nothing was sent by way of it yet
}

// Likeness tells whether two networks are the same one.
type Likeness int

// The answers.
const (
	Unclear   Likeness = iota // too little is known of one of them
	Same                      // they have something in common
	Different                 // at least two of router, domain and DHCP server are known of both, and they have none in common
)

// Compare tells whether a device that is seen on a network is still on n. Routers and DHCP servers are replaced and stand in
// for one another, and small networks have the same addresses everywhere: one difference proves nothing, one thing in common
// does.
func (n Network) Compare(seen Network) Likeness {
	differences := 0
	for _, like := range []Likeness{n.compareRouters(seen), alike(n.Domains, seen.Domains), n.compareServers(seen)} {
		switch like {
		case Same:
			return Same
		case Different:
			differences++
		}
	}
	if differences < 2 {
		return Unclear
	}
	return Different
}

func (n Network) compareRouters(seen Network) Likeness {
	if len(n.Routers) == 0 || len(seen.Routers) == 0 {
		return Unclear
	}
	for _, r := range n.Routers {
		if slices.ContainsFunc(seen.Routers, r.same) {
			return Same
		}
	}
	return Different
}

// same compares hardware addresses if both are known: 192.168.1.1 is everywhere. Routers that stand in for one another by
// VRRP have one in common.
func (r Gateway) same(other Gateway) bool {
	if r.MAC != "" && other.MAC != "" {
		return r.MAC == other.MAC
	}
	return r.Address == other.Address
}

// compareServers does not count an address that is that of two different routers.
func (n Network) compareServers(seen Network) Likeness {
	like := alike(n.Servers, seen.Servers)
	if like != Same || n.compareRouters(seen) != Different {
		return like
	}
	for _, s := range n.Servers {
		if slices.Contains(seen.Servers, s) && !n.routes(s) && !seen.routes(s) {
			return Same
		}
	}
	return Unclear
}

func (n Network) routes(address string) bool {
	return slices.ContainsFunc(n.Routers, func(r Gateway) bool { return r.Address == address })
}

func alike(a, b []string) Likeness {
	switch {
	case len(a) == 0 || len(b) == 0:
		return Unclear
	case slices.ContainsFunc(a, func(s string) bool { return slices.Contains(b, s) }):
		return Same
	}
	return Different
}

// maxAliases bounds what a network is known by, each kind of thing.
const maxAliases = 8

// Learn returns n with what seen is known by, and whether that is more. What was not seen for longest is forgotten first.
func (n Network) Learn(seen Network) (learned Network, more bool) {
	return n.learn(seen), !within(seen.Domains, n.Domains) || !within(seen.Servers, n.Servers) || !within(n.complete(seen.Routers), n.Routers)
}

func (n Network) learn(seen Network) Network {
	routers := n.complete(seen.Routers)
	vague := func(known Gateway) bool {
		return known.MAC == "" && slices.ContainsFunc(routers, func(r Gateway) bool { return r.Address == known.Address })
	}
	return Network{
		Routers: latest(slices.DeleteFunc(slices.Clone(n.Routers), vague), routers),
		Domains: latest(n.Domains, seen.Domains),
		Servers: latest(n.Servers, seen.Servers),
	}
}

// complete returns the first few of what was seen, with hardware addresses that n knows.
func (n Network) complete(seen []Gateway) []Gateway {
	seen = slices.Clone(seen[:min(len(seen), maxAliases)])
	for i, r := range seen {
		known := slices.IndexFunc(n.Routers, func(known Gateway) bool { return known.Address == r.Address && known.MAC != "" })
		if r.MAC == "" && known >= 0 {
			seen[i] = n.Routers[known]
		}
	}
	return seen
}

func within[T comparable](some, all []T) bool {
	return !slices.ContainsFunc(some[:min(len(some), maxAliases)], func(v T) bool { return !slices.Contains(all, v) })
}

// latest returns what is known followed by what was seen, as much of it as fits.
func latest[T comparable](known, seen []T) (all []T) {
	seen = seen[:min(len(seen), maxAliases)]
	for _, v := range known {
		if !slices.Contains(seen, v) {
			all = append(all, v)
		}
	}
	for _, v := range seen {
		if !slices.Contains(all, v) {
			all = append(all, v)
		}
	}
	return all[max(0, len(all)-maxAliases):]
}

// Known reports whether n is known by anything.
func (n Network) Known() bool { return len(n.Routers)+len(n.Domains)+len(n.Servers) > 0 }

// String tells what n is known by, for people.
func (n Network) String() string {
	text := ""
	add := func(label, value string) {
		if text != "" {
			text += ", "
		}
		text += label + value
	}
	for _, r := range n.Routers {
		if r.MAC != "" {
			add("router ", r.Address+" ("+r.MAC+")")
		} else {
			add("router ", r.Address)
		}
	}
	for _, d := range n.Domains {
		add("domain ", d)
	}
	for _, s := range n.Servers {
		add("DHCP server ", s)
	}
	return text
}
