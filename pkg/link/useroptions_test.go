package link_test

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/net/icmp"

	"github.com/xpu-sztp/ztp/pkg/link"
	"github.com/xpu-sztp/ztp/test/nettest"
)

// TestNameServersThatAreGone has one advertisement of more name servers than are remembered, for ever, by a router that is
// never heard again, and then one by a router of good faith.
func TestNameServersThatAreGone(t *testing.T) {
	n := nettest.NewNetwork(t, nil)
	n.Up(t)
	s := open(t, link.Options{})
	defer s.PrepareIPv6(await(t, s, n.Device, func(l *link.Link) bool { return l.LinkLocal().IsValid() }))()
	var gone []netip.Addr
	for i := range 12 {
		gone = append(gone, netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: byte(i + 1)}))
	}
	honest := []netip.Addr{netip.MustParseAddr("2001:db8::53"), netip.MustParseAddr("2001:db8::54")}
	advertise(t, n, 0xffffffff, gone)
	l := await(t, s, n.Device, func(l *link.Link) bool { return len(l.Router.DNS) > 0 })
	if !slices.Equal(l.Router.DNS, gone[:8]) {
		t.Errorf("remembers %v", l.Router.DNS)
	}
	advertise(t, n, 600, honest)
	l = await(t, s, n.Device, func(l *link.Link) bool { return slices.Contains(l.Router.DNS, honest[0]) })
	if want := slices.Concat(honest, gone[:6]); !slices.Equal(l.Router.DNS, want) {
		t.Errorf("remembers %v, want %v", l.Router.DNS, want)
	}
	advertise(t, n, 0, honest[1:])
	l = await(t, s, n.Device, func(l *link.Link) bool { return len(l.Router.DNS) == 7 })
	if l.Router.DNS[0] != honest[0] {
		t.Errorf("remembers %v", l.Router.DNS)
	}
}

// advertise sends a router advertisement (RFC 4861 §4.2) with an option for name servers (RFC 8106 §5.1).
func advertise(t *testing.T, n *nettest.Network, lifetime uint32, servers []netip.Addr) {
	t.Helper()
	message := []byte{134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0, 25, byte(1 + 2*len(servers)), 0, 0}
	message = binary.BigEndian.AppendUint32(message, lifetime)
	for _, s := range servers {
		message = append(message, s.AsSlice()...)
	}
	announce(t, n, "::", 255, message)
}

// announce sends an ICMPv6 message to all from an address of the server, or from its link-local one when that is "::".
func announce(t *testing.T, n *nettest.Network, from string, hops int, message []byte) {
	t.Helper()
	n.Servers.Do(t, func() error {
		conn, err := icmp.ListenPacket("ip6:ipv6-icmp", from)
		if err != nil {
			return err
		}
		defer conn.Close()
		if err := conn.IPv6PacketConn().SetMulticastHopLimit(hops); err != nil {
			return err
		}
		_, err = conn.WriteTo(message, &net.IPAddr{IP: net.ParseIP("ff02::1"), Zone: n.Server})
		return err
	})
}

// TestAdvertisementsFromElsewhere: what a router may have passed on, or does not come from a router's link-local address, is no
// advertisement (RFC 4861 §6.1.2), nor is another message with the same content.
func TestAdvertisementsFromElsewhere(t *testing.T) {
	n := nettest.NewNetwork(t, nil, "2001:db8:5::1/64")
	n.Up(t)
	s := open(t, link.Options{})
	defer s.PrepareIPv6(await(t, s, n.Device, func(l *link.Link) bool { return l.LinkLocal().IsValid() }))()
	message := func(kind byte, server string) []byte {
		options := append([]byte{25, 3, 0, 0, 0, 0, 2, 88}, netip.MustParseAddr(server).AsSlice()...)
		return append([]byte{kind, 0, 0, 0, 64, 0xc0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0}, options...)
	}
	announce(t, n, "::", 254, message(134, "2001:db8::1"))
	announce(t, n, "::", 1, message(134, "2001:db8::2"))
	announce(t, n, "2001:db8:5::1", 255, message(134, "2001:db8::3"))
	announce(t, n, "::", 255, message(200, "2001:db8::4"))
	announce(t, n, "::", 255, message(134, "2001:db8::53"))
	l := await(t, s, n.Device, func(l *link.Link) bool { return len(l.Router.DNS) > 0 })
	if !slices.Equal(l.Router.DNS, []netip.Addr{netip.MustParseAddr("2001:db8::53")}) {
		t.Errorf("believes %v", l.Router.DNS)
	}
}
