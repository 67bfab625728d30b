package state

import (
	"encoding/json"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestBoard(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", StatusName)
	b := NewBoard(path, Status{Phase: PhaseStarting, Enabled: true})
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() { // readers never see half a status
		for {
			select {
			case <-stop:
				return
			default:
			}
			if s, err := readStatus(path); err != nil || s.Phase != PhaseStarting {
				t.Errorf("got %+v, %v", s, err)
				return
			}
		}
	})
	var writers sync.WaitGroup
	for range 4 {
		writers.Go(func() {
			for range 50 {
				b.Update(func(s *Status) { s.Attempts++; s.Steps = append(s.Steps, Step{Name: "x"}) })
				b.Snapshot()
			}
		})
	}
	writers.Wait()
	close(stop)
	wg.Wait()
	if err := b.Err(); err != nil {
		t.Fatal(err)
	}
	snapshot := b.Snapshot()
	if snapshot.Attempts != 200 || len(snapshot.Steps) != 200 {
		t.Errorf("%d attempts, %d steps", snapshot.Attempts, len(snapshot.Steps))
	}
	snapshot.Steps[0].Name = "changed"
	if b.Snapshot().Steps[0].Name != "x" {
		t.Error("a snapshot shares memory with the board")
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o644 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestBoardGoesOnWithoutAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	b := NewBoard(filepath.Join(file, StatusName), Status{})
	b.Update(func(s *Status) { s.Attempts = 7 })
	if b.Err() == nil || b.Snapshot().Attempts != 7 {
		t.Errorf("error %v, attempts %d", b.Err(), b.Snapshot().Attempts)
	}
}

func TestRead(t *testing.T) {
	now := time.Now().UTC()
	before := now.Add(-time.Hour)
	session := &Session{ID: "S"}
	last := func(o Outcome, at time.Time) *Status {
		return &Status{Schema: 1, Phase: PhaseDone, Outcome: o, Updated: at, Version: "last"}
	}
	live := func(p Phase) *Status {
		return &Status{Schema: 1, Phase: p, Updated: now, PID: 1 << 30, Version: "live"}
	}
	type shown struct {
		Phase   Phase
		Version string
		Code    string
		Exit    int
	}
	tests := []struct {
		name   string
		record *Record
		live   *Status
		alive  bool
		want   shown
	}{
		{"factory", nil, nil, false, shown{PhaseNotStarted, "", "", ExitNotStarted}},
		{"disabled", &Record{}, nil, false, shown{PhaseNotStarted, "", "", ExitDisabled}},
		{"starting", &Record{Enabled: true}, nil, true, shown{PhaseStarting, "", "", ExitInProgress}},
		{"running", &Record{Enabled: true, Last: last(OutcomeFailed, before)}, live(PhaseVisiting), true,
			shown{PhaseVisiting, "live", "", ExitInProgress}},
		{"killed", &Record{Enabled: true, Session: session}, live(PhaseOnboarding), false,
			shown{PhaseNotStarted, "live", "interrupted", ExitNotStarted}},
		{"killed after the outcome", &Record{Enabled: true, Outcome: OutcomeProvisioned}, live(PhaseOnboarding), false,
			shown{PhaseDone, "live", "", ExitProvisioned}},
		{"provisioned", &Record{Enabled: true, Outcome: OutcomeProvisioned, Last: last(OutcomeProvisioned, now)},
			live(PhaseDone), false, shown{PhaseDone, "last", "", ExitProvisioned}},
		{"provisioned without a last status", &Record{Outcome: OutcomeProvisioned}, nil, false,
			shown{PhaseDone, "", "", ExitProvisioned}},
		{"failed", &Record{Enabled: true, Outcome: OutcomeFailed, Last: last(OutcomeFailed, now),
			Reason: &Reason{Code: "x"}}, nil, false, shown{PhaseDone, "last", "x", ExitFailed}},
		{"rebooting", &Record{Enabled: true, Session: session, Last: &Status{Schema: 1, Phase: PhaseRebooting, Updated: now}},
			live(PhaseRebooting), false, shown{PhaseRebooting, "", "", ExitInProgress}},
		{"told to reboot an hour ago", &Record{Enabled: true, Session: session, Last: &Status{Schema: 1, Phase: PhaseRebooting, Updated: before}},
			&Status{Schema: 1, Phase: PhaseRebooting, Updated: before}, false, shown{PhaseRebooting, "", "reboot-overdue", ExitInProgress}},
		{"rebooted and not yet started", &Record{Enabled: true, Session: session, Last: &Status{Schema: 1, Phase: PhaseRebooting}},
			nil, false, shown{PhaseRebooting, "", "", ExitInProgress}},
		{"started over after a reboot", &Record{Enabled: true, Last: &Status{Schema: 1, Phase: PhaseRebooting}},
			nil, false, shown{PhaseNotStarted, "", "", ExitNotStarted}},
		{"started over", &Record{Enabled: true, Last: last(OutcomeFailed, now)}, nil, false,
			shown{PhaseNotStarted, "last", "", ExitNotStarted}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			runDir, stateDir := t.TempDir(), t.TempDir()
			if tt.record != nil {
				tt.record.Schema = 1
				put(t, filepath.Join(stateDir, recordName), tt.record)
			}
			if tt.live != nil {
				put(t, filepath.Join(runDir, StatusName), tt.live)
			}
			if tt.alive {
				lock, err := LockDaemon(runDir)
				if err != nil {
					t.Fatal(err)
				}
				defer lock.Unlock()
			}
			s, err := Read(runDir, stateDir)
			if err != nil {
				t.Fatal(err)
			}
			got := shown{Phase: s.Phase, Version: s.Version, Exit: s.ExitCode()}
			if s.Reason != nil {
				got.Code = s.Reason.Code
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestReadCorruptRecordChangesNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, recordName)
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Read(filepath.Join(dir, "run"), dir)
	if err != nil {
		t.Fatal(err)
	}
	if s.ExitCode() != ExitDisabled || s.Reason == nil || s.Reason.Code != string(ReasonCorrupt) {
		t.Errorf("got exit %d, reason %+v", s.ExitCode(), s.Reason)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("files %v, %v", entries, err)
	}
}

func TestReadUnreadableStatus(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, StatusName), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := Read(dir, dir)
	wantCode(t, err, ReasonStatus)
}

func TestReadNeedsNoPrivilege(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("only root can become nobody: run the tests as root")
	}
	dir, err := os.MkdirTemp("", "ztp-read")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "test"), program, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(filepath.Join(dir, "state")); err != nil {
		t.Fatal(err)
	}
	readAsNobody := func() int {
		cmd := otherProcess("read", dir)
		cmd.Path, cmd.Dir = filepath.Join(dir, "test"), "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() >= 100 {
			t.Fatalf("%v: %s", err, out)
		}
		return cmd.ProcessState.ExitCode()
	}
	lock, err := LockDaemon(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Unlock()
	board := NewBoard(filepath.Join(dir, StatusName), Status{Enabled: true, Phase: PhaseVisiting, PID: os.Getpid()})
	if got := readAsNobody(); got != ExitInProgress {
		t.Errorf("while the daemon runs: exit %d", got)
	}
	board.Update(func(s *Status) { s.PID = 1 << 30 })
	if got := readAsNobody(); got != ExitNotStarted {
		t.Errorf("after the daemon was killed: exit %d", got)
	}
	board.Update(func(s *Status) { s.Phase, s.Outcome = PhaseDone, OutcomeProvisioned })
	if got := readAsNobody(); got != ExitProvisioned {
		t.Errorf("after the daemon ended: exit %d", got)
	}
}

func put(t *testing.T, path string, v any) {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkRead(b *testing.B) {
	dir := b.TempDir()
	NewBoard(filepath.Join(dir, StatusName), Status{Phase: PhaseDone})
	if _, err := Open(dir); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := Read(dir, dir); err != nil {
			b.Fatal(err)
		}
	}
}
