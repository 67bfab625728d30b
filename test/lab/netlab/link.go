package netlab

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Up brings an interface of the calling thread's namespace up.
func Up(name string) error { return withLink(name, netlink.LinkSetUp) }

// Down takes an interface of the calling thread's namespace down.
func Down(name string) error { return withLink(name, netlink.LinkSetDown) }

func withLink(name string, f func(netlink.Link) error) error {
	link, err := netlink.LinkByName(name)
	if err == nil {
		err = f(link)
	}
	if err != nil {
		return fmt.Errorf("interface %s: %w", name, err)
	}
	return nil
}

// bridgeMAC is locally administered. A bridge without an address of its own takes that of a port, which changes when cables
// come and go, and makes router advertisements lie.
var bridgeMAC = net.HardwareAddr{0x02, 0x00, 0x00, 0x00, 0x00, 0x01}

// AddBridge makes a bridge without spanning tree or multicast snooping, and brings it up.
func AddBridge(name string) error {
	snooping := false
	bridge := &netlink.Bridge{
		LinkAttrs: netlink.LinkAttrs{Name: name, HardwareAddr: bridgeMAC}, MulticastSnooping: &snooping,
	}
	if err := netlink.LinkAdd(bridge); err != nil {
		return fmt.Errorf("bridge %s: %w", name, err)
	}
	return Up(name)
}

// Remove removes an interface of the calling thread's namespace.
func Remove(name string) error { return withLink(name, netlink.LinkDel) }

// AddAddress gives an interface an address, without waiting for duplicate address detection.
func AddAddress(name string, address netip.Prefix) error {
	return withLink(name, func(link netlink.Link) error { return netlink.AddrAdd(link, entry(address)) })
}

// RemoveAddress takes an address from an interface.
func RemoveAddress(name string, address netip.Prefix) error {
	return withLink(name, func(link netlink.Link) error { return netlink.AddrDel(link, entry(address)) })
}

func entry(address netip.Prefix) *netlink.Addr {
	return &netlink.Addr{
		IPNet: &net.IPNet{IP: address.Addr().AsSlice(), Mask: net.CIDRMask(address.Bits(), address.Addr().BitLen())},
		Flags: unix.IFA_F_NODAD,
	}
}

// Cable is a virtual Ethernet cable from a bridge of this process's namespace to an interface of another one.
type Cable struct {
	port string
}

// Connect makes an interface called name in ns whose cable ends in a port of bridge. The cable is not plugged: the interface
// has no carrier. The interface itself is down, as the kernel leaves it.
func Connect(bridge string, ns *Namespace, name, port string) (*Cable, error) {
	parent, err := netlink.LinkByName(bridge)
	if err != nil {
		return nil, fmt.Errorf("bridge %s: %w", bridge, err)
	}
	veth := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: port, MasterIndex: parent.Attrs().Index},
		PeerName:  name, PeerNamespace: netlink.NsFd(ns.file.Fd()),
	}
	if err := netlink.LinkAdd(veth); err != nil {
		return nil, fmt.Errorf("cable %s to %s: %w", port, name, err)
	}
	return &Cable{port: port}, nil
}

// Plug gives the far end its carrier, once that end is up.
func (c *Cable) Plug() error { return Up(c.port) }

// Pull takes the carrier away.
func (c *Cable) Pull() error { return Down(c.port) }

// Close removes the cable and the interfaces at both ends.
func (c *Cable) Close() error { return Remove(c.port) }

// AddTap makes an interface called name on a bridge for a virtual machine. It has a carrier while the machine runs.
func AddTap(bridge, name string) error {
	parent, err := netlink.LinkByName(bridge)
	if err != nil {
		return fmt.Errorf("bridge %s: %w", bridge, err)
	}
	tap := &netlink.Tuntap{
		LinkAttrs: netlink.LinkAttrs{Name: name, MasterIndex: parent.Attrs().Index},
		Mode:      netlink.TUNTAP_MODE_TAP, Flags: netlink.TUNTAP_NO_PI | netlink.TUNTAP_VNET_HDR,
	}
	if err := netlink.LinkAdd(tap); err != nil {
		return fmt.Errorf("tap %s: %w", name, err)
	}
	return Up(name)
}
