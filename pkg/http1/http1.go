// Package http1 is an HTTP/1.1 client on connections that its user dials (RFC 9110, RFC 9112). It does what this program needs
// and no more: requests whose bodies are at hand, replies that are read as they come, one exchange after another. It is small,
// because net/http would be a fifteenth of the device binary, and strict, because the servers are not trusted: what frames a
// body in two ways is refused, and everything before a body is bounded in size. There are no proxies, cookies, compression or
// HTTP/2, and redirects are followed only as far as the caller says. Tests hold it against net/http.
package http1

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Header holds header fields by their canonical names.
type Header = textproto.MIMEHeader

// Request is one request. Host, Content-Length and, where the connection ends with it, Connection are added to Header.
type Request struct {
	Method string
	URL    *url.URL // http or https with a host in ASCII; user information and fragment are not sent
	Header Header
	Body   []byte // nil when there is none
	Close  bool   // the connection is not used for another request
}

// Response is the reply to a request. Body must be closed; it fails with io.ErrUnexpectedEOF when it breaks off.
type Response struct {
	Status  int // three digits; never 1xx
	Header  Header
	Length  int64 // of Body, in bytes; -1 while unknown
	Body    io.ReadCloser
	Request *Request
}

// Limits bounds a reply up to its body. A zero field takes the default.
type Limits struct {
	Header int64         // all of the header and, once more, of interim replies and trailers, in bytes; default 64 KiB
	Wait   time.Duration // from the request to the end of the header; default none
}

// Errors of replies.
var (
	ErrMalformed   = errors.New("malformed HTTP reply")
	ErrHeaderSize  = errors.New("the header of the HTTP reply is too long")
	ErrUnsupported = errors.New("the HTTP reply uses what is not supported")
	ErrNoReply     = errors.New("the connection was closed before the first byte of a reply")
)

const (
	maxInterim   = 5           // 1xx replies before the final one
	sendPatience = time.Second // for the rest of a request whose reply has come whole
)

// Conn is a connection on which HTTP is spoken. It is used by one goroutine at a time.
type Conn struct {
	conn   net.Conn
	limits Limits
	source *metered
	reader *bufio.Reader
	busy   *body      // the body that has not been read to its end; nil between exchanges
	done   bool       // no further request may be sent
	sent   chan error // tells how sending the latest request ended; nil when that is known
}

// NewConn returns a connection that speaks HTTP on conn, which it owns from then on.
func NewConn(conn net.Conn, l Limits) *Conn {
	if l.Header <= 0 {
		l.Header = 64 << 10
	}
	source := &metered{conn: conn}
	return &Conn{conn: conn, limits: l, source: source, reader: bufio.NewReader(source)}
}

// Close closes the connection.
func (c *Conn) Close() error {
	c.done = true
	return c.conn.Close()
}

// Reusable tells whether another request may be sent: the reply before was read to its end, and neither side wants to close.
func (c *Conn) Reusable() bool {
	if c.done || c.busy != nil || c.reader.Buffered() != 0 {
		return false
	}
	if c.sent != nil {
		// The reply is here, so the request is too, unless the server did not care for all of it.
		patience := time.NewTimer(sendPatience)
		defer patience.Stop()
		select {
		case err := <-c.sent:
			c.sent, c.done = nil, err != nil
		case <-patience.C:
			c.done = true
		}
	}
	return !c.done
}

// RoundTrip sends a request and reads the header of the reply. It ends when ctx does, and so does reading the body. After an
// error the connection is closed. ErrNoReply in its chain says that the server closed the connection instead of replying,
// which is usual on one that was used before.
func (c *Conn) RoundTrip(ctx context.Context, r *Request) (*Response, error) {
	if !c.Reusable() {
		return nil, errors.New("the connection is in use")
	}
	head, err := r.encode()
	if err != nil {
		c.Close()
		return nil, err
	}
	w := c.guard(ctx)
	resp, err := c.exchange(w, head, r)
	if err != nil {
		err = w.explain(err)
		w.stop()
		c.Close()
		return nil, err
	}
	return resp, nil
}

func (c *Conn) exchange(w *watch, head []byte, r *Request) (*Response, error) {
	if c.limits.Wait > 0 {
		patience := time.AfterFunc(c.limits.Wait, w.tooLate)
		defer patience.Stop()
	}
	c.source.left = c.limits.Header
	// A server may reply, and close, before it has read everything; its reply is worth more than the error.
	sent := make(chan error, 1)
	go func() {
		_, err := c.conn.Write(head)
		sent <- err
	}()
	c.sent = sent
	resp, err := c.readHead(r)
	if err != nil {
		c.Close()
		if sendErr := <-sent; sendErr != nil && !errors.Is(sendErr, net.ErrClosed) {
			err = fmt.Errorf("%w (%w)", err, sendErr)
		}
		return nil, err
	}
	if err := w.explain(nil); err != nil { // what came may be the answer to the closing of the connection
		return nil, err
	}
	c.source.left = unlimited
	if r.Close {
		c.done = true
	}
	return resp, c.frame(w, resp)
}

// readHead reads replies up to the end of the header of the final one.
func (c *Conn) readHead(r *Request) (*Response, error) {
	if _, err := c.reader.Peek(1); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("%w: %w", ErrNoReply, err)
	}
	text := textproto.NewReader(c.reader)
	for range maxInterim + 1 {
		line, err := text.ReadLine()
		if err != nil {
			return nil, unexpected(err)
		}
		status, keep, err := parseStatusLine(line)
		if err != nil {
			return nil, err
		}
		header, err := text.ReadMIMEHeader()
		if err != nil {
			return nil, unexpected(err)
		}
		if status == 101 {
			return nil, fmt.Errorf("%w: a change of the protocol", ErrUnsupported)
		}
		if status/100 != 1 {
			if wantsClose(header, keep) {
				c.done = true
			}
			return &Response{Status: status, Header: header, Request: r}, nil
		}
	}
	return nil, fmt.Errorf("%w: more than %d interim replies", ErrMalformed, maxInterim)
}

// parseStatusLine reads "HTTP/1.1 200 OK" (RFC 9112 §4). keep tells whether connections are kept unless the header says
// otherwise.
func parseStatusLine(line string) (status int, keep bool, err error) {
	version, rest, ok := strings.Cut(line, " ")
	code, _, _ := strings.Cut(rest, " ")
	if !ok || version != "HTTP/1.1" && version != "HTTP/1.0" || len(code) != 3 || strings.Trim(code, "0123456789") != "" || code[0] == '0' {
		return 0, false, fmt.Errorf("%w: status line %.60q", ErrMalformed, line)
	}
	status, err = strconv.Atoi(code)
	return status, version == "HTTP/1.1", err
}

func wantsClose(h Header, keep bool) bool {
	options := tokens(h["Connection"])
	return slices.Contains(options, "close") || !keep && !slices.Contains(options, "keep-alive")
}

// tokens splits lists of tokens, in lower case.
func tokens(values []string) (list []string) {
	for _, value := range values {
		for one := range strings.SplitSeq(value, ",") {
			if one = strings.Trim(one, " \t"); one != "" {
				list = append(list, strings.ToLower(one))
			}
		}
	}
	return list
}

// unexpected makes the end of the stream in the middle of something an error of its own.
func unexpected(err error) error {
	var syntax textproto.ProtocolError
	switch {
	case err == io.EOF:
		return io.ErrUnexpectedEOF
	case errors.As(err, &syntax):
		return fmt.Errorf("%w: %.200q", ErrMalformed, string(syntax))
	}
	return err
}
