package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xpu-sztp/ztp/pkg/agent"
	"github.com/xpu-sztp/ztp/pkg/config"
	"github.com/xpu-sztp/ztp/pkg/durable"
	"github.com/xpu-sztp/ztp/pkg/onboard"
	"github.com/xpu-sztp/ztp/pkg/privsep"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// errTrialOver ends a session on a system whose time on trial is over.
var errTrialOver = errors.New("the time on trial is over")

// onTrial holds a session. On a system that runs on trial it ends the session when image.trial-timeout is over, and has the
// device return to the good slot. What is being executed then comes to its end first, which may be the good one.
func (d *daemon) onTrial(ctx context.Context, cfg *config.Config, hold func(context.Context) (onboard.Outcome, error)) (onboard.Outcome, error) {
	trial, left, err := d.trial(ctx, cfg)
	if err != nil {
		d.Logger.Warn("it is not known whether the system runs on trial, and for how long", "error", err)
	}
	if trial == (onboard.Trial{}) {
		return hold(ctx)
	}
	d.Logger.Info("the system runs on trial", "slot", trial.Slot, "good_slot", trial.Good, "for", left.Round(time.Second).String())
	d.board.tryUntil(time.Now().Add(left))
	defer d.board.tryUntil(time.Time{})
	bounded, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	d.turns = &turns{end: func() { cancel(errTrialOver) }}
	defer func() { d.turns = nil }()
	timer := time.AfterFunc(left, d.turns.over)
	defer timer.Stop()
	outcome, err := hold(bounded)
	if err == nil || ctx.Err() != nil || !errors.Is(context.Cause(bounded), errTrialOver) {
		return outcome, err
	}
	if err := d.expire(ctx, cfg, d.lastFailure()); err != nil {
		return 0, err
	}
	d.board.Update(func(s *state.Status) { s.Phase = state.PhaseRebooting })
	return onboard.Rebooting, nil
}

// trial tells what runs on trial, and what is left of its time. Asking for the first time in a boot begins it.
func (d *daemon) trial(ctx context.Context, cfg *config.Config) (onboard.Trial, time.Duration, error) {
	if d.far != nil {
		return d.far.Trial(ctx)
	}
	timeout := time.Duration(cfg.Image.TrialTimeout)
	trial, err := d.executor(cfg).Trial(ctx)
	if err != nil || trial == (onboard.Trial{}) || timeout == 0 {
		return onboard.Trial{}, 0, err
	}
	left, err := trialLeft(d.paths.Trial, timeout, sinceBoot())
	return trial, left, err
}

// expire has the device leave the system on trial, when its time is over.
func (d *daemon) expire(ctx context.Context, cfg *config.Config, last *state.Reason) error {
	if d.far != nil {
		return d.far.Expire(ctx, last)
	}
	trial, left, err := d.trial(ctx, cfg)
	switch {
	case err != nil || trial == (onboard.Trial{}):
		return err
	case left > 0:
		return &reason.Error{Code: privsep.CodeRefused, Msg: fmt.Sprintf("the trial goes on for %v", left.Round(time.Second))}
	}
	return d.executor(cfg).Expire(ctx, trial, time.Duration(cfg.Image.TrialTimeout), last)
}

func (d *daemon) executor(cfg *config.Config) *onboard.Executor {
	var shown onboard.Board = nobody{}
	if d.board != nil {
		shown = d.board
	}
	return onboard.New(d.onboardOptions(cfg, shown, state.Device{}))
}

// lastFailure is what kept the device from being provisioned so far, or nil.
func (d *daemon) lastFailure() *state.Reason { return d.board.Snapshot().Reason }

// turns is an onboarder that is given the time to finish. Nothing of an onboarding takes longer than its time limit, so that it
// gets on.
type turns struct {
	agent.Onboarder
	end func() // of the session

	mu   sync.Mutex
	busy bool
	late bool // the time was over while it was busy
}

// Execute is agent.Onboarder's.
func (t *turns) Execute(ctx context.Context, r onboard.Request) (onboard.Outcome, error) {
	t.mu.Lock()
	t.busy = true
	t.mu.Unlock()
	outcome, err := t.Onboarder.Execute(ctx, r)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.busy = false
	if t.late && err != nil {
		t.end()
	}
	return outcome, err
}

// over ends the session, now or when the onboarding that is going on has failed.
func (t *turns) over() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.late = true
	if !t.busy {
		t.end()
	}
}

// inTurns is the executor, of which a trial that is over waits for the end of what it does.
func (d *daemon) inTurns(executor agent.Onboarder) agent.Onboarder {
	if d.turns == nil {
		return executor
	}
	d.turns.Onboarder = executor
	return d.turns
}

// trialLeft returns what is left of a trial now. The file clock tells when in this boot it began: a daemon that is started again
// does not begin it anew. Times are since the device was started, since its clock may begin in 1970.
func trialLeft(clock string, timeout, now time.Duration) (time.Duration, error) {
	if text, err := os.ReadFile(clock); err == nil {
		begun, err := strconv.ParseFloat(strings.TrimSpace(string(text)), 64)
		if since := time.Duration(begun * float64(time.Second)); err == nil && since >= 0 && since <= now {
			return max(timeout-(now-since), 0), nil
		}
	}
	return timeout, durable.WriteFile(durable.OS{}, clock, fmt.Appendf(nil, "%.3f\n", now.Seconds()), 0o644, nil)
}

// sinceBoot is how long ago the device was started.
func sinceBoot() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
