package state

import (
	"encoding/json"
	"errors"
	"reflect"
	"time"
)

// ChangeKind names what a session does to the record besides onboarding.
type ChangeKind string

// The kinds of changes. The empty one changes nothing.
const (
	ChangeBegin   ChangeKind = "begin"   // open a session, or find the one that a reboot interrupted
	ChangeEnd     ChangeKind = "end"     // keep how the session ended beyond the next boot
	ChangeMove    ChangeKind = "move"    // open a session because the provisioned device is on another network
	ChangeLearn   ChangeKind = "learn"   // keep what the network is known by as well
	ChangeVain    ChangeKind = "in-vain" // end such a session, which came to nothing
	ChangeAbandon ChangeKind = "abandon" // end one that was interrupted, on a device that shall have none
)

// Change is a change that the part of the agent may ask for which speaks with the network. None of them makes a device
// provisioned, touches the journal or an image, or turns the flag.
type Change struct {
	Kind    ChangeKind `json:"kind,omitempty"`
	Network Network    `json:"network,omitempty"` // for learn
	Last    *Status    `json:"last,omitempty"`    // for end and in-vain

	// Fresh and Once are for begin on behalf of a person, and do not cross to another process. Fresh forgets how the last
	// session ended and which images were refused; Once does so when it ended well.
	Fresh bool `json:"-"`
	Once  bool `json:"-"`
}

// ErrChange is returned for a change that is none, or is not possible now.
var ErrChange = errors.New("not a change that the record allows now")

// Apply makes the change in r.
func (c Change) Apply(r *Record, now time.Time) error {
	switch c.Kind {
	case "":
	case ChangeBegin:
		c.begin(r, now)
	case ChangeEnd:
		if c.Last == nil {
			return ErrChange
		}
		r.Last = c.Last.sound(r)
		if r.Last.Outcome == OutcomeFailed && r.Outcome != OutcomeProvisioned {
			r.Outcome, r.Reason, r.Session = OutcomeFailed, r.Last.Reason, nil
		}
	case ChangeMove:
		if r.Enabled && r.Outcome == OutcomeProvisioned && r.Session == nil {
			r.Session = NewSession(now)
			r.Session.Moved, r.Moved = true, r.Session.Started
		}
	case ChangeLearn:
		r.Network, _ = Network(nil).Learn(c.Network.Bounded())
	case ChangeVain:
		if c.Last == nil || r.Outcome != OutcomeProvisioned {
			return ErrChange
		}
		if len(r.Journal) == 0 {
			r.Session = nil
		}
		r.Last = c.Last.sound(r)
	case ChangeAbandon:
		if r.Session != nil && r.Session.Moved && len(r.Journal) == 0 {
			r.Session = nil
		}
	default:
		return ErrChange
	}
	return nil
}

func (c Change) begin(r *Record, now time.Time) {
	switch {
	case !r.Enabled:
	case c.Fresh, c.Once && r.Outcome == OutcomeProvisioned:
		r.StartOver()
	case r.Outcome == OutcomeFailed:
		r.Outcome, r.Reason, r.Session = OutcomeNone, nil, nil
	}
	if r.Enabled && r.Outcome == OutcomeNone && r.Session == nil {
		r.Session = NewSession(now)
	}
}

// sound returns the part of s that may be kept in r: not too much, nothing that a terminal would obey, and no success that r knows
// nothing of.
func (s *Status) sound(r *Record) *Status {
	kept := new(Status)
	if data, err := json.Marshal(s); err != nil || json.Unmarshal(data, kept) != nil { // a copy: tidying changes it
		kept = new(Status)
	}
	tidy(reflect.ValueOf(kept))
	kept.agree(r)
	return kept.Abridged()
}
