package privsep

import (
	"context"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/xpu-sztp/ztp/pkg/onboard"
	"github.com/xpu-sztp/ztp/pkg/progress"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// TestSilentClients: who keeps a connection and says nothing, or takes nothing, loses it.
func TestSilentClients(t *testing.T) {
	for name, said := range map[string][]byte{
		"from the beginning": nil,
		"within a message":   frame(`{"kind":"recover"}`)[:9],
		"before the proof":   frame(`{"kind":"execute","order":{}}`),
		"within the proof":   append(frame(`{"kind":"execute","order":{}}`), 0, 0),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := &hand{}
			client, _ := serve(t, h)
			c := dialled(t, client)
			if _, err := c.Write(said); err != nil {
				t.Fatal(err)
			}
			c.SetReadDeadline(time.Now().Add(6 * patience))
			if told, err := io.ReadAll(c); err != nil || len(told) > 0 || len(h.called()) > 0 {
				t.Errorf("the server says %q, %v; it did %v", told, err, h.called())
			}
		})
	}
	t.Run("takes nothing", func(t *testing.T) {
		t.Parallel()
		done := make(chan error, 1)
		h := &hand{execute: func(ctx context.Context, _ Order, r onboard.Request, _ onboard.Board) (onboard.Outcome, error) {
			err := r.Reporter.ReportProgress(ctx, progress.Report{Message: strings.Repeat("x", maxMessage/2)})
			done <- err
			return 0, err
		}}
		client, _ := serve(t, h)
		write(t, dialled(t, client), `{"kind":"execute","order":{"reports":true}}`, `{}`)
		if err := <-done; err == nil {
			t.Error("the server waits for a client that takes nothing")
		}
	})
}

// TestTooLarge: what is larger than it may be is not looked at, whatever it is.
func TestTooLarge(t *testing.T) {
	padded := func(body string, size int) []byte {
		return frame(body + strings.Repeat(" ", size-len(body)))
	}
	const order = `{"kind":"execute","order":{}}`
	for name, tt := range map[string]struct {
		said []byte
		want []string
	}{
		"a message":           {padded(`{"kind":"recover"}`, maxMessage), []string{"recover"}},
		"a message too large": {padded(`{"kind":"recover"}`, maxMessage+1), nil},
		"a proof":             {append(frame(order), padded("{}", maxProof)...), []string{"execute"}},
		"a proof too large":   {append(frame(order), padded("{}", maxProof+1)...), nil},
		"a message of too many parts": {frame(`{"kind":"change","change":{"kind":"end","last":{"interfaces":[` +
			strings.Repeat("{},", maxParts/2) + `{}]}}}`), nil},
		"a message of many words": {frame(`{"kind":"change","change":{"kind":"end","last":{"reason":{"message":"` +
			strings.Repeat(`[{,\",`, maxParts) + `"}}}}`), []string{"change end"}},
		"a proof of too many parts": {append(frame(order), frame(`{"server":{"chain":["`+strings.Repeat(`","`, maxParts)+`"]}}`)...), nil},
	} {
		t.Run(name, func(t *testing.T) {
			h := &hand{}
			client, stop := serve(t, h)
			c := dialled(t, client)
			go func() {
				c.Write(tt.said)
				c.CloseWrite()
			}()
			io.Copy(io.Discard, c)
			stop()
			if diff := cmp.Diff(tt.want, h.called()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestTooManyClients: who comes when there are as many as there may be is turned away at once.
func TestTooManyClients(t *testing.T) {
	client, _ := serve(t, &hand{})
	for range maxClients {
		dialled(t, client)
	}
	for range 3 {
		c := dialled(t, client)
		c.SetReadDeadline(time.Now().Add(patience / 2)) // the others lose theirs later
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Error(err)
		}
	}
}

// crowd is a handler that wants to be alone.
type crowd struct {
	meet chan struct{}
	mu   sync.Mutex
	met  bool
	hand
}

func (c *crowd) alone() {
	select {
	case c.meet <- struct{}{}:
	case <-c.meet:
	case <-time.After(50 * time.Millisecond):
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.met = true
}

func (c *crowd) Change(state.Change) (*state.Record, error) { c.alone(); return state.NewRecord(), nil }
func (c *crowd) Recover(context.Context) error              { c.alone(); return nil }
func (c *crowd) Trial(context.Context) (onboard.Trial, time.Duration, error) {
	c.alone()
	return onboard.Trial{}, 0, nil
}
func (c *crowd) Expire(context.Context, *state.Reason) error { c.alone(); return nil }
func (c *crowd) Execute(context.Context, Order, onboard.Request, onboard.Board) (onboard.Outcome, error) {
	c.alone()
	return onboard.Complete, nil
}

// TestOneAfterTheOther: whatever changes the device never happens twice at a time.
func TestOneAfterTheOther(t *testing.T) {
	const order = `{"kind":"execute","order":{}}`
	for _, kind := range []string{`{"kind":"change","change":{}}`, `{"kind":"recover"}`, `{"kind":"trial"}`, `{"kind":"expire"}`, order} {
		h := &crowd{meet: make(chan struct{})}
		client, stop := serve(t, h)
		var all sync.WaitGroup
		for range maxClients / 2 {
			c := dialled(t, client)
			all.Go(func() {
				c.Write(frame(kind))
				if kind == order {
					c.Write(frame("{}"))
				}
				io.Copy(io.Discard, c)
			})
		}
		all.Wait()
		stop()
		if h.met {
			t.Errorf("%s was done twice at a time", kind)
		}
	}
}

// TestAnsweredAgain: a second answer to a question, and a third, keep nobody from hearing what comes after them; nothing is left of
// what they bring, nor of what comes with a refusal.
func TestAnsweredAgain(t *testing.T) {
	file, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	ended := make(chan error, 1)
	h := &hand{execute: func(ctx context.Context, _ Order, r onboard.Request, _ onboard.Board) (onboard.Outcome, error) {
		if _, err := r.Network.DialContext(ctx, "tcp", "x"); err == nil {
			t.Error("a refusal is no error")
		}
		<-ctx.Done()
		ended <- context.Cause(ctx)
		return 0, ctx.Err()
	}}
	client, stop := serve(t, h)
	before := descriptors(t)
	c := &conn{unix: dialled(t, client)}
	write(t, c.unix, `{"kind":"execute","order":{}}`, `{}`)
	m, _, err := c.receive()
	if err != nil {
		t.Fatal(err)
	}
	for range 4 {
		if err := c.send(&message{Kind: kindAnswer, ID: m.ID, Fault: &fault{Code: "x"}}, file); err != nil {
			t.Fatal(err)
		}
	}
	write(t, c.unix, `{"kind":"stop"}`)
	if err := <-ended; err != errStopped {
		t.Error(err)
	}
	c.Close()
	stop()
	if after := descriptors(t); after >= before {
		t.Errorf("%d descriptors are open, before %d", after, before)
	}
}

// TestDescriptorsAreClosed: every message may bring one, wanted or not, and two where there is room for one.
func TestDescriptorsAreClosed(t *testing.T) {
	file, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	h := &hand{execute: func(ctx context.Context, _ Order, r onboard.Request, _ onboard.Board) (onboard.Outcome, error) {
		_, _ = r.Network.LookupNetIP(ctx, "ip", "x")
		_, _ = r.Network.DialContext(ctx, "tcp", "x")
		<-ctx.Done()
		return 0, ctx.Err()
	}}
	client, stop := serve(t, h)
	before := descriptors(t)
	for _, said := range [][][]byte{
		{[]byte(`{"kind":"recover"}`)},
		{[]byte("no JSON")},
		{[]byte(`{"kind":"execute","order":{}}`), []byte(`{}`), []byte(`{"kind":"answer","id":9}`), []byte(`{"kind":"stop"}`)},
		{[]byte(`{"kind":"execute","order":{}}`), []byte(`no JSON`)},
		{[]byte(`{"kind":"execute","order":{}}`), []byte(`{}`), []byte(`no JSON`)},
		nil,
	} {
		for range 3 {
			c := &conn{unix: dialled(t, client)}
			for _, body := range said {
				if err := c.write(body, unix.UnixRights(int(file.Fd()), int(file.Fd()))); err != nil {
					break // it has had enough
				}
			}
			for range 2 - min(len(said), 2) { // a length in two pieces, which is too much
				c.unix.WriteMsgUnix([]byte{255, 255}, unix.UnixRights(int(file.Fd())), nil)
			}
			c.unix.CloseWrite()
			io.Copy(io.Discard, c.unix)
			c.Close()
		}
	}
	stop()
	if after := descriptors(t); after > before {
		t.Errorf("%d descriptors are open, before %d", after, before)
	}
}
