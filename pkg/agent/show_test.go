package agent_test

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/agent"
	"github.com/xpu-sztp/ztp/pkg/onboard"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/source"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// busy is a source that goes on looking after its lead led nowhere, as DHCP does on other interfaces.
type busy struct {
	lead  source.Lead
	while func()
}

func (busy) Name() string { return "busy" }

func (b busy) Discover(ctx context.Context, visit func(context.Context, source.Lead) error) error {
	err := visit(ctx, b.lead)
	b.while()
	return err
}

func TestStatusIsTrueAtEveryMoment(t *testing.T) {
	w := newWorld(t)
	ca := newAuthority(t, "CA")
	w.names["bs.example"] = []string{"192.0.2.1"}
	w.servers["192.0.2.1"] = &serverThere{chain: ca.serverChain(t, "bs.example"), answers: [][]byte{onboardingNamed(t, "x")}}
	first := busy{w.lead(true, at("192.0.2.9", ca.anchor())), func() {
		if w.status.Phase != state.PhaseDiscovering || w.status.Reason == nil {
			t.Errorf("after a failed visit: phase %s, reason %+v", w.status.Phase, w.status.Reason)
		}
	}}
	w.onboard = func(onboard.Request) (onboard.Outcome, error) {
		if w.status.Phase != state.PhaseOnboarding || w.status.Reason != nil {
			t.Errorf("while onboarding: phase %s, reason %+v", w.status.Phase, w.status.Reason)
		}
		return onboard.Complete, nil
	}
	second := w.lead(true, at("bs.example", ca.anchor()))
	second.Network = resolver{w, func() {
		if w.status.Phase != state.PhaseVisiting {
			t.Errorf("while resolving: phase %s", w.status.Phase)
		}
	}}
	a := w.agent(first, leads{second})
	a.Device.Presented = "CN=device"
	if _, err := a.Round(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if w.status.Phase != state.PhaseOnboarding {
		t.Errorf("after success: phase %s", w.status.Phase)
	}
	// Nothing was presented to, and nobody authenticated by, a server that cannot be reached.
	want := []state.Server{
		{URL: "https://192.0.2.9:443", Address: "192.0.2.9:443", Source: "test", Result: "connect-failed", Detail: "connection refused"},
		{URL: "https://bs.example:443", Address: "192.0.2.1:443", Source: "test", Trust: "authenticated", Presented: "CN=device",
			Result: "onboarding", Detail: "unsigned, from an authenticated server"},
	}
	if diff := cmp.Diff(want, w.status.Servers, cmpopts.IgnoreFields(state.Server{}, "Visited", "Verdicts")); diff != "" {
		t.Error(diff)
	}
}

// resolver looks at the world before it resolves a name.
type resolver struct {
	*world
	look func()
}

func (r resolver) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	r.look()
	return r.world.LookupNetIP(ctx, network, host)
}

// TestReasonNamesTheServer: of many servers in a round, the operator has to know which one to look at.
func TestReasonNamesTheServer(t *testing.T) {
	refused := &reason.Error{Code: "no-data-for-device", Msg: "the server has nothing for this device", Fix: "add it"}
	w := newWorld(t)
	w.servers["192.0.2.1"] = &serverThere{fail: refused}
	_, err := w.round(t, leads{w.lead(false, at("192.0.2.1"), artifacts.BootstrapServer{Address: "2001:db8::1", Port: 8443})})
	want := state.Reason{
		Code: "no-data-for-device", Hint: "add it",
		Message: "https://192.0.2.1:443: the server has nothing for this device (and 1 more failure)",
	}
	if diff := cmp.Diff(want, *agent.Explain(err), cmpopts.IgnoreFields(state.Reason{}, "At")); diff != "" {
		t.Error(diff)
	}
	if !strings.Contains(w.status.Servers[1].Address, "[2001:db8::1]:8443") {
		t.Errorf("address %s", w.status.Servers[1].Address)
	}
}

// TestStoppedLookupIsNoMissingName: the name server is not to blame for a session that was stopped.
func TestStoppedLookupIsNoMissingName(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	lead := w.lead(false, at("nowhere.example"))
	lead.Network = resolver{w, cancel}
	if _, err := w.agent(leads{lead}).Round(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if got := w.status.Servers[0].Result; got != string(reason.Cancelled) {
		t.Errorf("the visit ended with %q", got)
	}
}

func TestReasonIsOneLine(t *testing.T) {
	err := errors.Join(&reason.Error{Code: "config-failed", Msg: "exit code 5"}, errors.New("cannot undo"))
	if got := agent.Explain(err).Message; got != "exit code 5; cannot undo" {
		t.Errorf("got %q", got)
	}
}
