package onboard

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"time"

	"github.com/xpu-sztp/ztp/pkg/reason"
)

// rebootTimeout bounds the reboot command, which only has to ask for the reboot.
const rebootTimeout = 60 * time.Second

// rebootDevice runs the reboot command. Nothing is killed when it returns: it may have left something behind that
// reboots in a moment.
func (e *Executor) rebootDevice(ctx context.Context) error {
	argv := e.Reboot.Command
	if len(argv) == 0 {
		return rebootError(errors.New("reboot.command is empty"))
	}
	ctx, cancel := context.WithTimeout(ctx, rebootTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.WaitDelay = time.Second
	e.Logger.Info("rebooting", "command", argv)
	if out, err := cmd.CombinedOutput(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return rebootError(fmt.Errorf("%q: %w: %.500s", argv, err, clean(string(out))))
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
