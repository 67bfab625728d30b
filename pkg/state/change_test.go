package state_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/pkg/state"
)

// TestChanges: what a session may change about the record, and that nothing of it makes a device provisioned or touches what it
// would have to undo.
func TestChanges(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	session, moved := &state.Session{ID: "s"}, &state.Session{ID: "m", Moved: true}
	journal := []state.Entry{{Step: state.StepPreScript}}
	done := state.Record{Enabled: true, Outcome: state.OutcomeProvisioned}
	with := func(r state.Record, change func(*state.Record)) state.Record { change(&r); return r }
	provisioned := &state.Status{Phase: state.PhaseDone, Outcome: state.OutcomeProvisioned}
	failed := &state.Status{Phase: state.PhaseDone, Outcome: state.OutcomeFailed, Reason: &state.Reason{Code: "c"}}
	for name, tt := range map[string]struct {
		before state.Record
		change state.Change
		after  state.Record // whose session has any ID where it is new
		err    error
	}{
		"look":                     {done, state.Change{}, done, nil},
		"begin":                    {state.Record{Enabled: true}, state.Change{Kind: state.ChangeBegin}, state.Record{Enabled: true, Session: &state.Session{Started: now}}, nil},
		"begin again":              {state.Record{Enabled: true, Session: session}, state.Change{Kind: state.ChangeBegin}, state.Record{Enabled: true, Session: session}, nil},
		"begin disabled":           {state.Record{}, state.Change{Kind: state.ChangeBegin, Fresh: true}, state.Record{}, nil},
		"begin provisioned":        {done, state.Change{Kind: state.ChangeBegin}, done, nil},
		"begin after failure":      {state.Record{Enabled: true, Outcome: state.OutcomeFailed, Session: session}, state.Change{Kind: state.ChangeBegin}, state.Record{Enabled: true, Session: &state.Session{Started: now}}, nil},
		"begin anew":               {done, state.Change{Kind: state.ChangeBegin, Fresh: true}, state.Record{Enabled: true, Session: &state.Session{Started: now}}, nil},
		"begin once more":          {done, state.Change{Kind: state.ChangeBegin, Once: true}, state.Record{Enabled: true, Session: &state.Session{Started: now}}, nil},
		"begin amid an undoing":    {with(done, func(r *state.Record) { r.Journal, r.Session = journal, session }), state.Change{Kind: state.ChangeBegin, Fresh: true}, state.Record{Enabled: true, Journal: journal, Session: session}, nil},
		"end":                      {done, state.Change{Kind: state.ChangeEnd, Last: provisioned}, with(done, func(r *state.Record) { r.Last = provisioned }), nil},
		"end with a lie":           {state.Record{Enabled: true, Session: session}, state.Change{Kind: state.ChangeEnd, Last: provisioned}, state.Record{Enabled: true, Session: session, Last: &state.Status{Phase: state.PhaseNotStarted}}, nil},
		"end in failure":           {state.Record{Enabled: true, Session: session}, state.Change{Kind: state.ChangeEnd, Last: failed}, state.Record{Enabled: true, Outcome: state.OutcomeFailed, Reason: failed.Reason, Last: failed}, nil},
		"end a success in failure": {done, state.Change{Kind: state.ChangeEnd, Last: failed}, with(done, func(r *state.Record) { r.Last = failed }), nil},
		"end without a status":     {done, state.Change{Kind: state.ChangeEnd}, done, state.ErrChange},
		"move":                     {done, state.Change{Kind: state.ChangeMove}, with(done, func(r *state.Record) { r.Session, r.Moved = &state.Session{Started: now, Moved: true}, now }), nil},
		"move disabled":            {with(done, func(r *state.Record) { r.Enabled = false }), state.Change{Kind: state.ChangeMove}, with(done, func(r *state.Record) { r.Enabled = false }), nil},
		"move amid a session":      {with(done, func(r *state.Record) { r.Session = moved }), state.Change{Kind: state.ChangeMove}, with(done, func(r *state.Record) { r.Session = moved }), nil},
		"learn":                    {done, state.Change{Kind: state.ChangeLearn, Network: state.Network{"domain a", "domain " + strings.Repeat("x", 999)}}, with(done, func(r *state.Record) { r.Network = state.Network{"domain a"} }), nil},
		"in vain":                  {with(done, func(r *state.Record) { r.Session = moved }), state.Change{Kind: state.ChangeVain, Last: provisioned}, with(done, func(r *state.Record) { r.Last = provisioned }), nil},
		"in vain amid an undoing":  {with(done, func(r *state.Record) { r.Session, r.Journal = moved, journal }), state.Change{Kind: state.ChangeVain, Last: provisioned}, with(done, func(r *state.Record) { r.Session, r.Journal, r.Last = moved, journal, provisioned }), nil},
		"in vain before a success": {state.Record{Session: session}, state.Change{Kind: state.ChangeVain, Last: failed}, state.Record{Session: session}, state.ErrChange},
		"abandon":                  {with(done, func(r *state.Record) { r.Session = moved }), state.Change{Kind: state.ChangeAbandon}, done, nil},
		"abandon amid an undoing":  {with(done, func(r *state.Record) { r.Session, r.Journal = moved, journal }), state.Change{Kind: state.ChangeAbandon}, with(done, func(r *state.Record) { r.Session, r.Journal = moved, journal }), nil},
		"abandon another session":  {state.Record{Session: session}, state.Change{Kind: state.ChangeAbandon}, state.Record{Session: session}, nil},
		"anything else":            {done, state.Change{Kind: "bless"}, done, state.ErrChange},
	} {
		t.Run(name, func(t *testing.T) {
			got := tt.before
			if err := tt.change.Apply(&got, now); !errors.Is(err, tt.err) {
				t.Errorf("%v, want %v", err, tt.err)
			}
			if s := got.Session; s != nil && s.Started.Equal(now) {
				s.ID = ""
			}
			if diff := cmp.Diff(tt.after, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestLyingStatus: while the daemon runs, its status may say anything but that the device is provisioned when it is not.
func TestLyingStatus(t *testing.T) {
	run, dir := t.TempDir(), t.TempDir()
	lock, err := state.LockDaemon(run)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Unlock()
	lie := "{\"schema\":1,\"phase\":\"done\",\"outcome\":\"provisioned\",\"warnings\":[{\"text\":\"\\u001b[2J\"}]}"
	if err := os.WriteFile(filepath.Join(run, state.StatusName), []byte(lie), 0o644); err != nil {
		t.Fatal(err)
	}
	s, err := state.Read(run, dir)
	if err != nil || s.ExitCode() == state.ExitProvisioned || s.Outcome != state.OutcomeNone {
		t.Errorf("%+v, %v", s, err)
	}
	if got := s.Warnings[0].Text; got != "\uFFFD[2J" {
		t.Errorf("a terminal would obey %q", got)
	}
}
