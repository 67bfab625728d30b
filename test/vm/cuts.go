package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"github.com/xpu-sztp/ztp/pkg/progress"
	"github.com/xpu-sztp/ztp/test/lab/event"
	"github.com/xpu-sztp/ztp/test/lab/files"
	"github.com/xpu-sztp/ztp/test/vm/machine"
)

// patient has an image installed as often as the power fails.
const patient = "attempts = 100"

// slotB is where the partition root-b begins, in bytes, as scripts/image/debian/disk places it.
const slotB = (1 + 64 + 96) << 20

// powerCuts has the power fail three times at random instants of an installation, and the disk lose what it was not told to keep.
// Each time the device boots again, and in the end it is provisioned.
func powerCuts(seed uint64) func(context.Context, *rig) error {
	return func(ctx context.Context, r *rig) error {
		path, err := r.makeImage(ctx, "2.0.0", nil)
		if err != nil {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		r.upgrade(r.publish("2.0.0", content))
		c := &cutter{rig: r, random: rand.New(rand.NewPCG(seed, seed)), image: content}
		if err := r.powerOn(ctx); err != nil {
			return err
		}
		for _, step := range []func(context.Context) error{c.amidInstallation, c.whenAnnounced, c.onTrial, c.settles} {
			if err := step(ctx); err != nil {
				return fmt.Errorf("seed %d: %w", seed, err)
			}
		}
		return nil
	}
}

// cutter cuts the power.
type cutter struct {
	*rig
	random *rand.Rand
	image  []byte
}

// amidInstallation cuts the power at some byte of the download, or while the image is being completed.
func (c *cutter) amidInstallation(ctx context.Context) error {
	if err := c.runs(ctx, "a", "1.0.0"); err != nil {
		return err
	}
	limit, later := int64(c.random.Float64()*float64(len(c.image))), 0.0
	if c.random.IntN(2) == 0 {
		limit, later = int64(len(c.image)), c.random.Float64()*3
	}
	if err := c.downloaded(ctx, limit); err != nil {
		return err
	}
	if err := c.pass(ctx, later); err != nil {
		return err
	}
	if err := c.cut("amid the installation, %.1f s after byte %d", later, limit); err != nil {
		return err
	}
	return c.powerOn(ctx)
}

// whenAnnounced cuts the power when the server has just been told that the image is installed. From then on it is on the disk, and
// what boots.
func (c *cutter) whenAnnounced(ctx context.Context) error {
	if c.announced() { // before the first cut already
		return nil
	}
	if err := c.runs(ctx, "a", "1.0.0"); err != nil {
		return err
	}
	if err := c.reported(ctx, string(progress.BootImageInstalledRebooting)); err != nil {
		return err
	}
	if err := c.pass(ctx, c.random.Float64()/2); err != nil {
		return err
	}
	if err := c.cut("when the reboot was announced"); err != nil {
		return err
	}
	if err := c.checkSlot(ctx); err != nil {
		return err
	}
	return c.powerOn(ctx)
}

// onTrial cuts the power somewhere between the boot loader and the end of the trial.
func (c *cutter) onTrial(ctx context.Context) error {
	later := 3 + 30*c.random.Float64()
	if c.random.IntN(2) == 0 {
		if err := c.runs(ctx, "b", "2.0.0"); err != nil {
			return err
		}
		later = 10 * c.random.Float64()
	}
	if err := c.pass(ctx, later); err != nil {
		return err
	}
	if err := c.cut("on trial, after %.1f s", later); err != nil {
		return err
	}
	return c.powerOn(ctx)
}

// maxBoots bounds how often the device may start until it is provisioned: it may fall back, install and try again.
const maxBoots = 4

// settles follows the device, whichever slot it starts, until it is provisioned and has said so.
func (c *cutter) settles(ctx context.Context) error {
	for range maxBoots {
		slot, err := c.comesUp(ctx)
		if err != nil {
			return err
		}
		if slot == "a" {
			if err := c.ends(ctx, machine.Reset); err != nil {
				return err
			}
			if err := c.powerOn(ctx); err != nil {
				return err
			}
			continue
		}
		if _, err := c.sh(ctx, "until ztp status >/dev/null && ! systemctl -q is-active ztp.service; do sleep 0.5; done"); err != nil {
			return err
		}
		if len(c.log.Find(event.Is(event.Report, "progress-type", string(progress.BootstrapComplete), "status", "204"))) == 0 {
			return errors.New("the device is provisioned, and no server knows")
		}
		return c.good(ctx, "b")
	}
	return fmt.Errorf("the device is not provisioned after %d boots", maxBoots)
}

// pass lets the machine run for some seconds: what it does meanwhile is what is to be interrupted.
func (c *cutter) pass(ctx context.Context, seconds float64) error {
	select {
	case <-time.After(time.Duration(seconds * float64(time.Second))):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// downloaded waits until so many bytes of the image were sent in one answer, or as many as there are to send.
func (c *cutter) downloaded(ctx context.Context, limit int64) error {
	reached := make(chan struct{})
	var once sync.Once
	c.lab.Files.Misbehave(imageName("2.0.0"), files.Fault{Pace: func(sent int64) {
		if sent >= limit {
			once.Do(func() { close(reached) })
		}
	}})
	defer c.lab.Files.Behave()
	select {
	case <-reached:
		return nil
	case <-c.run.Ended():
		return errors.New("the machine ended before it had the image")
	case <-ctx.Done():
		return fmt.Errorf("the image is not downloaded: %w", context.Cause(ctx))
	}
}

// cut cuts the power. Of what the disk was not told to keep, it keeps nothing, all, or some.
func (c *cutter) cut(format string, args ...any) error {
	c.log.Add("lab", event.Reboot, nil, "power cut "+format, args...)
	share := float64(c.random.IntN(3)) / 2
	lost, err := c.run.Cut(func() bool { return c.random.Float64() < share })
	c.ended(machine.Cut)
	c.log.Add("lab", event.Reboot, nil, "the disk lost %d writes", lost)
	return err
}

// announced reports whether the last that the server was told of an image is that it is installed.
func (c *cutter) announced() bool {
	is := false
	for _, report := range c.lab.Bootstrap.Reports() {
		switch progress.Type(report.Type) {
		case progress.BootImageInstalledRebooting:
			is = true
		case progress.BootImageInitiated:
			is = false
		}
	}
	return is
}

// checkSlot wants the image in the new slot, and its boot entry in the boot loader's folder, on the disk as it is while the power
// is off.
func (c *cutter) checkSlot(ctx context.Context) error {
	entries, err := output(ctx, "mdir", "-b", "-i", c.machine.Disk+"@@1M", "::/loader/entries")
	if err != nil {
		return err
	}
	if !bytes.Contains(entries, []byte("ztp-b+1-1.conf")) {
		return fmt.Errorf("the server was told that the image is installed, and after a power cut the boot loader does not know of it: %q", entries)
	}
	disk, err := os.Open(c.machine.Disk)
	if err != nil {
		return err
	}
	defer disk.Close()
	have := make([]byte, len(c.image))
	if _, err := io.ReadFull(io.NewSectionReader(disk, slotB, int64(len(have))), have); err != nil {
		return err
	}
	if !bytes.Equal(have, c.image) {
		return errors.New("the server was told that the image is installed, and after a power cut it is not on the disk")
	}
	return nil
}
