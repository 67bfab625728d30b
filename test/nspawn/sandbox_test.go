package nspawn

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/xpu-sztp/ztp/test/lab"
)

// maxExposure is what `systemd-analyze security` may say of the unit that speaks with the network; 10 is a unit that is not confined.
const maxExposure = 3.0

// TestSandbox looks at the process that speaks with the network, while the other one runs a script.
func TestSandbox(t *testing.T) {
	story(t, "", func(t *testing.T, m *machine) {
		o := onboarding()
		o.PreScript = []byte(waiting)
		m.lab.Onboard(o, "verbose")
		m.start()
		m.await("the script waits", func() bool { return m.read("etc/mark") == "marked\n" })

		out := m.run("systemd-analyze", "security", "--no-pager", "ztp.service")
		found := regexp.MustCompile(`exposure level for ztp\.service: ([0-9.]+)`).FindStringSubmatch(out)
		if found == nil {
			t.Fatal(out)
		}
		if exposure, err := strconv.ParseFloat(found[1], 64); err != nil || exposure > maxExposure {
			t.Errorf("the exposure is %s, at most %v\n%s", found[1], maxExposure, out)
		}
		t.Logf("exposure %s", found[1])

		process := m.run("cat", fmt.Sprintf("/proc/%d/status", m.mainPID()))
		user := strings.TrimSpace(m.run("id", "--user", "ztp"))
		for name, want := range map[string]string{
			"Uid": strings.Join([]string{user, user, user, user}, "\t"), "NoNewPrivs": "1", "Seccomp": "2",
			"CapEff": "0000000000003400", "CapPrm": "0000000000003400", "CapBnd": "0000000000003400", // net_bind_service, net_admin, net_raw
		} {
			if !strings.Contains(process, "\n"+name+":\t"+want+"\n") {
				t.Errorf("%s is not %s in\n%s", name, want, process)
			}
		}
		inside := func(command string) (string, int) {
			return m.try("nsenter", "--target", strconv.Itoa(m.mainPID()), "--mount", "--setuid", user, "--", "sh", "-c", command)
		}
		for _, denied := range []string{
			"ls /var/lib/ztp", "touch /etc/x", "touch /usr/x", "touch /var/lib/x", "touch /run/x", "echo 1 >/proc/sys/kernel/panic", "cat /etc/shadow",
		} {
			if out, code := inside(denied); code == 0 {
				t.Errorf("%s: allowed: %s", denied, out)
			}
		}
		if out, code := inside("touch /run/ztp/x && rm /run/ztp/x"); code != 0 {
			t.Errorf("the folder for the status cannot be written: %s", out)
		}

		// Some of what the script starts ends before it was looked at.
		var script, group, status string
		m.await("the script is found", func() bool {
			out, _ := m.try("sh", "-c", "grep -lz ZTP_PHASE=pre-script /proc/[0-9]*/environ 2>/dev/null | head -n 1")
			script = strings.TrimSpace(out)
			var found, known int
			group, found = m.try("cat", filepath.Dir(script)+"/cgroup")
			status, known = m.try("cat", filepath.Dir(script)+"/status")
			return script != "" && found == 0 && known == 0
		})
		if !strings.Contains(group, "/ztp-onboard.service") || !strings.Contains(status, "\nUid:\t0\t") {
			t.Errorf("the script %s runs in %s", script, group)
		}

		m.write("etc/go-on", "")
		m.awaitProvisioned()
		if info, err := os.Stat(m.path("var/lib/ztp/state.json")); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("the record: %v, %v", info, err)
		}
	})
}

// TestIPv6 provisions the device on a network without IPv4, for which the agent changes how the kernel configures the interface.
func TestIPv6(t *testing.T) {
	storyOn(t, lab.IPv6, "", func(t *testing.T, m *machine) {
		o := onboarding()
		o.BootImage = m.image()
		m.lab.Onboard(o, "verbose")
		m.start()
		m.awaitReboot()
		m.start()
		m.awaitProvisioned()
		if log := m.journal(); strings.Contains(log, "permission denied") || strings.Contains(log, "not permitted") {
			t.Errorf("something was not permitted:\n%s", log)
		}
	})
}

// TestKilled kills either process in the middle of a script: what it did is undone, and the session goes on.
func TestKilled(t *testing.T) {
	for _, unit := range []string{"ztp.service", "ztp-onboard.service"} {
		t.Run(unit, func(t *testing.T) {
			story(t, "", func(t *testing.T, m *machine) {
				m.write("etc/systemd/system/ztp.service.d/quick.conf", "[Service]\nRestartSec=100ms\n")
				o := onboarding()
				o.PreScript = []byte(waiting)
				m.lab.Onboard(o, "verbose")
				m.start()
				m.await("the script waits", func() bool { return m.read("etc/mark") == "marked\n" })
				m.run("systemctl", "kill", "--signal=KILL", "--kill-who=main", unit)
				m.await("the script was undone, or waits again", func() bool {
					return m.read("etc/mark") == "" || strings.Contains(m.journal(), "undoing step=pre-script")
				})
				m.write("etc/go-on", "")
				m.awaitProvisioned()
				if got := m.read("etc/mark"); got != "marked\n" {
					t.Errorf("marks %q", got)
				}
			})
		})
	}
}
