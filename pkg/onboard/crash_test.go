package onboard

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/progress"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/slot"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// TestMain lets the test binary play a device that dies.
func TestMain(m *testing.M) {
	dir := os.Getenv("ONBOARD_TEST_DIR")
	if dir == "" {
		os.Exit(m.Run())
	}
	exit, exitErr := strconv.Atoi(os.Getenv("ONBOARD_TEST_POST"))
	moment, momentErr := strconv.Atoi(os.Getenv("ONBOARD_TEST_DIE"))
	l := life{imageURL: os.Getenv("ONBOARD_TEST_IMAGE"), postExit: exit}
	if err := errors.Join(exitErr, momentErr, l.play(dir, moment)); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// dyingStore kills the process at a given moment: before (even) or after (odd) the n-th write.
type dyingStore struct {
	*state.Store
	moment, die int
}

func (s *dyingStore) Update(change func(*state.Record) error) error {
	s.pass()
	err := s.Store.Update(change)
	s.pass()
	return err
}

func (s *dyingStore) pass() {
	if s.moment == s.die {
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
	s.moment++
}

// life is what a device is told to do.
type life struct {
	imageURL string // of an image to install first; empty is none
	postExit int    // of the post-script
}

// play is one life of the daemon, from start to success, failure or death. A reboot starts the slot that is next.
func (l life) play(dir string, moment int) error {
	r, err := openRig(dir)
	if err != nil {
		return err
	}
	r.opts.Store = &dyingStore{Store: r.store, die: moment}
	for range 5 {
		running, _, err := slot.Boot(filepath.Join(dir, "slots"))
		if err != nil {
			return err
		}
		r.opts.Device.OSVersion = map[string]string{"a": "1", "b": "2"}[running]
		e := New(r.opts)
		if err := e.Recover(context.Background()); err != nil {
			return err
		}
		if rec, err := r.store.Load(); err != nil || rec.Outcome == state.OutcomeProvisioned {
			return err
		}
		p := r.full()
		p.config.Handling = artifacts.Merge
		p.post = r.tracer("post", l.postExit)
		if l.imageURL != "" {
			p.boot = demand(newImage, "2", l.imageURL)
		}
		outcome, err := e.execute(context.Background(), Request{
			Reporter: r.server, Level: progress.Verbose, Network: loopback{},
		}, p)
		if code, _ := reason.Of(err); code == ReasonScriptFailed && l.postExit != 0 {
			return nil // as it must be
		}
		if code, _ := reason.Of(err); code == ReasonImageFellBack {
			continue // as the server is told; the next session tries again
		}
		if err != nil {
			return err
		}
		if outcome == Complete {
			return nil
		}
	}
	return errors.New("it never ends")
}

const newImage = "the image of version 2"

// TestCrashSweep kills the daemon before and after every durable write of a whole provisioning (and so before and after
// every effect), starts it again, and wants the disk that an uninterrupted run leaves.
func TestCrashSweep(t *testing.T) {
	imageURL := newMirror(t, newImage).URL + "/image"
	for _, tt := range []struct {
		name string
		life life
	}{
		{"scripts-and-configuration", life{}},
		{"with-image", life{imageURL: imageURL}},
		{"post-script-fails", life{postExit: 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			want, died := tt.life.live(t, -1)
			if died {
				t.Fatal("the uninterrupted run was interrupted")
			}
			for moment := 0; ; moment++ {
				got, died := tt.life.live(t, moment)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("killed at moment %d: %s", moment, diff)
				}
				if !died {
					if moment < 10 {
						t.Errorf("only %d moments: the sweep does not reach anything", moment)
					}
					return
				}
			}
		})
	}
}

// live plays a device that dies at a moment, and then one that does not, on the same disk. It returns the disk.
func (l life) live(t *testing.T, moment int) (disk map[string]string, died bool) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "device")
	put(t, filepath.Join(dir, "slots", "a.img"), "the image of version 1", 0o600)
	put(t, filepath.Join(dir, "etc", "config.json"), `{"old":[1,2],"new":null}`, 0o640)
	died = l.start(t, dir, moment)
	if died && l.start(t, dir, -1) {
		t.Fatal("died a second time")
	}
	r, err := openRig(dir)
	if err != nil {
		t.Fatal(err)
	}
	rec := r.record(t)
	if len(rec.Journal) > 0 || (rec.Outcome == state.OutcomeProvisioned) != (l.postExit == 0) {
		t.Errorf("killed at moment %d: record %+v", moment, rec)
	}
	wantNothingStaged(t, r)
	effects := []string{"pre", "post"}
	if l.postExit != 0 {
		effects = nil
	}
	wantEffects(t, moment, r.trace(), effects)
	disk = tree(t, dir)
	for hash, image := range rec.Images {
		disk["record of image "+hash] = fmt.Sprintf("%s in slot %s", image.State, image.Slot)
	}
	return disk, died
}

func (l life) start(t *testing.T, dir string, moment int) (died bool) {
	t.Helper()
	if moment < 0 { // it needs no process of its own
		if err := l.play(dir, moment); err != nil {
			t.Fatal(err)
		}
		return false
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0", "ONBOARD_TEST_DIR="+dir, "ONBOARD_TEST_IMAGE="+l.imageURL,
		"ONBOARD_TEST_POST="+strconv.Itoa(l.postExit), "ONBOARD_TEST_DIE="+strconv.Itoa(moment))
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return true
	}
	if err != nil {
		t.Fatalf("killed at moment %d: %v: %s", moment, err, out)
	}
	return false
}

// wantEffects checks that scripts were undone before they ran again, in reverse order, and which were not undone at the
// end.
func wantEffects(t *testing.T, moment int, trace, effects []string) {
	t.Helper()
	var done []string
	for _, line := range trace {
		switch line {
		case "pre", "post":
			if slices.Contains(done, line) {
				t.Errorf("killed at moment %d: %q twice in %q", moment, line, trace)
			}
			done = append(done, line)
		case "pre undo", "post undo":
			// The last effect; or none, when the script had been recorded but not yet run.
			name := line[:len(line)-len(" undo")]
			if n := len(done); n > 0 && done[n-1] == name {
				done = done[:n-1]
			} else if slices.Contains(done, name) {
				t.Errorf("killed at moment %d: %q out of order in %q", moment, line, trace)
			}
		}
	}
	if diff := cmp.Diff(effects, done, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("killed at moment %d: trace %q: %s", moment, trace, diff)
	}
}

// TestRecoverKillsScripts starts anew after a daemon that was killed while its script ran on.
func TestRecoverKillsScripts(t *testing.T) {
	r := newRig(t)
	const id = "TESTRECOVERKILLSSCRIPTS"
	missing := &state.FileBackup{Path: filepath.Join(r.dir, "missing")}
	entry := state.Entry{Step: state.StepConfiguration, Session: id, File: missing}
	if err := r.store.Update(func(rec *state.Record) error { rec.Journal = []state.Entry{entry}; return nil }); err != nil {
		t.Fatal(err)
	}
	start := func(id string) *exec.Cmd {
		cmd := exec.Command("/bin/sleep", "1000")
		cmd.Env = []string{sessionVariable + "=" + id}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		return cmd
	}
	orphan, bystander := start(id), start(id+"X")
	if err := New(r.opts).Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !dies(orphan.Process.Pid) {
		t.Error("the script still runs")
	}
	if dead(bystander.Process.Pid) {
		t.Error("a process of somebody else was killed")
	}
}

// TestRecoverStopped leaves what it did not finish to the next start.
func TestRecoverStopped(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	fifo := filepath.Join(r.dir, "started")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(r.opts.Dir, stagedPre), "#!/bin/sh\necho >"+fifo+"\nsleep 1000\n", 0o700)
	entry := state.Entry{Step: state.StepPreScript, Session: "S", Staged: stagedPre}
	if err := r.store.Update(func(rec *state.Record) error { rec.Journal = []state.Entry{entry}; return nil }); err != nil {
		t.Fatal(err)
	}
	go func() {
		os.ReadFile(fifo) // until the undoing has started
		cancel()
	}()
	wantCode(t, New(r.opts).Recover(ctx), ReasonRollback)
	if diff := cmp.Diff([]state.Entry{entry}, r.record(t).Journal); diff != "" {
		t.Error(diff)
	}
	put(t, filepath.Join(r.opts.Dir, stagedPre), string(r.tracer("pre", 0)), 0o700)
	if err := New(r.opts).Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"pre undo"}, r.trace()); diff != "" {
		t.Error(diff)
	}
	wantNothingStaged(t, r)
}
