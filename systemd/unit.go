package systemd

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/coreos/go-systemd/v22/dbus"

	"github.com/xpu-sztp/ztp/pkg/reason"
)

// UnitFailed is the reason code when systemd did not do what it was asked for.
const UnitFailed reason.Code = "unit-control-failed"

// Running tells whether systemd is the service manager of this machine (sd_booted(3)).
func Running() bool {
	info, err := os.Lstat("/run/systemd/system")
	return err == nil && info.IsDir()
}

// Unit is a unit of the system's service manager, such as "ztp.service". The methods wait until systemd is done.
type Unit string

// Enable makes systemd start the unit at boot.
func (u Unit) Enable(ctx context.Context) error {
	return u.with(ctx, "enable", func(c *dbus.Conn) error {
		if _, _, err := c.EnableUnitFilesContext(ctx, []string{string(u)}, false, false); err != nil {
			return err
		}
		return c.ReloadContext(ctx)
	})
}

// Disable makes systemd leave the unit alone at boot.
func (u Unit) Disable(ctx context.Context) error {
	return u.with(ctx, "disable", func(c *dbus.Conn) error {
		if _, err := c.DisableUnitFilesContext(ctx, []string{string(u)}, false); err != nil {
			return err
		}
		return c.ReloadContext(ctx)
	})
}

// Start starts the unit, unless it runs.
func (u Unit) Start(ctx context.Context) error {
	return u.with(ctx, "start", func(c *dbus.Conn) error {
		return job(ctx, func(done chan<- string) (int, error) { return c.StartUnitContext(ctx, string(u), "replace", done) })
	})
}

// Stop stops the unit, if it runs.
func (u Unit) Stop(ctx context.Context) error {
	return u.with(ctx, "stop", func(c *dbus.Conn) error {
		return job(ctx, func(done chan<- string) (int, error) { return c.StopUnitContext(ctx, string(u), "replace", done) })
	})
}

// with runs do with a connection to the service manager.
func (u Unit) with(ctx context.Context, verb string, do func(*dbus.Conn) error) error {
	conn, err := dbus.NewWithContext(ctx)
	if err == nil {
		defer conn.Close()
		err = do(conn)
	}
	if err == nil {
		return nil
	}
	return &reason.Error{
		Code: UnitFailed,
		Msg:  fmt.Sprintf("systemd did not %s %s", verb, u),
		Fix:  fmt.Sprintf("run the command as root; `systemctl %s %s` and `journalctl -u %s` tell more", verb, u, u),
		Err:  err,
	}
}

// job waits for a job that begin started.
func job(ctx context.Context, begin func(done chan<- string) (int, error)) error {
	done := make(chan string, 1)
	if _, err := begin(done); err != nil {
		return err
	}
	select {
	case result := <-done:
		if result != "done" && result != "skipped" {
			return errors.New("the job ended as " + result)
		}
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
