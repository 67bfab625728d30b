package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
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

// TestNothingEscapes has the program leave processes that have no mark, no group and no parent of its own: one that hides once,
// and one that does so a thousand times, as a new process each time. Without control groups the first cannot be found; then the
// test ends it.
func TestNothingEscapes(t *testing.T) {
	probe := newCage()
	probe.end()
	escapees := map[string]string{"daemon": "exec sleep 1000"}
	if probe != nil { // it could not be ended otherwise
		escapees["runaway"] = "[ ${1-0} -gt 2000 ] && exit; setsid \"$0\" $((${1-0} + 1)) & exit"
	}
	for name, body := range escapees {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			hidden := filepath.Join(dir, "hidden")
			script := "#!/bin/sh\ncd " + dir + "\nexec 9>>lock; flock -s 9; echo $$ >pid\n[ -p begun ] && mv begun done && echo >done\n" + body + "\n"
			if err := os.WriteFile(hidden, []byte(script), 0o700); err != nil {
				t.Fatal(err)
			}
			c := sh("mkfifo begun; exec 3<>begun; env -i PATH=\"$PATH\" setsid ./hidden & read x <&3")
			c.Dir = dir
			if r := run(t, c); r.Output != "" {
				t.Fatalf("%+v", r)
			}
			wait := "20"
			if probe == nil {
				wait = "0.1"
			}
			out, err := exec.Command("flock", "-x", "-w", wait, filepath.Join(dir, "lock"), "echo", "free").CombinedOutput()
			if free := err == nil && strings.TrimSpace(string(out)) == "free"; free != (probe != nil) {
				t.Errorf("control groups: %t; everything is gone: %t", probe != nil, free)
			}
			if probe == nil {
				tidy := exec.Command("/bin/sh", "-c", "until flock -x -w 1 lock true; do kill -KILL $(cat pid); done")
				tidy.Dir = dir
				if out, err := tidy.CombinedOutput(); err != nil {
					t.Errorf("%v %s", err, out)
				}
			}
		})
	}
}

// TestCagesOfTheDead are taken down by whoever makes the next one; those of the living are not.
func TestCagesOfTheDead(t *testing.T) {
	gone := exec.Command("/bin/true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	own := t.TempDir()
	dead, alive := filepath.Join(own, fmt.Sprintf("ztp-%d-X", gone.Process.Pid)), filepath.Join(own, fmt.Sprintf("ztp-%d-X", os.Getpid()))
	other := filepath.Join(own, "ztp-other")
	for _, path := range []string{dead, alive, other} {
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	tidy(own)
	for path, want := range map[string]bool{dead: false, alive: true, other: true} {
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestImmortal gives up on a program that even SIGKILL does not end.
func TestImmortal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked []syscall.Signal
		begun := time.Now()
		timedOut, err := await(t.Context(), nil, func(s syscall.Signal) { asked = append(asked, s) }, time.Minute)
		if !timedOut || !errors.Is(err, ErrImmortal) || time.Since(begun) != time.Minute+termGrace+killGrace {
			t.Errorf("got %v, %v after %v", timedOut, err, time.Since(begun))
		}
		if len(asked) != 2 || asked[0] != syscall.SIGTERM || asked[1] != syscall.SIGKILL {
			t.Errorf("asked by %v", asked)
		}
	})
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
