package daemon

import (
	"context"
	"time"

	"github.com/xpu-sztp/ztp/pkg/agent"
	"github.com/xpu-sztp/ztp/pkg/config"
	"github.com/xpu-sztp/ztp/pkg/onboard"
	"github.com/xpu-sztp/ztp/pkg/privsep"
	"github.com/xpu-sztp/ztp/pkg/source"
	"github.com/xpu-sztp/ztp/pkg/state"
	"github.com/xpu-sztp/ztp/pkg/storage"
	"github.com/xpu-sztp/ztp/tpm"
)

// changeTimeout bounds a change of the record when the session has ended. Before that, a change waits until what is left of an
// earlier session has been undone.
const changeTimeout = 30 * time.Second

// open finds the durable record, or the process that has it. unlock lets others change the device.
func (d *daemon) open() (unlock func(), err error) {
	if d.Onboard != "" {
		d.far = &privsep.Client{Socket: d.Onboard, Version: d.Version, Logger: d.Logger}
		return func() {}, nil
	}
	d.store, unlock, err = openStore(d.paths)
	return unlock, err
}

// openStore returns the durable record for the one process that may change the device: the daemon of the run folder may have
// gone while the privileged process still undoes what it did.
func openStore(paths config.Paths) (*state.Store, func(), error) {
	store, err := state.Open(paths.State)
	if err != nil {
		return nil, nil, err
	}
	store.As(paths.Release())
	lock, err := state.LockDaemon(paths.State)
	if err != nil {
		return nil, nil, err
	}
	return store, func() { lock.Unlock() }, nil
}

// record returns the durable record, without what was done to the device where another process does that.
func (d *daemon) record(ctx context.Context) (*state.Record, error) {
	if d.far == nil {
		return d.store.Load()
	}
	return d.change(ctx, state.Change{})
}

// change makes a change of the durable record, also after the end of ctx, and returns the record after it.
func (d *daemon) change(ctx context.Context, c state.Change) (*state.Record, error) {
	if d.far == nil {
		return applied(d.store, c)
	}
	if ctx.Err() != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), changeTimeout)
		defer cancel()
	}
	return d.far.Change(ctx, c)
}

func applied(store *state.Store, c state.Change) (record *state.Record, err error) {
	err = store.Update(func(r *state.Record) error {
		record = r
		return c.Apply(r, time.Now())
	})
	return record, err
}

// onboarder executes what the session finds.
func (d *daemon) onboarder(cfg *config.Config, id *tpm.Identity, device state.Device) agent.Onboarder {
	if d.far != nil {
		return &privsep.Onboarder{Client: d.far, Board: d.board}
	}
	options := d.onboardOptions(cfg, d.board, device)
	options.Signatures = signatures(cfg, id.Chain[0].NotBefore)
	return onboard.New(options)
}

// devices is the machine's removable storage.
func (d *daemon) devices() source.Devices {
	if d.far != nil {
		return &privsep.Devices{Client: d.far, System: removable(d.paths)}
	}
	return removable(d.paths)
}

func removable(paths config.Paths) *storage.System {
	return &storage.System{Sys: paths.Below("/sys"), Dev: paths.Below("/dev")}
}
