package config_test

import (
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
