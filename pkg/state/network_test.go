package state_test

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/xpu-sztp/ztp/pkg/state"
)

// TestNetworkCompare is what may happen to a network, and what moving to another one looks like.
func TestNetworkCompare(t *testing.T) {
	const mac, other = " 02:00:00:00:00:01", " 02:00:00:00:00:02"
	lab := state.Network{"router 192.0.2.1" + mac, "domain lab.example", "dhcp-server 192.0.2.2"}
	tests := map[string]struct {
		known, seen state.Network
		want        state.Likeness
	}{
		"itself":             {lab, lab, state.Same},
		"nothing seen":       {lab, nil, state.Unclear},
		"nothing known":      {nil, lab, state.Unclear},
		"all of it is other": {lab, state.Network{"router 198.51.100.1" + other, "domain dc.example", "dhcp-server 198.51.100.2"}, state.Different},

		"another DHCP server stands in":          {lab, state.Network{lab[0], lab[1], "dhcp-server 192.0.2.3"}, state.Same},
		"VRRP: another router with the same MAC": {lab, state.Network{lab[0], "domain x", "dhcp-server y"}, state.Same},
		"another router without VRRP":            {lab, state.Network{"router 192.0.2.1" + other, lab[1], lab[2]}, state.Same},
		"router and DHCP server in one device that is replaced": {
			lab, state.Network{"router 192.0.2.9" + other, lab[1], "dhcp-server 192.0.2.9"}, state.Same,
		},
		"the domain is renamed":              {lab, state.Network{lab[0], "domain new.example", lab[2]}, state.Same},
		"static now, router's MAC not known": {lab, state.Network{"router 192.0.2.1"}, state.Same},
		"one difference is not enough":       {lab, state.Network{"router 198.51.100.1" + other}, state.Unclear},
		"two are":                            {lab, state.Network{"router 198.51.100.1" + other, "domain dc.example"}, state.Different},
		"two without a router":               {lab, state.Network{"domain dc.example", "dhcp-server 198.51.100.2"}, state.Different},
		"one of two networks is left":        {lab, state.Network{"router 198.51.100.1" + other, lab[0], "domain dc.example"}, state.Same},
		"an address that begins like another": {
			lab, state.Network{"router 192.0.2.10", "domain lab.example.net", "dhcp-server 192.0.2.20"}, state.Different,
		},

		"the same private addresses, another router": {
			state.Network{"router 192.168.1.1" + mac, "domain a", "dhcp-server 192.168.1.1"},
			state.Network{"router 192.168.1.1" + other, "domain b", "dhcp-server 192.168.1.1"}, state.Different,
		},
		"the same private addresses and nothing else": {
			state.Network{"router 192.168.1.1" + mac, "dhcp-server 192.168.1.1"},
			state.Network{"router 192.168.1.1" + other, "dhcp-server 192.168.1.1"}, state.Unclear,
		},
		"one DHCP server for many networks": {
			state.Network{"router 192.0.2.1" + mac, "dhcp-server 203.0.113.5"},
			state.Network{"router 198.51.100.1" + other, "dhcp-server 203.0.113.5"}, state.Same,
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

// TestNetworkLearn: what was learned is recognised, however many names a network goes through.
func TestNetworkLearn(t *testing.T) {
	fact := rapid.StringMatching(`(domain|dhcp-server) [a-d]|router [a-d]( [1-3])?`)
	rapid.Check(t, func(t *rapid.T) {
		known := state.Network(rapid.SliceOfNDistinct(fact, 0, 16, rapid.ID).Draw(t, "known"))
		seen := state.Network(rapid.SliceOfN(fact, 0, 24).Draw(t, "seen"))
		original := slices.Clone(known)
		learned, more := known.Learn(seen)
		if !slices.Equal(original, known) {
			t.Fatal("the original was changed")
		}
		if len(seen) > 0 && learned.Compare(seen) == state.Different {
			t.Fatalf("%v learned %v and takes it for another", known, seen)
		}
		if len(learned) > 16 {
			t.Fatalf("%v has no end", learned)
		}
		if !more && slices.ContainsFunc(learned, func(f string) bool { return !slices.Contains(known, f) }) {
			t.Fatalf("%v is not told of as more than %v", learned, known)
		}
	})
}

// TestNetworkLearnsOnce what it is shown again and again, and hardware addresses when they become known.
func TestNetworkLearnsOnce(t *testing.T) {
	n := state.Network{"router 192.0.2.1", "domain a"}
	n, more := n.Learn(state.Network{"router 192.0.2.1 02:00:00:00:00:01", "domain b"})
	if want := (state.Network{"domain a", "router 192.0.2.1 02:00:00:00:00:01", "domain b"}); !more || !slices.Equal(n, want) {
		t.Errorf("%q, %t", n, more)
	}
	for range 3 {
		if n, more = n.Learn(state.Network{"domain b", "router 192.0.2.1"}); more || len(n) != 3 {
			t.Errorf("%q, %t", n, more)
		}
	}
	if n.Compare(state.Network{"router 192.0.2.1 02:00:00:00:00:02", "domain c"}) != state.Different {
		t.Errorf("%q forgot the hardware address", n)
	}
	if got, want := n.String(), "domain a, domain b, router 192.0.2.1 02:00:00:00:00:01"; got != want {
		t.Errorf("got %q", got)
	}
}
