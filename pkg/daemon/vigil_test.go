package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/xpu-sztp/ztp/pkg/link"
	"github.com/xpu-sztp/ztp/pkg/state"
)

func network(name string) state.Network {
	return state.Network{"router 192.168.1.1 " + name, "domain " + name + ".example", "dhcp-server " + name}
}

// TestVigil tells stories of what a device sees at which minute. The known network is a, and things have to last five minutes.
func TestVigil(t *testing.T) {
	a, b, c := network("a"), network("b"), network("c")
	var none state.Network
	router := state.Network{b[0], a[1], a[2]}
	server := state.Network{a[0], a[1], b[2]}
	named := state.Network{a[0], b[1], b[2]}
	type sight struct {
		minute int
		seen   state.Network
		want   string // "", "learned" or "moved", and minutes until it wants to look again
	}
	tests := map[string][]sight{
		"nothing happens":          {{0, a, ""}, {1, a, ""}, {500, a, ""}},
		"cable pulled":             {{0, a, ""}, {1, none, ""}, {60, none, ""}, {61, a, ""}},
		"moved":                    {{0, a, ""}, {1, none, ""}, {2, b, " 5m0s"}, {4, b, " 3m0s"}, {7, b, "moved"}},
		"moved while it was off":   {{0, b, " 5m0s"}, {5, b, "moved"}},
		"a flap on the old one":    {{0, a, ""}, {1, none, ""}, {2, a, ""}, {3, none, ""}, {9, a, ""}},
		"a visit to another":       {{0, a, ""}, {1, b, " 5m0s"}, {5, a, ""}, {9, b, " 5m0s"}, {12, a, ""}},
		"a flap on the new one":    {{0, b, " 5m0s"}, {3, none, ""}, {4, b, " 5m0s"}, {9, b, "moved"}},
		"on to a third one":        {{0, b, " 5m0s"}, {3, c, " 5m0s"}, {6, c, " 2m0s"}, {8, c, "moved"}},
		"too little to tell":       {{0, b[:1], ""}, {60, b[:1], ""}},
		"another router stands in": {{0, router, " 5m0s"}, {5, router, "learned"}, {6, router, ""}, {9, a, ""}},
		"another DHCP server does": {{0, server, " 5m0s"}, {1, a, ""}, {2, server, " 5m0s"}, {7, server, "learned"}, {8, server, ""}},
		// A network that is renewed bit by bit has nothing left of what it was known by, and is the same.
		"everything is replaced, one after the other": {
			{0, server, " 5m0s"}, {5, server, "learned"},
			{10, named, " 5m0s"}, {15, named, "learned"},
			{20, b, " 5m0s"}, {25, b, "learned"}, {30, b, ""},
		},
		// Two networks at once are one place.
		"a second network is connected": {{0, both(a, b), " 5m0s"}, {5, both(a, b), "learned"}, {10, b, ""}},
	}
	for name, story := range tests {
		t.Run(name, func(t *testing.T) {
			begun := time.Now()
			v := &vigil{known: a, lasts: 5 * time.Minute}
			for _, s := range story {
				means, again := v.see(s.seen, begun.Add(time.Duration(s.minute)*time.Minute))
				got := map[meaning]string{nothing: "", learned: "learned", moved: "moved"}[means]
				if again > 0 {
					got += " " + again.String()
				}
				if got != s.want {
					t.Fatalf("minute %d: %q, want %q", s.minute, got, s.want)
				}
			}
		})
	}
	t.Run("a network that was not known is learned", func(t *testing.T) {
		v, begun := &vigil{lasts: time.Minute}, time.Now()
		if means, again := v.see(none, begun); means != nothing || again != 0 {
			t.Errorf("%v, %v", means, again)
		}
		if means, again := v.see(b, begun); means != nothing || again != time.Minute {
			t.Errorf("%v, %v", means, again)
		}
		if means, _ := v.see(b, begun.Add(time.Minute)); means != learned || v.known.Compare(b) != state.Same {
			t.Errorf("%v, knows %v", means, v.known)
		}
	})
}

func both(a, b state.Network) state.Network {
	n, _ := a.Learn(b)
	return n
}

// TestVigilProperties: a session begins only after a network that has nothing in common with the known one was all that was
// seen for as long as it has to last, and never too early after another.
func TestVigilProperties(t *testing.T) {
	networks := []state.Network{nil, network("a"), network("b"), network("c"), network("b")[:1], both(network("a"), network("b"))}
	rapid.Check(t, func(t *rapid.T) {
		now := time.Now()
		v := &vigil{known: network("a"), lasts: 5 * time.Minute, notBefore: now.Add(time.Duration(rapid.IntRange(0, 60).Draw(t, "minutes")) * time.Minute)}
		original := v.known
		var other time.Time // since when only one other network was seen
		last := -1
		for range 50 {
			now = now.Add(time.Duration(rapid.IntRange(0, 400).Draw(t, "seconds")) * time.Second)
			i := rapid.IntRange(0, len(networks)-1).Draw(t, "sees")
			seen := networks[i]
			if v.known.Compare(seen) != state.Different {
				other = time.Time{}
			} else if other.IsZero() || i != last {
				other = now
			}
			last = i
			means, again := v.see(seen, now)
			if means == moved {
				if other.IsZero() || now.Sub(other) < v.lasts || now.Before(v.notBefore) || original.Compare(seen) != state.Different {
					t.Fatalf("begins at %v, other since %v", now, other)
				}
				return
			}
			if again < 0 || again > time.Hour+5*time.Minute || len(seen) == 0 && again > 0 {
				t.Fatalf("looks again after %v", again)
			}
		}
	})
}

func TestSpacing(t *testing.T) {
	now := time.Now()
	for name, tt := range map[string]struct {
		last time.Time
		want time.Duration
	}{
		"first":              {time.Time{}, 0},
		"just now":           {now, 6 * time.Hour},
		"five hours ago":     {now.Add(-5 * time.Hour), time.Hour},
		"a day ago":          {now.AddDate(0, 0, -1), 0},
		"clock was set back": {now.AddDate(10, 0, 0), 6 * time.Hour},
	} {
		if got := spacing(tt.last, now, 4).Sub(now); got != tt.want {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}

// eyes is a sight in a bubble.
type eyes struct {
	mu      sync.Mutex
	changed chan struct{}
	seen    state.Network
	looks   int
}

func (e *eyes) Links() ([]link.Link, <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return nil, e.changed
}

func (e *eyes) Seen(context.Context) state.Network {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.looks++
	return e.seen
}

func (e *eyes) change(n state.Network) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.seen = n
	close(e.changed)
	e.changed = make(chan struct{})
}

// looked returns how often somebody looked since it was called last.
func (e *eyes) looked() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := e.looks
	e.looks = 0
	return n
}

// keeper is the daemon of a provisioned device.
func keeper(t *testing.T) *daemon {
	store, err := state.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return &daemon{Options: Options{Logger: slog.New(slog.DiscardHandler)}, store: store,
		board: &board{Board: state.NewBoard(t.TempDir()+"/status", state.Status{Watch: &state.Watch{}}), life: &pulse{}}}
}

// TestVigilSleeps: while nothing changes no timer runs, however long that is; a device that flaps without end is looked at
// with pauses; and a move is noticed when it has lasted.
func TestVigilSleeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := keeper(t)
		e := &eyes{changed: make(chan struct{}), seen: network("a")}
		v := &vigil{known: network("a"), lasts: 5 * time.Minute}
		ended := make(chan error)
		go func() { ended <- d.keepVigil(t.Context(), e, v) }()

		time.Sleep(365 * 24 * time.Hour) // the bubble's clock, as below
		synctest.Wait()
		if n := e.looked(); n > 2 {
			t.Errorf("looked %d times in a year", n)
		}
		for range 3600 {
			e.change(nil)
			time.Sleep(500 * time.Millisecond)
			e.change(network("a"))
			time.Sleep(500 * time.Millisecond)
		}
		synctest.Wait()
		if n := e.looked(); n > 121 {
			t.Errorf("looked %d times in an hour", n)
		}
		began := time.Now()
		e.change(network("b"))
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < 5*time.Minute || took > 6*time.Minute {
			t.Errorf("noticed after %v", took)
		}
		if w := d.board.Snapshot().Watch; w.Network != network("a").String() {
			t.Errorf("shown: %+v", w)
		}
	})
}

// TestVigilLearns keeps for the next boot what a network is known by as well.
func TestVigilLearns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := keeper(t)
		e := &eyes{changed: make(chan struct{}), seen: append(network("a")[:2], "dhcp-server another")}
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Hour, fmt.Errorf("over"))
		defer cancel()
		if err := d.keepVigil(ctx, e, &vigil{known: network("a"), lasts: 5 * time.Minute}); err == nil || err.Error() != "over" {
			t.Fatal(err)
		}
		r, err := d.store.Load()
		if err != nil || r.Network.Compare(state.Network{"dhcp-server another"}) != state.Same {
			t.Errorf("the record knows %v, %v", r.Network, err)
		}
	})
}
