package durable_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/xpu-sztp/ztp/pkg/durable"
)

// TestShared: a file in somebody else's folder is neither a link nor a pipe, and stays theirs to use.
func TestShared(t *testing.T) {
	target, folder := filepath.Join(t.TempDir(), "shadow"), t.TempDir()
	if err := os.WriteFile(target, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	link, pipe, file := filepath.Join(folder, "link"), filepath.Join(folder, "pipe"), filepath.Join(folder, "file")
	hard := filepath.Join(folder, "hard")
	if err := os.Link(target, hard); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{link, pipe, hard} {
		if f, err := durable.OpenShared(path); err == nil {
			f.Close()
			t.Errorf("%s was opened", path)
		}
	}
	held, err := os.OpenFile(pipe, os.O_RDWR, 0) // whoever reads it would wait for more
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	for _, path := range []string{link, pipe, folder} {
		if data, err := durable.ReadShared(path, 10); err == nil {
			t.Errorf("%s holds %q", path, data)
		}
	}
	if data, err := durable.ReadShared(target, 6); err != nil || string(data) != "secret" {
		t.Errorf("%q, %v", data, err)
	}
	if _, err := durable.ReadShared(target, 5); err != durable.ErrTooLarge {
		t.Error(err)
	}
	for range 2 {
		f, err := durable.OpenShared(file)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	if f, err := durable.CreateShared(file); err == nil {
		f.Close()
		t.Error("a file that was there was made")
	}
	const nobody = 65534
	if os.Chown(folder, nobody, nobody) != nil {
		return // whoever runs this has no other users
	}
	f, err := durable.OpenShared(file)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if info, err := os.Stat(file); err != nil || info.Sys().(*syscall.Stat_t).Uid != nobody {
		t.Errorf("the owner of the folder cannot use it: %v", err)
	}
}
