// Package daemon puts the agent together and runs it. It is the composition root: the one place that knows every part,
// connects them to this device as the configuration says, and records how a session ended. It also is what enables,
// disables and restarts a daemon that may run somewhere else.
package daemon

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/xpu-sztp/ztp/pkg/agent"
	"github.com/xpu-sztp/ztp/pkg/config"
	"github.com/xpu-sztp/ztp/pkg/onboard"
	"github.com/xpu-sztp/ztp/pkg/privsep"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/slot"
	"github.com/xpu-sztp/ztp/pkg/state"
	"github.com/xpu-sztp/ztp/pkg/statusview"
	"github.com/xpu-sztp/ztp/systemd"
)

// Options says what to run.
type Options struct {
	Root    string // every path lies below it; "" is "/"
	Version string // shown in the status
	Logger  *slog.Logger

	// Fresh forgets how the last session ended and which images were refused, so that also a provisioned device runs.
	Fresh bool
	// Once ends the session after one round over all sources, as failed when nothing worked. A provisioned device runs
	// again; a session that waits for its reboot goes on.
	Once bool
	// Servers, when there are any, are visited instead of looking for some: "https://HOST[:PORT]".
	Servers []string
	// Onboard is the socket of the process that does what needs privileges (Serve); "" does everything in this one.
	Onboard string
	// Trusted visits Servers as the maker's own, which must authenticate to the configured trust anchors.
	Trusted bool
}

// Run provisions the device and returns the final status. A device that is disabled, or provisioned already, is left
// alone: nothing is looked for and no network is touched. The error is nil when the session ended in one of the ways the
// status can tell: provisioned, failed after one round, disabled, rebooting, or stopped because ctx ended. There may be no
// status where another process has the record and there was nothing to do.
func Run(ctx context.Context, o Options) (*state.Status, error) {
	paths, err := config.NewPaths(o.Root)
	if err != nil {
		return nil, err
	}
	status, err := locked(ctx, o, paths)
	if status != nil || err != nil {
		return status, err
	}
	if o.Onboard != "" {
		return nil, nil // the record is for others to read
	}
	return state.Read(paths.Runtime, paths.State)
}

// locked runs as the one daemon of the device. It returns no status when there was nothing to do.
func locked(ctx context.Context, o Options, paths config.Paths) (*state.Status, error) {
	lock, err := state.LockDaemon(paths.Runtime)
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	defer systemd.Stopping()
	life := &pulse{}
	watched, unwatch := context.WithCancel(context.WithoutCancel(ctx)) // undoing a session counts, too
	defer unwatch()
	go systemd.Watchdog(watched, func() bool { return life.alive(time.Now()) })
	d := &daemon{Options: o, paths: paths, life: life}
	unlock, err := d.open()
	if err != nil {
		return nil, cannotBegin(o, paths, err)
	}
	defer unlock()
	// What is wrong with the configuration or the command line is found before anything is forgotten.
	cfg, plan, invalid := d.prepare()
	if invalid != nil && (o.Fresh || o.Once) {
		return nil, invalid
	}
	broken := d.recover(ctx, cfg, invalid)
	defer func() { d.rest(ctx, cfg, invalid) }()
	for {
		record, err := d.change(ctx, state.Change{Kind: state.ChangeBegin, Fresh: o.Fresh, Once: o.Once})
		if err != nil {
			return nil, cannotBegin(o, paths, err)
		}
		d.moved, d.known = record.Outcome == state.OutcomeProvisioned, record.Network
		switch {
		case !record.Enabled, d.moved && (broken != nil || !d.watches(cfg, invalid, record)):
			d.leaveAlone(record, invalid)
			return nil, errors.Join(broken, d.abandonMove(ctx, record))
		case d.moved && record.Session == nil:
			if err := d.awaitMove(ctx, cfg, record); err != nil {
				return d.endVigil(ctx, err)
			}
			continue
		}
		if invalid == nil {
			life.limits = patienceOf(cfg)
		}
		d.board = d.newBoard(initial(o.Version, record))
		if err := cmp.Or(invalid, broken); err != nil {
			return d.end(ctx, 0, err)
		}
		outcome, err := d.onTrial(ctx, cfg, func(ctx context.Context) (onboard.Outcome, error) { return d.session(ctx, cfg, plan) })
		if d.moved && err != nil {
			if ctx.Err() == nil {
				broken = d.recover(ctx, cfg, nil) // what the session could not undo, or else it would go on
				err = d.endInVain(ctx, err)
			}
			if err != nil {
				return d.endVigil(ctx, err)
			}
			continue
		}
		status, err := d.end(ctx, outcome, err)
		if err != nil || status.ExitCode() != state.ExitProvisioned || ctx.Err() != nil {
			return status, err
		}
		cfg, plan, invalid = d.prepare() // the agent's configuration may be among what was provisioned
		if record, err := d.record(ctx); err != nil || !d.watches(cfg, invalid, record) {
			return status, err
		}
	}
}

// recover undoes what a session left that was interrupted, which may also turn the flag on again that its script turned
// off: this comes before the decision whether there is anything to do. A configuration that cannot be read does not matter
// when there is nothing to undo.
func (d *daemon) recover(ctx context.Context, cfg *config.Config, invalid error) error {
	if invalid == nil {
		systemd.Ready()
		if d.far != nil {
			return d.far.Recover(ctx)
		}
		return onboard.New(d.onboardOptions(cfg, nobody{}, state.Device{})).Recover(ctx)
	}
	record, err := d.record(ctx)
	switch {
	case err != nil:
		return err
	case len(record.Journal) > 0:
		return invalid
	}
	return nil
}

// leaveAlone says why there is nothing to do.
func (d *daemon) leaveAlone(record *state.Record, invalid error) {
	if invalid != nil {
		d.Logger.Warn("the configuration is invalid", agent.Attributes(agent.Explain(invalid)))
	}
	if record.Outcome == state.OutcomeProvisioned {
		d.Logger.Info("nothing to do: the device is provisioned; `ztp run` provisions it anew", "enabled", record.Enabled)
		return
	}
	d.Logger.Info("nothing to do: provisioning is disabled on this device; `ztp enable` turns it on")
}

// cannotBegin lets `ztp status` tell why there is no session, and returns the error.
func cannotBegin(o Options, paths config.Paths, err error) error {
	state.NewBoard(paths.Status, state.Status{Version: o.Version, Enabled: true, Phase: state.PhaseNotStarted, Reason: agent.Explain(err)})
	return err
}

// initial is the status a session begins with.
func initial(version string, r *state.Record) state.Status {
	return state.Status{
		Version: version,
		PID:     os.Getpid(),
		Enabled: r.Enabled,
		Phase:   state.PhaseStarting,
		Started: r.Session.Started,
		Reboots: r.Session.Reboots,
	}
}

// daemon is one run.
type daemon struct {
	Options
	moved bool          // the session began because the provisioned device is on another network than
	known state.Network // this
	paths config.Paths
	store *state.Store    // nil when another process has it:
	far   *privsep.Client // that one; nil when this process does everything
	slots slot.Backend    // nil when the device cannot install images
	board *board
	life  *pulse
	turns *turns // nil unless the system runs on trial
}

// session runs until the device is provisioned, reboots, or may not go on.
func (d *daemon) session(ctx context.Context, cfg *config.Config, plan leads) (onboard.Outcome, error) {
	d.Logger.Info("session started", "version", d.Version)
	facts := cfg.Facts()
	device := state.Device{HWModel: facts.HWModel, OSName: facts.OSName, OSVersion: facts.OSVersion}
	d.board.Update(func(s *state.Status) { s.Device = device })
	d.warnAbout(cfg)
	opening, cancel := d.bounded(ctx)
	identity, err := d.openIdentity(opening, cfg)
	cancel()
	if err != nil {
		return 0, err
	}
	defer identity.Close()
	device.SerialNumber = identity.SerialNumber
	d.showIdentity(identity, device)

	a, closeAgent, err := d.compose(ctx, cfg, plan, identity, device)
	if err != nil {
		return 0, err
	}
	defer closeAgent()
	settle()
	if d.Once {
		return a.Round(ctx, 1)
	}
	return a.Run(ctx)
}

// warnAbout tells what in a valid configuration keeps most devices from being provisioned.
func (d *daemon) warnAbout(cfg *config.Config) {
	if len(cfg.Anchors.Vouchers) > 0 {
		return
	}
	text := "no trust anchor for vouchers is configured, so nothing that an owner signed can be believed; " +
		"put the certificate of the maker's voucher service (MASA) into " + strings.Join(cfg.Trust.Vouchers, " or ")
	d.Logger.Warn(text)
	d.board.Update(func(s *state.Status) { s.Warnings = append(s.Warnings, state.Warning{Text: text, At: nowUTC()}) })
}

// end records how the session ended and returns the status that tells it.
func (d *daemon) end(ctx context.Context, outcome onboard.Outcome, err error) (*state.Status, error) {
	now := nowUTC()
	final := func(phase state.Phase, why *state.Reason) state.Status {
		d.board.Update(func(s *state.Status) {
			s.Phase, s.Reason, s.PID, s.NextAttempt, s.NextBecause = phase, why, 0, time.Time{}, ""
			if phase == state.PhaseDone {
				s.Ended = now
				s.Outcome = state.OutcomeFailed
				if err == nil {
					s.Outcome = state.OutcomeProvisioned
				}
			}
		})
		return d.board.Snapshot()
	}
	var status state.Status
	switch {
	case err == nil && outcome == onboard.Rebooting:
		status = final(state.PhaseRebooting, nil)
		d.Logger.Info("rebooting into the new image")
	case err == nil:
		status = final(state.PhaseDone, nil)
		d.Logger.Info("provisioned", "took", status.Ended.Sub(status.Started).Round(time.Second).String())
	case errors.Is(err, agent.ErrDisabled), ctx.Err() != nil && d.disabled(ctx):
		status, err = final(state.PhaseNotStarted, nil), nil
		d.Logger.Info("disabled while running")
	case ctx.Err() != nil:
		status, err = final(state.PhaseNotStarted, &state.Reason{
			Code: string(reason.Cancelled), Message: "the session was stopped", Hint: "`ztp run` starts a new one", At: now,
		}), nil
		d.Logger.Info("stopped")
	case d.Once:
		status, err = final(state.PhaseDone, agent.Explain(err)), nil
		d.Logger.Error("failed", agent.Attributes(status.Reason))
	default:
		status = final(state.PhaseNotStarted, agent.Explain(err))
		d.Logger.Error("cannot run", agent.Attributes(status.Reason))
	}
	return &status, errors.Join(err, d.remember(ctx, status))
}

// disabled tells whether the flag was turned off, which also ends a session.
func (d *daemon) disabled(ctx context.Context) bool {
	record, err := d.record(ctx)
	return err == nil && !record.Enabled
}

// remember keeps the final status beyond the next boot. Who became provisioned was recorded together with the end of the
// journal, by the executor; here only failure is.
func (d *daemon) remember(ctx context.Context, status state.Status) error {
	_, err := d.change(ctx, state.Change{Kind: state.ChangeEnd, Last: &status})
	return err
}

// board is the live status, whose headline systemd shows as well, and whose changes are signs of life.
type board struct {
	*state.Board
	life     *pulse
	mu       sync.Mutex
	headline string
	trial    time.Time // its end, by the clock that nobody sets; zero when the system is not on trial
}

func (d *daemon) newBoard(first state.Status) *board {
	return &board{Board: state.NewBoard(d.paths.Status, first), life: d.life}
}

// Update is part of agent.Board and onboard.Board.
func (b *board) Update(change func(*state.Status)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	b.life.beat(now, changing)
	var headline string
	var next time.Duration
	b.Board.Update(func(s *state.Status) {
		change(s)
		s.TrialEnds = time.Time{}
		if !b.trial.IsZero() { // the clock may have been set since
			s.TrialEnds = now.Add(b.trial.Sub(now)).UTC().Truncate(time.Second)
		}
		headline = statusview.Headline(s)
		next = b.life.limits.of(s, now)
	})
	if headline != b.headline {
		b.headline = headline
		systemd.Status(headline)
	}
	b.life.beat(time.Now(), next)
}

// tryUntil shows that the system is on trial until then; zero takes that back.
func (b *board) tryUntil(end time.Time) {
	b.mu.Lock()
	b.trial = end
	b.mu.Unlock()
	b.Update(func(*state.Status) {})
}

// nobody is a board that nobody looks at.
type nobody struct{}

func (nobody) Update(func(*state.Status)) {}

func nowUTC() time.Time { return time.Now().UTC() }
