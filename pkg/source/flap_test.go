package source_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/link"
	"github.com/xpu-sztp/ztp/pkg/source"
	"github.com/xpu-sztp/ztp/pkg/state"
	"github.com/xpu-sztp/ztp/test/lab/wire"
	"github.com/xpu-sztp/ztp/test/nettest"
)

// carrier blocks until the agent sees that the cable is in, or not.
func (r *rig) carrier(t *testing.T, n *nettest.Network, want bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err := r.System.Await(ctx, func(links []link.Link) bool {
		return slices.ContainsFunc(links, func(l link.Link) bool { return l.Name == n.Device && l.Carrier == want })
	})
	if err != nil {
		t.Error("the carrier never came or went")
	}
}

// flap takes the carrier away for as long as the agent needs to notice.
func (r *rig) flap(t *testing.T, n *nettest.Network) {
	t.Helper()
	n.Unplug(t)
	r.carrier(t, n, false)
	n.Plug(t)
	r.carrier(t, n, true)
}

// rules is the rules of the agent for the interface.
func rules(t *testing.T, n *nettest.Network, index int) (found []string) {
	t.Helper()
	for line := range strings.Lines(n.Inside.Run(t, "ip", "rule")) {
		if strings.Contains(line, fmt.Sprintf("lookup %d", 143_000_000+index)) {
			found = append(found, line)
		}
	}
	return found
}

// persist discovers until it succeeds, waiting for a wake after each failure, as the agent does when its back-off is long.
func (r *rig) persist(ctx context.Context, visit func(context.Context, source.Lead) error) error {
	for {
		r.rounds.Add(1)
		if err := r.Discover(ctx, visit); err == nil || ctx.Err() != nil {
			return err
		}
		select {
		case <-r.Wake():
		case <-ctx.Done():
		}
	}
}

// TestFlapBeforeVisit interrupts the cable once, at a moment that the cable itself tells.
func TestFlapBeforeVisit(t *testing.T) {
	tests := []struct {
		name       string
		after      string // the packet after which the cable is interrupted
		fromDevice bool
		late       bool // the server starts after that
		discovers  int  // at most
	}{
		{"before OFFER", "DHCPDISCOVER", true, true, 5},
		{"between OFFER and ACK", "DHCPOFFER", false, false, 5},
		{"during ARP probing", "ARP probe", true, false, 5},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := nettest.NewNetwork(t, nil, "192.0.2.1/24")
			c := kea4 // without option 143: a better offer is waited for
			if !tt.late {
				n.Kea4(t, c)
			}
			serve(t, n, "192.0.2.1:8443")
			trace := n.Trace(t)
			r := newRig(t, 20*time.Second, n)
			r.Finders = []source.Finder{source.WellKnown{Servers: []artifacts.BootstrapServer{{Address: "192.0.2.1", Port: 8443}}}}
			visits := make(chan error, 1)
			index := 0
			go func() {
				visits <- r.persist(t.Context(), func(ctx context.Context, lead source.Lead) error {
					index = r.board.entry(n.Device, "ipv4").Index
					return reach(ctx, lead)
				})
			}()
			trace.AwaitKind(t, tt.after, tt.fromDevice)
			n.Unplug(t)
			r.carrier(t, n, false)
			if tt.late {
				n.Kea4(t, c)
			}
			n.Plug(t)
			if err := <-visits; err != nil {
				t.Fatal(err)
			}
			if sent := trace.Count("DHCPDISCOVER"); sent < 2 || sent > tt.discovers {
				t.Errorf("%d times DHCPDISCOVER", sent)
			}
			trace.AwaitKind(t, "DHCPRELEASE", true)
			if left := rules(t, n, index); left != nil || index == 0 {
				t.Errorf("rules of interface %d are left: %q", index, left)
			}
		})
	}
}

// TestFlapDuringVisit: nothing has to begin anew, because the lease goes on. Names are asked for again when the answer was
// lost, and connections wait.
func TestFlapDuringVisit(t *testing.T) {
	tests := []struct {
		name, host string
		flap       func(*testing.T, *rig, *nettest.Network, *nettest.Trace)
	}{
		{"with a lease", "192.0.2.1", func(t *testing.T, r *rig, n *nettest.Network, _ *nettest.Trace) { r.flap(t, n) }},
		{"while a name is resolved", "bs.lab.test", func(t *testing.T, r *rig, n *nettest.Network, trace *nettest.Trace) {
			trace.AwaitKind(t, "DNS query", true)
			r.flap(t, n)
			n.Dnsmasq(t, "address=/bs.lab.test/192.0.2.1")
		}},
		{"while a connection is made", "192.0.2.2", func(t *testing.T, r *rig, n *nettest.Network, trace *nettest.Trace) {
			trace.AwaitKind(t, "ARP", true) // nobody has the address
			r.flap(t, n)
			n.Servers.Run(t, "ip", "addr", "add", "192.0.2.2/24", "dev", n.Server)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := nettest.NewNetwork(t, nil, "192.0.2.1/24")
			c := kea4
			c.Redirect = redirect(t, "https://"+tt.host+":8443")
			log := n.Kea4(t, c)
			serve(t, n, "0.0.0.0:8443")
			r := newRig(t, 20*time.Second, n)
			trace := n.Trace(t)
			visits, asked := 0, 0
			err := discover(t, r, func(ctx context.Context, lead source.Lead) error {
				visits, asked = visits+1, trace.Count("DHCPDISCOVER")
				reached := make(chan error, 1)
				if tt.host != "192.0.2.1" {
					trace := n.Trace(t) // from here on
					go func() { reached <- retry(ctx, lead) }()
					tt.flap(t, r, n, trace)
				} else {
					tt.flap(t, r, n, trace)
					reached <- retry(ctx, lead)
				}
				if e := r.board.entry(n.Device, "ipv4"); e.State != "bound" || len(e.Addresses) != 1 {
					t.Errorf("status %+v", e)
				}
				return <-reached
			})
			if err != nil || visits != 1 {
				t.Fatalf("%d visits, %v\n%s", visits, err, log)
			}
			trace.AwaitKind(t, "DHCPRELEASE", true)
			if more := trace.Count("DHCPDISCOVER") - asked; more > 0 {
				t.Errorf("%d times DHCPDISCOVER during the visit", more)
			}
		})
	}
}

// retry is the visitor's patience with a server that is named.
func retry(ctx context.Context, lead source.Lead) (err error) {
	for range 5 {
		if err = reach(ctx, lead); err == nil || ctx.Err() != nil {
			break
		}
	}
	return err
}

// TestFlapStorm has a cable that comes and goes all the time. What the agent sends is bounded, whatever the cable does, and
// the network is found once it holds.
func TestFlapStorm(t *testing.T) {
	t.Parallel() // it takes wakeSpacing
	n := nettest.NewNetwork(t, nil, "192.0.2.1/24")
	trace := n.Trace(t)
	r := newRig(t, time.Minute, n)
	done := make(chan error, 1)
	go func() { done <- r.persist(t.Context(), func(context.Context, source.Lead) error { return nil }) }()
	r.carrier(t, n, true)
	const flaps = 15
	for range flaps {
		sent := trace.Count("DHCPDISCOVER")
		moment, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		trace.Await(moment, func(wire.Packet) bool { return trace.Count("DHCPDISCOVER") > sent })
		cancel()
		r.flap(t, n)
	}
	sent := trace.Count("DHCPDISCOVER") + trace.Count("SOLICIT6")
	if sent == 0 || sent > 10 { // a round, and another one for each wake, which have wakeSpacing between them
		t.Errorf("%d messages for %d flaps", sent, flaps)
	}
	c := kea4
	c.Redirect = redirect(t, "https://192.0.2.1")
	n.Kea4(t, c)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if rounds := r.rounds.Load(); rounds > 4 {
		t.Errorf("%d rounds", rounds)
	}
	r.board.await(t, func(s state.Status) bool {
		return !slices.ContainsFunc(s.Interfaces, func(i state.Interface) bool { return i.State == "bound" || i.State == "acquiring" })
	})
}
