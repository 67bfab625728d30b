package onboard

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/image"
	"github.com/xpu-sztp/ztp/pkg/progress"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/slot"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// bootImage sees to it that the demanded image runs (RFC 8572 §5.6). When it returns true, the reboot was asked for.
func (s *session) bootImage(ctx context.Context) (rebooting bool, err error) {
	if s.boot == nil {
		return false, s.unstage(ctx)
	}
	if err := ctx.Err(); err != nil {
		return false, err
	}
	s.send(ctx, progress.BootImageInitiated, "")
	done, err := s.satisfied(ctx)
	if err != nil {
		return false, &failure{report: progress.BootImageError, err: err}
	}
	if done {
		s.showImage("satisfied", state.ImageRecord{})
		s.send(ctx, progress.BootImageComplete, "")
		if err := s.cameUp(ctx); err != nil {
			return false, &failure{report: progress.BootImageError, err: err}
		}
		return false, s.unstage(ctx)
	}
	s.Logger.Info("another image is wanted", "running", s.running(), "wanted", describe(s.boot))
	s.send(ctx, progress.BootImageMismatch, fmt.Sprintf("running %s, wanted %s", s.running(), describe(s.boot)))
	if err := s.install(ctx); err != nil {
		var trial *trialError
		if errors.As(err, &trial) {
			return true, s.endTrial(ctx, err)
		}
		s.Board.Update(func(st *state.Status) {
			if st.Image != nil && st.Image.State == "fetching" {
				st.Image.State = "failed"
			}
		})
		return false, &failure{report: progress.BootImageError, err: err}
	}
	s.send(ctx, progress.BootImageInstalledRebooting, describe(s.boot))
	return true, s.reboot(ctx)
}

// satisfied compares the running system with the demanded one, by name and version or, when neither is given, by the
// hash of the image in the running slot.
func (s *session) satisfied(ctx context.Context) (bool, error) {
	if s.boot.OSName != "" || s.boot.OSVersion != "" {
		return (s.boot.OSName == "" || s.boot.OSName == s.Device.OSName) &&
			(s.boot.OSVersion == "" || s.boot.OSVersion == s.Device.OSVersion), nil
	}
	if s.Slots == nil || s.boot.SHA256 == nil {
		return false, nil
	}
	d, err := s.Slots.Describe(ctx)
	if err != nil {
		return false, err
	}
	return holds(d, d.Running, s.boot.SHA256), nil
}

// install brings the image into the inactive slot and tells the boot loader, as far as that has not happened yet.
func (s *session) install(ctx context.Context) error {
	if err := s.installable(); err != nil {
		return err
	}
	r, err := s.Store.Load()
	if err != nil {
		return err
	}
	known := r.Images[s.imageKey()]
	d, err := s.Slots.Describe(ctx)
	if err != nil {
		return err
	}
	if err := s.refusal(known, d); err != nil {
		return err
	}
	written := holds(d, d.Target, s.boot.SHA256)
	if written && d.Next == d.Target {
		return s.activated()
	}
	if d.Trial() {
		return &trialError{running: d.Running, good: d.Good}
	}
	if !written || known.State != state.ImageWritten {
		if known.Attempts >= s.Image.Attempts && known.State != state.ImageRefused {
			return s.refuse(fmt.Sprintf("installed %d times, and the device never came up with it", known.Attempts))
		}
		if err := s.write(ctx); err != nil {
			return err
		}
	}
	if err := s.Slots.Activate(ctx); err != nil {
		return err
	}
	return s.activated()
}

// activated records that the boot loader will try the image, so that its return to the old one counts as a failure.
func (s *session) activated() error {
	known, err := s.noteImage(func(i *state.ImageRecord) { i.State = state.ImageActivated })
	s.showImage("installed", known)
	return err
}

// installable refuses what could not be installed whatever the slots hold.
func (s *session) installable() error {
	switch {
	case len(s.boot.URIs) == 0:
		return &reason.Error{
			Code: ReasonImageNowhere,
			Msg:  fmt.Sprintf("the device runs %s, must run %s, and is not told where to get it", s.running(), describe(s.boot)),
			Fix:  "add download-uri and image-verification to boot-image, or install the image by hand",
		}
	case len(s.boot.SHA256) == 0:
		return &reason.Error{
			Code: image.CodeNoVerification,
			Msg:  "the boot image has no SHA-256 fingerprint, and is not installed unverified",
			Fix:  "add image-verification with hash-algorithm sha-256 to boot-image",
		}
	case s.Slots == nil:
		return &reason.Error{
			Code: ReasonImageNoInstaller,
			Msg:  fmt.Sprintf("the device runs %s, must run %s, and cannot install images", s.running(), describe(s.boot)),
			Fix:  "set image.installer, or leave boot-image out of the onboarding information",
		}
	}
	return nil
}

// write fetches the image into the inactive slot and records it. Only verified bytes count as an attempt: a mirror that
// fails says nothing about the image.
func (s *session) write(ctx context.Context) (err error) {
	s.showImage("fetching", state.ImageRecord{})
	w, err := s.Slots.Open(ctx)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := w.Close(); err == nil {
			err = closeErr
		}
	}()
	failed := 0
	if _, err := image.Fetch(ctx, s.fetchRequest(&failed), w); err != nil {
		return err
	}
	if failed > 0 {
		s.send(ctx, progress.BootImageWarning, fmt.Sprintf("%d mirrors failed before one delivered the image", failed))
	}
	if err := w.Commit(ctx, s.boot.SHA256); err != nil {
		return err
	}
	_, err = s.noteImage(func(i *state.ImageRecord) {
		i.State, i.Slot = state.ImageWritten, w.Slot()
		i.Attempts++
	})
	return err
}

// reboot asks for the reboot. It is counted first, so that a device that keeps coming back to the old image stops.
func (s *session) reboot(ctx context.Context) error {
	// The image may be without a record: the reboot may only end the trial of another one.
	if _, err := s.noteImage(func(i *state.ImageRecord) { i.Reboots++ }); err != nil {
		return err
	}
	var reboots int
	err := s.Store.Update(func(r *state.Record) error {
		if r.Session == nil { // a person started over meanwhile
			r.Session = state.NewSession(s.Now())
		}
		r.Session.Reboots++
		reboots = r.Session.Reboots
		return nil
	})
	if err != nil {
		return err
	}
	s.Board.Update(func(st *state.Status) { st.Phase, st.Reboots = state.PhaseRebooting, reboots })
	return s.rebootDevice(ctx)
}

// trialError says that the running slot was not marked good, so that the other one must not be written.
type trialError struct{ running, good string }

func (e *trialError) Error() string {
	return fmt.Sprintf("slot %s runs on trial and is not what is wanted; rebooting into slot %s to install from there",
		e.running, e.good)
}

// Reason is the code of package slot for the same refusal.
func (e *trialError) Reason() string { return string(slot.CodeInTrial) }

// Hint is empty: nobody has to do anything.
func (e *trialError) Hint() string { return "" }

// endTrial reboots so that the boot loader returns to the good slot. For the server this attempt has failed.
func (s *session) endTrial(ctx context.Context, cause error) error {
	s.fail(ctx, &failure{report: progress.BootImageError, err: cause})
	return s.reboot(ctx)
}

// unstage takes back an image that this device was going to boot next on demand of an earlier session, because this
// one does not want it. A slot that somebody else activated is left alone.
func (s *session) unstage(ctx context.Context) error {
	if s.Slots == nil {
		return nil
	}
	d, err := s.Slots.Describe(ctx)
	if err == nil && d.Next != "" {
		r, loadErr := s.Store.Load()
		if loadErr != nil {
			return loadErr
		}
		if _, ours := r.Images[hex.EncodeToString(d.Contents[d.Next].SHA256)]; ours {
			err = s.Slots.Deactivate(ctx)
		}
	}
	if err != nil {
		return &failure{report: progress.BootImageError, err: err}
	}
	return nil
}

// holds tells whether the slot holds a committed image with that hash.
func holds(d slot.Description, name string, sum []byte) bool {
	content, ok := d.Contents[name]
	return ok && len(sum) > 0 && bytes.Equal(content.SHA256, sum)
}

func (s *session) running() string {
	return describe(&artifacts.BootImage{OSName: s.Device.OSName, OSVersion: s.Device.OSVersion})
}

// describe names an image for people.
func describe(i *artifacts.BootImage) string {
	if name := strings.TrimSpace(i.OSName + " " + i.OSVersion); name != "" {
		return name
	}
	if len(i.SHA256) > 0 {
		return "the image with SHA-256 " + hex.EncodeToString(i.SHA256)
	}
	return "an unnamed system"
}
