// Package netlab gives a program a network of its own: fresh network and mount namespaces, entered as root or, where the
// kernel allows it, as an ordinary user through a user namespace; further namespaces for devices; bridges, and cables that
// can be plugged and pulled. Everything vanishes with the process.
package netlab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// marker tells a process that it is the inner one.
const marker = "ZTP_LAB_INSIDE"

// Inside reports whether this process already has namespaces of its own.
func Inside() bool { return os.Getenv(marker) != "" }

// Enter runs this program again with the same arguments inside new namespaces, and returns its exit status when it ended.
// Extra environment variables have the form NAME=value. SIGTERM, SIGINT and SIGHUP are passed on, and the inner process
// gets SIGTERM when this one dies; a Ctrl-C in a terminal may reach it twice. Use it like this, first thing in main or
// TestMain:
//
//	if !netlab.Inside() {
//		status, err := netlab.Enter()
//		…
//		os.Exit(status)
//	}
func Enter(env ...string) (status int, err error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(append(os.Environ(), marker+"=1"), env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = attributes()
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
	defer signal.Stop(signals)
	if err := starter.do(cmd.Start); err != nil {
		return 0, explain(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case s := <-signals:
			cmd.Process.Signal(s)
		case err := <-ended:
			if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
				if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
					return 128 + int(ws.Signal()), nil
				}
				return exit.ExitCode(), nil
			}
			return 0, err
		}
	}
}

func attributes() *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS,
		Pdeathsig:  unix.SIGTERM,
	}
	if os.Geteuid() != 0 {
		a.Cloneflags |= unix.CLONE_NEWUSER
		a.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		a.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
		a.GidMappingsEnableSetgroups = false
	}
	return a
}

func explain(err error) error {
	if !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("cannot make network namespaces: %w", err)
	}
	if os.Geteuid() == 0 {
		return fmt.Errorf("cannot make network namespaces although this is root: %w; "+
			"in a container, give it the capability SYS_ADMIN and NET_ADMIN, or run it outside", err)
	}
	why := "this kernel does not let ordinary users make namespaces"
	for file, off := range map[string]string{
		"/proc/sys/kernel/unprivileged_userns_clone":             "0",
		"/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1",
		"/proc/sys/user/max_user_namespaces":                     "0",
	} {
		if b, readErr := os.ReadFile(file); readErr == nil && strings.TrimSpace(string(b)) == off {
			why += " (" + file + " is " + off + ")"
		}
	}
	return fmt.Errorf("cannot make network namespaces: %w; %s: run it as root, with sudo", err, why)
}
