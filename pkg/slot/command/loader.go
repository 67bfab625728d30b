package command

import (
	"context"
	"time"

	"github.com/xpu-sztp/ztp/pkg/slot"
)

// Loader is a slot.Loader that tells the boot loader by programs, such as fw_setenv. Its Tool has Status, Activate, Deactivate
// and MarkGood; the status names the good slot, and the next one when there is any, whose Tries are more than 0 if it tells
// them. What a program writes must be durable when it ends; fw_setenv(1) is, with a redundant environment.
type Loader struct {
	tool        Tool
	slots       []Slot
	limits      Limits
	commandLine string
}

var _ slot.Loader = (*Loader)(nil)

// NewLoader refuses commands that cannot work.
func NewLoader(t Tool, slots [2]Slot, limits Limits) (*Loader, error) {
	l := &Loader{t, slots[:], limits.orDefault(), slot.CommandLine}
	if t.Status == nil || t.Activate == nil || t.Deactivate == nil || t.MarkGood == nil {
		return nil, configError("the boot loader can be told only by all of the commands for status, activate, deactivate and mark-good")
	}
	if t.parse == nil && (t.Answer.Good == "" || t.Answer.Running == "" && slots[0].Argument == "") {
		return nil, configError("the status must tell which slot is the good one, and it or the kernel's command line which one runs")
	}
	return l, t.check(l.slots)
}

// State asks the tool.
func (l *Loader) State(ctx context.Context) (slot.State, error) {
	a, err := ask(ctx, &l.tool, l.slots, l.limits, l.commandLine)
	if err != nil {
		return slot.State{}, err
	}
	if a.running == "" || a.good == "" {
		return slot.State{}, answerError("the status of "+l.tool.Status[0][0]+" does not tell which slot runs and which is good", nil)
	}
	st := slot.State{Running: a.running, Good: a.good, Next: a.next, Tries: a.tries}
	if a.next == a.good || l.tool.Answer.Tries != "" && a.tries == 0 {
		st.Next, st.Tries = "", 0
	}
	return st, nil
}

// Disarm runs Deactivate.
func (l *Loader) Disarm(ctx context.Context, name string) error {
	st, err := l.State(ctx)
	if err != nil {
		return err
	}
	_, err = run(ctx, "deactivate slot "+name, l.tool.Deactivate, l.values(name, st.Good), l.limits.Other)
	return err
}

// Arm runs Activate.
func (l *Loader) Arm(ctx context.Context, name string) error {
	st, err := l.State(ctx)
	if err != nil {
		return err
	}
	activate := l.tool.Activate
	if st.Next == name && l.tool.Rearm != nil {
		activate = l.tool.Rearm
	}
	_, err = run(ctx, "activate slot "+name, activate, l.values(name, st.Good), l.limits.Other)
	return err
}

// Bless runs MarkGood.
func (l *Loader) Bless(ctx context.Context, name string) error {
	_, err := run(ctx, "mark slot "+name+" good", l.tool.MarkGood, l.values(name, name), l.limits.Other)
	return err
}

func (l *Loader) values(name, good string) map[string]string { return values(l.slots, name, good) }

// values are those of the placeholders.
func values(slots []Slot, name, good string) map[string]string {
	v := map[string]string{"slot": name, "good": good}
	if len(slots) > 0 {
		v["device"] = ""
	}
	for _, s := range slots {
		if s.Name == name {
			v["device"] = s.Device
		}
	}
	return v
}

func (l Limits) orDefault() Limits {
	if l.Install <= 0 {
		l.Install = time.Hour
	}
	if l.Other <= 0 {
		l.Other = time.Minute
	}
	return l
}
