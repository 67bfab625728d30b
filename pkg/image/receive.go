package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/xpu-sztp/ztp/pkg/reason"
)

// receive takes a body that starts at f.offset. ctx is cancelled by cancel when the transfer stalls. On return f.offset
// counts exactly what the sink has, and so has hash unless the sink failed (torn).
func (f *fetch) receive(ctx context.Context, cancel context.CancelCauseFunc, body io.Reader) error {
	var m meter
	m.received.Store(f.offset)
	defer func(before int64) { f.taken += f.offset - before }(f.offset)
	stop := m.watch(f.request.MinRate, f.request.Stall, cancel)
	defer stop()

	if f.buffers == nil {
		f.buffers = newBuffers()
	}
	s := startStages(f.buffers, f.hash.Write, f.store, cancel)
	err := f.read(body, &m, s)
	if err := s.finish(); err != nil {
		return err
	}
	var known *reason.Error
	var local *sinkError
	switch {
	case errors.As(err, &local):
		return err
	case err == nil && f.total >= 0 && f.offset != f.total: // a chunked reply ends where it likes, a file may shrink
		err = io.ErrUnexpectedEOF
	case err == nil || errors.As(err, &known):
		return err
	}
	return explainBreak(ctx, f.offset, f.total, err)
}

// read takes the body until it ends.
func (f *fetch) read(body io.Reader, m *meter, s *stages) error {
	for {
		// Pieces end at multiples of their size, also after a resume: storage likes that best.
		b := s.next(bufferSize - int(m.received.Load()%bufferSize))
		n, err := m.fill(body, b.memory[:b.filled])
		b.filled = n
		end := m.received.Load()
		bad := f.checkSize(end)
		if bad == nil && f.keeper.due(end-int64(n)) {
			s.drain()
			bad = f.checkpoint()
		}
		if bad != nil {
			s.empty <- b
			return bad
		}
		s.pass(b)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		f.show(m.received.Load())
	}
}

// store writes one piece to the sink.
func (f *fetch) store(p []byte) (int, error) {
	n, err := f.sink.Write(p)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	f.offset += int64(n)
	f.torn = err != nil
	if err != nil && !unfit(err) {
		err = &sinkError{err}
	}
	return n, err
}

// meter counts what arrives from the network.
type meter struct {
	received atomic.Int64
	reading  atomic.Bool // false while the reader waits for slow storage, for which the mirror is not to blame
}

// fill reads until the buffer is full, the body ends, or the network is too slow to wait for more.
func (m *meter) fill(body io.Reader, buffer []byte) (n int, err error) {
	m.reading.Store(true)
	defer m.reading.Store(false)
	for begun := time.Now(); n < len(buffer) && err == nil && (n == 0 || time.Since(begun) < linger); {
		var part int
		part, err = body.Read(buffer[n:])
		n += part
		m.received.Add(int64(part))
	}
	return n, err
}

// watch cancels a transfer that receives fewer than minRate bytes a second over the time window. A Read may be blocked
// for ever, so only a timer can tell.
func (m *meter) watch(minRate int64, window time.Duration, cancel context.CancelCauseFunc) (stop func()) {
	least := max(int64(float64(minRate)*window.Seconds()), 1)
	done := make(chan struct{})
	go func() {
		ticker := time.NewTicker(window)
		defer ticker.Stop()
		last := m.received.Load()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
			}
			now := m.received.Load()
			if m.reading.Load() && now-last < least {
				cancel(errStalled)
				return
			}
			last = now
		}
	}()
	return func() { close(done) }
}

// explainBreak explains a body that ended too early.
func explainBreak(ctx context.Context, offset, total int64, err error) error {
	got := fmt.Sprintf("after %d bytes", offset)
	if total >= 0 {
		got = fmt.Sprintf("after %d of %d bytes", offset, total)
	}
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errTooLong):
		return fail(CodeTimeout, "the image was not complete within the time limit, "+got, "raise image.timeout, or use a faster mirror", nil)
	case errors.Is(cause, errStalled):
		return &broken{fail(CodeTimeout, "the transfer was too slow, "+got, "check the network and the file server's load", nil)}
	case ctx.Err() != nil:
		return cause
	}
	return &broken{fail(CodeTruncated, "the transfer broke off "+got, "check the network and the file server", err)}
}

// explain explains why there was no reply. parent is ctx's parent, which ends for reasons that no mirror can help.
func explain(parent, ctx context.Context, err error) error {
	var known *reason.Error
	var timeout net.Error
	switch {
	case errors.Is(context.Cause(parent), errTooLong):
		return fail(CodeTimeout, "the mirror did not answer within the time limit", "raise image.timeout, or use another mirror", nil)
	case parent.Err() != nil:
		return context.Cause(parent)
	case errors.As(err, &known):
		return known
	case errors.As(err, &timeout) && timeout.Timeout():
		return fail(CodeTimeout, "the mirror did not answer in time", "check that the file server answers other clients", nil)
	}
	return fail(CodeUnreachable, "the mirror gave no usable reply", "check the URI and the file server", err)
}
