package process

import (
	"fmt"
	"io"
	"os"
	"time"
)

// defaultOutput is how much output is kept where no limit is given, in bytes.
const defaultOutput = 64 << 10

// capped keeps the beginning and the end of what is written to it. Memory is bounded by limit; writing never fails.
type capped struct {
	head, tail []byte // tail is a ring once it is full
	limit      int
	next       int
	total      int64
}

func (c *capped) Write(p []byte) (int, error) {
	n := len(p)
	c.total += int64(n)
	half := c.limit / 2
	if room := half - len(c.head); room > 0 {
		take := min(room, len(p))
		c.head = append(c.head, p[:take]...)
		p = p[take:]
	}
	rest := c.limit - half
	if len(p) > rest {
		p = p[len(p)-rest:]
	}
	for len(p) > 0 {
		if len(c.tail) < rest {
			take := min(rest-len(c.tail), len(p))
			c.tail = append(c.tail, p[:take]...)
			p = p[take:]
			continue
		}
		took := copy(c.tail[c.next:], p)
		c.next = (c.next + took) % rest
		p = p[took:]
	}
	return n, nil
}

// String returns what was kept, and says what was left out.
func (c *capped) String() string {
	tail := string(c.tail[c.next:]) + string(c.tail[:c.next])
	kept := int64(len(c.head) + len(c.tail))
	if kept == c.total {
		return string(c.head) + tail
	}
	return fmt.Sprintf("%s\n[… %d bytes left out …]\n%s", c.head, c.total-kept, tail)
}

// beginning keeps the beginning of what is written to it.
type beginning struct {
	data     []byte
	limit    int
	overflow bool
}

func (b *beginning) Write(p []byte) (int, error) {
	take := min(b.limit-len(b.data), len(p))
	b.data = append(b.data, p[:take]...)
	b.overflow = b.overflow || take < len(p)
	return len(p), nil
}

// stream is a pipe of our own: that of exec.Cmd would make Wait wait for every process that inherited it.
type stream struct {
	read, write *os.File
	done        chan struct{}
}

// newStream has to take what is written into the stream. A process that prints more than is kept is not stopped by it.
func newStream(to io.Writer) (*stream, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	s := &stream{read, write, make(chan struct{})}
	go func() {
		defer close(s.done)
		io.Copy(to, onlyReader{read})
	}()
	return s, nil
}

// end returns when everything has been taken, which processes that survived do not delay for long. It may be called again.
func (s *stream) end() {
	s.write.Close()
	s.read.SetReadDeadline(time.Now().Add(pipeGrace))
	<-s.done
}

func (s *stream) close() {
	s.write.Close()
	s.read.Close()
}

// onlyReader hides what else a file can do, so that io.Copy goes through a plain buffer.
type onlyReader struct{ io.Reader }
