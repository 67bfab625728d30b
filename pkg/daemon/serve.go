package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/xpu-sztp/ztp/pkg/config"
	"github.com/xpu-sztp/ztp/pkg/onboard"
	"github.com/xpu-sztp/ztp/pkg/privsep"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/state"
	"github.com/xpu-sztp/ztp/pkg/storage"
	"github.com/xpu-sztp/ztp/systemd"
	"github.com/xpu-sztp/ztp/tpm"
)

// ServeOptions says for whom privileges are used.
type ServeOptions struct {
	Options
	// Client is the user whom the daemon runs as (privsep.Server).
	Client uint32
	// Idle is how long the process waits for a request.
	Idle time.Duration
}

// Serve does what needs privileges for a daemon whose Options.Onboard is the address of l: it undoes what an interrupted session
// has left, and then answers requests until nobody has any, or ctx ends.
func Serve(ctx context.Context, o ServeOptions, l *net.UnixListener) error {
	paths, err := config.NewPaths(o.Root)
	if err != nil {
		return err
	}
	defer systemd.Stopping()
	systemd.Ready()
	h := &privileged{Options: o.Options, paths: paths}
	// Whoever asks hears of it again.
	if err := h.Recover(ctx); err != nil {
		o.Logger.Error("what an interrupted session has left is not undone", "error", err)
	}
	settle()
	server := &privsep.Server{Handler: h, Logger: o.Logger, Client: o.Client, Version: o.Version, Idle: o.Idle}
	err = server.Serve(ctx, l)
	return errors.Join(err, h.alone(func(d *daemon) error {
		cfg, _, invalid := d.prepare()
		d.rest(ctx, cfg, invalid)
		return nil
	}))
}

// privileged is the part of a daemon that changes the device, for another process. It reads the configuration anew for each
// request, as that may have been provisioned.
type privileged struct {
	Options
	paths config.Paths
}

var _ privsep.Handler = (*privileged)(nil)

// alone calls f with the durable record while no other process changes the device.
func (p *privileged) alone(f func(*daemon) error) error {
	store, unlock, err := openStore(p.paths)
	if err != nil {
		return err
	}
	defer unlock()
	return f(&daemon{Options: p.Options, paths: p.paths, store: store})
}

// Recover is that of a daemon.
func (p *privileged) Recover(ctx context.Context) error {
	return p.alone(func(d *daemon) error {
		cfg, _, invalid := d.prepare()
		return d.recover(ctx, cfg, invalid)
	})
}

// Change makes a change of the record. Whether a session may begin because the device is on another network is up to the
// configuration, and how often.
func (p *privileged) Change(c state.Change) (record *state.Record, err error) {
	err = p.alone(func(d *daemon) error {
		if record, err = d.store.Load(); err != nil || c.Kind == "" {
			return err
		}
		if c.Kind == state.ChangeMove || c.Kind == state.ChangeLearn {
			cfg, _, invalid := d.prepare()
			now := time.Now()
			switch {
			case !d.watches(cfg, invalid, record):
				return notAllowed(c.Kind, "the configuration does not have the device look for another network", nil)
			case c.Kind == state.ChangeMove && spacing(record.Moved, now, cfg.Reprovision.SessionsPerDay).After(now):
				return notAllowed(c.Kind, "the next session may not begin yet", nil)
			}
		}
		record, err = applied(d.store, c)
		if errors.Is(err, state.ErrChange) {
			err = notAllowed(c.Kind, "not now", err)
		}
		return err
	})
	return record, err
}

func notAllowed(kind state.ChangeKind, why string, err error) error {
	return &reason.Error{Code: privsep.CodeRefused, Msg: fmt.Sprintf("the record is not changed (%q): %s", kind, why), Err: err}
}

// Execute judges what is to be executed by this process's own configuration, identity and clock, and executes it.
func (p *privileged) Execute(ctx context.Context, o privsep.Order, r onboard.Request, board onboard.Board) (outcome onboard.Outcome, err error) {
	err = p.alone(func(d *daemon) error {
		cfg, plan, err := d.prepare()
		if err != nil {
			return err
		}
		if err := d.inSession(); err != nil {
			return err
		}
		opening, cancel := context.WithTimeout(ctx, identityTimeout)
		id, err := tpm.Open(opening, IdentityOptions(cfg))
		cancel()
		if err != nil {
			return err
		}
		defer id.Close()
		policy := policyOf(cfg)
		policy.Clock = cfg.ClockAt(time.Now(), id.Chain[0].NotBefore)
		conveyed, err := o.Proof.Judge(plan.wellKnown, ArtifactsFor(id), policy)
		if err != nil {
			return err
		}
		if conveyed.Onboarding == nil {
			return &reason.Error{Code: onboard.ReasonUntrusted, Msg: "redirect information is not executed"}
		}
		r.Info, r.Warnings = conveyed.Onboarding, conveyed.Warnings
		if o.Proof.Server == nil {
			r.Reporter = nil
			if o.Stick != nil {
				part, err := removable(p.paths).External(*o.Stick)
				if err != nil {
					return err
				}
				r.Files = removable(p.paths).Files(part)
			}
		}
		facts := cfg.Facts()
		options := d.onboardOptions(cfg, board, state.Device{HWModel: facts.HWModel, OSName: facts.OSName, OSVersion: facts.OSVersion})
		options.Signatures = signatures(cfg, id.Chain[0].NotBefore)
		outcome, err = onboard.New(options).Execute(ctx, r)
		return err
	})
	return outcome, err
}

// inSession returns nil when the record has a session for which something may be executed.
func (d *daemon) inSession() error {
	record, err := d.store.Load()
	switch {
	case err != nil:
		return err
	case !record.Enabled:
		return &reason.Error{Code: CodeDisabled, Msg: "provisioning is disabled on this device", Fix: "turn it on with `ztp enable`"}
	case record.Session == nil, record.Outcome == state.OutcomeProvisioned && !record.Session.Moved:
		return &reason.Error{Code: privsep.CodeRefused, Msg: "nothing is executed on a device without a session",
			Fix: "`ztp run` begins one"}
	}
	return nil
}

// Partitions is that of storage.System, for a disk that is there.
func (p *privileged) Partitions(key string) ([]storage.Partition, error) {
	system := removable(p.paths)
	for _, d := range system.Disks() {
		if d.Key() == key {
			return system.Partitions(d)
		}
	}
	return nil, &reason.Error{Code: storage.CodeUnreadable, Msg: "the disk is not there any more", Fix: "plug it in again"}
}

// Open mounts a part of removable storage to open one of its files.
func (p *privileged) Open(part storage.Partition, path string) (*os.File, error) {
	system := removable(p.paths)
	part, err := system.External(part)
	if err != nil {
		return nil, err
	}
	v, err := system.Mount(part)
	if err != nil {
		return nil, err
	}
	defer v.Close()
	if path == "" {
		return nil, nil
	}
	return v.Open(path)
}

// Trial begins the time of what runs on trial, if nobody has yet.
func (p *privileged) Trial(ctx context.Context) (trial onboard.Trial, left time.Duration, err error) {
	err = p.alone(func(d *daemon) error {
		cfg, _, err := d.prepare()
		if err == nil {
			trial, left, err = d.trial(ctx, cfg)
		}
		return err
	})
	return trial, left, err
}

// Expire ends a trial whose time is over.
func (p *privileged) Expire(ctx context.Context, last *state.Reason) error {
	return p.alone(func(d *daemon) error {
		cfg, _, err := d.prepare()
		if err != nil {
			return err
		}
		return d.expire(ctx, cfg, last)
	})
}
