package link

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// overrun is a log that holds up who reads messages, once they have become too many, until released.
type overrun struct {
	slog.Handler
	happened atomic.Bool
	released chan struct{}
}

func (*overrun) Enabled(context.Context, slog.Level) bool { return true }

func (o *overrun) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, "subscribing anew") {
		o.happened.Store(true)
		<-o.released
	}
	return nil
}

// TestOverrun changes so much at once that the kernel drops messages (ENOBUFS), the last ones included. The list is right
// afterwards.
func TestOverrun(t *testing.T) {
	log := &overrun{Handler: slog.DiscardHandler, released: make(chan struct{})}
	w := &watcher{run: t.TempDir(), ours: func(int, netip.Addr) bool { return false }, news: func() {},
		log: slog.New(log)}
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	defer w.close()
	run := func(format string, arg ...any) {
		t.Helper()
		cmd := exec.Command("ip", "-batch", "-")
		cmd.Stdin = strings.NewReader(fmt.Sprintf(format, arg...))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	run("link add burst0 type bridge\n")
	last := "burst0"
	defer func() { run("link del %s\n", last) }()
	for tries := 0; !log.happened.Load(); tries++ {
		if tries == 200 {
			t.Fatal("no overrun")
		}
		// The least that the kernel allows holds one message or two.
		w.mu.Lock()
		err := unix.SetsockoptInt(w.socket.GetFd(), unix.SOL_SOCKET, unix.SO_RCVBUF, 0)
		w.mu.Unlock()
		if err != nil {
			t.Fatal(err)
		}
		run("%s", strings.Repeat("link set burst0 mtu 1400\nlink set burst0 mtu 1500\n", 50))
	}
	last = "burst1"
	run("link set burst0 name %s\n", last) // nobody will ever read of it
	close(log.released)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err := w.await(ctx, func(links []Link) bool {
		return slices.ContainsFunc(links, func(l Link) bool { return l.Name == last })
	})
	if err != nil {
		t.Errorf("%v: %s is not in %+v", err, last, w.links)
	}
}
