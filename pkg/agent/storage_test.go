package agent_test

import (
	"context"
	"io/fs"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/agent"
	"github.com/xpu-sztp/ztp/pkg/onboard"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/source"
	"github.com/xpu-sztp/ztp/pkg/state"
	"github.com/xpu-sztp/ztp/pkg/storage"
)

// stick is a source that has one lead and knows nothing of why it failed.
type stick source.Lead

func (stick) Name() string { return "removable-storage" }

func (s stick) Discover(ctx context.Context, visit func(context.Context, source.Lead) error) error {
	return visit(ctx, source.Lead(s))
}

// TestRedirectWithoutNetwork: a redirect that cannot be followed yet is no failure, whatever else there is to tell.
func TestRedirectWithoutNetwork(t *testing.T) {
	o := newOwnership(t)
	redirect := artifacts.Bundle{ConveyedInformation: redirectTo(t, entry{host: "bs.example"}, entry{host: "192.0.2.1"})}
	lead := stick{Source: "removable-storage", Place: "sda1: sztp", Bundle: &redirect, Network: new(source.Offline)}
	for name, test := range map[string]struct {
		sources []source.Source
		code    string
	}{
		"alone":        {[]source.Source{lead}, "needs-network"},
		"and networks": {[]source.Source{lead, leads{}}, "no-dhcp-answer"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			a := o.agent(w, test.sources...)
			_, err := a.Round(t.Context(), 1)
			wantReason(t, err, test.code)
			w.wantTrace(t)
			if s := w.status.Sources[0]; s.Result != "needs-network" {
				t.Errorf("source %+v", s)
			}
			want := []state.Server{{URL: "sda1: sztp", Source: "removable-storage", Result: "redirect", Detail: "unsigned and untrusted"}}
			got := w.status.Servers
			for i := range got {
				got[i].Visited, got[i].Verdicts = want[0].Visited, nil
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestNothingPluggedIn: nobody needs to hear first that there is no stick.
func TestNothingPluggedIn(t *testing.T) {
	w := newWorld(t)
	_, err := w.agent(source.NewStorage(source.StorageOptions{Devices: noDevices{}}), leads{}).Round(t.Context(), 1)
	wantReason(t, err, "no-dhcp-answer")
	if s := w.status.Sources; len(s) != 2 || s[0].Result != string(source.NoStorage) {
		t.Errorf("sources %+v", s)
	}
}

type noDevices struct{ source.Devices }

func (noDevices) Disks() []*storage.Disk { return nil }

// TestFilesOfStick: onboarding information from a stick may name files there; that of a server the stick leads to may not,
// authenticated or not, nor that of any other lead.
func TestFilesOfStick(t *testing.T) { // R4.1-01, R5.6-11
	o, ca := newOwnership(t), newAuthority(t, "CA")
	files := fstest.MapFS{"os.img": {}}
	signed := o.sign(script(t, "own"), nil)
	document := redirectDocument(t, entry{"bs.example", ca})
	redirect := o.sign(document, nil)
	for name, test := range map[string]struct {
		lead source.Lead
		want fs.FS
	}{
		"own data":        {source.Lead{Bundle: &signed, Files: files}, files},
		"server's data":   {source.Lead{Bundle: &redirect, Files: files}, nil},
		"no stick at all": {source.Lead{Bundle: &signed}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.names["bs.example"] = []string{"192.0.2.1"}
			w.servers["192.0.2.1"] = &serverThere{chain: ca.serverChain(t, "bs.example"), answers: [][]byte{onboardingNamed(t, "served")}}
			executed := false
			w.onboard = func(r onboard.Request) (onboard.Outcome, error) {
				executed = true
				if (r.Files == nil) != (test.want == nil) {
					t.Errorf("files %v", r.Files)
				}
				return onboard.Complete, nil
			}
			test.lead.Network = w
			if _, err := o.agent(w, stick(test.lead)).Round(t.Context(), 1); err != nil || !executed {
				t.Errorf("executed %t, %v", executed, err)
			}
		})
	}
}

// TestStickCannotPointTheDeviceAtItself, also where it is visited through the machine's own network.
func TestStickCannotPointTheDeviceAtItself(t *testing.T) {
	w := newWorld(t)
	redirect := artifacts.Bundle{ConveyedInformation: redirectTo(t, entry{host: "127.0.0.1"})}
	_, err := w.agent(stick{Bundle: &redirect, Network: w}).Round(t.Context(), 1)
	if code, _ := reason.Of(err); code != agent.CodeBadAddress {
		t.Error(err)
	}
	w.wantTrace(t)
}

// TestStickDuringBackOff: what is plugged in during a wait is visited at once, any number of times and without a new round; what
// comes of it ends the session, or the wait goes on.
func TestStickDuringBackOff(t *testing.T) { // R5.2-02
	synctest.Test(t, func(t *testing.T) {
		o, w := newOwnership(t), newWorld(t)
		evil, good := artifacts.Bundle{ConveyedInformation: onboardingNamed(t, "evil")}, o.sign(script(t, "good"), nil)
		plugged := make(chan struct{})
		a := o.agent(w, leads{})
		a.Clock = func() artifacts.Clock { return artifacts.Clock{} }
		a.Plugged, a.Local = plugged, &stick{Place: "sda: sztp", Bundle: &evil, Network: w}
		a.Retry = agent.Backoff{Initial: time.Hour, Max: time.Hour}
		began := time.Now()
		ended := make(chan error)
		go func() {
			_, err := a.Run(t.Context())
			ended <- err
		}()
		for range 10 {
			synctest.Wait()
			plugged <- struct{}{}
		}
		synctest.Wait()
		if w.status.Phase != state.PhaseBackingOff || w.status.Attempts != 1 || w.status.Reason.Code != string(artifacts.CodeUnsigned) || len(w.status.Sources) != 2 {
			t.Errorf("status %+v", w.status)
		}
		a.Local = &stick{Bundle: &good, Network: w}
		plugged <- struct{}{}
		if err := <-ended; err != nil || time.Since(began) != 0 {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		w.wantTrace(t, "onboard good reports=false level=minimal")
	})
}
