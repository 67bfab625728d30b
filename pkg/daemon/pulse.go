package daemon

import (
	"sync/atomic"
	"time"

	"github.com/xpu-sztp/ztp/pkg/config"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// pulse tells whether the daemon gets on, for systemd's watchdog. Everything that the daemon does shows on its board, and each
// phase but two has a longest time in which nothing can happen there: what it waits for has a time limit. Who waits for a cable
// or watches the network waits for ever; of these it shows that the program runs at all, and that the board can be changed.
type pulse struct {
	limits patience
	last   atomic.Pointer[beat] // nil before the first
}

// beat is a sign of life.
type beat struct {
	at    time.Time
	until time.Duration // when the next one is overdue; zero is never
}

// changing is how long a change of the board may take: it writes a file to memory.
const changing = 2 * time.Minute

// beat notes a sign of life after which the next one must come within d.
func (p *pulse) beat(now time.Time, d time.Duration) { p.last.Store(&beat{now, d}) }

// alive reports whether the next sign of life is not overdue.
func (p *pulse) alive(now time.Time) bool {
	b := p.last.Load()
	return b == nil || b.until == 0 || now.Sub(b.at) <= b.until
}

// patience is what the longest steps of the phases may take.
type patience struct {
	discovery time.Duration // of one interface
	step      time.Duration // of an onboarding
}

// slack is added to every limit: for what is between two of them, on a slow and busy machine.
const slack = 15 * time.Minute

// patienceOf takes the limits from the configuration.
func patienceOf(cfg *config.Config) patience {
	return patience{
		discovery: time.Duration(cfg.Discovery.Timeout),
		step: max(time.Duration(cfg.Image.Timeout), time.Duration(cfg.Command.InstallTimeout), time.Duration(cfg.Command.Timeout),
			time.Duration(cfg.Scripts.Timeout), time.Duration(cfg.Configuration.Timeout)),
	}
}

// of returns how long nothing may show in a status from now on; zero is for ever.
func (p patience) of(s *state.Status, now time.Time) time.Duration {
	switch s.Phase {
	case state.PhaseStarting: // attempts to open the identity, and the waits between them
		return identityTimeout + maxIdentityWait + slack
	case state.PhaseDiscovering: // DHCP, DNS and neighbours, of both IP versions
		return 8*p.discovery + time.Hour + slack
	case state.PhaseVisiting: // one connection, and the revocation status of its data
		return time.Hour + slack
	case state.PhaseOnboarding:
		return p.step + slack
	case state.PhaseBackingOff: // what is plugged in meanwhile is visited
		return max(s.NextAttempt.Sub(now), 0) + time.Hour + slack
	}
	return 0
}
