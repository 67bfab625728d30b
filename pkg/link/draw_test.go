package link_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/dhcp"
	"github.com/xpu-sztp/ztp/pkg/link"
	"github.com/xpu-sztp/ztp/test/nettest"
)

// managed adds an interface that is not the agent's, with a route to a router.
func managed(t *testing.T, n *nettest.Network, name, address, router string) {
	t.Helper()
	n.Inside.Run(t, "ip", "link", "add", name, "type", "veth", "peer", "name", name+"p")
	t.Cleanup(func() { n.Inside.Run(t, "ip", "link", "del", name) })
	n.Inside.Run(t, "ip", "addr", "add", address, "dev", name)
	n.Inside.Run(t, "ip", "link", "set", name+"p", "up")
	n.Inside.Run(t, "ip", "link", "set", name, "up")
	n.Inside.Run(t, "ip", "route", "add", "default", "via", router, "dev", name)
}

// TestRoutersAreForgotten has a router call a sixteenth of all addresses neighbours, on an interface where the administrator does not
// want the kernel to follow routers. Nothing of that stays when the agent is done; what somebody has added meanwhile does.
func TestRoutersAreForgotten(t *testing.T) {
	n := nettest.NewNetwork(t, nil, "2001:db8:a::1/64")
	n.Inside.Run(t, "sysctl", "-qw", "net.ipv6.conf."+n.Device+".accept_ra=0")
	n.Up(t)
	s := open(t, link.Options{})
	l := await(t, s, n.Device, func(l *link.Link) bool { return l.LinkLocal().IsValid() })
	restore := s.PrepareIPv6(l)
	stop := n.Advertise(t, nettest.Router{Prefix: "2000::/4"})
	defer stop()
	stopOther := n.Advertise(t, nettest.Router{Prefix: "2001:db8:a::/64", Autonomous: true})
	defer stopOther()
	routes := func() string { return n.Inside.Run(t, "ip", "-6", "route", "show", "dev", n.Device) }
	await(t, s, n.Device, func(l *link.Link) bool { return len(l.Global(true)) > 0 })
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(routes(), "2000::/4") || !strings.Contains(routes(), "default"); {
		if time.Now().After(deadline) {
			t.Fatal(routes())
		}
	}
	n.Inside.Run(t, "ip", "addr", "add", "2001:db8:b::7/64", "dev", n.Device, "nodad")
	restore()
	after := n.Inside.Run(t, "ip", "-6", "addr", "show", "dev", n.Device) + routes()
	for text, want := range map[string]bool{"2000::/4": false, "default via": false, "2001:db8:a:": false, "2001:db8:b::7/64": true,
		"2001:db8:b::/64 proto kernel": true, "fe80::/64": true} {
		if strings.Contains(after, text) != want {
			t.Errorf("%q is there: %t\n%s", text, !want, after)
		}
	}
}

// TestNeededAddress has a DHCP server lease addresses that the machine needs others to have.
func TestNeededAddress(t *testing.T) {
	n := nettest.NewNetwork(t, nil, "198.51.100.1/24")
	managed(t, n, "mgmt4", "192.0.2.2/24", "192.0.2.1")
	n.Up(t)
	resolver := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(resolver, []byte("nameserver 203.0.113.53\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s := open(t, link.Options{Resolver: resolver})
	l := await(t, s, n.Device, func(l *link.Link) bool { return l.Usable() })
	for address, refused := range map[string]bool{"192.0.2.1": true, "203.0.113.53": true, "192.0.2.77": false} {
		lease := &dhcp.Lease{Address: netip.PrefixFrom(netip.MustParseAddr(address), 24), Valid: time.Hour}
		applied, err := s.Apply(t.Context(), l, lease)
		if (err != nil) != refused {
			t.Errorf("%s: %v", address, err)
		}
		if local := strings.HasPrefix(n.Inside.Run(t, "ip", "route", "get", address), "local"); local == refused {
			t.Errorf("%s is the machine's own: %t", address, local)
		}
		if err == nil {
			applied.Remove()
		}
	}
}
