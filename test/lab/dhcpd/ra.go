package dhcpd

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv6"

	"github.com/xpu-sztp/ztp/test/lab/event"
)

// Advertiser sends router advertisements (RFC 4861 §4.2) on one interface: every few seconds and when asked. They announce a
// default router, an on-link prefix, and that addresses come by DHCPv6 or, with Autonomous, that devices choose them. Name
// servers and the search domain are left out when there are none (RFC 8106).
type Advertiser struct {
	Interface  string
	LinkLocal  netip.Addr   // of the router, on Interface
	Prefix     netip.Prefix // on-link
	Autonomous bool
	DNS        []netip.Addr
	Domain     string
	Lifetime   time.Duration
	Every      time.Duration // default 4 s
	Log        *event.Log

	zone string
	conn *icmp.PacketConn
	once sync.Once
	done chan struct{}
}

var (
	allNodes   = net.ParseIP("ff02::1")
	allRouters = net.ParseIP("ff02::2")
)

// Start begins to advertise.
func (a *Advertiser) Start() error {
	if a.Every == 0 {
		a.Every = 4 * time.Second
	}
	if a.Lifetime == 0 {
		a.Lifetime = 30 * time.Minute
	}
	link, err := net.InterfaceByName(a.Interface)
	if err != nil {
		return fmt.Errorf("router advertisements on %s: %w", a.Interface, err)
	}
	// By number, because package net remembers the numbers of names for a while.
	a.zone = strconv.Itoa(link.Index)
	conn, err := icmp.ListenPacket("ip6:ipv6-icmp", a.LinkLocal.WithZone(a.zone).String())
	if err != nil {
		return fmt.Errorf("router advertisements on %s: %w", a.Interface, err)
	}
	if err := configure(conn.IPv6PacketConn(), link); err != nil {
		conn.Close()
		return fmt.Errorf("router advertisements on %s: %w", a.Interface, err)
	}
	a.conn, a.done = conn, make(chan struct{})
	go a.unsolicited(link)
	return nil
}

// Close ends the advertisements.
func (a *Advertiser) Close() error {
	var err error
	a.once.Do(func() {
		close(a.done)
		err = a.conn.Close()
	})
	return err
}

func configure(p *ipv6.PacketConn, link *net.Interface) error {
	if err := p.JoinGroup(link, &net.IPAddr{IP: allRouters}); err != nil {
		return err
	}
	if err := p.SetMulticastInterface(link); err != nil {
		return err
	}
	// Receivers drop neighbour discovery that crossed a router (RFC 4861 §6.1.2).
	if err := p.SetMulticastHopLimit(255); err != nil {
		return err
	}
	var only ipv6.ICMPFilter
	only.SetAll(true)
	only.Accept(ipv6.ICMPTypeRouterSolicitation)
	return p.SetICMPFilter(&only)
}

// unsolicited advertises periodically, and at once when a device solicits.
func (a *Advertiser) unsolicited(link *net.Interface) {
	asked := make(chan net.Addr)
	go a.solicitations(asked)
	tick := time.NewTicker(a.Every)
	defer tick.Stop()
	message := a.message(link.HardwareAddr, link.MTU)
	for {
		select {
		case <-a.done:
			return
		case <-tick.C:
		case peer := <-asked:
			if a.Log != nil {
				a.Log.Add("router", event.RouterAd, []string{"peer", peer.String()},
					"%s solicits a router → advertised %s", peer, a.Prefix)
			}
		}
		a.conn.WriteTo(message, &net.IPAddr{IP: allNodes, Zone: a.zone})
	}
}

// solicitations needs a socket of its own because one bound to the link-local address does not get multicast.
func (a *Advertiser) solicitations(asked chan<- net.Addr) {
	conn, err := icmp.ListenPacket("ip6:ipv6-icmp", "::")
	if err != nil {
		return
	}
	go func() {
		<-a.done
		conn.Close()
	}()
	link, err := net.InterfaceByName(a.Interface)
	if err != nil || configure(conn.IPv6PacketConn(), link) != nil {
		return
	}
	buf := make([]byte, 1500)
	for {
		n, peer, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		if n < 8 || buf[0] != byte(ipv6.ICMPTypeRouterSolicitation) {
			continue
		}
		select {
		case asked <- peer:
		case <-a.done:
			return
		}
	}
}

// message is a router advertisement; the kernel fills in the checksum.
func (a *Advertiser) message(mac net.HardwareAddr, mtu int) []byte {
	const managed, other = 0x80, 0x40
	m := []byte{byte(ipv6.ICMPTypeRouterAdvertisement), 0, 0, 0, 64, managed | other}
	if a.Autonomous {
		m[5] = 0
	}
	m = binary.BigEndian.AppendUint16(m, uint16(a.Lifetime.Seconds()))
	m = append(m, 0, 0, 0, 0, 0, 0, 0, 0) // reachable time and retransmission timer: unspecified
	m = append(m, 1, 1)                   // source link-layer address
	m = append(m, mac...)
	m = append(m, 5, 1, 0, 0) // MTU
	m = binary.BigEndian.AppendUint32(m, uint32(mtu))
	const onLink, autonomous = 0x80, 0x40
	m = append(m, 3, 4, byte(a.Prefix.Bits()), onLink) // prefix information
	if a.Autonomous {
		m[len(m)-1] |= autonomous
	}
	m = binary.BigEndian.AppendUint32(m, uint32(a.Lifetime.Seconds()))
	m = binary.BigEndian.AppendUint32(m, uint32(a.Lifetime.Seconds()))
	m = append(m, 0, 0, 0, 0)
	m = append(m, a.Prefix.Masked().Addr().AsSlice()...)
	lifetime := binary.BigEndian.AppendUint32(nil, uint32(a.Lifetime.Seconds()))
	if len(a.DNS) > 0 {
		m = append(append(m, 25, byte(1+2*len(a.DNS)), 0, 0), lifetime...)
		for _, server := range a.DNS {
			m = append(m, server.AsSlice()...)
		}
	}
	if a.Domain != "" {
		var name []byte
		for label := range strings.SplitSeq(a.Domain, ".") {
			name = append(append(name, byte(len(label))), label...)
		}
		name = append(name, 0)
		name = append(name, make([]byte, (8-len(name)%8)%8)...)
		m = append(append(append(m, 31, byte(1+len(name)/8), 0, 0), lifetime...), name...)
	}
	return m
}
