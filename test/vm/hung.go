package main

import (
	"context"

	"github.com/xpu-sztp/ztp/test/vm/machine"
)

// hung has the new image's first process freeze. Nothing but the watchdog can end that.
func hung(ctx context.Context, r *rig) error {
	// A crash of systemd has it freeze, by default; nobody tells the watchdog that all is well from then on.
	image, err := r.newImage(ctx, "2.0.0", map[string]string{"at-boot": "#!/bin/sh\nkill -SEGV 1\n"})
	if err != nil {
		return err
	}
	r.upgrade(image)
	if err := r.tries(ctx, "a", "1.0.0"); err != nil {
		return err
	}
	if err := r.powerOn(ctx); err != nil {
		return err
	}
	if err := r.runs(ctx, "b", "2.0.0"); err != nil {
		return err
	}
	if err := r.ends(ctx, machine.Watchdog); err != nil {
		return err
	}
	if err := r.powerOn(ctx); err != nil {
		return err
	}
	if err := r.fellBack(ctx); err != nil {
		return err
	}
	if err := r.repairs(ctx, "2.0.1"); err != nil {
		return err
	}
	return r.stays(ctx, "2.0.1")
}
