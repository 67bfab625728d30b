package daemon_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/daemon"
	"github.com/xpu-sztp/ztp/pkg/onboard"
	"github.com/xpu-sztp/ztp/pkg/privsep"
	"github.com/xpu-sztp/ztp/pkg/progress"
	"github.com/xpu-sztp/ztp/pkg/slot"
	"github.com/xpu-sztp/ztp/pkg/state"
	"github.com/xpu-sztp/ztp/test/lab/artifact"
	"github.com/xpu-sztp/ztp/test/lab/pki"
)

// victim is a device whose privileged process answers somebody who may say what they like. Slot b runs on trial.
type victim struct {
	*device
	t      *testing.T
	maker  *pki.Manufacturer
	owner  *pki.Owner
	web    *pki.Entity // authority of a well-known server
	client *privsep.Client
}

func newVictim(t *testing.T, config string) *victim {
	t.Helper()
	v := &victim{t: t, device: newDevice(t, func(r *state.Record) { r.Session = state.NewSession(time.Now()) })}
	var err1, err2, err3 error
	v.maker, err1 = pki.NewManufacturer("Maker")
	v.owner, err2 = pki.NewOwner("Owner")
	v.web, err3 = pki.Root(pki.Profile{CommonName: "Web"})
	key, err4 := pki.NewKey(pki.P256)
	v.must(errors.Join(err1, err2, err3, err4))
	id, err := v.maker.IDevID(key.Public(), "Model", "SN-1", "https://masa.example")
	v.must(errors.Join(err, pki.SaveKey(v.paths.Below("/etc/id.key"), key)))
	v.write("/etc/id.pem", pki.PEM(id.Path()...))
	v.write("/etc/ztp/trust/vouchers/maker.pem", pki.PEM(v.maker.Root.Certificate))
	v.write("/etc/ztp/trust/bootstrap-servers/web.pem", pki.PEM(v.web.Certificate))
	v.configure(t, "[identity]\ntpm = \"none\"\nkey = \"/etc/id.key\"\ncertificate = \"/etc/id.pem\"\n"+
		"[discovery]\nwell-known = [\"https://bs.example\"]\n[image]\ninstaller = \"file\"\nslots = \"/slots\"\n"+config)
	v.trial()

	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(v.root, "s"), Net: "unix"})
	v.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	o := daemon.ServeOptions{Options: v.options(), Client: uint32(os.Geteuid())}
	done := make(chan error, 1)
	go func() { done <- daemon.Serve(ctx, o, l) }()
	t.Cleanup(func() {
		cancel()
		v.must(<-done)
	})
	v.client = &privsep.Client{Socket: l.Addr().String(), Logger: slog.New(slog.DiscardHandler)}
	return v
}

func (v *victim) must(err error) {
	v.t.Helper()
	if err != nil {
		v.t.Fatal(err)
	}
}

func (v *victim) write(file string, content []byte) {
	v.t.Helper()
	path := v.paths.Below(file)
	v.must(os.MkdirAll(filepath.Dir(path), 0o755))
	v.must(os.WriteFile(path, content, 0o600))
}

// trial has a good slot a, and b run with an image that nobody has called good.
func (v *victim) trial() {
	v.t.Helper()
	dir := v.paths.Below("/slots")
	v.write("/slots/a.img", []byte("a"))
	back := slot.NewFile(slot.Options{Dir: dir})
	w, err := back.Open(v.t.Context())
	v.must(err)
	_, err = w.Write([]byte("image"))
	sum := sha256.Sum256([]byte("image"))
	v.must(errors.Join(err, w.Commit(v.t.Context(), sum[:]), w.Close(), back.Activate(v.t.Context())))
	if name, _, err := slot.Boot(dir); name != "b" || err != nil {
		v.t.Fatal(name, err)
	}
}

var effect = []byte("#!/bin/sh\ntouch \"$ZTP_ROOT/effect\"\n")

// document is onboarding information whose effect would be seen.
func (v *victim) document() []byte {
	v.t.Helper()
	document, err := artifact.Onboarding{PreScript: effect}.JSON()
	v.must(err)
	return document
}

// signed is that, signed by an owner whom a voucher of the maker names for the device with a serial number.
func (v *victim) signed(serial string, signer, pinned *pki.Owner) artifacts.Bundle {
	v.t.Helper()
	ci, err1 := artifact.Signed(v.document(), signer.Signer)
	oc, err2 := artifact.OwnerCertificate(signer.Signer, signer.Root.Certificate)
	voucher := artifact.Voucher{CreatedOn: time.Now().Add(-time.Minute), ExpiresOn: time.Now().Add(time.Hour), Assertion: "verified",
		SerialNumber: serial, Pinned: pinned.Root.Certificate}
	ov, err3 := voucher.Sign(v.maker.MASA)
	v.must(errors.Join(err1, err2, err3))
	return artifacts.Bundle{ConveyedInformation: ci, OwnerCertificate: oc, OwnershipVoucher: ov}
}

// asked is that, under a voucher with a nonce.
func (v *victim) asked(nonce []byte) artifacts.Bundle {
	v.t.Helper()
	b := v.signed("SN-1", v.owner, v.owner)
	voucher := artifact.Voucher{CreatedOn: time.Now().Add(-time.Minute), Assertion: "verified", SerialNumber: "SN-1", Pinned: v.owner.Root.Certificate,
		Nonce: nonce}
	var err error
	b.OwnershipVoucher, err = voucher.Sign(v.maker.MASA)
	v.must(err)
	return b
}

// old is what the owner signed once, under a voucher that has expired.
func (v *victim) old() artifacts.Bundle {
	v.t.Helper()
	b := v.signed("SN-1", v.owner, v.owner)
	voucher := artifact.Voucher{CreatedOn: time.Now().Add(-2 * time.Minute), ExpiresOn: time.Now().Add(-time.Minute), Assertion: "verified",
		SerialNumber: "SN-1", Pinned: v.owner.Root.Certificate}
	var err error
	b.OwnershipVoucher, err = voucher.Sign(v.maker.MASA)
	v.must(err)
	return b
}

// served is that, unsigned, of a server with a certificate by an authority.
func (v *victim) served(host string, ca *pki.Entity) *artifacts.Proof {
	v.t.Helper()
	ci, err := artifact.Unsigned(v.document())
	v.must(err)
	p := &artifacts.Proof{Bundle: artifacts.Bundle{ConveyedInformation: ci}}
	if ca != nil {
		server, err := ca.Issue(pki.ServerProfile(host))
		v.must(err)
		p.Server = &artifacts.ServerProof{Host: host, Port: 443, Chain: [][]byte{server.Certificate.Raw, ca.Certificate.Raw}}
	}
	return p
}

// redirected is that of a server that the well-known one has led to, in the end, by naming itself, several times.
func (v *victim) redirected(times int, host string, ca *pki.Entity, named ...artifact.BootstrapServer) *artifacts.Proof {
	v.t.Helper()
	anchor, err := artifact.TrustAnchor(v.web)
	v.must(err)
	var from *artifacts.Proof
	for i := range times {
		to := []artifact.BootstrapServer{{Address: "bs.example", TrustAnchor: anchor}}
		if i == times-1 {
			to = named
		}
		document, err := artifact.Redirect{Servers: to}.JSON()
		v.must(err)
		hop := v.served("bs.example", v.web)
		hop.Bundle.ConveyedInformation, err = artifact.Unsigned(document)
		v.must(err)
		hop.Server.Redirect = from
		from = hop
	}
	p := v.served(host, ca)
	p.Server.Redirect = from
	return p
}

// accomplice says that every report was taken.
type accomplice struct{ reports *atomic.Int32 }

func (a accomplice) ReportProgress(context.Context, progress.Report) error {
	a.reports.Add(1)
	return nil
}
func (accomplice) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return nil, errors.New("none")
}
func (accomplice) DialContext(context.Context, string, string) (net.Conn, error) {
	return nil, errors.New("none")
}

func (v *victim) execute(p *artifacts.Proof, files fs.FS) (outcome onboard.Outcome, reports int, err error) {
	o, a := &privsep.Onboarder{Client: v.client, Board: nobody{}}, accomplice{new(atomic.Int32)}
	outcome, err = o.Execute(v.t.Context(), onboard.Request{Proof: p, Reporter: a, Network: a, Files: files})
	return outcome, int(a.reports.Load()), err
}

type nobody struct{}

func (nobody) Update(func(*state.Status)) {}

// wantUntouched wants nothing of the device to have changed.
func (v *victim) wantUntouched() {
	v.t.Helper()
	if _, err := os.Stat(v.paths.Below("/effect")); err == nil {
		v.t.Error("a script was run")
	}
	if good, err := os.ReadFile(v.paths.Below("/slots/good")); err == nil && strings.TrimSpace(string(good)) != "a" {
		v.t.Errorf("slot %s was blessed", good)
	}
	if r := v.record(v.t); r.Outcome == state.OutcomeProvisioned || len(r.Journal) > 0 || len(r.Images) > 0 {
		v.t.Errorf("the record is %+v", r)
	}
}
