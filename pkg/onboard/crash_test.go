package onboard

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/pkg/state"
)

const newImage = "the image of version 2"

// TestRecoverKillsScripts starts anew after a daemon that was killed while its script ran on.
func TestRecoverKillsScripts(t *testing.T) {
	r := newRig(t)
	const id = "TESTRECOVERKILLSSCRIPTS"
	missing := &state.FileBackup{Path: filepath.Join(r.dir, "missing")}
	entry := state.Entry{Step: state.StepConfiguration, Session: id, File: missing}
	if err := r.store.Update(func(rec *state.Record) error { rec.Journal = []state.Entry{entry}; return nil }); err != nil {
		t.Fatal(err)
	}
	start := func(id string) *exec.Cmd {
		cmd := exec.Command("/bin/sleep", "1000")
		cmd.Env = []string{sessionVariable + "=" + id}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		return cmd
	}
	orphan, bystander := start(id), start(id+"X")
	if err := New(r.opts).Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !dies(orphan.Process.Pid) {
		t.Error("the script still runs")
	}
	if dead(bystander.Process.Pid) {
		t.Error("a process of somebody else was killed")
	}
}

// TestRecoverStopped leaves what it did not finish to the next start.
func TestRecoverStopped(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	fifo := filepath.Join(r.dir, "started")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(r.opts.Dir, stagedPre), "#!/bin/sh\necho >"+fifo+"\nsleep 1000\n", 0o700)
	entry := state.Entry{Step: state.StepPreScript, Session: "S", Staged: stagedPre}
	if err := r.store.Update(func(rec *state.Record) error { rec.Journal = []state.Entry{entry}; return nil }); err != nil {
		t.Fatal(err)
	}
	go func() {
		os.ReadFile(fifo) // until the undoing has started
		cancel()
	}()
	wantCode(t, New(r.opts).Recover(ctx), ReasonRollback)
	if diff := cmp.Diff([]state.Entry{entry}, r.record(t).Journal); diff != "" {
		t.Error(diff)
	}
	put(t, filepath.Join(r.opts.Dir, stagedPre), string(r.tracer("pre", 0)), 0o700)
	if err := New(r.opts).Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"pre undo"}, r.trace()); diff != "" {
		t.Error(diff)
	}
	wantNothingStaged(t, r)
}
