package onboard

import (
	"encoding/base64"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/pkg/progress"
)

const ed25519Key = "AAAAC3NzaC1lZDI1NTE5AAAAINfLFxO0oRq259ZhQp+373ut4XEX4qHjmX5jpa6UzuTj"

func TestHostKeys(t *testing.T) {
	r := newRig(t)
	ssh := filepath.Join(r.dir, "ssh")
	put(t, filepath.Join(ssh, "ssh_host_ed25519_key.pub"), "ssh-ed25519 "+ed25519Key+" root@device\n", 0o644)
	put(t, filepath.Join(ssh, "ssh_host_other_key.pub"), "ssh-rsa "+ed25519Key+"\n", 0o644)
	put(t, filepath.Join(ssh, "ssh_host_empty_key.pub"), "", 0o644)
	put(t, filepath.Join(ssh, "ssh_host_bad_key.pub"), "ssh-ed25519 ???\n", 0o644)
	put(t, filepath.Join(ssh, "ssh_host_ed25519_key"), "-----BEGIN OPENSSH PRIVATE KEY-----\n", 0o600)
	r.opts.Report.SSHHostKeys = []string{filepath.Join(ssh, "*.pub"), filepath.Join(ssh, "*"), filepath.Join(ssh, "[")}
	if _, err := r.run(progress.Verbose, plan{}); err != nil {
		t.Fatal(err)
	}
	blob, err := base64.StdEncoding.DecodeString(ed25519Key)
	if err != nil {
		t.Fatal(err)
	}
	want := []progress.SSHHostKey{{Algorithm: "ssh-ed25519", KeyData: blob}}
	for _, report := range r.server.reports {
		keys := want
		if report.Type != progress.BootstrapComplete {
			keys = nil
		}
		if diff := cmp.Diff(keys, report.SSHHostKeys); diff != "" {
			t.Errorf("%s: %s", report.Type, diff)
		}
	}
	if got := len(r.board.Snapshot().Warnings); got != 5 {
		t.Errorf("%d warnings: %v", got, r.board.Snapshot().Warnings)
	}
}
