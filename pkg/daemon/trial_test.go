package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xpu-sztp/ztp/pkg/agent"
	"github.com/xpu-sztp/ztp/pkg/config"
	"github.com/xpu-sztp/ztp/pkg/onboard"
	"github.com/xpu-sztp/ztp/pkg/privsep"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/slot"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// TestTrialLeft: the time of a trial is that since the first daemon of this boot asked, whatever the file holds.
func TestTrialLeft(t *testing.T) {
	const now, timeout = 100 * time.Second, 60 * time.Second
	for name, tt := range map[string]struct {
		clock string // what the file holds; "-" is no file
		want  time.Duration
		begun string // what it holds afterwards
	}{
		"first":               {"-", timeout, "100.000\n"},
		"again":               {"90.500\n", 50500 * time.Millisecond, "90.500\n"},
		"over":                {"40.000\n", 0, "40.000\n"},
		"long over":           {"1\n", 0, "1\n"},
		"of another boot":     {"101.000\n", timeout, "100.000\n"},
		"not a number":        {"soon\n", timeout, "100.000\n"},
		"no number of people": {"NaN\n", timeout, "100.000\n"},
		"before the start":    {"-1\n", timeout, "100.000\n"},
		"infinite":            {"+Inf\n", timeout, "100.000\n"},
		"empty":               {"", timeout, "100.000\n"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "clock")
			if tt.clock != "-" {
				if err := os.WriteFile(file, []byte(tt.clock), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			left, err := trialLeft(file, timeout, now)
			content, readErr := os.ReadFile(file)
			if left != tt.want || string(content) != tt.begun || err != nil || readErr != nil {
				t.Errorf("left %v, %v; file %q, %v", left, err, content, readErr)
			}
		})
	}
}

// doing is an onboarder that takes its time.
type doing struct {
	agent.Onboarder
	takes time.Duration
	err   error
}

func (d doing) Execute(ctx context.Context, _ onboard.Request) (onboard.Outcome, error) {
	select {
	case <-time.After(d.takes):
		return onboard.Complete, d.err
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// TestTurns: a trial ends when its time is over, but not what is being executed then, unless that fails.
func TestTurns(t *testing.T) {
	failed := errors.New("failed")
	for name, tt := range map[string]struct {
		begins, takes time.Duration // of an execution
		err           error
		ends          time.Duration // of the session; 0 is never
	}{
		"nothing is executed":       {10 * time.Hour, 0, nil, time.Hour},
		"executed before, and well": {time.Minute, time.Minute, nil, 0},
		"executed before, in vain":  {time.Minute, time.Minute, failed, time.Hour},
		"meanwhile, and well":       {59 * time.Minute, 30 * time.Minute, nil, 0},
		"meanwhile, in vain":        {59 * time.Minute, 30 * time.Minute, failed, 89 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				ctx, cancel := context.WithCancelCause(t.Context())
				turns := &turns{Onboarder: doing{takes: tt.takes, err: tt.err}, end: func() { cancel(errTrialOver) }}
				timer := time.AfterFunc(time.Hour, turns.over)
				defer timer.Stop()
				var done atomic.Bool
				go func() {
					select {
					case <-time.After(tt.begins):
					case <-ctx.Done():
						return
					}
					_, err := turns.Execute(ctx, onboard.Request{})
					if !errors.Is(err, tt.err) {
						t.Errorf("the execution ended with %v", err)
					}
					if err == nil {
						done.Store(true)
						timer.Stop()
					}
				}()
				limit := time.AfterFunc(20*time.Hour, func() { cancel(context.Canceled) })
				defer limit.Stop()
				<-ctx.Done()
				ended := time.Since(start)
				if tt.ends == 0 && (!done.Load() || !errors.Is(context.Cause(ctx), context.Canceled)) || tt.ends > 0 && ended != tt.ends {
					t.Errorf("the session ended after %v: %v", ended, context.Cause(ctx))
				}
			})
		})
	}
}

// trying is a daemon whose slot b runs on trial with an image of the record, for a minute.
func trying(t *testing.T, image state.ImageState, timeout time.Duration) (*daemon, *config.Config) {
	t.Helper()
	paths, err := config.NewPaths(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	store, err := state.Open(paths.State)
	if err != nil {
		t.Fatal(err)
	}
	err = store.Update(func(r *state.Record) error {
		r.Session = state.NewSession(time.Now())
		r.Images = map[string]state.ImageRecord{"aa": {State: image, Slot: "b", Attempts: 1}}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(paths.Trial), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"running": "b\n", "next": "b\n"} {
		if err := os.MkdirAll(filepath.Join(paths.State, "slots"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(paths.State, "slots", name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg := config.Default()
	cfg.Paths, cfg.Image.TrialTimeout, cfg.Image.Slots = paths, config.Duration(timeout), filepath.Join(paths.State, "slots")
	cfg.Reboot.Command = []string{"/bin/sh", "-c", "echo rebooted >>" + filepath.Join(paths.State, "rebooted")}
	d := &daemon{
		Options: Options{Logger: slog.New(slog.DiscardHandler)}, paths: paths, store: store, life: &pulse{},
		slots: slot.NewFile(slot.Options{Dir: cfg.Image.Slots}),
	}
	d.board = d.newBoard(state.Status{Phase: state.PhaseDiscovering, Reason: &state.Reason{Code: "no-lease", Message: "nobody answers"}})
	return d, &cfg
}

// TestOnTrial: the session of a system on trial ends when its time is over, the boot loader is told not to try it again, the
// record says why, and the device reboots. The status tells until when that is.
func TestOnTrial(t *testing.T) {
	const timeout = 10 * time.Second // less than this machine has been up
	d, cfg := trying(t, state.ImageTrial, timeout)
	begun := sinceBoot() - timeout + 50*time.Millisecond
	if err := os.WriteFile(d.paths.Trial, fmt.Appendf(nil, "%.3f\n", begun.Seconds()), 0o644); err != nil {
		t.Fatal(err)
	}
	outcome, err := d.onTrial(t.Context(), cfg, func(ctx context.Context) (onboard.Outcome, error) {
		if ends := d.board.Snapshot().TrialEnds; time.Until(ends).Abs() > timeout/2 {
			t.Errorf("the trial is shown to end at %v", ends)
		}
		<-ctx.Done()
		return 0, context.Cause(ctx)
	})
	if outcome != onboard.Rebooting || err != nil {
		t.Fatalf("%v, %v", outcome, err)
	}
	r, err := d.store.Load()
	if err != nil {
		t.Fatal(err)
	}
	i := r.Images["aa"]
	if i.State != state.ImageTrial || i.Expired != 1 || i.Attempts != 1 || i.Reason == nil || i.Reason.Code != string(onboard.ReasonImageExpired) ||
		!strings.Contains(i.Reason.Message, "for 10s without an end") || !strings.Contains(i.Reason.Message, "nobody answers [no-lease]") {
		t.Errorf("the record says %+v %+v", i, i.Reason)
	}
	if _, err := os.Stat(filepath.Join(cfg.Image.Slots, "next")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the slot is tried again: %v", err)
	}
	if got, _ := os.ReadFile(filepath.Join(d.paths.State, "rebooted")); string(got) != "rebooted\n" {
		t.Errorf("reboots: %q", got)
	}
	if s := d.board.Snapshot(); s.Phase != state.PhaseRebooting || !s.TrialEnds.IsZero() {
		t.Errorf("status %+v", s)
	}
}

// TestNotOnTrial: what is not on trial, is not ours, was acknowledged, or may run for ever, is left alone; and so is a trial whose
// session comes to its end or is stopped.
func TestNotOnTrial(t *testing.T) {
	for name, tt := range map[string]struct {
		image   state.ImageState
		timeout time.Duration
	}{
		"acknowledged": {state.ImageGood, time.Hour},
		"for ever":     {state.ImageTrial, 0},
	} {
		t.Run(name, func(t *testing.T) {
			d, cfg := trying(t, tt.image, tt.timeout)
			if err := os.WriteFile(d.paths.Trial, []byte("0\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			held := errors.New("held")
			_, err := d.onTrial(t.Context(), cfg, func(ctx context.Context) (onboard.Outcome, error) {
				if d.turns != nil || ctx.Err() != nil {
					t.Error("the session is bounded")
				}
				return 0, held
			})
			if !errors.Is(err, held) {
				t.Error(err)
			}
		})
	}
	t.Run("comes to its end", func(t *testing.T) {
		d, cfg := trying(t, state.ImageTrial, time.Hour)
		outcome, err := d.onTrial(t.Context(), cfg, func(context.Context) (onboard.Outcome, error) { return onboard.Complete, nil })
		if outcome != onboard.Complete || err != nil {
			t.Errorf("%v, %v", outcome, err)
		}
	})
	t.Run("asked for too early", func(t *testing.T) {
		d, cfg := trying(t, state.ImageTrial, time.Hour)
		code, _ := reason.Of(d.expire(t.Context(), cfg, nil))
		if code != privsep.CodeRefused {
			t.Errorf("code %q", code)
		}
	})
}
