// Package systemd is how ztp lives under systemd, and does without it: readiness and status of the unit, its watchdog,
// starting and stopping the unit, and log records with fields for the journal. Every function does nothing and
// succeeds, or says so by its result, on a machine that systemd does not run.
package systemd

import (
	"context"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Ready tells systemd that the service is up. Like its siblings it does nothing outside a unit of Type=notify, and
// ignores errors: a service manager that cannot be told is no reason to stop provisioning.
func Ready() { notify(daemon.SdNotifyReady) }

// Stopping tells systemd that the service is going down.
func Stopping() { notify(daemon.SdNotifyStopping) }

// Status shows one line in `systemctl status`.
func Status(line string) { notify("STATUS=" + strings.ReplaceAll(line, "\n", " ")) }

func notify(state string) { _, _ = daemon.SdNotify(false, state) }

// Watchdog tells systemd twice in each WatchdogSec that the program is alive, as long as alive returns true, until ctx
// ends. It returns at once, without a timer, when the unit asks for no watchdog.
func Watchdog(ctx context.Context, alive func() bool) {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil || interval <= 0 {
		return
	}
	tick := time.NewTicker(interval / 2)
	defer tick.Stop()
	for {
		if alive() {
			notify(daemon.SdNotifyWatchdog)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
