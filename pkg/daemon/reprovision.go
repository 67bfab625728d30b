package daemon

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/xpu-sztp/ztp/pkg/agent"
	"github.com/xpu-sztp/ztp/pkg/config"
	"github.com/xpu-sztp/ztp/pkg/link"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/source"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// Reason codes of sessions that begin because a provisioned device is on another network.
const (
	CodeMovedBack reason.Code = "moved-back"      // the device is on the network again on which it was provisioned
	CodeNoSuccess reason.Code = "nothing-on-move" // the other network did not provision the device in time
)

const (
	// movedTime is how long such a session goes on beginning rounds.
	movedTime = time.Hour
	// movedLook is how long one round may look for a lead.
	movedLook = 10 * time.Minute
	// longestSettle is how long a burst of changes to interfaces is left alone before the network is looked at.
	longestSettle = 30 * time.Second
)

// watches reports whether a provisioned device looks for another network.
func (d *daemon) watches(cfg *config.Config, invalid error, record *state.Record) bool {
	return invalid == nil && cfg.Reprovision.Policy == "on-network-change" && !d.Fresh && !d.Once &&
		record.Enabled && record.Outcome == state.OutcomeProvisioned
}

// sight is how the network is seen; *link.System is one.
type sight interface {
	Links() ([]link.Link, <-chan struct{})
	Seen(context.Context) state.Network
}

// awaitMove returns nil when a session has been opened in the record because the provisioned device is on another network, or
// the cause of ctx's end.
func (d *daemon) awaitMove(ctx context.Context, cfg *config.Config, record *state.Record) error {
	d.board = d.newBoard(atRest(d.Version, record))
	system, err := d.openNetwork(cfg, cfg.Discovery.Include)
	if err != nil {
		return err
	}
	defer system.Close()
	d.Logger.Info("the device is provisioned; a session begins when it is on another network", "network", record.Network.String())
	settle()
	v := &vigil{known: record.Network, lasts: time.Duration(cfg.Reprovision.After),
		notBefore: spacing(record.Moved, time.Now(), cfg.Reprovision.SessionsPerDay)}
	if err := d.keepVigil(ctx, system, v); err != nil {
		return err
	}
	d.Logger.Warn("the device is on another network: a session begins", "network", v.known.String(), "other", v.other.String())
	_, err = d.change(ctx, state.Change{Kind: state.ChangeMove})
	return err
}

// keepVigil returns nil when the device is on another network. It looks at the network after changes to interfaces, and again
// when what it saw has to be confirmed; else no timer runs.
func (d *daemon) keepVigil(ctx context.Context, s sight, v *vigil) error {
	settled := min(v.lasts/4, longestSettle)
	for fresh := true; ; {
		_, changed := s.Links()
		if fresh {
			if err := pauseFor(ctx, settled); err != nil {
				return err
			}
		}
		seen := s.Seen(ctx)
		before := v.known
		means, again := v.see(seen, time.Now())
		d.showVigil(v)
		switch means {
		case moved:
			return nil
		case learned:
			d.learn(ctx, before, v.known)
		}
		if fresh && again == 0 {
			again = v.lasts // names come late, without a change to any interface
		}
		fresh = false
		var timer <-chan time.Time
		if again > 0 {
			timer = time.After(again)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
			fresh = true
		case <-timer:
		}
	}
}

func pauseFor(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// learn keeps what the network turned out to be known by as well.
func (d *daemon) learn(ctx context.Context, before, now state.Network) {
	d.Logger.Info("the network is known by more", "before", before.String(), "now", now.String())
	if _, err := d.change(ctx, state.Change{Kind: state.ChangeLearn, Network: now}); err != nil {
		d.Logger.Warn("cannot keep what the network is known by", "error", err)
	}
}

// atRest is the status of a provisioned device that looks for another network.
func atRest(version string, r *state.Record) state.Status {
	var s state.Status
	if r.Last != nil {
		s = *r.Last
	}
	s.Version, s.PID, s.Enabled, s.Phase, s.Outcome = version, os.Getpid(), r.Enabled, state.PhaseDone, state.OutcomeProvisioned
	s.Reason, s.NextAttempt, s.NextBecause = nil, time.Time{}, ""
	if s.Watch == nil {
		s.Watch = &state.Watch{}
	}
	return s
}

func (d *daemon) showVigil(v *vigil) {
	d.board.Update(func(s *state.Status) {
		w := s.Watch
		w.Network, w.Other, w.Since, w.Begins = v.known.String(), "", time.Time{}, time.Time{}
		if v.meaning == moved {
			w.Other, w.Since, w.Begins = v.other.String(), v.since.UTC(), v.due().UTC()
		}
	})
}

// endVigil returns the status of a provisioned device whose daemon ends, because it was told to unless err is something else.
func (d *daemon) endVigil(ctx context.Context, err error) (*state.Status, error) {
	record, loadErr := d.record(ctx)
	if loadErr != nil {
		return nil, errors.Join(err, loadErr)
	}
	status := atRest(d.Version, record)
	status.PID = 0
	d.board.Update(func(s *state.Status) { *s = status })
	if ctx.Err() != nil {
		d.Logger.Info("stopped")
		return &status, nil
	}
	return &status, err
}

// endInVain ends a session that began because the device is on another network, and came to nothing: the device is as
// provisioned as before, and only its status tells.
func (d *daemon) endInVain(ctx context.Context, cause error) error {
	if errors.Is(cause, agent.ErrDisabled) {
		return nil
	}
	why := agent.Explain(cause)
	if last := d.board.Snapshot().Reason; errors.Is(cause, errNoSuccess) && last != nil {
		why = last
	}
	d.Logger.Warn("the session on another network ended in vain; the device stays provisioned as it was", agent.Attributes(why))
	record, err := d.record(ctx)
	if err != nil {
		return err
	}
	last := atRest(d.Version, record)
	last.PID, last.Watch.Failure = 0, why
	d.board.Update(func(now *state.Status) { *now = last })
	_, err = d.change(ctx, state.Change{Kind: state.ChangeVain, Last: &last})
	return err
}

// abandonMove ends such a session that a reboot or a crash interrupted, on a device that shall no longer have any.
func (d *daemon) abandonMove(ctx context.Context, record *state.Record) error {
	if record.Session == nil || !record.Session.Moved || len(record.Journal) > 0 {
		return nil
	}
	_, err := d.change(ctx, state.Change{Kind: state.ChangeAbandon})
	return err
}

// bounded ends with a session that began because the device is on another network, when nothing has come of it.
func (d *daemon) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if !d.moved {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, movedTime, errNoSuccess)
}

// onlyElsewhere keeps a session that began because the device is on another network from what would provision it anew where
// it was, and from going on without end.
func onlyElsewhere(a *agent.Agent, known state.Network, seen func(context.Context) state.Network) {
	begun := time.Now()
	enabled := a.Enabled
	a.Enabled = func() (bool, error) {
		looking, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		switch {
		case time.Since(begun) > movedTime:
			return false, errNoSuccess
		case known.Compare(seen(looking)) == state.Same:
			return false, errMovedBack
		}
		return enabled()
	}
	for i, s := range a.Sources {
		a.Sources[i] = elsewhere{s, known}
	}
}

var (
	errMovedBack = &reason.Error{Code: CodeMovedBack, Msg: "the device is on the network again on which it was provisioned"}
	errNoSuccess = &reason.Error{Code: CodeNoSuccess, Msg: "nothing on the other network has provisioned the device",
		Fix: "add the device to a bootstrap server there, and start a session with `ztp run`; or bring it back to its network"}
)

// elsewhere is a source whose leads do not count when they come from the known network.
type elsewhere struct {
	source.Source
	known state.Network
}

// Discover is bounded until the first visit: a source waits for a carrier without end.
func (e elsewhere) Discover(ctx context.Context, visit func(context.Context, source.Lead) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	limit := time.AfterFunc(movedLook, func() { cancel(errNoSuccess) })
	defer limit.Stop()
	return e.Source.Discover(ctx, func(ctx context.Context, l source.Lead) error {
		if l.Where != nil && e.known.Compare(l.Where()) == state.Same {
			return errMovedBack
		}
		limit.Stop()
		return visit(ctx, l)
	})
}
