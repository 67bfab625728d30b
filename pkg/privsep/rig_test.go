package privsep

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/onboard"
	"github.com/xpu-sztp/ztp/pkg/state"
	"github.com/xpu-sztp/ztp/pkg/storage"
)

// hand is a handler that does what a test says, and notes what it was asked for.
type hand struct {
	mu      sync.Mutex
	calls   []string
	execute func(context.Context, Order, onboard.Request, onboard.Board) (onboard.Outcome, error)
	change  func(state.Change) (*state.Record, error)
	open    func(storage.Partition, string) (*os.File, error)
}

func (h *hand) note(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls = append(h.calls, what)
}

func (h *hand) called() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.calls...)
}

func (h *hand) Change(c state.Change) (*state.Record, error) {
	h.note("change " + string(c.Kind))
	if h.change == nil {
		return state.NewRecord(), nil
	}
	return h.change(c)
}

func (h *hand) Recover(context.Context) error {
	h.note("recover")
	return nil
}

func (h *hand) Trial(context.Context) (onboard.Trial, time.Duration, error) {
	h.note("trial")
	return onboard.Trial{Image: "aa", Slot: "b", Good: "a"}, time.Minute, nil
}

func (h *hand) Expire(_ context.Context, last *state.Reason) error {
	if last == nil {
		h.note("expire")
		return errors.New("not yet")
	}
	h.note("expire after " + last.Code)
	return nil
}

func (h *hand) Execute(ctx context.Context, o Order, r onboard.Request, b onboard.Board) (onboard.Outcome, error) {
	h.note("execute")
	if h.execute == nil {
		return 0, errors.New("nothing is believed")
	}
	return h.execute(ctx, o, r, b)
}

func (h *hand) Partitions(key string) ([]storage.Partition, error) {
	h.note("partitions " + key)
	return []storage.Partition{{Name: "sda1", Device: "8:1", Sectors: 8}}, nil
}

func (h *hand) Open(p storage.Partition, path string) (*os.File, error) {
	h.note("open " + p.Name + " " + path)
	if h.open == nil {
		return nil, errors.New("no stick")
	}
	return h.open(p, path)
}

// serve starts a server and returns a client of it, and what stops the server.
func serve(t testing.TB, h Handler) (c *Client, stop func()) {
	t.Helper()
	dir, err := os.MkdirTemp("", "privsep") // a short path: it holds a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c = &Client{Socket: filepath.Join(dir, "s"), Logger: slog.New(slog.DiscardHandler)}
	return c, serveAt(t, h, c.Socket)
}

func serveAt(t testing.TB, h Handler, socket string) (stop func()) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{Handler: h, Logger: slog.New(slog.DiscardHandler), Client: uint32(os.Geteuid())}
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			l.Close()
		})
	}
	t.Cleanup(stop)
	return stop
}

// display is a board of the client.
type display struct {
	mu     sync.Mutex
	status state.Status
}

func (d *display) Update(change func(*state.Status)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change(&d.status)
}

func (d *display) now() state.Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.status
}

// order is a request as package agent makes it.
func order(change func(*onboard.Request)) onboard.Request {
	r := onboard.Request{Proof: &artifacts.Proof{Bundle: artifacts.Bundle{ConveyedInformation: []byte("ci")}, Nonce: []byte("nonce")}}
	if change != nil {
		change(&r)
	}
	return r
}

// descriptors counts those that are open.
func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
