package e2e

import (
	"crypto/sha256"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/test/lab"
	"github.com/xpu-sztp/ztp/test/lab/artifact"
	"github.com/xpu-sztp/ztp/test/lab/bootstrap"
	"github.com/xpu-sztp/ztp/test/lab/device"
	"github.com/xpu-sztp/ztp/test/sticks"
)

// TestSplit has the whole story told by two processes: one that speaks with the network, and one that changes the device.
func TestSplit(t *testing.T) {
	for name, tt := range map[string]struct {
		family lab.Family
		config string
	}{
		"IPv4":                       {lab.IPv4, ""},
		"IPv6":                       {lab.IPv6, ""},
		"only what the owner signed": {lab.IPv4, "[trust]\nrequire-signed = true\nrequire-nonce = true\n"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := within(t, time.Minute)
			l := newLab(t, lab.Options{Family: tt.family})
			l.Onboard(onboarding(l), "verbose")
			d := newDevice(t, l, device.Options{Split: true, Config: eager + tt.config})
			if exit, err := d.Run(ctx, 3); exit != 0 || err != nil {
				t.Fatalf("exit code %d, %v", exit, err)
			}
			wantProvisioned(t, l, d)
			noNetworkOf(t, l, d)
		})
	}
}

// TestSplitPromoted has unsigned data of a server that the owner has named: the privileged process sees by what.
func TestSplitPromoted(t *testing.T) {
	ctx := within(t, time.Minute)
	l := newLab(t, lab.Options{Family: lab.IPv4})
	l.Onboard(onboarding(l), "verbose")
	l.AnswerOwner(func(r bootstrap.Request) (bootstrap.Answer, error) {
		if r.Input.SignedDataPreferred {
			return l.Promotion(r)
		}
		return l.UnsignedOnboarding()
	})
	d := newDevice(t, l, device.Options{Split: true, Config: eager})
	if exit, err := d.Run(ctx, 3); exit != 0 || err != nil {
		t.Fatalf("exit code %d, %v", exit, err)
	}
	wantProvisioned(t, l, d)
}

// TestSplitUndoes has a script fail in the first round: what came before it is undone, the server and the status tell, and
// the next round succeeds.
func TestSplitUndoes(t *testing.T) {
	ctx := within(t, time.Minute)
	l := newLab(t, lab.Options{Family: lab.IPv4})
	o := onboarding(l)
	o.BootImage = nil
	broken := o
	broken.PostScript = []byte("#!/bin/sh\necho what a pity\nexit 3\n")
	l.Onboard(broken, "verbose")
	d := newDevice(t, l, device.Options{Split: true, Config: "[retry]\ninitial = \"1h\"\nmax = \"1h\"\n"})
	if err := d.PowerOn(ctx); err != nil {
		t.Fatal(err)
	}
	await(t, ctx, l, "nothing worked, waiting")
	wantUntouched(t, d, status(t, d), "script-failed")
	if got := reports(l); got[len(got)-1] != "post-script-error" {
		t.Errorf("reports %v", got)
	}
	if marks, err := os.ReadFile(d.Path(trail)); err != nil || len(marks) > 0 {
		t.Errorf("%q is left, %v", marks, err)
	}
	l.Onboard(o, "verbose")
	d.Stop()
	if err := d.StartDaemon(); err != nil {
		t.Fatal(err)
	}
	if end, err := d.Wait(ctx); err != nil || end.Exit != 0 {
		t.Fatalf("%+v, %v", end, err)
	}
	if out, code, err := d.Ztp(ctx, "status"); code != 0 || err != nil {
		t.Errorf("%s, %v", out, err)
	}
}

// TestSplitDisabled turns the flag off in the middle of a script, as root does: what was done is undone.
func TestSplitDisabled(t *testing.T) {
	ctx := within(t, time.Minute)
	l := newLab(t, lab.Options{Family: lab.IPv4})
	o := onboarding(l)
	o.BootImage = nil
	o.PostScript = []byte("#!/bin/sh\n[ \"${1-}\" = undo ] || exec sleep 60\n")
	l.Onboard(o, "verbose")
	d := newDevice(t, l, device.Options{Split: true, Config: eager})
	if err := d.PowerOn(ctx); err != nil {
		t.Fatal(err)
	}
	await(t, ctx, l, "step begins\" step=post-script")
	if out, code, err := d.Ztp(ctx, "disable"); code != 0 || err != nil {
		t.Fatalf("%s, %v", out, err)
	}
	if end, err := d.Wait(ctx); err != nil || end.Exit != 0 {
		t.Errorf("%+v, %v", end, err)
	}
	if marks, err := os.ReadFile(d.Path(trail)); err != nil || len(marks) > 0 {
		t.Errorf("%q is left, %v", marks, err)
	}
	if out, code, err := d.Ztp(ctx, "status"); code != 3 || err != nil {
		t.Errorf("%s, %v", out, err)
	}
}

// TestSplitStick provisions a device without a network from a stick, which only the privileged process can mount.
func TestSplitStick(t *testing.T) {
	if !sticks.Allowed() {
		return // TestStickWithoutNetwork wants the explanation
	}
	ctx := within(t, time.Minute)
	l := newLab(t, lab.Options{Family: lab.IPv4})
	d := unconnected(t, l, device.Options{Split: true})
	image := newImage(256 << 10)
	sum := sha256.Sum256(image.Bytes())
	o := onboarding(l)
	o.BootImage.URIs, o.BootImage.Verification = []string{"file:images/LabOS%2D2.0.0.img"}, artifact.SHA256(sum[:])
	l.Onboard(o, "")
	signed, err := l.SignedOnboarding(bootstrap.Request{Serial: d.Serial, Chain: d.IDevID.Path()})
	if err != nil {
		t.Fatal(err)
	}
	stick(t, "sztp/"+serial, signed, map[string][]byte{"images/LabOS-2.0.0.img": image.Bytes()}).PlugInto(t, d.Root(), "sda")
	if exit, err := d.Run(ctx, 2); exit != 0 || err != nil {
		t.Fatalf("exit code %d, %v", exit, err)
	}
	wantOnDevice(t, d)
}

// TestSplitKilledAtAnyTime kills either process at many events of the story. The other one notices, and the end is that of a
// run that nobody disturbed.
func TestSplitKilledAtAnyTime(t *testing.T) {
	split := device.Options{Split: true}
	events := storyWithKill(t, 0, split, (*device.Device).Kill)
	t.Logf("an undisturbed story has %d events", events)
	for at := 1; at <= events; at += 3 {
		name, kill := "daemon", (*device.Device).Kill
		if at%2 == 0 {
			name, kill = "privileged", (*device.Device).KillPrivileged
		}
		t.Run(fmt.Sprintf("%s at event %d", name, at), func(t *testing.T) { storyWithKill(t, at, split, kill) })
	}
}
