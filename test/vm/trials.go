package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/xpu-sztp/ztp/pkg/progress"
	"github.com/xpu-sztp/ztp/test/lab/event"
	"github.com/xpu-sztp/ztp/test/vm/machine"
)

// once has an image refused after its first failure.
const once = "attempts = 1"

// unbootable has the owner publish something that no boot loader can start. The device returns to what it had, tells the server,
// leaves that image alone, and is provisioned with the repaired one.
func unbootable(ctx context.Context, r *rig) error {
	noise := make([]byte, 4<<20)
	if _, err := rand.Read(noise); err != nil {
		return err
	}
	r.upgrade(r.publish("2.0.0", noise))
	if err := r.tries(ctx, "a", "1.0.0"); err != nil {
		return err
	}
	if err := r.powerOn(ctx); err != nil {
		return err
	}
	// GRUB finds no kernel in the slot, and starts the other one at once; systemd-boot has the kernel elsewhere, which finds no
	// root file system.
	if r.loader != grub {
		if _, err := r.await(ctx, says(console, "holds no system; resetting")); err != nil {
			return err
		}
		if err := r.ends(ctx, machine.Reset); err != nil {
			return err
		}
		if err := r.powerOn(ctx); err != nil {
			return err
		}
	}
	if err := r.fellBack(ctx); err != nil {
		return err
	}
	return r.repairs(ctx, "2.0.1")
}

// tries powers the device on, which installs an image and resets.
func (r *rig) tries(ctx context.Context, slot, version string) error {
	if err := r.powerOn(ctx); err != nil {
		return err
	}
	if err := r.runs(ctx, slot, version); err != nil {
		return err
	}
	return r.ends(ctx, machine.Reset)
}

// fellBack follows the old system after a trial that failed: it tells the server, refuses the image, and does not fetch it again.
func (r *rig) fellBack(ctx context.Context) error {
	if err := r.runs(ctx, "a", "1.0.0"); err != nil {
		return fmt.Errorf("after the trial: %w", err)
	}
	if err := r.reported(ctx, string(progress.BootImageError)); err != nil {
		return err
	}
	s, err := r.status(ctx)
	if err != nil {
		return err
	}
	if s.Image == nil || s.Image.State != "refused" || s.Image.Reason == nil || s.Slots == nil || s.Slots.Good != "a" {
		return fmt.Errorf("the status after the trial: image %+v, slots %+v", s.Image, s.Slots)
	}
	again := r.log.Find(r.since(event.Is(event.Download, "path", "/"+imageName("2.0.0"))))
	if len(again) > 0 {
		return errors.New("the device downloads an image that it refuses")
	}
	return nil
}

// repairs has the owner publish another image, which the device finds by itself, and follows it into service.
func (r *rig) repairs(ctx context.Context, version string) error {
	image, err := r.newImage(ctx, version, nil)
	if err != nil {
		return err
	}
	r.upgrade(image)
	if err := r.ends(ctx, machine.Reset); err != nil {
		return err
	}
	if err := r.powerOn(ctx); err != nil {
		return err
	}
	if err := r.completes(ctx, "b", version); err != nil {
		return err
	}
	return r.checkReports([]progress.Type{
		progress.BootImageInstalledRebooting, progress.BootImageError, progress.BootImageInstalledRebooting,
		progress.BootImageComplete, progress.BootstrapComplete,
	})
}
