package systemd

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestInstall lays out a device with scripts/install, from a folder of its own as who makes an image does, and holds what is there
// against what the files say: an image whose /etc is empty gets the same folders from tmpfiles, and presets know every unit.
func TestInstall(t *testing.T) {
	script, err := filepath.Abs("../scripts/install")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	for _, name := range []string{"agent", "manual/ztp.8", "manual/ztp", "manual/_ztp", "manual/ztp.fish"} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command(script, "agent", "manual", "image").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}

	var folders []string
	for _, pattern := range []string{"", "/*", "/*/*"} {
		found, err := filepath.Glob("image/etc/ztp" + pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range found {
			folders = append(folders, path[len("image"):])
		}
	}
	slices.Sort(folders)
	if diff := cmp.Diff(folders, found(t, `(?m)^d (/etc/\S+) 0755 root root -$`, "image/usr/lib/tmpfiles.d/ztp.conf")); diff != "" {
		t.Errorf("folders of scripts/install (-) and of ztp.tmpfiles (+):\n%s", diff)
	}

	units, err := filepath.Glob("image/usr/lib/systemd/system/*")
	if err != nil || len(units) == 0 {
		t.Fatal(units, err)
	}
	var enabled []string
	for _, unit := range units {
		if len(found(t, `(?m)^(\[Install\])$`, unit)) > 0 {
			enabled = append(enabled, filepath.Base(unit))
		}
	}
	if diff := cmp.Diff(enabled, found(t, `(?m)^enable (\S+)$`, "image/usr/lib/systemd/system-preset/80-ztp.preset")); diff != "" {
		t.Errorf("units with an [Install] section (-) and in the preset (+):\n%s", diff)
	}
}

// found returns what the group of a pattern matches in a file, sorted.
func found(t *testing.T, pattern, file string) (all []string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, match := range regexp.MustCompile(pattern).FindAllSubmatch(text, -1) {
		all = append(all, string(match[1]))
	}
	slices.Sort(all)
	return all
}
