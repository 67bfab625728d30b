package daemon

import (
	"time"

	"github.com/xpu-sztp/ztp/pkg/state"
)

// vigil decides, of a provisioned device, whether what is seen of its network means that it is on another one. Nothing it
// sees counts before it has lasted.
type vigil struct {
	known     state.Network // where the device was provisioned; nil until that is known
	lasts     time.Duration // how long something must be seen without interruption
	notBefore time.Time     // of the next session

	meaning meaning // of what is seen since some time
	since   time.Time
	other   state.Network // what is seen instead of known
}

// meaning is what something seen would mean if it lasted.
type meaning int

const (
	nothing meaning = iota
	learned         // the known network has another name, router or server as well
	moved           // the device is on another network
)

// see takes what is seen at a time. It returns what that means by now, and how long to wait before looking again even if
// nothing seems to change; zero is for ever.
func (v *vigil) see(seen state.Network, now time.Time) (means meaning, again time.Duration) {
	would := v.wouldMean(seen)
	if would != v.meaning || would == moved && v.other.Compare(seen) == state.Different {
		v.meaning, v.since, v.other = would, now, nil
	}
	if would == nothing {
		return nothing, 0
	}
	if would == moved {
		v.other, _ = v.other.Learn(seen)
	}
	due := v.due()
	if now.Before(due) {
		return nothing, due.Sub(now)
	}
	if would == learned {
		v.known, _ = v.known.Learn(seen)
	}
	v.meaning = nothing
	return would, 0
}

func (v *vigil) wouldMean(seen state.Network) meaning {
	switch {
	case len(seen) == 0:
		return nothing
	case len(v.known) == 0:
		return learned
	}
	switch v.known.Compare(seen) {
	case state.Different:
		return moved
	case state.Same:
		if _, more := v.known.Learn(seen); more {
			return learned
		}
	}
	return nothing
}

// due is when what is seen has lasted.
func (v *vigil) due() time.Time {
	due := v.since.Add(v.lasts)
	if v.meaning == moved && v.notBefore.After(due) {
		return v.notBefore
	}
	return due
}

// spacing keeps the sessions of a day apart, and last, the time of the last one, in its place when the clock was set back.
func spacing(last, now time.Time, perDay int) (notBefore time.Time) {
	const day = 24 * time.Hour
	apart := day / time.Duration(perDay)
	if last.IsZero() {
		return now
	}
	if wait := last.Add(apart).Sub(now); wait > 0 {
		return now.Add(min(wait, apart))
	}
	return now
}
