package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Network reaches hosts by way of one interface, with the name servers that were learned there. Its sockets are bound to
// the interface, so that two networks with the same addresses do not get in each other's way. It has the methods of
// source.Network.
type Network struct {
	Interface string
	DNS       []netip.Addr // empty means the system's resolver
	Domains   []string     // tried for names without a dot
	// Prefer is the family ("ip4" or "ip6") whose addresses come first.
	Prefer string

	unbound atomic.Bool // the system does not let us bind to the interface
}

// dnsTimeout bounds the attempts with one name server.
const dnsTimeout = 5 * time.Second

// DialContext connects to address by way of the interface. IPv6 link-local addresses get its zone.
func (n *Network) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if ap, err := netip.ParseAddrPort(address); err == nil && ap.Addr().IsLinkLocalUnicast() && ap.Addr().Is6() && ap.Addr().Zone() == "" {
		address = netip.AddrPortFrom(ap.Addr().WithZone(n.Interface), ap.Port()).String()
	}
	d := net.Dialer{Control: n.bind}
	return d.DialContext(ctx, network, address)
}

// bind ties a socket to the interface, unless the system refuses that to this process; it then uses the routing table like
// any other.
func (n *Network) bind(_, _ string, c syscall.RawConn) error {
	if n.unbound.Load() {
		return nil
	}
	var err error
	if controlErr := c.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), n.Interface) }); controlErr != nil {
		return controlErr
	}
	if errors.Is(err, unix.EPERM) {
		n.unbound.Store(true)
		return nil
	}
	if err != nil {
		return fmt.Errorf("bind to interface %s: %w", n.Interface, err)
	}
	return nil
}

// LookupNetIP resolves host with the name servers in turn; the first that knows or denies the name decides. Names below
// .local are asked of the neighbours (RFC 6762). IP literals are returned as they are.
func (n *Network) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{addr}, nil
	}
	if isLocal(host) {
		addrs, err := n.lookupLocal(ctx, network, host)
		return n.order(addrs), err
	}
	if len(n.DNS) == 0 {
		addrs, err := net.DefaultResolver.LookupNetIP(ctx, network, host)
		return n.order(addrs), err
	}
	var err error
	for _, name := range n.names(host) {
		var addrs []netip.Addr
		if addrs, err = n.lookup(ctx, network, name); err == nil {
			return n.order(addrs), nil
		}
	}
	return nil, err
}

// names returns the absolute names to look up for host. The final dot keeps the system's own search list out.
func (n *Network) names(host string) []string {
	if strings.HasSuffix(host, ".") {
		return []string{host}
	}
	var names []string
	if !strings.Contains(host, ".") {
		for _, d := range n.Domains {
			names = append(names, host+"."+d+".")
		}
	}
	return append(names, host+".")
}

func (n *Network) lookup(ctx context.Context, network, name string) ([]netip.Addr, error) {
	var errs []error
	for _, server := range n.DNS {
		r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return n.DialContext(ctx, network, netip.AddrPortFrom(server, 53).String())
		}}
		one, cancel := context.WithTimeout(ctx, dnsTimeout)
		addrs, err := r.LookupNetIP(one, network, name)
		cancel()
		if err == nil {
			return addrs, nil
		}
		// The resolver names the server of /etc/resolv.conf in its errors, which it did not ask.
		var dns *net.DNSError
		if errors.As(err, &dns) {
			dns.Server = server.String()
			if dns.IsNotFound {
				return nil, err
			}
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// order puts the preferred family first, takes IPv4 addresses out of their IPv6 form, and leaves out those that a name
// server of an untrusted network could only give to point the device at itself.
func (n *Network) order(addrs []netip.Addr) []netip.Addr {
	for i, a := range addrs {
		addrs[i] = a.Unmap()
	}
	addrs = slices.DeleteFunc(addrs, func(a netip.Addr) bool { return a.IsLoopback() || a.IsUnspecified() || a.IsMulticast() })
	slices.SortStableFunc(addrs, func(a, b netip.Addr) int { return n.rank(a) - n.rank(b) })
	return addrs
}

func (n *Network) rank(a netip.Addr) int {
	if n.Prefer == "" || a.Is4() == (n.Prefer == "ip4") {
		return 0
	}
	return 1
}
