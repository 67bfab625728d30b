// Package grub tells GRUB which slot to try, in its environment block: a file of 1024 bytes that GRUB reads at each boot, and
// in which its save_env overwrites sectors in place, without the file system's knowledge. Two facts decide how it is written.
// GRUB does not replay journals, so that after a power cut it may not see a file that was replaced by renaming, but an older
// one that still names a slot which is being overwritten; data written over allocated blocks and synced it always sees.
// So a block is never replaced, made or truncated here, only overwritten. Written in place it can be torn, though. So there
// are two, written one after the other with a sync after each, beginning with the one that does not count: at any instant at
// least one is whole. GRUB (systemd/grub-slots.cfg) follows the first if that names a good slot, and counts an attempt down
// there, by one digit, before it starts a slot on trial; else it starts the slot that the second calls good, and tries
// nothing. GRUB never writes to the second. Every change names slots that are complete before and after it, hence so does any
// mixture of the two that a cut may leave. Variables of others are kept; but since they move when ours change their length,
// all of them must fit into the first sector, which storage writes as a whole. With one block only, and the names of GRUB's
// own scripts (GRUBNames), no fragment is needed, and only the sector stands against a cut.
package grub

import (
	"cmp"
	"context"

	"github.com/xpu-sztp/ztp/pkg/durable"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/slot"
)

// Reasons why the boot loader could not be told.
const (
	CodeNoEnvironment   reason.Code = "grub-environment"      // a block is missing, or neither is one
	CodeEnvironmentFull reason.Code = "grub-environment-full" // the variables do not fit into the first sector
)

// maxTries is the largest number of one digit.
const maxTries = 9

// Options is what the GRUB of a device was set up with.
type Options struct {
	FS          durable.FS // every change goes through it; nil is durable.OS
	Main        string     // path of the block in which GRUB counts
	Copy        string     // path of the second one; empty where GRUB knows of one only
	Slots       [2]Slot    // the first is the one GRUB starts when no block says anything
	Names       Names      // of the variables; zero is ztp_good, ztp_next and ztp_tries
	Tries       int        // boots of a slot on trial, 1 to 9; 0 is 1
	CommandLine string     // empty is slot.CommandLine
}

// Slot is what GRUB calls a slot.
type Slot struct {
	Name  string // as package slot calls it
	Entry string // the value of variables that means it; empty is Name
	// Argument is the parameter in the kernel's command line that tells that this slot runs, such as "root=PARTLABEL=root-a";
	// empty is "ztp.slot=" and the name.
	Argument string
}

// Names are those of variables in the block.
type Names struct {
	Good  string // the slot that is started
	Next  string // the slot to try; GRUB may empty it
	Tries string // how often; GRUB counts it down. Empty where GRUB empties Next instead
}

// GRUBNames are those of the scripts that grub-mkconfig makes a grub.cfg of, with GRUB_DEFAULT=saved.
func GRUBNames() Names { return Names{Good: "saved_entry", Next: "next_entry"} }

// Loader is a slot.Loader.
type Loader struct {
	o         Options
	arguments map[string]string // of the kernel, by slot
}

var _ slot.Loader = (*Loader)(nil)

// New returns the loader. Nothing is read or changed yet.
func New(o Options) *Loader {
	if o.FS == nil {
		o.FS = durable.OS{}
	}
	if o.Names == (Names{}) {
		o.Names = Names{Good: "ztp_good", Next: "ztp_next", Tries: "ztp_tries"}
	}
	o.Tries = min(max(o.Tries, 1), maxTries)
	if o.CommandLine == "" {
		o.CommandLine = slot.CommandLine
	}
	arguments := map[string]string{}
	for i := range o.Slots {
		s := &o.Slots[i]
		s.Entry = cmp.Or(s.Entry, s.Name)
		arguments[s.Name] = cmp.Or(s.Argument, "ztp.slot="+s.Name)
	}
	return &Loader{o, arguments}
}

// State tells what GRUB would do now, and what the kernel's command line says of what it did.
func (l *Loader) State(context.Context) (slot.State, error) {
	running, err := slot.RunningByCommandLine(l.o.CommandLine, l.arguments)
	if err != nil {
		return slot.State{}, err
	}
	found, err := l.read()
	if err != nil {
		return slot.State{}, err
	}
	return slot.State{Running: running, Good: found.plan.good, Next: found.plan.next, Tries: found.plan.tries}, nil
}

// Disarm has GRUB start the good slot.
func (l *Loader) Disarm(_ context.Context, name string) error {
	return l.change(func(p *plan) error {
		if name == p.good {
			return fail(slot.CodeInTrial, "slot "+name+" cannot be given up: it is the one that GRUB falls back to",
				"let the session end, which marks the running slot good; or reboot into slot "+name+", and have the image installed from there", nil)
		}
		p.next, p.tries = "", 0
		return nil
	})
}

// Arm has GRUB try a slot.
func (l *Loader) Arm(_ context.Context, name string) error {
	return l.change(func(p *plan) error {
		p.next, p.tries = name, l.o.Tries
		return nil
	})
}

// Bless has GRUB start a slot from now on.
func (l *Loader) Bless(_ context.Context, name string) error {
	return l.change(func(p *plan) error {
		*p = plan{good: name}
		return nil
	})
}

func fail(code reason.Code, msg, fix string, err error) error {
	return &reason.Error{Code: code, Msg: msg, Fix: fix, Err: err}
}
