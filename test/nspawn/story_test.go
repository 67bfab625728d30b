package nspawn

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/pkg/state"
	"github.com/xpu-sztp/ztp/test/lab/artifact"
	"github.com/xpu-sztp/ztp/test/lab/device"
	"github.com/xpu-sztp/ztp/test/lab/files"
)

const configuration = "hostname dpu-7\n"

func onboarding() artifact.Onboarding {
	return artifact.Onboarding{Handling: "replace", Configuration: []byte(configuration)}
}

func (m *machine) image() *artifact.BootImage {
	return m.lab.ServeImage(device.Image{OSName: "LabOS", OSVersion: "2.0.0", PayloadSize: 256 << 10})
}

// reports are the kinds of reports that the server got.
func (m *machine) reports() (kinds []string) {
	for _, r := range m.lab.Bootstrap.Reports() {
		kinds = append(kinds, r.Type)
	}
	return kinds
}

// completed is how often the server heard of a success.
func (m *machine) completed() (n int) {
	for _, kind := range m.reports() {
		if kind == "bootstrap-complete" {
			n++
		}
	}
	return n
}

// awaitProvisioned waits until the device is provisioned and the daemon has ended.
func (m *machine) awaitProvisioned() {
	m.t.Helper()
	m.await("the device is provisioned and the daemon has ended", func() bool {
		is := m.show("ztp.service", "MainPID", "ActiveState")
		return m.status().ExitCode() == state.ExitProvisioned && is["MainPID"] == "0" && is["ActiveState"] == "inactive"
	})
	if got := m.read("etc/device.conf"); got != configuration {
		m.t.Errorf("the configuration is %q", got)
	}
}

// TestCarton: the first power-on provisions the device, with an image and a reboot, and from then on it boots without a process
// of ours. It is provisioned anew when somebody asks for that, and looks again when its configuration was changed.
func TestCarton(t *testing.T) {
	story(t, "", func(t *testing.T, m *machine) {
		o := onboarding()
		o.BootImage = m.image()
		m.lab.Onboard(o, "verbose")
		if slot := m.start(); slot != "a" {
			t.Fatalf("slot %s was started", slot)
		}
		m.awaitReboot()
		if slot := m.start(); slot != "b" {
			t.Fatalf("slot %s was started", slot)
		}
		m.awaitProvisioned()
		if got := m.read("var/lib/ztp/slots/good"); got != "b\n" {
			t.Errorf("the good slot is %q", got)
		}
		for _, want := range []string{"Starting ztp.service", "session started", "provisioned took=", "ztp.service: Deactivated successfully"} {
			if log := m.journal(); !strings.Contains(log, want) {
				t.Errorf("the journal lacks %q:\n%s", want, log)
			}
		}
		want := []string{"boot-image-installed-rebooting", "boot-image-complete", "config-complete", "bootstrap-complete"}
		got := slices.DeleteFunc(m.reports(), func(kind string) bool { return !slices.Contains(want, kind) })
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("reports (-want +got):\n%s", diff)
		}

		if slot := m.reboot(); slot != "b" {
			t.Fatalf("slot %s was started", slot)
		}
		m.wantNoProcess()

		m.run("ztp", "run", "--wait")
		m.awaitProvisioned()
		if n := m.completed(); n != 2 {
			t.Errorf("the server heard of %d successes after `ztp run`", n)
		}
		m.reboot()
		m.wantNoProcess()

		m.write("etc/ztp/ztp.toml.d/60-move.toml", "[reprovision]\npolicy = \"on-network-change\"\n")
		m.await("the daemon watches the network", func() bool { s := m.status(); return s.PID != 0 && s.Watch != nil })
		m.reboot()
		m.await("the daemon watches the network after a boot", func() bool { s := m.status(); return s.PID != 0 && s.Watch != nil })
	})
}

// TestDisable stops a device while an image is being written: the old system is what boots, no process is left, and nothing
// begins until the device is enabled.
func TestDisable(t *testing.T) {
	story(t, "", func(t *testing.T, m *machine) {
		o := onboarding()
		o.BootImage = m.image()
		m.lab.Onboard(o, "verbose")
		amid, goOn := make(chan bool), make(chan bool)
		m.lab.Files.Misbehave("LabOS-2.0.0.img", files.Fault{Times: 1, Amid: func() { amid <- true; <-goOn }})
		m.start()
		<-amid
		old := m.read("var/lib/ztp/slots/a.img")
		m.await("systemctl shows that an image is on its way", func() bool {
			out, _ := m.try("systemctl", "status", "ztp.service")
			return strings.Contains(out, `Status: "in progress: onboarding`)
		})
		m.run("ztp", "disable")
		close(goOn)
		if p := m.processes(); len(p) > 0 || m.mainPID() != 0 {
			t.Errorf("processes of ours: %v", p)
		}
		if m.read("var/lib/ztp/slots/a.img") != old || m.read("var/lib/ztp/slots/next") != "" {
			t.Error("the old system is not what it was")
		}
		if out, code := m.try("systemctl", "is-enabled", "ztp.service"); code == 0 {
			t.Errorf("the unit is %s", out)
		}
		if slot := m.reboot(); slot != "a" {
			t.Errorf("slot %s was started", slot)
		}
		m.wantNoProcess()
		if code := m.status().ExitCode(); code != state.ExitDisabled {
			t.Errorf("the status means %d", code)
		}
		if out, code := m.try("ztp", "run"); code == 0 || !strings.Contains(out, "provisioning is disabled on this device [disabled]") {
			t.Errorf("`ztp run` ended with %d: %s", code, out)
		}
		m.wantNoProcess()

		m.run("ztp", "enable")
		m.awaitReboot()
		m.start()
		m.awaitProvisioned()
	})
}

// TestReadOnlyEtc: where nobody can write to /etc, the unit stays enabled, and the record alone turns the device off and on.
func TestReadOnlyEtc(t *testing.T) {
	story(t, "", func(t *testing.T, m *machine) {
		seal := func() { m.run("sh", "-ec", "mount --bind /etc /etc; mount -o remount,bind,ro /etc") }
		m.start()
		seal()
		m.run("ztp", "disable")
		if p := m.processes(); len(p) > 0 {
			t.Errorf("processes of ours: %v", p)
		}
		if code := m.status().ExitCode(); code != state.ExitDisabled {
			t.Errorf("the status means %d", code)
		}
		m.reboot()
		seal()
		m.await("the agent has found that there is nothing to do", func() bool { return m.show("ztp.service", "ActiveState")["ActiveState"] == "inactive" })
		if code := m.status().ExitCode(); code != state.ExitDisabled {
			t.Errorf("the status means %d after a boot", code)
		}
		m.run("ztp", "enable")
		if m.mainPID() == 0 {
			t.Error("the agent does not run")
		}
	})
}

// TestFirstBoot: on an image that brings nothing of the agent in /etc, systemd enables the units when it boots for the first time.
func TestFirstBoot(t *testing.T) {
	story(t, "", func(t *testing.T, m *machine) {
		links, err := filepath.Glob(m.path("etc/systemd/system/*/ztp*"))
		if err != nil || len(links) == 0 {
			t.Fatal(links, err)
		}
		for _, file := range append(links, m.path("etc/machine-id")) {
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink(os.DevNull, m.path("etc/systemd/system/systemd-firstboot.service")); err != nil { // it asks questions
			t.Fatal(err)
		}
		m.lab.Onboard(onboarding(), "verbose")
		m.start()
		m.awaitProvisioned()
		found, err := filepath.Glob(m.path("etc/systemd/system/*/ztp*"))
		if diff := cmp.Diff(links, found); diff != "" || err != nil {
			t.Errorf("enabled (-want +got): %v\n%s", err, diff)
		}
	})
}

// waiting is a script that leaves a mark, takes it back when it is undone, and waits until there is a file.
const waiting = `#!/bin/sh
if [ "${1-}" = undo ]; then rm -f /etc/mark; exit; fi
echo marked >>/etc/mark
while [ ! -e /etc/go-on ]; do sleep 0.1; done
`

// TestRestart stops the daemon in the middle of a script, by which it is undone, and starts it again.
func TestRestart(t *testing.T) {
	story(t, "", func(t *testing.T, m *machine) {
		o := onboarding()
		o.PreScript = []byte(waiting)
		m.lab.Onboard(o, "verbose")
		m.start()
		marked := func() bool { return m.read("etc/mark") == "marked\n" }
		m.await("the script waits", marked)
		m.run("systemctl", "stop", "ztp.service")
		if got := m.read("etc/mark"); got != "" {
			t.Errorf("the script was not undone: %q", got)
		}
		if code := m.status().ExitCode(); code != state.ExitNotStarted {
			t.Errorf("the status means %d", code)
		}
		m.run("systemctl", "start", "ztp.service")
		m.await("the script waits again", marked)
		m.run("systemctl", "restart", "ztp.service")
		m.await("the script waits once more", marked)
		m.write("etc/go-on", "")
		m.awaitProvisioned()
		if !marked() || m.completed() != 1 {
			t.Errorf("marks %q, reports %v", m.read("etc/mark"), m.reports())
		}
	})
}

// TestWatchdog has the daemon hang in the middle of a script: it is killed, and the next one goes on with the session.
func TestWatchdog(t *testing.T) {
	story(t, "", func(t *testing.T, m *machine) {
		m.write("etc/systemd/system/ztp.service.d/quick.conf", "[Service]\nWatchdogSec=2s\nTimeoutAbortSec=1s\nRestartSec=100ms\n")
		o := onboarding()
		o.PreScript = []byte(waiting)
		m.lab.Onboard(o, "verbose")
		m.start()
		marked := func() bool { return m.read("etc/mark") == "marked\n" }
		m.await("the script waits", marked)
		m.run("systemctl", "kill", "--signal=STOP", "--kill-who=main", "ztp.service")
		m.write("etc/go-on", "")
		m.await("the daemon was started anew", func() bool { return m.show("ztp.service", "NRestarts")["NRestarts"] != "0" })
		m.awaitProvisioned()
		if log := m.journal(); !strings.Contains(log, "Watchdog timeout") || !strings.Contains(log, "undoing step=pre-script") {
			t.Errorf("the journal does not tell:\n%s", log)
		}
		if !marked() {
			t.Errorf("marks %q", m.read("etc/mark"))
		}
	})
}
