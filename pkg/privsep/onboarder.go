package privsep

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/xpu-sztp/ztp/pkg/onboard"
	"github.com/xpu-sztp/ztp/pkg/progress"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// Onboarder has onboarding information executed by the privileged process. It takes the place of onboard.Executor.
type Onboarder struct {
	Client *Client
	Board  onboard.Board
}

// ReportParsingError is that of onboard.Executor: it needs no privileges.
func (o *Onboarder) ReportParsingError(ctx context.Context, to onboard.Reporter, level progress.Level, cause error) {
	onboard.New(onboard.Options{Board: o.Board, Logger: o.Client.Logger}).ReportParsingError(ctx, to, level, cause)
}

// Execute is that of onboard.Executor. When the privileged process dies before it is done, the next one undoes what it did, and
// is given the order once more, unless all had been done.
func (o *Onboarder) Execute(ctx context.Context, r onboard.Request) (outcome onboard.Outcome, err error) {
	if r.Proof == nil {
		return 0, &reason.Error{Code: onboard.ReasonUntrusted, Msg: "nothing is executed without what vouches for it"}
	}
	for range 2 {
		outcome, err = o.execute(ctx, r)
		var broken *brokenError
		if !errors.As(err, &broken) {
			return outcome, err
		}
		err = lost(ctx, broken.error)
		if ctx.Err() != nil {
			break
		}
		o.Client.Logger.Error("the privileged process has died while it executed", "error", broken.error)
		if err := o.Client.Recover(ctx); err != nil {
			return 0, errors.Join(err, lost(ctx, broken.error))
		}
		record, err := o.Client.Change(ctx, state.Change{})
		if err != nil {
			return 0, err
		}
		if record.Outcome == state.OutcomeProvisioned && record.Session == nil {
			return onboard.Complete, nil
		}
	}
	return 0, err
}

func (o *Onboarder) execute(ctx context.Context, r onboard.Request) (onboard.Outcome, error) {
	c, err := o.Client.dial(ctx)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	e := &execution{conn: c, version: o.Client.Version, request: r, board: o.Board, turns: make(chan struct{}, maxQuestions)}
	return e.run(ctx)
}

// execution is one on the client's side.
type execution struct {
	*conn
	version string
	request onboard.Request
	board   onboard.Board
	turns   chan struct{} // of those who answer
	answers sync.WaitGroup
	warned  int // warnings that are shown already

	mu      sync.Mutex
	refused error // of the latest report
}

// brokenError says that the connection has no more to say.
type brokenError struct{ error }

func (e *brokenError) Unwrap() error { return e.error }

func (e *execution) run(ctx context.Context) (onboard.Outcome, error) {
	if err := e.order(ctx); err != nil {
		return 0, &brokenError{err}
	}
	defer context.AfterFunc(ctx, func() { _ = e.send(&message{Kind: kindStop}, nil) })()
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx)) // it is the server that stops, and reports that
	defer e.answers.Wait()
	defer cancel()
	for {
		m, file, err := e.receive()
		if file != nil {
			file.Close()
		}
		if err != nil {
			return 0, &brokenError{err}
		}
		switch m.Kind {
		case kindBoard:
			e.show(m.Board)
		case kindReport, kindLookup, kindDial, kindWhere:
			e.turns <- struct{}{}
			e.answers.Go(func() {
				defer func() { <-e.turns }()
				e.answer(ctx, m)
			})
		case kindResult:
			e.show(m.Board)
			return m.Outcome, e.verdict(m)
		default:
			return 0, &brokenError{errKind}
		}
	}
}

// order sends what is to be executed. The server takes the proof when it is its turn.
func (e *execution) order(ctx context.Context) error {
	r := &e.request
	o := &Order{Level: r.Level, Reports: r.Reporter != nil, Where: r.Where != nil}
	if s, ok := r.Files.(*files); ok {
		o.Stick = &s.partition
	}
	proof, err := json.Marshal(r.Proof)
	if err != nil {
		return err
	}
	if len(proof) > maxProof {
		return fmt.Errorf("the data and what led to it have %d bytes, at most %d", len(proof), maxProof)
	}
	if err := e.send(&message{Kind: kindExecute, Version: e.version, Order: o}, nil); err != nil {
		return err
	}
	e.unix.SetWriteDeadline(time.Time{})
	late := make(chan struct{})
	goOn := context.AfterFunc(ctx, func() { e.unix.SetWriteDeadline(time.Unix(1, 0)); close(late) })
	err = e.write(proof, nil)
	if !goOn() {
		<-late // what is sent next has a deadline of its own
	}
	return err
}

func (e *execution) show(x *sections) {
	e.board.Update(func(s *state.Status) { e.warned = x.show(s, e.warned) })
}

// verdict completes the error in a result with that of a report, which may say when to come again.
func (e *execution) verdict(m *message) error {
	err := m.Fault.err()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.refused != nil && m.Fault != nil && m.Fault.Code == onboard.ReasonReport {
		return &refusedError{err, e.refused}
	}
	return err
}

// refusedError is a fault of the other process, and the error of this one that led to it.
type refusedError struct{ fault, cause error }

func (e *refusedError) Error() string   { return e.fault.Error() }
func (e *refusedError) Unwrap() []error { return []error{e.fault, e.cause} }

// answer does what only this process can, and tells what came of it.
func (e *execution) answer(ctx context.Context, m *message) {
	ctx, cancel := context.WithTimeout(ctx, m.Timeout)
	defer cancel()
	a := &message{Kind: kindAnswer, ID: m.ID}
	r := &e.request
	var err error
	switch {
	case m.Kind == kindReport && r.Reporter != nil:
		err = r.Reporter.ReportProgress(ctx, *m.Report)
		e.mu.Lock()
		e.refused = err
		e.mu.Unlock()
	case m.Kind == kindLookup && r.Network != nil:
		a.Addresses, err = r.Network.LookupNetIP(ctx, m.Network, m.Address)
	case m.Kind == kindDial && r.Network != nil:
		if err = e.dial(ctx, a, m); err == nil {
			return
		}
	case m.Kind == kindWhere && r.Where != nil:
		a.Where = r.Where()
	default:
		err = errKind
	}
	a.Fault = faultOf(err)
	_ = e.send(a, nil)
}

// dial sends the answer together with a connection.
func (e *execution) dial(ctx context.Context, a, m *message) error {
	connected, err := e.request.Network.DialContext(ctx, m.Network, m.Address)
	if err != nil {
		return err
	}
	defer connected.Close()
	socket, ok := connected.(syscall.Conn)
	if !ok {
		return fmt.Errorf("%T has no socket", connected)
	}
	_ = e.send(a, socket)
	return nil
}
