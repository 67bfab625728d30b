package device

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/xpu-sztp/ztp/test/lab/netlab"
)

// softTPM is a TPM 2.0 played by swtpm, behind a unix socket. Its state outlives the process, like that of a chip.
type softTPM struct {
	socket string
	state  string // absolute: with a relative one swtpm enters failure mode
	cmd    *exec.Cmd
	ended  chan struct{}
}

const tpmStartTimeout = 10 * time.Second

// start powers the TPM on, off first when it is on: that clears what a reset of the platform clears.
func (t *softTPM) start(ctx context.Context) error {
	t.stop()
	if err := os.MkdirAll(t.state, 0o700); err != nil {
		return err
	}
	for _, file := range []string{t.socket, t.control()} {
		if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	os.Remove(t.pidFile())
	t.cmd = exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+t.state,
		"--server", "type=unixio,path="+t.socket, "--ctrl", "type=unixio,path="+t.control(),
		"--flags", "not-need-init,startup-clear", "--pid", "file="+t.pidFile())
	t.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := netlab.Start(t.cmd); err != nil {
		return fmt.Errorf("software TPM: %w; install the package swtpm", err)
	}
	t.ended = make(chan struct{})
	go func() {
		t.cmd.Wait()
		close(t.ended)
	}()
	return t.await(ctx)
}

// await waits until swtpm answers. It leaves its process id when it listens; its sockets exist a moment earlier.
func (t *softTPM) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, tpmStartTimeout)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(t.pidFile()); err == nil {
			return nil
		}
		select {
		case <-t.ended:
			return fmt.Errorf("swtpm ended at once: %s", t.cmd.ProcessState)
		case <-ctx.Done():
			return fmt.Errorf("swtpm does not listen at %s: %w", t.socket, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

func (t *softTPM) control() string { return t.socket + ".ctrl" }
func (t *softTPM) pidFile() string { return filepath.Join(t.state, "pid") }

// stop powers the TPM off. swtpm has written its state by the time it answers a command, so nothing is lost.
func (t *softTPM) stop() {
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
