// Package slot installs images into A/B slots and tells the boot loader which slot to try next. There is one interface,
// Backend, for every way a device can keep two systems; whatever the back end, the slot that runs and the last slot known
// to be good are never written to, an image is bootable only after what the storage holds was read back and found equal
// to what was demanded, and a new slot is tried once: unless it is marked good while it runs, the boot loader returns to
// the good one by itself.
package slot

import (
	"context"
	"io"
	"time"

	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/slot/media"
	"github.com/xpu-sztp/ztp/pkg/slot/unpack"
)

// Reasons why a slot could not be used.
const (
	CodeUnavailable             = media.CodeUnavailable // the slots cannot be read, or say something impossible
	CodeInTrial     reason.Code = "slot-in-trial"       // the running slot is not good yet, and the other one is the fallback
	CodeInUse                   = media.CodeInUse
	CodeReadOnly                = media.CodeReadOnly
	CodeTooSmall                = media.CodeTooSmall
	CodeWriteFailed             = media.CodeWriteFailed
	CodeReadBack                = media.CodeReadBack
	CodeNotReady    reason.Code = "slot-not-ready"    // the slot to activate holds no verified image
	CodeNotBootable reason.Code = "slot-not-bootable" // the boot loader found nothing to start
)

// Backend is one way of keeping two systems on a device. Slots are named by the back end; the names mean nothing outside
// it. Only one process may use a back end at a time. Errors are *reason.Error.
type Backend interface {
	// Describe tells what the slots hold and which of them runs.
	Describe(ctx context.Context) (Description, error)
	// Open makes the inactive slot unbootable and opens it for a new image. It refuses while the running slot is on
	// trial, because the inactive one is then the only one to fall back to; a reboot ends the trial. What must not be
	// overwritten, such as a mounted device, is refused here too.
	Open(ctx context.Context) (Writer, error)
	// Activate has the boot loader try the inactive slot once, at the next boot. It must hold a committed image.
	Activate(ctx context.Context) error
	// Deactivate takes an Activate back: the inactive slot is not tried, and a slot that runs on trial not once more. It does
	// nothing when there was none.
	Deactivate(ctx context.Context) error
	// MarkGood makes the running slot the one that boots from now on. It may be called any number of times.
	MarkGood(ctx context.Context) error
}

// Description is what a back end knows about its slots.
type Description struct {
	Running  string // the slot that runs
	Target   string // the slot that the next image goes to
	Good     string // the slot that boots unless Next says otherwise
	Next     string // the slot to be tried at the next boot; empty when there is none
	Tries    int    // how often Next, or the running slot on trial, may still be started; 0 where that is not known
	Contents map[string]Image
}

// Trial reports whether the running slot was not marked good yet.
func (d Description) Trial() bool { return d.Running != d.Good }

// Image is a committed image in a slot.
type Image struct {
	SHA256  []byte        // of what was downloaded; 32 bytes
	Size    int64         // bytes, as downloaded
	Written int64         // bytes, as written
	Format  unpack.Format // of what was downloaded
	At      time.Time     // when it was committed
}

// Writer takes an image, front to back. Those of an AB are image.Sizer and image.Checkpointer too. It is not safe for
// concurrent use.
type Writer interface {
	io.Writer
	// Slot is the name of the slot being written.
	Slot() string
	// Reset discards what was written so far; the next Write is the start of the image.
	Reset() error
	// Commit forces the image to the storage, reads it back from there, and makes the slot fit for Activate when that is what
	// was written. sum is the SHA-256 that all the bytes written were found to have.
	Commit(ctx context.Context, sum []byte) error
	// Close releases the slot. What was not committed never becomes bootable.
	Close() error
}

func fail(code reason.Code, msg, fix string, err error) error {
	return &reason.Error{Code: code, Msg: msg, Fix: fix, Err: err}
}
