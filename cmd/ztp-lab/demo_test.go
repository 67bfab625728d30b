package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A wrong --ztp is refused before the story begins, with what to do.
func TestFindZTP(t *testing.T) {
	dir := t.TempDir()
	agent, other := filepath.Join(dir, "ztp"), filepath.Join(dir, "other")
	for file, script := range map[string]string{agent: "#!/bin/sh\necho 'version  1'\n", other: "#!/bin/sh\necho hello\n"} {
		if err := os.WriteFile(file, []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := findZTP(agent); got != agent || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	for _, given := range []string{other, dir, filepath.Join(dir, "missing"), "/bin/false"} {
		if _, err := findZTP(given); err == nil || !strings.Contains(err.Error(), "--ztp") {
			t.Errorf("%s: %v", given, err)
		}
	}
}
