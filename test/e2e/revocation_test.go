package e2e

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/pkg/state"
	"github.com/xpu-sztp/ztp/pkg/statusview"
	"github.com/xpu-sztp/ztp/test/lab"
	"github.com/xpu-sztp/ztp/test/lab/artifact"
	"github.com/xpu-sztp/ztp/test/lab/device"
	"github.com/xpu-sztp/ztp/test/lab/pki"
	"github.com/xpu-sztp/ztp/test/nettest"
)

const (
	listPort = 8081
	ocspPort = 8888
)

// authority is the owner's certification authority, run by OpenSSL: its root publishes a revocation list, its issuing
// authority has an OCSP responder.
type authority struct {
	t       *testing.T
	lab     *lab.Lab
	network *nettest.Network
	dir     string
}

// newAuthority gives the lab's owner certificates that name places for their status, and has vouchers demand that.
func newAuthority(t *testing.T, l *lab.Lab) *authority {
	t.Helper()
	a := &authority{t, l, real(t, l), t.TempDir()}
	host := l.FilesAt.Host
	issuing, err1 := l.Owner.Root.Issue(pki.Profile{CommonName: "Owner Issuing CA 2", Organization: "Owner", CA: true,
		CRLs: []string{fmt.Sprintf("http://%s:%d/root.crl", host, listPort)}})
	if err1 != nil {
		t.Fatal(err1)
	}
	owner, err1 := issuing.Issue(pki.Profile{CommonName: "Owner SZTP owner 2", Organization: "Owner",
		OCSP: []string{fmt.Sprintf("http://%s:%d/", host, ocspPort)}})
	responder, err2 := issuing.Issue(pki.Profile{CommonName: "Owner OCSP responder", ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}})
	if err := errors.Join(err1, err2, l.Owner.Root.Save(a.dir, "root"), issuing.Save(a.dir, "issuing"), responder.Save(a.dir, "responder")); err != nil {
		t.Fatal(err)
	}
	l.Owner.Issuing, l.Owner.Signer = issuing, owner
	l.MASA.Modify(func(v *artifact.Voucher) { v.RevocationChecks = new(true) })
	l.Onboard(onboarding(l), "minimal")
	return a
}

// publish starts nginx with the root's revocation list, and the OCSP responder, to which the owner certificate is in the
// given state: V for valid or R for revoked.
func (a *authority) publish(state string) (lists func() string, responder *nettest.Log) {
	a.t.Helper()
	expires := a.lab.Owner.Signer.Certificate.NotAfter.UTC().Format("060102150405Z")
	revoked := ""
	if state == "R" {
		revoked = time.Now().Add(-time.Hour).UTC().Format("060102150405Z")
	}
	serial := strings.ToUpper(fmt.Sprintf("%032x", a.lab.Owner.Signer.Certificate.SerialNumber))
	a.write("index", fmt.Sprintf("%s\t%s\t%s\t%s\tunknown\t/CN=owner\n", state, expires, revoked, serial))
	a.write("none", "")
	a.write("ca.cnf", "[ca]\ndefault_ca=d\n[d]\ndatabase="+filepath.Join(a.dir, "none")+"\ndefault_md=sha256\n")
	a.openssl("ca", "-gencrl", "-config", "ca.cnf", "-cert", "root.pem", "-keyfile", "root.key", "-crldays", "1", "-out", "root.crl.pem")
	a.openssl("crl", "-in", "root.crl.pem", "-outform", "DER", "-out", "root.crl")
	list, err := os.ReadFile(filepath.Join(a.dir, "root.crl"))
	if err != nil {
		a.t.Fatal(err)
	}
	listen := fmt.Sprintf("listen %s:%d;", a.lab.FilesAt.Addresses[0], listPort)
	lists = nginx(a.t, a.network, a.t.TempDir(), listen, map[string][]byte{"root.crl": list})
	cmd := exec.Command("openssl", "ocsp", "-port", fmt.Sprint(ocspPort), "-index", "index", "-CA", "issuing.pem",
		"-rsigner", "responder.pem", "-rkey", "responder.key", "-ndays", "1", "-text")
	cmd.Dir = a.dir
	return lists, a.network.Serve(a.t, "ACCEPT", cmd)
}

func (a *authority) write(name, content string) {
	a.t.Helper()
	if err := os.WriteFile(filepath.Join(a.dir, name), []byte(content), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

func (a *authority) openssl(args ...string) {
	a.t.Helper()
	cmd := exec.Command("openssl", args...)
	cmd.Dir = a.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		a.t.Fatalf("openssl %s: %v\n%s", args, err, out)
	}
}

// refusedBy runs the daemon until it failed for the reason wanted, and returns what its status was then.
func (a *authority) refusedBy(ctx context.Context, d *device.Device, want string) *state.Status {
	a.t.Helper()
	if err := d.PowerOn(ctx); err != nil {
		a.t.Fatal(err)
	}
	defer d.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		s := status(a.t, d)
		if s.Reason != nil && s.Reason.Code == want {
			return s
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			a.t.Fatalf("%v, the reason is %+v", context.Cause(ctx), s.Reason)
		}
	}
}

// TestRevocationStatusIsFetched has a voucher demand the status of an owner who publishes it with real servers. While these
// are away, nothing happens to the device; when they are back, it is provisioned.
func TestRevocationStatusIsFetched(t *testing.T) {
	ctx := within(t, 2*time.Minute)
	l := newLab(t, lab.Options{Family: lab.IPv4})
	a := newAuthority(t, l)
	d := newDevice(t, l, device.Options{})
	const unavailable = "revocation-status-unavailable"
	refused := a.refusedBy(ctx, d, unavailable)
	wantUntouched(t, d, refused, unavailable)
	if fetches := refused.Servers[1].StatusFetches; len(fetches) != 2 || fetches[0].OK || fetches[1].OK {
		t.Errorf("fetched %+v", fetches)
	}

	lists, responder := a.publish("V")
	if exit, err := d.Run(ctx, 3); exit != 0 || err != nil {
		t.Fatalf("after the repair: exit code %d, %v, %+v", exit, err, status(t, d).Reason)
	}
	wantProvisioned(t, l, d)
	wantInLog(t, lists(), `"GET /root.crl HTTP/1.1" 200`)
	wantInLog(t, responder.String(), "OCSP Request Data", "Cert Status: good")
}

// TestRevokedOwner has the responder say that the owner certificate was revoked.
func TestRevokedOwner(t *testing.T) {
	ctx := within(t, time.Minute)
	l := newLab(t, lab.Options{Family: lab.IPv4})
	a := newAuthority(t, l)
	a.publish("R")
	d := newDevice(t, l, device.Options{})
	const revoked = "owner-certificate-revoked"
	refused := a.refusedBy(ctx, d, revoked)
	wantUntouched(t, d, refused, revoked)
	host := l.FilesAt.Host
	var got []string
	for _, f := range refused.Servers[1].StatusFetches {
		got = append(got, fmt.Sprint(f.URL, f.OK))
	}
	want := []string{fmt.Sprintf("http://%s:%d/true", host, ocspPort), fmt.Sprintf("http://%s:%d/root.crltrue", host, listPort)}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	text := statusview.Verbose(refused, time.Now())
	wantInLog(t, text, "fetched     OCSP response for CN=Owner SZTP owner 2", "owner certificate revocation REFUSED")
}
