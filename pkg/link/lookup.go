package link

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/xpu-sztp/ztp/pkg/dns"
)

// resolutionDelay is how long addresses of one family wait for those of the other (RFC 8305 §3). Some name servers never
// answer questions about a family that their network does not have.
const resolutionDelay = 300 * time.Millisecond

// maxSearch bounds the domains that are tried for a name without a dot.
const maxSearch = 6

// LookupNetIP resolves host with the network's name servers. Names below .local are asked of the neighbours (RFC 6762). IP
// literals are returned as they are.
func (n *Network) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{addr}, nil
	}
	if isLocal(host) {
		addrs, err := n.lookup(ctx, n.AskLink, network, host)
		return n.order(addrs), err
	}
	if len(n.DNS) == 0 {
		addrs, err := net.DefaultResolver.LookupNetIP(ctx, network, host)
		return n.order(addrs), err
	}
	var err error
	for _, name := range n.names(host) {
		var addrs []netip.Addr
		if addrs, err = n.lookup(ctx, n.Ask, network, name); err == nil {
			return n.order(addrs), nil
		}
	}
	return nil, err
}

// isLocal reports whether host is one of the names that only neighbours know (RFC 6762 §3).
func isLocal(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return strings.HasSuffix(host, ".local")
}

// names returns the names to look up for host, one after the other.
func (n *Network) names(host string) []string {
	var names []string
	if !strings.Contains(host, ".") {
		for _, d := range n.Domains[:min(len(n.Domains), maxSearch)] {
			names = append(names, host+"."+d)
		}
	}
	return append(names, host)
}

// answer is what came of one question.
type answer struct {
	server  int // its place in the list of name servers
	records []dns.Record
	err     error
}

// lookup asks for addresses of both families at once.
func (n *Network) lookup(ctx context.Context, ask func(context.Context, dns.Name, dns.Type) ([]dns.Record, error), network,
	host string) ([]netip.Addr, error) {
	name, err := dns.ParseName(host)
	if err != nil {
		return nil, err
	}
	types := []dns.Type{dns.A, dns.AAAA}
	switch network {
	case "ip4":
		types = types[:1]
	case "ip6":
		types = types[1:]
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan answer, len(types))
	for _, t := range types {
		go func() {
			records, err := ask(ctx, name, t)
			answers <- answer{records: records, err: err}
		}()
	}
	var addrs []netip.Addr
	var errs []error
	var late <-chan time.Time
	for range types {
		select {
		case a := <-answers:
			for _, r := range a.records {
				addrs = append(addrs, r.Addr)
			}
			if a.err != nil && (len(errs) == 0 || errs[0].Error() != a.err.Error()) {
				errs = append(errs, a.err)
			}
		case <-late:
			return addrs, nil
		}
		if len(addrs) > 0 {
			late = time.After(resolutionDelay)
		}
	}
	if len(addrs) == 0 {
		return nil, cmp.Or(ctx.Err(), errors.Join(errs...))
	}
	return addrs, nil
}

// order puts the preferred family first, takes IPv4 addresses out of their IPv6 form, and leaves out those that a name
// server of an untrusted network could only give to point the device at itself.
func (n *Network) order(addrs []netip.Addr) []netip.Addr {
	for i, a := range addrs {
		addrs[i] = a.Unmap()
	}
	addrs = slices.DeleteFunc(addrs, func(a netip.Addr) bool { return a.IsLoopback() || a.IsUnspecified() || a.IsMulticast() })
	sort.SliceStable(addrs, func(i, j int) bool { return n.rank(addrs[i]) < n.rank(addrs[j]) }) // smaller than with package slices
	return addrs
}

func (n *Network) rank(a netip.Addr) int {
	if n.Prefer == "" || a.Is4() == (n.Prefer == "ip4") {
		return 0
	}
	return 1
}
