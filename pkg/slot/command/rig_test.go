package command

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/pkg/durable"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/slot"
)

// device is a machine with an installer that is played by a shell script. The script's state is in files of dir, one value
// each; every call of it is a line in "calls".
type device struct {
	dir    string
	opts   Options
	boots  int
	reboot func() // what the boot loader and the hardware do
}

// play puts a script into the PATH under a name. It runs in dir, and does what body says.
func play(t *testing.T, dir, name, body string) {
	t.Helper()
	bin := filepath.Join(dir, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf(`#!/bin/sh
set -eu
cd '%s'
{ printf '%%s' '%s'; for a; do printf ' %%s' "$a"; done; echo; } >>calls
put() { printf '%%s\n' "$2" >"$1.new"; mv "$1.new" "$1"; }
%s`, dir, name, body)
	if err := os.WriteFile(filepath.Join(bin, name), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
}

func newDevice(t *testing.T, tool *Tool) *device {
	t.Helper()
	d := &device{dir: t.TempDir()}
	d.opts = Options{Tool: *tool, Dir: filepath.Join(d.dir, "slots"), Image: filepath.Join(d.dir, "download", "image"), BootID: filepath.Join(d.dir, "boot_id")}
	d.start()
	return d
}

// start is a boot.
func (d *device) start() {
	d.boots++
	d.put("boot_id", fmt.Sprint("boot-", d.boots))
	if d.boots > 1 {
		d.reboot()
	}
}

func (d *device) put(name, value string) {
	if err := os.WriteFile(filepath.Join(d.dir, name), []byte(value+"\n"), 0o600); err != nil {
		panic(err)
	}
}

func (d *device) get(name string) string {
	data, _ := os.ReadFile(filepath.Join(d.dir, name))
	return strings.TrimSpace(string(data))
}

// calls returns what was run since the last time, but for those that ask for the status.
func (d *device) calls(status string) []string {
	var calls []string
	for line := range strings.Lines(d.get("calls")) {
		if line = strings.TrimSpace(line); line != status {
			calls = append(calls, line)
		}
	}
	os.Remove(filepath.Join(d.dir, "calls"))
	return calls
}

func (d *device) installer(t *testing.T, on durable.FS) *Installer {
	t.Helper()
	o := d.opts
	o.FS = on
	i, err := NewInstaller(o)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// install brings an image onto the device, up to Commit.
func install(t *testing.T, i *Installer, image string) error {
	w, err := i.Open(t.Context())
	if err != nil {
		return err
	}
	defer w.Close()
	if err := w.Reset(); err != nil {
		return err
	}
	if _, err := w.Write([]byte(image)); err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(image))
	return w.Commit(t.Context(), sum[:])
}

// want compares what is known of the slots; image is what the target or, on trial, the running slot holds.
func (d *device) want(t *testing.T, running, good, next, target string) slot.Description {
	t.Helper()
	got, err := d.installer(t, nil).Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []string{running, good, next, target}
	if diff := cmp.Diff(want, []string{got.Running, got.Good, got.Next, got.Target}); diff != "" {
		t.Fatalf("running, good, next, target: %s", diff)
	}
	return got
}

func wantImage(t *testing.T, d slot.Description, name, image string) {
	t.Helper()
	sum := sha256.Sum256([]byte(image))
	if held := d.Contents[name]; !bytes.Equal(held.SHA256, sum[:]) || held.Size != int64(len(image)) || held.At.IsZero() {
		t.Fatalf("slot %s holds %+v of %+v", name, held, d.Contents)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantCode(t *testing.T, err error, want reason.Code) {
	t.Helper()
	if code, hint := reason.Of(err); code != want || hint == "" {
		t.Fatalf("got %q (%v, hint %q), want code %q and a hint", code, err, hint, want)
	}
}
