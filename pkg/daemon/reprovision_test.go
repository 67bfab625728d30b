package daemon

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xpu-sztp/ztp/pkg/agent"
	"github.com/xpu-sztp/ztp/pkg/config"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/source"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// TestWatches: only a provisioned device looks for another network, when its policy says so and it was not told to do
// something else.
func TestWatches(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(d *daemon, cfg *config.Config, r *state.Record) (invalid error)
		want   bool
	}{
		"provisioned":       {func(*daemon, *config.Config, *state.Record) error { return nil }, true},
		"policy never":      {func(_ *daemon, c *config.Config, _ *state.Record) error { c.Reprovision.Policy = "never"; return nil }, false},
		"new session":       {func(d *daemon, _ *config.Config, _ *state.Record) error { d.Fresh = true; return nil }, false},
		"one round":         {func(d *daemon, _ *config.Config, _ *state.Record) error { d.Once = true; return nil }, false},
		"disabled":          {func(_ *daemon, _ *config.Config, r *state.Record) error { r.Enabled = false; return nil }, false},
		"not provisioned":   {func(_ *daemon, _ *config.Config, r *state.Record) error { r.Outcome = ""; return nil }, false},
		"failed":            {func(_ *daemon, _ *config.Config, r *state.Record) error { r.Outcome = state.OutcomeFailed; return nil }, false},
		"bad configuration": {func(*daemon, *config.Config, *state.Record) error { return errors.New("bad") }, false},
	} {
		d, cfg := &daemon{}, &config.Config{}
		cfg.Reprovision.Policy = "on-network-change"
		r := &state.Record{Enabled: true, Outcome: state.OutcomeProvisioned}
		invalid := tt.change(d, cfg, r)
		if got := d.watches(cfg, invalid, r); got != tt.want {
			t.Errorf("%s: watches %t", name, got)
		}
	}
}

// place is a source whose one lead is from a network, or that waits for a carrier without end.
type place struct {
	source.Source
	where func() state.Network
	waits bool
}

func (p place) Discover(ctx context.Context, visit func(context.Context, source.Lead) error) error {
	if p.waits {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	return visit(ctx, source.Lead{Where: p.where})
}

// TestElsewhere: what comes from the network on which the device was provisioned is not visited; a visit may take its time, and
// waiting for one may not.
func TestElsewhere(t *testing.T) {
	at := func(n state.Network) func() state.Network { return func() state.Network { return n } }
	for name, tt := range map[string]struct {
		source  place
		visited bool
		want    error
	}{
		"from the known network":    {place{where: at(network("a"))}, false, errMovedBack},
		"from another one":          {place{where: at(network("b"))}, true, nil},
		"too little to tell":        {place{where: at(network("b")[:1])}, true, nil},
		"from something plugged in": {place{}, true, nil},
		"from nowhere":              {place{waits: true}, false, errNoSuccess},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				visited, begun := false, time.Now()
				err := elsewhere{tt.source, network("a")}.Discover(t.Context(), func(ctx context.Context, _ source.Lead) error {
					visited = true
					return pauseFor(ctx, 2*movedLook)
				})
				if visited != tt.visited || !errors.Is(err, tt.want) {
					t.Errorf("visited %t, %v", visited, err)
				}
				if took := time.Since(begun); tt.source.waits && took != movedLook {
					t.Errorf("waited %v", took)
				}
			})
		})
	}
}

// TestOnlyElsewhere: such a session ends when the device is back, or when its time is over.
func TestOnlyElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen state.Network
		off := errors.New("off")
		var flag error
		a := &agent.Agent{Sources: []source.Source{place{where: func() state.Network { return network("a") }}},
			Enabled: func() (bool, error) { return flag == nil, flag }}
		onlyElsewhere(a, network("a"), func(ctx context.Context) state.Network {
			if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) > 10*time.Second {
				t.Error("looks without end")
			}
			return seen
		})
		want := func(on bool, cause error) {
			t.Helper()
			if got, err := a.Enabled(); got != on || !errors.Is(err, cause) {
				t.Errorf("%t, %v", got, err)
			}
		}
		want(true, nil)
		seen = network("b")
		want(true, nil)
		flag = off
		want(false, off)
		flag = nil
		seen = network("a")
		want(false, errMovedBack)
		seen = network("b")
		time.Sleep(movedTime) // of the bubble
		want(true, nil)
		time.Sleep(time.Nanosecond)
		want(false, errNoSuccess)
		if err := a.Sources[0].Discover(t.Context(), func(context.Context, source.Lead) error { return nil }); !errors.Is(err, errMovedBack) {
			t.Errorf("visited the known network: %v", err)
		}
	})
}

// TestBounded: only a session of a device that is provisioned already has an end.
func TestBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, moved := range []bool{false, true} {
			d, begun := &daemon{moved: moved}, time.Now()
			ctx, cancel := d.bounded(t.Context())
			err := pauseFor(ctx, 24*time.Hour)
			cancel()
			if took := time.Since(begun); moved != errors.Is(err, errNoSuccess) || moved && took != movedTime {
				t.Errorf("moved %t: after %v, %v", moved, took, err)
			}
		}
	})
}

// TestEndInVain: a session on another network that came to nothing leaves the record as it was, but for what it tells.
func TestEndInVain(t *testing.T) {
	journal := []state.Entry{{Step: state.StepConfiguration}}
	for name, tt := range map[string]struct {
		cause   error
		shown   *state.Reason // of the last round
		journal []state.Entry
		session bool   // is still open
		says    string // code of the failure
	}{
		"moved back":              {errMovedBack, &state.Reason{Code: "no-lease"}, nil, false, string(CodeMovedBack)},
		"nothing in time":         {errNoSuccess, nil, nil, false, string(CodeNoSuccess)},
		"a round says more":       {errNoSuccess, &state.Reason{Code: "no-lease"}, nil, false, "no-lease"},
		"something is not undone": {errMovedBack, nil, journal, true, string(CodeMovedBack)},
		"disabled":                {agent.ErrDisabled, nil, nil, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			d := keeper(t)
			d.board.Update(func(s *state.Status) { s.Reason = tt.shown })
			if err := d.store.Update(func(r *state.Record) error {
				r.Enabled, r.Outcome, r.Network, r.Journal = true, state.OutcomeProvisioned, network("a"), tt.journal
				r.Session = state.NewSession(time.Now())
				r.Last = &state.Status{Device: state.Device{SerialNumber: "SN1"}, PID: 7, Reason: &state.Reason{Code: "old"}, Watch: &state.Watch{Network: "a"}}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if err := d.endInVain(t.Context(), tt.cause); err != nil {
				t.Fatal(err)
			}
			r, err := d.store.Load()
			if err != nil || (r.Session != nil) != tt.session || r.Outcome != state.OutcomeProvisioned || len(r.Network) == 0 || len(r.Journal) != len(tt.journal) {
				t.Fatalf("%+v, %v", r, err)
			}
			if tt.says == "" {
				return
			}
			for _, s := range []state.Status{*r.Last, d.board.Snapshot()} {
				if s.Watch.Failure == nil || s.Watch.Failure.Code != tt.says || s.PID != 0 || s.Reason != nil || s.Device.SerialNumber != "SN1" || s.Outcome != state.OutcomeProvisioned {
					t.Errorf("%+v", s)
				}
			}
		})
	}
}

// TestAbandonMove: an interrupted session that nobody wants any more is forgotten, unless something is left to be undone or it
// is of another kind.
func TestAbandonMove(t *testing.T) {
	for name, tt := range map[string]struct {
		session *state.Session
		journal []state.Entry
		kept    bool
	}{
		"none":         {nil, nil, false},
		"moved":        {&state.Session{ID: "S", Moved: true}, nil, false},
		"not undone":   {&state.Session{ID: "S", Moved: true}, []state.Entry{{Step: state.StepConfiguration}}, true},
		"another kind": {&state.Session{ID: "S"}, nil, true},
	} {
		d := keeper(t)
		var record *state.Record
		if err := d.store.Update(func(r *state.Record) error { r.Session, r.Journal, record = tt.session, tt.journal, r; return nil }); err != nil {
			t.Fatal(err)
		}
		if err := d.abandonMove(t.Context(), record); err != nil {
			t.Fatal(err)
		}
		if r, err := d.store.Load(); err != nil || (r.Session != nil) != tt.kept {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
}

// TestReasonsOfMoves: whoever reads them knows what to do, or that there is nothing to do.
func TestReasonsOfMoves(t *testing.T) {
	if code, fix := reason.Of(errNoSuccess); code != CodeNoSuccess || fix == "" {
		t.Errorf("%s, to do %q", code, fix)
	}
}

// TestVigilLooksAgain: names come late, without a change to any interface; and what has to be confirmed is shown meanwhile.
func TestVigilLooksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := keeper(t)
		e := &eyes{changed: make(chan struct{}), seen: network("b")[:1]} // a router of which no more is known yet
		v := &vigil{known: network("a"), lasts: 5 * time.Minute}
		begun, ended := time.Now(), make(chan error)
		go func() { ended <- d.keepVigil(t.Context(), e, v) }()
		time.Sleep(2 * time.Minute) // of the bubble, as below
		e.mu.Lock()
		e.seen = network("b")
		e.mu.Unlock()
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		other := network("b")
		if w := d.board.Snapshot().Watch; w.Other != other.String() || w.Since.IsZero() || !w.Begins.Equal(w.Since.Add(5*time.Minute)) {
			t.Errorf("shown: %+v", w)
		}
		if err := <-ended; err != nil || time.Since(begun) > 11*time.Minute {
			t.Errorf("after %v: %v", time.Since(begun), err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		e := &eyes{changed: make(chan struct{})}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := keeper(t).keepVigil(ctx, e, &vigil{lasts: time.Hour}); !errors.Is(err, context.Canceled) || e.looked() > 0 {
			t.Errorf("%v", err)
		}
	})
}
