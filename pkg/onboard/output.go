package onboard

import (
	"fmt"
	"io"
	"os"
)

// defaultOutput is how much output is kept when no limit is configured, in bytes.
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

// String returns what was kept, as a YANG string, and says what was left out.
func (c *capped) String() string {
	tail := string(c.tail[c.next:]) + string(c.tail[:c.next])
	kept := int64(len(c.head) + len(c.tail))
	if kept == c.total {
		return clean(string(c.head) + tail)
	}
	return clean(fmt.Sprintf("%s\n[… %d bytes left out …]\n%s", c.head, c.total-kept, tail))
}

// capture reads from r until its end or deadline. The returned function waits for that and returns what was kept.
func capture(r *os.File, limit int) func() string {
	if limit <= 0 {
		limit = defaultOutput
	}
	c := &capped{limit: limit}
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(c, onlyReader{r})
	}()
	return func() string {
		<-done
		return c.String()
	}
}

// onlyReader hides what else a file can do, so that io.Copy goes through a plain buffer.
type onlyReader struct{ io.Reader }
