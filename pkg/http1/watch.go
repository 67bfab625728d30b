package http1

import (
	"context"
	"net"
	"sync/atomic"
	"time"
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
	ctx      context.Context
	free     func() bool // of context.AfterFunc
	patience *time.Timer // nil when it is endless
	late     atomic.Bool
}

func (c *Conn) guard(ctx context.Context) *watch {
	w := &watch{ctx: ctx}
	// Closing and not a deadline: it cannot be undone by what else sets deadlines, such as TLS.
	w.free = context.AfterFunc(ctx, func() { _ = c.hangUp() })
	if c.limits.Wait > 0 {
		w.patience = time.AfterFunc(c.limits.Wait, func() {
			w.late.Store(true)
			_ = c.hangUp()
		})
	}
	return w
}

// headed says that the header is here. The body has all the time of the context.
func (w *watch) headed() error {
	if w.patience != nil && !w.patience.Stop() {
		return errTooLate
	}
	return w.explain(nil)
}

func (w *watch) stop() {
	w.free()
	if w.patience != nil {
		w.patience.Stop()
	}
}

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
