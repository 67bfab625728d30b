package conformance

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	_ "github.com/xpu-sztp/ztp/pkg/daemon" // so that go test does not take an old result for the agent's of today
	"github.com/xpu-sztp/ztp/test/lab"
	"github.com/xpu-sztp/ztp/test/lab/artifact"
	"github.com/xpu-sztp/ztp/test/lab/bootstrap"
	"github.com/xpu-sztp/ztp/test/lab/device"
)

// secret is part of every script and configuration of TestWholeRun.
const secret = "correct-horse-battery-staple"

// TestWholeRun looks at requirements that only show when a device goes all the way from an image over the reboot to
// bootstrap-complete. The redirect is signed and carries a trust anchor, so that the owner's server gets reports.
func TestWholeRun(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	l, err := lab.New(lab.Options{Family: lab.Loopback})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	l.Onboard(artifact.Onboarding{
		BootImage:     l.ServeImage(device.Image{OSName: "LabOS", OSVersion: "2.0.0", PayloadSize: 64 << 10}),
		PreScript:     []byte("#!/bin/sh\nexit 0 # " + secret + "\n"),
		Handling:      "replace",
		Configuration: []byte("password " + secret + "\n"),
		PostScript:    []byte("#!/bin/sh\nexit 0 # " + secret + "\n"),
	}, "verbose")
	d := newDevice(t, l)
	anchors := contents(t, d, "usr/lib/ztp/trust", "etc/ztp/trust")
	if len(anchors) == 0 {
		t.Fatal("the device has no trust anchors")
	}
	if exit, err := d.Run(ctx, 2); exit != 0 || err != nil {
		t.Fatalf("exit code %d, %v", exit, err)
	}

	requests := append(l.Redirect.Requests(), l.Bootstrap.Requests()...)
	t.Run("begins-anew-after-the-reboot", func(t *testing.T) {
		for name, server := range map[string]*bootstrap.Server{"redirect": l.Redirect, "bootstrap": l.Bootstrap} {
			if n := len(server.Requests()); n != 2 {
				t.Errorf("the %s server was asked %d times, want once in each boot", name, n)
			}
		}
	})
	t.Run("nonces-are-fresh", func(t *testing.T) {
		seen := map[string]bool{}
		for _, r := range requests {
			if len(r.Input.Nonce) != 32 || seen[string(r.Input.Nonce)] {
				t.Errorf("%s was sent the nonce %x", r.Host, r.Input.Nonce)
			}
			seen[string(r.Input.Nonce)] = true
		}
	})
	t.Run("secrets-stay-where-they-belong", func(t *testing.T) {
		log, err := os.ReadFile(filepath.Join(d.Dir, "daemon.log"))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(log, []byte("level=DEBUG")) {
			t.Error("the log has no details")
		}
		if bytes.Contains(log, []byte(secret)) {
			t.Errorf("the log has a secret:\n%s", log)
		}
		var holders []string
		for name, content := range contents(t, d, ".") {
			if strings.Contains(content, secret) {
				holders = append(holders, name)
			}
		}
		if diff := cmp.Diff([]string{"etc/device.conf"}, holders); diff != "" {
			t.Errorf("files with the secret:\n%s", diff)
		}
		info, err := os.Stat(d.Path("var/lib/ztp/state.json"))
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("the state is readable by others: %v, %v", info, err)
		}
	})
	t.Run("trust-anchors-stay", func(t *testing.T) {
		if diff := cmp.Diff(anchors, contents(t, d, "usr/lib/ztp/trust", "etc/ztp/trust")); diff != "" {
			t.Error(diff)
		}
	})
}

func newDevice(t *testing.T, l *lab.Lab) *device.Device {
	t.Helper()
	dir, err := os.MkdirTemp("", "ztp-") // short, because it holds a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	program := filepath.Join(dir, "ztp")
	if out, err := exec.Command("go", "build", "-o", program, Module+"/cmd/ztp").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	const serial = "LAB-000001"
	l.AnswerRedirect(l.Promotion)
	d, err := l.Device(t.Context(), device.Options{
		Dir: filepath.Join(dir, "device"), ZTP: program, Serial: serial,
		Command: []string{"run", "--once", "--debug", "--url", l.RedirectAt.URL()},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// contents reads every file of the device below folders, sockets and pipes aside.
func contents(t *testing.T, d *device.Device, folders ...string) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, folder := range folders {
		err := filepath.WalkDir(d.Path(folder), func(path string, entry fs.DirEntry, err error) error {
			if os.IsNotExist(err) {
				return nil
			}
			if err != nil || !entry.Type().IsRegular() {
				return err
			}
			name, err := filepath.Rel(d.Root(), path)
			if err != nil {
				return err
			}
			content, err := os.ReadFile(path)
			found[name] = string(content)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return found
}
