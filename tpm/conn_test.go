package tpm

import (
	"context"
	"crypto"
	"encoding/binary"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-tpm/tpm2"
)

// linkFunc is a TPM that is a function.
type linkFunc func(ctx context.Context, command []byte) ([]byte, error)

func (f linkFunc) exchange(ctx context.Context, command []byte) ([]byte, error) {
	return f(ctx, command)
}
func (f linkFunc) Close() error { return nil }

func respond(rc tpm2.TPMRC, body []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(tpm2.TPMSTNoSessions))
	b = binary.BigEndian.AppendUint32(b, uint32(headerSize+len(body)))
	b = binary.BigEndian.AppendUint32(b, uint32(rc))
	return append(b, body...)
}

func flushSomething(s *session) error {
	_, err := tpm2.FlushContext{FlushHandle: tpm2.TPMHandle(0x80000000)}.Execute(s)
	return err
}

// Without any deadline from above, a TPM that is silent or asks for retries for ever is given up after commandTimeout,
// and others who wait for it are not held up longer than their own limit.
func TestWatchdog(t *testing.T) {
	for name, link := range map[string]linkFunc{
		"silent": func(ctx context.Context, _ []byte) ([]byte, error) {
			<-ctx.Done()
			return nil, context.Cause(ctx)
		},
		"retry": func(context.Context, []byte) ([]byte, error) { return respond(tpm2.TPMRCRetry, nil), nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				exchanges := 0
				c := newConn(linkFunc(func(ctx context.Context, b []byte) ([]byte, error) {
					exchanges++
					return link(ctx, b)
				}), true)
				defer c.Close()
				waiter := make(chan error, 1)
				began := time.Now()
				go func() {
					synctest.Wait()
					waiter <- c.do(context.Background(), time.Second, "waiting", flushSomething)
				}()
				for range 2 {
					err := c.do(context.Background(), commandTimeout, "testing", flushSomething)
					var e *Error
					if !errors.As(err, &e) || e.Code != CodeTimeout {
						t.Fatalf("got %v", err)
					}
				}
				if took := time.Since(began); took > 2*commandTimeout+time.Second {
					t.Errorf("took %v", took)
				}
				if exchanges > 250 {
					t.Errorf("%d exchanges", exchanges)
				}
				var e *Error
				if err := <-waiter; !errors.As(err, &e) || e.Code != CodeTimeout {
					t.Errorf("the waiter got %v", err)
				}
			})
		})
	}
}

// Whatever a TPM answers, the result is an identity or an explained error.
func FuzzResponses(f *testing.F) {
	f.Add(uint32(0), []byte{})
	f.Add(uint32(tpm2.TPMRCHandle), []byte{0, 1})
	area := tpm2.Marshal(tpm2.New2B(tpm2.ECCSRKTemplate))
	f.Add(uint32(0), append(area, 0, 2, 1, 2, 0, 0))
	f.Fuzz(func(t *testing.T, rc uint32, body []byte) {
		if r := tpm2.TPMRC(rc); r == tpm2.TPMRCRetry || r == tpm2.TPMRCYielded || r == tpm2.TPMRCTesting || r == tpm2.TPMRCNVRate {
			return
		}
		c := newConn(linkFunc(func(context.Context, []byte) ([]byte, error) { return respond(tpm2.TPMRC(rc), body), nil }), false)
		defer c.Close()
		p := pair{conn: c}
		err := p.findKey(context.Background(), "")
		if err == nil {
			_, err = p.key.Sign(nil, make([]byte, 32), crypto.SHA256)
		}
		saltErr := c.do(context.Background(), commandTimeout, "salting", func(s *session) error {
			return s.secretly(outward, func(tpm2.Session) error { return nil })
		})
		_, nvErr := c.readNV(context.Background(), identityFirst, true)
		for _, err := range []error{err, saltErr, nvErr, new(shelf).scan(context.Background(), c, identityFirst, identityLast)} {
			var e *Error
			if err != nil && (!errors.As(err, &e) || e.Code == "" || e.Msg == "") {
				t.Fatalf("unexplained: %v", err)
			}
		}
	})
}
