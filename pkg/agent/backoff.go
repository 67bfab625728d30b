package agent

import (
	"context"
	"errors"
	"time"

	"github.com/xpu-sztp/ztp/pkg/onboard"
	"github.com/xpu-sztp/ztp/pkg/restconf"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// Backoff bounds the waits between tries.
type Backoff struct {
	Initial time.Duration // the longest wait after the first failure
	Max     time.Duration // the longest wait between two tries, unless a server asks for more
}

// Schedule says when to try again after failures. Time is divided into windows that follow one another, each longer by
// half than the one before it, up to Max; there is one try in each, at the same random place of every window. Of many
// devices that failed in the same moment each window so sees every one, evenly spread: however long their server is down,
// they come back at a rate that falls by a third at most until the last has been served. Waits drawn anew each time, from
// zero to a bound, do not do that: they leave more short remainders than long ones when the server comes back.
type Schedule struct {
	Backoff
	phase    float64 // the place in each window
	failures int     // windows begun
	next     time.Time
	end      time.Time // of the window that next lies in
	early    int       // tries before next that are left
}

const (
	// maxEarly bounds the tries that changes of the network may cause in one window: with a faulty cable they do not end.
	maxEarly = 3
	// spreadPart is the part of a window over which devices spread that get their carrier back in the same moment.
	spreadPart = 20
)

// Schedule returns an empty one. phase is uniform in [0,1) among devices.
func (b Backoff) Schedule(phase float64) *Schedule { return &Schedule{Backoff: b, phase: phase} }

// Failed notes that a try ended at now, and returns when the next is due: not before notBefore, which may be zero; wished
// tells whether it would have been due sooner without. A try before its time changes nothing about that time. What a server
// asked for, it asked all; so its wish is followed by a window as long as the wish, or Max if that is shorter, in which
// devices spread.
func (s *Schedule) Failed(now, notBefore time.Time) (next time.Time, wished bool) {
	if !now.Before(s.next) {
		s.advance(now)
	}
	if wished = notBefore.After(s.next); wished {
		s.place(notBefore, max(s.window(), min(notBefore.Sub(now), s.Max)))
	}
	return s.next, wished
}

// advance goes on to the next window, which begins at now when the last try took beyond its place there.
func (s *Schedule) advance(now time.Time) {
	s.failures++
	s.early = maxEarly
	s.place(s.end, s.window())
	if s.next.Before(now) {
		s.place(now, s.window())
	}
}

func (s *Schedule) place(start time.Time, window time.Duration) {
	s.next = start.Add(time.Duration(s.phase * float64(window)))
	s.end = start.Add(window)
}

// window returns the length of the present window.
func (s *Schedule) window() time.Duration {
	w := s.Initial
	for i := 1; i < s.failures && w < s.Max; i++ {
		w += w / 2
	}
	return min(w, s.Max)
}

// Early returns when to try because the network has changed, instead of waiting; ok is false when such tries are used up.
func (s *Schedule) Early(now time.Time) (at time.Time, ok bool) {
	if s.early == 0 {
		return s.next, false
	}
	s.early--
	if at = now.Add(s.spread()); at.After(s.next) {
		at = s.next
	}
	return at, true
}

// spread is how long to wait after a change of the network that many devices see at once, such as a switch that has
// rebooted. A device that has failed once at most does not wait.
func (s *Schedule) spread() time.Duration {
	if s.failures < 2 {
		return 0
	}
	return time.Duration(s.phase * float64(s.window()) / spreadPart)
}

// Spread is for sources that wait for a carrier during a round: how long to wait once it is there, because it may be that of
// many devices.
func (a *Agent) Spread() time.Duration {
	if a.waits == nil {
		return 0
	}
	return a.waits.spread()
}

// maxRetryAfter bounds what an authenticated server may ask for; of any other, Backoff.Max does, so that a stranger cannot
// make a device wait longer than it would by itself.
const maxRetryAfter = time.Hour

// Wish is the wish of a server to be left alone (RFC 9110 §10.2.3).
type Wish struct {
	Server         string // its URL
	Asked, Granted time.Duration
	Until          time.Time // when what is granted is over
}

// heed keeps the farthest wish of the servers of a round. trusted tells whether the server was authenticated.
func (r *round) heed(server string, trusted bool, err error) {
	var refused *restconf.Error
	if !errors.As(err, &refused) {
		return
	}
	longest := r.Retry.Max
	if trusted {
		longest = maxRetryAfter
	}
	granted := min(refused.RetryAfter, longest)
	if until := time.Now().Add(granted); granted > 0 && until.After(r.wish.Until) {
		r.wish = Wish{Server: server, Asked: refused.RetryAfter, Granted: granted, Until: until}
	}
}

// backOff waits for the next round: as the schedule and the servers that were asked want it, or for less when the network
// changes. The outcome is zero unless something that was plugged in meanwhile has led to success.
func (a *Agent) backOff(ctx context.Context, cause error) (onboard.Outcome, error) {
	var wish Wish
	var failed *RoundError
	if errors.As(cause, &failed) {
		wish = failed.Wish
	}
	next, wished := a.waits.Failed(time.Now(), wish.Until)
	if !wished {
		wish = Wish{}
	}
	a.showBackOff(next, wish, cause)
	timer := time.NewTimer(time.Until(next))
	defer timer.Stop()
	for wake := a.Wake; ; {
		select {
		case <-timer.C:
			return 0, nil
		case <-a.Plugged:
			if outcome := a.askLocal(ctx); outcome != 0 {
				return outcome, nil
			}
		case <-wake:
			wake = nil
			if early, ok := a.waits.Early(time.Now()); ok {
				timer.Reset(time.Until(early))
				a.showEarly(early)
			}
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// askLocal asks Local during a back-off.
func (a *Agent) askLocal(ctx context.Context) onboard.Outcome {
	r := &round{Agent: a}
	err := a.Local.Discover(ctx, r.followLead)
	a.showSource(a.Local.Name(), err)
	if err == nil {
		return r.outcome
	}
	a.showPhase(state.PhaseBackingOff)
	return 0
}
