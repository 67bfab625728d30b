// Package nspawn proves the units as they are shipped, under a real systemd: in a container that systemd-nspawn boots in a
// second, with DHCP, a bootstrap server, and a software TPM. What is asserted is what systemd, the journal, `ztp status` and the
// servers say.
package nspawn

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/xpu-sztp/ztp/test/agenttest"
	"github.com/xpu-sztp/ztp/test/lab"
	"github.com/xpu-sztp/ztp/test/lab/netlab"
)

// treeVariable tells the inner process where the Debian is that machines start from; empty when this user may start none.
const treeVariable = "NSPAWN_TREE"

func TestMain(m *testing.M) {
	if !netlab.Inside() && os.Getuid() == 0 {
		cmd := exec.Command("../../scripts/nspawn-tree")
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			fmt.Fprintln(os.Stderr, "no tree for systemd-nspawn:", err)
			os.Exit(1)
		}
		os.Setenv(treeVariable, string(bytes.TrimSpace(out)))
	}
	os.Exit(agenttest.Main(m))
}

func tree() string { return os.Getenv(treeVariable) }

// story is a test with a machine. An ordinary user has none, in namespaces of his own neither: what is then true is that
// systemd-nspawn refuses.
func story(t *testing.T, config string, tell func(t *testing.T, m *machine)) {
	t.Helper()
	storyOn(t, lab.IPv4, config, tell)
}

func storyOn(t *testing.T, family lab.Family, config string, tell func(t *testing.T, m *machine)) {
	t.Helper()
	if tree() != "" {
		tell(t, newMachine(t, family, config))
		return
	}
	out, err := exec.Command("systemd-nspawn", "--register=no", "--keep-unit", "--directory="+t.TempDir(), "true").CombinedOutput()
	if err == nil {
		t.Errorf("systemd-nspawn starts machines for users, and none was started: %s", out)
	}
}

// TestUnits has systemd judge the units, and make the user.
func TestUnits(t *testing.T) {
	story(t, "", func(t *testing.T, m *machine) {
		m.start()
		for _, unit := range unitFiles(t) {
			out, code := m.try("systemd-analyze", "verify", "--man=no", unit) // the machine has no manual
			for line := range strings.Lines(out) {
				// Those from version 254 on say so in the unit.
				if !strings.Contains(line, "Unknown key 'Restart") {
					t.Errorf("systemd-analyze verify %s: %s", unit, line)
				}
			}
			if code != 0 {
				t.Errorf("systemd-analyze verify %s ended with %d", unit, code)
			}
		}
		if got := m.run("id", "--name", "--groups", "ztp"); strings.TrimSpace(got) != "ztp tss" {
			t.Errorf("the user ztp is in the groups %q", got)
		}
		if got := m.run("systemctl", "is-enabled", "ztp.service"); strings.TrimSpace(got) != "enabled" {
			t.Errorf("after the preset the unit is %q", got)
		}
		if got := m.run("stat", "--format=%U %a", "/var/lib/ztp", "/run/ztp", "/etc/ztp/ztp.toml.d"); got != "root 700\nztp 755\nroot 755\n" {
			t.Errorf("the folders belong to\n%s", got)
		}
		if got, _ := m.try("ztp", "doctor", "--offline"); !strings.Contains(got, "\npass  user ") || !strings.Contains(got, "\npass  unit ") {
			t.Errorf("ztp doctor says\n%s", got)
		}
	})
}
