package link

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestPlausible: of a record that anybody may have written only what the agent itself does is undone.
func TestPlausible(t *testing.T) {
	prefix := netip.MustParsePrefix("192.0.2.0/24")
	for _, tt := range []struct {
		c    change
		want bool
	}{
		{change{Kind: "up", Index: 7}, true},
		{change{Kind: "address", Index: 7, Prefix: prefix}, true},
		{change{Kind: "address", Index: 7}, false},
		{change{Kind: "route", Index: 7, Prefix: prefix, Table: tableBase + 7}, true},
		{change{Kind: "route", Index: 7, Prefix: prefix, Table: 254}, false},
		{change{Kind: "route", Index: 7, Prefix: prefix, Table: tableBase + 8}, false},
		{change{Kind: "route", Index: 7, Table: tableBase + 7}, false},
		{change{Kind: "rule", Index: 7, Table: tableBase + 7}, true},
		{change{Kind: "rule", Index: 7, Table: 254}, false},
		{change{Kind: "rule", Index: 7}, false},
		{change{Kind: "sysctl", Index: 7, Key: "net/ipv6/conf/eth0/accept_ra"}, true},
		{change{Kind: "sysctl", Index: 7, Key: "kernel/core_pattern"}, false},
		{change{Kind: "sysctl", Index: 7, Key: "net/../kernel/core_pattern"}, false},
		{change{Kind: "sysctl", Index: 7, Key: "net/core_pattern"}, false},                // of an interface called kernel
		{change{Kind: "sysctl", Index: 7, Key: "net/ipv4/bpf_jit_harden"}, false},         // of one called core
		{change{Kind: "sysctl", Index: 7, Key: "net/ipv4/conf/../bpf_jit_harden"}, false}, // likewise
		{change{Kind: "sysctl", Index: 7, Key: "net/../../../etc/passwd"}, false},
		{change{Kind: "sysctl", Index: 7, Key: "/net/ipv6/conf/eth0/accept_ra"}, false},
		{change{Kind: "", Index: 7}, false},
		{change{Kind: "reboot", Index: 7}, false},
	} {
		if got := tt.c.plausible(); got != tt.want {
			t.Errorf("%+v: %t", tt.c, got)
		}
	}
}

// TestTakenOver: an address that systemd-networkd has leased as well stays when the agent goes.
func TestTakenOver(t *testing.T) {
	run := t.TempDir()
	if err := os.MkdirAll(filepath.Join(run, networkdLeases), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(run, networkdLeases, "7"), []byte("ADDRESS=192.0.2.57\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	cs := &changes{run: run}
	for _, tt := range []struct {
		c    change
		want bool
	}{
		{change{Kind: "address", Index: 7, Prefix: netip.MustParsePrefix("192.0.2.57/24")}, true},
		{change{Kind: "address", Index: 7, Prefix: netip.MustParsePrefix("192.0.2.58/24")}, false},
		{change{Kind: "address", Index: 8, Prefix: netip.MustParsePrefix("192.0.2.57/24")}, false},
		{change{Kind: "route", Index: 7, Prefix: netip.MustParsePrefix("192.0.2.57/32")}, false},
		{change{Kind: "rule", Index: 7, Prefix: netip.MustParsePrefix("192.0.2.57/32")}, false},
	} {
		if got := cs.takenOver(tt.c); got != tt.want {
			t.Errorf("%+v: %t", tt.c, got)
		}
	}
}

// TestGivenIsBounded: what managers tell comes from a network, too.
func TestGivenIsBounded(t *testing.T) {
	var g Given
	for i := range 2 * maxGiven {
		for range 2 {
			g.addDNS(fmt.Sprintf("192.0.2.%d", i+1))
			g.addDomain(fmt.Sprintf("d%d.test", i))
		}
	}
	if len(g.DNS) != maxGiven || len(g.Domains) != maxGiven || g.DNS[maxGiven-1].String() != "192.0.2.16" || g.Domains[maxGiven-1] != "d15.test" {
		t.Errorf("%d name servers, %d domains", len(g.DNS), len(g.Domains))
	}
	g = Given{}
	for _, server := range []string{"224.0.0.251", "ff02::fb", "0.0.0.0", "::", "192.0.2.1:853", "192.0.2.1:0", "", "#", "%", "x:53", "[::ffff:0.0.0.0]:53"} {
		g.addDNS(server)
	}
	for _, domain := range []string{"", ".", "~.", "~lab.test", strings.Repeat("x", 254)} {
		g.addDomain(domain)
	}
	if len(g.DNS) > 0 || len(g.Domains) > 0 {
		t.Errorf("%v, %q", g.DNS, g.Domains)
	}
	g.addDNS("192.0.2.1#dns.test")
	g.addDNS("::ffff:192.0.2.2")
	g.addDomain(strings.Repeat("x", 253))
	if !slices.Equal(g.DNS, []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")}) || len(g.Domains) != 1 {
		t.Errorf("%v, %q", g.DNS, g.Domains)
	}
}

// TestWhatManagersAdd: the system's resolver is known of every interface, and its domains count where nobody else has any.
func TestWhatManagersAdd(t *testing.T) {
	resolver := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(resolver, []byte("nameserver 192.0.2.53\nsearch lab.test\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s := &System{watcher: watcher{run: t.TempDir()}, resolver: resolver}
	for manager, domains := range map[string]int{ByHand: 1, networkd: 0, "": 0} {
		g := s.Given(t.Context(), Link{Index: 7, Managed: manager}, false)
		if len(g.System) != 1 || g.System[0].String() != "192.0.2.53" || len(g.Domains) != domains || len(g.DNS) != 0 {
			t.Errorf("%q: %+v", manager, g)
		}
	}
}

// TestManagedBy: only addresses that somebody has given to the interface by hand make it theirs.
func TestManagedBy(t *testing.T) {
	ours := netip.MustParseAddr("192.0.2.7")
	for _, tt := range []struct {
		address Address
		want    string
	}{
		{Address{Prefix: netip.MustParsePrefix("192.0.2.9/24")}, ByHand},
		{Address{Prefix: netip.MustParsePrefix("192.0.2.7/24")}, ""}, // the agent's
		{Address{Prefix: netip.MustParsePrefix("169.254.3.4/16")}, ""},
		{Address{Prefix: netip.MustParsePrefix("127.0.0.1/8")}, ""},
		{Address{Prefix: netip.MustParsePrefix("2001:db8::9/64")}, ""}, // advertised
		{Address{Prefix: netip.MustParsePrefix("2001:db8::9/64"), Permanent: true}, ByHand},
		{Address{Prefix: netip.MustParsePrefix("fe80::9/64"), Permanent: true}, ""},
	} {
		l := &Link{Index: 7, Addresses: []Address{tt.address}}
		who, settled := managedBy(l, t.TempDir(), func(index int, a netip.Addr) bool { return index == 7 && a == ours })
		if who != tt.want || !settled {
			t.Errorf("%+v: %q, %t", tt.address, who, settled)
		}
	}
}

// TestOrder: what a name server says is brought into order, and what only the device itself has is left out.
func TestOrder(t *testing.T) {
	const all = "::ffff:192.0.2.2 2001:db8::1 127.0.0.1 ::ffff:127.0.0.2 ::1 0.0.0.0 :: 224.0.0.1 ff02::1 192.0.2.1 2001:db8::2"
	for prefer, want := range map[string]string{
		"":    "[192.0.2.2 2001:db8::1 192.0.2.1 2001:db8::2]",
		"ip4": "[192.0.2.2 192.0.2.1 2001:db8::1 2001:db8::2]",
		"ip6": "[2001:db8::1 2001:db8::2 192.0.2.2 192.0.2.1]",
	} {
		var addrs []netip.Addr
		for text := range strings.FieldsSeq(all) {
			addrs = append(addrs, netip.MustParseAddr(text))
		}
		n := &Network{Prefer: prefer}
		if got := fmt.Sprint(n.order(addrs)); got != want {
			t.Errorf("%q first: %s", prefer, got)
		}
	}
}

// TestNames says which names are looked up for one, and who is asked.
func TestNames(t *testing.T) {
	n := &Network{Domains: []string{"a", "b", "c", "d", "e", "f", "g"}}
	if got := fmt.Sprint(n.names("bs"), n.names("bs.lab.test")); got != "[bs.a bs.b bs.c bs.d bs.e bs.f bs] [bs.lab.test]" {
		t.Error(got)
	}
	for host, want := range map[string]bool{"bs.local": true, "BS.Local.": true, "bs.nonlocal": false, "bs.local.test": false, "bs": false} {
		if isLocal(host) != want {
			t.Errorf("%s: %t", host, !want)
		}
	}
}

// TestServersToAsk: an interface's own name servers are asked, and the system's where it has none; no more than are tried.
func TestServersToAsk(t *testing.T) {
	var many []netip.Addr
	for i := range byte(2 * maxNameServers) {
		many = append(many, netip.AddrFrom4([4]byte{192, 0, 2, i + 1}))
	}
	own := &Network{DNS: many[:1], System: many}
	if got := own.servers(); !slices.Equal(got, many[:1]) {
		t.Errorf("asks %v", got)
	}
	for _, n := range []*Network{{System: many}, {DNS: many}} {
		if got := n.servers(); !slices.Equal(got, many[:maxNameServers]) {
			t.Errorf("asks %v", got)
		}
	}
	file := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(file, []byte("search a.test\ndomain b.test\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := readResolver(file).Domains; !slices.Equal(got, []string{"b.test"}) {
		t.Errorf("domains %q", got)
	}
}
