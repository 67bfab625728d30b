package link

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/xpu-sztp/ztp/pkg/link/rtnetlink"
)

// TestKinds has the interfaces of a few machines. Kernels that test this lack most of these drivers.
func TestKinds(t *testing.T) {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	type attrs func(*traits)
	eth := func(name, kind string, more ...attrs) *traits {
		tr := &traits{Link: &rtnetlink.Link{Name: name, Type: unix.ARPHRD_ETHER, HardwareAddr: mac, Kind: kind}}
		for _, set := range more {
			set(tr)
		}
		return tr
	}
	on := func(parent int) attrs { return func(t *traits) { t.Parent = parent } }
	in := func(master int) attrs { return func(t *traits) { t.Master = master } }
	elsewhere := func(t *traits) { t.Parent, t.Foreign = 2, true }
	hardware := func(kind uint16, size int) attrs {
		return func(t *traits) { t.Type, t.HardwareAddr = kind, make(net.HardwareAddr, size) }
	}
	port := func(name string) attrs { return func(t *traits) { t.Port, t.Switched = name, true } }
	vf := func(t *traits) { t.virtual = true }

	const inside = ", which is a function of this adapter and not the network"
	machines := map[string][]struct {
		*traits
		kind, skip string
	}{
		"server": {
			{eth("lo", "device", hardware(unix.ARPHRD_LOOPBACK, 6), func(t *traits) { t.Flags = unix.IFF_LOOPBACK }), "ethernet", "loopback"},
			{eth("eth0", "device"), "ethernet", ""},
			{eth("eth0.5", "vlan", on(2)), "vlan", ""},
			{eth("dummy0", "dummy"), "dummy", "virtual (dummy)"},
			{eth("dummy0.5", "vlan", on(4)), "vlan", "on dummy0: virtual (dummy)"},
			{eth("ifb0", "ifb"), "ifb", "virtual (ifb)"},
			{eth("tap0", "tun"), "tun", "virtual (tun)"},
			{eth("tun0", "tun", hardware(unix.ARPHRD_NONE, 0)), "tun", "not Ethernet"},
			{eth("vxlan0", "vxlan"), "vxlan", "virtual (vxlan)"},
			{eth("geneve0", "geneve"), "geneve", "virtual (geneve)"},
			{eth("gre0", "gre", hardware(unix.ARPHRD_IPGRE, 4)), "gre", "not Ethernet"},
			{eth("gretap0", "gretap"), "gretap", "virtual (gretap)"},
			{eth("tunl0", "ipip", hardware(unix.ARPHRD_TUNNEL, 4)), "ipip", "not Ethernet"},
			{eth("sit0", "sit", hardware(unix.ARPHRD_SIT, 4)), "sit", "not Ethernet"},
			{eth("wg0", "wireguard", hardware(unix.ARPHRD_NONE, 0)), "wireguard", "not Ethernet"},
			{eth("macvlan0", "macvlan", on(2)), "macvlan", "shares eth0, which is looked at itself"},
			{eth("macvtap0", "macvtap", on(2)), "macvtap", "shares eth0, which is looked at itself"},
			{eth("ipvlan0", "ipvlan", on(2)), "ipvlan", "shares eth0, which is looked at itself"},
			{eth("macsec0", "macsec", on(2)), "macsec", ""},
			{eth("ib0", "device", hardware(unix.ARPHRD_INFINIBAND, 20)), "ethernet", "not Ethernet"},
			{eth("can0", "can", hardware(unix.ARPHRD_CAN, 0)), "can", "not Ethernet"},
			{eth("vrf0", "vrf"), "vrf", "virtual (vrf)"},
			{eth("eth1", "device", in(22)), "ethernet", "belongs to vrf0 (vrf)"},
			{eth("wlan0", "device", func(t *traits) { t.wireless = true }), "wireless",
				"wireless: to join a network takes credentials that the agent does not have"},
			{eth("future0", "quantum"), "quantum", "virtual (quantum)"},
			{eth("short0", "device", hardware(unix.ARPHRD_ETHER, 0)), "ethernet", "has no hardware address"},
			{eth("vxlan1", "vxlan", hardware(unix.ARPHRD_ETHER, 0)), "vxlan", "virtual (vxlan)"},
			{eth("nk0", "netkit"), "netkit", ""},
			{eth("hsr0", "hsr"), "hsr", ""},
			{eth("odd0", "vlan", on(30)), "vlan", ""}, // what the kernel never says must not be followed for ever
			{eth("odd1", "bridge", in(31)), "bridge", "belongs to odd1 (bridge)"},
			{eth("odd1.2", "vlan", on(31)), "vlan", "on odd1: bridge without a port that leads out"},
			{eth("br1", "bridge"), "bridge", "bridge without a port that leads out"},
			{eth("wlan1", "device", in(33), func(t *traits) { t.wireless = true }), "wireless", "belongs to br1 (bridge)"},
			{eth("bond2", "bond"), "bond", "bond without a port that leads out"},
			{eth("ib1", "device", in(35), hardware(unix.ARPHRD_INFINIBAND, 20)), "ethernet", "belongs to bond2 (bond)"},
		},
		"bonds and bridges": {
			{eth("eth0", "device", in(3)), "ethernet", "belongs to bond0 (bond)"},
			{eth("eth1", "device", in(3)), "ethernet", "belongs to bond0 (bond)"},
			{eth("bond0", "bond"), "bond", ""},
			{eth("bond0.7", "vlan", on(3), in(5)), "vlan", "belongs to br7 (bridge)"},
			{eth("br7", "bridge"), "bridge", ""},
			{eth("bond1", "bond"), "bond", "bond without a port that leads out"},
			{eth("virbr0", "bridge"), "bridge", "bridge without a port that leads out"},
			{eth("vnet0", "tun", in(7)), "tun", "belongs to virbr0 (bridge)"},
			{eth("team0", "team"), "team", ""},
			{eth("eth2", "device", in(9)), "ethernet", "belongs to team0 (team)"},
			{eth("virbr0.3", "vlan", on(7)), "vlan", "on virbr0: bridge without a port that leads out"},
			{eth("eth3", "device", in(99)), "ethernet", "belongs to another interface (bridge, bond or VRF)"},
		},
		"container": {
			{eth("eth0", "veth", elsewhere), "veth", ""},
			{eth("eth1", "macvlan", elsewhere), "macvlan", ""},
			{eth("eth2", "ipvlan", elsewhere), "ipvlan", ""},
			{eth("eth3", "vlan", elsewhere), "vlan", ""},
			{eth("eth4", "device"), "ethernet", ""}, // a virtual function without its physical one in sight
		},
		"adapter": {
			{eth("p0", "device", port("p0")), "ethernet", ""},
			{eth("pf0hpf", "device", port("c1pf0")), "representor", "representor of c1pf0" + inside},
			{eth("pf0vf3", "device", port("c1pf0vf3")), "representor", "representor of c1pf0vf3" + inside},
			{eth("en3f0pf0sf88", "device", port("pf0sf88")), "representor", "representor of pf0sf88" + inside},
			{eth("pf1hpf", "device", port("pf1hpf")), "representor", "representor of pf1hpf" + inside},
			{eth("enp3s0f0s88", "device"), "ethernet", ""}, // the function itself
			{eth("enp3s0f0v0", "device", vf), "virtual function", "a virtual function of an adapter that is looked at itself"},
			{eth("oob_net0", "device"), "ethernet", ""},
			{eth("br0", "bridge"), "bridge", "bridge without a port that leads out"},
			{eth("pf0vf4", "device", port("pf0vf4"), in(9)), "representor", "belongs to br0 (bridge)"},
			{eth("p1", "device", port("p1"), in(12)), "ethernet", "belongs to ovs-system (openvswitch)"},
			{eth("ovs-system", "openvswitch"), "openvswitch", "the datapath of Open vSwitch"},
			{eth("ovsbr1", "openvswitch"), "openvswitch", ""},
			{eth("pf0", "device", func(t *traits) { t.Port = "pf0" }), "ethernet", ""}, // without an embedded switch
			{eth("pf0vf3.9", "vlan", on(3)), "vlan", "on pf0vf3: representor of c1pf0vf3" + inside},
		},
		"switch": {
			{eth("eth0", "device"), "ethernet", "carries the tagged frames of a switch, whose ports are looked at themselves"},
			{eth("lan1", "dsa", on(1), port("p1")), "dsa", ""},
			{eth("lan2", "dsa", on(1), port("p2"), in(4)), "dsa", "belongs to br0 (bridge)"},
			{eth("br0", "bridge"), "bridge", ""},
			{eth("swp1", "device", port("p1s0")), "ethernet", ""},
		},
	}
	for name, interfaces := range machines {
		t.Run(name, func(t *testing.T) {
			all := machine{}
			for i, in := range interfaces {
				in.Index = i + 1
				all[in.Index] = in.traits
			}
			for _, in := range interfaces {
				if got, _ := all.unsuitable(in.traits); got != in.skip || in.shown() != in.kind {
					t.Errorf("%s: a %s, skipped as %q; want a %s, %q", in.Name, in.shown(), got, in.kind, in.skip)
				}
			}
		})
	}
}

// TestSkip has an interface whose kind the agent leaves alone unless somebody names it, and one that cannot be used.
func TestSkip(t *testing.T) {
	tests := []struct {
		kind, hopeless   bool
		include, exclude []string
		want             string
	}{
		{include: []string{"*"}},
		{include: []string{"eth*"}, want: "not included by configuration"},
		{include: []string{"tap*"}, exclude: []string{"*0"}, want: "excluded by configuration"},
		{kind: true, want: "virtual (tun)"},
		{kind: true, include: []string{"*"}, want: "virtual (tun)"},
		{kind: true, include: []string{"tap*"}, want: "virtual (tun)"}, // too easily meant for others
		{kind: true, include: []string{"eth*", "tap0"}},
		{kind: true, include: []string{"tap0"}, exclude: []string{"tap0"}, want: "excluded by configuration"},
		{kind: true, hopeless: true, include: []string{"tap0"}, want: "virtual (tun)"},
	}
	for _, tt := range tests {
		l := &Link{Name: "tap0", hopeless: tt.hopeless}
		if tt.kind {
			l.Skip = "virtual (tun)"
		}
		if got := skip(l, tt.include, tt.exclude); got != tt.want {
			t.Errorf("%+v: %q", tt, got)
		}
	}
}
