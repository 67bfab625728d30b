// Package http1 is an HTTP/1.1 client on connections that its user dials (RFC 9110, RFC 9112). It does what this program needs
// and no more: requests whose bodies are at hand, replies that are read as they come, one exchange after another. It is small,
// because net/http would be a fifteenth of the device binary, and strict, because the servers are not trusted: what frames a
// body in two ways is refused, and everything but bodies is bounded in size. There are no proxies, cookies, compression,
// authentication or HTTP/2, and redirects are followed only as far as the caller says. Tests hold it against net/http.
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
	"sync"
	"time"
)

// Header holds header fields by their canonical names.
type Header = textproto.MIMEHeader

// Request is one request. Host, Content-Length and, where the connection ends with it, Connection are added to Header.
type Request struct {
	Method string   // not CONNECT
	URL    *url.URL // http or https with a host in ASCII; user information and fragment are not sent
	Header Header
	Body   []byte // nil when there is none
	Close  bool   // the connection is not used for another request
}

// Response is the reply to a request. Body must be closed; it fails with io.ErrUnexpectedEOF when it breaks off. Without a length
// and chunks it ends where the connection does, by TLS too, so that anybody on the way can cut it short.
type Response struct {
	Status  int // three digits; never 1xx
	Header  Header
	Length  int64 // of Body, in bytes; -1 when the header does not tell
	Body    io.ReadCloser
	Request *Request
}

// Limits bounds a reply up to its body. A zero field takes the default.
type Limits struct {
	Header int64         // of all that comes before the body, interim replies included, in bytes; default 64 KiB
	Wait   time.Duration // from the request to the end of the header; default none
}

// Errors of requests and replies.
var (
	ErrRequest     = errors.New("the HTTP request cannot be sent")
	ErrMalformed   = errors.New("malformed HTTP reply")
	ErrHeaderSize  = errors.New("the header of the HTTP reply is too long")
	ErrUnsupported = errors.New("the HTTP reply uses what is not supported")
	ErrNoReply     = errors.New("the connection was closed before the first byte of a reply")
)

const (
	maxInterim   = 5           // 1xx replies before the final one
	sendPatience = time.Second // for the rest of a request whose reply has come whole, and for a goodbye by TLS
)

// Conn is a connection on which HTTP is spoken. It is used by one goroutine at a time, and has to be closed unless a body was
// closed that could not be followed by another request.
type Conn struct {
	hangUp func() error // closes the connection the first time
	conn   net.Conn
	limits Limits
	source *metered
	reader *bufio.Reader
	busy   *body      // the body that has not been read to its end; nil between exchanges
	done   bool       // no further request may be sent
	sent   chan error // tells how sending the latest request ended; nil when that is known
	first  chan error // tells that the first byte of the next reply is there, or why there is none; nil before the first request
}

// NewConn returns a connection that speaks HTTP on conn, which it owns from then on.
func NewConn(conn net.Conn, l Limits) *Conn {
	if l.Header <= 0 {
		l.Header = 64 << 10
	}
	source := &metered{conn: conn, left: l.Header}
	return &Conn{hangUp: sync.OnceValue(func() error { return hangUp(conn) }), conn: conn, limits: l, source: source, reader: bufio.NewReader(source)}
}

// hangUp closes conn. Closing TLS says goodbye, and waits for whoever writes before. That may be the Read that is to be ended: it
// answers a server that asks for new keys (RFC 8446 §4.6.3), and waits for ever when that reads nothing.
func hangUp(conn net.Conn) error {
	if secured, ok := conn.(interface{ NetConn() net.Conn }); ok {
		patience := time.AfterFunc(sendPatience, func() { secured.NetConn().Close() })
		defer patience.Stop()
	}
	return conn.Close()
}

// Close closes the connection.
func (c *Conn) Close() error {
	c.done = true
	return c.hangUp()
}

// Reusable tells whether another request may be sent: the reply before was read to its end, neither side wants to close, and
// the server has said nothing since. A connection that is neither reusable nor in use is closed.
func (c *Conn) Reusable() bool {
	if c.busy != nil || c.done {
		return false
	}
	select {
	case <-c.first: // nobody asked
		c.Close()
		return false
	default:
	}
	if c.sent != nil {
		// The reply is here, so the request is too, unless the server did not care for all of it.
		patience := time.NewTimer(sendPatience)
		defer patience.Stop()
		var err error
		select {
		case err = <-c.sent:
		case <-patience.C:
			err = errTooLate
		}
		if c.sent = nil; err != nil {
			c.Close()
		}
	}
	return !c.done
}

// await has somebody listen between exchanges, so that what comes then is not taken for the reply to the next request.
func (c *Conn) await() {
	c.source.left = c.limits.Header
	first := make(chan error, 1)
	c.first = first
	go func() {
		_, err := c.reader.Peek(1)
		first <- err
	}()
}

// RoundTrip sends a request and reads the header of the reply. It ends when ctx does, and so does reading the body. After an
// error the connection is closed, unless it was in use. ErrNoReply in its chain says that the connection was closed instead of a
// reply, which is usual on one that was used before.
func (c *Conn) RoundTrip(ctx context.Context, r *Request) (*Response, error) {
	if c.busy != nil {
		return nil, errors.New("the connection is in use")
	}
	if !c.Reusable() { // by now
		return nil, fmt.Errorf("%w: %w", ErrNoReply, net.ErrClosed)
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
	// A server may reply, and close, before it has read everything; its reply is worth more than the error.
	sent := make(chan error, 1)
	c.sent = sent
	go func() {
		_, err := c.conn.Write(head)
		sent <- err
	}()
	a, err := c.readAnswer()
	if err != nil {
		c.Close()
		if sendErr := <-sent; sendErr != nil && !errors.Is(sendErr, net.ErrClosed) {
			err = fmt.Errorf("%w (%w)", err, sendErr)
		}
		return nil, err
	}
	if err := w.headed(); err != nil { // what came may be the answer to the closing of the connection
		return nil, err
	}
	c.source.left = unlimited
	c.done = c.done || r.Close || a.last
	return c.attach(w, r, a), nil
}

// readAnswer reads replies up to the end of the header of the final one.
func (c *Conn) readAnswer() (answer, error) {
	if err := c.firstByte(); err != nil {
		return answer{}, fmt.Errorf("%w: %w", ErrNoReply, unexpected(err))
	}
	text := textproto.NewReader(c.reader)
	for range maxInterim + 1 {
		a, err := readHead(text)
		switch {
		case err != nil && c.source.err != nil: // what is malformed may be half a line
			return answer{}, unexpected(c.source.err)
		case err != nil:
			return answer{}, err
		case a.status == 101:
			return answer{}, fmt.Errorf("%w: a change of the protocol", ErrUnsupported)
		case a.status/100 != 1:
			return a, nil
		}
	}
	return answer{}, fmt.Errorf("%w: more than %d interim replies", ErrMalformed, maxInterim)
}

func (c *Conn) firstByte() (err error) {
	if c.first == nil {
		_, err = c.reader.Peek(1)
		return err
	}
	err = <-c.first
	c.first = nil
	return err
}

// unexpected makes the end of the stream in the middle of something an error of its own.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
