package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/xpu-sztp/ztp/pkg/config"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/state"
	"github.com/xpu-sztp/ztp/systemd"
)

// Reason codes of this package.
const (
	CodeDisabled    reason.Code = "disabled"            // asked to run a device that is disabled
	CodeNoNetwork   reason.Code = "network-unavailable" // the kernel does not tell about interfaces
	CodeNotStopping reason.Code = "not-stopping"        // a daemon that was told to end goes on
	CodeNoAnchor    reason.Code = "no-trust-anchor"     // a server shall be trusted, but nothing authenticates it
)

// SessionVariable is the environment variable that tells scripts and configuration handlers which session runs them.
const SessionVariable = "ZTP_SESSION"

const (
	unit        = systemd.Unit("ztp.service")
	onboardUnit = systemd.Unit("ztp-onboard.service")

	// stopPatience covers the undoing of an interrupted session, whose handlers have time limits of their own.
	stopPatience = 5 * time.Minute
	pollInterval = 100 * time.Millisecond
	// restartPatience is longer than the unit's RestartSec.
	restartPatience = 15 * time.Second
)

// Service is a unit that systemd runs; a systemd.Unit is one.
type Service interface {
	Enable(context.Context) error
	Disable(context.Context) error
	Start(context.Context) error
	Stop(context.Context) error
}

// Stopper is a unit that systemd starts when somebody needs it.
type Stopper interface{ Stop(context.Context) error }

// Control acts on the daemon of a device, wherever it runs.
type Control struct {
	Unit    Service // that runs the daemon where it is supervised
	Onboard Stopper // and its privileged part

	paths config.Paths
	store *state.Store
}

// NewControl returns the control of the device below root.
func NewControl(root string) (*Control, error) {
	paths, err := config.NewPaths(root)
	if err != nil {
		return nil, err
	}
	store, err := state.Open(paths.State)
	if err != nil {
		return nil, err
	}
	return &Control{Unit: unit, Onboard: onboardUnit, paths: paths, store: store}, nil
}

// Supervised tells whether the daemon of this device is a unit of systemd, rather than a process somebody starts.
func (c *Control) Supervised() bool { return c.paths.Root == "/" && systemd.Running() }

// Enable turns provisioning on (RFC 8572 §5.1), and starts the daemon where systemd runs it.
func (c *Control) Enable(ctx context.Context) error {
	inSession, err := c.setEnabled(true)
	if err != nil || inSession {
		return err
	}
	// Also where the flag was on: the configuration may be another one than that by which the device was left alone.
	if err := c.store.Disturb(); err != nil || !c.Supervised() {
		return err
	}
	if err := c.Unit.Enable(ctx); err != nil {
		return err
	}
	// systemd would only say that the unit failed.
	if _, err := config.Load(c.paths.Root); err != nil {
		return err
	}
	return c.Unit.Start(ctx)
}

// Disable turns provisioning off and ends a session that runs: what it did is undone. In a script of that very session it
// only turns the flag off, which is how a script keeps a device from provisioning itself again (RFC 8572 §5.6).
func (c *Control) Disable(ctx context.Context) error {
	inSession, err := c.setEnabled(false)
	if err != nil || inSession {
		return err
	}
	if c.Supervised() {
		if err := c.stopUnits(ctx); err != nil {
			return err
		}
		r, err := c.store.Load()
		if err != nil {
			return err
		}
		if len(r.Journal) > 0 {
			return c.Unit.Start(ctx) // it was killed before it had undone everything; it does no more than that now, or at the next boot
		}
		// Where /etc is read-only, the unit is started at the next boot once more, and finds that there is nothing to do.
		if err := c.Unit.Disable(ctx); err != nil && !errors.Is(err, syscall.EROFS) {
			return err
		}
	}
	return c.stop(ctx)
}

// Images lists the boot images that the device has tried.
func (c *Control) Images() ([]state.PastImage, error) {
	r, err := c.store.Load()
	if err != nil {
		return nil, err
	}
	return r.History(), nil
}

// ClearImage forgets what is held against an image, given by the beginning of its SHA-256, of which it returns all.
func (c *Control) ClearImage(sha256 string) (whole string, err error) {
	err = c.store.Update(func(r *state.Record) error {
		whole, err = r.ClearImage(sha256)
		return err
	})
	return whole, err
}

// setEnabled changes the flag and tells whether the caller belongs to the session that runs.
func (c *Control) setEnabled(on bool) (inSession bool, err error) {
	session := os.Getenv(SessionVariable)
	err = c.store.Update(func(r *state.Record) error {
		inSession = session != "" && r.Session != nil && r.Session.ID == session
		r.SetEnabled(on, session)
		return nil
	})
	return inSession, err
}

// stopUnits ends the daemon, which undoes a session, and then its privileged part: systemd stops that one for its own part after
// the daemon, but whoever waits for the daemon does not wait for it, which may still be undoing what a killed daemon left.
func (c *Control) stopUnits(ctx context.Context) error {
	if err := c.Unit.Stop(ctx); err != nil {
		return err
	}
	return c.Onboard.Stop(ctx)
}

// stop ends a daemon that runs outside of systemd, and waits for it.
func (c *Control) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stopPatience)
	defer cancel()
	told := 0
	for {
		pid, alive, err := state.Daemon(c.paths.Runtime)
		if err != nil || !alive {
			return err
		}
		if pid > 0 && pid != told {
			if err := c.terminate(pid); err != nil {
				return err
			}
			told = pid
		}
		if err := pause(ctx); err != nil {
			return &reason.Error{
				Code: CodeNotStopping,
				Msg:  fmt.Sprintf("the flag is off, but the daemon (process %d) still runs", pid),
				Fix:  "it may be undoing a session; look at it with `ztp status`",
				Err:  err,
			}
		}
	}
}

// terminate tells the daemon to end. It looks once more whether the process is the daemon after it got hold of it, lest a
// number that was reused in between hits somebody else.
func (c *Control) terminate(pid int) error {
	process, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	defer process.Release()
	if now, alive, err := state.Daemon(c.paths.Runtime); err != nil || !alive || now != pid {
		return err
	}
	if err := process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return &reason.Error{Code: CodeNotStopping, Msg: fmt.Sprintf("cannot stop the daemon (process %d)", pid), Fix: "run the command as root", Err: err}
	}
	return nil
}

// Restart has systemd run a new session on a supervised device.
func (c *Control) Restart(ctx context.Context) error {
	// A configuration that no session can run with must not cost a provisioned device its state.
	if _, err := config.Load(c.paths.Root); err != nil {
		return err
	}
	r, err := c.store.Load()
	if err != nil {
		return err
	}
	if !r.Enabled {
		return &reason.Error{Code: CodeDisabled, Msg: "provisioning is disabled on this device", Fix: "turn it on with `ztp enable`"}
	}
	if err := c.stopUnits(ctx); err != nil {
		return err
	}
	if err := c.store.Update(func(r *state.Record) error { r.StartOver(); return nil }); err != nil {
		return err
	}
	if err := c.store.Disturb(); err != nil { // also where the record did not change, which somebody may have brought back
		return err
	}
	// The new daemon is alive before it has a status. Until then nobody may take the old one for its end.
	if err := os.Remove(c.paths.Status); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return c.Unit.Start(ctx)
}

// Wait returns the status once the session has ended.
func (c *Control) Wait(ctx context.Context) (*state.Status, error) {
	for gone := time.Duration(0); ; gone += pollInterval {
		s, err := state.Read(c.paths.Runtime, c.paths.State)
		if err != nil {
			return nil, err
		}
		if s.PID != 0 {
			gone = 0
		}
		ended := s.Phase == state.PhaseDone || !s.Enabled && s.PID == 0
		if ended || gone > restartPatience {
			return s, nil
		}
		if err := pause(ctx); err != nil {
			return nil, &reason.Error{Code: reason.Cancelled, Msg: "no longer waiting; the session goes on", Fix: "`ztp status --watch` follows it", Err: err}
		}
	}
}

// Follow calls show with the status now and whenever it changes, until ctx ends.
func Follow(ctx context.Context, root string, show func(*state.Status) error) error {
	var last time.Time
	var code = -1
	for {
		s, err := Status(root)
		if err != nil {
			return err
		}
		if !s.Updated.Equal(last) || s.ExitCode() != code {
			last, code = s.Updated, s.ExitCode()
			if err := show(s); err != nil {
				return err
			}
		}
		if pause(ctx) != nil {
			return nil
		}
	}
}

// Status returns what `ztp status` shows.
func Status(root string) (*state.Status, error) {
	paths, err := config.NewPaths(root)
	if err != nil {
		return nil, err
	}
	return state.Read(paths.Runtime, paths.State)
}

func pause(ctx context.Context) error {
	select {
	case <-time.After(pollInterval):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
