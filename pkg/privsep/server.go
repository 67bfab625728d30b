package privsep

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// Server is the privileged process. Whatever changes the device happens one after the other.
type Server struct {
	Handler Handler
	Logger  *slog.Logger
	// Client is the user who may ask, besides root.
	Client uint32
	// Version is that of this program. After an upgrade, a client may be of another one: it is told so.
	Version string
	// Idle is how long it waits for the next request before it ends; it is started again by one. 0 never ends.
	Idle time.Duration

	turn    sync.Mutex
	differs atomic.Bool // a client of another version has come
	retire  func()      // has Serve take note of that
	clients sync.WaitGroup
	slots   chan struct{}
}

// Serve answers requests that come to l until ctx ends, which also stops what is being executed, or nobody has asked for Idle. With
// an Idle it takes no more of them, too, after one of another version: whichever of the two is the old one, the next is not.
// It returns when everything that it began is over.
func (s *Server) Serve(ctx context.Context, l *net.UnixListener) error {
	s.slots = make(chan struct{}, maxClients)
	s.retire = func() {
		s.differs.Store(true)
		if s.Idle > 0 {
			l.SetDeadline(time.Unix(1, 0))
		}
	}
	defer s.clients.Wait()
	defer context.AfterFunc(ctx, func() { l.SetDeadline(time.Unix(1, 0)) })()
	for {
		if s.Idle > 0 && ctx.Err() == nil {
			l.SetDeadline(time.Now().Add(s.Idle))
		}
		if ctx.Err() != nil || s.Idle > 0 && s.differs.Load() { // also when the deadline just overwrote that of the end
			return nil
		}
		accepted, err := l.AcceptUnix()
		switch {
		case err == nil:
			s.admit(ctx, &conn{unix: accepted})
		case ctx.Err() != nil:
			return nil
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return fmt.Errorf("accept: %w", err)
		case len(s.slots) == 0:
			return nil
		}
	}
}

// admit serves a client, if there are not too many, and it is one who may ask.
func (s *Server) admit(ctx context.Context, c *conn) {
	uid, err := peer(c.unix)
	if err == nil && uid != 0 && uid != s.Client {
		err = fmt.Errorf("user %d may not ask for anything", uid)
	}
	if err == nil {
		select {
		case s.slots <- struct{}{}:
		default:
			err = errors.New("too many clients")
		}
	}
	if err != nil {
		s.Logger.Warn("a client was turned away", "error", err)
		c.Close()
		return
	}
	s.clients.Add(1)
	go func() {
		defer s.clients.Done()
		defer func() { <-s.slots }()
		defer c.Close()
		if err := s.serve(ctx, c); err != nil {
			s.Logger.Warn("a request was not understood", "error", err)
		}
	}()
}

// peer returns the user at the other end.
func peer(c *net.UnixConn) (uint32, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var credentials *unix.Ucred
	controlErr := raw.Control(func(fd uintptr) { credentials, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err = errors.Join(err, controlErr); err != nil {
		return 0, err
	}
	return credentials.Uid, nil
}

// serve answers the request of a connection. The error is the client's fault.
func (s *Server) serve(ctx context.Context, c *conn) error {
	c.unix.SetReadDeadline(time.Now().Add(patience))
	m, file, err := c.receive()
	if file != nil {
		file.Close()
	}
	if m != nil && m.Version != s.Version {
		s.retire() // before the client can come again
		err = &reason.Error{Code: CodeVersion, Msg: fmt.Sprintf("`ztp daemon` is version %q and `ztp onboard` %q: one of them runs since before an upgrade",
			short(m.Version), s.Version), Fix: "systemd starts both anew by itself; or `systemctl restart ztp.service`"}
		_ = c.send(&message{Kind: kindAnswer, Fault: faultOf(err)}, nil)
	}
	if err != nil {
		return err
	}
	a := &message{Kind: kindAnswer, ID: m.ID}
	switch m.Kind {
	case kindChange:
		s.turn.Lock()
		defer s.turn.Unlock()
		r, err := s.Handler.Change(*m.Change)
		a.Record, a.Fault = known(r), faultOf(err)
	case kindRecover:
		s.turn.Lock()
		defer s.turn.Unlock()
		a.Fault = faultOf(s.Handler.Recover(ctx))
	case kindTrial:
		s.turn.Lock()
		defer s.turn.Unlock()
		trial, left, err := s.Handler.Trial(ctx)
		a.Trial, a.Timeout, a.Fault = &trial, left, faultOf(err)
	case kindExpire:
		s.turn.Lock()
		defer s.turn.Unlock()
		a.Fault = faultOf(s.Handler.Expire(ctx, m.Last))
	case kindStick:
		return s.stick(c, m, a)
	case kindExecute:
		s.turn.Lock()
		defer s.turn.Unlock()
		return s.execute(ctx, c, m.Order)
	default:
		return errKind
	}
	_ = c.send(a, nil)
	return nil
}

// known is what a client is told of the record: nothing of what was done to the device.
func known(r *state.Record) *state.Record {
	if r == nil {
		return nil
	}
	k := *r
	k.Images, k.Journal = nil, make([]state.Entry, len(r.Journal))
	return &k
}

func (s *Server) stick(c *conn, m, a *message) error {
	var file *os.File
	var err error
	if m.Partition == nil {
		a.Partitions, err = s.Handler.Partitions(m.Disk)
	} else {
		file, err = s.Handler.Open(*m.Partition, m.Path)
	}
	a.Fault = faultOf(err)
	var sent syscall.Conn
	if err == nil && file != nil {
		defer file.Close()
		sent = file
	}
	_ = c.send(a, sent)
	return nil
}

// execute reads the proof and has it executed.
func (s *Server) execute(ctx context.Context, c *conn, o *Order) error {
	c.unix.SetReadDeadline(time.Now().Add(patience))
	body, file, err := c.read(maxProof)
	if file != nil {
		file.Close()
	}
	if err == nil {
		o.Proof = artifacts.Proof{}
		err = json.Unmarshal(body, &o.Proof)
	}
	if err != nil {
		return err
	}
	c.unix.SetReadDeadline(time.Time{})
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	l := newLink(c)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l.listen(cancel)
	}()
	outcome, err := s.Handler.Execute(ctx, *o, l.request(o), l)
	l.end(&message{Kind: kindResult, Outcome: outcome, Fault: faultOf(err)})
	c.Close()
	<-ended
	return nil
}

var (
	errStopped = &reason.Error{Code: reason.Cancelled, Msg: "the session was stopped"}
	errGone    = &reason.Error{Code: CodeLost, Msg: "the process that speaks with the network has ended",
		Fix: "it begins again by itself; `journalctl -u ztp` tells why it ended"}
)
