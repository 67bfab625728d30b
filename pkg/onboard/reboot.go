package onboard

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// rebootTimeout bounds the reboot command, which only has to ask for the reboot.
const rebootTimeout = 60 * time.Second

// reboot asks for the reboot, which is counted first.
func (e *Executor) reboot(ctx context.Context) error {
	var reboots int
	err := e.Store.Update(func(r *state.Record) error {
		if r.Session == nil { // a person started over meanwhile
			r.Session = state.NewSession(e.Now())
		}
		r.Session.Reboots++
		reboots = r.Session.Reboots
		return nil
	})
	if err != nil {
		return err
	}
	e.Board.Update(func(st *state.Status) { st.Phase, st.Reboots = state.PhaseRebooting, reboots })
	return e.rebootDevice(ctx)
}

// rebootDevice runs the reboot command. Nothing is killed when it returns: it may have left something behind that
// reboots in a moment. That we are told to stop while it runs is the reboot beginning, and no failure whatever becomes
// of the command then.
func (e *Executor) rebootDevice(ctx context.Context) error {
	argv := e.Reboot.Command
	if len(argv) == 0 {
		return rebootError(errors.New("reboot.command is empty"))
	}
	running, cancel := context.WithTimeout(context.WithoutCancel(ctx), rebootTimeout)
	defer cancel()
	cmd := exec.CommandContext(running, argv[0], argv[1:]...)
	cmd.WaitDelay = time.Second
	e.Logger.Info("rebooting", "command", argv)
	if out, err := cmd.CombinedOutput(); err != nil && ctx.Err() == nil && !errors.Is(err, exec.ErrWaitDelay) {
		return rebootError(fmt.Errorf("%q: %w: %.500s", argv, err, clean(strings.TrimSpace(string(out)))))
	}
	return nil
}

func rebootError(err error) error {
	return &reason.Error{
		Code: ReasonReboot,
		Msg:  "the image is installed but the device could not be rebooted",
		Fix:  "check reboot.command, or reboot the device by hand",
		Err:  err,
	}
}
