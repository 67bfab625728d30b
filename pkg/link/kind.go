package link

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/xpu-sztp/ztp/pkg/link/rtnetlink"
)

// traits are what the kernel says of an interface that tells what it is good for.
type traits struct {
	*rtnetlink.Link
	virtual  bool // a virtual function, while its physical function is this machine's as well (sysfs: device/physfn)
	wireless bool // sysfs: phy80211
}

func traitsOf(l *rtnetlink.Link) *traits {
	t := &traits{Link: l}
	if t.Kind == rtnetlink.Device {
		t.virtual, t.wireless = t.has("device/physfn"), t.has("phy80211")
	}
	return t
}

// has reports whether sysfs has an entry for the interface. The sysfs in sight may be that of another network namespace.
func (t *traits) has(entry string) bool {
	dir := filepath.Join("/sys/class/net", t.Name)
	if _, err := os.Lstat(filepath.Join(dir, entry)); err != nil {
		return false
	}
	index, err := os.ReadFile(filepath.Join(dir, "ifindex"))
	return err == nil && strings.TrimSpace(string(index)) == fmt.Sprint(t.Index)
}

// represents returns the function of the adapter that a port of its switch leads to, such as "pf0vf3", or "" for one that
// leads out. The names are devlink's: an optional controller, then the physical function, then a function of that.
func (t *traits) represents() string {
	name := t.Port
	if strings.HasPrefix(name, "c") {
		name = strings.TrimLeft(name[1:], "0123456789")
	}
	if !t.Switched || !strings.HasPrefix(name, "pf") {
		return ""
	}
	return t.Port
}

// shown is the kind in the words of the status.
func (t *traits) shown() string {
	switch {
	case t.wireless:
		return "wireless"
	case t.represents() != "":
		return "representor"
	case t.virtual:
		return "virtual function"
	case t.Kind == rtnetlink.Device:
		return "ethernet"
	}
	return t.Kind
}

// machine is all interfaces, by index.
type machine map[int]*traits

// unsuitable returns why no bootstrap server is to be found by an interface, or "". With hopeless there cannot be one;
// otherwise whoever names the interface in the configuration may know better.
func (m machine) unsuitable(t *traits) (why string, hopeless bool) {
	switch {
	case t.Flags&unix.IFF_LOOPBACK != 0:
		return "loopback", true
	case t.Master != 0:
		return "belongs to " + m.master(t), true
	case t.Type != unix.ARPHRD_ETHER:
		return "not Ethernet", true
	case t.wireless:
		return "wireless: to join a network takes credentials that the agent does not have", true
	}
	why = m.leadsNowhere(t)
	if why == "" && len(t.HardwareAddr) != 6 {
		return "has no hardware address", true
	}
	return why, false
}

// master says what an interface was made part of.
func (m machine) master(t *traits) string {
	if master := m[t.Master]; master != nil {
		return fmt.Sprintf("%s (%s)", master.Name, master.shown())
	}
	return "another interface (bridge, bond or VRF)"
}

// leadsNowhere returns why an Ethernet interface that works by itself does not lead out of the machine, or "". Virtual
// Ethernet, VLANs, bonds and bridges do as well as a port, when what is below them does.
func (m machine) leadsNowhere(t *traits) string {
	switch t.Kind {
	case rtnetlink.Device:
		return m.leadsInside(t)
	case "veth", "netkit", "hsr", "dsa":
		return ""
	case "openvswitch": // an internal port, or the datapath itself
		if len(m.ports(t)) > 0 {
			return "the datapath of Open vSwitch"
		}
		return ""
	case "vlan", "macsec":
		return m.below(t)
	case "macvlan", "macvtap", "ipvlan":
		if m.parent(t) != nil {
			return "shares " + m.parent(t).Name + ", which is looked at itself"
		}
		return "" // in a container: what it shares is somebody else's
	case "bridge", "bond", "team":
		leads := func(port *traits) bool { return m.portLeads(port) }
		if !slices.ContainsFunc(m.ports(t), leads) {
			return t.Kind + " without a port that leads out"
		}
		return ""
	}
	return "virtual (" + t.shown() + ")"
}

// leadsInside returns why a device of the machine does not lead out of it, or "".
func (m machine) leadsInside(t *traits) string {
	switch port := t.represents(); {
	case port != "":
		return "representor of " + port + ", which is a function of this adapter and not the network"
	case t.virtual:
		return "a virtual function of an adapter that is looked at itself"
	}
	for _, other := range m {
		if other.Kind == "dsa" && m.parent(other) == t {
			return "carries the tagged frames of a switch, whose ports are looked at themselves"
		}
	}
	return ""
}

// below returns what is wrong with the parent of an interface that is made on top of another, or "".
func (m machine) below(t *traits) string {
	parent := m.parent(t)
	if parent == nil {
		return ""
	}
	// Interfaces can be stacked on others eight deep (the kernel's MAX_NEST_DEV), and never in a circle.
	if why := m.leadsNowhere(parent); why != "" {
		return "on " + parent.Name + ": " + why
	}
	return ""
}

// portLeads reports whether a port of a bridge or bond leads out.
func (m machine) portLeads(port *traits) bool {
	return port.Type == unix.ARPHRD_ETHER && !port.wireless && m.leadsNowhere(port) == ""
}

// parent is what an interface was made on top of, when that is in this network namespace.
func (m machine) parent(t *traits) *traits {
	if t.Foreign || t.Parent == t.Index {
		return nil
	}
	return m[t.Parent]
}

func (m machine) ports(t *traits) (ports []*traits) {
	for _, p := range m {
		if p.Master == t.Index && p != t {
			ports = append(ports, p)
		}
	}
	return ports
}
