package state

import (
	"slices"
	"strings"
)

// Network is what the networks are known by that a device is on, or was: facts such as "router 192.0.2.1 02:00:00:00:00:01",
// "domain lab.example" and "dhcp-server 192.0.2.2". A device may be on several, and a network may have two routers and two
// DHCP servers that stand in for one another. The hardware address of a router is missing while it is not known.
type Network []string

// The kinds of facts.
const (
	FactRouter = "router "
	FactDomain = "domain "
	FactServer = "dhcp-server "
)

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
	for _, kind := range []string{FactRouter, FactDomain, FactServer} {
		switch n.compare(seen, kind) {
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

// compare looks at facts of one kind. The address of a DHCP server that is that of a router, too, is that router's.
func (n Network) compare(seen Network, kind string) Likeness {
	mine, theirs, shared := 0, 0, false
	for _, a := range n {
		if !strings.HasPrefix(a, kind) {
			continue
		}
		mine++
		theirs = 0
		for _, b := range seen {
			if !strings.HasPrefix(b, kind) {
				continue
			}
			theirs++
			switch {
			case !sameFact(a, b):
			case kind == FactServer && (n.routes(a) || seen.routes(a)):
				shared = true
			default:
				return Same
			}
		}
	}
	if mine == 0 || theirs == 0 || shared {
		return Unclear
	}
	return Different
}

// sameFact compares two facts of a kind: routers by their hardware addresses if both are known, since 192.168.1.1 is
// everywhere, and routers that stand in for one another by VRRP have one in common.
func sameFact(a, b string) bool {
	address, mac, _ := strings.Cut(a[strings.Index(a, " ")+1:], " ")
	address2, mac2, _ := strings.Cut(b[strings.Index(b, " ")+1:], " ")
	if mac != "" && mac2 != "" {
		return mac == mac2
	}
	return address == address2
}

// routes reports whether a router has the address of a DHCP server.
func (n Network) routes(server string) bool {
	router := FactRouter + server[len(FactServer):]
	return slices.ContainsFunc(n, func(f string) bool { return f == router || strings.HasPrefix(f, router+" ") })
}

// Bounds of what a network is known by: facts, and bytes of one. A domain has 253 at most.
const (
	maxFacts = 16
	maxFact  = 300
)

// Bounded returns n without what is too much to be kept.
func (n Network) Bounded() Network {
	n = slices.DeleteFunc(slices.Clone(n), func(fact string) bool { return len(fact) > maxFact })
	return n[:min(len(n), maxFacts)]
}

// Learn returns n with what was seen, and whether that is more. What was not seen for longest is forgotten first.
func (n Network) Learn(seen Network) (all Network, more bool) {
	all = slices.Clone(n)
	for _, fact := range seen[:min(len(seen), maxFacts)] {
		kept := all[:0]
		for _, known := range all {
			switch {
			case strings.HasPrefix(known, fact+" "):
				fact = known // with the hardware address
			case known != fact && !strings.HasPrefix(fact, known+" "):
				kept = append(kept, known)
			}
		}
		all = append(kept, fact)
		more = more || !slices.Contains(n, fact)
	}
	return all[max(0, len(all)-maxFacts):], more
}

// String tells what n is known by, for people.
func (n Network) String() string { return strings.Join(n, ", ") }
