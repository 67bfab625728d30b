package link_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/xpu-sztp/ztp/dhcp"
	"github.com/xpu-sztp/ztp/pkg/link"
	"github.com/xpu-sztp/ztp/test/nettest"
)

func TestMain(m *testing.M) { os.Exit(nettest.Main(m)) }

func open(t *testing.T, o link.Options) *link.System {
	t.Helper()
	if o.Record == "" {
		o.Record = filepath.Join(t.TempDir(), "network.json")
	}
	if o.Run == "" {
		o.Run = t.TempDir()
	}
	s, err := link.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// crash takes from a System what the death of its process would: that nobody else may change the network.
func crash(t *testing.T, record string) {
	t.Helper()
	if err := os.Remove(record + ".lock"); err != nil {
		t.Fatal(err)
	}
}

// await blocks until cond holds for the named interface, and returns it.
func await(t *testing.T, s *link.System, name string, cond func(*link.Link) bool) (found link.Link) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err := s.Await(ctx, func(links []link.Link) bool {
		for _, l := range links {
			if l.Name == name && cond(&l) {
				found = l
				return true
			}
		}
		return false
	})
	if err != nil {
		links, _ := s.Links()
		t.Fatalf("%v: %+v", err, links)
	}
	return found
}

func usable(l *link.Link) bool { return l.Usable() }

func TestFollowsInterfaces(t *testing.T) {
	s := open(t, link.Options{})
	n := nettest.NewNetwork(t, nil)
	await(t, s, n.Device, func(l *link.Link) bool { return !l.Up && l.Skip == "" })
	n.Up(t)
	await(t, s, n.Device, usable)
	n.Unplug(t)
	await(t, s, n.Device, func(l *link.Link) bool { return l.Up && !l.Carrier })
	n.Plug(t)
	await(t, s, n.Device, usable)
	n.Inside.Run(t, "ip", "link", "set", n.Device, "down")
	n.Inside.Run(t, "ip", "link", "set", n.Device, "name", "renamed0")
	await(t, s, "renamed0", func(l *link.Link) bool { return !l.Up })
	n.Inside.Run(t, "ip", "link", "del", "renamed0")
	err := s.Await(t.Context(), func(links []link.Link) bool {
		return !slices.ContainsFunc(links, func(l link.Link) bool { return l.Name == "renamed0" })
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestSkips(t *testing.T) {
	a, b, c := nettest.NewNetwork(t, nil), nettest.NewNetwork(t, nil), nettest.NewNetwork(t, nil)
	add := func(name string, arg ...string) {
		t.Helper()
		a.Inside.Run(t, "ip", append([]string{"link", "add"}, arg...)...)
		t.Cleanup(func() { a.Inside.Run(t, "ip", "link", "del", name) })
	}
	add("br0", "br0", "type", "bridge")
	add("br1", "br1", "type", "bridge")
	add("ifb9", "ifb9", "type", "ifb")
	add("vxlan9", "vxlan9", "type", "vxlan", "id", "9", "dstport", "4789")
	add("macvlan9", "link", c.Device, "name", "macvlan9", "type", "macvlan", "mode", "bridge")
	a.Inside.Run(t, "ip", "link", "set", a.Device, "master", "br0")
	for name, mode := range map[string]string{"tap9": "tap", "tap8": "tap", "tun9": "tun"} {
		a.Inside.Run(t, "ip", "tuntap", "add", name, "mode", mode)
		t.Cleanup(func() { a.Inside.Run(t, "ip", "tuntap", "del", name, "mode", mode) })
	}
	s := open(t, link.Options{Include: []string{"*", "tap8", "tun9"}, Exclude: []string{b.Device}})
	for name, want := range map[string][2]string{"lo": {"ethernet", "loopback"}, a.Device: {"veth", "belongs to br0 (bridge)"},
		b.Device: {"veth", "excluded by configuration"}, c.Device: {"veth", ""}, "br0": {"bridge", ""},
		"br1": {"bridge", "bridge without a port that leads out"}, "ifb9": {"ifb", "virtual (ifb)"}, "vxlan9": {"vxlan", "virtual (vxlan)"},
		"macvlan9": {"macvlan", "shares " + c.Device + ", which is looked at itself"}, "tap9": {"tun", "virtual (tun)"}, "tap8": {"tun", ""},
		"tun9": {"tun", "not Ethernet"}} {
		if l := await(t, s, name, func(*link.Link) bool { return true }); l.Kind != want[0] || l.Skip != want[1] {
			t.Errorf("%s: %q %q, want %q", name, l.Kind, l.Skip, want)
		}
	}
	a.Inside.Run(t, "ip", "link", "set", a.Device, "nomaster")
	await(t, s, a.Device, func(l *link.Link) bool { return l.Skip == "" })
	await(t, s, "br0", func(l *link.Link) bool { return l.Skip == "bridge without a port that leads out" }) // with its last port goes its address
	s = open(t, link.Options{Include: []string{"eth*"}})
	if l := await(t, s, c.Device, func(*link.Link) bool { return true }); l.Skip != "not included by configuration" {
		t.Errorf("%q", l.Skip)
	}
}

// TestMacvlanOfAContainer shares an interface that is not in sight.
func TestMacvlanOfAContainer(t *testing.T) {
	n, container := nettest.NewNetwork(t, nil), nettest.NewNamespace(t)
	n.Inside.Run(t, "ip", "link", "add", "link", n.Device, "name", "macvlan8", "type", "macvlan", "mode", "bridge")
	l, err := netlink.LinkByName("macvlan8")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetNsFd(l, container.FD()); err != nil {
		t.Fatal(err)
	}
	container.Do(t, func() error {
		s, err := link.Open(link.Options{Record: filepath.Join(t.TempDir(), "network.json"), Run: t.TempDir()})
		if err != nil {
			return err
		}
		defer s.Close()
		links, _ := s.Links() // what follows is read elsewhere
		if i := slices.IndexFunc(links, func(l link.Link) bool { return l.Name == "macvlan8" }); i < 0 || links[i].Kind != "macvlan" || links[i].Skip != "" {
			t.Errorf("%+v", links)
		}
		return nil
	})
}

func TestManagedBySomebodyElse(t *testing.T) {
	run := t.TempDir()
	for _, dir := range []string{"systemd/netif/links", "NetworkManager/devices"} {
		if err := os.MkdirAll(filepath.Join(run, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, link.Options{Run: run})
	n := nettest.NewNetwork(t, nil)
	n.Up(t)
	index := fmt.Sprint(await(t, s, n.Device, usable).Index)
	write := func(dir, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(run, dir, index), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	by := func(who string) {
		t.Helper()
		await(t, s, n.Device, func(l *link.Link) bool { return l.Managed == who })
	}
	by("")
	write("systemd/netif/links", "# private\nADMIN_STATE=configuring\nOPER_STATE=carrier\n")
	by("systemd-networkd")
	write("systemd/netif/links", "ADMIN_STATE=unmanaged\n")
	by("")
	write("NetworkManager/devices", "[device]\nmanaged=true\n")
	by("NetworkManager")
	write("NetworkManager/devices", "[device]\nmanaged=false\n")
	by("")
	n.Inside.Run(t, "ip", "addr", "add", "198.51.100.7/24", "dev", n.Device)
	by("manual")
	n.Inside.Run(t, "ip", "addr", "del", "198.51.100.7/24", "dev", n.Device)
	by("")
}

func TestRaise(t *testing.T) {
	n := nettest.NewNetwork(t, nil)
	excluded := nettest.NewNetwork(t, nil)
	s := open(t, link.Options{Include: []string{n.Device}})
	s.Raise()
	await(t, s, n.Device, usable)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if out := n.Inside.Run(t, "ip", "link", "show", n.Device); !strings.Contains(out, "state DOWN") {
		t.Errorf("after Close: %s", out)
	}
	if out := n.Inside.Run(t, "ip", "link", "show", excluded.Device); !strings.Contains(out, "state DOWN") {
		t.Errorf("an excluded interface: %s", out)
	}
}

func TestRaiseKeepsWhatOthersUse(t *testing.T) {
	n := nettest.NewNetwork(t, nil)
	s := open(t, link.Options{Include: []string{n.Device}})
	s.Raise()
	await(t, s, n.Device, usable)
	n.Inside.Run(t, "ip", "addr", "add", "198.51.100.7/24", "dev", n.Device)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if out := n.Inside.Run(t, "ip", "link", "show", n.Device); !strings.Contains(out, "state UP") {
		t.Errorf("after Close: %s", out)
	}
}

func TestDamagedRecordIsNoObstacle(t *testing.T) {
	record := filepath.Join(t.TempDir(), "network.json")
	if err := os.WriteFile(record, []byte(`[{"kind":"address","index":99999},{"kind":`), 0o600); err != nil {
		t.Fatal(err)
	}
	open(t, link.Options{Record: record})
}

// TestDuplicateAddress leases an address that another host of the link has.
func TestDuplicateAddress(t *testing.T) {
	n := nettest.NewNetwork(t, nil, "2001:db8::50/64")
	n.Up(t)
	s := open(t, link.Options{})
	l := await(t, s, n.Device, func(l *link.Link) bool { return l.LinkLocal().IsValid() })
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+n.Device+"/accept_dad", []byte("1"), 0o644); err != nil {
		t.Fatal(err)
	}
	lease := &dhcp.Lease{Address: netip.MustParsePrefix("2001:db8::50/128"), Valid: time.Hour}
	if _, err := s.Apply(t.Context(), l, lease); !errors.Is(err, link.ErrDuplicate) {
		t.Errorf("error %v", err)
	}
	if out := shown(t, n); strings.Contains(out, "2001:db8::50") {
		t.Errorf("the address was left: %s", out)
	}
	lease.Address = netip.MustParsePrefix("2001:db8::51/128")
	applied, err := s.Apply(t.Context(), l, lease)
	if err != nil {
		t.Fatal(err)
	}
	if l := await(t, s, n.Device, func(l *link.Link) bool { return len(l.Global(true)) == 1 }); l.Managed != "" {
		t.Errorf("managed by %q", l.Managed)
	}
	if err := applied.Remove(); err != nil {
		t.Error(err)
	}
}

func TestRouterAdvertisement(t *testing.T) {
	tests := []nettest.Router{{Managed: true, Other: true}, {Other: true}, {Prefix: "2001:db8:5::/64", Autonomous: true}}
	for _, r := range tests {
		t.Run(fmt.Sprintf("M=%v,O=%v,A=%v", r.Managed, r.Other, r.Autonomous), func(t *testing.T) {
			n := nettest.NewNetwork(t, nil)
			n.Up(t)
			s := open(t, link.Options{})
			defer s.PrepareIPv6(await(t, s, n.Device, usable))()
			n.Advertise(t, r)
			l := await(t, s, n.Device, func(l *link.Link) bool { return l.Router.Heard && (r.Prefix == "" || len(l.Global(true)) == 1) })
			if l.Router.Managed != r.Managed || l.Router.Other != r.Other || l.Managed != "" {
				t.Errorf("%+v", l)
			}
			route, err := s.AwaitDefaultRoute(t.Context(), l)
			if err != nil || !strings.HasPrefix(route, "default via fe80::") || !strings.HasSuffix(route, " metric 4096") {
				t.Errorf("%q, %v", route, err)
			}
		})
	}
}

// TestRouterSolicitation has dnsmasq, which answers solicitations at once and otherwise advertises every few minutes.
func TestRouterSolicitation(t *testing.T) {
	n := nettest.NewNetwork(t, nil, "2001:db8:7::1/64")
	n.Up(t)
	s := open(t, link.Options{})
	l := await(t, s, n.Device, func(l *link.Link) bool { return l.LinkLocal().IsValid() })
	restore := s.PrepareIPv6(l)
	defer restore()
	log := n.Dnsmasq(t, "enable-ra", "dhcp-range=2001:db8:7::,ra-only", "log-debug")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := s.SolicitRouters(ctx, l); err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	await(t, s, n.Device, func(l *link.Link) bool { return l.Router.Heard })
}

func TestAwaitDefaultRouteEndsWithContext(t *testing.T) {
	n := nettest.NewNetwork(t, nil)
	n.Up(t)
	s := open(t, link.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if route, err := s.AwaitDefaultRoute(ctx, await(t, s, n.Device, usable)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%q, %v", route, err)
	}
}

// TestDialLinkLocal reaches a server that has nothing but a link-local address.
func TestDialLinkLocal(t *testing.T) {
	n := nettest.NewNetwork(t, nil)
	n.Up(t)
	s := open(t, link.Options{})
	l := await(t, s, n.Device, func(l *link.Link) bool { return l.LinkLocal().IsValid() })
	var listener net.Listener
	var server netip.Addr
	n.Servers.Do(t, func() (err error) {
		l, err := netlink.LinkByName(n.Server)
		if err != nil {
			return err
		}
		for !server.IsValid() {
			addrs, err := netlink.AddrList(l, netlink.FAMILY_V6)
			if err != nil {
				return err
			}
			if len(addrs) > 0 {
				server, _ = netip.AddrFromSlice(addrs[0].IP)
			}
		}
		listener, err = net.Listen("tcp6", "[::]:0")
		return err
	})
	defer listener.Close()
	network := &link.Network{Interface: n.Device, Index: l.Index}
	conn, err := network.DialContext(t.Context(), "tcp", netip.AddrPortFrom(server, uint16(listener.Addr().(*net.TCPAddr).Port)).String())
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

// TestFlapsUnseen interrupts a cable so shortly that nobody reads the list meanwhile.
func TestFlapsUnseen(t *testing.T) {
	n := nettest.NewNetwork(t, nil)
	n.Up(t)
	s := open(t, link.Options{})
	life := await(t, s, n.Device, usable).Life
	for range 5 {
		n.Unplug(t)
		n.Plug(t)
	}
	await(t, s, n.Device, func(l *link.Link) bool { return l.Usable() && l.Life > life })
}

// Only one process at a time changes the network; another one may look.
func TestOneAtATime(t *testing.T) {
	n := nettest.NewNetwork(t, nil)
	n.Up(t)
	o := link.Options{Record: filepath.Join(t.TempDir(), "network.json"), Run: t.TempDir()}
	s := open(t, o)
	l := await(t, s, n.Device, usable)
	applied, err := s.Apply(t.Context(), l, lease4)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := link.Open(o); !errors.Is(err, link.ErrInUse) {
		t.Errorf("the second one got %v", err)
	}
	links, err := link.Look(o)
	i := slices.IndexFunc(links, func(l link.Link) bool { return l.Name == n.Device })
	if err != nil || i < 0 || !links[i].Usable() || links[i].Managed != "" || len(links[i].Global(false)) != 1 {
		t.Errorf("%+v, %v", links, err)
	}
	stranger := o
	stranger.Record = filepath.Join(t.TempDir(), "network.json")
	if links, _ = link.Look(stranger); links[i].Managed != link.ByHand {
		t.Errorf("an address that the agent does not know of: %+v", links[i])
	}
	waiting := make(chan error, 1)
	go func() {
		o.Patience = time.Minute
		next, err := link.Open(o)
		if err == nil {
			err = next.Close()
		}
		waiting <- err
	}()
	if err := errors.Join(applied.Remove(), s.Close()); err != nil {
		t.Error(err)
	}
	if err := <-waiting; err != nil {
		t.Errorf("the one that waited got %v", err)
	}
}
