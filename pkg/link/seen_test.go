package link_test

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/dhcp"
	"github.com/xpu-sztp/ztp/pkg/link"
	"github.com/xpu-sztp/ztp/pkg/state"
	"github.com/xpu-sztp/ztp/test/nettest"
)

// TestSeen reads of a configured machine what its network is known by: the routers of both families, with hardware addresses
// once they were needed, and what its network manager was told.
func TestSeen(t *testing.T) {
	n := nettest.NewNetwork(t, nil, "192.0.2.1/24", "192.0.2.2/24")
	n.Advertise(t, nettest.Router{Prefix: "2001:db8:5::/64", Autonomous: true})
	n.Up(t)
	n.Inside.Run(t, "ip", "address", "add", "192.0.2.9/24", "dev", n.Device)
	n.Inside.Run(t, "ip", "route", "add", "default", "metric", "7", "nexthop", "via", "192.0.2.1", "dev", n.Device,
		"nexthop", "via", "192.0.2.2", "dev", n.Device)
	run := t.TempDir()
	s := open(t, link.Options{Run: run, Resolver: filepath.Join(run, "none")})
	l := await(t, s, n.Device, usable)
	for file, content := range map[string]string{
		"links":  "ADMIN_STATE=configured\nDOMAINS=lab.example\n",
		"leases": "ADDRESS=192.0.2.9\nSERVER_ADDRESS=192.0.2.5\n",
	} {
		path := filepath.Join(run, "systemd/netif", file, strconv.Itoa(l.Index))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	s = open(t, link.Options{Run: run, Resolver: filepath.Join(run, "none")})

	conn, err := net.Dial("udp", "192.0.2.1:9") // so that the kernel asks for the router's hardware address
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	mac := strings.Fields(n.Servers.Run(t, "ip", "-o", "link", "show", n.Server))
	mac = mac[slices.Index(mac, "link/ether")+1:]
	want := []string{"router 192.0.2.1 " + mac[0], "router 192.0.2.2", "domain lab.example", "dhcp-server 192.0.2.5"}
	var seen state.Network
	complete := func() bool {
		return !slices.ContainsFunc(want, func(f string) bool { return !slices.Contains(seen, f) }) &&
			slices.ContainsFunc(seen, func(f string) bool { return strings.HasPrefix(f, "router fe80::") && strings.HasSuffix(f, mac[0]) })
	}
	limit := time.After(20 * time.Second)
	for tick := time.NewTicker(20 * time.Millisecond); !complete(); {
		select {
		case <-tick.C:
			seen = s.Seen(t.Context())
		case <-limit:
			t.Fatalf("saw %q, want %q and the router that advertises itself", seen, want)
		}
	}

	leased := s.Leased(l, &dhcp.Lease{Domains: []string{"a", "b"}, Server: netip.MustParseAddr("192.0.2.5"), Routes: []dhcp.Route{
		{Destination: netip.MustParsePrefix("198.51.100.0/24"), Gateway: netip.MustParseAddr("192.0.2.7")},
		{Destination: netip.MustParsePrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr("192.0.2.1")},
	}})
	if want := (state.Network{"domain a", "domain b", "dhcp-server 192.0.2.5", "router 192.0.2.1 " + mac[0]}); len(leased) != 5 ||
		!slices.Equal(leased[:4], want) || !strings.HasPrefix(leased[4], "router fe80::") {
		t.Errorf("leased %q", leased)
	}
	if leased.Compare(seen) != state.Same {
		t.Errorf("%q is taken for another network than %q", leased, seen)
	}
}
