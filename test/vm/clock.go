package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/progress"
	"github.com/xpu-sztp/ztp/test/lab/artifact"
	"github.com/xpu-sztp/ztp/test/lab/event"
)

// wrongClock has a device whose clock is decades behind be provisioned with scripts and configuration, by data whose certificates
// are not valid yet by that clock. That clock is no reason to believe everything: at first the voucher is for another device.
func wrongClock(ctx context.Context, r *rig) error {
	r.upgrade(nil)
	r.lab.MASA.Modify(func(v *artifact.Voucher) { v.SerialNumber = "VM-999999" })
	if err := r.powerOn(ctx); err != nil {
		return err
	}
	refused := says(console, "reason="+string(artifacts.CodeVoucherSerial))
	e, err := r.await(ctx, func(e event.Event) bool { return refused(e) || e.Kind == event.Report })
	if err != nil || !refused(e) {
		return fmt.Errorf("a voucher for another device is not refused: %w", cmp.Or(err, errors.New("the server got a report: "+e.Text)))
	}
	r.lab.MASA.Modify(nil)
	if err := r.completes(ctx, "a", "1.0.0"); err != nil {
		return err
	}
	// systemd moves a clock that is before its own release to that time.
	if e, err = r.await(ctx, func(e event.Event) bool { return e.Kind == event.PowerOn }); err != nil {
		return err
	}
	seconds, err := strconv.ParseInt(e.Attrs["clock"], 10, 64)
	if err != nil {
		return err
	}
	if now := time.Unix(seconds, 0); now.After(r.lab.Owner.Root.Certificate.NotBefore) {
		return fmt.Errorf("the clock says %v, which is not wrong", now)
	}
	return r.checkReports([]progress.Type{progress.PreScriptComplete, progress.ConfigComplete, progress.PostScriptComplete, progress.BootstrapComplete})
}
