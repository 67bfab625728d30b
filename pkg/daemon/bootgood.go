package daemon

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/xpu-sztp/ztp/pkg/config"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/slot"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// CodeNotGood says that nobody is going to find the running system good.
const CodeNotGood reason.Code = "boot-not-good"

const (
	// bootLook is how often the record is looked at, whose file tells whether it has changed.
	bootLook = time.Second
	// slotsLook is how often the slots are looked at even so; external tools are run for that.
	slotsLook = 30 * time.Second
)

// AwaitGood returns nil when the running system may be called good: when it is not on trial, or as soon as the session has made
// its slot the good one. It is an error when nobody is going to do that. It changes nothing.
func AwaitGood(ctx context.Context, o Options) error {
	paths, err := config.NewPaths(o.Root)
	if err != nil {
		return err
	}
	store, err := state.Open(paths.State)
	if err != nil {
		return err
	}
	d := &daemon{Options: o, paths: paths, store: store}
	if _, _, err := d.prepare(); err != nil {
		return err
	}
	var seen fs.FileInfo
	var looked time.Time
	for told := false; ; {
		info, _ := os.Stat(paths.Below("/var/lib/ztp/state.json"))
		unchanged := info != nil && seen != nil && os.SameFile(info, seen) && info.ModTime().Equal(seen.ModTime())
		if !unchanged || time.Since(looked) >= slotsLook {
			seen, looked = info, time.Now()
			done, err := d.bootIsGood(ctx)
			if done {
				return err
			}
			if !told {
				told = true
				o.Logger.Info("the system runs on trial: it is called good when the server has acknowledged the end")
			}
		}
		if err := pauseFor(ctx, bootLook); err != nil {
			return err
		}
	}
}

// bootIsGood looks at the record and the slots.
func (d *daemon) bootIsGood(ctx context.Context) (done bool, err error) {
	record, err := d.store.Load()
	if err != nil {
		return true, err
	}
	if d.slots == nil {
		return true, nil
	}
	is, err := d.slots.Describe(ctx)
	if err != nil {
		d.Logger.Warn("the slots cannot be looked at", "error", err)
		return !record.OnTrial() && !owed(record), nil
	}
	return judgeBoot(record, is)
}

// judgeBoot decides whether the running system may be called good, must not be, or is waited for.
func judgeBoot(r *state.Record, is slot.Description) (done bool, err error) {
	if !is.Trial() {
		return true, nil
	}
	var image state.ImageState
	for _, i := range r.Images {
		if i.Slot == is.Running {
			image = i.State
		}
	}
	switch {
	case image == state.ImageNone: // of somebody else's making, whose business it is
		return true, nil
	case image == state.ImageGood: // acknowledged; the boot loader is being told
		return false, nil
	case r.Enabled || r.Session != nil && r.Session.FlagCleared: // there is a session, or there will be
		return false, nil
	}
	return true, &reason.Error{
		Code: CodeNotGood, Msg: fmt.Sprintf("slot %s runs on trial, and provisioning is disabled: nobody is going to find it good", is.Running),
		Fix: "turn it on with `ztp enable`, or reboot the device: it returns to slot " + is.Good,
	}
}

// owed reports whether an image was acknowledged of which the boot loader may not know yet.
func owed(r *state.Record) bool {
	for _, i := range r.Images {
		if i.State == state.ImageGood && i.Slot != "" {
			return true
		}
	}
	return false
}
