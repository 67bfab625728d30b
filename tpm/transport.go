package tpm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/google/go-tpm/tpm2"
)

const (
	headerSize  = 10      // tag, size and code of a command or a response (TPM 2.0 Part 1, 18.9)
	maxResponse = 8 << 10 // bytes; TPM_PT_MAX_RESPONSE_SIZE is 4096 in every TPM known
)

// A link carries one command at a time to a TPM and its response back. An implementation must give up when ctx ends.
type link interface {
	exchange(ctx context.Context, command []byte) ([]byte, error)
	Close() error
}

// openLink returns the link for a path of Options.TPM, and whether a kernel driver stands between us and the TPM.
func openLink(path string) (l link, kernel bool, err error) {
	if name, ok := strings.CutPrefix(path, "unix:"); ok {
		return &socket{path: name}, false, nil
	}
	d := &device{path: path, fd: -1}
	return d, true, d.open()
}

// socket is a software TPM behind a unix socket. It takes one connection at a time, so one is made for each command.
type socket struct{ path string }

func (s *socket) exchange(ctx context.Context, command []byte) ([]byte, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", s.path)
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, unreachable("unix:"+s.path, err)
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()

	rsp, err := converse(c, command)
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return rsp, err
}

func (s *socket) Close() error { return nil }

// converse writes a command and reads its response, whose length is in its header.
func converse(rw io.ReadWriter, command []byte) ([]byte, error) {
	if _, err := rw.Write(command); err != nil {
		return nil, fmt.Errorf("sending a command: %w", err)
	}
	buf := make([]byte, maxResponse)
	for n, size := 0, headerSize; ; {
		m, err := rw.Read(buf[n:])
		n += m
		if n >= headerSize {
			size = int(binary.BigEndian.Uint32(buf[2:]))
		}
		switch {
		case size < headerSize || size > maxResponse || n > size:
			return nil, fmt.Errorf("malformed response: %d bytes announced, %d received", size, n)
		case n == size && n >= headerSize:
			return buf[:n:n], nil
		case err != nil:
			return nil, fmt.Errorf("reading a response: %w", err)
		}
	}
}

func responseCode(rsp []byte) tpm2.TPMRC { return tpm2.TPMRC(binary.BigEndian.Uint32(rsp[6:])) }

func unreachable(path string, err error) error {
	e := &Error{Code: CodeUnreachable, Msg: "cannot reach the TPM at " + path, Err: err}
	swtpm := strings.HasPrefix(path, "unix:")
	switch {
	case errors.Is(err, os.ErrPermission):
		e.Fix = "run as root or as a member of the group that owns the TPM (usually tss)"
	case swtpm:
		e.Fix = "start swtpm on this socket, or correct identity.tpm"
	case errors.Is(err, os.ErrNotExist):
		e.Fix = "enable the TPM in the firmware, load its driver (tpm_tis, tpm_crb), or correct identity.tpm"
	case isBusy(err):
		e.Fix = "another program has opened this TPM exclusively; use the resource-managed device /dev/tpmrm0"
	default:
		e.Fix = "identity.tpm must name a TPM device such as /dev/tpmrm0, or unix:PATH"
	}
	return e
}
