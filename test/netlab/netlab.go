// Package netlab builds small networks for tests from network namespaces, veth pairs and real DHCP servers. Main moves the
// whole test process into a namespace of its own, so that nothing a test does can reach the machine's network; whatever it
// makes vanishes with the process, also when that is killed.
package netlab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

const inside = "NETLAB_INSIDE"

// Main runs the tests of a package in a new network namespace. Call it from TestMain: os.Exit(netlab.Main(m)). Without
// root it uses a user namespace as well, where the kernel allows that.
func Main(m *testing.M) int {
	if os.Getenv(inside) != "" {
		return prepared(m)
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if uid := os.Geteuid(); uid != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
	}
	// The kernel ends the child when the thread that started it ends, so this thread must stay.
	runtime.LockOSThread()
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, os.Interrupt, syscall.SIGTERM)
	if err := cmd.Start(); err != nil {
		fmt.Fprintf(os.Stderr, "netlab: cannot make a network namespace (root, or unprivileged user namespaces, are needed): %v\n", err)
		return 1
	}
	go func() {
		for s := range interrupts {
			cmd.Process.Signal(s)
		}
	}()
	err := cmd.Wait()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		return exit.ExitCode()
	}
	fmt.Fprintln(os.Stderr, "netlab:", err)
	return 1
}

func prepared(m *testing.M) int {
	if err := quicken(); err != nil {
		fmt.Fprintln(os.Stderr, "netlab:", err)
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

// Namespace is a network namespace without a name. It vanishes when the test ends.
type Namespace struct{ handle netns.NsHandle }

// NewNamespace makes a namespace in which loopback is up.
func NewNamespace(t testing.TB) *Namespace {
	t.Helper()
	n := &Namespace{}
	locked(t, func() error {
		handle, err := netns.New() // also enters it
		if err != nil {
			return err
		}
		n.handle = handle
		return quicken()
	})
	t.Cleanup(func() { n.handle.Close() })
	return n
}

// Do runs f on a thread inside the namespace; a nil Namespace is the one of the test itself. Goroutines that f starts are
// outside of it, but sockets that it opens stay inside.
func (n *Namespace) Do(t testing.TB, f func() error) {
	t.Helper()
	locked(t, func() error {
		if n != nil {
			if err := netns.Set(n.handle); err != nil {
				return err
			}
		}
		return f()
	})
}

// locked runs f on a thread of its own and takes the thread back to its namespace afterwards.
func locked(t testing.TB, f func() error) {
	t.Helper()
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		t.Fatal("netlab:", err)
	}
	defer home.Close()
	err = f()
	if back := netns.Set(home); back != nil {
		t.Fatal("netlab: cannot leave a namespace:", back) // the thread stays locked and ends with its goroutine
	}
	runtime.UnlockOSThread()
	if err != nil {
		t.Fatal("netlab:", err)
	}
}

// Start starts cmd inside the namespace and kills it when the test ends, or dies.
func (n *Namespace) Start(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	// The signal comes when the thread ends, which those of the runtime do with the process only.
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	n.Do(t, cmd.Start)
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
		t.Fatalf("netlab: %s %s: %v\n%s", name, strings.Join(args, " "), err, &out)
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

// cable makes a veth pair from a host to the switch.
func (n *Network) cable(t testing.TB, host *Namespace, name, port string) {
	t.Helper()
	host.Do(t, func() error {
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: port,
			PeerNamespace: netlink.NsFd(n.switches.handle)})
	})
}

// bridge makes a switch of the ports.
func bridge(ports ...string) error {
	br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "switch"}, MulticastSnooping: new(false)}
	if err := netlink.LinkAdd(br); err != nil {
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
	return netlink.LinkSetUp(br)
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

// Up brings the device's interface up, Down takes it down.
func (n *Network) Up(t testing.TB)   { t.Helper(); n.set(t, n.Inside, n.Device, netlink.LinkSetUp) }
func (n *Network) Down(t testing.TB) { t.Helper(); n.set(t, n.Inside, n.Device, netlink.LinkSetDown) }

// Plug and Unplug move the cable at the switch's end: the device's interface gets and loses its carrier.
func (n *Network) Plug(t testing.TB) { t.Helper(); n.set(t, n.switches, n.port, netlink.LinkSetUp) }
func (n *Network) Unplug(t testing.TB) {
	t.Helper()
	n.set(t, n.switches, n.port, netlink.LinkSetDown)
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
