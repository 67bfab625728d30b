package privsep

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/xpu-sztp/ztp/pkg/onboard"
	"github.com/xpu-sztp/ztp/pkg/progress"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// link is what the server has of its client while it executes: a board, a reporter and a network.
type link struct {
	*conn

	mu      sync.Mutex
	status  state.Status
	pending map[uint64]chan<- reply // questions that were not answered yet; nil when there is nobody to answer
	last    uint64
	ended   bool

	news  chan struct{} // the status has changed
	shown chan struct{} // closed when nobody sends it any more
}

type reply struct {
	*message
	file *os.File
}

func newLink(c *conn) *link {
	l := &link{conn: c, pending: map[uint64]chan<- reply{}, news: make(chan struct{}, 1), shown: make(chan struct{})}
	go l.show()
	return l
}

// request is an execution as the client could have asked for it in the same process.
func (l *link) request(o *Order) onboard.Request {
	r := onboard.Request{Level: o.Level, Network: l}
	if o.Reports {
		r.Reporter = l
	}
	if o.Where {
		r.Where = l.where
	}
	return r
}

// Update is part of onboard.Board. It never waits: only the latest status is sent.
func (l *link) Update(change func(*state.Status)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(&l.status)
	if l.ended {
		return
	}
	select {
	case l.news <- struct{}{}:
	default:
	}
}

// show sends the status whenever it has changed.
func (l *link) show() {
	defer close(l.shown)
	for range l.news {
		if err := l.send(l.board(&message{Kind: kindBoard}), nil); err != nil {
			return
		}
	}
}

// board puts the sections of the status into a message.
func (l *link) board(m *message) *message {
	l.mu.Lock()
	defer l.mu.Unlock()
	m.Board = sectionsOf(&l.status)
	return m
}

// end sends the result after the last status.
func (l *link) end(m *message) {
	l.mu.Lock()
	l.ended = true
	close(l.news)
	l.mu.Unlock()
	<-l.shown
	_ = l.send(l.board(m), nil)
}

// listen takes what the client sends until the connection ends. stop is called when the execution shall end.
func (l *link) listen(stop func(error)) {
	defer l.abandon()
	for {
		m, file, err := l.receive()
		if err != nil {
			stop(errGone)
			return
		}
		if m.Kind == kindAnswer {
			l.deliver(reply{m, file})
			continue
		}
		if file != nil {
			file.Close()
		}
		if m.Kind != kindStop {
			stop(&reason.Error{Code: CodeProtocol, Msg: "the process that speaks with the network says what it must not", Err: errKind})
			return
		}
		stop(errStopped) // reports are still answered
	}
}

func (l *link) deliver(r reply) {
	l.mu.Lock()
	asker := l.pending[r.ID]
	delete(l.pending, r.ID)
	l.mu.Unlock()
	if asker != nil {
		asker <- r // it has room
	} else if r.file != nil {
		r.file.Close()
	}
}

// abandon tells everybody who waits that nobody will answer.
func (l *link) abandon() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, asker := range l.pending {
		close(asker)
	}
	l.pending = nil
}

// ask waits for the client's answer until ctx ends.
func (l *link) ask(ctx context.Context, m *message) (reply, error) {
	m.Timeout = time.Minute
	if ends, ok := ctx.Deadline(); ok {
		m.Timeout = time.Until(ends)
	}
	answered := make(chan reply, 1)
	l.mu.Lock()
	if l.pending == nil {
		l.mu.Unlock()
		return reply{}, errGone
	}
	l.last++
	m.ID = l.last
	l.pending[m.ID] = answered
	l.mu.Unlock()
	if err := l.send(m, nil); err != nil {
		return reply{}, errGone
	}
	select {
	case r, ok := <-answered:
		if !ok {
			return reply{}, errGone
		}
		err := r.Fault.err()
		if err != nil && r.file != nil {
			r.file.Close()
		}
		return r, err
	case <-ctx.Done():
		l.mu.Lock()
		delete(l.pending, m.ID)
		l.mu.Unlock()
		select {
		case r := <-answered: // too late
			if r.file != nil {
				r.file.Close()
			}
		default:
		}
		return reply{}, context.Cause(ctx)
	}
}

// ReportProgress is part of onboard.Reporter.
func (l *link) ReportProgress(ctx context.Context, r progress.Report) error {
	got, err := l.ask(ctx, &message{Kind: kindReport, Report: &r})
	got.discard()
	return err
}

// LookupNetIP is part of image.Network.
func (l *link) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	got, err := l.ask(ctx, &message{Kind: kindLookup, Network: network, Address: host})
	got.discard()
	if err != nil {
		return nil, err
	}
	return got.Addresses, nil
}

// DialContext is part of image.Network: the client connects, and hands over the connection.
func (l *link) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	got, err := l.ask(ctx, &message{Kind: kindDial, Network: network, Address: address})
	if err != nil {
		return nil, err
	}
	if got.file == nil {
		return nil, errors.New("no connection came with the answer")
	}
	defer got.file.Close()
	c, err := net.FileConn(got.file)
	if err != nil {
		return nil, fmt.Errorf("what came with the answer is no connection: %w", err)
	}
	if _, ok := c.(*net.TCPConn); !ok {
		c.Close()
		return nil, fmt.Errorf("what came with the answer is a %T", c)
	}
	return c, nil
}

// whereTimeout bounds a look at the network, which nothing depends on.
const whereTimeout = 10 * time.Second

// where is onboard.Request.Where.
func (l *link) where() state.Network {
	ctx, cancel := context.WithTimeout(context.Background(), whereTimeout)
	defer cancel()
	got, err := l.ask(ctx, &message{Kind: kindWhere})
	got.discard()
	if err != nil {
		return nil
	}
	return got.Where.Bounded()
}

// discard closes a descriptor that nobody asked for.
func (r reply) discard() {
	if r.message != nil && r.file != nil {
		r.file.Close()
	}
}
