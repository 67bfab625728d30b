package e2e

import (
	"context"
	"errors"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/pkg/state"
	"github.com/xpu-sztp/ztp/test/lab"
	"github.com/xpu-sztp/ztp/test/lab/artifact"
	"github.com/xpu-sztp/ztp/test/lab/bootstrap"
	"github.com/xpu-sztp/ztp/test/lab/device"
	"github.com/xpu-sztp/ztp/test/lab/files"
	"github.com/xpu-sztp/ztp/test/lab/pki"
)

// refusal is one way in which the world is not as it should be.
type refusal struct {
	name   string
	want   string // the reason code
	config string // a drop-in
	// spoil breaks something; mend repairs it. Either may be nil.
	spoil func(*testing.T, *lab.Lab, *device.Device)
	mend  func(*testing.T, *lab.Lab, *device.Device)
	// args replaces the command line.
	args    func(*lab.Lab) []string
	reports []string // that the bootstrap server got
}

var refusals = []refusal{
	{
		name: "unreachable TPM", want: "tpm-unreachable", config: "[identity]\ntpm = \"unix:/dev/nowhere.sock\"\n",
		mend: dropConfig,
	},
	{
		name: "key and certificate of two devices", want: "identity-mismatch",
		config: "[identity]\ncertificate = \"/etc/other.pem\"\n",
		spoil: func(t *testing.T, l *lab.Lab, d *device.Device) {
			key, err := pki.NewKey(pki.P256)
			if err != nil {
				t.Fatal(err)
			}
			other, err := l.Maker.IDevID(key.Public(), "LabDPU-1", serial, "https://masa.example")
			if err != nil {
				t.Fatal(err)
			}
			if err := d.Write("etc/other.pem", pki.PEM(other.Path()...)); err != nil {
				t.Fatal(err)
			}
		},
		mend: dropConfig,
	},
	{
		name: "nobody listens", want: "connect-failed",
		args: func(*lab.Lab) []string { return []string{"run", "--once", "--url", "https://127.0.0.1:1"} },
	},
	{
		name: "a name that nobody knows", want: "name-not-found",
		args: func(*lab.Lab) []string { return []string{"run", "--once", "--url", "https://nowhere.example"} },
	},
	{
		name: "identity of another maker", want: "client-certificate-refused",
		config: "[identity]\ntpm = \"none\"\nkey = \"/etc/other.key\"\ncertificate = \"/etc/other.pem\"\n",
		spoil: func(t *testing.T, _ *lab.Lab, d *device.Device) {
			maker, err := pki.NewManufacturer("Stranger")
			if err != nil {
				t.Fatal(err)
			}
			key, err := pki.NewKey(pki.P256)
			if err != nil {
				t.Fatal(err)
			}
			id, err := maker.IDevID(key.Public(), "LabDPU-1", serial, "https://masa.example")
			if err == nil {
				err = errors.Join(pki.SaveKey(d.Path("etc/other.key"), key), d.Write("etc/other.pem", pki.PEM(id.Path()...)))
			}
			if err != nil {
				t.Fatal(err)
			}
		},
		mend: dropConfig,
	},
	{
		name: "trusted server of another authority", want: "tls-server-untrusted",
		args: func(l *lab.Lab) []string { return []string{"run", "--once", "--trusted", "--url", l.RedirectAt.URL()} },
		spoil: func(t *testing.T, l *lab.Lab, d *device.Device) {
			if err := d.Write("etc/ztp/trust/bootstrap-servers/owner.pem", pki.PEM(l.OwnerWeb.Certificate)); err != nil {
				t.Fatal(err)
			}
		},
	},
	faulty("401", "http-unauthorized", bootstrap.Fault{Status: 401}),
	faulty("404", "no-data-for-device", bootstrap.Fault{Status: 404}),
	faulty("500", "server-error", bootstrap.Fault{Status: 500, Body: "oops"}),
	faulty("503", "server-error", bootstrap.Fault{Status: 503, Header: http.Header{"Retry-After": {"30"}}}),
	faulty("a captive portal's HTML", "not-a-bootstrap-server", bootstrap.Portal),
	faulty("an empty answer", "bad-reply", bootstrap.EmptyBody),
	{
		name: "redirect loop", want: "redirect-loop",
		spoil: func(_ *testing.T, l *lab.Lab, _ *device.Device) {
			l.AnswerRedirect(func(bootstrap.Request) (bootstrap.Answer, error) { return l.UnsignedRedirect(l.RedirectAt) })
		},
		mend: func(_ *testing.T, l *lab.Lab, _ *device.Device) { l.AnswerRedirect(nil) },
	},
	{
		name: "voucher for another device", want: "voucher-serial-mismatch",
		spoil: func(_ *testing.T, l *lab.Lab, _ *device.Device) {
			l.MASA.Modify(func(v *artifact.Voucher) { v.SerialNumber = "LAB-999999" })
		},
		mend: func(_ *testing.T, l *lab.Lab, _ *device.Device) { l.MASA.Modify(nil) },
	},
	{
		name: "voucher of the past", want: "voucher-expired",
		spoil: func(_ *testing.T, l *lab.Lab, _ *device.Device) {
			l.MASA.Modify(func(v *artifact.Voucher) { v.Nonce, v.ExpiresOn = nil, time.Now().Add(-time.Hour) })
		},
		mend: func(_ *testing.T, l *lab.Lab, _ *device.Device) { l.MASA.Modify(nil) },
	},
	{
		name: "voucher of another maker", want: "voucher-untrusted",
		spoil: func(t *testing.T, l *lab.Lab, _ *device.Device) {
			maker, err := pki.NewManufacturer("Stranger")
			if err != nil {
				t.Fatal(err)
			}
			l.MASA.Signer = maker.MASA
		},
		mend: func(_ *testing.T, l *lab.Lab, _ *device.Device) { l.MASA.Signer = l.Maker.MASA },
	},
	{
		name: "owner whom the voucher does not name", want: "owner-certificate-untrusted",
		spoil: func(t *testing.T, l *lab.Lab, _ *device.Device) {
			thief, err := pki.NewOwner("Thief")
			if err != nil {
				t.Fatal(err)
			}
			l.AnswerOwner(func(r bootstrap.Request) (bootstrap.Answer, error) {
				answer, err := l.Promotion(r)
				if err != nil {
					return answer, err
				}
				answer.Bundle.OwnerCertificate, err = artifact.OwnerCertificate(thief.Signer, thief.Root.Certificate)
				return answer, err
			})
		},
		mend: func(_ *testing.T, l *lab.Lab, _ *device.Device) { l.AnswerOwner(nil) },
	},
	{
		name: "unsigned scripts from a stranger", want: "unsigned-onboarding",
		spoil: func(_ *testing.T, l *lab.Lab, _ *device.Device) {
			l.AnswerOwner(func(bootstrap.Request) (bootstrap.Answer, error) { return l.UnsignedOnboarding() })
		},
		mend: func(_ *testing.T, l *lab.Lab, _ *device.Device) { l.AnswerOwner(nil) },
	},
	{
		name: "image with wrong bytes", want: "image-hash-mismatch",
		spoil: func(_ *testing.T, l *lab.Lab, _ *device.Device) {
			l.Files.Misbehave("LabOS-2.0.0.img", files.Fault{Flip: true})
		},
		mend:    func(_ *testing.T, l *lab.Lab, _ *device.Device) { l.Files.Behave() },
		reports: []string{"bootstrap-initiated", "boot-image-error"},
	},
	{
		name: "image that is not there", want: "image-http-error",
		spoil: func(_ *testing.T, l *lab.Lab, _ *device.Device) {
			l.Files.Misbehave("LabOS-2.0.0.img", files.Fault{Status: 404})
		},
		mend:    func(_ *testing.T, l *lab.Lab, _ *device.Device) { l.Files.Behave() },
		reports: []string{"bootstrap-initiated", "boot-image-error"},
	},
	{
		name: "image larger than allowed", want: "image-too-large", config: "[image]\nmax-size = \"64KiB\"\n",
		mend: dropConfig, reports: []string{"bootstrap-initiated", "boot-image-error"},
	},
	{
		name: "slot that cannot be written", want: "slot-unavailable",
		spoil: func(t *testing.T, _ *lab.Lab, d *device.Device) {
			if err := os.Mkdir(d.Path("var/lib/ztp/slots/b.img"), 0o755); err != nil {
				t.Fatal(err)
			}
		},
		mend: func(t *testing.T, _ *lab.Lab, d *device.Device) {
			if err := os.Remove(d.Path("var/lib/ztp/slots/b.img")); err != nil {
				t.Fatal(err)
			}
		},
		reports: []string{"bootstrap-initiated", "boot-image-error"},
	},
	{
		name: "configuration handler that is missing", want: "config-start",
		config: "[configuration]\nhandler = \"exec\"\ncommand = [\"/usr/bin/nowhere\"]\n",
		spoil:  withoutImage,
		mend: func(t *testing.T, l *lab.Lab, d *device.Device) {
			l.Onboard(onboarding(l), "minimal")
			dropConfig(t, l, d)
		},
		reports: []string{"bootstrap-initiated", "config-error"},
	},
	{
		name: "end that the server does not acknowledge", want: "report-refused",
		spoil: func(t *testing.T, l *lab.Lab, d *device.Device) {
			withoutImage(t, l, d)
			l.Bootstrap.Misbehave(bootstrap.ReportProgress, bootstrap.Fault{Status: 500, Only: "bootstrap-complete"})
		},
		mend: func(_ *testing.T, l *lab.Lab, _ *device.Device) {
			l.Onboard(onboarding(l), "minimal")
			l.Bootstrap.Misbehave(bootstrap.ReportProgress)
		},
		reports: []string{"bootstrap-initiated", "bootstrap-warning", "bootstrap-complete", "bootstrap-error"},
	},
	{
		name: "script that hangs", want: "script-timeout", config: "[scripts]\ntimeout = \"1s\"\n",
		spoil: func(_ *testing.T, l *lab.Lab, _ *device.Device) {
			o := onboarding(l)
			o.BootImage, o.PreScript = nil, []byte("#!/bin/sh\n[ \"$1\" = undo ] || sleep 1000\n")
			l.Onboard(o, "minimal")
		},
		mend: func(t *testing.T, l *lab.Lab, d *device.Device) {
			l.Onboard(onboarding(l), "minimal")
			dropConfig(t, l, d)
		},
		reports: []string{"bootstrap-initiated", "pre-script-error"},
	},
}

func faulty(name, want string, f bootstrap.Fault) refusal {
	return refusal{name: name, want: want,
		spoil: func(_ *testing.T, l *lab.Lab, _ *device.Device) {
			l.Redirect.Misbehave(bootstrap.GetBootstrappingData, f)
		},
		mend: func(_ *testing.T, l *lab.Lab, _ *device.Device) { l.Redirect.Misbehave(bootstrap.GetBootstrappingData) },
	}
}

// withoutImage lets a device come to scripts and configuration in its first boot.
func withoutImage(_ *testing.T, l *lab.Lab, _ *device.Device) {
	o := onboarding(l)
	o.BootImage = nil
	l.Onboard(o, "minimal")
}

func dropConfig(t *testing.T, _ *lab.Lab, d *device.Device) {
	if err := os.Remove(d.Path("etc/ztp/ztp.toml.d/50-lab.toml")); err != nil {
		t.Fatal(err)
	}
}

// TestRefusals checks that each thing that can go wrong is named by its code and a sentence, changes nothing on the device,
// and does not stand in the way once it is repaired.
func TestRefusals(t *testing.T) {
	for _, r := range refusals {
		t.Run(r.name, func(t *testing.T) {
			ctx := within(t, time.Minute)
			l := newLab(t, lab.Options{Family: lab.Loopback})
			l.Onboard(onboarding(l), "minimal")
			d := newDevice(t, l, device.Options{Config: r.config})
			if r.spoil != nil {
				r.spoil(t, l, d)
			}
			d.Command = []string{"run", "--once", "--url", l.RedirectAt.URL()}
			good := d.Command
			if r.args != nil {
				d.Command = r.args(l)
			}
			wantRefused(t, ctx, d, r.want)
			if got := reports(l); len(got) != len(r.reports) || !containsAll(got, r.reports) {
				t.Errorf("reports %v, want %v", got, r.reports)
			}

			if r.mend != nil {
				r.mend(t, l, d)
			}
			d.Command = good
			if exit, err := d.Run(ctx, 3); exit != 0 || err != nil {
				t.Fatalf("after the repair: exit code %d, %v, %+v", exit, err, status(t, d).Reason)
			}
			wantProvisioned(t, l, d)
		})
	}
}

func wantRefused(t *testing.T, ctx context.Context, d *device.Device, want string) {
	t.Helper()
	exit, err := d.Run(ctx, 1)
	if exit != state.ExitFailed || err != nil {
		t.Errorf("exit code %d, %v", exit, err)
	}
	wantUntouched(t, d, status(t, d), want)
}

// wantUntouched checks that the status names a reason, and that nothing happened to the device.
func wantUntouched(t *testing.T, d *device.Device, s *state.Status, want string) {
	t.Helper()
	if s.Reason == nil || s.Reason.Code != want || s.Reason.Message == "" || s.Reason.Hint == "" {
		t.Errorf("reason %+v, want %s with a sentence and a hint", s.Reason, want)
	}
	if !s.Enabled {
		t.Error("the device is disabled now")
	}
	if got, err := os.ReadFile(d.Path("etc/device.conf")); string(got) != "hostname factory\n" || err != nil {
		t.Errorf("the configuration is now %q, %v", got, err)
	}
	if got, _ := os.ReadFile(d.Path(trail)); len(got) > 0 {
		t.Errorf("scripts left %q", got)
	}
	if _, err := os.Stat(d.Path("var/lib/ztp/slots/next")); !os.IsNotExist(err) {
		t.Error("another slot would boot next")
	}
}

func containsAll(got, want []string) bool {
	for i := range want {
		if got[i] != want[i] {
			return false
		}
	}
	return true
}
