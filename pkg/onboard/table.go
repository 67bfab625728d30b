package onboard

import (
	"cmp"
	"fmt"
	"strings"

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
	expire      event = "expire"      // it runs on trial, and its time is over: the device returns to the good slot
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
	retreat  effect = "retreat"   // slot.Backend.Deactivate, for what tries are left, and then restart
	execute  effect = "execute"   // a script, or a configuration handler
	takeBack effect = "take-back" // what execute did
)

// rule is one transition. An effect may be interrupted and is repeated: by the same event when the rule leads to a state that
// allows it, and otherwise after the next look at the slots (observed). back takes the effect back.
type rule struct {
	from string
	on   event
	to   string
	do   effect
	back effect
}

// imageRules is every transition of an image. A power cut leaves the state it leads to, with or without its effect:
//
//	fetching   the slot is not bootable, and holds anything; it is filled from where the sink can go on, or from the start
//	written    verified bytes; the boot loader does not know
//	activated  the boot loader knows or not. It is told again; or has started the slot already, as the power cut was a boot
//	trial      the device has rebooted or not: the slot runs, is still next, or was left again, which counts against the image.
//	           Once its time is over, it is left again; a power cut before that is a boot, with the same result
//	running    what is not acknowledged falls back by itself; nobody is blamed, and everything begins anew
//	good       MarkGood is repeated by Recover; a device that fell back just before begins anew
const imageRules = `
state      event        becomes    effect     taken back by

none       fetch        fetching   write
fetching   fetch        fetching   write
good       fetch        fetching   write                    # it lay in the other slot, and may have changed while it ran
fell-back  fetch        fetching   write
refused    fetch        fetching   write                    # after a day
fetching   verified     written
written    activate     activated  arm        disarm
activated  activate     activated  arm        disarm
activated  reboot       trial      restart    disarm
trial      reboot       trial      restart    disarm        # it did not happen

written    started      trial                               # somebody else activated it
activated  started      trial
fell-back  started      trial                               # somebody else chose it
trial      satisfied    running
running    satisfied    running
good       satisfied    good
refused    satisfied    running                             # it is demanded under its right name now
trial      fell-back    fell-back
running    returned     none

trial      expire       trial      retreat                  # it has fallen back when the device is in the good slot
running    expire       trial      retreat                  # it came up, but to no end
refused    expire       refused    retreat

none       acknowledge  none       bless                    # what runs is not of our making
trial      acknowledge  good       bless
running    acknowledge  good       bless
good       acknowledge  good       bless
refused    acknowledge  good       bless

activated  withdraw     written    disarm
trial      withdraw     none       disarm                   # it may have been started, and have changed
refused    withdraw     refused    disarm

none       refuse       refused
fetching   refuse       refused
written    refuse       refused
activated  refuse       refused    disarm
trial      refuse       refused    disarm
running    refuse       refused
good       refuse       refused
fell-back  refuse       refused
refused    refuse       refused

none       leave        none       restart
fetching   leave        fetching   restart
written    leave        written    restart                  # somebody else made its slot the good one
activated  leave        activated  restart
good       leave        good       restart
fell-back  leave        fell-back  restart
refused    leave        refused    restart

fetching   overwritten  none
written    overwritten  none
activated  overwritten  none
trial      overwritten  none
running    overwritten  none
good       overwritten  good
fell-back  overwritten  fell-back
refused    overwritten  refused
`

// stepState is where a step is: what its entry in the journal says.
type stepState string

// The states of steps.
const (
	absent stepState = "absent" // no entry: it was not begun, or undone, or acknowledged
	begun  stepState = "begun"  // the effect may be there, wholly or in part
	stuck  stepState = "stuck"  // the same, and undoing it has failed
)

// stepRules is every transition of a step. A power cut in any state but absent leads to undo.
const stepRules = `
absent     begin        begun      execute    take-back
begun      acknowledge  absent
begun      undo         begun      take-back
begun      undone       absent
begun      undo-failed  stuck
stuck      undo         stuck      take-back
stuck      undone       absent
stuck      undo-failed  stuck
stuck      give-up      absent
`

// rules are those of a table: a line for each, in which a comment follows #.
func rules(table string) (all []rule) {
	for line := range strings.Lines(table) {
		text, _, _ := strings.Cut(line, "#")
		if f := append(strings.Fields(text), "", ""); len(f) > 4 && f[0] != "state" {
			all = append(all, rule{f[0], event(f[1]), f[2], effect(f[3]), effect(f[4])})
		}
	}
	return all
}

// find returns the rule for an event. There is none for what must not happen.
func find(table, from string, on event) (rule, error) {
	for _, r := range rules(table) {
		if r.from == from && r.on == on {
			return r, nil
		}
	}
	return rule{}, &reason.Error{
		Code: reason.Internal,
		Msg:  fmt.Sprintf("%s must not follow %q", on, from),
		Fix:  "this is a mistake in ztp; please report it with what `ztp status --verbose` shows",
	}
}

// findImage and findStep do that for the two tables.
func findImage(from state.ImageState, on event) (rule, error) {
	return find(imageRules, cmp.Or(string(from), "none"), on)
}

func findStep(entry *state.Entry, on event) (rule, error) {
	return find(stepRules, string(stateOf(entry)), on)
}

// image is the state of an image that the rule leads to.
func (r rule) image() state.ImageState {
	if r.to == "none" {
		return state.ImageNone
	}
	return state.ImageState(r.to)
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
