package source_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/dhcp"
	"github.com/xpu-sztp/ztp/pkg/config"
	"github.com/xpu-sztp/ztp/pkg/dns"
	"github.com/xpu-sztp/ztp/pkg/link"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/source"
	"github.com/xpu-sztp/ztp/pkg/state"
	"github.com/xpu-sztp/ztp/test/nettest"
)

// TestSilentNetwork has nobody on the cable but a port that forwards. That there is no DHCP is what a person must hear, once, and
// not that DNS lacks a record: nobody has named a domain.
func TestSilentNetwork(t *testing.T) {
	t.Parallel()
	n := nettest.NewNetwork(t, nil)
	r := newRig(t, time.Second, n)
	r.Finders = []source.Finder{source.DHCP{}, source.DNS{Serial: "SN1", Random: rand.Float64}}
	err := discover(t, r, func(context.Context, source.Lead) error { return nil })
	if code, hint := reason.Of(err); code != dhcp.NoAnswer || !strings.Contains(hint, "VLAN") {
		t.Errorf("%q, to do: %s", code, hint)
	}
	if err == nil || strings.Count(err.Error(), "no DHCPv4 server") != 1 {
		t.Error(err)
	}
}

// TestNamesThatTell holds what is wrong with the names of a network against what a person is told to do.
func TestNamesThatTell(t *testing.T) {
	silence := &reason.Error{Code: dhcp.NoAnswer, Fix: "look at the DHCP server"}
	for name, tt := range map[string]struct {
		uplink source.Uplink
		fails  error
		code   reason.Code
		hint   string
	}{
		"no-record":           {source.Uplink{Domains: []string{"lab.test"}}, dns.ErrNoSuchName, source.NoRecord, "the domain that DHCP or routers name"},
		"no-domain":           {source.Uplink{}, dns.ErrNoSuchName, source.NoRecord, "have DHCP or routers name a domain"},
		"nobody-to-name-it":   {source.Uplink{NoLease: silence}, dns.ErrNoSuchName, dhcp.NoAnswer, "look at the DHCP server"},
		"refused":             {source.Uplink{Domains: []string{"lab.test"}}, dns.ErrRefused, source.NoNames, "look at the name servers"},
		"silent-name-servers": {source.Uplink{Domains: []string{"lab.test"}, NoLease: silence}, dns.ErrNoAnswer, source.NoNames, "look at the name servers"},
		"no-name-server":      {source.Uplink{Domains: []string{"lab.test"}}, link.ErrNoNameServer, source.NoNames, "where they name none"},
	} {
		t.Run(name, func(t *testing.T) {
			tt.uplink.Network = failingZone{&zone{}, tt.fails}
			err := source.DNS{Serial: "SN1"}.Find(t.Context(), &tt.uplink, nil)
			if code, hint := reason.Of(err); code != tt.code || !strings.Contains(hint, tt.hint) {
				t.Errorf("%q, to do: %s", code, hint)
			}
		})
	}
}

type failingZone struct {
	*zone
	err error
}

func (z failingZone) Ask(context.Context, dns.Name, dns.Type) ([]dns.Record, error) {
	return nil, z.err
}

// TestAddressesThatNobodyLeased are shown: those that somebody gave by hand, and those that routers let the kernel make.
func TestAddressesThatNobodyLeased(t *testing.T) {
	n := nettest.NewNetwork(t, nil)
	n.Up(t)
	n.Inside.Run(t, "ip", "addr", "add", "192.0.2.7/24", "dev", n.Device)
	n.Inside.Run(t, "ip", "addr", "add", "2001:db8::7/64", "dev", n.Device, "nodad")
	r := newRig(t, 10*time.Second, n)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); r.Discover(ctx, func(context.Context, source.Lead) error { return nil }) }()
	r.board.await(t, func(s state.Status) bool {
		var all []string
		for _, i := range s.Interfaces {
			if i.Name == n.Device {
				all = append(all, i.Family+" "+strings.Join(i.Addresses, " "))
			}
		}
		return slices.Equal(all, []string{"ipv4 192.0.2.7/24", "ipv6 2001:db8::7/64"})
	})
	cancel()
	<-done
	n.Inside.Run(t, "ip", "addr", "del", "192.0.2.7/24", "dev", n.Device)
	n.Inside.Run(t, "ip", "addr", "del", "2001:db8::7/64", "dev", n.Device)
	r.board.await(t, func(s state.Status) bool {
		return !slices.ContainsFunc(s.Interfaces, func(i state.Interface) bool { return i.Name == n.Device && i.Addresses != nil })
	})
}

// TestPluggedInBetween: an interface that gets its carrier between two rounds is shown all the same.
func TestPluggedInBetween(t *testing.T) {
	n := nettest.NewNetwork(t, nil)
	n.Unplug(t)
	r := newRig(t, time.Second, n)
	shows := func(now string) {
		t.Helper()
		r.board.await(t, func(s state.Status) bool {
			return slices.ContainsFunc(s.Interfaces, func(i state.Interface) bool { return i.Name == n.Device && i.State == now })
		})
	}
	shows("no-carrier")
	n.Plug(t)
	shows("unbound")
	n.Unplug(t)
	shows("no-carrier")
}

// TestCableInTheWrongPort names the port that has a carrier but is left alone, also when the cable comes later.
func TestCableInTheWrongPort(t *testing.T) {
	used, excluded := nettest.NewNetwork(t, nil), nettest.NewNetwork(t, nil)
	used.Unplug(t)
	excluded.Up(t)
	r := newRig(t, time.Second, used)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Discover(ctx, func(context.Context, source.Lead) error { return nil }) }()
	names := func(what string, want bool) {
		t.Helper()
		r.board.await(t, func(s state.Status) bool {
			return s.Reason != nil && s.Reason.Code == string(source.NoLink) && strings.Contains(s.Reason.Message, what) == want
		})
	}
	what := excluded.Device + " (not included by configuration)"
	names(what, true)
	excluded.Unplug(t)
	names(what, false)
	excluded.Plug(t)
	names(what, true)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestStaticNetworkIsNotAsked: where addresses are static nobody asks DHCP, which is not to say that there is no carrier.
func TestStaticNetworkIsNotAsked(t *testing.T) {
	t.Parallel()
	n := nettest.NewNetwork(t, nil)
	r := newRig(t, 10*time.Second, n)
	r.addressed(config.Static{Addresses: prefixes("192.0.2.10/24")})
	r.Finders = []source.Finder{source.DHCP{}, source.DNS{Serial: "SN1", Random: rand.Float64}}
	err := discover(t, r, func(context.Context, source.Lead) error { return nil })
	var all *source.FindersError
	if !errors.As(err, &all) || len(all.Findings) != 2 {
		t.Fatal(err)
	}
	if code, _ := reason.Of(all.Findings[0].Err); code != source.NotAsked {
		t.Errorf("of DHCP: %q, %v", code, all.Findings[0].Err)
	}
	if code, _ := reason.Of(err); code != source.NoRecord || strings.Contains(err.Error(), "dhcp") {
		t.Errorf("%q, %v", code, err)
	}
}
