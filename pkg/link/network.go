package link

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/xpu-sztp/ztp/dhcp"
	"github.com/xpu-sztp/ztp/pkg/link/rtnetlink"
)

// Network reaches hosts by way of one interface, with the name servers that were learned there. Its sockets are bound to
// the interface, so that two networks with the same addresses do not get in each other's way. It has the methods of
// source.Network.
type Network struct {
	Interface string
	Index     int          // of the interface, which may have been renamed since; required
	DNS       []netip.Addr // the first six are asked; empty means the system's resolver
	System    []netip.Addr // the name servers of the system's resolver, for records that it does not look up
	Domains   []string     // tried for names without a dot
	// Prefer is the family ("ip4" or "ip6") whose addresses come first.
	Prefer string

	unbound atomic.Bool // the system does not let us bind to the interface
	deaf    atomic.Bool // the name servers let the latest question wait in vain
}

// DialContext connects to address by way of the interface. IPv6 link-local addresses get its zone.
func (n *Network) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if ap, err := netip.ParseAddrPort(address); err == nil && ap.Addr().IsLinkLocalUnicast() && ap.Addr().Is6() && ap.Addr().Zone() == "" {
		address = netip.AddrPortFrom(ap.Addr().WithZone(n.zone()), ap.Port()).String()
	}
	if ap, err := netip.ParseAddrPort(address); err == nil {
		n.approach(ap.Addr())
	}
	d := net.Dialer{Control: n.bind}
	return d.DialContext(ctx, network, address)
}

// approach has the kernel begin to look for a neighbour before anything is sent to it. As long as nobody knows whether another
// host has our IPv6 address, the kernel may not ask for the link-layer addresses of others, and what is sent to them waits for a
// second or two; unless it has been looking for them already, for then it sends by way of the default router (RFC 4429 §3.3).
func (n *Network) approach(to netip.Addr) {
	if !to.Is6() || !to.IsGlobalUnicast() {
		return
	}
	routes, err := mainRoutes(n.Index)
	onLink := func(r rtnetlink.Route) bool { return !r.Gateway.IsValid() && r.Destination.Contains(to) }
	if err == nil && slices.ContainsFunc(routes, onLink) {
		_ = rtnetlink.LookFor(n.Index, to)
	}
}

// bind ties a socket to the interface, unless the system refuses that to this process; it then uses the routing table like
// any other.
func (n *Network) bind(_, _ string, c syscall.RawConn) error {
	if n.unbound.Load() {
		return nil
	}
	var err error
	ifi := &net.Interface{Index: n.Index, Name: n.Interface}
	if controlErr := c.Control(func(fd uintptr) { err = dhcp.BindToInterface(int(fd), ifi) }); controlErr != nil {
		return controlErr
	}
	if errors.Is(err, unix.EPERM) {
		n.unbound.Store(true)
		return nil
	}
	return err
}

// zone is the interface in an IPv6 address.
func (n *Network) zone() string { return strconv.Itoa(n.Index) }
