package onboard

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/image"
	"github.com/xpu-sztp/ztp/pkg/progress"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/slot"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// imageRig is a rig that runs version 1 from slot a.
func imageRig(t *testing.T) *rig {
	t.Helper()
	r := newRig(t)
	put(t, filepath.Join(r.dir, "slots", "a.img"), "the image of version 1", 0o600)
	r.boot(t)
	return r
}

// boot plays the boot loader and returns the slot that it started.
func (r *rig) boot(t *testing.T) string {
	t.Helper()
	running, _, err := slot.Boot(filepath.Join(r.dir, "slots"))
	if err != nil {
		t.Fatal(err)
	}
	r.server = &server{refuse: map[progress.Type]int{}}
	return running
}

func (r *rig) describe(t *testing.T) slot.Description {
	t.Helper()
	d, err := r.slots.Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (r *rig) installs(t *testing.T, p plan) {
	t.Helper()
	if outcome, err := r.run(progress.Verbose, p); outcome != Rebooting || err != nil {
		t.Fatalf("got %v, %v", outcome, err)
	}
}

func (r *rig) fails(t *testing.T, p plan, want reason.Code) {
	t.Helper()
	_, err := r.run(progress.Minimal, p)
	wantCode(t, err, want)
	if diff := cmp.Diff(types("bootstrap-initiated, boot-image-error"), r.server.types()); diff != "" {
		t.Error(diff)
	}
}

func TestImageSatisfied(t *testing.T) {
	tests := []struct {
		name, osName, osVersion string
		want                    bool
	}{
		{"both-equal", "AcmeOS", "1", true},
		{"name-only", "AcmeOS", "", true},
		{"version-only", "", "1", true},
		{"other-name", "OtherOS", "1", false},
		{"other-version", "AcmeOS", "2", false},
		{"case-differs", "acmeos", "1", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, m := imageRig(t), newMirror(t, newImage)
			want := demand(newImage, "", m.URL+"/image")
			want.OSName, want.OSVersion = tt.osName, tt.osVersion
			outcome, err := r.run(progress.Verbose, plan{boot: want})
			if err != nil || (outcome == Complete) != tt.want || (m.gets == 0) != tt.want {
				t.Errorf("got %v, %v, %d downloads", outcome, err, m.gets)
			}
			if complete := slices.Contains(r.server.types(), progress.BootImageComplete); complete != tt.want {
				t.Errorf("reports %v", r.server.types())
			}
		})
	}
}

// TestImageThatCannotBeFetched is not said to be fetched any more when the session waits for its next attempt.
func TestImageThatCannotBeFetched(t *testing.T) {
	r, m := imageRig(t), newMirror(t, newImage)
	_, err := r.run(progress.Minimal, plan{boot: demand(newImage, "2", m.URL+"/missing")})
	wantCode(t, err, image.CodeHTTPError)
	if s := r.board.Snapshot(); s.Image.State != "failed" {
		t.Errorf("the image is %q", s.Image.State)
	}
}

func TestImageInstall(t *testing.T) {
	r, m := imageRig(t), newMirror(t, newImage)
	p := r.full()
	p.boot = demand(newImage, "2", m.URL+"/missing", m.URL+"/image")
	r.installs(t, p)
	want := types("bootstrap-initiated, parsing-initiated, parsing-complete, boot-image-initiated, boot-image-mismatch, " +
		"boot-image-warning, boot-image-installed-rebooting")
	if diff := cmp.Diff(want, r.server.types()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"reboot"}, r.trace()); diff != "" {
		t.Errorf("more than a reboot: %s", diff)
	}
	status := r.board.Snapshot()
	if status.Phase != state.PhaseRebooting || status.Reboots != 1 || status.Image.State != "installed" {
		t.Errorf("status %+v, image %+v", status, status.Image)
	}
	var results []string
	for _, d := range status.Downloads {
		results = append(results, d.Result)
	}
	if len(results) != 2 || results[0] == "complete" || results[1] != "complete" {
		t.Errorf("downloads ended with %q", results)
	}

	if running := r.boot(t); running != "b" {
		t.Fatalf("slot %s runs", running)
	}
	r.opts.Device.OSVersion = "2"
	m.gets = 0
	if outcome, err := r.run(progress.Minimal, p); outcome != Complete {
		t.Fatalf("after the reboot: %v, %v", outcome, err)
	}
	if m.gets > 0 {
		t.Error("downloaded again")
	}
	if d := r.describe(t); d.Good != "b" {
		t.Errorf("slot %s is good after bootstrap-complete", d.Good)
	}
	if shown := r.board.Snapshot().Slots; shown == nil || shown.Good != "b" {
		t.Errorf("the status still has the slots %+v after bootstrap-complete", shown)
	}
}

func TestImageSlotIsGoodOnlyWhenAcknowledged(t *testing.T) {
	r, m := imageRig(t), newMirror(t, newImage)
	p := plan{boot: demand(newImage, "2", m.URL+"/image")}
	r.installs(t, p)
	r.boot(t)
	r.opts.Device.OSVersion = "2"
	r.server.refuse[progress.BootstrapComplete] = 500
	if _, err := r.run(progress.Minimal, p); err == nil {
		t.Fatal("no error")
	}
	if d := r.describe(t); d.Good != "a" {
		t.Errorf("slot %s is good though nobody acknowledged", d.Good)
	}
	if _, err := New(r.opts).execute(t.Context(), Request{}, p); err != nil {
		t.Fatal(err)
	}
	if d := r.describe(t); d.Good != "b" {
		t.Errorf("slot %s is good after the steps for an untrusted server", d.Good)
	}
}

func TestImageRebootReportIsNotFatal(t *testing.T) {
	r, m := imageRig(t), newMirror(t, newImage)
	r.server.refuse[progress.BootImageInstalledRebooting] = 500
	r.installs(t, plan{boot: demand(newImage, "2", m.URL+"/image")})
	if diff := cmp.Diff([]string{"reboot"}, r.trace()); diff != "" {
		t.Error(diff)
	}
}

func TestImageErrors(t *testing.T) {
	tests := []struct {
		name   string
		change func(*rig, *artifacts.BootImage)
		want   reason.Code
	}{
		{"no-uri", func(_ *rig, i *artifacts.BootImage) { i.URIs = nil }, ReasonImageNowhere},
		{"no-fingerprint", func(_ *rig, i *artifacts.BootImage) { i.SHA256 = nil }, image.CodeNoVerification},
		{"no-installer", func(r *rig, _ *artifacts.BootImage) { r.opts.Slots = nil }, ReasonImageNoInstaller},
		{"wrong-hash", func(_ *rig, i *artifacts.BootImage) { i.SHA256[0] ^= 1 }, image.CodeHashMismatch},
		{"too-large", func(r *rig, _ *artifacts.BootImage) { r.opts.Image.MaxSize = 3 }, image.CodeTooLarge},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, m := imageRig(t), newMirror(t, newImage)
			p := r.full()
			p.boot = demand(newImage, "2", m.URL+"/image")
			tt.change(r, p.boot)
			r.fails(t, p, tt.want)
			if d := r.describe(t); d.Next != "" || d.Contents["b"].SHA256 != nil {
				t.Errorf("the slots were touched: %+v", d)
			}
			if got := r.trace(); got != nil {
				t.Errorf("went on with %v", got)
			}
			if got := r.record(t).Images[r.key(p)]; got.Attempts+got.Reboots > 0 {
				t.Errorf("counted as an attempt: %+v", got)
			}
		})
	}
}

func TestImageRebootFails(t *testing.T) {
	r, m := imageRig(t), newMirror(t, newImage)
	p := plan{boot: demand(newImage, "2", m.URL+"/image")}
	reboot := r.opts.Reboot.Command
	r.opts.Reboot.Command = []string{"/bin/false"}
	_, err := r.run(progress.Minimal, p)
	wantCode(t, err, ReasonReboot)
	if diff := cmp.Diff(types("bootstrap-initiated, boot-image-installed-rebooting, bootstrap-error"), r.server.types()); diff != "" {
		t.Error(diff)
	}
	// The image is there: the next session only has to reboot.
	m.Close()
	r.opts.Reboot.Command = reboot
	r.installs(t, p)
	if got := r.record(t).Images[r.key(p)]; got.Attempts != 1 || got.Reboots != 2 {
		t.Errorf("image %+v", got)
	}
	// A session that does not want the image takes it back.
	if outcome, err := r.run(progress.Minimal, plan{}); outcome != Complete {
		t.Fatal(err)
	}
	if d := r.describe(t); d.Next != "" {
		t.Errorf("slot %s still boots next", d.Next)
	}
}

// TestImageStoppedByItsOwnReboot: systemd tells the daemon, and the command, to stop while the command still runs.
func TestImageStoppedByItsOwnReboot(t *testing.T) {
	r, m := imageRig(t), newMirror(t, newImage)
	begun, end := filepath.Join(r.dir, "begun"), filepath.Join(r.dir, "end")
	for _, pipe := range []string{begun, end} {
		if err := syscall.Mkfifo(pipe, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r.opts.Reboot.Command = []string{"/bin/sh", "-c", "echo >" + begun + "; read x <" + end + "; kill -TERM $$"}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		os.ReadFile(begun) // returns when the command runs
		cancel()
		os.WriteFile(end, []byte("\n"), 0)
	}()
	outcome, err := New(r.opts).execute(ctx, Request{Reporter: r.server, Network: loopback{}}, plan{boot: demand(newImage, "2", m.URL+"/image")})
	if outcome != Rebooting || err != nil {
		t.Errorf("got %v, %v", outcome, err)
	}
	if d := r.describe(t); d.Next != "b" {
		t.Errorf("slot %q boots next", d.Next)
	}
}

func (r *rig) key(p plan) string { return (&session{plan: p}).imageKey() }

func TestImageSomebodyElsesSlotIsLeftAlone(t *testing.T) {
	r := imageRig(t)
	w, err := r.slots.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.Write([]byte(newImage))
	if err := w.Commit(t.Context(), demand(newImage, "").SHA256); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if err := r.slots.Activate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := r.run(progress.Minimal, plan{}); err != nil {
		t.Fatal(err)
	}
	if d := r.describe(t); d.Next != "b" {
		t.Error("an image that somebody else installed was taken back")
	}
}

// TestImageWithoutVersion is satisfied by the hash of what runs.
func TestImageWithoutVersion(t *testing.T) {
	r, m := imageRig(t), newMirror(t, newImage)
	p := plan{boot: demand(newImage, "", m.URL+"/image")}
	p.boot.OSName = ""
	r.installs(t, p)
	r.boot(t)
	m.gets = 0
	if outcome, err := r.run(progress.Minimal, p); outcome != Complete || m.gets > 0 {
		t.Errorf("got %v, %v, %d downloads", outcome, err, m.gets)
	}
}

// TestImageOfAnInstallerThatKnowsNothing has a back end that cannot tell what slots hold. What the device itself has put into the
// running one is known all the same, so that an image without a version is not installed for ever.
func TestImageOfAnInstallerThatKnowsNothing(t *testing.T) {
	r, m := imageRig(t), newMirror(t, newImage)
	p := plan{boot: demand(newImage, "", m.URL+"/image")}
	p.boot.OSName = ""
	r.installs(t, p)
	r.boot(t)
	r.opts.Slots = ignorant{r.opts.Slots}
	m.gets = 0
	if outcome, err := r.run(progress.Minimal, p); outcome != Complete || m.gets > 0 {
		t.Errorf("got %v, %v, %d downloads", outcome, err, m.gets)
	}
}

// TestImageOfAnInstallerThatKnowsNoSlots comes up, and is not taken for one that fell back, since its version runs.
func TestImageOfAnInstallerThatKnowsNoSlots(t *testing.T) {
	r, m := imageRig(t), newMirror(t, newImage)
	p := plan{boot: demand(newImage, "2", m.URL+"/image")}
	r.installs(t, p)
	r.boot(t)
	blind := &spy{Description: slot.Description{Running: "current", Good: "current", Target: "other"}}
	blind.recorded = func() state.ImageState { return r.record(t).Images[r.key(p)].State }
	r.opts.Slots, r.opts.Device.OSVersion = blind, "2"
	if outcome, err := r.run(progress.Minimal, p); outcome != Complete {
		t.Fatal(err)
	}
	if got := r.record(t).Images[r.key(p)]; got.State != state.ImageGood || got.Reason != nil || got.Slot != "current" {
		t.Errorf("image %+v", got)
	}
	if diff := cmp.Diff([]string{"bless in good"}, blind.told); diff != "" {
		t.Errorf("the installer was told %s", diff)
	}
	if w := r.board.Snapshot().Warnings; w != nil {
		t.Errorf("warnings %+v", w)
	}
}

// ignorant is a back end that does not know what slots hold.
type ignorant struct{ slot.Backend }

func (i ignorant) Describe(ctx context.Context) (slot.Description, error) {
	d, err := i.Backend.Describe(ctx)
	d.Contents = nil
	return d, err
}
