package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"reflect"
	"syscall"
	"time"

	"github.com/xpu-sztp/ztp/pkg/durable"
	"github.com/xpu-sztp/ztp/pkg/reason"
)

// maxStatus bounds the live status that is read.
const maxStatus = 16 << 20

// Read returns what `ztp status` shows, from the run folder and the state folder: the live status while the daemon that
// writes it is alive, otherwise how the last session ended, otherwise that nothing was started yet. It changes nothing
// and needs no privilege as long as there is a live status. A corrupt record is not an error but a status that says so.
func Read(runDir, stateDir string) (*Status, error) {
	live, liveErr := readStatus(filepath.Join(runDir, StatusName))
	if liveErr != nil && !errors.Is(liveErr, fs.ErrNotExist) {
		return nil, &reason.Error{Code: ReasonStatus, Msg: "cannot read the live status", Err: liveErr}
	}
	pid, alive, err := daemonOf(runDir, live)
	if err != nil {
		return nil, err
	}
	r, _, err := readRecord(filepath.Join(stateDir, recordName))
	switch {
	case err == nil && alive && live == nil:
		return &Status{Schema: StatusSchema, PID: pid, Enabled: r.Enabled, Phase: PhaseStarting}, nil
	case err == nil && alive:
		live.agree(r)
		live.PID, live.Enabled, live.Images = pid, r.Enabled, r.History()
		return live, nil
	case err == nil:
		return atRest(r, live), nil
	case live != nil && alive:
		return live, nil
	case errors.Is(err, errCorrupt):
		code, hint := reason.Of(err)
		return &Status{
			Schema: StatusSchema,
			Phase:  PhaseNotStarted,
			Reason: &Reason{Code: string(code), Message: err.Error(), Hint: hint},
		}, nil
	case live != nil && errors.Is(err, fs.ErrPermission):
		return atRest(nil, live), nil
	}
	return nil, err
}

// agree takes from a status what its record knows nothing of: whoever writes the status may not be who decides what becomes of
// the device.
func (s *Status) agree(r *Record) {
	if s.Outcome == OutcomeProvisioned && r.Outcome != OutcomeProvisioned {
		s.Outcome, s.Phase = r.Outcome, PhaseNotStarted
	}
}

// daemonOf tells whether the daemon of runDir is alive. Who may not look at its lock believes the process id in the
// live status as long as there is such a process.
func daemonOf(runDir string, live *Status) (pid int, alive bool, err error) {
	pid, alive, err = Daemon(runDir)
	if !errors.Is(err, fs.ErrPermission) {
		return pid, alive, err
	}
	if live == nil || live.PID <= 0 {
		return 0, false, nil
	}
	err = syscall.Kill(live.PID, 0)
	return live.PID, err == nil || err == syscall.EPERM, nil
}

// atRest is the status when no daemon runs. r is nil when it cannot be read; left is what a daemon of this boot left
// behind, or nil.
func atRest(r *Record, left *Status) *Status {
	s := &Status{Schema: StatusSchema, Phase: PhaseNotStarted}
	thisBoot := left != nil // the run folder does not survive a reboot
	switch {
	case r != nil && r.Last != nil && (left == nil || !left.Updated.After(r.Last.Updated)):
		s, left = r.Last, nil
	case left != nil:
		s = left
	}
	s.PID = 0
	if r != nil {
		s.Enabled, s.Outcome, s.Images = r.Enabled, r.Outcome, r.History()
		if r.Reason != nil {
			s.Reason = r.Reason
		}
	}
	switch {
	case r != nil && r.Outcome == OutcomeProvisioned:
		s.Phase, s.Reason = PhaseDone, nil
	case s.Phase == PhaseRebooting && (r == nil || r.Session != nil):
		// The daemon ended on purpose; its session goes on after the reboot.
		if waited := time.Since(s.Updated); thisBoot && waited > rebootPatience {
			s.Reason = rebootOverdue(waited)
		}
	case left != nil && left.Phase != PhaseDone && left.Phase != PhaseNotStarted:
		markInterrupted(s)
	case r != nil && r.Outcome == OutcomeNone:
		s.Phase = PhaseNotStarted
	case r != nil:
		s.Phase = PhaseDone
	}
	return s
}

// rebootPatience is how long a device may take to shut down.
const rebootPatience = 5 * time.Minute

func rebootOverdue(waited time.Duration) *Reason {
	return &Reason{
		Code:    string(ReasonNoReboot),
		Message: fmt.Sprintf("the device was told to reboot %v ago and still runs", waited.Round(time.Second)),
		Hint:    "reboot it by hand and check reboot.command; `systemctl list-jobs` tells what a shutdown waits for",
		At:      time.Now().UTC(),
	}
}

// markInterrupted turns the status of a daemon that is gone into one that says so.
func markInterrupted(s *Status) {
	s.Reason = &Reason{
		Code:    string(ReasonInterrupted),
		Message: fmt.Sprintf("the daemon ended unexpectedly in phase %q", s.Phase),
		Hint:    "it begins anew when it is started; `journalctl -u 'ztp*'` tells why it ended",
		At:      s.Updated,
	}
	s.Phase, s.NextAttempt, s.NextBecause = PhaseNotStarted, time.Time{}, ""
}

func readStatus(path string) (*Status, error) {
	data, err := durable.ReadShared(path, maxStatus)
	if err != nil {
		return nil, err
	}
	s := new(Status)
	if err := json.Unmarshal(data, s); err != nil {
		return nil, fmt.Errorf("decode %s: %w", path, err)
	}
	if s.Schema > StatusSchema {
		return nil, fmt.Errorf("%s has schema %d; this version knows up to %d", path, s.Schema, StatusSchema)
	}
	tidy(reflect.ValueOf(s)) // who wrote it may have been taken over
	return s, nil
}
