package command

import (
	"context"
	"errors"

	"github.com/xpu-sztp/ztp/pkg/slot"
)

// Loader is a slot.Loader that tells the boot loader by programs, such as fw_setenv. Its Tool has Status, Activate, Deactivate
// and MarkGood; the status names the good slot, and the next one when there is any, whose Tries are more than 0 if it tells
// them. What a program writes must be durable when it ends; fw_setenv(1) is, with a redundant environment.
type Loader struct{ o Options }

var _ slot.Loader = (*Loader)(nil)

// NewLoader refuses commands that cannot work. Of the options it uses Tool, Slots, Limits and CommandLine.
func NewLoader(o Options) (*Loader, error) {
	t := &o.Tool
	if t.Status == nil || t.Activate == nil || t.Deactivate == nil || t.MarkGood == nil {
		return nil, configError("the boot loader can be told only by all of the commands for status, activate, deactivate and mark-good")
	}
	if len(o.Slots) != 2 {
		return nil, configError("the device writes the slots itself, and must know both")
	}
	if t.parse == nil && (t.Answer.Good == "" || t.Answer.Running == "" && o.Slots[0].Argument == "") {
		return nil, configError("the status must tell which slot is the good one, and it or the kernel's command line which one runs")
	}
	o.defaults()
	return &Loader{o}, t.check(o.Slots)
}

// State asks the tool.
func (l *Loader) State(ctx context.Context) (slot.State, error) {
	a, err := l.o.ask(ctx)
	if err == nil && (a.running == "" || a.good == "") {
		err = l.o.answerError(errors.New("it does not tell which slot runs and which is good"))
	}
	if err != nil {
		return slot.State{}, err
	}
	if a.next == a.good || l.o.Tool.Answer.Tries != "" && a.tries == 0 {
		a.next, a.tries = "", 0
	}
	return slot.State{Running: a.running, Good: a.good, Next: a.next, Tries: a.tries}, nil
}

// Disarm runs Deactivate.
func (l *Loader) Disarm(ctx context.Context, name string) error {
	st, err := l.State(ctx)
	if err != nil {
		return err
	}
	return l.o.act(ctx, "deactivate", l.o.Tool.Deactivate, name, st.Good)
}

// Arm runs Activate, or Rearm.
func (l *Loader) Arm(ctx context.Context, name string) error {
	st, err := l.State(ctx)
	if err != nil {
		return err
	}
	return l.o.activate(ctx, name, st.Good, st.Next)
}

// Bless runs MarkGood.
func (l *Loader) Bless(ctx context.Context, name string) error {
	return l.o.act(ctx, "mark-good", l.o.Tool.MarkGood, name, name)
}

func (o *Options) activate(ctx context.Context, name, good, next string) error {
	if next == name && o.Tool.Rearm != nil {
		return o.act(ctx, "activate", o.Tool.Rearm, name, good)
	}
	return o.act(ctx, "activate", o.Tool.Activate, name, good)
}

// act runs an action and makes durable what it did, which not every tool does.
func (o *Options) act(ctx context.Context, action string, argvs [][]string, name, good string) error {
	if argvs == nil {
		return nil
	}
	if _, err := run(ctx, action+" slot "+name, argvs, o.values(name, good), o.Limits.Other); err != nil {
		return err
	}
	return o.settle(ctx)
}

// settle does not wait for ever: any file system may hang.
func (o *Options) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, o.Limits.Other)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- o.FS.SyncAll() }()
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		return fail(slot.CodeWriteFailed, "what the installer did cannot be forced to the storage",
			"see in the kernel log which storage fails or hangs (sync(1) would, too)", err)
	}
	return nil
}

// values are those of the placeholders.
func (o *Options) values(name, good string) map[string]string {
	v := map[string]string{"slot": name, "good": good, "device": ""}
	for i := range o.Slots {
		if o.Slots[i].Name == name {
			v["device"] = o.Slots[i].Device
		}
	}
	return v
}
