package onboard

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/xpu-sztp/ztp/pkg/process"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// sessionVariable marks every process of a session, so that none escapes by leaving its process group.
const sessionVariable = "ZTP_SESSION"

// job is a script or a configuration handler to run.
type job struct {
	argv    []string
	step    state.StepName
	action  string // "run", "merge", "replace" or "undo"
	session string
	stdin   string        // a file; empty is /dev/null
	timeout time.Duration // 0 is none
}

// finished is how a process ended.
type finished struct {
	process.Result
	warning bool
}

// verdictReasons are the reason codes for the ways a process fails.
type verdictReasons struct{ start, failed, killed, timeout reason.Code }

// runJudged runs p and judges its end: 0 is success, scripts.warning-exit is success with a warning, and any other exit
// code, a signal and the time limit are errors (RFC 8572 §5.6 leaves the table to the device).
func (e *Executor) runJudged(ctx context.Context, p job, codes verdictReasons) (finished, error) {
	f, err := e.run(ctx, p)
	if err != nil {
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			return f, fmt.Errorf("%s was stopped: %w", p.step, err)
		}
		if errors.Is(err, process.ErrImmortal) {
			return f, &reason.Error{
				Code: codes.timeout, Msg: fmt.Sprintf("%s did not end within %v", p.step, p.timeout), Err: err,
				Fix: "look in the kernel log for what hangs; only that, or a reboot, ends the process",
			}
		}
		return f, &reason.Error{
			Code: codes.start, Msg: fmt.Sprintf("cannot start %s", p.step), Err: err,
			Fix: "check that the interpreter or handler works on the device, and that it has free memory and storage",
		}
	}
	code := f.State.ExitCode()
	switch status := f.State.Sys().(syscall.WaitStatus); {
	case f.TimedOut:
		return f, &reason.Error{
			Code: codes.timeout,
			Msg:  fmt.Sprintf("%s did not end within %v and was killed", p.step, p.timeout),
			Fix:  "find out what it waits for, or raise the time limit in the configuration of ztp",
		}
	case status.Signaled():
		return f, &reason.Error{
			Code: codes.killed, Msg: fmt.Sprintf("%s was ended by a signal: %v", p.step, status.Signal()),
			Fix: "look in the kernel log whether the device ran out of memory, and at its output in the progress report",
		}
	case code == 0:
		return f, nil
	case code == e.Scripts.WarningExit:
		f.warning = true
		return f, nil
	}
	return f, &reason.Error{
		Code: codes.failed,
		Msg:  fmt.Sprintf("%s failed with exit code %d", p.step, code),
		Fix:  "look at its output, which is in the progress report if the bootstrap server was authenticated",
	}
}

// run runs p in an empty private folder and with the environment of environment; see process.Run.
func (e *Executor) run(ctx context.Context, p job) (f finished, err error) {
	if err := ctx.Err(); err != nil {
		return f, err
	}
	work := filepath.Join(e.Dir, workFolder)
	if err := errors.Join(os.RemoveAll(work), os.MkdirAll(work, 0o700)); err != nil {
		return f, err
	}
	defer os.RemoveAll(work)
	f.Result, err = process.Run(ctx, process.Command{
		Argv: p.argv, Dir: work, Env: e.environment(p, work), Mark: sessionMark(p.session),
		Stdin: p.stdin, Timeout: p.timeout, Output: int(e.Scripts.OutputLimit),
	})
	return f, err
}

// settleLimit bounds the wait for what scripts wrote. It may hang with any file system that they left mounted.
const settleLimit = 60 * time.Second

// settle makes durable what scripts and handlers wrote, which they rarely do themselves: a device that is recorded as
// provisioned must not lose it to a power cut half a minute later.
func (e *Executor) settle() {
	done := make(chan error, 1)
	go func() { done <- e.FS.SyncAll() }()
	timer := time.NewTimer(settleLimit)
	defer timer.Stop()
	var err error
	select {
	case err = <-done:
	case <-timer.C:
		err = fmt.Errorf("not within %v", settleLimit)
	}
	if err != nil {
		e.warn("what scripts wrote could not be forced to the storage, and a power cut may lose it", err)
	}
}

// ScriptExits is what the end of a script or configuration handler means, for manuals (RFC 8572 §6.3 leaves it to the device).
func ScriptExits() [][2]string {
	return [][2]string{
		{"0", "success; the agent goes on"},
		{"10", "warning (scripts.warning-exit): the output is reported, and the agent goes on"},
		{"any other", "error: the session stops, the output is reported, and everything is undone in reverse order"},
		{"a signal", "error"},
		{"no end", "after scripts.timeout or configuration.timeout SIGTERM, three seconds later SIGKILL: error"},
		{"to undo", "ignored of a script; a handler that fails is run again, three times in all"},
	}
}

// ScriptEnvironment is all a script or configuration handler gets to know, for manuals. What they start is killed when they end.
func ScriptEnvironment() [][2]string {
	return [][2]string{
		{"PATH", process.Path},
		{"LANG", "C.UTF-8"},
		{"HOME, TMPDIR", "a private working directory, which is removed afterwards"},
		{"ZTP_PHASE", `"pre-script", "configuration" or "post-script"`},
		{"ZTP_ACTION", `"run", "merge", "replace" or "undo"; a script has "undo" as its argument, too, and else none`},
		{"ZTP_ROOT", "the folder below which ztp was told to work; / on a device"},
		{"ZTP_SESSION", "identifies the session, so that `ztp disable` in a script does not end it"},
	}
}

func (e *Executor) environment(p job, work string) []string {
	root := e.Root
	if root == "" {
		root = "/"
	}
	return []string{
		"PATH=" + process.Path,
		"LANG=C.UTF-8",
		"HOME=" + work,
		"TMPDIR=" + work,
		"ZTP_PHASE=" + string(p.step),
		"ZTP_ACTION=" + p.action,
		"ZTP_ROOT=" + root,
		sessionMark(p.session),
	}
}

// sessionMark is the variable that all processes of a session have.
func sessionMark(id string) string { return sessionVariable + "=" + id }

// killSession kills what is left of a session.
func killSession(id string) {
	if id != "" {
		process.KillMarked(sessionMark(id))
	}
}
