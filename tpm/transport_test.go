package tpm_test

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"golang.org/x/sys/unix"

	"github.com/xpu-sztp/ztp/tpm"
)

func TestTPMUnreachable(t *testing.T) {
	dir := tempDir(t)
	stale := filepath.Join(dir, "stale")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	for name, path := range map[string]string{
		"no-socket":        "unix:" + filepath.Join(dir, "absent"),
		"nobody-listens":   "unix:" + stale,
		"no-device":        filepath.Join(dir, "tpmrm0"),
		"not-a-device":     writeFile(t, nil),
		"not-a-TPM-device": "/dev/null",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := tpm.Open(t.Context(), tpm.Options{TPM: path})
			if name == "not-a-TPM-device" {
				wantCode(t, err, tpm.CodeFailure)
				return
			}
			wantCode(t, err, tpm.CodeUnreachable, path, "identity.tpm")
		})
	}
}

// A TPM that takes a command and never answers is an error in time, and does not stop the next attempt.
func TestTPMHangs(t *testing.T) {
	path := "unix:" + serve(t, func(c net.Conn) {
		_, _ = io.Copy(io.Discard, c) // until the other side gives up
	})
	for range 2 {
		_, err := tpm.Open(within(t, 50*time.Millisecond), tpm.Options{TPM: path})
		wantCode(t, err, tpm.CodeTimeout, "0x81020000")
	}
}

func TestCloseInterruptsSignature(t *testing.T) {
	sim, ca := startSimulator(t), newAuthority(t)
	provision(t, sim.path, tpm.P256, ca)
	id := mustOpen(t, tpm.Options{TPM: sim.path})
	signing, release := make(chan struct{}), make(chan struct{})
	sim.intercept(func(code tpm2.TPMCC) []byte {
		if code == tpm2.TPMCCSign {
			close(signing)
			<-release
		}
		return nil
	})
	result := make(chan error)
	go func() { result <- sign(id) }()
	<-signing
	id.Close()
	wantCode(t, <-result, tpm.CodeCancelled)
	close(release)
	wantCode(t, sign(id), tpm.CodeCancelled, "closed")
	if err := id.Close(); err != nil {
		t.Errorf("closing twice: %v", err)
	}
}

func sign(id *tpm.Identity) error {
	digest := sha256.Sum256([]byte("x"))
	_, err := id.Signer().Sign(rand.Reader, digest[:], crypto.SHA256)
	return err
}

func TestTPMAsksForRetry(t *testing.T) {
	for _, rc := range []tpm2.TPMRC{tpm2.TPMRCRetry, tpm2.TPMRCYielded, tpm2.TPMRCTesting} {
		t.Run(rc.Error(), func(t *testing.T) {
			sim, ca := startSimulator(t), newAuthority(t)
			provision(t, sim.path, tpm.P256, ca)
			left := 3
			sim.intercept(func(tpm2.TPMCC) []byte {
				if left--; left >= 0 {
					return refusal(rc)
				}
				return nil
			})
			mustOpen(t, tpm.Options{TPM: sim.path})
		})
	}
	t.Run("for-ever", func(t *testing.T) {
		sim := startSimulator(t)
		sim.intercept(func(tpm2.TPMCC) []byte { return refusal(tpm2.TPMRCRetry) })
		_, err := tpm.Open(within(t, 50*time.Millisecond), tpm.Options{TPM: sim.path})
		wantCode(t, err, tpm.CodeTimeout)
		if !errors.Is(err, tpm2.TPMRCRetry) {
			t.Errorf("%v does not say that the TPM asked for a retry", err)
		}
	})
}

func TestTPMAnswersNonsense(t *testing.T) {
	for name, answer := range map[string][]byte{
		"nothing":       {},
		"half-a-header": {0x80, 1, 0, 0},
		"short-size":    {0x80, 1, 0, 0, 0, 4, 0, 0, 0, 0},
		"huge-size":     {0x80, 1, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0},
		"too-little":    {0x80, 1, 0, 0, 0, 12, 0, 0, 0, 0, 1},
		"too-much":      {0x80, 1, 0, 0, 0, 10, 0, 0, 0, 0, 1},
		"no-content":    {0x80, 1, 0, 0, 0, 10, 0, 0, 0, 0},
		"failure-mode":  refusal(tpm2.TPMRCFailure),
	} {
		t.Run(name, func(t *testing.T) {
			path := "unix:" + serve(t, func(c net.Conn) {
				_ = readCommand(c)
				_, _ = c.Write(answer)
			})
			_, err := tpm.Open(t.Context(), tpm.Options{TPM: path})
			wantCode(t, err, tpm.CodeFailure)
		})
	}
}

// A software TPM may be found powered on but not started up; nobody else will do it. One that is must be left alone.
func TestStartup(t *testing.T) {
	for _, flags := range []string{"not-need-init", "not-need-init,startup-clear"} {
		t.Run(flags, func(t *testing.T) {
			path := startSwtpm(t, flags)
			provision(t, path, tpm.P256, newAuthority(t))
			mustOpen(t, tpm.Options{TPM: path})
		})
	}
	t.Run("never-without-need", func(t *testing.T) {
		sim := startSimulator(t)
		provision(t, sim.path, tpm.P256, newAuthority(t))
		mustOpen(t, tpm.Options{TPM: sim.path})
		if n := sim.count(tpm2.TPMCCStartup); n != 0 {
			t.Errorf("TPM2_Startup was sent %d times", n)
		}
	})
	t.Run("never-to-a-kernel-TPM", func(t *testing.T) {
		sim := startSimulator(t)
		sim.intercept(func(tpm2.TPMCC) []byte { return refusal(tpm2.TPMRCInitialize) })
		_, err := tpm.Open(t.Context(), tpm.Options{TPM: startDevice(t, sim.Send)})
		wantCode(t, err, tpm.CodeFailure)
		if n := sim.count(tpm2.TPMCCStartup); n != 0 {
			t.Errorf("TPM2_Startup was sent %d times", n)
		}
	})
}

// A pseudo-terminal in raw mode stands for the kernel's device: a character device that becomes readable some time
// after a command was written.
func TestDevice(t *testing.T) {
	t.Run("identity", func(t *testing.T) {
		sim, ca := startSimulator(t), newAuthority(t)
		provision(t, sim.path, tpm.P256, ca)
		id := mustOpen(t, tpm.Options{TPM: startDevice(t, sim.Send)})
		if err := sign(id); err != nil {
			t.Error(err)
		}
	})
	t.Run("hangs-then-recovers", func(t *testing.T) {
		sim, ca := startSimulator(t), newAuthority(t)
		provision(t, sim.path, tpm.P256, ca)
		var silent atomic.Bool
		silent.Store(true)
		path := startDevice(t, func(command []byte) ([]byte, error) {
			if silent.Load() {
				return nil, nil
			}
			return sim.Send(command)
		})
		_, err := tpm.Open(within(t, 50*time.Millisecond), tpm.Options{TPM: path})
		wantCode(t, err, tpm.CodeTimeout)
		silent.Store(false)
		mustOpen(t, tpm.Options{TPM: path})
	})
}

// startDevice returns the path of a character device behind which execute answers commands.
func startDevice(t *testing.T, execute func([]byte) ([]byte, error)) string {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := master.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var n int
	err = errors.Join(err, raw.Control(func(fd uintptr) {
		if err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); err == nil {
			n, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("/dev/pts", strconv.Itoa(n))
	slave, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOCTTY, 0) // held open, so that the master never sees a hang-up
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetTermios(int(slave.Fd()), unix.TCSETS, &unix.Termios{
		Cflag: unix.CS8 | unix.CREAD, Cc: [19]uint8{unix.VMIN: 1}}); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			command := readCommand(master)
			if command == nil {
				return
			}
			if rsp, err := execute(command); err != nil {
				return
			} else if _, err := master.Write(rsp); err != nil && !errors.Is(err, io.ErrClosedPipe) {
				return
			}
		}
	}()
	t.Cleanup(func() { master.Close(); slave.Close(); <-done })
	return path
}
