package agent_test

import (
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/agent"
	"github.com/xpu-sztp/ztp/pkg/onboard"
	"github.com/xpu-sztp/ztp/pkg/restconf"
	"github.com/xpu-sztp/ztp/pkg/source"
	"github.com/xpu-sztp/ztp/test/lab/artifact"
	"github.com/xpu-sztp/ztp/test/lab/pki"
)

// ownership is a maker and an owner who can sign for the device of these tests.
type ownership struct {
	t     *testing.T
	maker *pki.Manufacturer
	owner *pki.Owner
}

func newOwnership(t *testing.T) *ownership {
	t.Helper()
	maker, err := pki.NewManufacturer("Acme")
	if err != nil {
		t.Fatal(err)
	}
	owner, err := pki.NewOwner("Owner")
	if err != nil {
		t.Fatal(err)
	}
	return &ownership{t, maker, owner}
}

// agent is that of w, and believes the maker's vouchers.
func (o *ownership) agent(w *world, sources ...source.Source) *agent.Agent {
	a := w.agent(sources...)
	a.Policy.VoucherAnchors = []*x509.Certificate{o.maker.Root.Certificate}
	return a
}

// sign makes a bundle of signed data with a voucher that lasts a day, which change may change.
func (o *ownership) sign(document []byte, change func(*artifact.Voucher)) artifacts.Bundle {
	o.t.Helper()
	v := artifact.Voucher{CreatedOn: time.Now().Add(-time.Minute), ExpiresOn: time.Now().Add(24 * time.Hour), Assertion: "verified",
		SerialNumber: "AC-1", Pinned: o.owner.Root.Certificate}
	if change != nil {
		change(&v)
	}
	ci, err1 := artifact.Signed(document, o.owner.Signer)
	oc, err2 := artifact.OwnerCertificate(o.owner.Signer, o.owner.Root.Certificate)
	ov, err3 := v.Sign(o.maker.MASA)
	if err := errors.Join(err1, err2, err3); err != nil {
		o.t.Fatal(err)
	}
	return artifacts.Bundle{ConveyedInformation: ci, OwnerCertificate: oc, OwnershipVoucher: ov}
}

// server answers every request with signed data.
func (o *ownership) server(document []byte, change func(restconf.Input, *artifact.Voucher)) *serverThere {
	return &serverThere{signed: func(in restconf.Input) artifacts.Bundle {
		return o.sign(document, func(v *artifact.Voucher) {
			if change != nil {
				change(in, v)
			}
		})
	}}
}

func script(t *testing.T, name string) []byte {
	t.Helper()
	document, err := artifact.Onboarding{PreScript: []byte(name)}.JSON()
	if err != nil {
		t.Fatal(err)
	}
	return document
}

func redirectDocument(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var r artifact.Redirect
	for _, e := range entries {
		server := artifact.BootstrapServer{Address: e.host}
		if e.ca != nil {
			var err error
			if server.TrustAnchor, err = artifact.TrustAnchor(&pki.Entity{Certificate: e.ca.cert}); err != nil {
				t.Fatal(err)
			}
		}
		r.Servers = append(r.Servers, server)
	}
	document, err := r.JSON()
	if err != nil {
		t.Fatal(err)
	}
	return document
}

// Signed onboarding information of an untrusted server is executed, and the server is told nothing of it.
func TestSignedOnboardingOfUntrustedServer(t *testing.T) { // R5.6-04, H-08
	w, o := newWorld(t), newOwnership(t)
	w.servers["192.0.2.1"] = o.server(script(t, "signed"), nil)
	var request onboard.Request
	w.onboard = func(r onboard.Request) (onboard.Outcome, error) { request = r; return onboard.Complete, nil }
	lead := w.lead(false, at("192.0.2.1"))
	if _, err := o.agent(w, leads{lead}).Round(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	w.wantTrace(t, "connect 192.0.2.1 192.0.2.1:443 provisional", "onboard signed reports=false level=minimal")
	if request.Network != source.Network(w) {
		t.Error("images are not fetched by the network that the lead came from")
	}
}

// A server that was not authenticated promotes itself with a signed redirect that has a trust anchor for it
// (RFC 8572 Appendix B). The second connection is authenticated and not taken for a loop.
func TestPromotion(t *testing.T) { // R5.3-13, R5.3-01
	w, o := newWorld(t), newOwnership(t)
	ca := newAuthority(t, "CA")
	w.names["bs.example"] = []string{"192.0.2.1"}
	w.servers["192.0.2.1"] = &serverThere{chain: ca.serverChain(t, "bs.example"), signed: func(in restconf.Input) artifacts.Bundle {
		if in.HWModel == "" {
			return o.sign(redirectDocument(t, entry{"bs.example", ca}), nil)
		}
		return artifacts.Bundle{ConveyedInformation: onboardingNamed(t, "promoted")}
	}}
	if _, err := o.agent(w, leads{w.lead(false, at("bs.example"))}).Round(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	w.wantTrace(t,
		"resolve bs.example", "connect bs.example 192.0.2.1:443 provisional",
		"resolve bs.example", "connect bs.example 192.0.2.1:443 authenticated",
		"onboard promoted reports=true level=verbose")
}

// A server that promoted itself may not do so again.
func TestPromotionEnds(t *testing.T) { // H-06
	w, o := newWorld(t), newOwnership(t)
	ca := newAuthority(t, "CA")
	w.names["bs.example"] = []string{"192.0.2.1"}
	w.servers["192.0.2.1"] = o.server(redirectDocument(t, entry{"bs.example", ca}), nil)
	w.servers["192.0.2.1"].chain = ca.serverChain(t, "bs.example")
	_, err := o.agent(w, leads{w.lead(false, at("bs.example"))}).Round(t.Context(), 1)
	if !hasReason(err, agent.CodeRedirectLoop) {
		t.Errorf("got %v", err)
	}
	if n := w.servers["192.0.2.1"].asked; n != 2 {
		t.Errorf("asked %d times", n)
	}
}

// Another spelling does not make another server.
func TestLoopWhateverTheSpelling(t *testing.T) { // H-06
	for _, spelling := range [][2]string{
		{"bs.example", "BS.Example"}, {"bs.example", "bs.example."}, {"2001:db8::1", "2001:0DB8:0::1"}, {"192.0.2.1", "::ffff:192.0.2.1"},
	} {
		t.Run(spelling[1], func(t *testing.T) {
			w := newWorld(t)
			there := &serverThere{answers: [][]byte{redirectTo(t, entry{spelling[1], nil})}}
			for _, s := range spelling {
				w.names[s] = []string{"192.0.2.1"}
			}
			for _, address := range []string{"192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1"} {
				w.servers[address] = there
			}
			_, err := w.round(t, leads{w.lead(false, at(spelling[0]))})
			if !hasReason(err, agent.CodeRedirectLoop) || there.asked != 1 {
				t.Errorf("asked %d times: %v", there.asked, err)
			}
		})
	}
}

// Whoever is sent on to the same server with another anchor has to use that one.
func TestOtherAnchorIsNoLoop(t *testing.T) { // H-06, R5.5-05
	w := newWorld(t)
	ca, other := newAuthority(t, "CA"), newAuthority(t, "other CA")
	w.names["bs.example"] = []string{"192.0.2.1"}
	w.servers["192.0.2.1"] = &serverThere{chain: ca.serverChain(t, "bs.example"), answers: [][]byte{redirectTo(t, entry{"bs.example", other})}}
	_, err := w.round(t, leads{w.lead(true, at("bs.example", ca.anchor()))})
	if hasReason(err, agent.CodeRedirectLoop) || !hasReason(err, "tls-server-untrusted") {
		t.Errorf("got %v", err)
	}
}

// Data that does not hold, of a server that nobody vouched for, costs that server its turn and no other.
func TestUntrustedLiarDoesNotSpoilTheList(t *testing.T) {
	for name, change := range map[string]func(*artifact.Voucher){
		"another device": func(v *artifact.Voucher) { v.SerialNumber = "AC-2" },
		"expired":        func(v *artifact.Voucher) { v.ExpiresOn = time.Now().Add(-time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			w, o := newWorld(t), newOwnership(t)
			w.servers["192.0.2.1"] = o.server(script(t, "bad"), func(_ restconf.Input, v *artifact.Voucher) { change(v) })
			w.servers["192.0.2.2"] = o.server(script(t, "good"), nil)
			if _, err := o.agent(w, leads{w.lead(false, at("192.0.2.1"), at("192.0.2.2"))}).Round(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			w.wantTrace(t, "connect 192.0.2.1 192.0.2.1:443 provisional", "connect 192.0.2.2 192.0.2.2:443 provisional",
				"onboard good reports=false level=minimal")
			if got := w.status.Servers[0].Result; got == "" || got == "onboarding" {
				t.Errorf("the first server is shown with result %q", got)
			}
		})
	}
}

// Data of one address that cannot be used is not made up for by the other addresses of that name, which were not asked.
func TestUnusableDataIsOfTheServer(t *testing.T) { // R5.5-03
	w, o := newWorld(t), newOwnership(t)
	w.names["bs.example"] = []string{"192.0.2.1", "192.0.2.2"}
	w.servers["192.0.2.1"] = o.server(script(t, "bad"), func(_ restconf.Input, v *artifact.Voucher) { v.SerialNumber = "AC-2" })
	w.servers["192.0.2.2"] = o.server(script(t, "good"), nil)
	_, err := o.agent(w, leads{w.lead(false, at("bs.example"))}).Round(t.Context(), 1)
	wantReason(t, err, string(artifacts.CodeVoucherSerial))
	w.wantTrace(t, "resolve bs.example", "connect bs.example 192.0.2.1:443 provisional")
}

// A voucher's nonce has to be the one that this server was sent, on this connection.
func TestNonceIsOfThisVisit(t *testing.T) { // R5.4-06, RV-08, R7-08
	nonce := func(of func(restconf.Input) []byte) func(restconf.Input, *artifact.Voucher) {
		return func(in restconf.Input, v *artifact.Voucher) { v.Nonce, v.ExpiresOn = of(in), time.Time{} }
	}
	own := nonce(func(in restconf.Input) []byte { return in.Nonce })
	first := nonce(func(restconf.Input) []byte { return nonceNumber(1) })

	t.Run("own", func(t *testing.T) {
		w, o := newWorld(t), newOwnership(t)
		w.servers["192.0.2.2"] = o.server(script(t, "fresh"), own)
		a := o.agent(w, leads{w.lead(false, at("192.0.2.1"), at("192.0.2.2"))})
		a.Policy.RequireNonce = true
		if _, err := a.Round(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("of the server before", func(t *testing.T) {
		w, o := newWorld(t), newOwnership(t)
		w.servers["192.0.2.1"] = o.server(script(t, "x"), func(_ restconf.Input, v *artifact.Voucher) { v.SerialNumber = "AC-2" })
		w.servers["192.0.2.2"] = o.server(script(t, "replayed"), first)
		_, err := o.agent(w, leads{w.lead(false, at("192.0.2.1"), at("192.0.2.2"))}).Round(t.Context(), 1)
		if !hasReason(err, "voucher-nonce-mismatch") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("of the address before", func(t *testing.T) {
		w, o := newWorld(t), newOwnership(t)
		w.names["bs.example"] = []string{"192.0.2.1", "192.0.2.2"}
		w.servers["192.0.2.1"] = &serverThere{fail: errors.New("busy")}
		w.servers["192.0.2.2"] = o.server(script(t, "replayed"), first)
		_, err := o.agent(w, leads{w.lead(false, at("bs.example"))}).Round(t.Context(), 1)
		if !hasReason(err, "voucher-nonce-mismatch") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("of the round before", func(t *testing.T) {
		w, o := newWorld(t), newOwnership(t)
		w.servers["192.0.2.1"] = &serverThere{fail: errors.New("busy")}
		a := o.agent(w, leads{w.lead(false, at("192.0.2.1"))})
		if _, err := a.Round(t.Context(), 1); err == nil {
			t.Fatal("no error")
		}
		w.servers["192.0.2.1"] = o.server(script(t, "replayed"), first)
		_, err := a.Round(t.Context(), 2)
		if !hasReason(err, "voucher-nonce-mismatch") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("of the redirect that led here", func(t *testing.T) {
		w, o := newWorld(t), newOwnership(t)
		w.servers["192.0.2.1"] = &serverThere{answers: [][]byte{redirectTo(t, entry{"192.0.2.2", nil})}}
		w.servers["192.0.2.2"] = o.server(script(t, "replayed"), first)
		_, err := o.agent(w, leads{w.lead(false, at("192.0.2.1"))}).Round(t.Context(), 1)
		if !hasReason(err, "voucher-nonce-mismatch") {
			t.Errorf("got %v", err)
		}
	})
}

// Without a nonce nothing is asked: a voucher could not be held against it.
func TestNoNonceNoRequest(t *testing.T) {
	w := newWorld(t)
	w.servers["192.0.2.1"] = &serverThere{answers: [][]byte{onboardingNamed(t, "x")}}
	a := w.agent(leads{w.lead(false, at("192.0.2.1"))})
	broken := errors.New("no randomness")
	a.Nonce = func() ([]byte, error) { return nil, broken }
	if _, err := a.Round(t.Context(), 1); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if n := len(w.inputs); n != 0 {
		t.Errorf("%d requests", n)
	}
}

// Data that no server sent, such as that of removable storage, is trusted by its signature or not at all.
func TestBundleOfNoServer(t *testing.T) { // R4.1-01, R5.3-09
	const unsigned = string(artifacts.CodeUnsigned)
	o := newOwnership(t)
	for name, test := range map[string]struct {
		bundle artifacts.Bundle
		code   string
		trace  []string
	}{
		"signed":     {o.sign(script(t, "stick"), nil), "", []string{"onboard stick reports=false level=minimal"}},
		"unsigned":   {artifacts.Bundle{ConveyedInformation: onboardingNamed(t, "evil")}, unsigned, nil},
		"with nonce": {o.sign(script(t, "x"), func(v *artifact.Voucher) { v.Nonce = nonceNumber(0) }), "voucher-nonce-mismatch", nil},
		"redirect": {artifacts.Bundle{ConveyedInformation: redirectTo(t, entry{"192.0.2.1", newAuthority(t, "CA")})}, unsigned,
			[]string{"connect 192.0.2.1 192.0.2.1:443 provisional"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.servers["192.0.2.1"] = &serverThere{answers: [][]byte{onboardingNamed(t, "unsigned")}}
			_, err := o.agent(w, leads{{Source: "stick", Place: "the stick", Bundle: &test.bundle, Network: w}}).Round(t.Context(), 1)
			if test.code != "" {
				wantReason(t, err, test.code)
				if test.trace == nil && !strings.HasPrefix(err.Error(), "the stick: ") {
					t.Errorf("%v does not say where the data is from", err)
				}
			} else if err != nil {
				t.Error(err)
			}
			w.wantTrace(t, test.trace...)
		})
	}
}

// The clock of the device, with the confidence in it, judges certificates of servers and vouchers alike.
func TestClockJudges(t *testing.T) { // R5.4-02, R5.4-11
	o, ca := newOwnership(t), newAuthority(t, "CA")
	end := time.Now().Add(time.Hour).Truncate(time.Second)
	for name, test := range map[string]struct {
		clock artifacts.Clock
		code  string
	}{
		"a second before the end": {artifacts.Clock{Now: end.Add(-time.Second), Confidence: artifacts.ClockAuthenticated}, ""},
		"at the end":              {artifacts.Clock{Now: end, Confidence: artifacts.ClockAuthenticated}, "voucher-expired"},
		"after it without clock":  {artifacts.Clock{Now: end.Add(time.Hour), Confidence: artifacts.ClockNone}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.clock = test.clock
			w.servers["192.0.2.1"] = o.server(script(t, "x"), func(_ restconf.Input, v *artifact.Voucher) { v.ExpiresOn = end })
			w.servers["192.0.2.1"].chain = ca.serverChain(t, "192.0.2.1")
			lead := w.lead(true, at("192.0.2.1"))
			_, err := o.agent(w, leads{lead}).Round(t.Context(), 1)
			if test.code != "" {
				wantReason(t, err, test.code)
			} else if err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff(test.clock, w.targets[0].Clock); diff != "" {
				t.Errorf("clock for the server's certificate: %s", diff)
			}
			if w.targets[0].Network != source.Network(w) {
				t.Error("the connection does not use the lead's network")
			}
		})
	}
}

// What was tolerated is shown, and handed to whoever executes the data.
func TestWarningsAreShown(t *testing.T) {
	w, o := newWorld(t), newOwnership(t)
	ca := newAuthority(t, "CA")
	w.names["bs.example"] = []string{"192.0.2.1"}
	lead := w.lead(true, at("bs.example", ca.anchor()))
	lead.Warnings = []string{"of the lead"}
	w.servers["192.0.2.1"] = &serverThere{chain: ca.serverChain(t, "bs.example"), warnings: []string{"of the reply"},
		signed: func(restconf.Input) artifacts.Bundle {
			b := o.sign(script(t, "x"), nil)
			b.ConveyedInformation = onboardingNamed(t, "x") // what is beside it is ignored, with a warning
			return b
		}}
	var request onboard.Request
	w.onboard = func(r onboard.Request) (onboard.Outcome, error) { request = r; return onboard.Complete, nil }
	if _, err := w.round(t, leads{lead}); err != nil {
		t.Fatal(err)
	}
	var shown []string
	for _, s := range w.status.Warnings {
		shown = append(shown, s.Text)
	}
	if len(request.Warnings) != 1 {
		t.Fatalf("warnings with the data: %q", request.Warnings)
	}
	if want := []string{"of the lead", "bs.example:443: of the reply", request.Warnings[0]}; !slices.Equal(shown, want) {
		t.Errorf("shown %q, want %q", shown, want)
	}
}
