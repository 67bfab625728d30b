package daemon_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/pkg/config"
	"github.com/xpu-sztp/ztp/pkg/daemon"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// TestRestart plays a new daemon that is alive but has no status yet: the end of the session before, which `ztp status`
// still showed, is not taken for the end of the new one.
func TestRestart(t *testing.T) {
	d := newDevice(t, func(r *state.Record) { r.Outcome = state.OutcomeProvisioned })
	state.NewBoard(d.paths.Status, state.Status{Enabled: true, Phase: state.PhaseDone, Outcome: state.OutcomeProvisioned})
	control, err := daemon.NewControl(d.root)
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	control.Unit, control.Onboard = &unit{"daemon", &told}, &unit{"onboard", &told}
	if err := control.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Nothing of the session before is left when the new one begins.
	if diff := cmp.Diff([]string{"stop daemon", "stop onboard", "start daemon"}, told); diff != "" {
		t.Errorf("systemd was told (-want +got):\n%s", diff)
	}
	lock, err := state.LockDaemon(d.paths.Runtime)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Unlock()

	s, err := daemon.Status(d.root)
	if err != nil || s.ExitCode() != state.ExitInProgress {
		t.Errorf("status %+v, %v", s, err)
	}
	given := errors.New("given up")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(given)
	if s, err := control.Wait(ctx); !errors.Is(err, given) {
		t.Errorf("waited until %+v, %v", s, err)
	}
}

// TestWrongWord: the word that a device has nothing to do, beside an older record that somebody brought back, keeps neither command from
// starting the daemon.
func TestWrongWord(t *testing.T) {
	for name, command := range map[string]func(*daemon.Control) error{
		"run":    func(c *daemon.Control) error { return c.Restart(t.Context()) },
		"enable": func(c *daemon.Control) error { return c.Enable(t.Context()) },
	} {
		t.Run(name, func(t *testing.T) {
			d := newDevice(t, func(*state.Record) {})
			for _, name := range []string{"at-rest.any", "at-rest.os-1--"} {
				if err := os.WriteFile(filepath.Join(d.paths.State, name), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if state.AtRest(d.paths.State, "os-1--") == "" {
				t.Fatal("the daemon would be started anyway")
			}
			control, err := daemon.NewControl(d.root)
			if err != nil {
				t.Fatal(err)
			}
			control.Unit, control.Onboard = &unit{told: new([]string)}, &unit{told: new([]string)}
			if err := command(control); err != nil {
				t.Fatal(err)
			}
			if file := state.AtRest(d.paths.State, "os-1--"); file != "" {
				t.Errorf("%s is still there", file)
			}
		})
	}
}

// unit notes what it is told.
type unit struct {
	name string
	told *[]string
}

func (u *unit) Enable(context.Context) error  { return u.note("enable") }
func (u *unit) Disable(context.Context) error { return u.note("disable") }
func (u *unit) Start(context.Context) error   { return u.note("start") }
func (u *unit) Stop(context.Context) error    { return u.note("stop") }

func (u *unit) note(verb string) error {
	*u.told = append(*u.told, verb+" "+u.name)
	return nil
}

// TestRestartKeeps what a device has when no session could run.
func TestRestartKeeps(t *testing.T) {
	tests := map[string]struct {
		change func(*state.Record)
		config string
		code   reason.Code
	}{
		"disabled": {func(r *state.Record) { r.Enabled = false }, "", daemon.CodeDisabled},
		"invalid":  {func(*state.Record) {}, "colour = 1\n", config.Invalid},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			d := newDevice(t, func(r *state.Record) { r.Outcome = state.OutcomeProvisioned; tt.change(r) })
			if tt.config != "" {
				d.configure(t, tt.config)
			}
			control, err := daemon.NewControl(d.root)
			if err != nil {
				t.Fatal(err)
			}
			if code, _ := reason.Of(control.Restart(t.Context())); code != tt.code {
				t.Errorf("reason %q, want %q", code, tt.code)
			}
			if r := d.record(t); r.Outcome != state.OutcomeProvisioned {
				t.Errorf("outcome %q", r.Outcome)
			}
		})
	}
}
