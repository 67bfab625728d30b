package link_test

import (
	"context"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/pkg/link"
	"github.com/xpu-sztp/ztp/test/nettest"
)

// TestNeighbourWhileAddressIsUnproven connects to a host of the link, and asks one by UDP, while the kernel still looks whether
// another host has the device's address, which takes half a minute here.
func TestNeighbourWhileAddressIsUnproven(t *testing.T) {
	n := nettest.NewNetwork(t, nil, "2001:db8:a::1/64", "2001:db8:a::2/64")
	n.Inside.Do(t, func() error {
		for key, value := range map[string]string{"accept_dad": "1", "dad_transmits": "30", "optimistic_dad": "1", "use_optimistic": "1"} {
			if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+n.Device+"/"+key, []byte(value), 0o644); err != nil {
				return err
			}
		}
		return nil
	})
	n.Dnsmasq(t, "port=0", "enable-ra", "dhcp-range=2001:db8:a::,ra-only")
	n.Up(t)
	s := open(t, link.Options{})
	l := await(t, s, n.Device, func(l *link.Link) bool { return len(l.Global(true)) > 0 })
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	if _, err := s.AwaitDefaultRoute(ctx, l); err != nil {
		t.Fatal(err)
	}
	var tcp net.Listener
	var udp net.PacketConn
	n.Servers.Do(t, func() (err error) { tcp, err = net.Listen("tcp", "[2001:db8:a::1]:8443"); return err })
	defer tcp.Close()
	n.Servers.Do(t, func() (err error) { udp, err = net.ListenPacket("udp", "[2001:db8:a::2]:53"); return err })
	defer udp.Close()

	network := &link.Network{Interface: n.Device, Index: l.Index, Prefer: "ip6"}
	conn, err := network.DialContext(ctx, "tcp", "[2001:db8:a::1]:8443")
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	conn, err = network.DialContext(ctx, "udp", "[2001:db8:a::2]:53")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.Write([]byte("question"))
	udp.SetReadDeadline(time.Now().Add(15 * time.Second))
	if _, _, err := udp.ReadFrom(make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	links, _ := s.Links()
	i := slices.IndexFunc(links, func(o link.Link) bool { return o.Index == l.Index })
	if !slices.ContainsFunc(links[i].Addresses, func(a link.Address) bool { return a.Optimistic && a.Addr().IsGlobalUnicast() }) {
		t.Errorf("the address was proven before: %+v", links[i].Addresses)
	}
}
