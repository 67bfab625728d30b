package onboard

import (
	"fmt"

	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// event is what happens to an image or a step.
type event string

// The events of images. Those in the first group are what the session does, those in the second what it finds.
const (
	fetch       event = "fetch"       // put it into the inactive slot
	activate    event = "activate"    // have the boot loader try it
	reboot      event = "reboot"      // into it
	leave       event = "leave"       // reboot into the good slot, since what runs on trial is another image
	withdraw    event = "withdraw"    // nobody wants it any more
	acknowledge event = "acknowledge" // the end of a session, for which it is made the good one
	refuse      event = "refuse"

	verified    event = "verified"    // the storage holds it
	started     event = "started"     // it runs
	satisfied   event = "satisfied"   // it runs, and is what is demanded
	fellBack    event = "fell-back"   // the boot loader returned from it, and it had not shown that it works
	returned    event = "returned"    // the boot loader returned from it, after it had shown that
	overwritten event = "overwritten" // something else is in its slot
)

// The events of steps, besides acknowledge.
const (
	begin      event = "begin"
	undo       event = "undo"
	undone     event = "undone"
	undoFailed event = "undo-failed"
	giveUp     event = "give-up"
)

// effect is what changes the device. It comes after the record of the state that a rule leads to.
type effect string

// The effects. What is not named here cannot be done.
const (
	nothing  effect = ""
	write    effect = "write"     // the image into the inactive slot, which is made unbootable first
	arm      effect = "arm"       // slot.Backend.Activate
	disarm   effect = "disarm"    // slot.Backend.Deactivate
	bless    effect = "bless"     // slot.Backend.MarkGood
	restart  effect = "restart"   // the device
	execute  effect = "execute"   // a script, or a configuration handler
	takeBack effect = "take back" // what execute did
)

// rule is one transition. An effect may be interrupted and is repeated: by the same event when the rule leads to a state that
// allows it, and otherwise after the next look at the slots (observed). back takes the effect back.
type rule[S ~string] struct {
	from S
	on   event
	to   S
	do   effect
	back effect
}

// imageRules is every transition of an image. A power cut leaves the state it leads to, with or without its effect:
//
//	fetching   the slot is not bootable, and holds anything; it is filled from where the sink can go on, or from the start
//	written    verified bytes; the boot loader does not know
//	activated  the boot loader knows or not. It is told again; or has started the slot already, as the power cut was a boot
//	trial      the device has rebooted or not: the slot runs, is still next, or was left again, which counts against the image
//	running    what is not acknowledged falls back by itself; nobody is blamed, and everything begins anew
//	good       MarkGood is repeated by Recover; a device that fell back just before begins anew
func imageRules() []rule[state.ImageState] {
	const (
		none      = state.ImageNone
		fetching  = state.ImageFetching
		written   = state.ImageWritten
		activated = state.ImageActivated
		trial     = state.ImageTrial
		running   = state.ImageRunning
		good      = state.ImageGood
		fell      = state.ImageFellBack
		refused   = state.ImageRefused
	)
	return []rule[state.ImageState]{
		{none, fetch, fetching, write, nothing},
		{fetching, fetch, fetching, write, nothing},
		{good, fetch, fetching, write, nothing}, // it lay in the other slot, and may have changed while it ran
		{fell, fetch, fetching, write, nothing},
		{refused, fetch, fetching, write, nothing}, // after a day
		{fetching, verified, written, nothing, nothing},
		{written, activate, activated, arm, disarm},
		{activated, activate, activated, arm, disarm},
		{activated, reboot, trial, restart, disarm},
		{trial, reboot, trial, restart, disarm}, // it did not happen

		{written, started, trial, nothing, nothing}, // somebody else activated it
		{activated, started, trial, nothing, nothing},
		{fell, started, trial, nothing, nothing}, // somebody else chose it
		{trial, satisfied, running, nothing, nothing},
		{running, satisfied, running, nothing, nothing},
		{good, satisfied, good, nothing, nothing},
		{refused, satisfied, running, nothing, nothing}, // it is demanded under its right name now
		{trial, fellBack, fell, nothing, nothing},
		{running, returned, none, nothing, nothing},

		{none, acknowledge, none, bless, nothing}, // what runs is not of our making
		{trial, acknowledge, good, bless, nothing},
		{running, acknowledge, good, bless, nothing},
		{good, acknowledge, good, bless, nothing},
		{refused, acknowledge, good, bless, nothing},

		{activated, withdraw, written, disarm, nothing},
		{trial, withdraw, none, disarm, nothing}, // it may have been started, and have changed
		{refused, withdraw, refused, disarm, nothing},

		{none, refuse, refused, nothing, nothing},
		{fetching, refuse, refused, nothing, nothing},
		{written, refuse, refused, nothing, nothing},
		{activated, refuse, refused, disarm, nothing},
		{trial, refuse, refused, disarm, nothing},
		{running, refuse, refused, nothing, nothing},
		{good, refuse, refused, nothing, nothing},
		{fell, refuse, refused, nothing, nothing},
		{refused, refuse, refused, nothing, nothing},

		{none, leave, none, restart, nothing},
		{fetching, leave, fetching, restart, nothing},
		{written, leave, written, restart, nothing}, // somebody else made its slot the good one
		{activated, leave, activated, restart, nothing},
		{good, leave, good, restart, nothing},
		{fell, leave, fell, restart, nothing},
		{refused, leave, refused, restart, nothing},

		{fetching, overwritten, none, nothing, nothing},
		{written, overwritten, none, nothing, nothing},
		{activated, overwritten, none, nothing, nothing},
		{trial, overwritten, none, nothing, nothing},
		{running, overwritten, none, nothing, nothing},
		{good, overwritten, good, nothing, nothing},
		{fell, overwritten, fell, nothing, nothing},
		{refused, overwritten, refused, nothing, nothing},
	}
}

// stepState is where a step is: what its entry in the journal says.
type stepState string

// The states of steps.
const (
	absent stepState = "absent" // no entry: it was not begun, or undone, or acknowledged
	begun  stepState = "begun"  // the effect may be there, wholly or in part
	stuck  stepState = "stuck"  // the same, and undoing it has failed
)

// stepRules is every transition of a step. A power cut in any state but absent leads to undo.
func stepRules() []rule[stepState] {
	return []rule[stepState]{
		{absent, begin, begun, execute, takeBack},
		{begun, acknowledge, absent, nothing, nothing},
		{begun, undo, begun, takeBack, nothing},
		{begun, undone, absent, nothing, nothing},
		{begun, undoFailed, stuck, nothing, nothing},
		{stuck, undo, stuck, takeBack, nothing},
		{stuck, undone, absent, nothing, nothing},
		{stuck, undoFailed, stuck, nothing, nothing},
		{stuck, giveUp, absent, nothing, nothing},
	}
}

// find returns the rule for an event. There is none for what must not happen.
func find[S ~string](rules []rule[S], from S, on event) (rule[S], error) {
	for _, r := range rules {
		if r.from == from && r.on == on {
			return r, nil
		}
	}
	return rule[S]{}, &reason.Error{
		Code: reason.Internal,
		Msg:  fmt.Sprintf("%s must not follow %q", on, from),
		Fix:  "this is a mistake in ztp; please report it with what `ztp status --verbose` shows",
	}
}

// stateOf is where a step is whose entry, if it has one, is this.
func stateOf(entry *state.Entry) stepState {
	switch {
	case entry == nil:
		return absent
	case entry.Undos > 0:
		return stuck
	}
	return begun
}
