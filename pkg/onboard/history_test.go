package onboard

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/progress"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// hangs installs an image that does not come up: the boot loader tries it and returns to the old slot.
func (r *rig) hangs(t *testing.T, p plan) {
	t.Helper()
	r.installs(t, p)
	r.boot(t)
	r.boot(t)
}

// TestImageThatNeverComesUp has the boot loader return to the old slot every time. The server is told each time.
func TestImageThatNeverComesUp(t *testing.T) {
	r, m := imageRig(t), newMirror(t, newImage)
	p := plan{boot: demand(newImage, "2", m.URL+"/image")}
	for range r.opts.Image.Attempts - 1 {
		r.hangs(t, p)
		r.fails(t, p, ReasonImageFellBack)
		want := "slot b was started with it, and the boot loader returned to slot a (install 1 of 2)"
		if got := r.server.message(progress.BootImageError); !strings.Contains(got, want) {
			t.Errorf("the server was told %q", got)
		}
		if shown := r.board.Snapshot(); shown.Image.State != "fell-back" || shown.Image.Reason == nil || shown.Slots.Running != "a" {
			t.Errorf("status %+v, %+v", shown.Image, shown.Slots)
		}
		r.boot(t)
	}
	r.hangs(t, p)
	m.gets = 0
	r.fails(t, p, ReasonImageRefused)
	r.boot(t)
	r.fails(t, p, ReasonImageRefused)
	if m.gets > 0 {
		t.Error("a refused image was downloaded")
	}
	if shown := r.board.Snapshot().Image; shown.State != "refused" || shown.Attempts != r.opts.Image.Attempts {
		t.Errorf("status %+v", shown)
	}
	if got := r.record(t).Images[r.key(p)].Reason; got == nil || !strings.Contains(got.Message, "never came up") {
		t.Errorf("reason %+v", got)
	}
	// A person may try again.
	if err := r.store.Update(func(rec *state.Record) error { rec.StartOver(); return nil }); err != nil {
		t.Fatal(err)
	}
	r.boot(t)
	r.installs(t, p)
}

// TestRefusalDoesNotLast gives the image one more chance after a day: whoever keeps the device from its servers until it was
// rebooted often enough must not shut it out for good.
func TestRefusalDoesNotLast(t *testing.T) {
	r, m := imageRig(t), newMirror(t, newImage)
	p := plan{boot: demand(newImage, "2", m.URL+"/image")}
	later := time.Duration(0)
	r.opts.Now = func() time.Time { return time.Now().Add(later) }
	r.hangs(t, p)
	r.fails(t, p, ReasonImageFellBack)
	r.boot(t)
	r.hangs(t, p)
	r.fails(t, p, ReasonImageRefused)
	for range 2 {
		later += 23 * time.Hour
		r.server = &server{}
		r.fails(t, p, ReasonImageRefused)
		later += 2 * time.Hour
		r.hangs(t, p)
		r.fails(t, p, ReasonImageRefused) // one chance a day
	}
	later += 25 * time.Hour
	r.installs(t, p)
	r.boot(t)
	r.opts.Device.OSVersion = "2"
	if outcome, err := r.run(progress.Minimal, p); outcome != Complete {
		t.Fatal(err)
	}
}

// TestImageThatComesUpIsNotBlamed has the power go off every time the new image runs but the rest does not succeed.
func TestImageThatComesUpIsNotBlamed(t *testing.T) {
	r, m := imageRig(t), newMirror(t, newImage)
	p := plan{boot: demand(newImage, "2", m.URL+"/image"), pre: sh("exit 1")}
	for range r.opts.Image.Attempts + 1 {
		r.opts.Device.OSVersion = "1"
		r.installs(t, p)
		r.boot(t)
		r.opts.Device.OSVersion = "2"
		_, err := r.run(progress.Minimal, p)
		wantCode(t, err, ReasonScriptFailed)
		r.boot(t)
	}
}

// TestImageWhoseVersionLies boots an image that does not call itself what the server says.
func TestImageWhoseVersionLies(t *testing.T) {
	r, m := imageRig(t), newMirror(t, newImage)
	p := plan{boot: demand(newImage, "2", m.URL+"/image")}
	r.installs(t, p)
	if running := r.boot(t); running != "b" {
		t.Fatal("the image does not run")
	}
	r.fails(t, p, ReasonImageRefused)
	if running := r.boot(t); running != "a" {
		t.Fatalf("the boot loader did not return: %s runs", running)
	}
	r.fails(t, p, ReasonImageRefused)
	if got := r.trace(); len(got) != 1 {
		t.Errorf("reboots: %v", got)
	}
}

// TestImageIgnoredByTheBootLoader reboots into the old slot with the new one still to come.
func TestImageIgnoredByTheBootLoader(t *testing.T) {
	r, m := imageRig(t), newMirror(t, newImage)
	p := plan{boot: demand(newImage, "2", m.URL+"/image")}
	for range 2 * r.opts.Image.Attempts {
		r.installs(t, p)
	}
	r.server = &server{}
	r.fails(t, p, ReasonImageRefused)
	if m.gets != 1 {
		t.Errorf("%d downloads", m.gets)
	}
}

// TestImageOnTrialIsNotTheOneWanted has the server change its mind during the reboot. The good slot must not be
// overwritten, and nobody must have to press a button.
func TestImageOnTrialIsNotTheOneWanted(t *testing.T) {
	const thirdImage = "the image of version 3"
	r, second, third := imageRig(t), newMirror(t, newImage), newMirror(t, thirdImage)
	r.installs(t, plan{boot: demand(newImage, "2", second.URL+"/image")})
	r.boot(t)
	r.opts.Device.OSVersion = "2"
	p := plan{boot: demand(thirdImage, "3", third.URL+"/image")}
	outcome, err := r.run(progress.Minimal, p)
	if outcome != Rebooting || err != nil {
		t.Fatalf("got %v, %v", outcome, err)
	}
	if diff := cmp.Diff(types("bootstrap-initiated, boot-image-error"), r.server.types()); diff != "" {
		t.Error(diff)
	}
	if running := r.boot(t); running != "a" {
		t.Fatalf("slot %s runs", running)
	}
	r.opts.Device.OSVersion = "1"
	r.installs(t, p)
	r.boot(t)
	r.opts.Device.OSVersion = "3"
	if outcome, err := r.run(progress.Minimal, p); outcome != Complete {
		t.Fatal(err)
	}
}

func TestImageHistoryIsBounded(t *testing.T) {
	r := imageRig(t)
	s := &session{Executor: New(r.opts)}
	for n := range 2 * maxImages {
		sum := make([]byte, 32)
		sum[0] = byte(n)
		s.boot = &artifacts.BootImage{SHA256: sum}
		on := fetch
		if n == 0 {
			on = refuse
		}
		_, _, err := s.move(s.imageKey(), on, func(i *state.ImageRecord) {
			if i.Slot = "b"; on == refuse {
				i.Slot, i.Reason = "", &state.Reason{}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	images, inSlot := r.record(t).Images, 0
	if images[strings.Repeat("0", 64)].State != state.ImageRefused {
		t.Error("a refused image was forgotten before those that never counted for anything")
	}
	for _, i := range images {
		if i.Slot != "" {
			inSlot++
		}
	}
	if len(images) != maxImages || inSlot != 1 || images[s.imageKey()].Slot != "b" {
		t.Errorf("%d images, %d in the same slot", len(images), inSlot)
	}
}

// TestRecoverMarksSlotGood has the power fail after the server acknowledged the end, before the boot loader knew. What was not
// acknowledged is not marked good, whoever started it.
func TestRecoverMarksSlotGood(t *testing.T) {
	for how, want := range map[state.ImageState]string{
		state.ImageGood: "b", state.ImageRunning: "a", state.ImageTrial: "a", state.ImageRefused: "a", state.ImageActivated: "a",
	} {
		t.Run(string(how), func(t *testing.T) {
			r, m := imageRig(t), newMirror(t, newImage)
			p := plan{boot: demand(newImage, "2", m.URL+"/image")}
			r.installs(t, p)
			r.boot(t)
			if err := r.store.Update(func(rec *state.Record) error {
				i := rec.Images[r.key(p)]
				i.State = how
				rec.Images[r.key(p)] = i
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if err := New(r.opts).Recover(t.Context()); err != nil {
				t.Fatal(err)
			}
			if d := r.describe(t); d.Good != want {
				t.Errorf("slot %s is good", d.Good)
			}
			if _, err := os.Stat(r.opts.Dir); err == nil {
				t.Error("a private folder was made for nothing")
			}
		})
	}
}

// TestSystemsThatShareNoState says so when a slot is started that another system has written.
func TestSystemsThatShareNoState(t *testing.T) {
	for _, shared := range []bool{true, false} {
		r, server := imageRig(t), newMirror(t, newImage)
		p := plan{boot: demand(newImage, "2", server.URL+"/image")}
		r.installs(t, p)
		r.boot(t)
		r.opts.Device.OSVersion = "2"
		if !shared {
			err := r.store.Update(func(rec *state.Record) error {
				rec.Images = nil
				return os.Remove(filepath.Join(r.dir, "slots", "b.sha256"))
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if outcome, err := r.run(progress.Minimal, p); outcome != Complete {
			t.Fatal(err)
		}
		warned := slices.ContainsFunc(r.board.Snapshot().Warnings, func(w state.Warning) bool { return strings.Contains(w.Text, "do not share") })
		if warned == shared {
			t.Errorf("shared %v, warnings %v", shared, r.board.Snapshot().Warnings)
		}
	}
}
