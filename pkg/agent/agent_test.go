package agent_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/agent"
	"github.com/xpu-sztp/ztp/pkg/onboard"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/restconf"
	"github.com/xpu-sztp/ztp/pkg/source"
	"github.com/xpu-sztp/ztp/pkg/state"
)

func (w *world) round(t *testing.T, sources ...source.Source) (onboard.Outcome, error) {
	t.Helper()
	return w.agent(sources...).Round(t.Context(), 1)
}

func (w *world) wantTrace(t *testing.T, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, w.trace); diff != "" {
		t.Errorf("what happened (-want +got):\n%s", diff)
	}
}

func wantReason(t *testing.T, err error, want string) {
	t.Helper()
	if code, _ := reason.Of(err); string(code) != want {
		t.Errorf("reason %q, want %q (%v)", code, want, err)
	}
}

func TestEveryAddressBeforeTheNextServer(t *testing.T) { // R5.5-01, R5.5-02, R5.5-03
	w := newWorld(t)
	ca := newAuthority(t, "CA")
	w.names["dead.example"] = []string{"192.0.2.1", "2001:db8::1"}
	w.names["half.example"] = []string{"2001:db8::2", "192.0.2.2", "192.0.2.3"}
	w.servers["192.0.2.2"] = &serverThere{chain: ca.serverChain(t, "half.example"), answers: [][]byte{onboardingNamed(t, "found")}}
	w.servers["192.0.2.3"] = w.servers["192.0.2.2"]

	_, err := w.round(t, leads{w.lead(true, at("dead.example", ca.anchor()), at("half.example", ca.anchor()))})
	if err != nil {
		t.Fatal(err)
	}
	w.wantTrace(t,
		"resolve dead.example",
		"connect dead.example 192.0.2.1:443 authenticated",
		"connect dead.example 2001:db8::1:443 authenticated",
		"resolve half.example",
		"connect half.example 2001:db8::2:443 authenticated",
		"connect half.example 192.0.2.2:443 authenticated",
		"onboard found reports=true level=verbose")
}

func TestUntrustedListNeverAuthenticates(t *testing.T) { // R5.5-04, R8-08, R5.3-09
	w := newWorld(t)
	ca := newAuthority(t, "CA")
	w.servers["192.0.2.1"] = &serverThere{chain: ca.serverChain(t, "192.0.2.1"), answers: [][]byte{redirectTo(t, entry{"bs.example", ca})}}
	w.names["bs.example"] = []string{"192.0.2.2"}
	w.servers["192.0.2.2"] = &serverThere{chain: ca.serverChain(t, "bs.example"), answers: [][]byte{onboardingNamed(t, "evil")}}

	_, err := w.round(t, leads{w.lead(false, at("192.0.2.1", ca.anchor()), at("192.0.2.9"))})
	wantReason(t, err, string(artifacts.CodeUnsigned))
	w.wantTrace(t,
		"connect 192.0.2.1 192.0.2.1:443 provisional",
		"resolve bs.example",
		"connect bs.example 192.0.2.2:443 provisional")
	for i, in := range w.inputs { // R5.3-11
		want := restconf.Input{SignedDataPreferred: true, Nonce: nonceNumber(byte(i + 1))}
		if diff := cmp.Diff(want, in); diff != "" {
			t.Errorf("told an untrusted server more than it may know:\n%s", diff)
		}
	}
}

func TestTrustedServerLearnsTheDevice(t *testing.T) {
	w := newWorld(t)
	ca := newAuthority(t, "CA")
	w.names["bs.example"] = []string{"192.0.2.1"}
	w.servers["192.0.2.1"] = &serverThere{chain: ca.serverChain(t, "bs.example"), answers: [][]byte{onboardingNamed(t, "x")}}
	if _, err := w.round(t, leads{w.lead(true, at("bs.example", ca.anchor()))}); err != nil {
		t.Fatal(err)
	}
	want := []restconf.Input{{HWModel: "X100", OSName: "AcmeOS", OSVersion: "1", Nonce: nonceNumber(1)}}
	if diff := cmp.Diff(want, w.inputs); diff != "" {
		t.Error(diff)
	}
}

func TestTrustedRedirect(t *testing.T) { // R5.5-05, R5.5-06, R5.3-01
	ca, other := newAuthority(t, "CA"), newAuthority(t, "other CA")
	setUp := func(t *testing.T, entries ...entry) *world {
		w := newWorld(t)
		w.names["first.example"] = []string{"192.0.2.1"}
		w.servers["192.0.2.1"] = &serverThere{chain: ca.serverChain(t, "first.example"), answers: [][]byte{redirectTo(t, entries...)}}
		w.names["second.example"] = []string{"192.0.2.2"}
		w.servers["192.0.2.2"] = &serverThere{chain: ca.serverChain(t, "second.example"), answers: [][]byte{onboardingNamed(t, "second")}}
		w.names["third.example"] = []string{"192.0.2.3"}
		w.servers["192.0.2.3"] = &serverThere{chain: ca.serverChain(t, "third.example"), answers: [][]byte{onboardingNamed(t, "third")}}
		return w
	}
	start := []string{"resolve first.example", "connect first.example 192.0.2.1:443 authenticated"}

	t.Run("anchor authenticates the next server", func(t *testing.T) {
		w := setUp(t, entry{"second.example", ca})
		if _, err := w.round(t, leads{w.lead(true, at("first.example", ca.anchor()))}); err != nil {
			t.Fatal(err)
		}
		w.wantTrace(t, append(start, "resolve second.example", "connect second.example 192.0.2.2:443 authenticated",
			"onboard second reports=true level=verbose")...)
	})
	t.Run("failed authentication never falls back to provisional", func(t *testing.T) {
		w := setUp(t, entry{"second.example", other}, entry{"third.example", ca})
		if _, err := w.round(t, leads{w.lead(true, at("first.example", ca.anchor()))}); err != nil {
			t.Fatal(err)
		}
		w.wantTrace(t, append(start, "resolve second.example", "connect second.example 192.0.2.2:443 authenticated",
			"resolve third.example", "connect third.example 192.0.2.3:443 authenticated", "onboard third reports=true level=verbose")...)
		if n := w.servers["192.0.2.2"].asked; n != 0 {
			t.Errorf("the unauthenticated server was asked %d times", n)
		}
	})
	t.Run("without anchor the connection is provisional", func(t *testing.T) {
		w := setUp(t, entry{"second.example", nil})
		_, err := w.round(t, leads{w.lead(true, at("first.example", ca.anchor()))})
		wantReason(t, err, string(artifacts.CodeUnsigned))
		w.wantTrace(t, append(start, "resolve second.example", "connect second.example 192.0.2.2:443 provisional")...)
	})
}

func TestTrustIsLocalToOneVisit(t *testing.T) { // R5.3-01
	w := newWorld(t)
	ca := newAuthority(t, "CA")
	w.servers["192.0.2.1"] = &serverThere{chain: ca.serverChain(t, "x"), answers: [][]byte{redirectTo(t, entry{"192.0.2.9", nil})}}
	w.names["bs.example"] = []string{"192.0.2.2"}
	w.servers["192.0.2.2"] = &serverThere{chain: ca.serverChain(t, "bs.example"), answers: [][]byte{onboardingNamed(t, "x")}}
	if _, err := w.round(t, leads{w.lead(true, at("192.0.2.1"), at("bs.example", ca.anchor()))}); err != nil {
		t.Fatal(err)
	}
	w.wantTrace(t, "connect 192.0.2.1 192.0.2.1:443 provisional", "connect 192.0.2.9 192.0.2.9:443 provisional",
		"resolve bs.example", "connect bs.example 192.0.2.2:443 authenticated", "onboard x reports=true level=verbose")
}

func TestRedirectBounds(t *testing.T) { // R5.3-06, H-06
	t.Run("a circle stops", func(t *testing.T) {
		w := newWorld(t)
		w.servers["192.0.2.1"] = &serverThere{answers: [][]byte{redirectTo(t, entry{"192.0.2.2", nil})}}
		w.servers["192.0.2.2"] = &serverThere{answers: [][]byte{redirectTo(t, entry{"192.0.2.1", nil})}}
		_, err := w.round(t, leads{w.lead(false, at("192.0.2.1"))})
		if !hasReason(err, agent.CodeRedirectLoop) {
			t.Errorf("got %v", err)
		}
		if n := w.servers["192.0.2.1"].asked; n != 1 {
			t.Errorf("asked %d times", n)
		}
	})
	for _, n := range []int{10, 11} {
		t.Run(fmt.Sprintf("a chain of %d redirects", n), func(t *testing.T) {
			w := newWorld(t)
			for i := range n {
				w.servers[fmt.Sprintf("192.0.2.%d", i+1)] = &serverThere{answers: [][]byte{redirectTo(t, entry{fmt.Sprintf("192.0.2.%d", i+2), nil})}}
			}
			last := &serverThere{answers: [][]byte{onboardingNamed(t, "x")}}
			w.servers[fmt.Sprintf("192.0.2.%d", n+1)] = last
			_, err := w.round(t, leads{w.lead(false, at("192.0.2.1"))})
			if tooDeep := hasReason(err, agent.CodeRedirectDepth); tooDeep != (n > 10) {
				t.Errorf("too deep = %t: %v", tooDeep, err)
			}
			if reached := last.asked > 0; reached != (n <= 10) {
				t.Errorf("the end of the chain was reached: %t", reached)
			}
		})
	}
}

func TestFailuresMoveOnToTheNext(t *testing.T) {
	cases := map[string]struct {
		server *serverThere
		want   string
	}{
		"no data here": {&serverThere{fail: &reason.Error{Code: "no-data-for-device", Msg: "404"}}, "no-data-for-device"},
		"not CMS":      {&serverThere{answers: [][]byte{[]byte("<html>")}}, ""},
		"nobody there": {nil, "connect-failed"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			if c.server != nil {
				w.servers["192.0.2.1"] = c.server
			}
			ca := newAuthority(t, "CA")
			w.names["good.example"] = []string{"192.0.2.2"}
			w.servers["192.0.2.2"] = &serverThere{chain: ca.serverChain(t, "good.example"), answers: [][]byte{onboardingNamed(t, "good")}}
			_, err := w.round(t, leads{w.lead(false, at("192.0.2.1"))}, leads{w.lead(true, at("good.example", ca.anchor()))})
			if err != nil {
				t.Fatal(err)
			}
			if got := w.status.Servers[0].Result; c.want != "" && got != c.want {
				t.Errorf("status says %q, want %q", got, c.want)
			}
			if w.status.Servers[0].Result == "" {
				t.Error("status does not say why the first server failed")
			}
		})
	}
}

func TestTrustedServerIsToldOfUnusableData(t *testing.T) { // R5.6-06, R5.3-05, H-02
	w := newWorld(t)
	ca := newAuthority(t, "CA")
	w.names["bs.example"] = []string{"192.0.2.1"}
	w.servers["192.0.2.1"] = &serverThere{chain: ca.serverChain(t, "bs.example"), answers: [][]byte{conveyed(t, map[string]any{"output": 1})}}
	_, err := w.round(t, leads{w.lead(true, at("bs.example", ca.anchor()), at("192.0.2.7"))})
	if err == nil {
		t.Fatal("accepted")
	}
	code, _ := reason.Of(err)
	w.wantTrace(t, "resolve bs.example", "connect bs.example 192.0.2.1:443 authenticated", "reject "+string(code))
}

func TestOnboardingEndsTheLead(t *testing.T) { // R5.3-08
	w := newWorld(t)
	ca := newAuthority(t, "CA")
	w.names["bs.example"] = []string{"192.0.2.1"}
	w.servers["192.0.2.1"] = &serverThere{chain: ca.serverChain(t, "bs.example"), answers: [][]byte{onboardingNamed(t, "x")}}
	w.onboard = func(onboard.Request) (onboard.Outcome, error) {
		return 0, &reason.Error{Code: "script-failed", Msg: "exit 7"}
	}
	_, err := w.round(t, leads{w.lead(true, at("bs.example", ca.anchor()), at("192.0.2.7"))})
	wantReason(t, err, "script-failed")
	w.wantTrace(t, "resolve bs.example", "connect bs.example 192.0.2.1:443 authenticated", "onboard x reports=true level=verbose")
}

func TestFurthestFailureIsTheReason(t *testing.T) {
	w := newWorld(t)
	w.servers["192.0.2.2"] = &serverThere{answers: [][]byte{onboardingNamed(t, "x")}}
	_, err := w.round(t, leads{w.lead(false, at("192.0.2.1"), at("nowhere.example"), at("192.0.2.2"))}, leads{})
	wantReason(t, err, string(artifacts.CodeUnsigned))
	var failed *agent.RoundError
	if !errors.As(err, &failed) || len(failed.Failures) != 4 {
		t.Errorf("got %#v, want all four failures", err)
	}
}

func TestFlagOffTouchesNothing(t *testing.T) { // R5.2-01
	w := newWorld(t)
	w.enabled = false
	_, err := w.agent(forbidden{t}).Run(t.Context())
	if !errors.Is(err, agent.ErrDisabled) {
		t.Errorf("got %v", err)
	}
}

type forbidden struct{ t *testing.T }

func (f forbidden) Name() string { return "forbidden" }
func (f forbidden) Discover(context.Context, func(context.Context, source.Lead) error) error {
	f.t.Error("looked for a lead")
	return nil
}

// scripted is a source whose nth round fails unless it is the last.
type scripted struct {
	w      *world
	rounds []time.Duration // when each round began
	start  time.Time
	good   int // the round that succeeds; 0 never
	lead   source.Lead
}

func (s *scripted) Name() string { return "scripted" }
func (s *scripted) Discover(ctx context.Context, visit func(context.Context, source.Lead) error) error {
	s.rounds = append(s.rounds, time.Since(s.start))
	if len(s.rounds) == s.good {
		return visit(ctx, s.lead)
	}
	return &reason.Error{Code: "no-dhcp-answer", Msg: "nobody answered"}
}

func scriptedWorld(t *testing.T, good int) (*world, *scripted) {
	w := newWorld(t)
	ca := newAuthority(t, "CA")
	w.names["bs.example"] = []string{"192.0.2.1"}
	w.servers["192.0.2.1"] = &serverThere{chain: ca.serverChain(t, "bs.example"), answers: [][]byte{onboardingNamed(t, "x")}}
	return w, &scripted{w: w, start: time.Now(), good: good, lead: w.lead(true, at("bs.example", ca.anchor()))}
}

func TestRoundsRepeatWithGrowingWaits(t *testing.T) { // R5.2-02
	synctest.Test(t, func(t *testing.T) {
		w, s := scriptedWorld(t, 5)
		outcome, err := w.agent(s).Run(t.Context())
		if err != nil || outcome != onboard.Complete {
			t.Fatalf("outcome %v, %v", outcome, err)
		}
		ms := time.Millisecond // windows of 10, 15, 22.5 and 33.75 s; the test's random number is one half
		if want := []time.Duration{0, 5000 * ms, 17500 * ms, 36250 * ms, 64375 * ms}; !slices.Equal(s.rounds, want) {
			t.Errorf("rounds began at %v, want %v", s.rounds, want)
		}
		if w.status.Attempts != 5 {
			t.Errorf("status counts %d attempts", w.status.Attempts)
		}
	})
}

func TestCancellationEndsTheWait(t *testing.T) { // R5.2-03
	synctest.Test(t, func(t *testing.T) {
		w, s := scriptedWorld(t, 0)
		stopped := errors.New("stopped by a person")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(12*time.Second, func() { cancel(stopped) })
		if _, err := w.agent(s).Run(ctx); !errors.Is(err, stopped) {
			t.Errorf("got %v", err)
		}
		if len(s.rounds) != 2 {
			t.Errorf("%d rounds", len(s.rounds))
		}
		if w.status.Phase != state.PhaseBackingOff || w.status.Reason.Code != "no-dhcp-answer" {
			t.Errorf("status %s, %+v", w.status.Phase, w.status.Reason)
		}
	})
}

// The flag that cannot be read is neither on nor off.
func TestFlagUnreadable(t *testing.T) {
	broken := errors.New("state file unreadable")
	a := newWorld(t).agent(forbidden{t})
	a.Enabled = func() (bool, error) { return true, broken }
	if _, err := a.Run(t.Context()); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

// A list without servers, and a round without sources, are failures: nothing was bootstrapped.
func TestNothingToTryIsNoSuccess(t *testing.T) {
	w := newWorld(t)
	_, err := w.round(t, leads{w.lead(true)})
	wantReason(t, err, string(agent.CodeNoServer))
	_, err = w.round(t)
	wantReason(t, err, string(agent.CodeNoServer))
}

// A session that is stopped while it connects leaves other addresses, servers and sources alone.
func TestStoppedSessionTriesNobodyElse(t *testing.T) { // R5.2-03
	stopped := errors.New("stopped by a person")
	w := newWorld(t)
	w.names["bs.example"] = []string{"192.0.2.1", "192.0.2.2"}
	ctx, cancel := context.WithCancelCause(t.Context())
	a := w.agent(leads{w.lead(false, at("bs.example"), at("192.0.2.3"))}, forbidden{t})
	connect := a.Connect
	a.Connect = func(ctx context.Context, target agent.Target) (agent.Session, error) {
		cancel(stopped)
		return connect(ctx, target)
	}
	if _, err := a.Run(ctx); !errors.Is(err, stopped) {
		t.Errorf("got %v", err)
	}
	w.wantTrace(t, "resolve bs.example", "connect bs.example 192.0.2.1:443 provisional")
	if w.status.Phase == state.PhaseBackingOff {
		t.Error("waits although it was stopped")
	}
}

func TestNameWithoutAddress(t *testing.T) {
	w := newWorld(t)
	w.names["empty.example"] = []string{}
	_, err := w.round(t, leads{w.lead(false, at("nowhere.example"), at("empty.example"))})
	wantReason(t, err, string(agent.CodeNameNotFound))
	want := []string{"cannot resolve nowhere.example: no such host", "cannot resolve empty.example: the answer holds no address"}
	for i, text := range want {
		if got := w.status.Servers[i].Detail; got != text {
			t.Errorf("shown %q, want %q", got, text)
		}
	}
}

func TestRoundErrorCounts(t *testing.T) {
	for n, want := range []string{"e0", "e0 (and 1 more failure)", "e0 (and 2 more failures)"} {
		e := &agent.RoundError{}
		for i := range n + 1 {
			e.Failures = append(e.Failures, agent.Failure{Err: fmt.Errorf("e%d", i)})
		}
		if e.Error() != want || !errors.Is(e, e.Failures[n].Err) {
			t.Errorf("got %q, want %q", e, want)
		}
	}
}

// Status tells of each source how it went.
func TestSourcesAreShown(t *testing.T) {
	w, s := scriptedWorld(t, 1)
	w.servers["192.0.2.2"] = &serverThere{answers: [][]byte{onboardingNamed(t, "unsigned")}}
	static := source.Static{Servers: []artifacts.BootstrapServer{at("192.0.2.2")}}
	if _, err := w.round(t, leads{w.lead(false, at("192.0.2.9"))}, static, s); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, source := range w.status.Sources {
		got = append(got, source.Name+" "+source.Result)
	}
	if want := []string{"test no-dhcp-answer", "url unsigned-onboarding", "scripted success"}; !slices.Equal(got, want) {
		t.Errorf("shown %q, want %q", got, want)
	}
}

func hasReason(err error, code reason.Code) bool {
	var failed *agent.RoundError
	if !errors.As(err, &failed) {
		return false
	}
	return slices.ContainsFunc(failed.Failures, func(f agent.Failure) bool {
		got, _ := reason.Of(f.Err)
		return got == code
	})
}
