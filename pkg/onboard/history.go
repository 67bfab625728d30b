package onboard

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/xpu-sztp/ztp/pkg/image"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/slot"
	"github.com/xpu-sztp/ztp/pkg/state"
)

const (
	// maxImages bounds the history; the image that was touched longest ago is forgotten first.
	maxImages = 64
	// maxDownloads bounds the transfers in the status; the first ones make room for the last.
	maxDownloads = 32
)

func (s *session) imageKey() string { return hex.EncodeToString(s.boot.SHA256) }

// advance takes the demanded image over one transition: first in the record, then in fact.
func (s *session) advance(ctx context.Context, on event) error {
	do, known, err := s.move(s.imageKey(), on, func(i *state.ImageRecord) {
		i.OSName, i.OSVersion = s.boot.OSName, s.boot.OSVersion
		switch on {
		case fetch:
			i.Slot, i.Signer = s.slots.Target, ""
		case verified:
			i.Signer = s.signer
		}
	})
	if err != nil {
		return err
	}
	s.known = known
	s.showImage()
	switch do {
	case write:
		return s.write(ctx)
	}
	return s.perform(ctx, do)
}

// perform is where the boot loader is told anything, of which it is shown what it says then, and where the device is restarted.
func (e *Executor) perform(ctx context.Context, do effect) error {
	var err error
	switch do {
	case arm:
		err = e.Slots.Activate(ctx)
	case disarm:
		err = e.Slots.Deactivate(ctx)
	case bless:
		err = e.Slots.MarkGood(ctx)
	case restart:
		return e.reboot(ctx)
	case retreat:
		if err := e.perform(ctx, disarm); err != nil {
			e.warn("the boot loader may try the slot again that the device leaves", err)
		}
		return e.reboot(ctx)
	default:
		return nil
	}
	if d, unknown := e.Slots.Describe(ctx); err == nil && unknown == nil {
		e.showSlots(d)
	}
	return err
}

// move records a transition of an image, durably, and returns the effect it is to have. change makes further changes to the
// record; it may be nil. An empty key stands for what is not of our making, of which no record is kept.
func (e *Executor) move(key string, on event, change func(*state.ImageRecord)) (do effect, noted state.ImageRecord, err error) {
	err = e.Store.Update(func(r *state.Record) error {
		noted = r.Images[key]
		step, err := findImage(noted.State, on)
		if err != nil {
			return fmt.Errorf("image %s: %w", key, err)
		}
		do = step.do
		if key == "" {
			return nil
		}
		noted.State, noted.Updated = step.image(), e.Now().UTC()
		tally(&noted, on)
		if change != nil {
			change(&noted)
		}
		keep(r, key, noted)
		return nil
	})
	return do, noted, err
}

// tally counts an event.
func tally(i *state.ImageRecord, on event) {
	switch on {
	case verified:
		i.Attempts++
	case reboot, leave:
		i.Reboots++
	case expire:
		if i.Reason == nil || i.Reason.Code != string(ReasonImageExpired) { // not the same trial once more
			i.Expired++
		}
		i.Attempts = max(i.Attempts, i.Expired)
	case acknowledge:
		i.Attempts, i.Reboots, i.Expired, i.Reason = 0, 0, 0, nil
	case satisfied: // it works: if the boot loader returns to the old one some day, that is not its fault
		i.Attempts, i.Reboots, i.Reason = i.Expired, 0, nil
	case overwritten:
		i.Slot = ""
	}
	if i.State == state.ImageNone {
		i.Slot = ""
	}
}

// keep puts the record of an image into the history. There is one image in a slot at most.
func keep(r *state.Record, key string, noted state.ImageRecord) {
	if r.Images == nil {
		r.Images = make(map[string]state.ImageRecord)
	}
	for other, i := range r.Images {
		if other != key && i.Slot != "" && i.Slot == noted.Slot {
			if step, err := findImage(i.State, overwritten); err == nil {
				i.State = step.image()
			}
			i.Slot = ""
			r.Images[other] = i
		}
	}
	r.Images[key] = noted
	for len(r.Images) > maxImages {
		delete(r.Images, oldest(r.Images, key))
	}
}

// oldest is the image whose history is missed least: one that never counted for anything, or else the one that was touched
// longest ago.
func oldest(images map[string]state.ImageRecord, except string) (key string) {
	idle := func(i state.ImageRecord) bool {
		return i.Attempts == 0 && i.Reboots == 0 && i.Slot == "" && i.Reason == nil
	}
	for candidate, i := range images {
		switch {
		case candidate == except:
		case key == "", idle(i) && !idle(images[key]):
			key = candidate
		case idle(i) == idle(images[key]) && i.Updated.Before(images[key].Updated):
			key = candidate
		}
	}
	return key
}

// imageIn is the image whose bytes are in the slot, as the record has it; empty for none of ours.
func imageIn(r *state.Record, slot string) (key string) {
	for key, i := range r.Images {
		if slot != "" && i.Slot == slot {
			return key
		}
	}
	return ""
}

// refuseImage remembers that the image is of no use. An empty reason keeps the one that is remembered.
func (s *session) refuseImage(ctx context.Context, why string) error {
	if why != "" {
		because := &state.Reason{Code: string(ReasonImageRefused), Message: why, At: s.Now().UTC()}
		do, known, err := s.move(s.imageKey(), refuse, func(i *state.ImageRecord) {
			i.OSName, i.OSVersion, i.Reason = s.boot.OSName, s.boot.OSVersion, because
		})
		if err == nil {
			s.known = known
			err = s.perform(ctx, do)
		}
		if err != nil {
			return err
		}
	}
	s.showImage()
	why = "it was refused before"
	if s.known.Reason != nil {
		why = s.known.Reason.Message
	}
	return &reason.Error{
		Code: ReasonImageRefused,
		Msg:  fmt.Sprintf("the image with SHA-256 %s is refused: %s", s.imageKey(), why),
		Fix: fmt.Sprintf("publish a corrected image or correct os-name and os-version in boot-image; the same image is tried again on %s, "+
			"or at once after `ztp images --clear %.12s`", s.known.Updated.Add(state.RefusedFor).Format(time.RFC1123), s.imageKey()),
	}
}

// fellBackError tells of the trial of an image that came to nothing.
func (s *session) fellBackError() error {
	return &reason.Error{
		Code: ReasonImageFellBack,
		Msg: fmt.Sprintf("the image with SHA-256 %s did not last: %s (install %d of %d)",
			s.imageKey(), s.known.Reason.Message, s.known.Attempts, s.Image.Attempts),
		Fix: "see on the device's console why it does not start; the next session installs it again until there were " +
			"image.attempts of them, and then refuses it",
	}
}

// look brings the records of images up to date with what the slots say, and returns which of them fell back since the last
// look.
//
// An image whose name and version run, of which runs is the SHA-256, came up whatever the slots say: not every installer knows
// which slot runs.
func (e *Executor) look(ctx context.Context, runs string) (fallen []string, err error) {
	if e.Slots == nil {
		return nil, nil
	}
	r, d, err := e.seen(ctx)
	if err != nil {
		return nil, err
	}
	e.showSlots(d)
	if _, known := d.Contents[d.Running]; d.Trial() && !known && imageIn(r, d.Running) == "" {
		e.warn("slot "+d.Running+" runs on trial", errors.New("nothing is known of how its image got there; "+
			"if this device installed it, its systems do not share the folders of the agent's state and of image.slots"))
	}
	for key, i := range r.Images {
		for {
			on, ok := observed(key, i, d, e.Signatures != nil)
			if !ok {
				break
			}
			from := i.Slot
			if on == fellBack && key == runs {
				on = satisfied
			}
			_, i, err = e.move(key, on, func(i *state.ImageRecord) {
				switch on {
				case satisfied:
					i.Slot = d.Running
				case fellBack:
					i.Reason = fellBackReason(i.Reason, from, d.Running, e.Now())
				}
			})
			if err != nil {
				return fallen, err
			}
			e.Logger.Info("image", "sha256", key, "slot", from, "found", on)
			if on == fellBack {
				fallen = append(fallen, key)
				e.warn("an image did not last", errors.New(i.Reason.Message))
			}
		}
	}
	return fallen, nil
}

// fellBackReason tells why a trial came to nothing; before is what was known of that when it ended.
func fellBackReason(before *state.Reason, from, to string, now time.Time) *state.Reason {
	why := &state.Reason{Code: string(ReasonImageFellBack), At: now.UTC(),
		Message: fmt.Sprintf("slot %s was started with it, and the boot loader returned to slot %s", from, to)}
	if before != nil && before.Code == string(ReasonImageExpired) {
		why.Message = before.Message
	}
	return why
}

// markGood makes the running slot the one that boots from now on, and notes that in its image's record. A device on which that
// fails would lose what it was provisioned with at the next boot: although the server has acknowledged the end by now, it is
// told that there was an error.
func (e *Executor) markGood(ctx context.Context) error {
	if e.Slots == nil {
		return nil
	}
	r, d, err := e.seen(ctx)
	if err == nil {
		var do effect
		if do, _, err = e.move(imageIn(r, d.Running), acknowledge, nil); err == nil {
			err = e.perform(ctx, do)
		}
	}
	if err != nil {
		err = fmt.Errorf("the running slot cannot be marked good, and the boot loader would return to the old one: %w", err)
	}
	return err
}

// seen is the durable record together with what the slots say.
func (e *Executor) seen(ctx context.Context) (*state.Record, slot.Description, error) {
	r, err := e.Store.Load()
	if err != nil {
		return nil, slot.Description{}, err
	}
	d, err := e.Slots.Describe(ctx)
	return r, d, err
}

// fetchRequest asks for the demanded image; failed counts the mirrors that did not deliver it.
func (s *session) fetchRequest(failed *int) image.Request {
	return image.Request{
		URIs:         s.boot.URIs,
		SHA256:       s.boot.SHA256,
		Network:      s.network,
		Files:        s.files,
		Authenticate: s.AuthenticateMirror,
		Signature:    s.signatures(),
		MaxSize:      int64(s.Image.MaxSize),
		Timeout:      time.Duration(s.Image.Timeout),
		MinRate:      int64(s.Image.MinRate),
		Stall:        time.Duration(s.Image.Stall),
		CrossOrigin:  s.Image.CrossOrigin,
		Checkpoints:  s.Checkpoints,
		Logger:       s.Logger,
		Progress: func(p image.Progress) {
			if p.Done && p.Err != nil {
				*failed++
			}
			s.showDownload(p)
		},
	}
}

// showDownload shows a transfer in the status. Package image calls it a few times a second at most.
func (s *session) showDownload(p image.Progress) {
	d := state.Download{
		URI: p.URI, Server: p.Server, Protocol: p.Protocol,
		Bytes: p.Bytes, Total: p.Total, Rate: p.Rate, Started: p.Started.UTC(),
		Requests: p.Requests, Resumed: p.Resumed,
	}
	if p.Left > 0 {
		d.ETA = s.Now().Add(p.Left).UTC().Truncate(time.Second)
	}
	if p.Done {
		d.Ended, d.Result = s.Now().UTC(), "complete"
	}
	if p.Err != nil {
		code, _ := reason.Of(p.Err)
		d.Result, d.Detail = string(code), p.Err.Error()
	}
	s.Board.Update(func(st *state.Status) {
		n := len(st.Downloads)
		switch {
		case n > 0 && st.Downloads[n-1].URI == d.URI && st.Downloads[n-1].Started.Equal(d.Started):
			st.Downloads[n-1] = d
		default:
			st.Downloads = append(st.Downloads[max(0, n+1-maxDownloads):], d)
		}
	})
}

// showSatisfied shows the demanded image when it is what runs.
func (s *session) showSatisfied(right bool, signer string) {
	if right {
		s.known = state.ImageRecord{State: "satisfied", Signer: signer}
		s.showImage()
	}
}

// showImage shows the demanded image as its record has it, and as "installed" until the device has rebooted into it.
func (s *session) showImage() {
	how := string(s.known.State)
	if s.known.State == state.ImageActivated || s.known.State == state.ImageTrial && s.known.Slot != s.slots.Running {
		how = "installed"
	}
	shown := &state.Image{
		OSName:    s.boot.OSName,
		OSVersion: s.boot.OSVersion,
		SHA256:    s.imageKey(),
		Slot:      s.known.Slot,
		State:     how,
		Attempts:  s.known.Attempts,
		Allowed:   s.Image.Attempts,
		Reason:    s.known.Reason,
		Signer:    s.known.Signer,
	}
	s.Board.Update(func(st *state.Status) { st.Image = shown })
}

// showSlots shows what the boot loader says.
func (e *Executor) showSlots(d slot.Description) {
	shown := &state.Slots{Running: d.Running, Good: d.Good, Next: d.Next, Tries: d.Tries}
	e.Board.Update(func(st *state.Status) { st.Slots = shown })
}
