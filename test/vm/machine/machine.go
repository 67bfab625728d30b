// Package machine is a virtual machine that plays a device: QEMU with UEFI firmware, a software TPM, a disk, a network interface,
// a watchdog, a serial console, and a serial line with a shell. Every reset ends the process, so that whoever watches learns of
// it and starts the machine again; the power can be cut at any instant, and what the disk had not been told to keep is lost then.
package machine

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/xpu-sztp/ztp/test/lab/netlab"
	"github.com/xpu-sztp/ztp/test/lab/softtpm"
)

// Machine is one device. All fields but Clock and Console are mandatory.
type Machine struct {
	Dir      string // an empty folder with a short path, for sockets
	Disk     string // a raw image
	TPMState string // absolute; the factory has made its keys there
	Tap      string // the interface of this machine that the network of the other one is connected to
	// Firmware has OVMF's code and its variables as they leave the factory.
	Firmware Firmware
	// Clock is the time of the real-time clock at power-on; zero is now.
	Clock time.Time
	// Volatile gives the disk a write cache, without which Cut is a plain end of QEMU.
	Volatile bool
	// Console is called with each line on the serial console, by one goroutine.
	Console func(line string)

	tpm *softtpm.TPM
}

// Firmware names the two halves of UEFI firmware for virtual machines.
type Firmware struct{ Code, Variables string }

// FindFirmware looks for OVMF where distributions put it. The small build without a TPM of its own starts in half the time.
func FindFirmware() (Firmware, error) {
	const folder = "/usr/share/OVMF/"
	for _, suffix := range []string{"", "_4M"} {
		f := Firmware{Code: folder + "OVMF_CODE" + suffix + ".fd", Variables: folder + "OVMF_VARS" + suffix + ".fd"}
		if _, err := os.Stat(f.Code); err == nil {
			return f, nil
		}
	}
	return Firmware{}, fmt.Errorf("no UEFI firmware below %s: install the package ovmf", folder)
}

// Cause is why a machine stopped.
type Cause string

// The causes. The first two are QEMU's words for them.
const (
	Reset    Cause = "guest-reset"    // by the system, or its kernel after a panic
	Off      Cause = "guest-shutdown" // by the system
	Watchdog Cause = "watchdog"       // a reset that the watchdog device made
	Cut      Cause = "power-cut"      // by Cut
)

// Run is a machine between power-on and whatever ends it.
type Run struct {
	Shell *Shell

	machine *Machine
	cmd     *exec.Cmd
	errors  *tail
	disk    *volatile // nil unless Machine.Volatile
	qmp     *qmp
	ended   chan struct{}

	mu    sync.Mutex
	cut   bool
	cause Cause
	err   error
}

// PowerOn starts the machine.
func (m *Machine) PowerOn(ctx context.Context) (*Run, error) {
	if err := m.prepare(); err != nil {
		return nil, err
	}
	if err := m.tpm.Start(ctx); err != nil {
		return nil, err
	}
	r := &Run{machine: m, errors: &tail{}, ended: make(chan struct{})}
	disk := []string{"-drive", "if=none,id=disk,format=raw,cache=unsafe,file=" + m.Disk}
	if m.Volatile {
		r.disk = &volatile{disk: m.Disk, log: m.path("disk.log")}
		if err := r.disk.begin(); err != nil {
			return nil, err
		}
		disk = r.disk.arguments()
	}
	r.cmd = exec.Command("qemu-system-x86_64", append(m.arguments(), disk...)...)
	console, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	r.cmd.Stdout, r.cmd.Stderr = write, r.errors
	err = netlab.Start(r.cmd)
	write.Close()
	if err != nil {
		console.Close()
		return nil, fmt.Errorf("QEMU: %w", err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer console.Close()
		follow(console, m.Console)
	}()
	exited := make(chan struct{})
	go func() {
		r.cmd.Wait()
		close(exited)
	}()
	if r.qmp, err = connectQMP(ctx, m.path("qmp"), exited); err == nil {
		r.Shell, err = connectShell(ctx, m.path("shell"), exited)
	}
	if err != nil {
		r.cmd.Process.Kill()
		<-exited
		return nil, fmt.Errorf("%w: %s", err, r.errors)
	}
	go r.wait(exited, read)
	return r, nil
}

func (m *Machine) path(name string) string { return filepath.Join(m.Dir, name) }

// prepare makes what lasts as long as the machine: its firmware's variables and its TPM.
func (m *Machine) prepare() error {
	if m.tpm != nil {
		return nil
	}
	if err := copyFile(m.Firmware.Variables, m.path("variables")); err != nil {
		return err
	}
	m.tpm = &softtpm.TPM{Socket: m.path("tpm"), State: m.TPMState, BuiltIn: true}
	return nil
}

// arguments are QEMU's. One processor each, since two machines share this one's. AES would have Go choose AES-GCM, which takes three times as long as ChaCha20 when it is emulated.
func (m *Machine) arguments() []string {
	clock := "utc"
	if !m.Clock.IsZero() {
		clock = m.Clock.UTC().Format("2006-01-02T15:04:05")
	}
	return []string{
		"-M", "q35", "-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max,-aes", "-smp", "1", "-m", "640",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-rtc", "base=" + clock,
		"-drive", "if=pflash,format=raw,readonly=on,file=" + m.Firmware.Code,
		"-drive", "if=pflash,format=raw,file=" + m.path("variables"),
		"-chardev", "socket,id=tpm,path=" + m.tpm.Control(), "-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm0",
		"-netdev", "tap,id=net0,ifname=" + m.Tap + ",script=no,downscript=no",
		// Without an option ROM, or the firmware would look for something to boot on the network.
		"-device", "virtio-net-pci,netdev=net0,romfile=",
		"-device", "virtio-rng-pci", "-device", "i6300esb", "-action", "watchdog=reset",
		"-qmp", "unix:" + m.path("qmp") + ",server=on,wait=off",
		"-serial", "stdio",
		"-chardev", "socket,id=shell,path=" + m.path("shell") + ",server=on,wait=off", "-serial", "chardev:shell",
		"-device", "virtio-blk-pci,drive=disk,write-cache=on,discard=off,write-zeroes=off",
	}
}

// wait finds out why the machine ended.
func (r *Run) wait(exited, read <-chan struct{}) {
	<-exited
	<-read
	r.machine.tpm.Stop()
	cause, known := r.qmp.cause()
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.cut:
		r.cause = Cut
	case known:
		r.cause = cause
	default:
		r.err = fmt.Errorf("QEMU ended by itself: %s: %s", r.cmd.ProcessState, r.errors)
	}
	close(r.ended)
}

// Wait returns why the machine ended.
func (r *Run) Wait(ctx context.Context) (Cause, error) {
	select {
	case <-r.ended:
		return r.cause, r.err
	case <-ctx.Done():
		return "", fmt.Errorf("the machine goes on: %w", context.Cause(ctx))
	}
}

// Ended is closed when the machine has ended.
func (r *Run) Ended() <-chan struct{} { return r.ended }

// Cut cuts the power. What was written to a volatile disk since the last flush is lost but for what keep is true for; how many
// writes are lost is returned.
func (r *Run) Cut(keep func() bool) (lost int, err error) {
	r.mu.Lock()
	r.cut = true
	r.mu.Unlock()
	r.cmd.Process.Kill()
	<-r.ended
	if r.disk == nil {
		return 0, nil
	}
	return r.disk.lose(keep)
}

// Stop ends the machine for good.
func (r *Run) Stop() {
	r.cmd.Process.Kill()
	<-r.ended
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if closeErr := out.Close(); err == nil {
		err = closeErr
	}
	return err
}
