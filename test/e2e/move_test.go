package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/pkg/state"
	"github.com/xpu-sztp/ztp/test/lab"
	"github.com/xpu-sztp/ztp/test/lab/bootstrap"
	"github.com/xpu-sztp/ztp/test/lab/device"
)

// whenMoved lets a provisioned device look for another network, without much patience.
const whenMoved = "[retry]\ninitial = \"100ms\"\nmax = \"1s\"\n[reprovision]\npolicy = \"on-network-change\"\nafter = \"1s\"\n"

// TestProvisionedAnewOnAnotherNetwork provisions a device on one network, where a network manager then takes over, and moves it
// to another. A session that comes to nothing there leaves it as it was; the next one provisions it.
func TestProvisionedAnewOnAnotherNetwork(t *testing.T) {
	ctx := within(t, 2*time.Minute)
	l := newLab(t, lab.Options{Family: lab.IPv4})
	o := onboarding(l)
	o.BootImage = nil
	l.Onboard(o, "verbose")
	d := newDevice(t, l, device.Options{Config: whenMoved})
	if err := d.PowerOn(ctx); err != nil {
		t.Fatal(err)
	}
	first := awaitStatus(ctx, t, d, func(s *state.Status) bool { return s.ExitCode() == state.ExitProvisioned && s.Watch != nil })
	if d.PID() == 0 {
		t.Fatal("the daemon has ended")
	}
	here, there := lab.Router4.Addr().String(), anotherRouter(t)
	m := &manager{t: t, device: d}
	m.sysctl("ipv6/conf/eth0/disable_ipv6") // there is none to wait for

	// What a manager does on the same network, a flap, and a DHCP server that stands in are no moves.
	m.configure(here, here, "lab.example")
	awaitStatus(ctx, t, d, func(s *state.Status) bool {
		return known(t, d).Compare(state.Network{"domain lab.example"}) == state.Same
	})
	m.run("ip", "link", "set", "eth0", "down")
	m.configure(here, "192.0.2.9", "lab.example")
	awaitStatus(ctx, t, d, func(s *state.Status) bool {
		return known(t, d).Compare(state.Network{"dhcp-server 192.0.2.9"}) == state.Same
	})

	// On another network the server fails, and the device is taken back.
	l.Redirect.Misbehave(bootstrap.GetBootstrappingData, bootstrap.Fault{Status: 500})
	m.configure(there, there, "elsewhere.example")
	awaitStatus(ctx, t, d, func(s *state.Status) bool { return s.Phase == state.PhaseBackingOff })
	m.configure(here, here, "lab.example")
	back := awaitStatus(ctx, t, d, func(s *state.Status) bool { return s.Watch != nil && s.Watch.Failure != nil })
	if back.ExitCode() != state.ExitProvisioned || !back.Ended.Equal(first.Ended) || back.Watch.Failure.Code != "moved-back" {
		t.Errorf("after a session in vain: %+v, %+v", back, back.Watch.Failure)
	}
	if n := len(completions(l)); n != 1 {
		t.Fatalf("provisioned %d times by now", n)
	}

	// Another network so soon has to wait, but not once the day is over.
	l.Redirect.Misbehave(bootstrap.GetBootstrappingData)
	m.configure(there, there, "elsewhere.example")
	awaitStatus(ctx, t, d, func(s *state.Status) bool { return s.Watch.Other != "" && time.Until(s.Watch.Begins) > time.Hour })
	d.Stop()
	if err := record(t, d).Update(func(r *state.Record) error { r.Moved = r.Moved.AddDate(0, 0, -1); return nil }); err != nil {
		t.Fatal(err)
	}
	if err := d.StartDaemon(); err != nil {
		t.Fatal(err)
	}
	second := awaitStatus(ctx, t, d, func(s *state.Status) bool { return s.Watch != nil && s.Ended.After(first.Ended) })
	if second.ExitCode() != state.ExitProvisioned || len(completions(l)) != 2 {
		t.Errorf("after the second session: %+v", second)
	}
	if known(t, d).Compare(state.Network{"domain lab.example"}) == state.Same {
		t.Errorf("the device still belongs to %v", known(t, d))
	}
	// The policy may be changed, and the flag turned off: then nothing is left running.
	d.Stop()
	if _, _, err := d.Ztp(ctx, "disable"); err != nil {
		t.Fatal(err)
	}
	m.configure(here, here, "lab.example")
	noNetworkOf(t, l, d)
}

// anotherRouter gives the lab's namespace a second hardware address, which alone answers for the address returned.
func anotherRouter(t *testing.T) string {
	t.Helper()
	const address = "192.0.2.7"
	for _, argv := range [][]string{
		{"ip", "link", "add", "link", lab.Bridge, "name", "another", "type", "macvlan", "mode", "bridge"},
		{"ip", "link", "set", "another", "up"},
		{"ip", "address", "add", address + "/24", "dev", "another", "noprefixroute"},
	} {
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v: %s", argv, err, out)
		}
	}
	for _, name := range []string{lab.Bridge, "another"} {
		if err := turnOn("ipv4/conf/" + name + "/arp_ignore"); err != nil {
			t.Fatal(err)
		}
	}
	return address
}

// manager acts as systemd-networkd on the device: it gives the interface an address and a route, and writes down its lease.
type manager struct {
	t      *testing.T
	device *device.Device
}

func (m *manager) configure(router, server, domain string) {
	m.t.Helper()
	var link *net.Interface
	err := m.device.Namespace.Do(func() (err error) { link, err = net.InterfaceByName("eth0"); return err })
	if err != nil {
		m.t.Fatal(err)
	}
	for file, content := range map[string]string{
		"leases": fmt.Sprintf("ADDRESS=192.0.2.200\nSERVER_ADDRESS=%s\nDOMAINNAME=%s\n", server, domain),
		"links":  fmt.Sprintf("ADMIN_STATE=configured\nOPER_STATE=routable\nDOMAINS=%s\n", domain),
	} {
		if err := m.device.Write(filepath.Join("run/systemd/netif", file, fmt.Sprint(link.Index)), []byte(content)); err != nil {
			m.t.Fatal(err)
		}
	}
	m.run("ip", "link", "set", "eth0", "up")
	m.run("ip", "address", "flush", "dev", "eth0", "scope", "global")
	m.run("ip", "address", "add", "192.0.2.200/24", "dev", "eth0")
	m.run("ip", "route", "replace", "default", "via", router)
}

func (m *manager) sysctl(key string) {
	m.t.Helper()
	if err := m.device.Namespace.Do(func() error { return turnOn(key) }); err != nil {
		m.t.Fatal(err)
	}
}

func turnOn(key string) error { return os.WriteFile("/proc/sys/net/"+key, []byte("1"), 0o644) }

func (m *manager) run(argv ...string) {
	m.t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	if err := m.device.Namespace.Start(cmd); err != nil {
		m.t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		m.t.Fatalf("%q: %v", argv, err)
	}
}

func awaitStatus(ctx context.Context, t *testing.T, d *device.Device, cond func(*state.Status) bool) *state.Status {
	t.Helper()
	for tick := time.NewTicker(50 * time.Millisecond); ; {
		s, err := state.Read(d.Path("run/ztp"), d.Path("var/lib/ztp"))
		if err == nil && cond(s) {
			return s
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%v: %v, %+v, %+v", context.Cause(ctx), err, s, s.Watch)
		}
	}
}

func record(t *testing.T, d *device.Device) *state.Store {
	t.Helper()
	store, err := state.Open(d.Path("var/lib/ztp"))
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// known is the network that the device belongs to.
func known(t *testing.T, d *device.Device) state.Network {
	t.Helper()
	r, err := record(t, d).Load()
	if err != nil {
		t.Fatal(err)
	}
	return r.Network
}

// completions are the times that the owner's server heard of a complete bootstrap.
func completions(l *lab.Lab) (list []string) {
	for _, r := range reports(l) {
		if r == "bootstrap-complete" {
			list = append(list, r)
		}
	}
	return list
}
