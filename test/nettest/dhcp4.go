package nettest

import (
	"net"
	"os/exec"
	"syscall"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sys/unix"
)

// Relayed makes a second network, with the real Kea in it, behind a real ISC dhcrelay and router. The relay is this network's
// server host, which routes between both: relay is its address on this network, such as "192.0.2.1", router that on the second
// one, such as "198.51.100.1/24".
func (n *Network) Relayed(t testing.TB, relay, kea, router string, c DHCP) (behind *Network, log *Log) {
	t.Helper()
	c.More = map[string]any{"relay": map[string]any{"ip-addresses": []string{relay}}}
	behind = NewNetwork(t, n.Servers, kea)
	behind.Up(t)
	n.Servers.Run(t, "ip", "addr", "add", router, "dev", behind.Device)
	n.Servers.Run(t, "sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
	gateway, _, err := net.ParseCIDR(router)
	if err != nil {
		t.Fatal(err)
	}
	server, _, err := net.ParseCIDR(kea)
	if err != nil {
		t.Fatal(err)
	}
	behind.Servers.Run(t, "ip", "route", "add", "default", "via", gateway.String())
	log = behind.Kea4(t, c)
	n.Serve(t, "Sending on   Socket/fallback", exec.Command("dhcrelay", "-4", "-d", "--no-pid", "-id", n.Server, "-iu", behind.Device, server.String()))
	return behind, log
}

// Liar has one more host of the network, with the given address, answer each DHCPv4 request with what lie makes of it: whole
// messages, sent to all. It answers sooner than servers that look anything up.
func (n *Network) Liar(t testing.TB, address string, lie func(request *dhcpv4.DHCPv4) [][]byte) {
	t.Helper()
	host, ifname := n.Attach(t, address)
	var conn net.PacketConn
	host.Do(t, func() (err error) {
		lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
			return c.Control(func(fd uintptr) { unix.BindToDevice(int(fd), ifname) })
		}}
		conn, err = lc.ListenPacket(t.Context(), "udp4", ":67")
		return err
	})
	t.Cleanup(func() { conn.Close() })
	go func() {
		b := make([]byte, 1<<16)
		for {
			k, _, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			if m, err := dhcpv4.FromBytes(b[:k]); err == nil && m.OpCode == dhcpv4.OpcodeBootRequest {
				for _, p := range lie(m) {
					conn.WriteTo(p, &net.UDPAddr{IP: net.IPv4bcast, Port: 68})
				}
			}
		}
	}()
}
