package process

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const mark = "PROCESS_TEST=1"

func sh(script string) Command {
	return Command{Argv: []string{"/bin/sh", "-c", script}, Env: []string{"PATH=" + Path, mark}, Mark: mark}
}

func run(t *testing.T, c Command) Result {
	t.Helper()
	r, err := Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRun(t *testing.T) {
	t.Setenv("SECRET", "of the daemon")
	r := run(t, sh(`echo to stdout; echo to stderr >&2; echo "$SECRET"; cat; exit 7`))
	if r.Output != "to stdout\nto stderr\n\n" || *r.ExitCode() != 7 || r.Answer != nil {
		t.Errorf("%+v", r)
	}
}

func TestAnswer(t *testing.T) {
	c := sh(`echo complaint >&2; printf 0123456789`)
	for _, tt := range []struct {
		limit    int
		want     string
		overflow bool
	}{{10, "0123456789", false}, {9, "012345678", true}} {
		c.Answer = tt.limit
		if r := run(t, c); string(r.Answer) != tt.want || r.Overflow != tt.overflow || r.Output != "complaint\n" {
			t.Errorf("limit %d: %+v", tt.limit, r)
		}
	}
	c = sh(`head -c 10000000 /dev/zero`) // does not wait for a reader
	c.Answer = 1 << 10
	if r := run(t, c); len(r.Answer) != 1<<10 || !r.Overflow || *r.ExitCode() != 0 {
		t.Errorf("%d bytes, %+v", len(r.Answer), r.State)
	}
}

func TestStdin(t *testing.T) {
	c := sh("cat")
	c.Stdin = filepath.Join(t.TempDir(), "in")
	if _, err := Run(t.Context(), c); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without the file: %v", err)
	}
	if err := os.WriteFile(c.Stdin, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := run(t, c); r.Output != "text" {
		t.Errorf("%+v", r)
	}
}

func TestCannotStart(t *testing.T) {
	if _, err := Run(t.Context(), Command{Argv: []string{"/nonexistent"}}); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func TestTimeout(t *testing.T) {
	c := sh("echo begun; sleep 1000")
	c.Timeout = 100 * time.Millisecond
	if r := run(t, c); !r.TimedOut || r.Output != "begun\n" || r.ExitCode() != nil {
		t.Errorf("%+v", r)
	}
}

func TestCancelled(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "begun")
	if err := exec.Command("mkfifo", fifo).Run(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		os.ReadFile(fifo)
		cancel()
	}()
	if _, err := Run(ctx, sh("echo >"+fifo+"; sleep 1000")); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := Run(ctx, sh("touch "+fifo+".late")); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := os.Stat(fifo + ".late"); err == nil {
		t.Error("ran although it was cancelled before")
	}
}

// TestNothingSurvives has the program leave a process in its group, and one in a session of its own. Both hold a lock.
func TestNothingSurvives(t *testing.T) {
	c := sh(`mkfifo begun; for hide in '' setsid; do
		$hide sh -c 'exec 9>>lock; flock -s 9; echo >begun; exec sleep 1000' & read x <begun
	done`)
	c.Dir = t.TempDir()
	if r := run(t, c); r.Output != "" {
		t.Fatalf("%+v", r)
	}
	out, err := exec.Command("flock", "-x", "-w", "20", filepath.Join(c.Dir, "lock"), "echo", "free").CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "free" {
		t.Errorf("somebody still holds the lock: %v %s", err, out)
	}
}

// TestKillMarkedDuringExec looks for a process that keeps becoming another program: half of the time, the kernel does not
// show the environment that marks it.
func TestKillMarkedDuringExec(t *testing.T) {
	const mark = "MARK=TESTKILLMARKEDDURINGEXEC"
	for range 30 {
		cmd := exec.Command("/bin/sh", "-c", `exec /bin/sh -c "$0" "$0"`, `exec /bin/sh -c "$0" "$0"`)
		cmd.Env = []string{mark}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		KillMarked(mark)
		rescue := time.AfterFunc(10*time.Second, func() { cmd.Process.Kill() })
		cmd.Wait()
		if !rescue.Stop() {
			t.Fatal("a process escaped")
		}
	}
}
