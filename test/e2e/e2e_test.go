// Package e2e proves the whole agent: the real binary on a simulated device, with a software TPM, against real servers in
// network namespaces. Every scenario asserts what the servers saw, what `ztp status` says, and what is on the device.
package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/pkg/state"
	"github.com/xpu-sztp/ztp/test/agenttest"
	"github.com/xpu-sztp/ztp/test/lab"
	"github.com/xpu-sztp/ztp/test/lab/artifact"
	"github.com/xpu-sztp/ztp/test/lab/device"
	"github.com/xpu-sztp/ztp/test/lab/event"
	"github.com/xpu-sztp/ztp/test/lab/netlab"
)

const serial = "LAB-000001"

func TestMain(m *testing.M) { os.Exit(agenttest.Main(m)) }

func newLab(t *testing.T, o lab.Options) *lab.Lab {
	t.Helper()
	l, err := lab.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		l.Close()
		if t.Failed() {
			for _, e := range l.Log.All() {
				t.Logf("%s %-10s %s", e.At.Format("05.000"), e.Who, e.Text)
			}
		}
	})
	return l
}

// newDevice builds a device. Unless the lab is on loopback the device has a namespace of its own with its cable plugged in.
func newDevice(t *testing.T, l *lab.Lab, o device.Options) *device.Device {
	t.Helper()
	d := unconnected(t, l, o)
	if l.Family != lab.Loopback {
		cable, err := l.Connect(d.Namespace, "eth0")
		if err != nil {
			t.Fatal(err)
		}
		if err := l.PlugIn(cable); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// unconnected builds a device without any network interface, unless the lab is on loopback.
func unconnected(t *testing.T, l *lab.Lab, o device.Options) *device.Device {
	t.Helper()
	var err error
	// A unix socket's path must be short, which t.TempDir is not.
	if o.Dir, err = os.MkdirTemp("", "e2e-"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(o.Dir) })
	o.ZTP, o.Serial = agenttest.Program(), serial
	if l.Family != lab.Loopback {
		if o.Namespace, err = netlab.New(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { o.Namespace.Close() })
	}
	d, err := l.Device(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

const (
	configuration = "hostname dpu-7\n"
	trail         = "var/log/trail" // where the scripts leave their marks
)

// onboarding is an image, two scripts that leave marks, and a configuration.
func onboarding(l *lab.Lab) artifact.Onboarding {
	return artifact.Onboarding{
		BootImage:     l.ServeImage(device.Image{OSName: "LabOS", OSVersion: "2.0.0", PayloadSize: 256 << 10}),
		PreScript:     mark("pre"),
		Handling:      "replace",
		Configuration: []byte(configuration),
		PostScript:    mark("post"),
	}
}

// mark returns a script that leaves its name when it is run and takes it back when it is undone, so that the marks say
// what is in effect.
func mark(name string) []byte {
	return fmt.Appendf(nil, `#!/bin/sh
set -e
trail="$ZTP_ROOT/%[1]s"
mkdir -p "${trail%%/*}"
touch "$trail"
grep -v '^%[2]s$' "$trail" >"$trail.new" || :
[ "${1-}" = undo ] || echo %[2]s >>"$trail.new"
mv "$trail.new" "$trail"
`, trail, name)
}

// wantProvisioned checks everything a device must be after a complete bootstrap.
func wantProvisioned(t *testing.T, l *lab.Lab, d *device.Device) {
	t.Helper()
	wantOnDevice(t, d)
	if v := append(l.Bootstrap.Violations(), l.Redirect.Violations()...); len(v) > 0 {
		t.Errorf("the device broke RFC 8572: %s", v)
	}
	if reports := reports(l); len(reports) == 0 || reports[len(reports)-1] != "bootstrap-complete" {
		t.Errorf("reports were %v", reports)
	}
}

// wantOnDevice checks what a complete bootstrap with an image leaves on the device.
func wantOnDevice(t *testing.T, d *device.Device) {
	t.Helper()
	if s := status(t, d); s.ExitCode() != state.ExitProvisioned {
		t.Errorf("status is %+v", s)
	}
	for file, want := range map[string]string{"etc/device.conf": configuration, trail: "pre\npost\n", "var/lib/ztp/slots/good": "b\n"} {
		got, err := os.ReadFile(d.Path(file))
		if diff := cmp.Diff(want, string(got)); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", file, err, diff)
		}
	}
}

// status is what `ztp status --json` says.
func status(t *testing.T, d *device.Device) *state.Status {
	t.Helper()
	out, code, err := d.Ztp(t.Context(), "status", "--json")
	if err != nil {
		t.Fatal(err)
	}
	s := new(state.Status)
	if err := json.Unmarshal([]byte(out), s); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if code != s.ExitCode() {
		t.Errorf("ztp status ended with %d, its contents mean %d", code, s.ExitCode())
	}
	return s
}

func reports(l *lab.Lab) []string {
	var types []string
	for _, r := range l.Bootstrap.Reports() {
		types = append(types, r.Type)
	}
	return types
}

// noNetworkOf runs the daemon of a finished device once more and checks that it ends at once and asks nobody anything.
func noNetworkOf(t *testing.T, l *lab.Lab, d *device.Device) {
	t.Helper()
	before := len(l.Log.Find(fromNetwork))
	if err := d.PowerOn(t.Context()); err != nil {
		t.Fatal(err)
	}
	end, err := d.Wait(t.Context())
	if err != nil || end.Exit != 0 || end.Reboot {
		t.Errorf("the daemon ended with %+v, %v", end, err)
	}
	if after := l.Log.Find(fromNetwork); len(after) != before {
		t.Errorf("a provisioned device went to the network: %+v", after[before:])
	}
}

func fromNetwork(e event.Event) bool {
	return slices.Contains([]event.Kind{event.DHCP4, event.DHCP6, event.DNS, event.TLS, event.Request, event.Report, event.Download}, e.Kind)
}

// within bounds a scenario.
func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeoutCause(t.Context(), d, fmt.Errorf("not done within %v", d))
	t.Cleanup(cancel)
	return ctx
}
