package nspawn

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/xpu-sztp/ztp/pkg/state"
)

// blessing stands for systemd-bless-boot.service, which is there only where systemd-boot counts.
const blessing = `[Unit]
DefaultDependencies=no
Requires=boot-complete.target
After=boot-complete.target
[Service]
Type=oneshot
ExecStart=/bin/sh -c '. /etc/os-release; echo $VERSION_ID >>/etc/blessed'
[Install]
WantedBy=basic.target
`

// bless has whatever runs be called good when boot-complete.target is reached.
func (m *machine) bless() {
	m.write("etc/systemd/system/bless.service", blessing)
	if err := errors.Join(os.MkdirAll(m.path("etc/systemd/system/basic.target.wants"), 0o755),
		os.Symlink("../bless.service", m.path("etc/systemd/system/basic.target.wants/bless.service"))); err != nil {
		m.t.Fatal(err)
	}
}

// TestBootGood: a system on trial is not called good before the server has acknowledged the end, and nothing else waits for that;
// a system that is not on trial is called good at once, and without a process of ours.
func TestBootGood(t *testing.T) {
	story(t, "", func(t *testing.T, m *machine) {
		m.bless()
		o := onboarding()
		o.BootImage, o.PostScript = m.image(), []byte(waiting)
		m.lab.Onboard(o, "verbose")
		m.start()
		m.awaitReboot()
		if got := m.read("etc/blessed"); got != "1.0.0\n" {
			t.Errorf("the system of the factory, which is on no trial: blessed %q", got)
		}
		if slot := m.start(); slot != "b" {
			t.Fatalf("slot %s was started", slot)
		}
		m.await("the script waits", func() bool { return m.read("etc/mark") != "" })
		if _, code := m.try("systemctl", "is-active", "boot-complete.target"); code == 0 || m.read("etc/blessed") != "1.0.0\n" {
			t.Errorf("the system is called good before the server knows: %q", m.read("etc/blessed"))
		}
		if s := m.status(); s.TrialEnds.IsZero() {
			t.Error("the status does not tell until when the trial lasts")
		}
		m.write("etc/go-on", "")
		m.awaitProvisioned()
		m.await("the system is called good", func() bool { return m.read("etc/blessed") == "1.0.0\n2.0.0\n" })
		m.reboot()
		m.await("the system is called good again", func() bool { return m.read("etc/blessed") == "1.0.0\n2.0.0\n2.0.0\n" })
		m.wantNoProcess()
	})
}

// TestTrialOver: a system on trial whose time is over before the server has acknowledged anything is left; the server hears of
// that, and the next trial succeeds.
func TestTrialOver(t *testing.T) {
	story(t, "", func(t *testing.T, m *machine) {
		// The time of a trial is told by a file that says when it began; here that is when the machine under the container started.
		const past = "etc/systemd/system/ztp-onboard.service.d/past.conf"
		m.write(past, "[Service]\nExecStartPre=/bin/sh -c 'grep -q 2.0.0 /etc/os-release && echo 0 >/run/ztp-trial || :'\n")
		o := onboarding()
		o.BootImage = m.image()
		m.lab.Onboard(o, "verbose")
		m.start()
		m.awaitReboot()
		if slot := m.start(); slot != "b" {
			t.Fatalf("slot %s was started", slot)
		}
		before := len(m.reports())
		m.awaitReboot()
		if got := m.reports()[before:]; slices.Contains(got, "boot-image-complete") {
			t.Errorf("the trial has begun anew: %v", got)
		}
		m.write(past, "")
		if slot := m.start(); slot != "a" {
			t.Fatalf("slot %s was started", slot)
		}
		m.awaitReboot()
		found := false
		for _, r := range m.lab.Bootstrap.Reports() {
			found = found || r.Type == "boot-image-error" && strings.Contains(r.Message, "ran with it on trial for 1h0m0s without an end that the server acknowledged")
		}
		if !found {
			t.Errorf("the server does not know of it: %v", m.lab.Bootstrap.Reports())
		}
		if slot := m.start(); slot != "b" {
			t.Fatalf("slot %s was started", slot)
		}
		m.awaitProvisioned()
	})
}

// TestAgentDoesNotStart: a system on trial on which the agent fails for good is left after a while; the good one, with the same
// trouble, is not.
func TestAgentDoesNotStart(t *testing.T) {
	story(t, "", func(t *testing.T, m *machine) {
		m.write("etc/systemd/system/ztp-trial.timer.d/soon.conf", "[Timer]\nOnBootSec=\nOnBootSec=3s\nOnUnitInactiveSec=1s\nAccuracySec=100ms\n")
		o := onboarding()
		o.BootImage = m.image()
		m.lab.Onboard(o, "verbose")
		m.start()
		m.awaitReboot()
		const broken = "etc/ztp/ztp.toml.d/99-broken.toml"
		m.write(broken, "colour = 1\n")
		if slot := m.start(); slot != "b" {
			t.Fatalf("slot %s was started", slot)
		}
		m.awaitReboot()
		if slot := m.start(); slot != "a" {
			t.Fatalf("slot %s was started", slot)
		}
		m.await("the trial is not that of this system", func() bool {
			is := m.show("ztp-trial.service", "Result", "ConditionResult", "ActiveState", "ExecMainExitTimestampMonotonic")
			return is["Result"] == "success" && is["ConditionResult"] == "yes" && is["ActiveState"] == "inactive" && is["ExecMainExitTimestampMonotonic"] != "0"
		})
		if is := m.show("ztp.service", "ActiveState"); is["ActiveState"] != "failed" {
			t.Errorf("the agent is %v", is)
		}
		m.write(broken, "")
		m.run("systemctl", "restart", "ztp.service")
		m.await("the session tells that the image fell back", func() bool {
			images := m.status().Images
			return len(images) == 1 && images[0].State != state.ImageTrial
		})
		m.awaitReboot()
		found := false
		for _, r := range m.lab.Bootstrap.Reports() {
			found = found || r.Type == "boot-image-error" && strings.Contains(r.Message, "the boot loader returned to slot a")
		}
		if !found {
			t.Errorf("the server does not know of it: %v", m.lab.Bootstrap.Reports())
		}
	})
}
