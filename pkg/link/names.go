package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/xpu-sztp/ztp/pkg/dns"
)

// ErrNoNameServer is returned by Ask when none was learned on the interface.
var ErrNoNameServer = errors.New("the network has no name server")

// Ask asks the name servers that were learned on the interface, in turn, for records; the first that answers or denies them
// decides.
func (n *Network) Ask(ctx context.Context, name dns.Name, t dns.Type) ([]dns.Record, error) {
	if len(n.DNS) == 0 {
		return nil, ErrNoNameServer
	}
	var errs []error
	for _, server := range n.DNS {
		one, cancel := context.WithTimeout(ctx, dnsTimeout)
		records, err := dns.Ask(one, func(ctx context.Context, network string) (net.Conn, error) {
			return n.DialContext(ctx, network, netip.AddrPortFrom(server, 53).String())
		}, name, t)
		cancel()
		if err == nil || errors.Is(err, dns.ErrNoSuchName) || errors.Is(err, dns.ErrNoData) {
			return records, err
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		errs = append(errs, fmt.Errorf("%v: %w", server, err))
	}
	return nil, errors.Join(errs...)
}

// AskLink asks the neighbours by multicast DNS, in the family of Prefer.
func (n *Network) AskLink(ctx context.Context, name dns.Name, t dns.Type) ([]dns.Record, error) {
	network, group := "udp4", "224.0.0.251:5353"
	if n.Prefer == "ip6" {
		network, group = "udp6", "[ff02::fb%"+n.Interface+"]:5353"
	}
	to, err := net.ResolveUDPAddr(network, group)
	if err != nil {
		return nil, err
	}
	lc := net.ListenConfig{Control: func(network, address string, c syscall.RawConn) error {
		if err := n.bind(network, address, c); err != nil {
			return err
		}
		var err error
		controlErr := c.Control(func(fd uintptr) {
			if network == "udp6" {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255)
			} else {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MULTICAST_TTL, 255)
			}
		})
		return errors.Join(controlErr, err)
	}}
	conn, err := lc.ListenPacket(ctx, network, ":0")
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return dns.AskLink(ctx, dns.Packets{PacketConn: conn, Group: to}, name, t)
}

// isLocal reports whether host is one of the names that only neighbours know (RFC 6762 §3).
func isLocal(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return strings.HasSuffix(host, ".local")
}

// lookupLocal resolves the name of a neighbour. An address that is on this link only gets its zone when it is dialled.
func (n *Network) lookupLocal(ctx context.Context, network, host string) ([]netip.Addr, error) {
	name, err := dns.ParseName(host)
	if err != nil {
		return nil, err
	}
	types := []dns.Type{dns.A, dns.AAAA}
	switch {
	case network == "ip4":
		types = types[:1]
	case network == "ip6":
		types = types[1:]
	case n.Prefer == "ip6":
		types = []dns.Type{dns.AAAA, dns.A}
	}
	var addrs []netip.Addr
	var errs []error
	for _, t := range types {
		records, err := n.AskLink(ctx, name, t)
		if err != nil {
			errs = append(errs, err)
		}
		for _, r := range records {
			addrs = append(addrs, r.Addr)
		}
		if len(addrs) > 0 {
			return addrs, nil
		}
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return nil, &net.DNSError{Err: errors.Join(errs...).Error(), Name: host, Server: "multicast DNS", IsNotFound: true}
}
