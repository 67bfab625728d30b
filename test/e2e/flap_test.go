package e2e

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/xpu-sztp/ztp/pkg/state"
	"github.com/xpu-sztp/ztp/test/lab"
	"github.com/xpu-sztp/ztp/test/lab/bootstrap"
	"github.com/xpu-sztp/ztp/test/lab/device"
	"github.com/xpu-sztp/ztp/test/lab/event"
	"github.com/xpu-sztp/ztp/test/lab/files"
	"github.com/xpu-sztp/ztp/test/lab/netlab"
)

// cord is a device's cable.
type cord struct {
	*netlab.Cable
	device *device.Device
}

// plugIn connects a device.
func plugIn(t *testing.T, l *lab.Lab, d *device.Device) *cord {
	t.Helper()
	cable, err := l.Connect(d.Namespace, "eth0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.PlugIn(cable); err != nil {
		t.Fatal(err)
	}
	return &cord{cable, d}
}

// flap interrupts the cable until the device's kernel has noticed, and returns when that has its carrier again.
func (c *cord) flap(t *testing.T) {
	t.Helper()
	for _, step := range []struct {
		move    func() error
		carrier bool
	}{{c.Pull, false}, {c.Plug, true}} {
		err := step.move()
		if err == nil {
			err = c.await(step.carrier)
		}
		if err != nil {
			t.Error(err) // not of the test's own goroutine
		}
	}
}

// await blocks until the kernel says that there is a carrier, or none.
func (c *cord) await(want bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	updates := make(chan netlink.LinkUpdate)
	ns := netns.NsHandle(c.device.Namespace.FD())
	err := netlink.LinkSubscribeWithOptions(updates, ctx.Done(), netlink.LinkSubscribeOptions{Namespace: &ns, ListExisting: true})
	if err != nil {
		return err
	}
	found := false
	for u := range updates { // until the context ends
		if u.Attrs().Name == "eth0" && (u.Attrs().RawFlags&unix.IFF_LOWER_UP != 0) == want {
			found = true
			cancel()
		}
	}
	if !found {
		return fmt.Errorf("no message of the kernel about eth0 with carrier %v", want)
	}
	return nil
}

// TestFlapDuringProvisioning interrupts the cable while the device talks to a server or loads its image. It goes on where it
// was: nothing begins anew.
func TestFlapDuringProvisioning(t *testing.T) {
	tests := map[string]func(t *testing.T, l *lab.Lab, flap func()){
		"TLS handshake": func(_ *testing.T, l *lab.Lab, flap func()) {}, // see observe
		"request": func(_ *testing.T, l *lab.Lab, flap func()) {
			l.AnswerOwner(func(r bootstrap.Request) (bootstrap.Answer, error) {
				flap()
				if r.Input.SignedDataPreferred {
					return l.Promotion(r)
				}
				return l.SignedOnboarding(r)
			})
		},
		"image download": func(_ *testing.T, l *lab.Lab, flap func()) {
			l.Files.Misbehave("LabOS-2.0.0.img", files.Fault{Amid: flap, Times: 1})
		},
	}
	for name, set := range tests {
		t.Run(name, func(t *testing.T) {
			ctx := within(t, time.Minute)
			var cable *cord
			var flaps atomic.Int32
			flap := func() {
				if flaps.CompareAndSwap(0, 1) {
					cable.flap(t)
				}
			}
			log := &event.Log{Observe: func(e event.Event) {
				if name == "TLS handshake" && e.Kind == event.TLS {
					flap()
				}
			}}
			l := newLab(t, lab.Options{Family: lab.IPv4, Log: log})
			l.Onboard(onboarding(l), "verbose")
			d := unconnected(t, l, device.Options{})
			cable = plugIn(t, l, d)
			set(t, l, flap)
			exit, err := d.Run(ctx, 3)
			if exit != 0 || err != nil {
				t.Fatalf("exit code %d, %v", exit, err)
			}
			wantProvisioned(t, l, d)
			if s := status(t, d); flaps.Load() != 1 || s.Attempts != 1 {
				t.Errorf("%d flaps, %d attempts", flaps.Load(), s.Attempts)
			}
			noNetworkOf(t, l, d)
		})
	}
}

// TestFlapDuringBackOff: a cable that comes and goes makes the device try again before its time, and not each time.
func TestFlapDuringBackOff(t *testing.T) {
	ctx := within(t, time.Minute)
	l := newLab(t, lab.Options{Family: lab.IPv4})
	o := onboarding(l)
	o.BootImage = nil
	l.Onboard(o, "verbose")
	l.Redirect.Misbehave(bootstrap.GetBootstrappingData, bootstrap.Fault{Status: 500})
	d := unconnected(t, l, device.Options{Config: "[discovery]\nsources = [\"dhcp\"]\n[retry]\ninitial = \"1h\"\nmax = \"1h\"\n"})
	cable := plugIn(t, l, d)
	err := d.Namespace.Do(func() error { // there is none to wait for
		return os.WriteFile("/proc/sys/net/ipv6/conf/eth0/disable_ipv6", []byte("1"), 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.PowerOn(ctx); err != nil {
		t.Fatal(err)
	}
	again := func(attempts int) {
		t.Helper()
		awaitStatus(ctx, t, d, func(s *state.Status) bool { return s.Phase == state.PhaseBackingOff && s.Attempts == attempts })
	}
	again(1)
	cable.flap(t)
	again(2)
	l.Redirect.Misbehave(bootstrap.GetBootstrappingData)
	for range 5 {
		cable.flap(t)
	}
	if end, err := d.Wait(ctx); err != nil || end.Exit != 0 {
		t.Fatalf("%+v, %v", end, err)
	}
	s := status(t, d)
	discovers := l.Log.Find(func(e event.Event) bool { return e.Kind == event.DHCP4 && e.Attrs["message"] == "DISCOVER" })
	if s.ExitCode() != state.ExitProvisioned || s.Attempts != 3 || len(discovers) > 6 {
		t.Errorf("%d attempts, %d times DHCPDISCOVER: %+v", s.Attempts, len(discovers), s)
	}
	for _, i := range s.Interfaces {
		if i.State == "bound" || i.Addresses != nil {
			t.Errorf("left: %+v", i)
		}
	}
}
