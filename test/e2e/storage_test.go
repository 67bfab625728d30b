package e2e

import (
	"context"
	"crypto/sha256"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/pkg/state"
	"github.com/xpu-sztp/ztp/test/lab"
	"github.com/xpu-sztp/ztp/test/lab/artifact"
	"github.com/xpu-sztp/ztp/test/lab/bootstrap"
	"github.com/xpu-sztp/ztp/test/lab/device"
	"github.com/xpu-sztp/ztp/test/lab/event"
	"github.com/xpu-sztp/ztp/test/nettest"
	"github.com/xpu-sztp/ztp/test/sticks"
)

// TestStickWithoutNetwork has a device without any network interface. What a first stick holds for it is unsigned, and nothing
// of that is executed; what a second one holds is signed, and the image is on that stick too. Both are plugged in while the
// device waits for a network; after the reboot the second one is there from the start.
func TestStickWithoutNetwork(t *testing.T) { // R4.1-01
	if !sticks.Allowed() {
		wantStickNotAllowed(t)
		return
	}
	ctx := within(t, time.Minute)
	l := newLab(t, lab.Options{Family: lab.IPv4})
	d := unconnected(t, l, device.Options{})
	image := device.Image{OSName: "LabOS", OSVersion: "2.0.0", PayloadSize: 256 << 10}
	sum := sha256.Sum256(image.Bytes())
	o := onboarding(l)
	o.BootImage.URIs, o.BootImage.Verification = []string{"file:images/LabOS%2D2.0.0.img"}, artifact.SHA256(sum[:])
	l.Onboard(o, "")
	unsigned, err := l.UnsignedOnboarding()
	if err != nil {
		t.Fatal(err)
	}
	signed, err := l.SignedOnboarding(bootstrap.Request{Serial: d.Serial, Chain: d.IDevID.Path()})
	if err != nil {
		t.Fatal(err)
	}
	evil := stick(t, "sztp/"+serial, unsigned, nil)
	good := stick(t, "sztp/"+serial, signed, map[string][]byte{"images/LabOS-2.0.0.img": image.Bytes()})

	if err := d.PowerOn(ctx); err != nil {
		t.Fatal(err)
	}
	await(t, ctx, l, "waiting for a network interface")
	pull := evil.PlugInto(t, d.Root(), "sda")
	await(t, ctx, l, "nothing came of what was plugged in\" reason=unsigned-onboarding")
	for _, file := range []string{trail, "var/lib/ztp/slots/next"} {
		if _, err := os.Stat(d.Path(file)); err == nil {
			t.Errorf("unsigned data has made %s", file)
		}
	}
	out, _, err := d.Ztp(ctx, "status", "--verbose")
	if err != nil || !strings.Contains(out, "data          sda: sztp/"+serial) || !strings.Contains(out, "waiting for link") {
		t.Errorf("%v: the status is\n%s", err, out)
	}
	pull()
	good.PlugInto(t, d.Root(), "sda")
	end, err := d.Wait(ctx)
	if err != nil || !end.Reboot {
		t.Fatalf("the device ended with %+v, %v", end, err)
	}
	exit, err := d.Run(ctx, 1)
	if exit != 0 || err != nil {
		t.Fatalf("exit code %d, %v", exit, err)
	}
	wantOnDevice(t, d)
	if events := l.Log.Find(fromNetwork); len(events) > 0 {
		t.Errorf("somebody was asked: %+v", events)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), " "+good.Device()+" ") {
		t.Errorf("the stick is still mounted: %v", err)
	}
}

// TestStickRedirects has a DHCP server that knows of no bootstrap server. A stick as other vendors' tools write it, signed by
// the owner, redirects to one, which the device authenticates by the trust anchor it found there.
func TestStickRedirects(t *testing.T) { // R4.1-01
	if !sticks.Allowed() {
		wantStickNotAllowed(t)
		return
	}
	ctx := within(t, time.Minute)
	l := newLab(t, lab.Options{Family: lab.IPv4, NoDHCP: true})
	real(t, l).Kea4(t, nettest.DHCP{Subnet: "192.0.2.0/24", Pool: "192.0.2.100-192.0.2.110", Router: "192.0.2.1", DNS: "192.0.2.1"})
	l.Onboard(onboarding(l), "verbose")
	d := newDevice(t, l, device.Options{})
	redirect, err := l.Promotion(bootstrap.Request{Serial: d.Serial, Chain: d.IDevID.Path()})
	if err != nil {
		t.Fatal(err)
	}
	stick(t, "EN9/"+serial+"/bootstrapping-data", redirect, nil).PlugInto(t, d.Root(), "sdb")

	exit, err := d.Run(ctx, 3)
	if exit != 0 || err != nil {
		t.Fatalf("exit code %d, %v", exit, err)
	}
	wantProvisioned(t, l, d)
	s := status(t, d)
	i := slices.IndexFunc(s.Servers, func(s state.Server) bool { return s.URL == l.BootstrapAt.URL() })
	if i < 1 || s.Servers[i].Trust != "authenticated" || s.Servers[i-1].URL != "sdb: EN9/"+serial+"/bootstrapping-data" || s.Servers[i-1].Interface != "eth0" {
		t.Errorf("visited %+v", s.Servers)
	}
	noNetworkOf(t, l, d)
}

// stick makes a disk with artifacts in a folder, and other files.
func stick(t *testing.T, folder string, a bootstrap.Answer, others map[string][]byte) *sticks.Disk {
	t.Helper()
	dir := t.TempDir()
	sticks.Write(t, filepath.Join(dir, folder), map[string][]byte{"conveyed-information.cms": a.ConveyedInformation})
	if a.OwnershipVoucher != nil {
		sticks.Write(t, filepath.Join(dir, folder), map[string][]byte{"owner-certificate.cms": a.OwnerCertificate, "ownership-voucher.vcj": a.OwnershipVoucher})
	}
	sticks.Write(t, dir, others)
	return sticks.Insert(t, sticks.Image(t, dir))
}

// await waits for a line in the device's log.
func await(t *testing.T, ctx context.Context, l *lab.Lab, part string) {
	t.Helper()
	_, err := l.Log.Wait(ctx, func(e event.Event) bool { return e.Kind == event.DeviceLog && strings.Contains(e.Text, part) })
	if err != nil {
		t.Fatalf("no %q in the log: %v", part, err)
	}
}

// wantStickNotAllowed: a device whose daemon may not mount anything says so and goes on.
func wantStickNotAllowed(t *testing.T) {
	t.Helper()
	ctx := within(t, time.Minute)
	l := newLab(t, lab.Options{Family: lab.IPv4})
	d := newDevice(t, l, device.Options{})
	sticks.Write(t, d.Path("sys/block/sda"), map[string][]byte{"removable": []byte("1\n"), "size": []byte("8\n"), "dev": []byte("7:0\n")})
	if err := os.Symlink("/dev/loop0", d.Path("dev/sda")); err != nil {
		t.Fatal(err)
	}
	l.Onboard(onboarding(l), "verbose")
	exit, err := d.Run(ctx, 3)
	if exit != 0 || err != nil {
		t.Fatalf("exit code %d, %v", exit, err)
	}
	wantProvisioned(t, l, d)
	if s := status(t, d).Sources; len(s) == 0 || s[0].Name != "removable-storage" || !strings.HasPrefix(s[0].Result, "storage-") {
		t.Errorf("sources %+v", s)
	}
}
