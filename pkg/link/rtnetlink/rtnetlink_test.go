package rtnetlink_test

import (
	"cmp"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/xpu-sztp/ztp/pkg/link/rtnetlink"
	"github.com/xpu-sztp/ztp/test/nettest"
)

func TestMain(m *testing.M) { os.Exit(nettest.Main(m)) }

// same compares what we read with what the library reads.
func same[T any](t *testing.T, ours, theirs []T, order func(a, b T) int) {
	t.Helper()
	slices.SortFunc(ours, order)
	slices.SortFunc(theirs, order)
	if diff := gocmp.Diff(theirs, ours, cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{}), cmpopts.EquateEmpty(),
		cmpopts.IgnoreUnexported(rtnetlink.Address{}, rtnetlink.Route{}, rtnetlink.Rule{})); diff != "" {
		t.Errorf("(-the library, +we):\n%s", diff)
	}
}

// ip runs ip(8), and takes back at the end of the test what it added.
func ip(t *testing.T, command string) {
	t.Helper()
	var here *nettest.Namespace // of this process
	here.Run(t, "ip", strings.Fields(command)...)
	if strings.Contains(command, "rule add") {
		t.Cleanup(func() { ip(t, strings.Replace(command, "add", "del", 1)) })
	}
}

// try has ip(8) make an interface, and reports whether the kernel can.
func try(t *testing.T, name, command string) bool {
	t.Helper()
	if exec.Command("ip", strings.Fields(command)...).Run() != nil {
		return false
	}
	t.Cleanup(func() { _ = exec.Command("ip", "link", "del", name).Run() }) // its peer or parent may have taken it along
	return true
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// Of every kind of interface that this kernel can make we read the same as the library.
func TestLinks(t *testing.T) {
	far := nettest.NewNamespace(t)
	options := map[string]string{"vrf": "table 10", "vxlan": "id 7 dstport 4789", "geneve": "id 7 remote 192.0.2.1",
		"bareudp": "dstport 4790 ethertype ip", "xfrm": "dev lo if_id 7", "gre": "local 192.0.2.1 remote 192.0.2.2",
		"ip6gre": "local 2001:db8::1 remote 2001:db8::2", "vti": "local 192.0.2.1 remote 192.0.2.2 key 7",
		"vti6": "local 2001:db8::1 remote 2001:db8::2", "ip6tnl": "mode ip6ip6 remote 2001:db8::2", "hsr": "slave1 h0 slave2 h1",
		"vlan": "id 5"}
	made := map[string]bool{
		"veth": try(t, "eth0", "link add eth0 address 02:00:00:00:00:07 type veth peer eth1") && try(t, "h0", "link add h0 type veth peer h1") &&
			try(t, "far0", "link add far0 type veth peer far1"),
		"tap": try(t, "tap0", "tuntap add tap0 mode tap"), "tun": try(t, "tun0", "tuntap add tun0 mode tun"),
	}
	for _, kind := range []string{"bareudp", "batadv", "bond", "bridge", "can", "dummy", "erspan", "geneve", "gre", "gretap", "gtp", "hsr",
		"ifb", "ip6gre", "ip6gretap", "ip6tnl", "ipip", "netkit", "nlmon", "sit", "team", "vcan", "vrf", "vti", "vti6", "vxcan", "vxlan",
		"wireguard", "xfrm"} {
		made[kind] = try(t, "k"+kind, "link add k"+kind+" type "+kind+" "+options[kind])
	}
	for _, kind := range []string{"ipvlan", "ipvtap", "macsec", "macvlan", "macvtap", "vlan"} {
		made[kind] = try(t, "k"+kind, "link add link h0 name k"+kind+" type "+kind+" "+options[kind])
	}
	ip(t, "link set far1 netns "+far.Path())
	ip(t, "link set eth1 master kbridge mtu 1280 up")
	ip(t, "link set eth0 up")
	for _, kind := range []string{"bridge", "ifb", "macvlan", "tap", "tun", "veth", "vxlan"} {
		if !made[kind] {
			t.Errorf("this kernel makes no %s", kind)
		}
	}

	// What carriers come to takes the kernel a moment; compared is what did not change meanwhile.
	var ours []rtnetlink.Link
	theirs := libraryLinks(t)
	for {
		ours = must[[]rtnetlink.Link](t)(rtnetlink.Links())
		before := theirs
		if theirs = libraryLinks(t); reflect.DeepEqual(before, theirs) {
			break
		}
	}
	for i := range ours {
		if l := &ours[i]; l.Name == "eth1" && l.Carriers == 0 {
			t.Error("no carrier was counted")
		}
		ours[i].Type, ours[i].Carriers, ours[i].Inet6Flags = 0, 0, 0 // which the library does not read
	}
	same(t, ours, theirs, func(a, b rtnetlink.Link) int { return a.Index - b.Index })
}

func libraryLinks(t *testing.T) (list []rtnetlink.Link) {
	t.Helper()
	for _, l := range must[[]netlink.Link](t)(netlink.LinkList()) {
		a := l.Attrs()
		kind := l.Type()
		if kind == "tuntap" {
			kind = "tun" // as the kernel has it
		}
		list = append(list, rtnetlink.Link{Index: a.Index, Name: a.Name, Flags: a.RawFlags, HardwareAddr: a.HardwareAddr, MTU: a.MTU,
			OperState: uint8(a.OperState), Master: a.MasterIndex, Parent: a.ParentIndex, Foreign: a.NetNsID >= 0, Kind: kind})
		if ether := a.EncapType == "ether"; ether != (typeOf(t, a.Index) == unix.ARPHRD_ETHER) {
			t.Errorf("%s: to the library it is %s", a.Name, a.EncapType)
		}
	}
	return list
}

func typeOf(t *testing.T, index int) uint16 {
	t.Helper()
	for _, l := range must[[]rtnetlink.Link](t)(rtnetlink.Links()) {
		if l.Index == index {
			return l.Type
		}
	}
	return 0
}

func libraryAddresses(t *testing.T) (list []rtnetlink.Address) {
	t.Helper()
	for _, a := range must[[]netlink.Addr](t)(netlink.AddrList(nil, netlink.FAMILY_ALL)) {
		ip, _ := netip.AddrFromSlice(a.IP)
		bits, _ := a.Mask.Size()
		list = append(list, rtnetlink.Address{Index: a.LinkIndex, Prefix: netip.PrefixFrom(ip, bits), Flags: uint32(a.Flags)})
	}
	return list
}

func byPrefix(a, b rtnetlink.Address) int {
	return cmp.Or(a.Index-b.Index, strings.Compare(a.Prefix.String(), b.Prefix.String()))
}

// wired makes an interface that is up and has a carrier, and returns its index.
func wired(t *testing.T, name string) int {
	t.Helper()
	ip(t, "link add "+name+" type veth peer peer-"+name)
	t.Cleanup(func() { ip(t, "link del "+name) })
	ip(t, "link set peer-"+name+" up")
	index := must[netlink.Link](t)(netlink.LinkByName(name)).Attrs().Index
	if err := rtnetlink.SetUp(index); err != nil {
		t.Fatal(err)
	}
	return index
}

func TestAddresses(t *testing.T) {
	index := wired(t, "eth0")
	for _, address := range []string{"192.0.2.1/24", "192.0.2.2 peer 198.51.100.9/30", "2001:db8::1/64", "2001:db8::2 peer 2001:db8:1::/48",
		"203.0.113.5/32", "fe80::5/64"} {
		ip(t, "address add dev eth0 "+address)
	}
	ours := must[[]rtnetlink.Address](t)(rtnetlink.Addresses())
	if len(ours) < 8 { // those and two of loopback
		t.Errorf("only %d addresses", len(ours))
	}
	same(t, ours, libraryAddresses(t), byPrefix)

	for text, broadcast := range map[string]string{"10.1.2.3/8": "10.255.255.255", "10.2.0.1/31": "", "10.3.0.1/32": "",
		"192.168.4.77/26": "192.168.4.127", "2001:db8:9::1/128": ""} {
		a := rtnetlink.Address{Index: index, Prefix: netip.MustParsePrefix(text), Flags: unix.IFA_F_NOPREFIXROUTE, Valid: 3000, Preferred: 2000}
		if err := a.Add(); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if err := a.Add(); !errors.Is(err, unix.EEXIST) {
			t.Errorf("%s: added again: %v", text, err)
		}
		a.Valid, a.Preferred = 5000, 4000
		if err := a.Replace(); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		found := func() *netlink.Addr {
			for _, l := range must[[]netlink.Addr](t)(netlink.AddrList(nil, netlink.FAMILY_ALL)) {
				if l.IPNet.String() == text {
					return &l
				}
			}
			return nil
		}
		l := found()
		if l == nil {
			t.Fatalf("%s is not there", text)
		}
		if got := l.Broadcast.String(); got != cmp.Or(broadcast, "<nil>") || l.Flags&unix.IFA_F_NOPREFIXROUTE == 0 || l.Flags&unix.IFA_F_PERMANENT != 0 ||
			l.ValidLft < 4990 || l.ValidLft > 5000 || l.PreferedLft < 3990 || l.PreferedLft > 4000 {
			t.Errorf("%s: %+v", text, l)
		}
		i := slices.IndexFunc(must[[]rtnetlink.Address](t)(rtnetlink.Addresses()), func(a rtnetlink.Address) bool { return a.Prefix.String() == text })
		listed := must[[]rtnetlink.Address](t)(rtnetlink.Addresses())[i]
		if err := listed.Delete(); err != nil || found() != nil {
			t.Errorf("%s: %v, left: %v", text, err, found())
		}
		if err := listed.Delete(); !errors.Is(err, unix.EADDRNOTAVAIL) {
			t.Errorf("%s: deleted again: %v", text, err)
		}
	}
	if err := rtnetlink.SetDown(index); err != nil || must[netlink.Link](t)(netlink.LinkByIndex(index)).Attrs().RawFlags&unix.IFF_UP != 0 {
		t.Errorf("not down: %v", err)
	}
}

func libraryRoutes(t *testing.T, family, table int) (list []rtnetlink.Route) {
	t.Helper()
	address := func(b []byte) netip.Addr { a, _ := netip.AddrFromSlice(b); return a }
	filter := &netlink.Route{Table: table}
	for _, r := range must[[]netlink.Route](t)(netlink.RouteListFiltered(family, filter, netlink.RT_FILTER_TABLE)) {
		ip, _ := netip.AddrFromSlice(r.Dst.IP)
		if family == unix.AF_INET {
			ip = ip.Unmap()
		}
		bits, _ := r.Dst.Mask.Size()
		ours := rtnetlink.Route{Destination: netip.PrefixFrom(ip, bits), Hop: rtnetlink.Hop{Index: r.LinkIndex, Gateway: address(r.Gw)},
			Source: address(r.Src), Table: r.Table, Metric: r.Priority, Protocol: uint8(r.Protocol)}
		for _, hop := range r.MultiPath {
			ours.Hops = append(ours.Hops, rtnetlink.Hop{Index: hop.LinkIndex, Gateway: address(hop.Gw)})
		}
		list = append(list, ours)
	}
	return list
}

func byRoute(a, b rtnetlink.Route) int {
	return cmp.Or(a.Table-b.Table, strings.Compare(a.Destination.String(), b.Destination.String()), a.Index-b.Index, a.Metric-b.Metric)
}

func TestRoutes(t *testing.T) {
	index := wired(t, "eth0")
	second := wired(t, "eth1")
	for _, command := range []string{"address add 192.0.2.1/24 dev eth0", "address add 2001:db8::1/64 dev eth0",
		"route add default via 192.0.2.254 metric 5", "route add 10.0.0.0/8 via 192.0.2.253 table 7000",
		"route add 10.9.0.0/16 dev eth0 src 192.0.2.1", "route add blackhole 10.7.0.0/16",
		"route add 10.8.0.0/16 nexthop via 192.0.2.7 nexthop dev eth1",
		"-6 route add default via fe80::1 dev eth0 metric 1024", "-6 route add 2001:db8:7::/48 via 2001:db8::7 table 7001",
		"-6 route add 2001:db8:8::/48 nexthop via 2001:db8::7 nexthop via fe80::9 dev eth1"} {
		ip(t, command)
	}
	for _, family := range []rtnetlink.Family{rtnetlink.IPv4, rtnetlink.IPv6} {
		for _, table := range []int{rtnetlink.AllTables, unix.RT_TABLE_MAIN, 7000, 7001} {
			same(t, must[[]rtnetlink.Route](t)(rtnetlink.Routes(family, table)), libraryRoutes(t, int(family), table), byRoute)
		}
	}
	if several := must[[]rtnetlink.Route](t)(rtnetlink.Routes(rtnetlink.IPv4, unix.RT_TABLE_MAIN)); !slices.ContainsFunc(several,
		func(r rtnetlink.Route) bool { return len(r.Hops) == 2 && r.Hops[1].Index == second }) {
		t.Errorf("no route with two hops: %+v", several)
	}

	for _, r := range []rtnetlink.Route{
		{Destination: netip.MustParsePrefix("0.0.0.0/0"), Hop: rtnetlink.Hop{Index: index, Gateway: netip.MustParseAddr("203.0.113.1")},
			Source: netip.MustParseAddr("192.0.2.1")},
		{Destination: netip.MustParsePrefix("198.51.100.0/24"), Hop: rtnetlink.Hop{Index: index}, Source: netip.MustParseAddr("192.0.2.1")},
		{Destination: netip.MustParsePrefix("198.51.100.7/32"), Hop: rtnetlink.Hop{Index: second, Gateway: netip.MustParseAddr("10.1.1.1")}},
		{Destination: netip.MustParsePrefix("::/0"), Hop: rtnetlink.Hop{Index: index, Gateway: netip.MustParseAddr("fe80::77")}},
		{Destination: netip.MustParsePrefix("2001:db8:5::/64"), Hop: rtnetlink.Hop{Index: index}},
	} {
		r.Table, r.Metric, r.Protocol = 143_000_007, 4096, unix.RTPROT_DHCP
		family := rtnetlink.IPv4
		if r.Destination.Addr().Is6() {
			family = rtnetlink.IPv6
		}
		listed := func() []rtnetlink.Route { return must[[]rtnetlink.Route](t)(rtnetlink.Routes(family, r.Table)) }
		for _, byMessage := range []bool{false, true} {
			if err := r.Add(); err != nil {
				t.Fatalf("%+v: %v", r, err)
			}
			if err := r.Add(); !errors.Is(err, unix.EEXIST) {
				t.Errorf("%+v: added again: %v", r, err)
			}
			same(t, []rtnetlink.Route{r}, libraryRoutes(t, int(family), r.Table), byRoute)
			delete := r.Delete
			if byMessage {
				delete = listed()[0].Delete
			}
			if err := delete(); err != nil || len(listed()) != 0 {
				t.Errorf("%+v: %v, left: %+v", r, err, listed())
			}
			if err := delete(); !errors.Is(err, unix.ESRCH) {
				t.Errorf("%+v: deleted again: %v", r, err)
			}
		}
	}
	mixed := rtnetlink.Route{Destination: netip.MustParsePrefix("10.0.0.0/8"), Hop: rtnetlink.Hop{Index: index, Gateway: netip.MustParseAddr("fe80::1")}}
	if err := mixed.Add(); err == nil {
		t.Error("a route whose gateway is of another family was added")
	}
}

func TestRules(t *testing.T) {
	for _, command := range []string{"rule add from 192.0.2.0/24 lookup 77 priority 9", "rule add oif eth7 lookup 7000 priority 8 protocol 99",
		"-6 rule add from 2001:db8::/64 lookup 7001", "rule add fwmark 5 iif lo lookup 78"} {
		ip(t, command)
	}
	read := func(family rtnetlink.Family) (theirs []rtnetlink.Rule) {
		for _, r := range must[[]netlink.Rule](t)(netlink.RuleList(int(family))) {
			rule := rtnetlink.Rule{Family: family, Priority: r.Priority, Table: r.Table, Interface: r.OifName, Protocol: r.Protocol}
			if r.Src != nil {
				rule.Source = netip.MustParsePrefix(r.Src.String())
			}
			theirs = append(theirs, rule)
		}
		return theirs
	}
	byPriority := func(a, b rtnetlink.Rule) int { return cmp.Or(int(a.Family)-int(b.Family), a.Priority-b.Priority) }
	families := []rtnetlink.Family{rtnetlink.IPv4, rtnetlink.IPv6}
	for _, family := range families {
		same(t, must[[]rtnetlink.Rule](t)(rtnetlink.Rules(family)), read(family), byPriority)
	}
	any := slices.DeleteFunc(must[[]rtnetlink.Rule](t)(rtnetlink.Rules(rtnetlink.Any)), func(r rtnetlink.Rule) bool {
		return !slices.Contains(families, r.Family) // multicast routing has rules as well
	})
	same(t, any, append(read(rtnetlink.IPv4), read(rtnetlink.IPv6)...), byPriority)
	for _, r := range []rtnetlink.Rule{
		{Family: rtnetlink.IPv4, Priority: 143, Interface: "eth0"},
		{Family: rtnetlink.IPv4, Priority: 143, Source: netip.MustParsePrefix("192.0.2.1/32")},
		{Family: rtnetlink.IPv6, Priority: 32800},
		{Family: rtnetlink.IPv6, Priority: 143, Source: netip.MustParsePrefix("2001:db8::1/128")},
	} {
		r.Table, r.Protocol = 143_000_007, unix.RTPROT_DHCP
		listed := func() []rtnetlink.Rule {
			all := must[[]rtnetlink.Rule](t)(rtnetlink.Rules(r.Family))
			return slices.DeleteFunc(all, func(other rtnetlink.Rule) bool { return other.Table != r.Table })
		}
		for _, byMessage := range []bool{false, true} {
			if err := r.Add(); err != nil {
				t.Fatalf("%+v: %v", r, err)
			}
			if err := r.Add(); !errors.Is(err, unix.EEXIST) {
				t.Errorf("%+v: added again: %v", r, err)
			}
			theirs := slices.DeleteFunc(read(r.Family), func(other rtnetlink.Rule) bool { return other.Table != r.Table })
			same(t, []rtnetlink.Rule{r}, theirs, byPriority)
			delete := r.Delete
			if byMessage {
				delete = listed()[0].Delete
			}
			if err := delete(); err != nil || len(listed()) != 0 {
				t.Errorf("%+v: %v, left: %+v", r, err, listed())
			}
			if err := delete(); !errors.Is(err, unix.ENOENT) {
				t.Errorf("%+v: deleted again: %v", r, err)
			}
		}
	}
}

func TestNeighbours(t *testing.T) {
	n := nettest.NewNetwork(t, nil, "192.0.2.1/24", "2001:db8::1/64")
	n.Up(t)
	device := must[netlink.Link](t)(netlink.LinkByName(n.Device)).Attrs().Index
	ip(t, "neighbour add 192.0.2.9 lladdr 02:00:00:00:00:09 dev "+n.Device)
	ip(t, "neighbour add 2001:db8::9 lladdr 02:00:00:00:00:0a dev "+n.Device)
	sought := netip.MustParseAddr("2001:db8::77")
	if err := rtnetlink.LookFor(device, sought); err != nil {
		t.Fatal(err)
	}
	if err := rtnetlink.LookFor(device, netip.MustParseAddr("2001:db8::9")); !errors.Is(err, unix.EEXIST) {
		t.Errorf("what is known was looked for: %v", err)
	}
	for family, want := range map[rtnetlink.Family]string{rtnetlink.IPv4: "192.0.2.9 02:00:00:00:00:09", rtnetlink.IPv6: "2001:db8::9 02:00:00:00:00:0a"} {
		var ours, theirs []string
		for _, n := range must[[]rtnetlink.Neighbour](t)(rtnetlink.Neighbours(family)) {
			if n.Index == device {
				ours = append(ours, n.Address.String()+" "+n.HardwareAddr.String())
			}
		}
		for _, n := range must[[]netlink.Neigh](t)(netlink.NeighList(device, int(family))) {
			theirs = append(theirs, n.IP.String()+" "+n.HardwareAddr.String())
		}
		same(t, ours, theirs, strings.Compare)
		if !slices.Contains(ours, want) {
			t.Errorf("%s is not among %q", want, ours)
		}
		if family == rtnetlink.IPv6 && !slices.Contains(ours, sought.String()+" ") {
			t.Errorf("%v is not looked for: %q", sought, ours)
		}
	}
}
