package systemd_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/systemd"
)

// TestUnit runs against a program in the place of systemctl, which leaves its arguments in a file.
func TestUnit(t *testing.T) {
	bin := t.TempDir()
	script := "#!/bin/sh\necho \"$@\" >>\"$0.log\"\ncase $3 in stop) echo 'Access denied' >&2; exit 4;; esac\n"
	if err := os.WriteFile(filepath.Join(bin, "systemctl"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	unit := systemd.Unit("x.service")
	if err := unit.Enable(t.Context()); err != nil {
		t.Error(err)
	}
	if err := unit.Start(t.Context()); err != nil {
		t.Error(err)
	}
	err := unit.Stop(t.Context())
	if code, hint := reason.Of(err); code != systemd.UnitFailed || hint == "" {
		t.Errorf("code %q, hint %q", code, hint)
	}
	if err == nil || !strings.Contains(err.Error(), "did not stop x.service: Access denied") {
		t.Errorf("got %v", err)
	}
	log, err := os.ReadFile(filepath.Join(bin, "systemctl.log"))
	if err != nil {
		t.Fatal(err)
	}
	want := "--no-ask-password --quiet enable x.service\n--no-ask-password --quiet start x.service\n" +
		"--no-ask-password --quiet stop x.service\n"
	if string(log) != want {
		t.Errorf("got %q, want %q", log, want)
	}
}
