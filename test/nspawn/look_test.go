package nspawn

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/xpu-sztp/ztp/pkg/state"
)

// run runs a program on the machine, which must succeed, and returns what it printed.
func (m *machine) run(args ...string) string {
	m.t.Helper()
	out, code := m.try(args...)
	if code != 0 {
		m.t.Fatalf("%s ended with %d: %s", args, code, out)
	}
	return out
}

func (m *machine) try(args ...string) (output string, code int) {
	cmd := exec.Command("nsenter", append([]string{"--target", strconv.Itoa(m.boot.leader), "--all", "--root", "--wd", "--"}, args...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "TERM=dumb"}
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		m.t.Error(err)
		return "", -1
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// status is what `ztp status --json` says.
func (m *machine) status() *state.Status {
	m.t.Helper()
	out, _ := m.try("ztp", "status", "--json")
	s := new(state.Status)
	if err := json.Unmarshal([]byte(out), s); err != nil {
		m.t.Fatalf("%v in %q", err, out)
	}
	return s
}

// show is properties of a unit.
func (m *machine) show(unit string, properties ...string) map[string]string {
	m.t.Helper()
	values := map[string]string{}
	for line := range strings.Lines(m.run("systemctl", "show", unit, "--property="+strings.Join(properties, ","))) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		values[name] = value
	}
	return values
}

// journal is what the agent and systemd's units of it said since power-on.
func (m *machine) journal() string {
	out, _ := m.try("journalctl", "--boot", "--no-pager", "--output=short-monotonic", "--unit=ztp*")
	return out
}

// processes lists the programs that run as /usr/bin/ztp.
func (m *machine) processes() []string {
	out, _ := m.try("sh", "-c", "find /proc -maxdepth 2 -name exe -lname /usr/bin/ztp 2>/dev/null") // others may end meanwhile
	return strings.Fields(out)
}

// mainPID is the process of the daemon, 0 when there is none.
func (m *machine) mainPID() int {
	m.t.Helper()
	pid, _ := strconv.Atoi(m.show("ztp.service", "MainPID")["MainPID"])
	return pid
}

// wantNoProcess checks that nothing of ours was started since power-on.
func (m *machine) wantNoProcess() {
	m.t.Helper()
	for _, unit := range unitFiles(m.t) {
		if filepath.Ext(unit) != ".service" {
			continue
		}
		if is := m.show(unit, "ActiveState", "ExecMainPID", "NRestarts"); is["ActiveState"] != "inactive" || is["ExecMainPID"] != "0" {
			m.t.Errorf("%s was started: %v", unit, is)
		}
	}
	if out, _ := m.try("journalctl", "--boot", "--quiet", "--no-pager", "_COMM=ztp"); strings.TrimSpace(out) != "" {
		m.t.Errorf("a process of ours said something:\n%s", out)
	}
	if p := m.processes(); len(p) > 0 {
		m.t.Errorf("processes of ours: %v", p)
	}
}
