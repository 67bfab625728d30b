package http1

import (
	"context"
	"net"
	"sync/atomic"
)

// errTooLate is a net.Error whose Timeout is true.
var errTooLate net.Error = tooLateError{}

type tooLateError struct{}

func (tooLateError) Error() string   { return "no HTTP reply in time" }
func (tooLateError) Timeout() bool   { return true }
func (tooLateError) Temporary() bool { return true }

// watch ends what waits for a connection when a context ends or the patience for a header is at its end. There is one for each
// exchange, until its body has been read.
type watch struct {
	conn net.Conn
	ctx  context.Context
	late atomic.Bool
	free func() bool // of context.AfterFunc
}

func (c *Conn) guard(ctx context.Context) *watch {
	w := &watch{conn: c.conn, ctx: ctx}
	// Closing and not a deadline: it cannot be undone by what else sets deadlines, such as TLS.
	w.free = context.AfterFunc(ctx, func() { w.conn.Close() })
	return w
}

func (w *watch) tooLate() {
	w.late.Store(true)
	w.conn.Close()
}

func (w *watch) stop() { w.free() }

// explain tells why the connection was ended, if that was from here, and returns err otherwise.
func (w *watch) explain(err error) error {
	switch {
	case w.ctx.Err() != nil:
		return context.Cause(w.ctx)
	case w.late.Load():
		return errTooLate
	}
	return err
}
