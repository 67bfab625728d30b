package onboard

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/pkg/durable"
	"github.com/xpu-sztp/ztp/pkg/progress"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/slot"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// TestExpire goes through what may be in the slot that runs on trial. What somebody else put there, or was acknowledged, is left
// alone; an end of the same trial that is asked for again counts once.
func TestExpire(t *testing.T) {
	const key = "aa"
	over := &state.Reason{Code: string(ReasonImageExpired)}
	fell := &state.Reason{Code: string(ReasonImageFellBack)}
	for name, tt := range map[string]struct {
		is       slot.Description
		before   state.ImageRecord
		expires  bool
		state    state.ImageState
		expired  int
		attempts int
	}{
		"on trial":          {slot.Description{Running: "b", Good: "a"}, state.ImageRecord{State: state.ImageTrial, Attempts: 1}, true, state.ImageTrial, 1, 1},
		"activated":         {slot.Description{Running: "b", Good: "a"}, state.ImageRecord{State: state.ImageActivated, Attempts: 1}, true, state.ImageTrial, 1, 1},
		"running":           {slot.Description{Running: "b", Good: "a"}, state.ImageRecord{State: state.ImageRunning}, true, state.ImageTrial, 1, 1},
		"for the third":     {slot.Description{Running: "b", Good: "a"}, state.ImageRecord{State: state.ImageRunning, Expired: 2, Attempts: 2}, true, state.ImageTrial, 3, 3},
		"after a fallback":  {slot.Description{Running: "b", Good: "a"}, state.ImageRecord{State: state.ImageTrial, Attempts: 2, Expired: 1, Reason: fell}, true, state.ImageTrial, 2, 2},
		"once more":         {slot.Description{Running: "b", Good: "a"}, state.ImageRecord{State: state.ImageTrial, Attempts: 1, Expired: 1, Reason: over}, true, state.ImageTrial, 1, 1},
		"refused":           {slot.Description{Running: "b", Good: "a"}, state.ImageRecord{State: state.ImageRefused, Attempts: 3}, true, state.ImageRefused, 1, 3},
		"acknowledged":      {slot.Description{Running: "b", Good: "a"}, state.ImageRecord{State: state.ImageGood}, false, state.ImageGood, 0, 0},
		"good":              {slot.Description{Running: "b", Good: "b"}, state.ImageRecord{State: state.ImageRunning}, false, state.ImageRunning, 0, 0},
		"in the good slot":  {slot.Description{Running: "a", Good: "a"}, state.ImageRecord{State: state.ImageTrial}, false, state.ImageTrial, 0, 0},
		"somebody else's":   {slot.Description{Running: "c", Good: "a"}, state.ImageRecord{State: state.ImageTrial}, false, state.ImageTrial, 0, 0},
		"withdrawn already": {slot.Description{Running: "b", Good: "a"}, state.ImageRecord{State: state.ImageFetching}, false, state.ImageFetching, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			tt.before.Slot = "b"
			if err := r.store.Update(func(rec *state.Record) error {
				rec.Images = map[string]state.ImageRecord{key: tt.before}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			recorded := func() state.ImageState { return r.record(t).Images[key].State }
			boot := &spy{recorded: recorded, Description: tt.is}
			r.opts.Slots = boot
			r.opts.FS = settling{durable.OS{}, func() { boot.told = append(boot.told, "settled") }}
			e := New(r.opts)
			trial, err := e.Trial(t.Context())
			if err != nil || (trial != Trial{}) != tt.expires {
				t.Fatalf("on trial is %+v, %v", trial, err)
			}
			if !tt.expires {
				trial = Trial{Image: key, Slot: "b", Good: "a"} // which it may have been before
				if tt.is.Trial() && tt.before.State != state.ImageGood && tt.before.State != state.ImageFetching {
					trial.Slot = tt.is.Running
				}
			}
			if err := e.Expire(t.Context(), trial, time.Hour, &state.Reason{Code: "no-lease", Message: "nobody\x1b answers"}); err != nil {
				t.Fatal(err)
			}
			i := r.record(t).Images[key]
			if i.State != tt.state || i.Expired != tt.expired || i.Attempts != tt.attempts {
				t.Errorf("recorded %+v", i)
			}
			var told, trace []string
			if tt.expires {
				told, trace = []string{"settled", "disarm in " + string(tt.state)}, []string{"reboot"}
				if i.Reason == nil || !strings.HasSuffix(i.Reason.Message, "for 1h0m0s without an end that the server acknowledged; the last failure: nobody\uFFFD answers [no-lease]") {
					t.Errorf("because %+v", i.Reason)
				}
			}
			if diff := cmp.Diff([]any{told, trace}, []any{boot.told, r.trace()}); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// settling tells when everything is made durable: what was undone on trial may not be, if that failed at the time.
type settling struct {
	durable.FS
	all func()
}

func (s settling) SyncAll() error {
	s.all()
	return nil
}

// TestExpiredIsTold: where the device returns to, the session tells why the image did not last, and after as many trials as there
// may be attempts it is refused.
func TestExpiredIsTold(t *testing.T) {
	m := newMirror(t, newImage)
	r := imageRig(t)
	p := plan{boot: demand(newImage, "2", m.URL+"/image")}
	trials := 0
	for ; trials < 10; trials++ {
		outcome, err := r.run(progress.Verbose, p)
		if code, _ := reason.Of(err); code == ReasonImageFellBack {
			if want := fmt.Sprintf("ran with it on trial for 2h0m0s without an end that the server acknowledged (install %d of 2)", trials); !strings.Contains(err.Error(), want) {
				t.Errorf("%v does not say %q", err, want)
			}
			outcome, err = r.run(progress.Verbose, p)
		}
		if code, _ := reason.Of(err); code == ReasonImageRefused {
			break
		}
		if err != nil || outcome != Rebooting {
			t.Fatalf("%v, %v", outcome, err)
		}
		r.boot(t)
		e := New(r.opts)
		trial, err := e.Trial(t.Context())
		if err != nil || trial.Slot != "b" {
			t.Fatalf("%+v, %v", trial, err)
		}
		if err := e.Expire(t.Context(), trial, 2*time.Hour, nil); err != nil {
			t.Fatal(err)
		}
		r.boot(t)
	}
	if trials != 2 {
		t.Errorf("%d trials", trials)
	}
}
