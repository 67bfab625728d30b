package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xpu-sztp/ztp/pkg/dns"
)

// ErrNoNameServer is returned by Ask when none was learned on the interface.
var ErrNoNameServer = errors.New("the network has no name server")

// Times of asking name servers.
const (
	dnsTimeout     = 5 * time.Second         // for the answer of one
	headStart      = time.Second             // of each, before the next is asked as well
	deafTimeout    = 1500 * time.Millisecond // for all, once they have let a question wait in vain
	maxNameServers = 6
)

// Ask asks the name servers that were learned on the interface for records. Each has a moment before the next is asked as
// well; the first that answers or denies them decides. With n servers, none of which answers, it takes n+4 s, and 1.5 s when
// they have not answered the question before either: a network of dead servers must not take up the time for other places.
func (n *Network) Ask(ctx context.Context, name dns.Name, t dns.Type) ([]dns.Record, error) {
	servers := n.servers()
	if len(servers) == 0 {
		return nil, ErrNoNameServer
	}
	head, limit, begun := headStart, dnsTimeout, time.Now()
	if n.deaf.Load() {
		head, limit = 0, deafTimeout
	}
	asking, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan answer, len(servers))
	next := time.NewTimer(0)
	defer next.Stop()
	asked, failed := 0, 0
	errs := make([]error, len(servers))
	for failed < len(servers) {
		select {
		case <-next.C:
			if asked < len(servers) {
				go func(i int) {
					records, err := n.askOne(asking, servers[i], limit, name, t)
					answers <- answer{i, records, err}
				}(asked)
				asked++
				next.Reset(head)
			}
		case a := <-answers:
			if a.err == nil || errors.Is(a.err, dns.ErrNoSuchName) || errors.Is(a.err, dns.ErrNoData) {
				n.deaf.Store(false)
				return a.records, a.err
			}
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			errs[a.server] = a.err
			failed++
			next.Reset(0) // it is the next one's turn
		}
	}
	n.deaf.Store(time.Since(begun) > headStart)
	return nil, errors.Join(errs...)
}

func (n *Network) askOne(ctx context.Context, server netip.Addr, limit time.Duration, name dns.Name, t dns.Type) ([]dns.Record, error) {
	one, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	records, err := dns.Ask(one, func(ctx context.Context, network string) (net.Conn, error) {
		return n.dialServer(ctx, network, server)
	}, name, t)
	if err == nil {
		return records, nil
	}
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err // without addresses and ports, which are others each time
	}
	if one.Err() != nil && ctx.Err() == nil {
		err = dns.ErrNoAnswer
	}
	return nil, fmt.Errorf("%v: %w", server, err)
}

// AskLink asks the neighbours by multicast DNS, in the family of Prefer.
func (n *Network) AskLink(ctx context.Context, name dns.Name, t dns.Type) ([]dns.Record, error) {
	network, group := "udp4", "224.0.0.251:5353"
	if n.Prefer == "ip6" {
		network, group = "udp6", "[ff02::fb%"+n.zone()+"]:5353"
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
