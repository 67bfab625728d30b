package agent_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/xpu-sztp/ztp/pkg/agent"
	"github.com/xpu-sztp/ztp/pkg/onboard"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/restconf"
	"github.com/xpu-sztp/ztp/pkg/source"
)

// TestSchedule holds what every wait must be: neither in the past, nor sooner than asked for, nor longer than Max and what was
// asked for.
func TestSchedule(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		duration := func(least, most time.Duration, label string) time.Duration {
			return time.Duration(rapid.Int64Range(int64(least), int64(most)).Draw(t, label))
		}
		b := agent.Backoff{Initial: duration(100*time.Millisecond, time.Hour, "initial")}
		b.Max = duration(b.Initial, 24*time.Hour, "max")
		waits := b.Schedule(rapid.Float64Range(0, 0.999999).Draw(t, "phase"))
		now := time.Now()
		wait := time.Duration(0)
		for range rapid.IntRange(1, 60).Draw(t, "rounds") {
			asked := time.Duration(0)
			var until time.Time
			if rapid.Bool().Draw(t, "a server asks") {
				asked = duration(0, time.Hour, "asked")
				until = now.Add(asked)
			}
			next, wished := waits.Failed(now, until)
			wait = next.Sub(now)
			if wait < 0 || wait > asked+b.Max || wait < asked || wished && asked == 0 {
				t.Fatalf("waits for %v, with at most %v of its own and %v asked for", wait, b.Max, asked)
			}
			for early := 0; rapid.Bool().Draw(t, "the network changes"); early++ {
				at, ok := waits.Early(now)
				if at.Before(now) || at.After(next) || !ok && !at.Equal(next) || early > 3 && ok {
					t.Fatalf("tries early after %v instead of %v (%t)", at.Sub(now), wait, ok)
				}
			}
			now = next.Add(duration(0, 10*time.Minute, "the round takes"))
		}
	})
}

// TestScheduleKeepsDevicesApart: two devices that failed in the same moment meet in no window, however long it is.
func TestScheduleKeepsDevicesApart(t *testing.T) {
	b := agent.Backoff{Initial: 10 * time.Second, Max: 10 * time.Minute}
	early, late := b.Schedule(0.25), b.Schedule(0.75)
	begun := time.Now()
	one, other := begun, begun
	for range 100 {
		one, _ = early.Failed(one, time.Time{})
		other, _ = late.Failed(other, time.Time{})
		if apart := other.Sub(one); apart < 5*time.Second || apart > 5*time.Minute {
			t.Fatalf("apart by %v after %v", apart, other.Sub(begun))
		}
	}
	if apart := other.Sub(one); apart != 5*time.Minute {
		t.Errorf("apart by %v in the end", apart)
	}
}

func TestNetworkChangeCutsTheWaitShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s := scriptedWorld(t, 3)
		a := w.agent(s)
		wake := make(chan struct{})
		a.Wake = wake
		go func() {
			for range 2 {
				time.Sleep(time.Second) // the bubble's clock, not the wall's
				wake <- struct{}{}
			}
		}()
		if _, err := a.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if want := []time.Duration{0, time.Second, 2 * time.Second}; !slices.Equal(s.rounds, want) {
			t.Errorf("rounds began at %v, want %v", s.rounds, want)
		}
	})
}

// TestEarlyIsNoLater: a change of the network never makes a device wait for longer than without, and three of them count in one
// window.
func TestEarlyIsNoLater(t *testing.T) {
	now := time.Now()
	waits := agent.Backoff{Initial: 10 * time.Second, Max: 10 * time.Minute}.Schedule(0.9)
	var next time.Time
	for range 10 {
		next, _ = waits.Failed(now, time.Time{})
		now = next
	}
	next, _ = waits.Failed(now, time.Time{})
	if at, ok := waits.Early(next.Add(-time.Second)); !ok || !at.Equal(next) {
		t.Errorf("a second before its time it tries %v after it", at.Sub(next))
	}
	if at, ok := waits.Early(now); !ok || !at.Before(next) || !at.After(now) {
		t.Errorf("long before its time it tries after %v of %v", at.Sub(now), next.Sub(now))
	}
	if _, ok := waits.Early(now); !ok {
		t.Error("the third change does not count")
	}
	if at, ok := waits.Early(now); ok || !at.Equal(next) {
		t.Error("the fourth change counts")
	}
}

// TestEarlyTriesChangeNoSchedule: the try that was due is made when it was due, and the window after it is the next.
func TestEarlyTriesChangeNoSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s := scriptedWorld(t, 4)
		a := w.agent(s)
		wake := make(chan struct{}, 1)
		a.Wake = wake
		time.AfterFunc(2*time.Second, func() { wake <- struct{}{} })
		if _, err := a.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		second := time.Second
		if want := []time.Duration{0, 2 * second, 5 * second, 17*second + second/2}; !slices.Equal(s.rounds, want) {
			t.Errorf("rounds began at %v, want %v", s.rounds, want)
		}
	})
}

// TestFlappingLink: a cable with a loose contact makes a device try more often, but not as often as it flaps.
func TestFlappingLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s := scriptedWorld(t, 0)
		a := w.agent(s)
		a.Retry = agent.Backoff{Initial: 10 * time.Second, Max: 10 * time.Minute}
		wake := make(chan struct{}, 1)
		a.Wake = wake
		day, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
		defer cancel()
		var flapping sync.WaitGroup
		defer flapping.Wait()
		flapping.Go(func() {
			for day.Err() == nil {
				select {
				case wake <- struct{}{}:
				default:
				}
				time.Sleep(10 * time.Second) // the bubble's clock, not the wall's
			}
		})
		if _, err := a.Run(day); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		const windows = 24*6 + 12 // of ten minutes, and those that grew to it
		if n := len(s.rounds); n > 4*windows || n < 2*windows {
			t.Errorf("%d rounds in a day", n)
		}
	})
}

// TestSpread: a device that has failed more than once does not go on in the instant when the carrier is there.
func TestSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s := scriptedWorld(t, 0)
		a := w.agent(s)
		var spreads []time.Duration
		a.Enabled = func() (bool, error) { // before each round
			spreads = append(spreads, a.Spread())
			return len(spreads) < 5, nil
		}
		if _, err := a.Run(t.Context()); !errors.Is(err, agent.ErrDisabled) {
			t.Fatal(err)
		}
		// One half of a twentieth of windows of 15, 22.5 and 33.75 s.
		want := []time.Duration{0, 0, 375 * time.Millisecond, 562500 * time.Microsecond, 843750 * time.Microsecond}
		if !slices.Equal(spreads, want) {
			t.Errorf("%v, want %v", spreads, want)
		}
		if got := new(agent.Agent).Spread(); got != 0 {
			t.Errorf("%v without Run", got)
		}
	})
}

func TestRetryAfterIsHonouredWithinBounds(t *testing.T) {
	const minute = time.Minute
	tests := []struct {
		asked   time.Duration
		trusted bool
		want    time.Duration // one half of the window after what was asked for
	}{
		{30 * time.Second, false, 45 * time.Second},
		{2 * time.Second, false, 5 * time.Second}, // the own wait is longer
		{-time.Hour, true, 5 * time.Second},
		{1000 * time.Hour, false, minute + 30*time.Second}, // Max, of a stranger
		{10 * minute, true, 10*minute + 30*time.Second},
		{1000 * time.Hour, true, time.Hour + 30*time.Second},
	}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			w, s := scriptedWorld(t, 2)
			first := busyServer(t, w, &restconf.Error{Status: 503, RetryAfter: tt.asked}, tt.trusted)
			if _, err := w.agent(first, s).Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			if s.rounds[1] != tt.want {
				t.Errorf("asked for %v: waited %v, want %v", tt.asked, s.rounds[1], tt.want)
			}
		})
	}
}

// busyServer is a source of one server that fails, authenticated or not.
func busyServer(t *testing.T, w *world, fail error, trusted bool) leads {
	server := at("busy.example")
	w.names["busy.example"] = []string{"192.0.2.3"}
	w.servers["192.0.2.3"] = &serverThere{fail: fail}
	if trusted {
		ca := newAuthority(t, "busy CA")
		w.servers["192.0.2.3"].chain = ca.serverChain(t, "busy.example")
		server = at("busy.example", ca.anchor())
	}
	return leads{w.lead(trusted, server)}
}

// TestWishIsShown: whoever looks why the device waits learns who wanted that.
func TestWishIsShown(t *testing.T) {
	for name, tt := range map[string]struct {
		asked   time.Duration
		because string
		until   time.Duration
	}{
		"longer than the own wait":  {40 * time.Second, "https://busy.example:443 asked to be left alone for 40s", time.Minute},
		"longer than it may be":     {3 * time.Hour, "https://busy.example:443 asked to be left alone for 3h0m0s, and gets 1h0m0s", time.Hour + 30*time.Second},
		"shorter than the own wait": {4 * time.Second, "", 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				w, _ := scriptedWorld(t, 0)
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				_, err := w.agent(busyServer(t, w, &restconf.Error{RetryAfter: tt.asked}, true)).Run(ctx)
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Fatal(err)
				}
				if w.status.NextBecause != tt.because || w.status.NextAttempt.Sub(begun) != tt.until {
					t.Errorf("next try after %v, because %q", w.status.NextAttempt.Sub(begun), w.status.NextBecause)
				}
			})
		})
	}
}

// TestRetryAfterOfReports: a server that is too busy to take a report is left alone as well.
func TestRetryAfterOfReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s := scriptedWorld(t, 1)
		refusals := 1
		w.onboard = func(onboard.Request) (onboard.Outcome, error) {
			if refusals == 0 {
				return onboard.Complete, nil
			}
			refusals--
			return 0, &reason.Error{Code: onboard.ReasonReport, Msg: "not acknowledged",
				Err: errors.Join(fmt.Errorf("report: %w", &restconf.Error{Status: 503, RetryAfter: 20 * time.Minute}))}
		}
		again := &rounds{leads: leads{s.lead}, begun: time.Now()}
		if _, err := w.agent(again).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if want := []time.Duration{0, 20*time.Minute + 30*time.Second}; !slices.Equal(again.at, want) {
			t.Errorf("rounds began at %v, want %v", again.at, want)
		}
	})
}

// rounds notes when each round begins.
type rounds struct {
	leads
	begun time.Time
	at    []time.Duration
}

func (r *rounds) Discover(ctx context.Context, visit func(context.Context, source.Lead) error) error {
	r.at = append(r.at, time.Since(r.begun))
	return r.leads.Discover(ctx, visit)
}

// TestFarthestWishCounts among the servers of one list, each of which is visited once in a round.
func TestFarthestWishCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s := scriptedWorld(t, 2)
		for i, asked := range []time.Duration{20 * time.Second, 50 * time.Second, 30 * time.Second} {
			w.servers[fmt.Sprintf("192.0.2.%d", i+10)] = &serverThere{fail: &restconf.Error{Status: 429, RetryAfter: asked}}
		}
		list := leads{w.lead(false, at("192.0.2.10"), at("192.0.2.11"), at("192.0.2.12"))}
		if _, err := w.agent(list, s).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if want := 50*time.Second + 25*time.Second; s.rounds[1] != want {
			t.Errorf("the next round began after %v, want %v", s.rounds[1], want)
		}
		if n := len(w.targets); n != 6+1 {
			t.Errorf("%d connections in two rounds with three servers and the one that helped", n)
		}
	})
}
