package source_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/source"
	"github.com/xpu-sztp/ztp/pkg/state"
	"github.com/xpu-sztp/ztp/test/nettest"
)

// TestRenamedDuringVisit: udev renames the interface while it is in use. Nothing begins anew, and the status follows.
func TestRenamedDuringVisit(t *testing.T) {
	n := nettest.NewNetwork(t, nil, "192.0.2.1/24")
	c := kea4
	c.Redirect = redirect(t, "https://192.0.2.1:8443")
	log := n.Kea4(t, c)
	serve(t, n, "192.0.2.1:8443")
	trace := n.Trace(t)
	r := newRigFor(t, 10*time.Second, []string{"dev*"}, n)
	old := n.Device
	index := 0
	err := discover(t, r, func(ctx context.Context, lead source.Lead) error {
		n.Inside.Run(t, "ip", "link", "set", old, "name", "dev_renamed")
		n.Device = "dev_renamed"
		r.board.await(t, func(s state.Status) bool {
			return slices.ContainsFunc(s.Interfaces, func(i state.Interface) bool { return i.Name == "dev_renamed" && i.State == "bound" }) &&
				!slices.ContainsFunc(s.Interfaces, func(i state.Interface) bool { return i.Name == old })
		})
		index = r.board.entry("dev_renamed", "ipv4").Index
		if left := rules(t, n, index); len(left) != 3 || strings.Contains(fmt.Sprint(left), old) {
			t.Errorf("rules %q", left)
		}
		return reach(ctx, lead)
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	log.Await(t, "DHCP4_RELEASE ")
	if left := rules(t, n, index); left != nil {
		t.Errorf("left: %q", left)
	}
	if story := trace.Kinds("DHCP"); len(story) > 0 && slices.Contains(story[slices.Index(story, "< DHCPACK"):], "> DHCPDISCOVER") {
		t.Errorf("on the cable: %q", story)
	}
}

// TestTakenAwayDuringAttempt: somebody makes the interface a port, gives it a name that is not to be used, moves or deletes it,
// while the agent waits for a lease. What the agent did is undone, and when it gets the interface back it uses it.
func TestTakenAwayDuringAttempt(t *testing.T) {
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	path := func(fd int) string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd) }
	tests := []struct {
		name       string
		take, give func(t *testing.T, n *nettest.Network)
		skip       string // what the status says meanwhile; empty when the interface is gone
	}{
		{"port of a bridge",
			func(t *testing.T, n *nettest.Network) {
				n.Inside.Run(t, "ip", "link", "add", "taker", "type", "bridge")
				n.Inside.Run(t, "ip", "link", "set", n.Device, "master", "taker")
			},
			func(t *testing.T, n *nettest.Network) { n.Inside.Run(t, "ip", "link", "del", "taker") },
			"belongs to taker (bridge)"},
		{"renamed to what is not included",
			func(t *testing.T, n *nettest.Network) {
				n.Inside.Run(t, "ip", "link", "set", n.Device, "name", "other0")
			},
			func(t *testing.T, n *nettest.Network) {
				n.Inside.Run(t, "ip", "link", "set", "other0", "name", n.Device)
			},
			"not included by configuration"},
		{"moved to another namespace",
			func(t *testing.T, n *nettest.Network) {
				n.Inside.Run(t, "ip", "link", "set", n.Device, "netns", path(n.Servers.FD()))
			},
			func(t *testing.T, n *nettest.Network) {
				n.Servers.Run(t, "ip", "link", "set", n.Device, "netns", path(int(own.Fd())))
			}, ""},
		{"deleted",
			func(t *testing.T, n *nettest.Network) { n.Inside.Run(t, "ip", "link", "del", n.Device) },
			func(t *testing.T, n *nettest.Network) { n.Recable(t) }, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := nettest.NewNetwork(t, nil, "192.0.2.1/24")
			trace := n.Trace(t)
			r := newRig(t, 20*time.Second, n)
			done := make(chan error, 1)
			go func() {
				done <- r.Discover(t.Context(), func(context.Context, source.Lead) error { return errors.New("visited") })
			}()
			trace.AwaitKind(t, "DHCPDISCOVER", true)
			index := r.board.entry(n.Device, "ipv4").Index
			tt.take(t, n)
			if code, _ := reason.Of(<-done); code != source.LinkLost {
				t.Errorf("code %q", code)
			}
			r.board.await(t, func(s state.Status) bool {
				i := slices.IndexFunc(s.Interfaces, func(i state.Interface) bool { return i.Index == index })
				if tt.skip == "" {
					return i < 0
				}
				return i >= 0 && s.Interfaces[i].State == "skipped" && s.Interfaces[i].Detail == tt.skip
			})
			if left := rules(t, n, index); left != nil {
				t.Errorf("left: %q", left)
			}
			c := kea4
			c.Redirect = redirect(t, "https://192.0.2.1")
			n.Kea4(t, c)
			tt.give(t, n)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			if err := r.persist(ctx, func(context.Context, source.Lead) error { return nil }); err != nil {
				t.Error(err)
			}
		})
	}
}
