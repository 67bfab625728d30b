package durable

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestWriteFileKeepsOldOnError(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := WriteFile(OS{}, path, []byte("old"), 0o640, nil); err != nil {
		t.Fatal(err)
	}
	// A folder in the way of the temporary file that cannot be removed.
	if err := os.MkdirAll(filepath.Join(TempName(path), "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(OS{}, path, []byte("new"), 0o640, nil); err == nil {
		t.Fatal("no error")
	}
	if got, _ := os.ReadFile(path); string(got) != "old" {
		t.Errorf("got %q", got)
	}
}

func TestWriteFileFollowsNoLink(t *testing.T) {
	dir := t.TempDir()
	path, victim := filepath.Join(dir, "file"), filepath.Join(dir, "victim")
	if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, TempName(path)); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(OS{}, path, []byte("new"), 0o604, nil); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(victim); string(got) != "precious" {
		t.Errorf("the victim reads %q", got)
	}
	if info, err := os.Lstat(path); err != nil || info.Mode() != 0o604 {
		t.Errorf("got %v, %v", info.Mode(), err)
	}
}

func TestMkdirAll(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a", "b", "c")
	for range 2 { // the second time there is nothing to do
		if err := MkdirAll(OS{}, path, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != os.ModeDir|0o700 {
		t.Errorf("got %v, %v", info, err)
	}
	if err := os.WriteFile(filepath.Join(path, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := MkdirAll(OS{}, filepath.Join(path, "file", "d"), 0o700); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("below a file: got %v", err)
	}
}

func TestExchange(t *testing.T) {
	dir := t.TempDir()
	one, other := filepath.Join(dir, "one"), filepath.Join(dir, "other")
	for _, path := range []string{one, other} {
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(path, "was"), []byte(filepath.Base(path)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := (OS{}).Exchange(one, other); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{one: "other", other: "one"} {
		if got, err := os.ReadFile(filepath.Join(path, "was")); string(got) != want {
			t.Errorf("%s was %q, %v", path, got, err)
		}
	}
	if err := (OS{}).Exchange(one, filepath.Join(dir, "missing")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("with nothing: got %v", err)
	}
}
