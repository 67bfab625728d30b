package onboard

import (
	"context"
	"encoding/hex"
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
	// refusedFor is how long a refused image is not tried. Who keeps the device from its servers, or replays what an owner
	// once signed, can make a good image look as if it never came up; that must not last until a person comes.
	refusedFor = 24 * time.Hour
	// maxDownloads bounds the transfers in the status.
	maxDownloads = 32
)

func (s *session) imageKey() string { return hex.EncodeToString(s.boot.SHA256) }

// refusal tells why the image will not be tried again, or returns nil. Without this an image that names itself
// otherwise than the server does would be installed and booted for ever (RFC 8572 only compares names and versions).
func (s *session) refusal(known state.ImageRecord, d slot.Description) error {
	switch {
	case known.State == state.ImageRefused && s.Now().Sub(known.Updated).Abs() < refusedFor:
		return s.refusedError(known)
	case holds(d, d.Running, s.boot.SHA256):
		return s.refuse(fmt.Sprintf("it is running, and says that it is %s instead of %s", s.running(), describe(s.boot)))
	case known.State == state.ImageRefused:
		return nil // one more chance
	case known.Reboots >= 2*s.Image.Attempts:
		return s.refuse(fmt.Sprintf("the device rebooted for it %d times and never came up with it", known.Reboots))
	}
	return nil
}

// refuse remembers that the image is of no use.
func (s *session) refuse(why string) error {
	known, err := s.noteImage(func(i *state.ImageRecord) {
		i.State = state.ImageRefused
		i.Reason = &state.Reason{Code: string(ReasonImageRefused), Message: why, At: s.Now().UTC()}
	})
	if err != nil {
		return err
	}
	return s.refusedError(known)
}

func (s *session) refusedError(known state.ImageRecord) error {
	s.showImage("refused", known)
	why := "it was refused before"
	if known.Reason != nil {
		why = known.Reason.Message
	}
	return &reason.Error{
		Code: ReasonImageRefused,
		Msg:  fmt.Sprintf("the image with SHA-256 %s is refused: %s", s.imageKey(), why),
		Fix: "publish a corrected image or correct os-name and os-version in boot-image; the same image is tried again after a day, " +
			"or by `ztp run` at once",
	}
}

// cameUp forgets the attempts for the image that runs and is the right one: if the session fails later on, and the boot
// loader returns to the old slot one day, that was not the image's fault.
func (s *session) cameUp(ctx context.Context) error {
	if s.Slots == nil {
		return nil
	}
	d, err := s.Slots.Describe(ctx)
	if err != nil {
		return err
	}
	key := hex.EncodeToString(d.Contents[d.Running].SHA256)
	return s.Store.Update(func(r *state.Record) error {
		if i, ours := r.Images[key]; ours {
			i.Attempts, i.Reboots = 0, 0
			r.Images[key] = i
		}
		return nil
	})
}

// noteImage changes the record of the demanded image, durably.
func (s *session) noteImage(change func(*state.ImageRecord)) (state.ImageRecord, error) {
	key := s.imageKey()
	var noted state.ImageRecord
	err := s.Store.Update(func(r *state.Record) error {
		if r.Images == nil {
			r.Images = make(map[string]state.ImageRecord)
		}
		noted = r.Images[key]
		noted.OSName, noted.OSVersion, noted.Updated = s.boot.OSName, s.boot.OSVersion, s.Now().UTC()
		change(&noted)
		for other, i := range r.Images {
			if other != key && i.Slot != "" && i.Slot == noted.Slot {
				i.Slot = "" // overwritten
				r.Images[other] = i
			}
		}
		r.Images[key] = noted
		for len(r.Images) > maxImages {
			delete(r.Images, oldest(r.Images, key))
		}
		return nil
	})
	return noted, err
}

func oldest(images map[string]state.ImageRecord, except string) (key string) {
	for candidate, i := range images {
		if candidate != except && (key == "" || i.Updated.Before(images[key].Updated)) {
			key = candidate
		}
	}
	return key
}

// markGood makes the running slot the one that boots from now on, and notes that in its image's record. The server has
// acknowledged the end by now, so a failure is a warning; Recover tries again.
func (e *Executor) markGood(ctx context.Context) {
	if e.Slots == nil {
		return
	}
	d, err := e.Slots.Describe(ctx)
	if err == nil && d.Trial() {
		err = e.Slots.MarkGood(ctx)
	}
	if err == nil {
		key := hex.EncodeToString(d.Contents[d.Running].SHA256)
		err = e.Store.Update(func(r *state.Record) error {
			i, ours := r.Images[key]
			if ours && (i.State == state.ImageActivated || i.State == state.ImageWritten) {
				i.State, i.Attempts, i.Reboots, i.Updated = state.ImageGood, 0, 0, e.Now().UTC()
				r.Images[key] = i
			}
			return nil
		})
	}
	if err != nil {
		e.warn("the running slot could not be marked good; the boot loader may return to the old one", err)
	}
}

// fetchRequest asks for the demanded image; failed counts the mirrors that did not deliver it.
func (s *session) fetchRequest(failed *int) image.Request {
	return image.Request{
		URIs:    s.boot.URIs,
		SHA256:  s.boot.SHA256,
		Network: s.network,
		Files:   s.files,
		MaxSize: int64(s.Image.MaxSize),
		Timeout: time.Duration(s.Image.Timeout),
		Logger:  s.Logger,
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
		case n < maxDownloads:
			st.Downloads = append(st.Downloads, d)
		}
	})
}

func (s *session) showImage(how string, known state.ImageRecord) {
	shown := &state.Image{
		OSName:    s.boot.OSName,
		OSVersion: s.boot.OSVersion,
		SHA256:    s.imageKey(),
		Slot:      known.Slot,
		State:     how,
		Attempts:  known.Attempts,
	}
	s.Board.Update(func(st *state.Status) { st.Image = shown })
}
