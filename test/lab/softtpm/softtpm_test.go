package softtpm_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/xpu-sztp/ztp/test/lab/softtpm"
)

// What evaluators run into has a message that says what to do, and powering off what is not on does no harm.
func TestTrouble(t *testing.T) {
	dir := t.TempDir()
	for name, tt := range map[string]struct {
		path, socket, want string
	}{
		"not installed": {"/nowhere", "/tmp/none.sock", "install the package swtpm"},
		"long path":     {"/usr/bin", filepath.Join("/tmp", strings.Repeat("x", 120), "tpm.sock"), "set TMPDIR"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("PATH", tt.path)
			chip := &softtpm.TPM{Socket: tt.socket, State: dir}
			if err := chip.Start(t.Context()); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, which does not tell to %s", err, tt.want)
			}
			chip.Stop()
		})
	}
	chip := &softtpm.TPM{Socket: filepath.Join(dir, "missing", "tpm.sock"), State: filepath.Join(dir, "state")}
	if err := chip.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "swtpm ended at once: exit status 1: ") {
		t.Errorf("got %v, without what swtpm said", err)
	}
	chip.Stop()
}
