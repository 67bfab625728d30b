package agent

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/xpu-sztp/ztp/pkg/onboard"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/source"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// round is one pass over all sources. What it learns about trust lives in its call frames, never here (R5.3-01).
type round struct {
	*Agent
	failures []Failure
	wish     Wish // the farthest of the servers that failed
	outcome  onboard.Outcome
}

// Round asks every source once, in order, and returns how the first lead that succeeded ended. Otherwise it returns a
// *RoundError, or the cause of ctx's cancellation. attempt is counted from 1 and only shown.
func (a *Agent) Round(ctx context.Context, attempt int) (onboard.Outcome, error) {
	r := &round{Agent: a}
	r.showRound(attempt)
	var nothing error // of a source with no place to look
	for _, s := range a.Sources {
		known := len(r.failures)
		r.showPhase(state.PhaseDiscovering)
		err := s.Discover(ctx, r.followLead)
		if err == nil {
			r.showSource(s.Name(), nil)
			return r.outcome, nil
		}
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		switch {
		case len(r.failures) > known:
		case errors.Is(err, source.ErrNothing):
			nothing = cmp.Or(nothing, err)
		default:
			r.fail(StageDiscover, err)
		}
		r.showFindings(s.Name(), err)
	}
	if len(r.failures) == 0 && nothing != nil {
		r.fail(StageDiscover, nothing)
	}
	if len(r.failures) == 0 {
		r.fail(StageDiscover, &reason.Error{Code: CodeNoServer, Msg: "no source of bootstrap servers is configured",
			Fix: "list at least one source under [discovery] sources"})
	}
	return 0, &RoundError{Failures: r.failures, Wish: r.wish}
}

// followLead processes one lead (RFC 8572 §5.3). A nil error means that the device was bootstrapped or is rebooting.
func (r *round) followLead(ctx context.Context, lead source.Lead) error {
	r.Log.Info("lead found", "source", lead.Source, "interface", lead.Interface, "servers", len(lead.Servers))
	for _, w := range lead.Warnings {
		r.showWarning(w)
	}
	v := &visit{round: r, lead: lead, ends: time.Now().Add(leadTime), shown: -1}
	var err error
	if lead.Bundle != nil {
		v.showPlace()
		err = v.process(ctx, reply{bundle: *lead.Bundle})
	} else {
		err = v.tryServers(ctx, lead.Servers, lead.Trusted, lead.Source)
	}
	if err != nil {
		r.showPhase(state.PhaseDiscovering) // the source may have more leads, or wait for them
	}
	return err
}

// fail records a failure for the round's verdict, shows it when it is the furthest so far, and returns its error.
func (r *round) fail(stage Stage, err error) error {
	r.failures = append(r.failures, Failure{Stage: stage, Err: err})
	furthest := &RoundError{Failures: r.failures}
	r.Board.Update(func(s *state.Status) { s.Reason = Explain(furthest) })
	level := slog.LevelWarn
	if reasonOf(err) == string(reason.Cancelled) {
		level = slog.LevelInfo
	}
	r.Log.Log(context.Background(), level, "failed", "reason", reasonOf(err), "error", oneLine(err))
	return err
}

// now is the wall clock for status; decisions about validity use Agent.Clock.
func now() time.Time { return time.Now().UTC() }
