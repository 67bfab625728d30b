package daemon

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/xpu-sztp/ztp/pkg/config"
	"github.com/xpu-sztp/ztp/pkg/onboard"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/slot"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// TestJudgeBoot: what runs is called good unless it is an image of ours on trial; that is waited for as long as somebody works on it.
func TestJudgeBoot(t *testing.T) {
	session, cleared := &state.Session{ID: "x"}, &state.Session{ID: "x", FlagCleared: true}
	trial, good := slot.Description{Running: "b", Good: "a"}, slot.Description{Running: "b", Good: "b"}
	type verdict struct {
		done bool
		code reason.Code
	}
	tests := map[string]struct {
		is      slot.Description
		image   state.ImageState // of what is in slot b
		enabled bool
		session *state.Session
		outcome state.Outcome
		want    verdict
	}{
		"good":                             {good, state.ImageGood, true, nil, state.OutcomeProvisioned, verdict{true, ""}},
		"good, while a session goes on":    {good, state.ImageRunning, true, session, "", verdict{true, ""}},
		"good again after a fallback":      {slot.Description{Running: "a", Good: "a"}, state.ImageTrial, true, session, "", verdict{true, ""}},
		"on trial":                         {trial, state.ImageTrial, true, session, "", verdict{}},
		"on trial, nobody has looked yet":  {trial, state.ImageActivated, true, session, "", verdict{}},
		"the right one":                    {trial, state.ImageRunning, true, session, "", verdict{}},
		"refused":                          {trial, state.ImageRefused, true, session, "", verdict{}},
		"acknowledged, but not blessed":    {trial, state.ImageGood, true, session, "", verdict{}},
		"provisioned, but not blessed":     {trial, state.ImageGood, false, nil, state.OutcomeProvisioned, verdict{}},
		"a script turned the flag off":     {trial, state.ImageRunning, false, cleared, "", verdict{}},
		"disabled":                         {trial, state.ImageRunning, false, session, "", verdict{true, CodeNotGood}},
		"disabled before a session":        {trial, state.ImageTrial, false, nil, "", verdict{true, CodeNotGood}},
		"somebody else's trial":            {trial, "", true, session, "", verdict{true, ""}},
		"somebody else's, and provisioned": {trial, "", true, nil, state.OutcomeProvisioned, verdict{true, ""}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := &state.Record{Enabled: tt.enabled, Session: tt.session, Outcome: tt.outcome, Images: map[string]state.ImageRecord{"cc": {State: state.ImageFellBack}}}
			if tt.image != "" {
				r.Images["aa"] = state.ImageRecord{State: tt.image, Slot: "b"}
			}
			done, err := judgeBoot(r, tt.is)
			code, _ := reason.Of(err)
			if err == nil {
				code = ""
			}
			if got := (verdict{done, code}); got != tt.want {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

// TestSlotsThatDoNotTell: nothing is called good that may be on trial.
func TestSlotsThatDoNotTell(t *testing.T) {
	for image, want := range map[state.ImageState]bool{state.ImageTrial: false, state.ImageGood: false, state.ImageFellBack: true} {
		d, _ := trying(t, image, 0)
		d.slots = described{err: errors.New("no answer")}
		if done, err := d.bootIsGood(t.Context()); done != want || err != nil {
			t.Errorf("%s: %t, %v", image, done, err)
		}
	}
}

// TestAwaitGood waits for the session and the boot loader, and not without slots.
func TestAwaitGood(t *testing.T) {
	d, cfg := trying(t, state.ImageRunning, 0)
	configure := func(text string) {
		file := d.paths.Below(config.AdminFile)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	configure("[image]\ninstaller = \"file\"\n")
	ended := make(chan error, 1)
	go func() {
		ended <- AwaitGood(t.Context(), Options{Root: d.paths.Root, Logger: slog.New(slog.DiscardHandler)})
	}()
	if err := d.store.Update(func(r *state.Record) error {
		i := r.Images["aa"]
		i.State = state.ImageGood
		r.Images["aa"] = i
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		t.Fatalf("it ended before the boot loader was told: %v", err)
	default:
	}
	if err := onboard.New(d.onboardOptions(cfg, nobody{}, state.Device{})).Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := d.store.Update(func(r *state.Record) error { r.Outcome = state.OutcomeProvisioned; return nil }); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}

	configure("")
	if err := AwaitGood(t.Context(), Options{Root: d.paths.Root, Logger: slog.New(slog.DiscardHandler)}); err != nil {
		t.Errorf("without slots: %v", err)
	}
	configure("no = 1\n")
	if code, _ := reason.Of(AwaitGood(t.Context(), Options{Root: d.paths.Root, Logger: slog.New(slog.DiscardHandler)})); code != config.Invalid {
		t.Errorf("code %q", code)
	}
}
