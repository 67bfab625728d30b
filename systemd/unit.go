package systemd

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/xpu-sztp/ztp/pkg/reason"
)

// UnitFailed is the reason code when systemd did not do what it was asked for.
const UnitFailed reason.Code = "unit-control-failed"

// Where systemd listens: to root alone, without a bus; and on the system bus.
const (
	privateSocket = "/run/systemd/private"
	busSocket     = "/run/dbus/system_bus_socket"
)

// Running tells whether systemd is the service manager of this machine (sd_booted(3)) and can be asked. In the root of an
// image that is being built it is the service manager of another one.
func Running() bool {
	info, err := os.Lstat("/run/systemd/system")
	if err != nil || !info.IsDir() || chrooted() {
		return false
	}
	for _, socket := range []string{privateSocket, busSocket} {
		if _, err := os.Stat(socket); err == nil {
			return true
		}
	}
	return false
}

// chrooted tells whether this process has another root than the service manager, as far as it may know.
func chrooted() bool {
	ours, err := os.Stat("/")
	if err != nil {
		return false
	}
	its, err := os.Stat("/proc/1/root")
	return err == nil && !os.SameFile(ours, its)
}

// Unit is a unit of the system's service manager, such as "ztp.service". The methods go over D-Bus, wait until systemd is done,
// and say what it did not do.
type Unit string

// Enable makes systemd start the unit at boot, and whatever its [Install] section names with Also=.
func (u Unit) Enable(ctx context.Context) error { return unitOver{u, connect}.enable(ctx) }

// Disable makes systemd leave these alone at boot.
func (u Unit) Disable(ctx context.Context) error { return unitOver{u, connect}.disable(ctx) }

// Start starts the unit, unless it runs. A unit whose conditions do not hold is not started, which is no error.
func (u Unit) Start(ctx context.Context) error { return unitOver{u, connect}.start(ctx) }

// Stop stops the unit, if it runs.
func (u Unit) Stop(ctx context.Context) error { return unitOver{u, connect}.stop(ctx) }

// unitOver is a unit of the service manager that is reached by a connection.
type unitOver struct {
	Unit
	connect func(context.Context) (*conn, error)
}

// connect prefers the socket that needs no bus.
func connect(ctx context.Context) (*conn, error) {
	c, err := dial(ctx, privateSocket, false)
	if err == nil {
		return c, nil
	}
	c, busErr := dial(ctx, busSocket, true)
	if busErr != nil {
		return nil, errors.Join(err, busErr)
	}
	return c, nil
}

func (u unitOver) enable(ctx context.Context) error {
	return u.tell(ctx, "enable", func(c *conn) error {
		var body encoder
		body.strings(string(u.Unit))
		body.bool(false) // not only until the next boot
		body.bool(false) // nothing else is replaced
		if _, err := c.manage("EnableUnitFiles", "asbb", body); err != nil {
			return err
		}
		_, err := c.manage("Reload", "", nil)
		return err
	})
}

func (u unitOver) disable(ctx context.Context) error {
	return u.tell(ctx, "disable", func(c *conn) error {
		var body encoder
		body.strings(string(u.Unit))
		body.bool(false)
		if _, err := c.manage("DisableUnitFiles", "asb", body); err != nil {
			return err
		}
		_, err := c.manage("Reload", "", nil)
		return err
	})
}

func (u unitOver) start(ctx context.Context) error {
	return u.tell(ctx, "start", func(c *conn) error { return u.job(c, "StartUnit") })
}

func (u unitOver) stop(ctx context.Context) error {
	return u.tell(ctx, "stop", func(c *conn) error { return u.job(c, "StopUnit") })
}

// job begins a job and waits for its end.
func (u unitOver) job(c *conn, method string) error {
	var body encoder
	body.string(string(u.Unit))
	body.string("replace") // what contradicts it
	job, err := c.manage(method, "ss", body)
	if err != nil {
		return err
	}
	result, err := c.result(job)
	if err == nil && result != "done" && result != "skipped" {
		err = fmt.Errorf("the job's result is %q", result)
	}
	return err
}

func (u unitOver) tell(ctx context.Context, verb string, what func(*conn) error) error {
	c, err := u.connect(ctx)
	if err == nil {
		defer c.Close()
		defer context.AfterFunc(ctx, func() { c.Close() })()
		err = what(c)
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	}
	return &reason.Error{
		Code: UnitFailed,
		Msg:  fmt.Sprintf("systemd did not %s %s", verb, u.Unit),
		Fix:  fmt.Sprintf("run the command as root; `systemctl status %s` and `journalctl -u %s` tell more", u.Unit, u.Unit),
		Err:  err,
	}
}
