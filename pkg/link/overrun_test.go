package link

import (
	"context"
	"fmt"
	"log/slog"
	"net"
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
	w := &watcher{run: t.TempDir(), ours: func() ownAddresses { return nil }, news: func() {},
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

// TestAddressTakenAwayWhileRead: an address of the agent that is listed and forgotten a moment later was nobody else's, so that the
// other attempts on the interface go on.
func TestAddressTakenAwayWhileRead(t *testing.T) {
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	run("link", "add", "mine0", "type", "bridge")
	defer run("link", "del", "mine0")
	run("addr", "add", "192.0.2.7/24", "dev", "mine0")
	nic, err := net.InterfaceByName("mine0")
	if err != nil {
		t.Fatal(err)
	}
	made := ownAddresses{{Kind: "address", Index: nic.Index, Prefix: netip.MustParsePrefix("192.0.2.7/24")}}
	for name, ours := range map[string][]ownAddresses{"taken away": {made, nil}, "added": {nil, made}, "another's": {nil, nil}} {
		calls := 0
		w := &watcher{run: t.TempDir(), changed: make(chan struct{}), news: func() {}, ours: func() ownAddresses { calls++; return ours[calls-1] }}
		if err := w.refresh(); err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(w.links, func(l Link) bool { return l.Index == nic.Index })
		if managed := w.links[i].Managed == ByHand; managed != (name == "another's") {
			t.Errorf("%s: managed by %q", name, w.links[i].Managed)
		}
	}
}
