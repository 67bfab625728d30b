package daemon

import (
	"context"
	"maps"
	"slices"

	"github.com/xpu-sztp/ztp/pkg/config"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// rest leaves word for systemd when a daemon that is started at boot would find nothing to do, so that none is. invalid is what
// is wrong with the configuration: nobody knows then what the next daemon finds. It is up to the process that has the record.
func (d *daemon) rest(ctx context.Context, cfg *config.Config, invalid error) {
	if invalid != nil || d.store == nil {
		return
	}
	blessed := d.blessed(context.WithoutCancel(ctx), cfg)
	err := d.store.Rest(func(r *state.Record) bool { return idle(r, cfg.Reprovision.Policy, blessed) })
	if err != nil {
		d.Logger.Warn("the daemon is started at the next boot although it has nothing to do", "error", err)
	}
}

// idle decides whether a daemon that finds the record would end without having done anything. policy is that of
// reprovisioning; blessed says that the boot loader need not be told of a system that was found good.
func idle(r *state.Record, policy string, blessed bool) bool {
	provisioned := r.Outcome == state.OutcomeProvisioned
	switch {
	case len(r.Journal) > 0: // there is something to undo
		return false
	case r.Enabled && (!provisioned || r.Session != nil || policy != "never"):
		return false
	}
	return blessed || !provisioned && !slices.ContainsFunc(slices.Collect(maps.Values(r.Images)), func(i state.ImageRecord) bool {
		return i.State == state.ImageGood
	})
}

// blessed reports whether the boot loader knows that the running system is good, and need not be told so at every boot.
func (d *daemon) blessed(ctx context.Context, cfg *config.Config) bool {
	if d.slots == nil {
		return true
	}
	if cfg.Image.Installer == "command" && toolOf(cfg.Command).EachBoot {
		return false
	}
	is, err := d.slots.Describe(ctx)
	return err == nil && !is.Trial()
}
