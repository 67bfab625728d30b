package storage

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	kernelGroup = 1                      // of NETLINK_KOBJECT_UEVENT; what udev makes of the events is in group 2
	maxUevent   = 8 << 10                // the kernel's have 2 KiB at most
	settle      = 100 * time.Millisecond // how long the events of one stick may take
)

// AboutBlocks reports whether a message of the kernel says that a block device came, went or changed (the kernel's
// lib/kobject_uevent.c: "ACTION@PATH" and then assignments, each ended by a zero byte).
func AboutBlocks(message []byte) bool {
	head, rest, _ := bytes.Cut(message, []byte{0})
	if !bytes.Contains(head, []byte("@/")) {
		return false
	}
	for len(rest) > 0 {
		var field []byte
		field, rest, _ = bytes.Cut(rest, []byte{0})
		if value, found := bytes.CutPrefix(field, []byte("SUBSYSTEM=")); found {
			return string(value) == "block"
		}
	}
	return false
}

// Watch calls changed after block devices have come, gone or changed, once for all that happens at about the same time. It
// sleeps in the kernel in between. stop ends it.
func Watch(changed func(), log *slog.Logger) (stop func(), err error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: kernelGroup}); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("bind", err)
	}
	socket := os.NewFile(uintptr(fd), "uevent")
	conn, err := socket.SyscallConn()
	if err != nil {
		socket.Close()
		return nil, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for buf := make([]byte, maxUevent); ; {
			var blocks bool
			var failed error
			if err := conn.Read(func(fd uintptr) bool {
				blocks, failed = receive(int(fd), buf)
				return failed != unix.EAGAIN
			}); err != nil {
				return // closed
			}
			switch {
			case failed != nil && !errors.Is(failed, unix.ENOBUFS) && !errors.Is(failed, unix.EINTR):
				log.Warn("cannot see any more when storage is plugged in", "error", failed)
				return
			case failed != nil || blocks: // what got lost may have been about blocks
				time.Sleep(settle)
				drain(conn, buf)
				changed()
			}
		}
	}()
	return func() { socket.Close(); <-done }, nil
}

// receive takes one message. Only the kernel is believed: others may send to the group where privileges allow it.
func receive(fd int, buf []byte) (blocks bool, err error) {
	n, from, err := unix.Recvfrom(fd, buf, 0)
	if err != nil {
		return false, err
	}
	sender, ok := from.(*unix.SockaddrNetlink)
	return ok && sender.Pid == 0 && AboutBlocks(buf[:n]), nil
}

// drain passes over what has come meanwhile.
func drain(conn interface {
	Read(func(uintptr) bool) error
}, buf []byte) {
	_ = conn.Read(func(fd uintptr) bool {
		for {
			if _, _, err := unix.Recvfrom(int(fd), buf, 0); err != nil && err != unix.EINTR && err != unix.ENOBUFS {
				return true
			}
		}
	})
}
