package tpm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/go-tpm/tpm2"
)

const (
	commandTimeout = 30 * time.Second // for one operation, retries included; slow TPMs take seconds for an RSA signature
	keygenTimeout  = 5 * time.Minute  // the longest a driver lets a TPM search for RSA primes
	flushTimeout   = 5 * time.Second
	firstRetry     = 5 * time.Millisecond
	maxRetry       = 500 * time.Millisecond
)

// conn is a connection to a TPM: one operation at a time, each bounded in time.
type conn struct {
	link   link
	kernel bool          // the kernel starts the TPM up, we never do
	turn   chan struct{} // holds one token; whoever has it may talk
	closed context.Context
	stop   context.CancelFunc
	once   sync.Once
	err    error // of closing
}

func connect(path string) (*conn, error) {
	l, kernel, err := openLink(path)
	if err != nil {
		return nil, err
	}
	return newConn(l, kernel), nil
}

func newConn(l link, kernel bool) *conn {
	c := &conn{link: l, kernel: kernel, turn: make(chan struct{}, 1)}
	c.closed, c.stop = context.WithCancel(context.Background())
	return c
}

// Close interrupts the operation in progress, if any, and releases the TPM.
func (c *conn) Close() error {
	c.once.Do(func() {
		c.stop()
		c.turn <- struct{}{} // kept: nobody talks after this
		c.err = c.link.Close()
	})
	return c.err
}

// do runs one operation of one or several commands, alone. Its errors are *Error; doing says what it was for.
func (c *conn) do(ctx context.Context, limit time.Duration, doing string, operation func(*session) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%w within %v", errSilent, limit))
	defer cancel()
	defer context.AfterFunc(c.closed, cancel)()
	if c.closed.Err() != nil {
		return explain(doing, fmt.Errorf("the identity was closed: %w", context.Canceled))
	}
	select {
	case c.turn <- struct{}{}:
	case <-ctx.Done():
		return explain(doing, context.Cause(ctx))
	}
	defer func() { <-c.turn }()
	return explain(doing, operation(&session{c, ctx}))
}

// session is the TPM as one operation sees it. It implements go-tpm's transport.TPM.
type session struct {
	conn *conn
	ctx  context.Context
}

// Send executes one command, again and again while the TPM asks for it and time allows.
func (s *session) Send(command []byte) ([]byte, error) {
	started := false
	for wait := firstRetry; ; wait = min(2*wait, maxRetry) {
		rsp, err := s.conn.link.exchange(s.ctx, command)
		if err != nil {
			return nil, err
		}
		rc := responseCode(rsp)
		switch {
		case rc == tpm2.TPMRCRetry, rc == tpm2.TPMRCYielded, rc == tpm2.TPMRCTesting, rc == tpm2.TPMRCNVRate:
			if err := pause(s.ctx, wait); err != nil {
				return nil, errors.Join(err, rc)
			}
		case rc == tpm2.TPMRCInitialize && !s.conn.kernel && !started:
			// A software TPM that was powered on and not started up: nobody but us would do it.
			started = true
			if _, err := s.conn.link.exchange(s.ctx, startup()); err != nil {
				return nil, err
			}
		default:
			return rsp, nil
		}
	}
}

// flush removes a transient object, also when the operation's time is up: TPMs have room for three of them.
func (s *session) flush(h tpm2.TPMHandle) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), flushTimeout)
	defer cancel()
	_, _ = (&session{s.conn, ctx}).execute(flushContext(h))
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// startup is the command TPM2_Startup(TPM_SU_CLEAR), TPM 2.0 Part 3, 9.3.
func startup() []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(tpm2.TPMSTNoSessions))
	b = binary.BigEndian.AppendUint32(b, headerSize+2)
	b = binary.BigEndian.AppendUint32(b, uint32(tpm2.TPMCCStartup))
	return binary.BigEndian.AppendUint16(b, uint16(tpm2.TPMSUClear))
}
