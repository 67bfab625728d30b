package http1

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"strconv"
	"strings"
)

// attach makes a reply of an answer and of what follows it on the connection (RFC 9112 §6.3).
func (c *Conn) attach(w *watch, r *Request, a answer) *Response {
	b := &body{conn: c, watch: w}
	resp := &Response{Status: a.status, Header: a.header, Length: a.length, Body: b, Request: r}
	switch {
	case r.Method == "HEAD" || a.status == 204 || a.status == 304:
		resp.Length = 0
	case a.chunked:
		b.from = &chunked{reader: c.reader}
	case a.length >= 0:
		b.from = &counted{from: c.reader, left: a.length}
	default:
		c.done = true
		b.from = c.reader
	}
	c.busy = b
	if resp.Length == 0 {
		b.ended()
	}
	return resp
}

// body is the body of a reply.
type body struct {
	conn  *Conn
	watch *watch
	from  io.Reader // ends with io.EOF where the body does
	err   error     // what every further Read returns
}

func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.from.Read(p)
	switch err {
	case nil:
		return n, nil
	case io.EOF:
		b.ended()
	default:
		b.err = b.watch.explain(err)
		b.conn.Close()
	}
	return n, b.err
}

// ended frees the connection for another request, or closes it when there must not be one.
func (b *body) ended() {
	c := b.conn
	c.busy = nil
	b.watch.stop()
	b.err = b.watch.explain(io.EOF) // which may be the end of a connection that was closed from here
	if b.err != io.EOF || c.done || c.reader.Buffered() > 0 {
		c.Close()
		return
	}
	c.await()
}

// Close closes the connection unless the body was read to its end.
func (b *body) Close() error {
	b.watch.stop()
	if b.err == nil {
		b.err = net.ErrClosed
	}
	if b.conn.busy == b {
		b.conn.busy = nil
		return b.conn.Close()
	}
	return nil
}

// counted is a body whose length is known.
type counted struct {
	from *bufio.Reader // which reads straight into large buffers once its own is empty
	left int64
}

func (c *counted) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > c.left {
		p = p[:c.left]
	}
	n, err := c.from.Read(p)
	c.left -= int64(n)
	switch {
	case c.left == 0:
		err = io.EOF
	case err == io.EOF:
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// chunked is a body in chunks (RFC 9112 §7.1). Extensions and trailers are read over. Lines end in CR and LF here.
type chunked struct {
	reader *bufio.Reader
	left   int64 // of the present chunk
	spent  int64 // on other things than data, beyond what is usual
	begun  bool
	err    error
}

const (
	usualOverhead = 16       // of a chunk, in bytes; twice its data is borne with as well
	maxOverhead   = 16 << 10 // beyond what is usual, in bytes
	maxTrailer    = 4 << 10  // in bytes
)

func (c *chunked) Read(p []byte) (int, error) {
	if c.err == nil && c.left == 0 {
		c.err = c.next()
	}
	if c.err != nil {
		return 0, c.err
	}
	if int64(len(p)) > c.left {
		p = p[:c.left]
	}
	n, err := c.reader.Read(p)
	c.left -= int64(n)
	if err != nil {
		c.err = unexpected(err)
	}
	return n, c.err
}

// next goes to the next chunk; io.EOF says that there is none.
func (c *chunked) next() error {
	if c.begun {
		line, err := c.line()
		if err != nil {
			return err
		}
		if line != "" {
			return fmt.Errorf("%w: a chunk is longer than it says", ErrMalformed)
		}
	}
	c.begun = true
	line, err := c.line()
	if err != nil {
		return err
	}
	digits, _, _ := strings.Cut(strings.TrimRight(line, " \t"), ";")
	size, err := strconv.ParseUint(digits, 16, 63)
	if err != nil || len(digits) > 16 {
		return fmt.Errorf("%w: a chunk of size %.60q", ErrMalformed, digits)
	}
	c.spent += int64(len(line)) - usualOverhead - 2*int64(min(size, maxOverhead))
	if c.spent = max(c.spent, 0); c.spent > maxOverhead {
		return fmt.Errorf("%w: chunks with more about data than data", ErrMalformed)
	}
	if size == 0 {
		return c.trailer()
	}
	c.left = int64(size)
	return nil
}

// trailer reads up to the end of the body, which is io.EOF.
func (c *chunked) trailer() error {
	for left := maxTrailer; ; {
		line, err := c.line()
		if err != nil {
			return err
		}
		if left -= len(line) + len("\r\n"); left < 0 {
			return ErrHeaderSize
		}
		if line == "" {
			return io.EOF
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || !isToken(name) || hasControl(value) {
			return fmt.Errorf("%w: trailer %.60q", ErrMalformed, line)
		}
	}
}

// line reads a line that must fit into the reader's buffer.
func (c *chunked) line() (string, error) {
	line, err := c.reader.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return "", ErrHeaderSize
	case err != nil:
		return "", unexpected(err)
	}
	text, ok := strings.CutSuffix(string(line), "\r\n")
	if !ok || strings.Contains(text, "\r") {
		return "", fmt.Errorf("%w: a line of a chunk %.60q", ErrMalformed, line)
	}
	return text, nil
}

const unlimited = math.MaxInt64

// metered bounds what is read from a connection while a header is read.
type metered struct {
	conn net.Conn
	left int64
	err  error // how the latest read ended
}

func (m *metered) Read(p []byte) (int, error) {
	if m.left <= 0 {
		m.err = ErrHeaderSize
		return 0, m.err
	}
	if int64(len(p)) > m.left {
		p = p[:m.left]
	}
	n, err := m.conn.Read(p)
	if n > 0 {
		err = nil // the next read has it as well
	}
	m.err = err
	if m.left != unlimited {
		m.left -= int64(n)
	}
	return n, err
}
