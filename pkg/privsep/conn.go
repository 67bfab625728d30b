package privsep

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// conn carries messages, each led by its length in four bytes, of which the first may bring a descriptor. One goroutine reads,
// any may write.
type conn struct {
	unix *net.UnixConn
	mu   sync.Mutex // of those who write
}

func (c *conn) Close() error { return c.unix.Close() }

// send sends a message, with a descriptor unless file is nil. Peers who do not take it lose the connection.
func (c *conn) send(m *message, file syscall.Conn) error {
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if len(body) > maxMessage {
		return fmt.Errorf("a message %q of %d bytes, at most %d", m.Kind, len(body), maxMessage)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unix.SetWriteDeadline(time.Now().Add(patience))
	if file == nil {
		err = c.write(body, nil)
	} else if raw, rawErr := file.SyscallConn(); rawErr != nil {
		return rawErr
	} else if controlErr := raw.Control(func(fd uintptr) { err = c.write(body, unix.UnixRights(int(fd))) }); controlErr != nil {
		return controlErr
	}
	if err != nil {
		c.Close()
	}
	return err
}

func (c *conn) write(body, rights []byte) error {
	frame := append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(body)), uint32(len(body))), body...)
	n, _, err := c.unix.WriteMsgUnix(frame, rights, nil)
	if err == nil && n < len(frame) {
		_, err = c.unix.Write(frame[n:])
	}
	return err
}

// receive returns the next message, and the descriptor that it brought or nil. The caller closes that.
func (c *conn) receive() (*message, *os.File, error) {
	body, file, err := c.read(maxMessage)
	if err != nil {
		return nil, nil, err
	}
	m, err := decode(body)
	if err != nil && file != nil {
		file.Close()
		file = nil
	}
	return m, file, err
}

// read reads what has a length before it. It takes as much memory as really comes.
func (c *conn) read(limit int) (body []byte, file *os.File, err error) {
	defer func() {
		if err != nil && file != nil {
			file.Close()
			file = nil
		}
	}()
	head, rights := make([]byte, 4), make([]byte, unix.CmsgSpace(4))
	for n := 0; n < len(head); {
		m, r, _, _, err := c.unix.ReadMsgUnix(head[n:], rights)
		if got := descriptor(rights[:r]); got != nil {
			if file != nil {
				file.Close()
			}
			file = got
		}
		if err != nil {
			return nil, file, err
		}
		n += m
	}
	size := binary.BigEndian.Uint32(head)
	if int64(size) > int64(limit) {
		return nil, file, fmt.Errorf("a message of %d bytes, at most %d", size, limit)
	}
	body, err = io.ReadAll(io.LimitReader(c.unix, int64(size)))
	if err == nil && len(body) < int(size) {
		err = io.ErrUnexpectedEOF
	}
	if n := parts(body); err == nil && n > maxParts {
		err = fmt.Errorf("a message of %d parts, at most %d", n, maxParts)
	}
	return body, file, err
}

// parts counts what JSON consists of.
func parts(body []byte) (n int) {
	text := false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case c == '"':
			text = !text
		case text && c == '\\':
			i++
		case !text && (c == ',' || c == '{' || c == '['):
			n++
		}
	}
	return n
}

// descriptor returns the one that came with a message, or nil. There is room for no second one, which the kernel then drops.
func descriptor(rights []byte) *os.File {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil || len(messages) == 0 {
		return nil
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) == 0 {
		return nil
	}
	for _, fd := range fds[1:] {
		unix.Close(fd)
	}
	return os.NewFile(uintptr(fds[0]), "received")
}
