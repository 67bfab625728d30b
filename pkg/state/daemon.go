package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/xpu-sztp/ztp/pkg/durable"
	"github.com/xpu-sztp/ztp/pkg/reason"
)

// DaemonLock is held by the one daemon that may run.
type DaemonLock struct{ file *os.File }

// LockDaemon makes the caller the daemon of the run folder runDir, which is made when it is missing. It fails at once,
// with ReasonRunning, when there is one already. The lock vanishes with the process however it ends.
func LockDaemon(runDir string) (*DaemonLock, error) {
	if err := os.MkdirAll(runDir, 0o755); err != nil {
		return nil, accessError(runDir, err)
	}
	// Nobody else may open the file: whoever can read it could lock it and keep the daemon from starting.
	f, err := durable.OpenShared(daemonLockPath(runDir))
	if err != nil {
		return nil, accessError(runDir, err)
	}
	// An open-file-description lock can be asked about without being taken, so that `ztp status` is never in the way of a
	// daemon that starts.
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, writeLock()); err != nil {
		defer f.Close()
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EACCES) {
			return nil, accessError(runDir, err)
		}
		return nil, &reason.Error{
			Code: ReasonRunning,
			Msg:  fmt.Sprintf("another ztp daemon (process %s) is running", orUnknown(readPID(f))),
			Fix:  "look at it with `ztp status`, or stop it with `ztp disable`",
		}
	}
	if err := writePID(f); err != nil {
		f.Close()
		return nil, accessError(runDir, err)
	}
	return &DaemonLock{file: f}, nil
}

// Unlock lets another daemon run.
func (l *DaemonLock) Unlock() error { return l.file.Close() }

// Daemon tells whether a daemon holds the lock of runDir, and its process id, which is 0 when it is not known. A caller
// who may not look at the lock gets an error that is fs.ErrPermission.
func Daemon(runDir string) (pid int, alive bool, err error) {
	f, err := os.OpenFile(daemonLockPath(runDir), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, accessError(runDir, err)
	}
	defer f.Close()
	lock := writeLock()
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, lock); err != nil {
		return 0, false, accessError(runDir, err)
	}
	if lock.Type == unix.F_UNLCK {
		return 0, false, nil
	}
	pid, _ = strconv.Atoi(readPID(f))
	return pid, true, nil
}

func daemonLockPath(runDir string) string { return filepath.Join(runDir, "daemon.lock") }

func writeLock() *unix.Flock_t { return &unix.Flock_t{Type: unix.F_WRLCK} }

func writePID(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

func readPID(f *os.File) string {
	buf := make([]byte, 20)
	n, _ := f.ReadAt(buf, 0)
	return strings.TrimSpace(string(buf[:n]))
}

func orUnknown(pid string) string {
	if pid == "" {
		return "unknown"
	}
	return pid
}
