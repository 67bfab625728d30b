package onboard

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/image"
	"github.com/xpu-sztp/ztp/pkg/image/signature"
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
		s.send(ctx, progress.BootImageComplete, "")
		return false, s.unstage(ctx)
	}
	s.Logger.Info("another image is wanted", "running", s.running(), "wanted", describe(s.boot))
	s.send(ctx, progress.BootImageMismatch, fmt.Sprintf("running %s, wanted %s", s.running(), describe(s.boot)))
	last, err := s.install(ctx)
	if err != nil {
		s.Board.Update(func(st *state.Status) {
			if st.Image != nil && st.Image.State == string(state.ImageFetching) {
				st.Image.State = "failed"
			}
		})
		return false, &failure{report: progress.BootImageError, err: err}
	}
	if last == leave {
		// For the server this attempt has failed; the device goes back to where it can install from.
		s.fail(ctx, &failure{report: progress.BootImageError, err: s.trialError()})
	} else {
		s.send(ctx, progress.BootImageInstalledRebooting, describe(s.boot))
	}
	return true, s.advance(ctx, last)
}

// satisfied compares the running system with the demanded one, by name and version or, when neither is given, by the
// hash of the image in the running slot. What runs and is right is noted: from then on nothing is held against it.
func (s *session) satisfied(ctx context.Context) (bool, error) {
	named, right := s.called()
	if named && !right || s.Slots == nil {
		s.showSatisfied(right, "")
		return right, nil
	}
	r, d, err := s.seen(ctx)
	if err != nil {
		return false, err
	}
	ours := imageIn(r, d.Running)
	if !named {
		content, known := d.Contents[d.Running]
		right = len(s.boot.SHA256) > 0 && (known && bytes.Equal(content.SHA256, s.boot.SHA256) || !known && ours == s.imageKey())
	}
	if right && ours != "" {
		if _, _, err := s.move(ours, satisfied, nil); err != nil {
			return false, err
		}
	}
	s.showSatisfied(right, r.Images[ours].Signer)
	return right, nil
}

// called tells whether the demanded image has a name or version, and whether the running system has the same.
func (s *session) called() (named, right bool) {
	if s.boot == nil || s.boot.OSName == "" && s.boot.OSVersion == "" {
		return false, false
	}
	return true, (s.boot.OSName == "" || s.boot.OSName == s.Device.OSName) &&
		(s.boot.OSVersion == "" || s.boot.OSVersion == s.Device.OSVersion)
}

// install brings the image into the inactive slot and tells the boot loader, as far as that has not happened yet. It returns
// what remains: to reboot into it, or into the good slot because the running one is on trial with another image.
func (s *session) install(ctx context.Context) (last event, err error) {
	if err := s.installable(); err != nil {
		return "", err
	}
	if !s.looked {
		if s.fallen, err = s.look(ctx, ""); err != nil {
			return "", err
		}
	}
	for {
		r, d, err := s.seen(ctx)
		if err != nil {
			return "", err
		}
		s.slots, s.known = d, r.Images[s.imageKey()]
		if on, ok := s.unsigned(); ok {
			if err := s.advance(ctx, on); err != nil {
				return "", err
			}
			continue
		}
		do, why := decide(s.imageKey(), s.known, d, s.Image.Attempts, s.Now())
		switch {
		case do == refuse:
			return "", s.refuseImage(ctx, why)
		case s.known.State == state.ImageFellBack && slices.Contains(s.fallen, s.imageKey()):
			s.showImage()
			return "", s.fellBackError()
		case do == leave || do == reboot:
			return do, nil
		}
		if err := s.advance(ctx, do); err != nil {
			return "", err
		}
		if do == activate {
			return reboot, nil
		}
	}
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
	if policy := s.signatures(); policy != nil {
		_, err := policy.Forms()
		return err
	}
	return nil
}

// signatures is nil where images need not be signed.
func (s *session) signatures() *signature.Policy {
	if s.Signatures == nil {
		return nil
	}
	return s.Signatures(s.owner)
}

// unsigned tells how to take back an image that was written when no signature was asked for, before it is started. What runs
// is not judged by that.
func (s *session) unsigned() (on event, ok bool) {
	if s.Signatures == nil || s.known.Signer != "" || s.known.Slot == s.slots.Running {
		return "", false
	}
	switch s.known.State {
	case state.ImageActivated, state.ImageTrial:
		return withdraw, true
	case state.ImageWritten:
		return overwritten, true
	}
	return "", false
}

// write fetches the image into the inactive slot. Only verified bytes count as an attempt: a mirror that fails says nothing
// about the image.
func (s *session) write(ctx context.Context) (err error) {
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
	result, err := image.Fetch(ctx, s.fetchRequest(&failed), w)
	if err != nil {
		return err
	}
	s.signer = result.Signer
	if failed > 0 {
		s.send(ctx, progress.BootImageWarning, fmt.Sprintf("%d mirrors failed before one delivered the image", failed))
	}
	s.Board.Update(func(st *state.Status) { st.Image.State = "verifying" })
	if err := w.Commit(ctx, s.boot.SHA256); err != nil {
		return err
	}
	return s.advance(ctx, verified)
}

// trialError says that the running slot was not marked good, so that the other one must not be written. Nobody has to do
// anything about it.
func (s *session) trialError() error {
	return &reason.Error{
		Code: slot.CodeInTrial,
		Msg: fmt.Sprintf("slot %s runs on trial and is not what is wanted; rebooting into slot %s to install from there",
			s.slots.Running, s.slots.Good),
	}
}

// unstage takes back an image that this device was going to boot next on demand of an earlier session, because this
// one does not want it. A slot that somebody else activated is left alone.
func (s *session) unstage(ctx context.Context) error {
	if s.Slots == nil {
		return nil
	}
	r, d, err := s.seen(ctx)
	if err == nil {
		key := imageIn(r, d.Next)
		if _, findErr := findImage(r.Images[key].State, withdraw); findErr != nil {
			return nil
		}
		var do effect
		if do, _, err = s.move(key, withdraw, nil); err == nil {
			err = s.perform(ctx, do)
		}
	}
	if err != nil {
		return &failure{report: progress.BootImageError, err: err}
	}
	return nil
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
