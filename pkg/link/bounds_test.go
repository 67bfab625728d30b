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
		{change{Kind: "sysctl", Index: 7, Key: "net/core_pattern"}, false}, // of an interface called kernel
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
