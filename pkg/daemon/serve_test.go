package daemon_test

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/privsep"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/state"
	"github.com/xpu-sztp/ztp/pkg/storage"
	"github.com/xpu-sztp/ztp/test/lab/artifact"
	"github.com/xpu-sztp/ztp/test/lab/pki"
)

// TestCompromisedDaemon: whoever took over the process that speaks with the network can have executed what that process could, and
// nothing else.
func TestCompromisedDaemon(t *testing.T) {
	thief, err := pki.NewOwner("Thief")
	if err != nil {
		t.Fatal(err)
	}
	anchor, err1 := artifact.TrustAnchor(thief.Root)
	if err1 != nil {
		t.Fatal(err1)
	}
	led := func(times int) func(v *victim) *artifacts.Proof {
		return func(v *victim) *artifacts.Proof {
			return v.redirected(times, "a.example", thief.Root, artifact.BootstrapServer{Address: "a.example", TrustAnchor: anchor})
		}
	}
	signed := func(v *victim) *artifacts.Proof { return &artifacts.Proof{Bundle: v.signed("SN-1", v.owner, v.owner)} }
	wellKnown := func(v *victim) *artifacts.Proof { return v.served("bs.example", v.web) }
	for name, tt := range map[string]struct {
		config string
		change func(*state.Record)
		proof  func(*victim) *artifacts.Proof
		code   string // of the refusal; "" for none
	}{
		"signed by the owner":               {"", nil, signed, ""},
		"of a well-known server":            {"", nil, wellKnown, ""},
		"signed, where that is required":    {"[trust]\nrequire-signed = true\n", nil, signed, ""},
		"unsigned, where it is required":    {"[trust]\nrequire-signed = true\n", nil, wellKnown, "signature-required"},
		"nothing":                           {"", nil, func(*victim) *artifacts.Proof { return &artifacts.Proof{} }, "conveyed-information-none"},
		"for another device":                {"", nil, func(v *victim) *artifacts.Proof { return &artifacts.Proof{Bundle: v.signed("SN-2", v.owner, v.owner)} }, "voucher-serial-mismatch"},
		"signed long ago":                   {"", nil, func(v *victim) *artifacts.Proof { return &artifacts.Proof{Bundle: v.old()} }, "voucher-expired"},
		"signed by a thief":                 {"", nil, func(v *victim) *artifacts.Proof { return &artifacts.Proof{Bundle: v.signed("SN-1", thief, v.owner)} }, "owner-certificate-untrusted"},
		"unsigned":                          {"", nil, func(v *victim) *artifacts.Proof { return v.served("", nil) }, "unsigned-onboarding"},
		"of a server nobody has named":      {"", nil, func(v *victim) *artifacts.Proof { return v.served("evil.example", v.web) }, "tls-server-untrusted"},
		"of a server of its own":            {"", nil, func(v *victim) *artifacts.Proof { return v.served("bs.example", thief.Root) }, "tls-server-untrusted"},
		"redirected by a well-known server": {"", nil, led(1), ""},
		"redirected eleven times":           {"", nil, led(11), ""},
		"redirected once more":              {"", nil, led(12), "tls-server-untrusted"},
		"by the anchor of another server": {"", nil, func(v *victim) *artifacts.Proof {
			own, err := artifact.TrustAnchor(v.web)
			v.must(err)
			return v.redirected(1, "b.example", thief.Root, artifact.BootstrapServer{Address: "a.example", TrustAnchor: anchor},
				artifact.BootstrapServer{Address: "b.example", TrustAnchor: own})
		}, "tls-server-untrusted"},
		"redirected by itself": {"", nil, func(v *victim) *artifacts.Proof {
			p := v.served("evil.example", thief.Root)
			anchor, err1 := artifact.TrustAnchor(thief.Root)
			document, err2 := artifact.Redirect{Servers: []artifact.BootstrapServer{{Address: "evil.example", TrustAnchor: anchor}}}.JSON()
			ci, err3 := artifact.Unsigned(document)
			v.must(errors.Join(err1, err2, err3))
			p.Server.Redirect = &artifacts.Proof{Bundle: artifacts.Bundle{ConveyedInformation: ci}}
			return p
		}, "tls-server-untrusted"},
		"with a nonce of its own": {"[trust]\nrequire-nonce = true\n", nil, func(v *victim) *artifacts.Proof {
			p := signed(v)
			p.Nonce = make([]byte, 32)
			return p
		}, "voucher-nonce-missing"},
		"with the nonce of the voucher": {"[trust]\nrequire-nonce = true\n", nil, func(v *victim) *artifacts.Proof {
			return &artifacts.Proof{Bundle: v.asked([]byte("nonce of the device")), Nonce: []byte("nonce of the device")}
		}, ""},
		"with another nonce": {"[trust]\nrequire-nonce = true\n", nil, func(v *victim) *artifacts.Proof {
			return &artifacts.Proof{Bundle: v.asked([]byte("nonce of the device")), Nonce: []byte("nonce of another one")}
		}, "voucher-nonce-mismatch"},
		"on a disabled device": {"", func(r *state.Record) { r.Enabled = false }, signed, "disabled"},
		"without a session":    {"", func(r *state.Record) { r.Session = nil }, signed, "onboarding-refused"},
		"redirect information": {"", nil, func(v *victim) *artifacts.Proof {
			p := wellKnown(v)
			document, err1 := artifact.Redirect{Servers: []artifact.BootstrapServer{{Address: "bs2.example"}}}.JSON()
			ci, err2 := artifact.Unsigned(document)
			v.must(errors.Join(err1, err2))
			p.Bundle.ConveyedInformation = ci
			return p
		}, "onboarding-untrusted"},
		"in a session that is over": {"", func(r *state.Record) { r.Outcome = state.OutcomeProvisioned }, signed, "onboarding-refused"},
		"on a provisioned device":   {"", func(r *state.Record) { r.Outcome = state.OutcomeProvisioned; r.Session = nil }, signed, "onboarding-refused"},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVictim(t, tt.config)
			if tt.change != nil {
				v.must(v.store.Update(func(r *state.Record) error { tt.change(r); return nil }))
			}
			before := v.record(t)
			proof := tt.proof(v)
			outcome, reports, err := v.execute(proof, nil)
			if (reports > 0) != (tt.code == "" && proof.Server != nil) {
				t.Errorf("%d reports", reports)
			}
			code, _ := reason.Of(err)
			if string(code) != tt.code {
				t.Fatalf("%v, %v, want %q", outcome, err, tt.code)
			}
			if tt.code == "" {
				if _, err := os.Stat(v.paths.Below("/effect")); err != nil || v.record(t).Outcome != state.OutcomeProvisioned {
					t.Errorf("it was not executed: %v", err)
				}
				return
			}
			if diff := cmp.Diff(before, v.record(t)); diff != "" {
				t.Error(diff)
			}
			if before.Outcome != state.OutcomeProvisioned {
				v.wantUntouched()
			}
		})
	}
}

// TestForgedChanges asks for everything that the record might be changed to.
func TestForgedChanges(t *testing.T) {
	v := newVictim(t, "")
	lie := &state.Status{Phase: state.PhaseDone, Outcome: state.OutcomeProvisioned, Enabled: true, Warnings: []state.Warning{{Text: "\x1b[2J"}}}
	for _, c := range []state.Change{
		{Kind: state.ChangeEnd, Last: lie}, {Kind: state.ChangeEnd}, {Kind: state.ChangeVain, Last: lie}, {Kind: state.ChangeMove}, {Kind: state.ChangeLearn,
			Network: state.Network{"domain evil"}}, {Kind: state.ChangeAbandon}, {Kind: state.ChangeBegin}, {Kind: "bless"}, {},
	} {
		r, err := v.client.Change(t.Context(), c)
		if (err == nil) == (c.Kind == "bless" || c.Kind == state.ChangeMove || c.Kind == state.ChangeLearn || c.Kind == state.ChangeVain || c.Kind == state.ChangeEnd && c.Last == nil) {
			t.Errorf("%q: %+v, %v", c.Kind, r, err)
		}
	}
	for range 3 {
		v.must(v.client.Recover(t.Context()))
	}
	v.wantUntouched()
	r := v.record(t)
	if !r.Enabled || r.Session == nil || len(r.Network) > 0 || r.Last == nil || r.Last.Outcome != state.OutcomeNone || r.Last.Warnings[0].Text != "\uFFFD[2J" {
		t.Errorf("the record is %+v, its end %+v", r, r.Last)
	}
}

// TestForgedSticks asks for files of what is no removable storage.
func TestForgedSticks(t *testing.T) {
	v := newVictim(t, "")
	d := &privsep.Devices{Client: v.client, System: &storage.System{}}
	for _, p := range []storage.Partition{{}, {Name: "../etc"}, {Name: "sda", Device: "8:0"}, {Name: "loop0", Device: "7:0"}} {
		if _, err := d.Mount(p); err == nil {
			t.Errorf("%+v was mounted", p)
		} else if code, _ := reason.Of(err); code != storage.CodeUnreadable {
			t.Error(err)
		}
		if f, err := d.Files(p).Open("etc/shadow"); err == nil {
			f.Close()
			t.Errorf("a file of %+v was opened", p)
		}
	}
	disk := d.Files(storage.Partition{Name: "sda", Device: "8:0"})
	if _, _, err := v.execute(&artifacts.Proof{Bundle: v.signed("SN-1", v.owner, v.owner)}, disk); err == nil {
		t.Error("files of the machine's disk go with what the owner signed")
	}
	v.wantUntouched()
	if _, err := d.Partitions(&storage.Disk{Partition: storage.Partition{Name: "sda"}}); err == nil {
		t.Error("the disk of the machine was looked at")
	}
}

// TestMovesOnlyByPolicy: how often a provisioned device begins a session is not up to the client.
func TestMovesOnlyByPolicy(t *testing.T) {
	for policy, want := range map[string]int{"": 0, "policy = \"on-network-change\"\nsessions-per-day = 1\n": 1} {
		t.Run(fmt.Sprintf("%d", want), func(t *testing.T) {
			v := newVictim(t, "[reprovision]\n"+policy)
			v.must(v.store.Update(func(r *state.Record) error { r.Outcome, r.Session = state.OutcomeProvisioned, nil; return nil }))
			moves := 0
			for range 3 {
				if _, err := v.client.Change(t.Context(), state.Change{Kind: state.ChangeMove}); err == nil {
					moves++
				}
				if _, err := v.client.Change(t.Context(), state.Change{Kind: state.ChangeVain, Last: &state.Status{}}); err != nil {
					t.Error(err)
				}
			}
			if r := v.record(t); moves != want || r.Outcome != state.OutcomeProvisioned || r.Session != nil {
				t.Errorf("%d sessions, record %+v", moves, r)
			}
		})
	}
}
