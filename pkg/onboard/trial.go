package onboard

import (
	"context"
	"fmt"
	"time"

	"github.com/xpu-sztp/ztp/pkg/slot"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// Trial is what runs on trial: an image of this device's that nobody has acknowledged yet. The zero value is none.
type Trial struct {
	Image string // its SHA-256 in hexadecimal
	Slot  string // in which it runs
	Good  string // the slot to return to
}

// Trial tells what runs on trial. What somebody else installed is their business.
func (e *Executor) Trial(ctx context.Context) (Trial, error) {
	if e.Slots == nil {
		return Trial{}, nil
	}
	r, d, err := e.seen(ctx)
	if err != nil {
		return Trial{}, err
	}
	return trialOf(r, d), nil
}

// trialOf returns what runs on trial and is not acknowledged.
func trialOf(r *state.Record, d slot.Description) Trial {
	key := imageIn(r, d.Running)
	switch r.Images[key].State {
	case state.ImageWritten, state.ImageActivated, state.ImageTrial, state.ImageRunning, state.ImageFellBack, state.ImageRefused:
		if d.Trial() {
			return Trial{Image: key, Slot: d.Running, Good: d.Good}
		}
	}
	return Trial{}
}

// Expire ends a trial whose time is over, after what it was given: the device reboots into the good slot, where the image has
// fallen back and the next session tells the server why. last is why there was no end so far; it may be nil. When it returns
// nil, the reboot was asked for; when there is no such trial any more, it does nothing.
func (e *Executor) Expire(ctx context.Context, t Trial, after time.Duration, last *state.Reason) error {
	r, d, err := e.seen(ctx)
	if err != nil || trialOf(r, d) != t {
		return err
	}
	if _, err := findImage(r.Images[t.Image].State, expire); err != nil { // no session had come to look at it
		if _, _, err := e.move(t.Image, started, nil); err != nil {
			return err
		}
	}
	why := &state.Reason{Code: string(ReasonImageExpired), At: e.Now().UTC(),
		Message: fmt.Sprintf("slot %s ran with it on trial for %v without an end that the server acknowledged", t.Slot, after)}
	if last != nil {
		why.Message += "; the last failure: " + clean(limitText(last.Message)) + " [" + clean(limitText(last.Code)) + "]"
	}
	e.Logger.Warn("the trial is over", "slot", t.Slot, "after", after.String(), "returns_to", t.Good)
	do, _, err := e.move(t.Image, expire, func(i *state.ImageRecord) { i.Reason = why })
	if err != nil {
		return err
	}
	e.settle() // what was undone on this system shall not come back by the way it is left
	return e.perform(ctx, do)
}
