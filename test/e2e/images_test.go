package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/pkg/state"
	"github.com/xpu-sztp/ztp/test/lab"
	"github.com/xpu-sztp/ztp/test/lab/artifact"
	"github.com/xpu-sztp/ztp/test/lab/device"
	"github.com/xpu-sztp/ztp/test/lab/event"
	"github.com/xpu-sztp/ztp/test/lab/files"
)

const eager = "[retry]\ninitial = \"100ms\"\nmax = \"1s\"\n"

func newImage(size int) device.Image {
	return device.Image{OSName: "LabOS", OSVersion: "2.0.0", PayloadSize: size}
}

// TestCompressedImage unpacks an image that the usual tool has packed while it is written.
func TestCompressedImage(t *testing.T) {
	ctx := within(t, time.Minute)
	l := newLab(t, lab.Options{Family: lab.IPv4})
	information := onboarding(l)
	image := newImage(256 << 10)
	zstd := exec.Command("zstd", "-q", "-c")
	zstd.Stdin = bytes.NewReader(image.Bytes())
	packed, err := zstd.Output()
	if err != nil {
		t.Fatal(err)
	}
	sum := l.Files.Put("image.zst", packed)
	information.BootImage.URIs = []string{"https://" + l.FilesAt.String() + "/image.zst"}
	information.BootImage.Verification = artifact.SHA256(sum[:])
	l.Onboard(information, "verbose")
	d := newDevice(t, l, device.Options{})
	if exit, err := d.Run(ctx, 3); exit != 0 || err != nil {
		t.Fatalf("exit code %d, %v", exit, err)
	}
	wantProvisioned(t, l, d)
	if got, err := os.ReadFile(filepath.Join(d.Slots(), "b.img")); err != nil || !bytes.Equal(got, image.Bytes()) {
		t.Errorf("slot b does not hold the unpacked image: %v", err)
	}
}

// TestDownloadGoesOnAfterDeath kills the daemon in the middle of a download. The next one asks for the rest only.
func TestDownloadGoesOnAfterDeath(t *testing.T) {
	ctx := within(t, 2*time.Minute)
	l := newLab(t, lab.Options{Family: lab.IPv4})
	const size = 16 << 20
	information := onboarding(l)
	information.BootImage = l.ServeImage(newImage(size))
	l.Onboard(information, "verbose")
	d := newDevice(t, l, device.Options{Config: eager})
	var once sync.Once
	var sent atomic.Int64
	l.Files.Misbehave("LabOS-2.0.0.img", files.Fault{Times: 1, Pace: func(n int64) {
		sent.Store(n)
		if n < size/4 {
			return
		}
		// A checkpoint is due after ten seconds, with what comes then.
		if _, err := os.Stat(d.Path("var/lib/ztp/image-checkpoint")); err != nil {
			trickle(ctx)
			return
		}
		once.Do(func() { d.Kill() })
	}})
	if err := d.PowerOn(ctx); err != nil {
		t.Fatal(err)
	}
	if end, err := d.Wait(ctx); err != nil || end.Reboot {
		t.Fatalf("%+v, %v", end, err)
	}
	if err := d.StartDaemon(); err != nil {
		t.Fatal(err)
	}
	if end, err := d.Wait(ctx); err != nil || !end.Reboot {
		t.Fatalf("%+v, %v", end, err)
	}
	downloads := l.Log.Find(func(e event.Event) bool { return e.Kind == event.Download })
	last := downloads[len(downloads)-1]
	from, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimPrefix(last.Attrs["range"], "bytes="), "-"), 10, 64)
	if err != nil || from < size/4 || last.Attrs["status"] != "206" {
		t.Errorf("asked for %q, got status %s", last.Attrs["range"], last.Attrs["status"])
	}
	rest, _ := strconv.ParseInt(last.Attrs["bytes"], 10, 64)
	if twice := sent.Load() + rest - int64(len(newImage(size).Bytes())); twice > size/4 { // what was under way
		t.Errorf("%d bytes were sent twice", twice)
	}
	if exit, err := d.Run(ctx, 2); exit != 0 || err != nil {
		t.Fatalf("exit code %d, %v", exit, err)
	}
	wantProvisioned(t, l, d)
}

// trickle is a server that takes its time.
func trickle(ctx context.Context) {
	select {
	case <-time.After(300 * time.Millisecond):
	case <-ctx.Done():
	}
}

// TestFallback starts an image that does not come up, twice: the server and the status tell, the image is refused, and is
// installed once more when a person has cleared it.
func TestFallback(t *testing.T) {
	ctx := within(t, time.Minute)
	l := newLab(t, lab.Options{Family: lab.IPv4})
	l.Onboard(onboarding(l), "verbose")
	d := newDevice(t, l, device.Options{FileKey: true, Config: eager + "[image]\nattempts = 2\n"})
	untilReboot(t, ctx, d, d.PowerOn)

	hang(t, d)
	untilReboot(t, ctx, d, d.PowerOn) // it is told, and then the image is installed again
	wantMessage(t, l, "boot-image-error", "slot b was started with it, and the boot loader returned to slot a (install 1 of 2)")

	hang(t, d)
	if err := d.PowerOn(ctx); err != nil {
		t.Fatal(err)
	}
	refused := func(e event.Event) bool { return strings.Contains(e.Text, "image-refused") }
	if _, err := l.Log.Wait(ctx, refused); err != nil {
		t.Fatal(err)
	}
	wantMessage(t, l, "boot-image-error", "installed 2 times, and the device never came up with it")
	s := status(t, d)
	if s.Image == nil || s.Image.State != "refused" || len(s.Images) != 1 || s.Images[0].State != state.ImageRefused {
		t.Errorf("status image %+v, images %+v", s.Image, s.Images)
	}
	text, _, err := d.Ztp(ctx, "status")
	if err != nil || !strings.Contains(text, "refused image") {
		t.Errorf("%v: %s", err, text)
	}
	if out, code, err := d.Ztp(ctx, "images", "--clear", s.Images[0].SHA256[:12]); code != 0 || err != nil {
		t.Fatalf("%s: %d, %v", out, code, err)
	}
	if end, err := d.Wait(ctx); err != nil || !end.Reboot {
		t.Fatalf("%+v, %v", end, err)
	}
	if exit, err := d.Run(ctx, 2); exit != 0 || err != nil {
		t.Fatalf("exit code %d, %v", exit, err)
	}
	wantProvisioned(t, l, d)
}

// untilReboot lets the device run until it asks for a reboot.
func untilReboot(t *testing.T, ctx context.Context, d *device.Device, start func(context.Context) error) {
	t.Helper()
	if err := start(ctx); err != nil {
		t.Fatal(err)
	}
	if end, err := d.Wait(ctx); err != nil || !end.Reboot {
		t.Fatalf("%+v, %v", end, err)
	}
}

func hang(t *testing.T, d *device.Device) {
	t.Helper()
	if err := d.Hang(); err != nil {
		t.Fatal(err)
	}
}

func wantMessage(t *testing.T, l *lab.Lab, kind, part string) {
	t.Helper()
	for _, r := range l.Bootstrap.Reports() {
		if r.Type == kind && strings.Contains(r.Message, part) {
			return
		}
	}
	t.Errorf("no %s with %q", kind, part)
}

// TestGRUB installs by environment blocks that GRUB's own tool has made and reads. The first image hangs, so that GRUB counts its
// attempts down and returns.
func TestGRUB(t *testing.T) {
	ctx := within(t, time.Minute)
	l := newLab(t, lab.Options{Family: lab.IPv4})
	l.Onboard(onboarding(l), "verbose")
	config := eager + `[image]
installer = "grub"
[image.slot.a]
device = "/var/lib/ztp/slots/a.img"
[image.slot.b]
device = "/var/lib/ztp/slots/b.img"
[grub]
tries = 2
`
	d := newDevice(t, l, device.Options{FileKey: true, Config: config, Firmware: grub})
	for _, name := range []string{"grubenv", "grubenv.copy"} {
		if err := d.Write("boot/grub/"+name, nil); err != nil {
			t.Fatal(err)
		}
		editenv(t, d, name, "create")
	}
	untilReboot(t, ctx, d, d.PowerOn)
	if got := editenv(t, d, "grubenv", "list"); !strings.Contains(got, "ztp_good=a\n") || !strings.Contains(got, "ztp_next=b\n") || !strings.Contains(got, "ztp_tries=2\n") {
		t.Errorf("GRUB's tool reads %q", got)
	}
	hang(t, d)
	hang(t, d)
	untilReboot(t, ctx, d, d.PowerOn)
	wantMessage(t, l, "boot-image-error", "the boot loader returned to slot a")
	if exit, err := d.Run(ctx, 2); exit != 0 || err != nil {
		t.Fatalf("exit code %d, %v", exit, err)
	}
	if got := editenv(t, d, "grubenv", "list"); !strings.Contains(got, "ztp_good=b\n") {
		t.Errorf("GRUB's tool reads %q", got)
	}
	if s := status(t, d); s.ExitCode() != state.ExitProvisioned {
		t.Errorf("status %+v", s)
	}
	if r := reports(l); r[len(r)-1] != "bootstrap-complete" {
		t.Errorf("reports %v", r)
	}
}

func editenv(t *testing.T, d *device.Device, name string, arguments ...string) string {
	t.Helper()
	out, err := grubEnvironment(d, name, arguments...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func grubEnvironment(d *device.Device, name string, arguments ...string) (string, error) {
	out, err := exec.Command("grub-editenv", append([]string{d.Path("boot/grub/" + name)}, arguments...)...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("grub-editenv: %w: %s", err, out)
	}
	return string(out), err
}

// grub plays systemd/grub-slots.cfg, whose effect package grub tests with the real GRUB, on blocks that are not damaged.
func grub(d *device.Device) (slot, image string, err error) {
	list, err := grubEnvironment(d, "grubenv", "list")
	if err != nil {
		return "", "", err
	}
	values := map[string]string{}
	for line := range strings.Lines(list) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		values[name] = value
	}
	if slot = values["ztp_good"]; slot == "" {
		slot = "a"
	}
	if tries, _ := strconv.Atoi(values["ztp_tries"]); tries > 0 && values["ztp_next"] != "" {
		slot = values["ztp_next"]
		if _, err := grubEnvironment(d, "grubenv", "set", "ztp_tries="+strconv.Itoa(tries-1)); err != nil {
			return "", "", err
		}
	}
	return slot, filepath.Join(d.Slots(), slot+".img"), d.Write("proc/cmdline", []byte("quiet ztp.slot="+slot+"\n"))
}

// TestCloudInitSeed commits the configuration as a seed. The session is interrupted once before its end.
func TestCloudInitSeed(t *testing.T) {
	ctx := within(t, time.Minute)
	l := newLab(t, lab.Options{Family: lab.IPv4})
	information := onboarding(l)
	information.BootImage = nil
	information.Configuration = []byte("#cloud-config\nhostname: dpu-7\n")
	information.PostScript = []byte("#!/bin/sh\n[ \"$1\" = undo ] || [ -e \"$ZTP_ROOT/again\" ] || { touch \"$ZTP_ROOT/again\"; exit 1; }\n")
	l.Onboard(information, "verbose")
	const seed = "var/lib/cloud/seed/nocloud-net/"
	d := newDevice(t, l, device.Options{Config: eager + "[configuration]\nhandler = \"cloud-init\"\nseed = \"/var/lib/cloud/seed/nocloud-net\"\n"})
	for name, content := range map[string]string{"user-data": "#cloud-config\nhostname: factory\n", "meta-data": "instance-id: factory\n"} {
		if err := d.Write(seed+name, []byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	undone := func(e event.Event) bool {
		return e.Kind == event.Report && e.Attrs["progress-type"] == "post-script-error"
	}
	restored := make(chan string, 1)
	go func() {
		if _, err := l.Log.Wait(ctx, undone); err == nil {
			user, _ := os.ReadFile(d.Path(seed + "user-data"))
			restored <- string(user)
		}
	}()
	if exit, err := d.Run(ctx, 1); exit != 0 || err != nil {
		t.Fatalf("exit code %d, %v", exit, err)
	}
	if old := <-restored; !strings.Contains(old, "factory") {
		t.Errorf("the seed was not put back before the server was told: %q", old)
	}
	user, err := os.ReadFile(d.Path(seed + "user-data"))
	if err != nil || string(user) != string(information.Configuration) {
		t.Errorf("user-data %q, %v", user, err)
	}
	meta, err := os.ReadFile(d.Path(seed + "meta-data"))
	if err != nil || !strings.HasPrefix(string(meta), "instance-id: ztp-") {
		t.Errorf("meta-data %q, %v", meta, err)
	}
	if entries, err := os.ReadDir(d.Path("var/lib/cloud/seed")); err != nil || len(entries) != 1 {
		t.Errorf("left beside the seed: %v, %v", entries, err)
	}
}
