package http1

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
)

// frame finds out where the body of a reply ends (RFC 9112 §6.3) and attaches it.
func (c *Conn) frame(w *watch, resp *Response) error {
	length, err := contentLength(resp.Header)
	if err != nil {
		return err
	}
	codings := tokens(resp.Header["Transfer-Encoding"])
	b := &body{conn: c, watch: w}
	switch {
	case len(codings) > 0 && length >= 0:
		return fmt.Errorf("%w: a length and a transfer coding", ErrMalformed)
	case len(codings) > 0 && !slices.Equal(codings, []string{"chunked"}):
		return fmt.Errorf("%w: transfer coding %.60q", ErrUnsupported, strings.Join(codings, ", "))
	case resp.Request.Method == "HEAD" || resp.Status == 204 || resp.Status == 304:
		b.from, resp.Length = strings.NewReader(""), 0
	case len(codings) > 0:
		b.from, resp.Length = &chunked{conn: c}, -1
	case length >= 0:
		b.from, resp.Length = &counted{from: c.reader, left: length}, length
	default:
		c.done = true
		b.from, resp.Length = c.reader, -1
	}
	resp.Body, c.busy = b, b
	if resp.Length == 0 {
		b.ended()
	}
	return nil
}

// contentLength returns -1 when there is none.
func contentLength(h Header) (int64, error) {
	values := h["Content-Length"]
	if len(values) == 0 {
		return -1, nil
	}
	for _, v := range values {
		if v != values[0] || v == "" || strings.Trim(v, "0123456789") != "" {
			return 0, fmt.Errorf("%w: Content-Length %.60q", ErrMalformed, values)
		}
	}
	n, err := strconv.ParseInt(values[0], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: Content-Length %.60q", ErrMalformed, values[0])
	}
	return n, nil
}

// body is the body of a reply.
type body struct {
	conn   *Conn
	watch  *watch
	from   io.Reader // ends with io.EOF where the body does
	err    error     // what every further Read returns
	closed bool
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

// ended frees the connection for another request, unless the end is that of the connection, which was closed from here.
func (b *body) ended() {
	b.conn.busy = nil
	b.watch.stop()
	if b.err = b.watch.explain(io.EOF); b.err != io.EOF {
		b.conn.Close()
	}
}

// Close closes the connection unless the body was read to its end.
func (b *body) Close() error {
	if b.closed {
		return nil
	}
	b.closed = true
	b.watch.stop()
	if b.conn.busy == b {
		b.conn.Close()
	}
	if b.err == nil {
		b.err = net.ErrClosed
	}
	if b.conn.done {
		return b.conn.conn.Close()
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

// chunked is a body in chunks (RFC 9112 §7.1). Extensions and trailers are read over; together they are bounded by
// Limits.Header, as are lines.
type chunked struct {
	conn  *Conn
	left  int64 // of the present chunk
	spent int64 // on extensions
	begun bool
	err   error
}

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
	n, err := c.conn.reader.Read(p)
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
	digits, extension, _ := strings.Cut(line, ";")
	digits = strings.TrimRight(digits, " \t")
	if c.spent += int64(len(extension)); c.spent > c.conn.limits.Header {
		return ErrHeaderSize
	}
	size, err := strconv.ParseUint(digits, 16, 63)
	if err != nil || len(digits) > 16 {
		return fmt.Errorf("%w: a chunk of size %.60q", ErrMalformed, digits)
	}
	if size > 0 {
		c.left = int64(size)
		return nil
	}
	c.conn.source.left = c.conn.limits.Header
	_, err = textproto.NewReader(c.conn.reader).ReadMIMEHeader()
	c.conn.source.left = unlimited
	if err != nil {
		return unexpected(err)
	}
	return io.EOF
}

// line reads a line that must fit into the reader's buffer.
func (c *chunked) line() (string, error) {
	line, err := c.conn.reader.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return "", ErrHeaderSize
	case err != nil:
		return "", unexpected(err)
	}
	text, ok := strings.CutSuffix(string(line), "\r\n")
	if !ok {
		text = strings.TrimSuffix(string(line), "\n")
	}
	return text, nil
}

const unlimited = math.MaxInt64

// metered bounds what is read from a connection while a header is read.
type metered struct {
	conn net.Conn
	left int64
}

func (m *metered) Read(p []byte) (int, error) {
	if m.left <= 0 {
		return 0, ErrHeaderSize
	}
	if int64(len(p)) > m.left {
		p = p[:m.left]
	}
	n, err := m.conn.Read(p)
	if m.left != unlimited {
		m.left -= int64(n)
	}
	return n, err
}
