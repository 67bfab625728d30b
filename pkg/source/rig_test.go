package source_test

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/dhcp"
	"github.com/xpu-sztp/ztp/pkg/link"
	"github.com/xpu-sztp/ztp/pkg/source"
	"github.com/xpu-sztp/ztp/pkg/state"
	"github.com/xpu-sztp/ztp/test/nettest"
)

func TestMain(m *testing.M) { os.Exit(nettest.Main(m)) }

// board is the status in memory.
type board struct {
	mu      sync.Mutex
	status  state.Status
	changed chan struct{}
}

func (b *board) Update(f func(*state.Status)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f(&b.status)
	close(b.changed)
	b.changed = make(chan struct{})
}

// await blocks until the status fulfils cond.
func (b *board) await(t *testing.T, cond func(state.Status) bool) {
	t.Helper()
	limit := time.After(10 * time.Second)
	for {
		b.mu.Lock()
		ok, changed, now := cond(b.status), b.changed, b.status
		b.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-limit:
			t.Fatalf("the status never came: %+v", now)
		}
	}
}

func (b *board) entry(name, family string) state.Interface {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, i := range b.status.Interfaces {
		if i.Name == name && i.Family == family {
			return i
		}
	}
	return state.Interface{}
}

// rig is the networks given to newRig, and no others; finders may be set before Discover.
type rig struct {
	*source.Networks
	board  *board
	run    string
	rounds atomic.Int32 // that persist has begun
}

func newRig(t *testing.T, timeout time.Duration, networks ...*nettest.Network) *rig {
	t.Helper()
	var include []string
	for _, n := range networks {
		include = append(include, n.Device)
	}
	return newRigFor(t, timeout, include, networks...)
}

func newRigFor(t *testing.T, timeout time.Duration, include []string, networks ...*nettest.Network) *rig {
	t.Helper()
	r := &rig{board: &board{changed: make(chan struct{})}, run: t.TempDir()}
	system, err := link.Open(link.Options{Include: include, Record: filepath.Join(r.run, "network.json"), Run: r.run,
		Resolver: filepath.Join(r.run, "resolv.conf")})
	if err != nil {
		t.Fatal(err)
	}
	r.Networks = source.NewNetworks(source.NetworksOptions{System: system, Serial: "SN-" + t.Name(), Timeout: timeout, Board: r.board,
		Finders: []source.Finder{source.DHCP{}}})
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		for _, n := range networks {
			if out := configured(t, n); out != "" {
				t.Errorf("left on %s: %s", n.Device, out)
			}
		}
	})
	for _, n := range networks {
		if !n.Unplugged {
			r.usable(t, n)
		}
	}
	return r
}

// usable waits until the network can be used. Discover would otherwise look at the networks of tests that run beside this one.
func (r *rig) usable(t *testing.T, n *nettest.Network) {
	t.Helper()
	err := r.System.Await(t.Context(), func(links []link.Link) bool {
		return slices.ContainsFunc(links, func(l link.Link) bool { return l.Name == n.Device && l.Usable() })
	})
	if err != nil {
		t.Fatal(err)
	}
}

// visit runs a round in which the first lead is visited as long as f takes; then the visit succeeds. Unlike a visitor, f may
// end the test.
func (r *rig) visit(t *testing.T, f func(source.Lead)) error {
	t.Helper()
	leads, over, done := make(chan source.Lead), make(chan struct{}), make(chan struct{})
	var err error
	go func() {
		defer close(done)
		err = r.Discover(t.Context(), func(ctx context.Context, lead source.Lead) error {
			select {
			case leads <- lead:
			case <-ctx.Done():
				return ctx.Err()
			}
			select {
			case <-over:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	t.Cleanup(func() { <-done })
	select {
	case lead := <-leads:
		f(lead)
		close(over)
		<-done
	case <-done:
	}
	return err
}

// configured is the global addresses and the IPv4 routes of the device's interface.
func configured(t *testing.T, n *nettest.Network) string {
	return n.Inside.Run(t, "ip", "-o", "addr", "show", "dev", n.Device, "scope", "global", "permanent") +
		n.Inside.Run(t, "ip", "-4", "-o", "addr", "show", "dev", n.Device) + n.Inside.Run(t, "ip", "-4", "route", "show", "table", "all", "dev", n.Device, "proto", "dhcp")
}

func redirect(t *testing.T, uris ...string) []byte {
	t.Helper()
	b, err := dhcp.EncodeServerList(uris)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// serve accepts connections among the servers of n.
func serve(t *testing.T, n *nettest.Network, address string) {
	t.Helper()
	var l net.Listener
	n.Servers.Do(t, func() (err error) { l, err = net.Listen("tcp", address); return err })
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
}

// reach connects to the first server of a lead as an agent would.
func reach(ctx context.Context, lead source.Lead) error {
	addrs, err := lead.Network.LookupNetIP(ctx, "ip", lead.Servers[0].Address)
	if err != nil {
		return err
	}
	conn, err := lead.Network.DialContext(ctx, "tcp", netip.AddrPortFrom(addrs[0], lead.Servers[0].Port).String())
	if err != nil {
		return err
	}
	return conn.Close()
}

func discover(t *testing.T, s source.Source, visit func(context.Context, source.Lead) error) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return s.Discover(ctx, visit)
}

var kea4 = nettest.DHCP{Subnet: "192.0.2.0/24", Pool: "192.0.2.50-192.0.2.60", Router: "192.0.2.1", DNS: "192.0.2.1", Domain: "lab.test"}
