package ztp

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestNamesCannotCommandTerminals: files, in a folder that somebody else filled, are told by their names when they cannot be read.
func TestNamesCannotCommandTerminals(t *testing.T) {
	said, err := os.Create(filepath.Join(t.TempDir(), "said"))
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	name := filepath.Join(t.TempDir(), "a\x1b]0;owned\x07\u202eb\n")
	if exit := Run([]string{"inspect", name}, Streams{new(bytes.Buffer), said}, ""); exit != exitError {
		t.Errorf("exit code %d", exit)
	}
	text, err := os.ReadFile(said.Name())
	if err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(string(text), "\x1b\x07\u202e") || !strings.Contains(string(text), "]0;owned") || strings.Count(string(text), "\n") != 2 {
		t.Errorf("%q", text)
	}
}
