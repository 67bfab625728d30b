package device

import (
	"path/filepath"
	"syscall"

	"github.com/xpu-sztp/ztp/test/lab/event"
)

func (d *Device) onboardSocket() string { return filepath.Join(d.Dir, "onboard.sock") }

// startPrivileged starts the privileged process, unless it runs: systemd does so when somebody connects.
func (d *Device) startPrivileged() error {
	if d.privileged.alive() {
		return nil
	}
	run, err := d.launch("the privileged process", "onboard", "--socket", d.onboardSocket())
	if err == nil {
		d.privileged = run
	}
	return err
}

// KillPrivileged ends the privileged process with SIGKILL and starts it again, as systemd does. It returns the exit code.
func (d *Device) KillPrivileged() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	code := 0
	if d.privileged.alive() {
		code = d.privileged.end(syscall.SIGKILL)
	}
	if err := d.startPrivileged(); err != nil {
		d.Log.Add("device", event.Exit, nil, "the privileged process is not started again: %v", err)
	}
	return code
}

// stopPrivileged ends the privileged process as a shutdown does.
func (d *Device) stopPrivileged() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.privileged.alive() {
		d.privileged.end(syscall.SIGTERM)
	}
}
