package link_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/dhcp"
	"github.com/xpu-sztp/ztp/pkg/dns"
	"github.com/xpu-sztp/ztp/pkg/link"
	"github.com/xpu-sztp/ztp/test/nettest"
)

var lease4 = &dhcp.Lease{
	Address: netip.MustParsePrefix("192.0.2.50/24"), Server: netip.MustParseAddr("192.0.2.1"), Valid: time.Hour,
	Routes: []dhcp.Route{
		{Destination: netip.MustParsePrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr("192.0.2.1")},
		{Destination: netip.MustParsePrefix("198.51.100.0/24"), Gateway: netip.MustParseAddr("203.0.113.9")}, // not on the link
		{Destination: netip.MustParsePrefix("203.0.113.0/28")},
	},
}

// shown is the addresses and routes of an interface, and what leads to them.
func shown(t *testing.T, n *nettest.Network) string {
	return n.Inside.Run(t, "ip", "-o", "addr", "show", "dev", n.Device, "scope", "global") +
		n.Inside.Run(t, "ip", "-4", "route", "show", "table", "all", "dev", n.Device) + n.Inside.Run(t, "ip", "rule")
}

func TestApplyAndRemove(t *testing.T) {
	n := nettest.NewNetwork(t, nil)
	n.Up(t)
	record := filepath.Join(t.TempDir(), "network.json")
	s := open(t, link.Options{Record: record})
	before := shown(t, n)
	ctx, cancel := context.WithCancel(t.Context())
	applied, err := s.Apply(ctx, await(t, s, n.Device, usable), lease4)
	if err != nil {
		t.Fatal(err)
	}
	during := shown(t, n)
	for _, want := range []string{"192.0.2.50/24", "default via 192.0.2.1 table 143", "192.0.2.0/24 table 143", "scope link src 192.0.2.50 metric",
		"198.51.100.0/24 via 203.0.113.9 table 143", "203.0.113.0/28 table 143", "valid_lft", "from all oif " + n.Device + " lookup 143",
		"from 192.0.2.50 lookup 143", "32800:\tfrom all lookup 143"} {
		if !strings.Contains(during, want) {
			t.Errorf("no %q in\n%s", want, during)
		}
	}
	if strings.Contains(during, "forever") {
		t.Errorf("permanent changes:\n%s", during)
	}
	if len(applied.Routes()) != 4 {
		t.Errorf("routes %q", applied.Routes())
	}
	if l := await(t, s, n.Device, func(l *link.Link) bool { return len(l.Global(false)) == 1 }); l.Managed != "" {
		t.Errorf("our own address counts as managed by %q", l.Managed)
	}
	if err := applied.Extend(lease4); err != nil {
		t.Error(err)
	}
	cancel() // undoing does not depend on the context
	if err := applied.Remove(); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(before, shown(t, n)); diff != "" {
		t.Error(diff)
	}
	if _, err := os.Stat(record); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the record is left: %v", err)
	}
}

func TestApplyLeavesForeignThingsAlone(t *testing.T) {
	n := nettest.NewNetwork(t, nil)
	n.Up(t)
	s := open(t, link.Options{})
	l := await(t, s, n.Device, usable)
	n.Inside.Run(t, "ip", "addr", "add", "192.0.2.50/24", "dev", n.Device)
	before := shown(t, n)
	applied, err := s.Apply(t.Context(), l, lease4)
	if err != nil {
		t.Fatal(err)
	}
	if err := applied.Remove(); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(before, shown(t, n)); diff != "" {
		t.Error(diff)
	}
}

// TestLeaseTakesNoTrafficFromOthers: a DHCP server on an unmanaged port offers routes that would beat the default route of
// the managed one.
func TestLeaseTakesNoTrafficFromOthers(t *testing.T) {
	managed, n := nettest.NewNetwork(t, nil), nettest.NewNetwork(t, nil)
	managed.Up(t)
	n.Up(t)
	managed.Inside.Run(t, "ip", "addr", "add", "198.51.100.2/24", "dev", managed.Device)
	managed.Inside.Run(t, "ip", "route", "add", "default", "via", "198.51.100.1")
	s := open(t, link.Options{})
	greedy := *lease4
	gateway := netip.MustParseAddr("192.0.2.1")
	greedy.Routes = nil
	for _, dst := range []string{"0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1", "198.51.100.128/25", "203.0.113.7/32"} {
		greedy.Routes = append(greedy.Routes, dhcp.Route{Destination: netip.MustParsePrefix(dst), Gateway: gateway})
	}
	applied, err := s.Apply(t.Context(), await(t, s, n.Device, usable), &greedy)
	if err != nil {
		t.Fatal(err)
	}
	defer applied.Remove()
	if got := applied.Routes(); len(got) != 6 {
		t.Errorf("routes %q, want the subnet and those five", got)
	}
	for dst, how := range map[string][]string{"8.8.8.8": {"oif", n.Device}, "198.51.100.200": {"from", "192.0.2.50"}} {
		if out := n.Inside.Run(t, "ip", append([]string{"route", "get", dst}, how...)...); !strings.Contains(out, "via 192.0.2.1 dev "+n.Device) {
			t.Errorf("the way of the lease to %s is %s", dst, out)
		}
	}
	for _, dst := range []string{"203.0.113.7", "8.8.8.8", "198.51.100.200"} {
		if out := n.Inside.Run(t, "ip", "route", "get", dst); !strings.Contains(out, "dev "+managed.Device) {
			t.Errorf("the way to %s is now %s", dst, out)
		}
	}
	managed.Inside.Run(t, "ip", "route", "del", "default")
	if out := n.Inside.Run(t, "ip", "route", "get", "8.8.8.8"); !strings.Contains(out, "via 192.0.2.1 dev "+n.Device) {
		t.Errorf("without another default route, the way is %s", out)
	}
}

// TestAddressTakenOver checks that configuration which makes our address permanent keeps it.
func TestAddressTakenOver(t *testing.T) {
	n := nettest.NewNetwork(t, nil)
	n.Up(t)
	s := open(t, link.Options{})
	applied, err := s.Apply(t.Context(), await(t, s, n.Device, usable), lease4)
	if err != nil {
		t.Fatal(err)
	}
	n.Inside.Run(t, "ip", "addr", "replace", "192.0.2.50/24", "dev", n.Device, "valid_lft", "forever", "preferred_lft", "forever")
	if err := applied.Remove(); err != nil {
		t.Error(err)
	}
	if out := shown(t, n); !strings.Contains(out, "192.0.2.50/24") || strings.Contains(out, "lookup 143") {
		t.Error(out)
	}
}

func TestRecoversFromCrash(t *testing.T) {
	n := nettest.NewNetwork(t, nil)
	record := filepath.Join(t.TempDir(), "network.json")
	before := shown(t, n)
	s := open(t, link.Options{Record: record, Include: []string{n.Device}})
	s.Raise()
	l := await(t, s, n.Device, usable)
	s.PrepareIPv6(l)
	if _, err := s.Apply(t.Context(), l, lease4); err != nil {
		t.Fatal(err)
	}
	crashed, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	var changes []any
	if err := json.Unmarshal(crashed, &changes); err != nil || len(changes) != 13 {
		t.Fatalf("%d changes recorded, %v: %s", len(changes), err, crashed)
	}
	crash(t, record)
	next := open(t, link.Options{Record: record, Include: []string{n.Device}})
	if diff := cmp.Diff(before, shown(t, n)); diff != "" {
		t.Error(diff)
	}
	if l := await(t, next, n.Device, func(*link.Link) bool { return true }); l.Up {
		t.Error("the interface is still up")
	}
	for parameter, want := range map[string]string{"accept_ra": "1\n", "optimistic_dad": "0\n", "use_optimistic": "0\n"} {
		if b, _ := os.ReadFile("/proc/sys/net/ipv6/conf/" + n.Device + "/" + parameter); string(b) != want {
			t.Errorf("%s is %s", parameter, b)
		}
	}
}

// TestTwoNetworksWithOneAddress dials the same server address on two interfaces and gets two servers.
func TestTwoNetworksWithOneAddress(t *testing.T) {
	s := open(t, link.Options{})
	for i := range 2 {
		n := nettest.NewNetwork(t, nil, "192.0.2.1/24")
		n.Up(t)
		greeting := fmt.Sprintf("server %d", i)
		var listener net.Listener
		n.Servers.Do(t, func() (err error) { listener, err = net.Listen("tcp", "192.0.2.1:80"); return err })
		defer listener.Close()
		go greet(listener, greeting)
		log := n.Dnsmasq(t, "address=/bs.example.test/192.0.2.1", "address=/host.lab.test/192.0.2.1", "address=/self.test/127.0.0.1", "local=/test/")
		l := await(t, s, n.Device, usable)
		if err := os.WriteFile("/proc/sys/net/ipv4/conf/"+n.Device+"/rp_filter", []byte("1"), 0o644); err != nil {
			t.Fatal(err)
		}
		defer s.PrepareIPv4(l)()
		applied, err := s.Apply(t.Context(), l, lease4)
		if err != nil {
			t.Fatal(err)
		}
		defer applied.Remove()
		network := &link.Network{Interface: n.Device, Index: l.Index, DNS: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Domains: []string{"lab.test"}, Prefer: "ip4"}
		for host, want := range map[string]string{"bs.example.test": "[192.0.2.1]", "host": "[192.0.2.1]", "192.0.2.9": "[192.0.2.9]", "self.test": "[]"} {
			addrs, err := network.LookupNetIP(t.Context(), "ip", host)
			if err != nil || fmt.Sprint(addrs) != want {
				t.Errorf("%s: %v, %v\n%s", host, addrs, err, log)
			}
		}
		_, err = network.LookupNetIP(t.Context(), "ip", "missing.test")
		if !errors.Is(err, dns.ErrNoSuchName) || !strings.HasPrefix(err.Error(), "192.0.2.1: ") {
			t.Errorf("missing name: %v", err)
		}
		conn, err := network.DialContext(t.Context(), "tcp", "192.0.2.1:80")
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 64)
		k, _ := conn.Read(buf)
		if conn.Close(); string(buf[:k]) != greeting {
			t.Errorf("reached %q, want %q", buf[:k], greeting)
		}
	}
}

// greet says the same to whoever connects.
func greet(l net.Listener, greeting string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		fmt.Fprint(c, greeting)
		c.Close()
	}
}

// TestLeaseOfForeignAddress: a DHCP server on an unmanaged port leases the address by which the machine is managed.
func TestLeaseOfForeignAddress(t *testing.T) {
	managed, n := nettest.NewNetwork(t, nil), nettest.NewNetwork(t, nil)
	managed.Up(t)
	n.Up(t)
	managed.Inside.Run(t, "ip", "addr", "add", "198.51.100.2/24", "dev", managed.Device)
	managed.Inside.Run(t, "ip", "route", "add", "default", "via", "198.51.100.1")
	s := open(t, link.Options{})
	stolen := *lease4
	stolen.Address = netip.MustParsePrefix("198.51.100.2/24")
	applied, err := s.Apply(t.Context(), await(t, s, n.Device, usable), &stolen)
	if err != nil {
		t.Fatal(err)
	}
	defer applied.Remove()
	for _, dst := range []string{"8.8.8.8", "198.51.100.77"} {
		if out := n.Inside.Run(t, "ip", "route", "get", dst, "from", "198.51.100.2"); !strings.Contains(out, "dev "+managed.Device) {
			t.Errorf("the way to %s is now %s", dst, out)
		}
	}
}

// TestTwoDefaultGateways reaches a server behind the router of each network. What is for one never shows on the other's cable.
func TestTwoDefaultGateways(t *testing.T) {
	s := open(t, link.Options{})
	type side struct {
		network *link.Network
		trace   *nettest.Trace
	}
	var sides []side
	for i, prefix := range []string{"192.0.2.", "198.51.100."} {
		n := nettest.NewNetwork(t, nil, prefix+"1/24", "203.0.113.1/32") // the same address behind both
		n.Up(t)
		var listener net.Listener
		n.Servers.Do(t, func() (err error) { listener, err = net.Listen("tcp", "203.0.113.1:80"); return err })
		defer listener.Close()
		go greet(listener, fmt.Sprint("server ", i))
		l := await(t, s, n.Device, usable)
		lease := &dhcp.Lease{Address: netip.MustParsePrefix(prefix + "50/24"), Valid: time.Hour, Routes: []dhcp.Route{
			{Destination: netip.MustParsePrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr(prefix + "1")}}}
		trace := n.Trace(t)
		applied, err := s.Apply(t.Context(), l, lease)
		if err != nil {
			t.Fatal(err)
		}
		defer applied.Remove()
		sides = append(sides, side{&link.Network{Interface: n.Device, Index: l.Index, Prefer: "ip4"}, trace})
	}
	for i, side := range sides {
		conn, err := side.network.DialContext(t.Context(), "tcp", "203.0.113.1:80")
		if err != nil {
			t.Fatal(err)
		}
		greeting := make([]byte, 64)
		k, _ := conn.Read(greeting)
		if conn.Close(); string(greeting[:k]) != fmt.Sprint("server ", i) {
			t.Errorf("reached %q by interface %d", greeting[:k], i)
		}
	}
	for i, side := range sides {
		side.trace.AwaitKind(t, "SYN ACK", false)
		for _, told := range side.trace.Story("SYN") {
			if !strings.Contains(told, []string{"192.0.2.50:", "198.51.100.50:"}[i]) {
				t.Errorf("on the cable of interface %d: %s", i, told)
			}
		}
	}
}
