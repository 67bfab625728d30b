package source_test

import (
	"context"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/config"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/source"
	"github.com/xpu-sztp/ztp/test/nettest"
)

// addressed gives every interface of the rig the same static configuration.
func (r *rig) addressed(s config.Static) {
	r.Static = func(string) *config.Static { return &s }
}

func prefixes(list ...string) (all []netip.Prefix) {
	for _, s := range list {
		all = append(all, netip.MustParsePrefix(s))
	}
	return all
}

func addresses(list ...string) (all []netip.Addr) {
	for _, s := range list {
		all = append(all, netip.MustParseAddr(s))
	}
	return all
}

// left is everything that is configured on the interface and for it, without what the kernel does by itself.
func left(t *testing.T, n *nettest.Network) string {
	return configured(t, n) + n.Inside.Run(t, "ip", "-6", "-o", "addr", "show", "dev", n.Device, "scope", "global") +
		n.Inside.Run(t, "ip", "-6", "route", "show", "table", "all", "dev", n.Device, "proto", "dhcp")
}

// allRules are those of the machine.
func allRules(t *testing.T, n *nettest.Network) string {
	return n.Inside.Run(t, "ip", "-4", "rule") + n.Inside.Run(t, "ip", "-6", "rule")
}

// TestStaticAddresses has a server behind a router, whose name is to be looked up.
func TestStaticAddresses(t *testing.T) {
	tests := map[string]struct {
		config.Static
		family, server string
		routes         int
	}{
		"ipv4": {config.Static{Addresses: prefixes("192.0.2.10/24"), Gateways: addresses("192.0.2.1"), DNS: addresses("192.0.2.1"),
			Domains: []string{"lab.test"}}, "ipv4", "198.51.100.1", 2},
		"ipv6": {config.Static{Addresses: prefixes("2001:db8:c::10/64"), Gateways: addresses("2001:db8:c::1"), DNS: addresses("2001:db8:c::1"),
			Domains: []string{"lab.test"}}, "ipv6", "2001:db8:d::1", 2},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			n := nettest.NewNetwork(t, nil, "192.0.2.1/24", "2001:db8:c::1/64", "198.51.100.1/32", "2001:db8:d::1/128")
			n.Dnsmasq(t, "address=/bs.lab.test/"+tt.server)
			serve(t, n, "[::]:8443")
			before := allRules(t, n)
			r := newRig(t, 10*time.Second, n)
			r.addressed(tt.Static)
			r.Finders = []source.Finder{source.DHCP{}, source.WellKnown{Servers: []artifacts.BootstrapServer{{Address: "bs", Port: 8443}}}}
			trace := n.Trace(t)
			err := discover(t, r, func(ctx context.Context, lead source.Lead) error {
				if lead.Source != "well-known" || lead.Interface != n.Device {
					t.Errorf("lead %+v", lead)
				}
				e := r.board.entry(n.Device, tt.family)
				if e.State != "bound" || e.Method != "static" || len(e.Addresses) != 1 || len(e.RoutesAdded) != tt.routes || len(e.DNS) != 1 || len(e.Domains) != 1 {
					t.Errorf("status %+v", e)
				}
				return reach(ctx, lead)
			})
			if err != nil {
				t.Fatal(err)
			}
			syn := trace.AwaitKind(t, "SYN", true)
			if from, to := syn.Addresses(); from.Addr() != tt.Addresses[0].Addr() || to.Addr().String() != tt.server {
				t.Errorf("the connection is %v", syn)
			}
			if story := trace.Story("DHCP", "SOLICIT6", "INFORMATION-REQUEST6", "RELEASE6"); len(story) > 0 {
				t.Errorf("asked DHCP: %q", story)
			}
			if tt.family == "ipv4" { // for the router
				trace.AwaitKind(t, "ARP probe", true)
				trace.AwaitKind(t, "ARP request", true)
			}
			if out := left(t, n); out != "" || allRules(t, n) != before {
				t.Errorf("afterwards: %s%s", out, allRules(t, n))
			}
			if e := r.board.entry(n.Device, tt.family); e.State != "unbound" || len(e.RoutesRemoved) != tt.routes {
				t.Errorf("status %+v", e)
			}
		})
	}
}

// TestStaticAddressesInUse has another host with the same ones.
func TestStaticAddressesInUse(t *testing.T) {
	n := nettest.NewNetwork(t, nil, "192.0.2.10/24", "2001:db8:c::10/64")
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+n.Device+"/accept_dad", []byte("1"), 0o644); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, 10*time.Second, n)
	r.addressed(config.Static{Addresses: prefixes("192.0.2.10/24", "2001:db8:c::10/64"), Gateways: addresses("192.0.2.1", "fe80::1")})
	trace := n.Trace(t)
	err := discover(t, r, func(context.Context, source.Lead) error { t.Error("visited"); return nil })
	code, hint := reason.Of(err)
	if code != source.DuplicateAddress || hint == "" || !strings.Contains(err.Error(), "192.0.2.10") || !strings.Contains(err.Error(), "2001:db8:c::10") {
		t.Errorf("code %q, hint %q, %v", code, hint, err)
	}
	trace.AwaitKind(t, "ARP probe", true)
	trace.AwaitKind(t, "DAD", true)
	if out := left(t, n); out != "" {
		t.Errorf("afterwards: %s", out)
	}
}

// TestStaticAddressesOverlap has the same network on two interfaces, and different servers there.
func TestStaticAddressesOverlap(t *testing.T) {
	a, b := nettest.NewNetwork(t, nil, "192.0.2.1/24"), nettest.NewNetwork(t, nil, "192.0.2.1/24")
	serve(t, a, "192.0.2.1:8443")
	serve(t, b, "192.0.2.1:8443")
	r := newRig(t, 10*time.Second, a, b)
	r.addressed(config.Static{Addresses: prefixes("192.0.2.10/24"), Gateways: addresses("192.0.2.1")})
	servers := []artifacts.BootstrapServer{{Address: "192.0.2.1", Port: 8443}}
	r.Finders = []source.Finder{source.Static{Servers: servers}}
	traces := map[string]*nettest.Trace{a.Device: a.Trace(t), b.Device: b.Trace(t)}
	seen := map[string]bool{}
	err := discover(t, r, func(ctx context.Context, lead source.Lead) error {
		if lead.Source != "url" || lead.Trusted {
			t.Errorf("lead %+v", lead)
		}
		if err := reach(ctx, lead); err != nil {
			t.Error(err)
		}
		traces[lead.Interface].AwaitKind(t, "SYN ACK", false)
		if seen[lead.Interface] = true; len(seen) == 1 {
			return context.DeadlineExceeded // look further
		}
		return nil
	})
	if err != nil || len(seen) != 2 {
		t.Errorf("%v %v", seen, err)
	}
	for name, trace := range traces {
		if trace.Count("SYN") != 1 {
			t.Errorf("%s: %q", name, trace.Kinds())
		}
	}
}

// TestStaticAddressesOfSomebodyElse leaves an interface alone that somebody has configured by hand.
func TestStaticAddressesOfSomebodyElse(t *testing.T) {
	n := nettest.NewNetwork(t, nil, "192.0.2.1/24")
	n.Up(t)
	r := managedRig(t, 10*time.Second, n)
	n.Inside.Run(t, "ip", "addr", "add", "192.0.2.7/24", "dev", n.Device)
	awaitAddress(t, r, n, "manual")
	r.addressed(config.Static{Addresses: prefixes("192.0.2.10/24")})
	r.Finders = []source.Finder{source.WellKnown{Servers: []artifacts.BootstrapServer{{Address: "192.0.2.1", Port: 8443}}}}
	n.Kea4(t, kea4)
	serve(t, n, "192.0.2.1:8443")
	trace := n.Trace(t)
	err := discover(t, r, reach)
	if err != nil {
		t.Fatal(err)
	}
	if from, _ := trace.AwaitKind(t, "SYN", true).Addresses(); from.Addr().String() != "192.0.2.7" {
		t.Errorf("connected from %v", from)
	}
}
