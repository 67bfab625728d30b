package state_test

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/xpu-sztp/ztp/pkg/state"
)

func router(address, mac string) []state.Gateway {
	return []state.Gateway{{Address: address, MAC: mac}}
}

// TestNetworkCompare is what may happen to a network, and what moving to another one looks like.
func TestNetworkCompare(t *testing.T) {
	const mac, other = "02:00:00:00:00:01", "02:00:00:00:00:02"
	lab := state.Network{Routers: router("192.0.2.1", mac), Domains: []string{"lab.example"}, Servers: []string{"192.0.2.2"}}
	tests := map[string]struct {
		known, seen state.Network
		want        state.Likeness
	}{
		"itself":             {lab, lab, state.Same},
		"nothing seen":       {lab, state.Network{}, state.Unclear},
		"nothing known":      {state.Network{}, lab, state.Unclear},
		"all of it is other": {lab, state.Network{Routers: router("198.51.100.1", other), Domains: []string{"dc.example"}, Servers: []string{"198.51.100.2"}}, state.Different},

		"another DHCP server stands in":                         {lab, state.Network{Routers: lab.Routers, Domains: lab.Domains, Servers: []string{"192.0.2.3"}}, state.Same},
		"VRRP: another router with the same MAC":                {lab, state.Network{Routers: router("192.0.2.1", mac), Domains: []string{"x"}, Servers: []string{"y"}}, state.Same},
		"another router without VRRP":                           {lab, state.Network{Routers: router("192.0.2.1", other), Domains: lab.Domains, Servers: lab.Servers}, state.Same},
		"router and DHCP server in one device that is replaced": {lab, state.Network{Routers: router("192.0.2.9", other), Domains: lab.Domains, Servers: []string{"192.0.2.9"}}, state.Same},
		"the domain is renamed":                                 {lab, state.Network{Routers: lab.Routers, Domains: []string{"new.example"}, Servers: lab.Servers}, state.Same},
		"static now, router's MAC not known":                    {lab, state.Network{Routers: router("192.0.2.1", "")}, state.Same},
		"one difference is not enough":                          {lab, state.Network{Routers: router("198.51.100.1", other)}, state.Unclear},
		"two are":                                               {lab, state.Network{Routers: router("198.51.100.1", other), Domains: []string{"dc.example"}}, state.Different},
		"two without a router":                                  {lab, state.Network{Domains: []string{"dc.example"}, Servers: []string{"198.51.100.2"}}, state.Different},
		"one of two networks is left":                           {lab, state.Network{Routers: append(router("198.51.100.1", other), lab.Routers...), Domains: []string{"dc.example"}}, state.Same},

		"the same private addresses, another router": {
			state.Network{Routers: router("192.168.1.1", mac), Domains: []string{"a"}, Servers: []string{"192.168.1.1"}},
			state.Network{Routers: router("192.168.1.1", other), Domains: []string{"b"}, Servers: []string{"192.168.1.1"}}, state.Different,
		},
		"the same private addresses and nothing else": {
			state.Network{Routers: router("192.168.1.1", mac), Servers: []string{"192.168.1.1"}},
			state.Network{Routers: router("192.168.1.1", other), Servers: []string{"192.168.1.1"}}, state.Unclear,
		},
		"one DHCP server for many networks": {
			state.Network{Routers: router("192.0.2.1", mac), Servers: []string{"203.0.113.5"}},
			state.Network{Routers: router("198.51.100.1", other), Servers: []string{"203.0.113.5"}}, state.Same,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := tt.known.Compare(tt.seen); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
			if got := tt.seen.Compare(tt.known); got != tt.want {
				t.Errorf("the other way round: got %v", got)
			}
		})
	}
}

func drawNetwork(t *rapid.T, label string) state.Network {
	name := rapid.StringMatching(`[a-d]`)
	n := state.Network{
		Domains: rapid.SliceOfN(name, 0, 12).Draw(t, label+" domains"),
		Servers: rapid.SliceOfN(name, 0, 12).Draw(t, label+" servers"),
	}
	for range rapid.IntRange(0, 12).Draw(t, label+" routers") {
		n.Routers = append(n.Routers, state.Gateway{Address: name.Draw(t, "address"), MAC: rapid.SampledFrom([]string{"", "1", "2", "3"}).Draw(t, "mac")})
	}
	return n
}

// TestNetworkLearn: what was learned is recognised, however many names a network goes through.
func TestNetworkLearn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		known, seen := drawNetwork(t, "known"), drawNetwork(t, "seen")
		copied := fmt.Sprint(known)
		learned, more := known.Learn(seen)
		if fmt.Sprint(known) != copied {
			t.Fatal("the original was changed")
		}
		if seen.Known() && learned.Compare(seen) == state.Different {
			t.Fatalf("%v learned %v and takes it for another", known, seen)
		}
		again, evenMore := learned.Learn(seen)
		if evenMore {
			t.Fatalf("after learning %v (%t), %v, learning it again makes %v", seen, more, learned, again)
		}
		if len(again.Routers) > 8 || len(again.Domains) > 8 || len(again.Servers) > 8 {
			t.Fatalf("%v has no end", again)
		}
	})
}

func TestNetworkInWords(t *testing.T) {
	n := state.Network{Routers: append(router("192.0.2.1", "02:00:00:00:00:01"), router("fe80::1", "")...), Domains: []string{"lab.example"}, Servers: []string{"192.0.2.2"}}
	if got, want := n.String(), "router 192.0.2.1 (02:00:00:00:00:01), router fe80::1, domain lab.example, DHCP server 192.0.2.2"; got != want {
		t.Errorf("got %q", got)
	}
}
