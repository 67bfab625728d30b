package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/xpu-sztp/ztp/pkg/progress"
	"github.com/xpu-sztp/ztp/pkg/state"
	"github.com/xpu-sztp/ztp/test/lab/event"
	"github.com/xpu-sztp/ztp/test/lab/files"
	"github.com/xpu-sztp/ztp/test/vm/machine"
)

// disabled has a person keep the agent off the device while it writes an image, and change their mind after a reboot.
func disabled(ctx context.Context, r *rig) error {
	image, err := r.newImage(ctx, "2.0.0", nil)
	if err != nil {
		return err
	}
	r.upgrade(image)
	half, goOn := make(chan struct{}), make(chan struct{})
	r.lab.Files.Misbehave(imageName("2.0.0"), files.Fault{Times: 1, Amid: func() {
		close(half)
		<-goOn
	}})
	if err := r.powerOn(ctx); err != nil {
		return err
	}
	if err := r.runs(ctx, "a", "1.0.0"); err != nil {
		return err
	}
	select {
	case <-half:
	case <-ctx.Done():
		return fmt.Errorf("the image is not downloaded: %w", context.Cause(ctx))
	}
	_, err = r.sh(ctx, "ztp disable")
	close(goOn)
	if err != nil {
		return err
	}
	if err := r.isOff(ctx); err != nil {
		return err
	}
	if err := r.run.Shell.Send(ctx, "systemctl reboot"); err != nil {
		return err
	}
	if err := r.ends(ctx, machine.Reset); err != nil {
		return err
	}
	if err := r.powerOn(ctx); err != nil {
		return err
	}
	if err := r.runs(ctx, "a", "1.0.0"); err != nil {
		return fmt.Errorf("after ztp disable: %w", err)
	}
	if err := r.isOff(ctx); err != nil {
		return err
	}
	if _, err := r.sh(ctx, "ztp enable && ztp run"); err != nil {
		return err
	}
	if err := r.ends(ctx, machine.Reset); err != nil {
		return err
	}
	if err := r.powerOn(ctx); err != nil {
		return err
	}
	if err := r.completes(ctx, "b", "2.0.0"); err != nil {
		return err
	}
	return r.startsAnew(ctx)
}

// isOff wants no agent to run on a disabled device, whose old system is the one that boots.
func (r *rig) isOff(ctx context.Context) error {
	if _, err := r.sh(ctx, "systemctl is-system-running --wait; ! systemctl -q is-active ztp.service && ! busybox pidof ztp"); err != nil {
		return fmt.Errorf("an agent runs on a disabled device: %w", err)
	}
	if n := len(r.log.Find(r.since(event.Is(event.Report, "progress-type", string(progress.BootImageInstalledRebooting))))); n > 0 {
		return errors.New("the image was installed although the device is disabled")
	}
	s, err := r.status(ctx)
	if err == nil && (s.Enabled || s.ExitCode() != state.ExitDisabled) {
		err = fmt.Errorf("the status of a disabled device: enabled %v, exit code %d", s.Enabled, s.ExitCode())
	}
	return err
}

// startsAnew has a person provision a device again.
func (r *rig) startsAnew(ctx context.Context) error {
	complete := func(e event.Event) bool {
		return event.Is(event.Report, "progress-type", string(progress.BootstrapComplete))(e)
	}
	before := len(r.log.Find(complete))
	began := time.Now()
	if _, err := r.sh(ctx, "ztp run"); err != nil {
		return err
	}
	if _, err := r.await(ctx, func(e event.Event) bool { return e.At.After(began) && complete(e) }); err != nil {
		return fmt.Errorf("ztp run does not provision a device again: %w", err)
	}
	if after := len(r.log.Find(complete)); after != before+1 {
		return fmt.Errorf("bootstrap-complete was reported %d times, want %d", after, before+1)
	}
	s, err := r.done(ctx)
	if err == nil && s.Outcome != state.OutcomeProvisioned {
		err = fmt.Errorf("after ztp run the outcome is %q", s.Outcome)
	}
	return err
}
