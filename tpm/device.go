package tpm

import (
	"context"
	"errors"
	"io"
	"time"

	"golang.org/x/sys/unix"
)

// device is a TPM character device. It is opened non-blocking, which lets the kernel execute a command while we wait
// for the response with a time limit; drivers before Linux 4.20 execute it within write, bounded by their own limits.
type device struct {
	path string
	fd   int // -1 when closed
}

// pollSlice bounds how long the end of a context goes unnoticed while the TPM works.
const pollSlice = 100 * time.Millisecond

var errNotDevice = errors.New("not a character device")

func (d *device) open() error {
	var st unix.Stat_t
	if err := unix.Stat(d.path, &st); err != nil {
		return unreachable(d.path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFCHR {
		return unreachable(d.path, errNotDevice)
	}
	fd, err := unix.Open(d.path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err != nil {
		return unreachable(d.path, err)
	}
	d.fd = fd
	return nil
}

func (d *device) exchange(ctx context.Context, command []byte) ([]byte, error) {
	if d.fd < 0 {
		if err := d.open(); err != nil {
			return nil, err
		}
	}
	rsp, err := converse(pending{ctx, d.fd}, command)
	if err != nil {
		// The driver refuses another command before the response to this one was read: begin afresh next time. Closing
		// waits for a command in flight, perhaps for minutes, and the caller must not.
		fd := d.fd
		d.fd = -1
		go unix.Close(fd)
	}
	return rsp, err
}

// Close releases the device. It may not run during an exchange.
func (d *device) Close() error {
	if d.fd < 0 {
		return nil
	}
	fd := d.fd
	d.fd = -1
	return unix.Close(fd)
}

// pending reads and writes a descriptor within the time ctx allows. Reading waits for input first, because a TPM
// device that has no response yet reports end of file.
type pending struct {
	ctx context.Context
	fd  int
}

func (p pending) Write(b []byte) (int, error) {
	n, err := retryEINTR(func() (int, error) { return unix.Write(p.fd, b) })
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	return n, err
}

func (p pending) Read(b []byte) (int, error) {
	for {
		if p.ctx.Err() != nil {
			return 0, context.Cause(p.ctx)
		}
		fds := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, int(pollSlice/time.Millisecond))
		switch {
		case errors.Is(err, unix.EINTR), err == nil && n == 0:
			continue
		case err != nil:
			return 0, err
		}
		n, err = retryEINTR(func() (int, error) { return unix.Read(p.fd, b) })
		switch {
		case errors.Is(err, unix.EAGAIN):
			continue
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.ErrUnexpectedEOF
		}
		return n, nil
	}
}

func retryEINTR(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, unix.EINTR) {
			return max(n, 0), err
		}
	}
}

func isBusy(err error) bool { return errors.Is(err, unix.EBUSY) }
