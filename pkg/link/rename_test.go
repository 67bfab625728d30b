package link_test

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/pkg/link"
	"github.com/xpu-sztp/ztp/test/nettest"
)

// rename gives the device's interface another name, as udev does, while it is up.
func rename(t *testing.T, n *nettest.Network, name string) {
	t.Helper()
	n.Inside.Run(t, "ip", "link", "set", n.Device, "name", name)
	n.Device = name
}

// TestRenamedWithLease has two networks with the same addresses, so that only the rule for bound sockets tells them apart.
func TestRenamedWithLease(t *testing.T) {
	var networks []*nettest.Network
	for i := range 2 {
		n := nettest.NewNetwork(t, nil, "192.0.2.1/24")
		n.Up(t)
		var listener net.Listener
		n.Servers.Do(t, func() (err error) { listener, err = net.Listen("tcp", "192.0.2.1:80"); return err })
		t.Cleanup(func() { listener.Close() })
		go greet(listener, fmt.Sprint("server ", i))
		networks = append(networks, n)
	}
	before := shown(t, networks[1])
	s := open(t, link.Options{})
	var last link.Link
	var applied *link.Lease
	for _, n := range networks {
		last = await(t, s, n.Device, usable)
		s.PrepareIPv4(last)
		s.PrepareIPv6(last)
		var err error
		if applied, err = s.Apply(t.Context(), last, lease4); err != nil {
			t.Fatal(err)
		}
		defer applied.Remove()
	}
	n := networks[1]
	traces := []*nettest.Trace{networks[0].Trace(t), n.Trace(t)}
	rename(t, n, "renamed1")
	await(t, s, "renamed1", usable)
	var rules string
	for range 200 { // rules follow a moment after the list
		if rules = n.Inside.Run(t, "ip", "rule"); strings.Contains(rules, "oif renamed1 lookup") && strings.Count(rules, " oif ") == 2 {
			break
		}
	}
	if strings.Count(rules, "oif renamed1 lookup") != 1 || strings.Count(rules, " oif ") != 2 || strings.Contains(rules, "[detached]") {
		t.Errorf("rules\n%s", rules)
	}
	if routes := applied.Routes(); len(routes) != 4 || !strings.Contains(routes[0], "dev renamed1") {
		t.Errorf("routes %q", routes)
	}
	network := &link.Network{Interface: last.Name, Index: last.Index, Prefer: "ip4"}
	conn, err := network.DialContext(t.Context(), "tcp", "192.0.2.1:80")
	if err != nil {
		t.Fatal(err)
	}
	greeting := make([]byte, 64)
	k, _ := conn.Read(greeting)
	if conn.Close(); string(greeting[:k]) != "server 1" {
		t.Errorf("reached %q", greeting[:k])
	}
	traces[1].AwaitKind(t, "TCP", false)
	if astray := traces[0].Story("TCP"); len(astray) > 0 {
		t.Errorf("on the other cable: %q", astray)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(strings.ReplaceAll(before, last.Name, "renamed1"), shown(t, n)); diff != "" {
		t.Error(diff)
	}
	if b, _ := os.ReadFile("/proc/sys/net/ipv6/conf/renamed1/accept_ra"); string(b) != "1\n" {
		t.Errorf("accept_ra is %s", b)
	}
}
