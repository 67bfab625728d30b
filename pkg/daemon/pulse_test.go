package daemon

import (
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xpu-sztp/ztp/pkg/config"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// TestPulse holds each phase against how long the default configuration lets nothing happen in it.
func TestPulse(t *testing.T) {
	tests := map[string]struct {
		status     state.Status
		alive, not time.Duration // after the last sign of life; 0 is never
	}{
		"opening the identity": {state.Status{Phase: state.PhaseStarting}, 3 * time.Minute, time.Hour},
		"waiting for a cable":  {state.Status{Phase: state.PhaseWaitingForLink}, 1000 * time.Hour, 0},
		"discovering":          {state.Status{Phase: state.PhaseDiscovering}, 30 * time.Minute, 3 * time.Hour},
		"visiting":             {state.Status{Phase: state.PhaseVisiting}, 10 * time.Minute, 2 * time.Hour},
		"an image":             {state.Status{Phase: state.PhaseOnboarding}, 2 * time.Hour, 3 * time.Hour},
		"a long back-off":      {state.Status{Phase: state.PhaseBackingOff, NextAttempt: time.Now().Add(9 * time.Hour)}, 10 * time.Hour, 11 * time.Hour},
		"a back-off that ends": {state.Status{Phase: state.PhaseBackingOff, NextAttempt: time.Now()}, time.Hour, 2 * time.Hour},
		"watching the network": {state.Status{Phase: state.PhaseDone}, 1000 * time.Hour, 0},
	}
	cfg := config.Default()
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			d := &daemon{paths: config.Paths{Status: filepath.Join(t.TempDir(), "status.json")}, life: &pulse{limits: patienceOf(&cfg)}}
			b := d.newBoard(state.Status{})
			b.Update(func(s *state.Status) { *s = tt.status })
			now := time.Now()
			if !d.life.alive(now.Add(tt.alive)) {
				t.Errorf("taken for dead after %v", tt.alive)
			}
			if tt.not > 0 && d.life.alive(now.Add(tt.not)) {
				t.Errorf("taken for alive after %v", tt.not)
			}
		})
	}
}

// TestPulseOfAStuckBoard: who changes the board and does not come to an end is not alive, whatever the phase, and who has not
// begun yet is.
func TestPulseOfAStuckBoard(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		d := &daemon{paths: config.Paths{Status: filepath.Join(dir, "status.json")}, life: &pulse{}}
		if !d.life.alive(time.Now()) {
			t.Error("dead before the first sign of life")
		}
		b := d.newBoard(state.Status{Phase: state.PhaseWaitingForLink})
		free := make(chan struct{})
		go b.Update(func(*state.Status) { <-free })
		time.Sleep(time.Hour)
		if d.life.alive(time.Now()) {
			t.Error("alive although nothing can be shown any more")
		}
		close(free)
		synctest.Wait()
		if !d.life.alive(time.Now()) {
			t.Error("dead although it has gone on")
		}
	})
}
