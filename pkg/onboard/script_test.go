package onboard

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/xpu-sztp/ztp/pkg/config"
	"github.com/xpu-sztp/ztp/pkg/progress"
	"github.com/xpu-sztp/ztp/pkg/reason"
)

// sh is a script that does nothing when it is to be undone.
func sh(body string) []byte {
	return []byte("#!/bin/sh\n[ \"$1\" = undo ] && exit 0\n" + body + "\n")
}

// brief gives scripts little time.
func brief(r *rig) { r.opts.Scripts.Timeout = config.Duration(200 * time.Millisecond) }

func TestScriptVerdicts(t *testing.T) {
	exit := func(code int) *int { return &code }
	tests := []struct {
		name    string
		script  []byte
		change  func(*rig)
		want    reason.Code
		result  string
		exit    *int
		message string // in the report
	}{
		{name: "success", script: sh("echo fine; exit 0"), result: "complete", exit: exit(0), message: "fine"},
		{name: "warning", script: sh("echo hm >&2; exit 10"), result: "warning", exit: exit(10), message: "hm"},
		{name: "error", script: sh("echo oh >&2; exit 1"), want: ReasonScriptFailed, exit: exit(1), message: "oh"},
		{name: "error-next-to-warning", script: sh("exit 11"), want: ReasonScriptFailed, exit: exit(11)},
		{name: "error-255", script: sh("exit 255"), want: ReasonScriptFailed, exit: exit(255)},
		{name: "no-warning-configured", script: sh("exit 10"), want: ReasonScriptFailed, exit: exit(10),
			change: func(r *rig) { r.opts.Scripts.WarningExit = 0 }},
		{name: "signal", script: sh("echo last words; kill -SEGV $$"), want: ReasonScriptKilled, message: "last words"},
		{name: "hangs", script: sh("echo before; sleep 1000"), want: ReasonScriptTimeout, message: "before", change: brief},
		{name: "exits-0-on-sigterm", script: sh("trap 'exit 0' TERM; sleep 1000 & wait"), want: ReasonScriptTimeout,
			exit: exit(0), change: brief},
		{name: "no-shebang", script: []byte("echo hello\n"), want: ReasonScriptNoInterpreter},
		{name: "missing-interpreter", script: []byte("#!/no/such/shell\n"), want: ReasonScriptNoInterpreter},
		{name: "interpreter-is-a-folder", script: []byte("#!/tmp\n"), want: ReasonScriptNoInterpreter},
		{name: "relative-interpreter", script: []byte("#!sh\n"), want: ReasonScriptNoInterpreter},
		{name: "carriage-return", script: []byte("#!/bin/sh\r\nexit 0\r\n"), want: ReasonScriptNoInterpreter},
		{name: "endless-shebang", script: []byte("#!/bin/" + strings.Repeat("/", 300) + "sh\n"), want: ReasonScriptNoInterpreter},
		{name: "nothing-but-shebang", script: []byte("#!"), want: ReasonScriptNoInterpreter},
		{name: "interpreter-with-argument", script: []byte("#! /usr/bin/env \t sh\n[ \"$1\" = undo ] || echo env"), result: "complete",
			exit: exit(0), message: "env"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			if tt.change != nil {
				tt.change(r)
			}
			_, err := r.run(progress.Verbose, plan{pre: tt.script})
			wantCode(t, err, tt.want)
			if _, hint := reason.Of(err); err != nil && hint == "" {
				t.Errorf("no hint with %v", err)
			}
			if tt.want != "" {
				tt.result = string(tt.want)
			}
			step := r.board.Snapshot().Steps[0]
			if step.Result != tt.result || !cmp.Equal(step.Exit, tt.exit) || step.Ended.IsZero() {
				t.Errorf("step %+v", step)
			}
			report := map[string]progress.Type{
				"complete": progress.PreScriptComplete, "warning": progress.PreScriptWarning,
			}[tt.result]
			if report == "" {
				report = progress.PreScriptError
			}
			if got := r.server.message(report); !strings.Contains(got, tt.message) {
				t.Errorf("%s says %q, want %q in it", report, got, tt.message)
			}
			wantNothingStaged(t, r)
		})
	}
}

// TestScriptIsKilledWithItsChildren has children in the script's group, in other groups and in other sessions, of a
// script that hangs and of one that ends.
func TestScriptIsKilledWithItsChildren(t *testing.T) {
	for _, end := range []string{"exit 0", "exit 1", "sleep 1000"} {
		t.Run(end, func(t *testing.T) {
			r := newRig(t)
			brief(r)
			pids := filepath.Join(r.dir, "pids")
			child := "sh -c 'echo $$ >>" + pids + "; trap \"\" TERM HUP; while :; do sleep 1000; done' &\n"
			body := child + "setsid " + child + "(setsid " + child + ")\n" +
				"while [ \"$(wc -l 2>/dev/null <" + pids + ")\" != 3 ]; do :; done\n" + end
			r.opts.Scripts.Timeout = config.Duration(2 * time.Second)
			r.run(progress.Minimal, plan{pre: sh(body)})
			data, err := os.ReadFile(pids)
			if err != nil {
				t.Fatal(err)
			}
			children := strings.Fields(string(data))
			if len(children) != 3 {
				t.Fatalf("children %v", children)
			}
			for _, pid := range children {
				if n, _ := strconv.Atoi(pid); !dies(n) {
					t.Errorf("child %s is alive", pid)
				}
			}
		})
	}
}

// dies waits for the end of a process, which need not be a child.
func dies(pid int) bool {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return err == unix.ESRCH
	}
	defer unix.Close(fd)
	ended := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(ended, int(10*time.Second/time.Millisecond))
		if err != unix.EINTR {
			return n == 1
		}
	}
}

// dead tells whether a process is gone, or a zombie that nobody has reaped yet.
func dead(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(rest, "Z") || strings.HasPrefix(rest, "X") || syscall.Kill(pid, 0) != nil
}

func TestScriptOutput(t *testing.T) {
	tests := []struct{ name, body, begin, end string }{
		{"10-MiB", "echo BEGIN; head -c 10485760 /dev/zero | tr '\\0' x; echo; echo END", "BEGIN\n", "END\n"},
		{"not-utf8", `printf 'a\377\376b\000c\033[31m\n'`, "a", "c\uFFFD[31m\n"},
		{"split-rune", "i=0; while [ $i -lt 3000 ]; do printf 'ä€'; i=$((i+1)); done", "ä€", "ä€"},
		{"both-streams-in-order", "echo one; echo two >&2; echo three", "one\ntwo\nthree\n", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			if _, err := r.run(progress.Verbose, plan{pre: sh(tt.body)}); err != nil {
				t.Fatal(err)
			}
			got := r.server.message(progress.PreScriptComplete)
			if !strings.HasPrefix(got, tt.begin) || !strings.HasSuffix(got, tt.end) {
				t.Errorf("got %.60q … %q", got, got[max(0, len(got)-60):])
			}
			if limit := int(r.opts.Scripts.OutputLimit); len(got) > limit+100 {
				t.Errorf("%d bytes, the limit is %d", len(got), limit)
			}
			if !utf8.ValidString(got) || strings.ContainsAny(got, "\x00\x1b") {
				t.Errorf("not a YANG string: %q", got)
			}
		})
	}
}

func TestScriptEnvironment(t *testing.T) {
	r := newRig(t)
	t.Setenv("SECRET", "of the daemon")
	dump := sh("env | sort; pwd; ls -A; stat -c '%a %u' . \"$0\"; readlink /proc/$$/fd/0")
	if _, err := r.run(progress.Verbose, plan{post: dump}); err != nil {
		t.Fatal(err)
	}
	work := filepath.Join(r.opts.Dir, workFolder)
	want := []string{
		"HOME=" + work, "LANG=C.UTF-8", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "PWD=" + work,
		"TMPDIR=" + work, "ZTP_ACTION=run", "ZTP_PHASE=post-script", "ZTP_ROOT=" + r.dir, "ZTP_SESSION=…",
		work, fmt.Sprintf("700 %d", os.Getuid()), fmt.Sprintf("700 %d", os.Getuid()), "/dev/null",
	}
	got := strings.Split(strings.TrimSpace(r.server.message(progress.PostScriptComplete)), "\n")
	for i := range got {
		if name, value, _ := strings.Cut(got[i], "="); name == sessionVariable && value != "" {
			got[i] = name + "=…"
		}
	}
	got = slices.DeleteFunc(got, func(line string) bool {
		return strings.HasPrefix(line, "_=") || strings.HasPrefix(line, "OLDPWD=") || strings.HasPrefix(line, "SHLVL=")
	})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	wantNothingStaged(t, r)
}

func TestScriptAbsentWhenEmpty(t *testing.T) {
	r := newRig(t)
	if _, err := r.run(progress.Verbose, plan{pre: []byte{}}); err != nil {
		t.Fatal(err)
	}
	if slices.Contains(r.server.types(), progress.PreScriptInitiated) {
		t.Errorf("reports %v", r.server.types())
	}
}

func TestScriptCannotBeKept(t *testing.T) {
	r := newRig(t)
	put(t, r.opts.Dir, "a file in the way", 0o600)
	_, err := r.run(progress.Minimal, plan{pre: r.tracer("pre", 0)})
	wantCode(t, err, ReasonStaging)
	if got := r.trace(); got != nil {
		t.Errorf("executed %v without a journal", got)
	}
}

func TestScriptStopped(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := New(r.opts).execute(ctx, Request{}, plan{pre: r.tracer("pre", 0)})
	wantCode(t, err, reason.Cancelled)
	if got := r.trace(); got != nil {
		t.Errorf("executed %v", got)
	}
}

// TestScriptEnvironmentIsDocumented: the manual names each variable, and no other.
func TestScriptEnvironmentIsDocumented(t *testing.T) {
	r := newRig(t)
	var want, got []string
	for _, variable := range New(r.opts).environment(job{}, "/work") {
		name, _, _ := strings.Cut(variable, "=")
		want = append(want, name)
	}
	for _, entry := range ScriptEnvironment() {
		got = append(got, strings.Split(entry[0], ", ")...)
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func FuzzInterpreter(f *testing.F) {
	f.Add([]byte("#!/bin/sh -e x\n"))
	f.Add([]byte("#! \t/bin/sh"))
	f.Fuzz(func(t *testing.T, body []byte) {
		argv, err := interpreter(body)
		if err != nil {
			return
		}
		line, _, _ := strings.Cut(string(body), "\n")
		if len(argv) < 1 || len(argv) > 2 || !filepath.IsAbs(argv[0]) {
			t.Fatalf("%q became %q", line, argv)
		}
		if got := strings.Join(strings.Fields(strings.Join(argv, " ")), " "); got != strings.Join(strings.Fields(line[2:]), " ") {
			t.Fatalf("%q became %q", line, argv)
		}
	})
}
