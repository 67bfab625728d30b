// Package process runs other programs so that nothing of them is left behind: each has a session and a process group of its
// own, a clean environment, a limit in time and one on what it prints. When it ends, is stopped or exceeds its time,
// everything it started is killed, wherever it went: it has a control group of its own where it may have one, and is known by its
// process group and by a mark in its environment everywhere.
package process

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Path is the value of PATH that programs get, whatever the daemon's own is.
const Path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

const (
	termGrace = 3 * time.Second  // between SIGTERM and SIGKILL
	killGrace = 30 * time.Second // between SIGKILL and giving up
	pipeGrace = 2 * time.Second  // for the last output after everything was killed
)

// Command is a program to run.
type Command struct {
	Argv []string // the program, by its path or found in the PATH of this process, and its arguments
	Dir  string   // the working directory
	Env  []string // the whole environment
	// Mark is an element of Env, "NAME=VALUE". Every process that carries it is killed when the program has ended; empty kills
	// the process group only. See KillMarked.
	Mark    string
	Stdin   string        // a file; empty is /dev/null
	Timeout time.Duration // 0 is none
	// Output is how much is kept of what is printed, in bytes; 0 is 64 KiB.
	Output int
	// Answer is how much of the standard output is kept apart, in bytes, as Result.Answer; 0 is nothing. What exceeds it is
	// dropped, and Output then has the standard error only.
	Answer int
}

// Result is how a program ended.
type Result struct {
	State    *os.ProcessState // nil when it never ran
	TimedOut bool
	Output   string // both streams, of which the middle is left out when it is too long; any bytes
	Answer   []byte // the beginning of the standard output, if it was asked for
	Overflow bool   // the standard output was longer than Answer
}

// ExitCode is the exit code, or nil when there was none.
func (r Result) ExitCode() *int {
	if r.State == nil || !r.State.Exited() {
		return nil
	}
	code := r.State.ExitCode()
	return &code
}

// Run runs c until it ends. An error says that it could not be started, or that ctx ended, which has it stopped: how the
// program itself ended is for the caller to judge. Nothing outlives it but what was handed to the service manager, what is
// ErrImmortal and, where there are no control groups, what left the process group and cleared its environment.
func Run(ctx context.Context, c Command) (r Result, err error) {
	if err := ctx.Err(); err != nil {
		return r, err
	}
	cmd := exec.Command(c.Argv[0], c.Argv[1:]...)
	cmd.Dir, cmd.Env = c.Dir, c.Env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if c.Stdin != "" {
		in, err := os.Open(c.Stdin)
		if err != nil {
			return r, err
		}
		defer in.Close()
		cmd.Stdin = in
	}
	output, answer := capped{limit: c.Output}, beginning{limit: c.Answer}
	if output.limit <= 0 {
		output.limit = defaultOutput
	}
	printed, err := newStream(&output)
	if err != nil {
		return r, err
	}
	defer printed.close()
	cmd.Stdout, cmd.Stderr = printed.write, printed.write
	answered := printed
	if c.Answer > 0 {
		if answered, err = newStream(&answer); err != nil {
			return r, err
		}
		defer answered.close()
		cmd.Stdout = answered.write
	}
	cmd, inside, err := startInside(cmd)
	if err != nil {
		return r, err
	}
	r.TimedOut, err = await(ctx, ended(cmd.Process.Pid), func(s syscall.Signal) { syscall.Kill(-cmd.Process.Pid, s) }, c.Timeout)
	syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // the leader is not reaped yet, so the group is still ours
	KillMarked(c.Mark)
	if errors.Is(err, ErrImmortal) {
		go cmd.Wait() // whenever that is
	} else {
		cmd.Wait() // tells of the exit code, which the caller judges
		r.State = cmd.ProcessState
	}
	inside.end()
	printed.end()
	answered.end()
	r.Output, r.Answer, r.Overflow = output.String(), answer.data, answer.overflow
	return r, err
}

// startInside starts a command in a cage where there can be one, and otherwise without.
func startInside(cmd *exec.Cmd) (*exec.Cmd, *cage, error) {
	if c := newCage(); c != nil {
		caged := *cmd
		attributes := *cmd.SysProcAttr
		attributes.UseCgroupFD, attributes.CgroupFD = true, int(c.dir.Fd())
		caged.SysProcAttr = &attributes
		if caged.Start() == nil {
			return &caged, c, nil
		}
		c.end()
	}
	return cmd, nil, cmd.Start()
}

// ErrImmortal says that a program did not end although it was killed: it waits for something in the kernel, such as a broken
// disk or server, and cannot be left behind before that answers.
var ErrImmortal = errors.New("it was killed and does not end, since it waits for the kernel")

// ended is closed when a process has ended, which it leaves to be reaped.
func ended(pid int) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
		}
	}()
	return done
}

// await returns when the process has ended, which it asks for when ctx ends or after timeout: first kindly.
func await(ctx context.Context, ended <-chan struct{}, kill func(syscall.Signal), timeout time.Duration) (timedOut bool, err error) {
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
	for _, ask := range []struct {
		signal syscall.Signal
		grace  time.Duration
	}{{syscall.SIGTERM, termGrace}, {syscall.SIGKILL, killGrace}} {
		kill(ask.signal)
		timer := time.NewTimer(ask.grace)
		select {
		case <-ended:
			timer.Stop()
			return timedOut, err
		case <-timer.C:
		}
	}
	return timedOut, ErrImmortal
}
