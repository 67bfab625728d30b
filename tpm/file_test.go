package tpm

import (
	"fmt"
	"io/fs"
	"strings"
	"testing"
)

// TestUnreadable: who may not read a file is told that, rather than to name another one.
func TestUnreadable(t *testing.T) {
	if got := fixFile(fmt.Errorf("open: %w", fs.ErrPermission), "correct it"); !strings.Contains(got, "user ztp") {
		t.Errorf("to do: %s", got)
	}
	if got := fixFile(fs.ErrNotExist, "correct it"); got != "correct it" {
		t.Errorf("to do: %s", got)
	}
}
