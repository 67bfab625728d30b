// Package softtpm runs a TPM 2.0 in software, swtpm, behind a unix socket. Its state is in a folder and outlives the process, like
// that of a chip.
package softtpm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/xpu-sztp/ztp/test/lab/netlab"
)

// TPM is one chip. Socket and State are mandatory.
type TPM struct {
	Socket string // where programs reach it; a machine that has it built in uses Control
	State  string // absolute: with a relative one swtpm enters failure mode
	// BuiltIn leaves it to a virtual machine to start the chip up, by the control socket, which also ends it.
	BuiltIn bool

	cmd   *exec.Cmd
	ended chan struct{}
	said  bytes.Buffer // complete when ended is closed
}

// maxSocket is the longest path of a unix socket, in bytes (sun_path without the final zero).
const maxSocket = 107

const startTimeout = 10 * time.Second

// Start powers the TPM on, off first when it is on: that clears what a reset of the platform clears.
func (t *TPM) Start(ctx context.Context) error {
	t.Stop()
	if err := os.MkdirAll(t.State, 0o700); err != nil {
		return err
	}
	for _, file := range []string{t.Socket, t.Control()} {
		if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	os.Remove(t.pidFile())
	args := []string{"socket", "--tpm2", "--tpmstate", "dir=" + t.State, "--ctrl", "type=unixio,path=" + t.Control(),
		"--pid", "file=" + t.pidFile()}
	if t.BuiltIn {
		args = append(args, "--terminate")
	} else {
		args = append(args, "--server", "type=unixio,path="+t.Socket, "--flags", "not-need-init,startup-clear")
	}
	if len(t.Control()) > maxSocket {
		return fmt.Errorf("the path of the software TPM's socket, %s, is longer than the %d bytes that the kernel allows; "+
			"set TMPDIR to a folder with a shorter name", t.Control(), maxSocket)
	}
	cmd := exec.Command("swtpm", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	t.said.Reset()
	cmd.Stdout, cmd.Stderr = &t.said, &t.said
	if err := netlab.Start(cmd); err != nil {
		return fmt.Errorf("software TPM: %w; install the package swtpm, or run scripts/setup", err)
	}
	t.cmd, t.ended = cmd, make(chan struct{})
	go func() {
		t.cmd.Wait()
		close(t.ended)
	}()
	return t.await(ctx)
}

// await waits until swtpm answers. It leaves its process id when it listens; its sockets exist a moment earlier.
func (t *TPM) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(t.pidFile()); err == nil {
			return nil
		}
		select {
		case <-t.ended:
			return fmt.Errorf("swtpm ended at once: %s: %s", t.cmd.ProcessState, strings.TrimSpace(t.said.String()))
		case <-ctx.Done():
			return fmt.Errorf("swtpm does not listen at %s: %w", t.Socket, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// Control is the path of the control socket.
func (t *TPM) Control() string { return t.Socket + ".ctrl" }
func (t *TPM) pidFile() string { return filepath.Join(t.State, "pid") }

// Stop powers the TPM off. swtpm has written its state by the time it answers a command, so nothing is lost.
func (t *TPM) Stop() {
	if t.cmd == nil {
		return
	}
	t.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-t.ended:
	case <-time.After(5 * time.Second):
		t.cmd.Process.Kill()
		<-t.ended
	}
	t.cmd = nil
}
