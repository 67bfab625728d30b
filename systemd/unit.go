package systemd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/xpu-sztp/ztp/pkg/reason"
)

// UnitFailed is the reason code when systemd did not do what it was asked for.
const UnitFailed reason.Code = "unit-control-failed"

// Running tells whether systemd is the service manager of this machine (sd_booted(3)).
func Running() bool {
	info, err := os.Lstat("/run/systemd/system")
	return err == nil && info.IsDir()
}

// Unit is a unit of the system's service manager, such as "ztp.service". The methods wait until systemd is done. They
// run systemctl(1), which is wherever systemd is: a D-Bus client would cost the device binary a third of a megabyte.
type Unit string

// Enable makes systemd start the unit at boot.
func (u Unit) Enable(ctx context.Context) error { return u.systemctl(ctx, "enable") }

// Disable makes systemd leave the unit alone at boot.
func (u Unit) Disable(ctx context.Context) error { return u.systemctl(ctx, "disable") }

// Start starts the unit, unless it runs.
func (u Unit) Start(ctx context.Context) error { return u.systemctl(ctx, "start") }

// Stop stops the unit, if it runs.
func (u Unit) Stop(ctx context.Context) error { return u.systemctl(ctx, "stop") }

func (u Unit) systemctl(ctx context.Context, verb string) error {
	cmd := exec.CommandContext(ctx, "systemctl", "--no-ask-password", "--quiet", verb, string(u))
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	output, err := cmd.CombinedOutput()
	if err == nil {
		return nil
	}
	if text := strings.TrimSpace(string(output)); text != "" {
		err = errors.New(strings.ReplaceAll(text, "\n", "; "))
	}
	return &reason.Error{
		Code: UnitFailed,
		Msg:  fmt.Sprintf("systemd did not %s %s", verb, u),
		Fix:  fmt.Sprintf("run the command as root; `systemctl status %s` and `journalctl -u %s` tell more", u, u),
		Err:  err,
	}
}
