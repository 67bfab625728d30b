package systemd

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// lines returns the values of a key in one of the units that are shipped.
func lines(t *testing.T, unit, key string) (values []string) {
	t.Helper()
	text, err := os.ReadFile(unit)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), "="); ok && k == key {
			values = append(values, v)
		}
	}
	return values
}

// TestConditions: the agent is started unless all of the files say that it need not be, also where systemd passes over conditions
// with the name of a system that has no os-release(5), or does not know their specifiers.
func TestConditions(t *testing.T) {
	const release, anySystem, record = "at-rest.os-1--", "at-rest.any", "state.json"
	for _, tt := range []struct {
		files []string
		named bool // systemd knows the name of the system
		start bool
	}{
		{nil, true, true},
		{nil, false, true},
		{[]string{record}, true, true},
		{[]string{record}, false, true}, // a session that a reboot has interrupted
		{[]string{record, release, anySystem}, true, false},
		{[]string{record, release, anySystem}, false, false},
		{[]string{record, "at-rest.os-2--", anySystem}, true, true}, // another system has found that
		{[]string{release, anySystem}, true, true},                  // somebody removed the record
		{[]string{release, anySystem}, false, true},
	} {
		there := map[string]bool{}
		for _, f := range tt.files {
			there[f] = true
		}
		start := false
		for _, c := range lines(t, "ztp.service", "ConditionPathExists") {
			path, triggers := strings.CutPrefix(c, "|!")
			if !triggers {
				t.Fatalf("condition %q", c)
			}
			if strings.Contains(path, "%") && !tt.named {
				continue
			}
			start = start || !there[filepath.Base(strings.Replace(path, "%o-%w-%A-%B", "os-1--", 1))]
		}
		if start != tt.start {
			t.Errorf("with %q, the name known %t: started %t", tt.files, tt.named, start)
		}
	}
}

// TestTrialUnit runs what reboots a system on trial, with another reboot: it does so on the system that is on trial only.
func TestTrialUnit(t *testing.T) {
	if skipped := lines(t, "ztp-trial.service", "ExecCondition"); len(skipped) > 0 {
		t.Errorf("%q: before 243, systemd would go on without", skipped)
	}
	text, err := os.ReadFile("ztp-trial.service")
	if err != nil {
		t.Fatal(err)
	}
	_, script, found := strings.Cut(string(text), "ExecStart=/bin/sh -c '")
	script, _, closed := strings.Cut(script, "'")
	if !found || !closed || strings.ContainsAny(script, "%{") {
		t.Fatalf("systemd would change %q", script)
	}
	for name, tt := range map[string]struct {
		release, trial, begun, agent string
		want                         bool
	}{
		"on trial, no agent":       {"ID=os\nVERSION_ID=\"2\"\n", "os-1--\n", "", "inactive", true},
		"on trial, waiting":        {"ID=os\nVERSION_ID=2\n", "os-1--\n", "", "active", true},
		"on trial, and begun":      {"ID=os\nVERSION_ID=2\n", "os-1--\n", "1", "active", false},
		"on trial, starts again":   {"ID=os\nVERSION_ID=2\n", "os-1--\n", "1", "activating", false},
		"on trial, begun, failed":  {"ID=os\nVERSION_ID=2\n", "os-1--\n", "1", "failed", true},
		"the good one":             {"ID=os\nVERSION_ID=1\n", "os-1--\n", "", "failed", false},
		"without a name":           {"", "---\n", "", "failed", false},
		"on trial, without a name": {"", "os-1--\n", "", "failed", true},
		"nobody knows":             {"ID=os\n", "\n", "", "failed", false},
		"not any more":             {"ID=os\n", "", "", "failed", false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write := func(file, text string, mode os.FileMode) {
				if text == "" {
					return
				}
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text), mode); err != nil {
					t.Fatal(err)
				}
			}
			write("os-release", tt.release, 0o644)
			write("trial", tt.trial, 0o644)
			write("ztp-trial", tt.begun, 0o644)
			write("systemctl", "#!/bin/sh\n[ \"$1\" = is-active ] && echo "+tt.agent+" || echo \"$@\" >>"+dir+"/done\n", 0o755)
			here := strings.NewReplacer("\\\n", "", "/var/lib/ztp/", dir+"/", "/run/", dir+"/", "/etc/", dir+"/", "/usr/lib/", dir+"/").Replace(script)
			cmd := exec.Command("/bin/sh", "-c", here)
			cmd.Env = []string{"PATH=" + dir + ":" + os.Getenv("PATH")}
			if out, err := cmd.CombinedOutput(); err != nil || tt.trial != "" && len(out) > 0 {
				t.Errorf("%v: %s", err, out)
			}
			done, _ := os.ReadFile(filepath.Join(dir, "done"))
			if got := string(done) == "--no-block reboot\n"; got != tt.want || !got && len(done) > 0 {
				t.Errorf("it has done %q", done)
			}
		})
	}
}
