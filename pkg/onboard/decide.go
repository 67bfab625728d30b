package onboard

import (
	"encoding/hex"
	"fmt"
	"time"

	"github.com/xpu-sztp/ztp/pkg/slot"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// observed tells what the slots say of an image, as far as its record does not say it yet; key is its SHA-256 in hexadecimal.
// signed says that images must be. There may be more to tell after the event has been recorded.
func observed(key string, i state.ImageRecord, d slot.Description, signed bool) (on event, ok bool) {
	if i.Slot == "" {
		return "", false
	}
	content, known := d.Contents[i.Slot]
	there := known && hex.EncodeToString(content.SHA256) == key
	runs, next := d.Running == i.Slot, d.Next == i.Slot
	switch i.State {
	case state.ImageFetching: // what else lies there is about to be overwritten
		if runs {
			return overwritten, true
		}
		return verified, there && (!signed || i.Signer != "") // it may lie there from before a signature was asked for
	case state.ImageWritten, state.ImageActivated:
		if there && runs {
			return started, true
		}
		return overwritten, !there
	}
	if known && !there {
		return overwritten, true
	}
	switch i.State {
	case state.ImageTrial:
		return fellBack, !runs && !next
	case state.ImageRunning:
		return returned, !runs
	case state.ImageFellBack:
		return started, runs
	}
	return "", false
}

// decide returns what to do next about an image that is demanded and is not what runs, and why when that is to refuse it. An
// empty reason says that it was refused before. Without this, an image that names itself otherwise than the server does would
// be installed and booted for ever (RFC 8572 §5.6 compares names and versions only).
func decide(key string, i state.ImageRecord, d slot.Description, attempts int, now time.Time) (do event, why string) {
	running, known := d.Contents[d.Running]
	runs := i.Slot != "" && i.Slot == d.Running || known && hex.EncodeToString(running.SHA256) == key
	switch {
	case i.State == state.ImageRefused && now.Sub(i.Updated).Abs() < state.RefusedFor:
		return refuse, ""
	case runs:
		return refuse, "it is running, and says that it is another system than is wanted"
	case i.State == state.ImageRefused && d.Trial():
		return leave, ""
	case i.State == state.ImageRefused:
		return fetch, "" // one more chance
	case i.Reboots >= 2*attempts && i.State != state.ImageWritten:
		return refuse, fmt.Sprintf("the device rebooted for it %d times and never came up with it%s", i.Reboots, lastly(i))
	case d.Next != "" && d.Next == i.Slot && (i.State == state.ImageActivated || i.State == state.ImageTrial):
		return reboot, ""
	case d.Trial():
		return leave, ""
	case i.State == state.ImageWritten || i.State == state.ImageActivated:
		return activate, ""
	case i.Attempts >= attempts:
		return refuse, fmt.Sprintf("installed %d times, and the device never came up with it%s", i.Attempts, lastly(i))
	}
	return fetch, ""
}

// lastly is what the last trial came to.
func lastly(i state.ImageRecord) string {
	if i.Reason == nil || i.Reason.Code != string(ReasonImageFellBack) {
		return ""
	}
	return "; the last time, " + i.Reason.Message
}
