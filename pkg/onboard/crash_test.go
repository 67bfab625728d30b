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
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/progress"
	"github.com/xpu-sztp/ztp/pkg/slot"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// TestMain lets the test binary play a device that dies.
func TestMain(m *testing.M) {
	dir := os.Getenv("ONBOARD_TEST_DIR")
	if dir == "" {
		os.Exit(m.Run())
	}
	if err := playDevice(dir, os.Getenv("ONBOARD_TEST_IMAGE"), os.Getenv("ONBOARD_TEST_DIE")); err != nil {
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

// playDevice is one life of the daemon, from start to success or death. A reboot starts the slot that is next.
func playDevice(dir, imageURL, die string) error {
	r, err := openRig(dir)
	if err != nil {
		return err
	}
	moment, err := strconv.Atoi(die)
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
		if imageURL != "" {
			p.boot = demand(newImage, "2", imageURL)
		}
		outcome, err := e.execute(context.Background(), Request{
			Reporter: r.server, Level: progress.Verbose, Network: loopback{},
		}, p)
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
	for _, withImage := range []bool{false, true} {
		t.Run(map[bool]string{false: "scripts-and-configuration", true: "with-image"}[withImage], func(t *testing.T) {
			imageURL := ""
			if withImage {
				imageURL = newMirror(t, newImage).URL + "/image"
			}
			want, died := live(t, imageURL, -1)
			if died {
				t.Fatal("the uninterrupted run was interrupted")
			}
			for moment := 0; ; moment++ {
				got, died := live(t, imageURL, moment)
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
func live(t *testing.T, imageURL string, moment int) (disk map[string]string, died bool) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "device")
	put(t, filepath.Join(dir, "slots", "a.img"), "the image of version 1", 0o600)
	put(t, filepath.Join(dir, "etc", "config.json"), `{"old":[1,2],"new":null}`, 0o640)
	start := func(die int) error {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0", "ONBOARD_TEST_DIR="+dir,
			"ONBOARD_TEST_IMAGE="+imageURL, "ONBOARD_TEST_DIE="+strconv.Itoa(die))
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
			died = true
			return nil
		}
		if err != nil {
			err = fmt.Errorf("killed at moment %d: %w: %s", moment, err, out)
		}
		return err
	}
	if err := start(moment); err != nil {
		t.Fatal(err)
	}
	if died {
		if err := start(-1); err != nil {
			t.Fatal(err)
		}
	}
	r, err := openRig(dir)
	if err != nil {
		t.Fatal(err)
	}
	rec := r.record(t)
	if rec.Outcome != state.OutcomeProvisioned || len(rec.Journal) > 0 || rec.Session != nil {
		t.Errorf("killed at moment %d: record %+v", moment, rec)
	}
	wantNothingStaged(t, r)
	wantPairs(t, moment, r.trace())
	disk = tree(t, dir)
	for hash, image := range rec.Images {
		disk["record of image "+hash] = fmt.Sprintf("%s in slot %s", image.State, image.Slot)
	}
	return disk, died
}

// wantPairs checks that scripts that ran more than once were undone in between, in reverse order.
func wantPairs(t *testing.T, moment int, trace []string) {
	t.Helper()
	var done []string
	for _, line := range trace {
		switch line {
		case "pre", "post":
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
	if diff := cmp.Diff([]string{"pre", "post"}, done); diff != "" {
		t.Errorf("killed at moment %d: trace %q: %s", moment, trace, diff)
	}
}

// TestRecoverKillsScripts starts anew after a daemon that was killed while its script ran on.
func TestRecoverKillsScripts(t *testing.T) {
	r := newRig(t)
	session := state.NewSession(time.Now())
	if err := r.store.Update(func(rec *state.Record) error {
		rec.Session = session
		rec.Journal = []state.Entry{{Step: state.StepPreScript, Staged: stagedPre}}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(r.opts.Dir, stagedPre), string(r.tracer("pre", 0)), 0o700)
	orphan := exec.Command("/bin/sleep", "1000")
	orphan.Env = []string{sessionVariable + "=" + session.ID}
	bystander := exec.Command("/bin/sleep", "1000")
	bystander.Env = []string{sessionVariable + "=" + session.ID + "X"}
	for _, cmd := range []*exec.Cmd{orphan, bystander} {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer cmd.Wait()
		defer cmd.Process.Kill()
	}
	if err := New(r.opts).Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := orphan.Wait(); err == nil || orphan.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("the orphan ended with %v", err)
	}
	if err := bystander.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("a process of somebody else was killed: %v", err)
	}
	if diff := cmp.Diff([]string{"pre undo"}, r.trace()); diff != "" {
		t.Error(diff)
	}
	wantNothingStaged(t, r)
}
