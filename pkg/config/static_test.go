package config_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/pkg/config"
)

const static = `[discovery]
timeout = "5s"
[discovery.static.eth0]
addresses = ["192.0.2.10/24", "2001:db8::10/64"]
gateways = ["192.0.2.1", "fe80::1"]
dns = ["192.0.2.53", "2001:db8::53"]
domains = ["example.net"]
[discovery.static."eth1.100"]
addresses = ["192.0.2.10/31"]
gateways = ["192.0.2.11"]
[discovery.static."eth*"]
addresses = ["198.51.100.9/32"]
`

func TestStatic(t *testing.T) {
	c, _ := load(t, map[string]string{config.AdminFile: static})
	eth0 := &config.Static{
		Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.10/24"), netip.MustParsePrefix("2001:db8::10/64")},
		Gateways:  []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("fe80::1")},
		DNS:       []netip.Addr{netip.MustParseAddr("192.0.2.53"), netip.MustParseAddr("2001:db8::53")}, Domains: []string{"example.net"},
	}
	same := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	samePrefix := cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
	if diff := cmp.Diff(eth0, c.Discovery.StaticFor("eth0"), same, samePrefix); diff != "" {
		t.Error(diff)
	}
	for name, want := range map[string]string{"eth1.100": "192.0.2.10/31", "eth1.101": "198.51.100.9/32", "enp0": ""} {
		got := ""
		if s := c.Discovery.StaticFor(name); s != nil {
			got = s.Addresses[0].String()
		}
		if got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if c.Discovery.Timeout != 5e9 {
		t.Error("the keys beside it are lost")
	}
	c, _ = load(t, map[string]string{config.AdminFile: static,
		"/etc/ztp/ztp.toml.d/1.toml": "discovery.static.eth7 = {addresses = [\"203.0.113.7/24\"]}\n"})
	if len(c.Discovery.Static) != 1 || c.Discovery.StaticFor("eth7") == nil {
		t.Errorf("a later file does not replace: %v", c.Discovery.Static)
	}
	c, _ = load(t, map[string]string{config.AdminFile: static, "/etc/ztp/ztp.toml.d/1.toml": "[discovery]\nstatic = {}\n"})
	if len(c.Discovery.Static) != 0 {
		t.Errorf("a later file does not take away: %v", c.Discovery.Static)
	}
}

func TestStaticMistakes(t *testing.T) {
	const head = "[discovery.static.eth0]\naddresses = [\"192.0.2.10/24\", \"2001:db8::10/64\"]\n"
	tests := map[string]struct{ file, at, message string }{
		"no addresses":       {"\n[discovery.static.eth0]\ndomains = [\"lab.test\"]\n", "2: discovery.static.eth0", "has no addresses"},
		"second of two":      {head + "[discovery.static.eth1]\naddresses = []\n", "3: discovery.static.eth1", "has no addresses"},
		"not a table":        {"[discovery.static]\neth0 = 1\n", "2: discovery.static.eth0", "is not a table"},
		"static not a table": {"[discovery]\nstatic = 1\n", "2: discovery.static", "is not a table"},
		"unknown key":        {head + "gateway = [\"192.0.2.1\"]\n", "3: discovery.static.eth0.gateway", "unknown key"},
		"not a list":         {"[discovery.static.eth0]\naddresses = \"192.0.2.1/24\"\n", "2: discovery.static.eth0.addresses", "want a list of strings, found string"},
		"not an address":     {"[discovery.static.eth0]\naddresses = [\"192.0.2.1\"]\n", "2: discovery.static.eth0.addresses", "no '/'"},
		"no pattern":         {"[discovery.static.\"[\"]\naddresses = [\"192.0.2.10/24\"]\n", "1: discovery.static.\"[\"", "not a pattern"},
		"no name":            {"[discovery.static.\"\"]\naddresses = [\"192.0.2.10/24\"]\n", "1: discovery.static.\"\"", "not a pattern"},
		"two of one family":  {"[discovery.static.a]\naddresses = [\"192.0.2.10/24\", \"192.0.2.11/24\"]\n", "2: discovery.static.a.addresses", "the second of an IP version"},
		"network":            {"[discovery.static.a]\naddresses = [\"192.0.2.0/24\"]\n", "2: discovery.static.a.addresses", "not a host's address on a link"},
		"broadcast":          {"[discovery.static.a]\naddresses = [\"192.0.2.255/24\"]\n", "2: discovery.static.a.addresses", "not a host's address on a link"},
		"loopback":           {"[discovery.static.a]\naddresses = [\"127.0.0.2/8\"]\n", "2: discovery.static.a.addresses", "not a host's address on a link"},
		"multicast":          {"[discovery.static.a]\naddresses = [\"ff02::5/64\"]\n", "2: discovery.static.a.addresses", "not a host's address on a link"},
		"link-local":         {"[discovery.static.a]\naddresses = [\"fe80::5/64\"]\n", "2: discovery.static.a.addresses", "not a host's address on a link"},
		"mapped":             {"[discovery.static.a]\naddresses = [\"::ffff:192.0.2.1/120\"]\n", "2: discovery.static.a.addresses", "not a host's address on a link"},
		"short":              {"[discovery.static.a]\naddresses = [\"192.0.2.1/7\"]\n", "2: discovery.static.a.addresses", "not a host's address on a link"},
		"gateway elsewhere":  {head + "gateways = [\"198.51.100.1\"]\n", "3: discovery.static.eth0.gateways", "198.51.100.1 is not another host on the link"},
		"gateway broadcast":  {head + "gateways = [\"192.0.2.255\"]\n", "3: discovery.static.eth0.gateways", "is not another host on the link"},
		"gateway itself":     {head + "gateways = [\"192.0.2.10\"]\n", "3: discovery.static.eth0.gateways", "is not another host on the link"},
		"gateway zone":       {head + "gateways = [\"fe80::1%eth0\"]\n", "3: discovery.static.eth0.gateways", "is not another host on the link"},
		"two gateways":       {head + "gateways = [\"192.0.2.1\", \"192.0.2.2\"]\n", "3: discovery.static.eth0.gateways", "the second of an IP version"},
		"gateway family":     {"[discovery.static.a]\naddresses = [\"192.0.2.10/24\"]\ngateways = [\"fe80::1\"]\n", "3: discovery.static.a.gateways", "is not another host on the link"},
		"dns family":         {"[discovery.static.a]\naddresses = [\"192.0.2.10/24\"]\ndns = [\"2001:db8::1\"]\n", "3: discovery.static.a.dns", "not another host that"},
		"dns loopback":       {head + "dns = [\"127.0.0.53\"]\n", "3: discovery.static.eth0.dns", "not another host that"},
		"dns itself":         {head + "dns = [\"192.0.2.10\"]\n", "3: discovery.static.eth0.dns", "not another host that"},
		"gateway beyond":     {head + "gateways = [\"2001:db8:9::1\"]\n", "3: discovery.static.eth0.gateways", "is not another host on the link"},
		"gateway link-local": {head + "gateways = [\"169.254.1.1\"]\n", "3: discovery.static.eth0.gateways", "is not another host on the link"},
		"smallest network":   {"[discovery.static.a]\naddresses = [\"192.0.2.8/30\"]\n", "2: discovery.static.a.addresses", "not a host's address on a link"},
		"any router":         {"[discovery.static.a]\naddresses = [\"2001:db8::/64\"]\n", "2: discovery.static.a.addresses", "not a host's address on a link"},
		"dns zone":           {head + "dns = [\"2001:db8::53%eth0\"]\n", "3: discovery.static.eth0.dns", "not another host that"},
		"dns elsewhere":      {head + "dns = [\"fe80::53%eth1\"]\n", "3: discovery.static.eth0.dns", "not another host that"},
		"too many domains":   {head + "domains = [" + strings.Repeat("\"a\",", 65) + "]\n", "1: discovery.static.eth0", "more than 64"},
		"too many servers":   {head + "dns = [" + strings.Repeat("\"192.0.2.53\",", 65) + "]\n", "1: discovery.static.eth0", "more than 64"},
		"another's table":    {"[trust]\nstatic = 1\n", "2: trust.static", "unknown key"},
		"sessions per day":   {"[reprovision]\nsessions-per-day = 0\n", "2: reprovision.sessions-per-day", "out of range, from 1 to 24"},
		"sessions per hour":  {"[reprovision]\nsessions-per-day = 25\n", "2: reprovision.sessions-per-day", "out of range, from 1 to 24"},
		"soon":               {"[reprovision]\nafter = \"999ms\"\n", "2: reprovision.after", "out of range, from 1s to 24h"},
		"late":               {"[reprovision]\nafter = \"86401s\"\n", "2: reprovision.after", "out of range, from 1s to 24h"},
		"policy":             {"[reprovision]\npolicy = \"always\"\n", "2: reprovision.policy", "none of never, on-network-change"},
		"domain":             {head + "domains = [\"a..b\"]\n", "3: discovery.static.eth0.domains", "not a domain"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := config.Load(write(t, map[string]string{config.AdminFile: tt.file}))
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), "ztp.toml:"+tt.at+": ") || !strings.Contains(err.Error(), tt.message) || strings.Count(err.Error(), "ztp.toml:") != 1 {
				t.Error(err)
			}
		})
	}
}

// TestStaticBounds is about what is just good enough.
func TestStaticBounds(t *testing.T) {
	c, _ := load(t, map[string]string{config.AdminFile: "[reprovision]\npolicy = \"on-network-change\"\nafter = \"1s\"\nsessions-per-day = 24\n" +
		"[discovery.static.eth0]\naddresses = [\"10.1.2.3/8\"]\ndns = [" + strings.Repeat("\"192.0.2.53\",", 64) + "]\n" +
		"domains = [" + strings.Repeat("\"a\",", 64) + "]\n" +
		"[discovery.static.eth1]\naddresses = [\"2001:db8::ffff:ffff:ffff:ffff/64\"]\ndns = [\"fe80::53\"]\n" +
		"[discovery.static.eth2]\naddresses = [\"2001:db8::/127\", \"192.0.2.9/30\"]\n"})
	for name, want := range map[string][2]bool{"eth0": {true, false}, "eth1": {false, true}, "eth2": {true, true}} {
		if ipv4, ipv6 := c.Discovery.StaticFor(name).Families(); [2]bool{ipv4, ipv6} != want {
			t.Errorf("%s has IPv4: %t, IPv6: %t", name, ipv4, ipv6)
		}
	}
	for n, good := range map[int]bool{64: true, 65: false} {
		var file strings.Builder
		for i := range n {
			fmt.Fprintf(&file, "[discovery.static.eth%d]\naddresses = [\"192.0.2.%d/24\"]\n", i, i+1)
		}
		_, err := config.Load(write(t, map[string]string{config.AdminFile: file.String()}))
		if (err == nil) != good || !good && !strings.Contains(err.Error(), "is one of more than 64") {
			t.Errorf("%d interfaces: %v", n, err)
		}
	}
	label := strings.Repeat("x", 63)
	longest := label + "." + label + "." + label + "." + strings.Repeat("x", 61)
	for domain, good := range map[string]bool{
		"example.net": true, "EXAMPLE.NET": true, "example.net.": true, "a-1.b_2": true, "azAZ09": true, label: true, longest: true, longest + ".": true,
		label + "x": false, longest + "x": false, "": false, ".": false, "a b": false, "a/b": false, "a:b": false, "a@b": false, "a[b": false,
		"a`b": false, "a{b": false, "a~b": false, "\u00e4.example": false, "..": false,
	} {
		file := "[discovery.static.eth0]\naddresses = [\"192.0.2.10/24\"]\ndomains = [\"" + domain + "\"]\n"
		if _, err := config.Load(write(t, map[string]string{config.AdminFile: file})); (err == nil) != good {
			t.Errorf("domain %q: %v", domain, err)
		}
	}
}
