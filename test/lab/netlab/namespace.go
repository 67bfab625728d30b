package netlab

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// Namespace is a network namespace without a name; it lives until Close and until no process is in it.
type Namespace struct {
	file *os.File
}

// New makes an empty network namespace. Its loopback interface is up.
func New() (*Namespace, error) {
	var ns *Namespace
	err := onOwnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make a network namespace: %w", err)
		}
		file, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			return err
		}
		ns = &Namespace{file: file}
		return Up("lo")
	})
	return ns, err
}

// Close gives the namespace up.
func (n *Namespace) Close() error { return n.file.Close() }

// FD is a file descriptor of the namespace, which stays the Namespace's own.
func (n *Namespace) FD() int { return int(n.file.Fd()) }

// Path names the namespace for other processes, such as nsenter --net=PATH, as long as this process lives.
func (n *Namespace) Path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.file.Fd()) }

// Do calls f on a thread that is inside the namespace. f must not start goroutines that rely on it.
func (n *Namespace) Do(f func() error) error {
	return onOwnThread(func() error {
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter a network namespace: %w", err)
		}
		return f()
	})
}

// Start starts cmd inside the namespace. When this process dies the command is killed.
func (n *Namespace) Start(cmd *exec.Cmd) error {
	return starter.do(func() error {
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			return err
		}
		defer home.Close()
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter a network namespace: %w", err)
		}
		defer unix.Setns(int(home.Fd()), unix.CLONE_NEWNET)
		return startTied(cmd)
	})
}

// Start starts cmd in this process's namespace. When this process dies the command is killed.
func Start(cmd *exec.Cmd) error {
	return starter.do(func() error { return startTied(cmd) })
}

func startTied(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &unix.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = unix.SIGKILL
	return cmd.Start()
}

// onOwnThread calls f on a thread that is thrown away afterwards, so that its namespace cannot leak.
func onOwnThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- f()
	}()
	return <-done
}

// Kill kills every process in the namespace, as a power cut would.
func (n *Namespace) Kill() error {
	var self unix.Stat_t
	if err := unix.Fstat(int(n.file.Fd()), &self); err != nil {
		return err
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		var its unix.Stat_t
		if unix.Stat("/proc/"+e.Name()+"/ns/net", &its) == nil && its.Ino == self.Ino && its.Dev == self.Dev {
			unix.Kill(pid, unix.SIGKILL)
		}
	}
	return nil
}
