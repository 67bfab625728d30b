package lab_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/test/agenttest"
	"github.com/xpu-sztp/ztp/test/lab"
	"github.com/xpu-sztp/ztp/test/lab/artifact"
	"github.com/xpu-sztp/ztp/test/lab/device"
	"github.com/xpu-sztp/ztp/test/lab/event"
)

func TestMain(m *testing.M) { os.Exit(agenttest.Main(m)) }

func newDevice(t *testing.T, l *lab.Lab, o device.Options) *device.Device {
	t.Helper()
	var err error
	o.ZTP = agenttest.Program()
	// A unix socket's path must be short, which t.TempDir is not.
	if o.Dir, err = os.MkdirTemp("", "lab-"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(o.Dir) })
	o.Serial = serial
	d, err := l.Device(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	t.Cleanup(func() {
		if t.Failed() {
			for _, e := range l.Log.All() {
				t.Log(e.Who, e.Text)
			}
		}
	})
	return d
}

func onceAt(l *lab.Lab) []string { return []string{"run", "--once", "--url", l.RedirectAt.URL()} }

func onboarding(l *lab.Lab) artifact.Onboarding {
	return artifact.Onboarding{
		BootImage: l.ServeImage(device.Image{OSName: "LabOS", OSVersion: "2.0.0", PayloadSize: 1 << 16}),
		Handling:  "replace", Configuration: []byte("hostname x\n"),
	}
}

func TestDeviceOnLoopback(t *testing.T) {
	for name, o := range map[string]device.Options{"tpm": {}, "file": {FileKey: true}} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			l := newLab(t)
			l.Onboard(onboarding(l), "minimal")
			o.Command = onceAt(l)
			d := newDevice(t, l, o)
			exit, err := d.Run(ctx, 2)
			if exit != 0 || err != nil {
				t.Fatalf("exit code %d, %v", exit, err)
			}
			if _, code, err := d.Ztp(ctx, "status"); code != 0 || err != nil {
				t.Errorf("ztp status: %d, %v", code, err)
			}
			var got []string
			for _, e := range l.Log.Find(func(e event.Event) bool { return e.Kind == event.Report || e.Kind == event.PowerOn }) {
				got = append(got, e.Attrs["slot"]+e.Attrs["progress-type"])
			}
			want := []string{
				"a", "bootstrap-initiated", "boot-image-installed-rebooting",
				"b", "bootstrap-initiated", "bootstrap-warning", "bootstrap-complete",
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			if v := append(l.Bootstrap.Violations(), l.Redirect.Violations()...); len(v) > 0 {
				t.Errorf("violations: %q", v)
			}
		})
	}
}

func TestVoucherForAnotherDevice(t *testing.T) { // R5.4-04
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	l := newLab(t)
	l.Onboard(onboarding(l), "verbose")
	l.MASA.Modify(func(v *artifact.Voucher) { v.SerialNumber = "AC-999999" })
	d := newDevice(t, l, device.Options{FileKey: true, Command: onceAt(l)})
	if exit, err := d.Run(ctx, 1); exit != 1 || err != nil {
		t.Errorf("exit code %d, %v", exit, err)
	}
	output, code, err := d.Ztp(ctx, "status")
	if err != nil || code != 1 || !strings.Contains(output, "AC-999999") {
		t.Errorf("ztp status: %d, %v\n%s", code, err, output)
	}
	if n := len(l.Bootstrap.Reports()); n != 0 {
		t.Errorf("%d reports to a server that is not trusted", n)
	}
	if _, err := os.Stat(d.Path("var/lib/ztp/slots/b.img")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the inactive slot was touched: %v", err)
	}
}
