// Package nettest builds small networks for tests from network namespaces, veth pairs and real DHCP servers. Main moves the
// whole test process into a namespace of its own, so that nothing a test does can reach the machine's network; whatever it
// makes vanishes with the process, also when that is killed.
package nettest

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/xpu-sztp/ztp/test/lab/netlab"
)

// Main runs the tests of a package in a new network namespace. Call it from TestMain: os.Exit(nettest.Main(m)).
func Main(m *testing.M) int {
	if netlab.Inside() {
		return prepared(m)
	}
	status, err := netlab.Enter()
	if err != nil {
		fmt.Fprintln(os.Stderr, "nettest:", err)
		return 1
	}
	return status
}

func prepared(m *testing.M) int {
	if err := quicken(); err != nil {
		fmt.Fprintln(os.Stderr, "nettest:", err)
		return 1
	}
	return m.Run()
}

// quicken prepares the namespace of the calling thread: loopback is up, and new interfaces do not wait for duplicate
// address detection, which takes a second or two.
func quicken() error {
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/default/accept_dad", []byte("0"), 0o644); err != nil {
		return err
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

// Namespace is a network namespace that vanishes when the test ends; nil is the one of the test itself.
type Namespace struct{ *netlab.Namespace }

// NewNamespace makes a namespace in which loopback is up.
func NewNamespace(t testing.TB) *Namespace {
	t.Helper()
	ns, err := netlab.New()
	if err != nil {
		t.Fatal("nettest:", err)
	}
	t.Cleanup(func() { ns.Close() })
	n := &Namespace{ns}
	n.Do(t, quicken)
	return n
}

// Do runs f on a thread inside the namespace. Goroutines that f starts are outside of it, but sockets that it opens stay
// inside.
func (n *Namespace) Do(t testing.TB, f func() error) {
	t.Helper()
	enter := func(f func() error) error { return f() }
	if n != nil {
		enter = n.Namespace.Do
	}
	if err := enter(f); err != nil {
		t.Fatal("nettest:", err)
	}
}

// Start starts cmd inside the namespace and kills it when the test ends.
func (n *Namespace) Start(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	start := netlab.Start
	if n != nil {
		start = n.Namespace.Start
	}
	if err := start(cmd); err != nil {
		t.Fatal("nettest:", err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
}

// Run runs a command inside the namespace to its end and returns what it printed.
func (n *Namespace) Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	var out strings.Builder
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	n.Do(t, cmd.Start)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("nettest: %s %s: %v\n%s", name, strings.Join(args, " "), err, &out)
	}
	return out.String()
}

var count atomic.Int32

// Network is a switch with two cables: one to the device, the other to an interface for servers, which has a carrier
// whatever the device does. Switch and servers have a namespace each: a host answers ARP on all its interfaces.
type Network struct {
	Device   string     // name of the device's interface
	Inside   *Namespace // where the device is; nil is the namespace of the test
	Servers  *Namespace
	Server   string // name of the servers' interface
	switches *Namespace
	port     string // the switch's end of the device's cable
	// Unplugged says that the device's cable is not plugged in now.
	Unplugged bool
}

// NewNetwork makes a network whose servers have the given addresses, such as "192.0.2.1/24". The device's interface is
// down.
func NewNetwork(t testing.TB, device *Namespace, addresses ...string) *Network {
	t.Helper()
	id := count.Add(1)
	name := func(prefix string) string { return fmt.Sprintf("%s%d", prefix, id) }
	n := &Network{Device: name("dev"), Inside: device, Servers: NewNamespace(t), Server: name("srv"),
		switches: NewNamespace(t), port: name("port")}
	n.cable(t, n.Inside, n.Device, n.port)
	n.cable(t, n.Servers, n.Server, name("uplink"))
	t.Cleanup(func() {
		n.Inside.Do(t, func() error {
			if l, err := netlink.LinkByName(n.Device); err == nil {
				return netlink.LinkDel(l)
			}
			return nil
		})
	})
	n.switches.Do(t, func() error { return bridge(n.port, name("uplink")) })
	n.Servers.Do(t, func() error { return assign(n.Server, addresses) })
	return n
}

// Attach plugs one more host into the switch, with the given addresses, and returns it and the name of its interface.
func (n *Network) Attach(t testing.TB, addresses ...string) (host *Namespace, ifname string) {
	t.Helper()
	id := count.Add(1)
	host, ifname = NewNamespace(t), fmt.Sprintf("host%d", id)
	port := fmt.Sprintf("port%d", id)
	n.cable(t, host, ifname, port)
	n.switches.Do(t, func() error { return enslave("switch", port) })
	host.Do(t, func() error { return assign(ifname, addresses) })
	return host, ifname
}

// cable makes a veth pair from a host to the switch.
func (n *Network) cable(t testing.TB, host *Namespace, name, port string) {
	t.Helper()
	host.Do(t, func() error {
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: port,
			PeerNamespace: netlink.NsFd(n.switches.FD())})
	})
}

// bridge makes a switch of the ports.
func bridge(ports ...string) error {
	br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "switch"}, MulticastSnooping: new(false)}
	if err := netlink.LinkAdd(br); err != nil {
		return err
	}
	if err := enslave(br.Name, ports...); err != nil {
		return err
	}
	return netlink.LinkSetUp(br)
}

func enslave(bridge string, ports ...string) error {
	br, err := netlink.LinkByName(bridge)
	if err != nil {
		return err
	}
	for _, port := range ports {
		l, err := netlink.LinkByName(port)
		if err != nil {
			return err
		}
		if err := netlink.LinkSetMaster(l, br); err != nil {
			return err
		}
		if err := netlink.LinkSetUp(l); err != nil {
			return err
		}
	}
	return nil
}

func assign(name string, addresses []string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	for _, a := range addresses {
		addr, err := netlink.ParseAddr(a)
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(l, addr); err != nil {
			return fmt.Errorf("%s: %w", a, err)
		}
	}
	return netlink.LinkSetUp(l)
}

// Recable gives the device another interface in place of one that was deleted, with a cable that is plugged in.
func (n *Network) Recable(t testing.TB) {
	t.Helper()
	n.cable(t, n.Inside, n.Device, n.port)
	n.switches.Do(t, func() error { return enslave("switch", n.port) })
}

// Up brings the device's interface up, Down takes it down.
func (n *Network) Up(t testing.TB)   { t.Helper(); n.set(t, n.Inside, n.Device, netlink.LinkSetUp) }
func (n *Network) Down(t testing.TB) { t.Helper(); n.set(t, n.Inside, n.Device, netlink.LinkSetDown) }

// Plug and Unplug move the cable at the switch's end: the device's interface gets and loses its carrier.
func (n *Network) Plug(t testing.TB) {
	t.Helper()
	n.set(t, n.switches, n.port, netlink.LinkSetUp)
	n.Unplugged = false
}

func (n *Network) Unplug(t testing.TB) {
	t.Helper()
	n.set(t, n.switches, n.port, netlink.LinkSetDown)
	n.Unplugged = true
}

func (n *Network) set(t testing.TB, ns *Namespace, name string, f func(netlink.Link) error) {
	t.Helper()
	ns.Do(t, func() error {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		return f(l)
	})
}
