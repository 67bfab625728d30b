package onboard

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// sessionVariable marks every process of a session, so that none escapes by leaving its process group.
const sessionVariable = "ZTP_SESSION"

const (
	termGrace = 3 * time.Second // between SIGTERM and SIGKILL
	pipeGrace = 2 * time.Second // for the last output after everything was killed
)

// process is a script or a configuration handler to run.
type process struct {
	argv    []string
	step    state.StepName
	action  string // "run", "merge", "replace" or "undo"
	session string
	stdin   string        // a file; empty is /dev/null
	timeout time.Duration // 0 is none
}

// finished is how a process ended.
type finished struct {
	state    *os.ProcessState // nil when it never ran
	timedOut bool
	warning  bool
	output   string // both streams, capped; UTF-8
}

// exitCode is the exit code, or nil when there was none.
func (f finished) exitCode() *int {
	if f.state == nil || !f.state.Exited() {
		return nil
	}
	code := f.state.ExitCode()
	return &code
}

// verdictReasons are the reason codes for the ways a process fails.
type verdictReasons struct{ start, failed, killed, timeout reason.Code }

// runJudged runs p and judges its end: 0 is success, scripts.warning-exit is success with a warning, and any other exit
// code, a signal and the time limit are errors (RFC 8572 §5.6 leaves the table to the device).
func (e *Executor) runJudged(ctx context.Context, p process, codes verdictReasons) (finished, error) {
	f, err := e.run(ctx, p)
	if err != nil {
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			return f, fmt.Errorf("%s was stopped: %w", p.step, err)
		}
		return f, &reason.Error{
			Code: codes.start, Msg: fmt.Sprintf("cannot start %s", p.step), Err: err,
			Fix: "check that the interpreter or handler works on the device, and that it has free memory and storage",
		}
	}
	code := f.state.ExitCode()
	switch status := f.state.Sys().(syscall.WaitStatus); {
	case f.timedOut:
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

// run runs p in a session and process group of its own, in an empty private folder and with the environment of
// environment. When p ends, is stopped or exceeds its time, everything it started is killed: nothing outlives it but
// what was handed to the service manager.
func (e *Executor) run(ctx context.Context, p process) (f finished, err error) {
	if err := ctx.Err(); err != nil {
		return f, err
	}
	work := filepath.Join(e.Dir, workFolder)
	if err := errors.Join(os.RemoveAll(work), os.MkdirAll(work, 0o700)); err != nil {
		return f, err
	}
	defer os.RemoveAll(work)
	cmd := exec.Command(p.argv[0], p.argv[1:]...)
	cmd.Dir = work
	cmd.Env = e.environment(p, work)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if p.stdin != "" {
		in, err := os.Open(p.stdin)
		if err != nil {
			return f, err
		}
		defer in.Close()
		cmd.Stdin = in
	}
	// A pipe of our own: the one of exec.Cmd makes Wait wait for every process that inherited it.
	out, in, err := os.Pipe()
	if err != nil {
		return f, err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = in, in
	err = cmd.Start()
	in.Close()
	if err != nil {
		return f, err
	}
	kept := capture(out, int(e.Scripts.OutputLimit))
	f.timedOut, err = await(ctx, cmd.Process.Pid, p.timeout)
	syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // the leader is not reaped yet, so the group is still ours
	killSession(p.session)
	cmd.Wait() // tells of the exit code, which the caller judges
	f.state = cmd.ProcessState
	out.SetReadDeadline(time.Now().Add(pipeGrace))
	f.output = kept()
	return f, err
}

// await returns when the process has ended, which it asks for when ctx ends or after timeout: first kindly. It leaves
// the process to be reaped.
func await(ctx context.Context, pid int, timeout time.Duration) (timedOut bool, err error) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
		}
	}()
	var limit <-chan time.Time
	if timeout > 0 {
		timer := time.NewTimer(timeout)
		defer timer.Stop()
		limit = timer.C
	}
	select {
	case <-ended:
		return false, nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-limit:
		timedOut = true
	}
	syscall.Kill(-pid, syscall.SIGTERM)
	timer := time.NewTimer(termGrace)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
		syscall.Kill(-pid, syscall.SIGKILL)
		<-ended
	}
	return timedOut, err
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

// environment is all a process gets to know. It is documented in the manual:
//
//	PATH, LANG  fixed values
//	HOME, TMPDIR  the private working directory, which is removed afterwards
//	ZTP_PHASE   "pre-script", "configuration" or "post-script"
//	ZTP_ACTION  "run", "merge", "replace" or "undo"
//	ZTP_ROOT    the folder below which ztp was told to work; "/" on a device
//	ZTP_SESSION identifies the session; `ztp disable` uses it
func (e *Executor) environment(p process, work string) []string {
	root := e.Root
	if root == "" {
		root = "/"
	}
	return []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"LANG=C.UTF-8",
		"HOME=" + work,
		"TMPDIR=" + work,
		"ZTP_PHASE=" + string(p.step),
		"ZTP_ACTION=" + p.action,
		"ZTP_ROOT=" + root,
		sessionVariable + "=" + p.session,
	}
}

// killSession kills every process that carries the mark of the session, wherever it went. Processes that cleared their
// environment escape; under systemd the unit's control group gets those.
func killSession(id string) {
	if id == "" {
		return
	}
	mark := []byte(sessionVariable + "=" + id)
	for range 50 { // new ones may be born while the old ones are being killed
		killed, unknown := killMarked(mark)
		if killed == 0 && unknown == 0 {
			return
		}
		if killed == 0 {
			time.Sleep(time.Millisecond) // an execve(2) takes less
		}
	}
}

// killMarked tells how many processes it killed, and of how many it cannot know whether they carry the mark.
func killMarked(mark []byte) (killed, unknown int) {
	proc, err := os.Open("/proc")
	if err != nil {
		return 0, 0
	}
	defer proc.Close()
	names, _ := proc.Readdirnames(-1)
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil || pid == os.Getpid() {
			continue
		}
		folder := filepath.Join("/proc", name)
		has := hasEnvironment(folder)
		environ, err := os.ReadFile(filepath.Join(folder, "environ"))
		switch {
		case err != nil:
		case len(environ) == 0 && has:
			unknown++
		case hasVariable(environ, mark) && syscall.Kill(pid, syscall.SIGKILL) == nil:
			killed++
		}
	}
	return killed, unknown
}

// hasEnvironment tells whether the process with this folder in /proc has an environment, even though one cannot be read in
// the middle of execve(2). The kernel's threads, zombies and processes with an empty environment have none.
func hasEnvironment(folder string) bool {
	stat, err := os.ReadFile(filepath.Join(folder, "stat"))
	if err != nil {
		return false
	}
	// Fields of proc_pid_stat(5), counted from the one after the program's name, which may hold parentheses and spaces.
	const start, end = 50 - 3, 51 - 3
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) <= end {
		return false
	}
	if string(fields[end]) != "0" {
		return !bytes.Equal(fields[start], fields[end])
	}
	_, err = os.Readlink(filepath.Join(folder, "exe"))
	return err == nil
}

func hasVariable(environ, variable []byte) bool {
	for one := range bytes.SplitSeq(environ, []byte{0}) {
		if bytes.Equal(one, variable) {
			return true
		}
	}
	return false
}
