package agent_test

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/onboard"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/restconf"
)

// TestProof has what is to be executed judged again, from nothing but the proof that goes with it and what the device knows: the
// verdict is the same, and whatever is missing in the proof, or not as it was, is not believed.
func TestProof(t *testing.T) {
	w, o := newWorld(t), newOwnership(t)
	ca, second := newAuthority(t, "CA"), newAuthority(t, "second CA")
	w.names["bs.example"], w.names["two.example"] = []string{"192.0.2.1"}, []string{"192.0.2.2"}
	w.servers["192.0.2.1"] = &serverThere{chain: ca.serverChain(t, "bs.example"), signed: func(in restconf.Input) artifacts.Bundle {
		if in.HWModel == "" {
			return o.sign(redirectDocument(t, entry{"bs.example", ca}), nil)
		}
		return artifacts.Bundle{ConveyedInformation: redirectTo(t, entry{"two.example", second})}
	}}
	w.servers["192.0.2.2"] = &serverThere{chain: second.serverChain(t, "two.example"), answers: [][]byte{onboardingNamed(t, "by a server")}}
	w.servers["192.0.2.3"] = o.server(script(t, "signed"), nil)
	proofs := map[string][]byte{}
	w.onboard = func(r onboard.Request) (onboard.Outcome, error) {
		proof, err := json.Marshal(r.Proof)
		proofs[string(r.Info.PreScript())] = proof
		return 0, errors.Join(err, errors.New("the next one"))
	}
	wellKnown := at("bs.example", ca.anchor())
	a := o.agent(w, leads{w.lead(false, at("bs.example")), w.lead(false, at("192.0.2.3")), w.lead(true, wellKnown)})
	if _, err := a.Round(t.Context(), 1); err == nil || len(proofs) != 2 {
		t.Fatalf("%v, %d proofs", err, len(proofs))
	}
	direct := proofs["by a server"] // the last one: by way of the well-known server
	if _, err := o.agent(w, leads{w.lead(false, at("bs.example"))}).Round(t.Context(), 1); err == nil {
		t.Fatal("no error")
	}
	promoted, signed := proofs["by a server"], proofs["signed"]

	configured := []artifacts.BootstrapServer{wellKnown}
	hop := func(p *artifacts.Proof) *artifacts.Proof { return p.Server.Redirect }
	for name, tt := range map[string]struct {
		proof  []byte
		change func(*artifacts.Proof)
		known  []artifacts.BootstrapServer
		code   artifacts.Code
	}{
		"signed":                            {signed, nil, nil, ""},
		"promoted":                          {promoted, nil, nil, ""},
		"well-known":                        {direct, nil, configured, ""},
		"not well-known":                    {direct, nil, nil, artifacts.CodeServerUntrusted},
		"well-known by another name":        {direct, func(p *artifacts.Proof) { hop(p).Server.Host = "192.0.2.1" }, configured, artifacts.CodeServerUntrusted},
		"well-known by another port":        {direct, func(p *artifacts.Proof) { hop(p).Server.Port++ }, configured, artifacts.CodeServerUntrusted},
		"no server":                         {promoted, func(p *artifacts.Proof) { p.Server = nil }, nil, artifacts.CodeUnsigned},
		"no redirect":                       {promoted, func(p *artifacts.Proof) { p.Server.Redirect = nil }, nil, artifacts.CodeServerUntrusted},
		"no redirect, of one that is":       {promoted, func(p *artifacts.Proof) { p.Server.Redirect = nil }, configured, artifacts.CodeServerUntrusted},
		"redirect of nobody":                {promoted, func(p *artifacts.Proof) { hop(p).Server = nil }, nil, artifacts.CodeServerUntrusted},
		"redirect to another server":        {promoted, func(p *artifacts.Proof) { p.Server.Redirect = hop(p).Server.Redirect }, nil, artifacts.CodeServerUntrusted},
		"redirect that is none":             {promoted, func(p *artifacts.Proof) { json.Unmarshal(signed, hop(p)); hop(p).Server = nil }, nil, artifacts.CodeServerUntrusted},
		"first redirect signed by nobody":   {promoted, func(p *artifacts.Proof) { hop(p).Server.Redirect.Bundle.OwnershipVoucher = nil }, nil, artifacts.CodeVoucherMissing},
		"certificate of another server":     {promoted, func(p *artifacts.Proof) { p.Server.Chain = hop(p).Server.Chain }, nil, artifacts.CodeServerUntrusted},
		"no certificate":                    {promoted, func(p *artifacts.Proof) { p.Server.Chain = nil }, nil, artifacts.CodeServerUntrusted},
		"certificate that is none":          {promoted, func(p *artifacts.Proof) { p.Server.Chain[0] = []byte("x") }, nil, artifacts.CodeServerUntrusted},
		"other data of the server":          {promoted, func(p *artifacts.Proof) { p.Bundle.ConveyedInformation = nil }, nil, artifacts.CodeConveyedMissing},
		"signed data with a server as well": {signed, func(p *artifacts.Proof) { p.Server = &artifacts.ServerProof{} }, nil, artifacts.CodeServerUntrusted},
		"redirects without end":             {promoted, endless, nil, artifacts.CodeServerUntrusted},
		"nothing":                           {[]byte("{}"), nil, nil, artifacts.CodeConveyedMissing},
	} {
		t.Run(name, func(t *testing.T) {
			var p artifacts.Proof
			if err := json.Unmarshal(tt.proof, &p); err != nil {
				t.Fatal(err)
			}
			if tt.change != nil {
				tt.change(&p)
			}
			policy := a.Policy
			policy.Clock = w.clock
			conveyed, err := p.Judge(tt.known, a.Device.Device, policy)
			if code, _ := reason.Of(err); err != nil && string(code) != string(tt.code) || (err == nil) != (tt.code == "") {
				t.Errorf("%v, want %q", err, tt.code)
			}
			if err == nil && !conveyed.Onboarding.Valid() {
				t.Errorf("conveyed %+v", conveyed)
			}
		})
	}
}

// endless makes a proof of more redirects than a device follows.
func endless(p *artifacts.Proof) {
	for range 20 {
		inner := *p.Server
		p.Server.Redirect = &artifacts.Proof{Bundle: p.Bundle, Server: &inner}
	}
}
