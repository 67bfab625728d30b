package device

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/xpu-sztp/ztp/pkg/slot"
	"github.com/xpu-sztp/ztp/test/lab/event"
	"github.com/xpu-sztp/ztp/test/lab/netlab"
)

// daemon is one run of `ztp daemon`.
type daemon struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when it was waited for
}

// End is how a run of the daemon ended.
type End struct {
	Reboot bool // the device asked for a reboot
	Exit   int  // the exit code; -1 when a signal ended it
}

const (
	stopTimeout   = 20 * time.Second
	shutdownDelay = 2 * time.Second // from the request to reboot to the end of a daemon that goes on
)

// PowerOn plays power-on: the TPM is reset, firmware chooses the slot, its image is laid out, run/ is empty, and init starts
// the daemon.
func (d *Device) PowerOn(ctx context.Context) error {
	if d.tpm != nil {
		if err := d.tpm.Start(ctx); err != nil {
			return err
		}
	}
	name, image, err := d.choose()
	if err != nil {
		return fmt.Errorf("firmware: %w", err)
	}
	if err := layOut(image, d.Root()); err != nil {
		return fmt.Errorf("firmware: %w", err)
	}
	if err := os.RemoveAll(d.Path("run")); err != nil {
		return err
	}
	if err := os.MkdirAll(d.Path("run"), 0o755); err != nil {
		return err
	}
	d.boots++
	version := d.runningVersion()
	d.Log.Add("device", event.PowerOn, []string{"slot", name, "os-version", version, "boot", strconv.Itoa(d.boots)},
		"boot %d: firmware starts slot %s, which is %s %s", d.boots, name, d.Factory.OSName, version)
	return d.StartDaemon()
}

func (d *Device) choose() (name, image string, err error) {
	if d.Firmware != nil {
		return d.Firmware(d)
	}
	return slot.Boot(d.Slots())
}

// Hang plays a boot that gets no further than the firmware: the slot it chose does not come up, and somebody resets the device.
func (d *Device) Hang() error {
	name, _, err := d.choose()
	d.boots++
	d.Log.Add("device", event.PowerOn, []string{"slot", name, "boot", strconv.Itoa(d.boots)}, "boot %d: slot %s hangs", d.boots, name)
	return err
}

func (d *Device) runningVersion() string {
	release, _ := os.ReadFile(d.Path(releaseFile))
	for line := range strings.Lines(string(release)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "IMAGE_VERSION="); ok {
			return strings.Trim(value, `"`)
		}
	}
	return ""
}

// StartDaemon starts the daemon without a boot, as init does after it died.
func (d *Device) StartDaemon() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.daemon.alive() {
		return errors.New("the daemon runs already")
	}
	arguments := slices.Clone(d.Command)
	if d.Split && d.Command[0] == "daemon" {
		if err := d.startPrivileged(); err != nil {
			return err
		}
		arguments = append(arguments, "--onboard-socket", d.onboardSocket())
	}
	run, err := d.launch("the daemon", arguments...)
	if err == nil {
		d.daemon = run
	}
	return err
}

// launch starts the agent's program.
func (d *Device) launch(name string, arguments ...string) (*daemon, error) {
	logFile, err := os.OpenFile(filepath.Join(d.Dir, "daemon.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	read, write, err := os.Pipe()
	if err != nil {
		logFile.Close()
		return nil, err
	}
	cmd := exec.Command(d.ZTP, append(arguments, "--root", d.Root())...)
	cmd.Stdout, cmd.Stderr = write, write
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	start := netlab.Start
	if d.Namespace != nil {
		start = d.Namespace.Start
	}
	err = start(cmd)
	write.Close()
	if err != nil {
		read.Close()
		logFile.Close()
		return nil, fmt.Errorf("start %s: %w", d.ZTP, err)
	}
	go d.copyLog(read, logFile)
	run := &daemon{cmd: cmd, ended: make(chan struct{})}
	go func() {
		cmd.Wait()
		code := strconv.Itoa(cmd.ProcessState.ExitCode())
		d.Log.Add("device", event.Exit, []string{"code", code}, "%s ended: %s", name, cmd.ProcessState)
		close(run.ended)
	}()
	return run, nil
}

// copyLog turns what the daemon prints into events. Scripts may keep the pipe open after the daemon's end.
func (d *Device) copyLog(from io.ReadCloser, to io.WriteCloser) {
	defer from.Close()
	defer to.Close()
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		fmt.Fprintln(to, lines.Text())
		d.Log.Add("device", event.DeviceLog, nil, "%s", lines.Text())
	}
	io.Copy(to, from)
}

// alive reports whether the run has not ended yet. A nil run has never begun.
func (r *daemon) alive() bool {
	if r == nil {
		return false
	}
	select {
	case <-r.ended:
		return false
	default:
		return true
	}
}

// last returns the latest run of the daemon, which may have ended, or nil.
func (d *Device) last() *daemon {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.daemon
}

// PID returns the daemon's process id, or 0 when it does not run.
func (d *Device) PID() int {
	if run := d.last(); run.alive() {
		return run.cmd.Process.Pid
	}
	return 0
}

// Wait waits until the daemon ended, which it may have done already, or asked for a reboot. A daemon that asked for a reboot
// and does not end by itself is stopped like a shutdown stops it.
func (d *Device) Wait(ctx context.Context) (End, error) {
	run := d.last()
	if run == nil {
		return End{}, errors.New("the daemon was never started")
	}
	select {
	case <-d.resets:
		d.noteReboot()
		if !d.EagerReboot {
			select {
			case <-run.ended:
			case <-time.After(shutdownDelay):
			}
		}
		exit := d.Stop()
		d.stopPrivileged()
		return End{Reboot: true, Exit: exit}, nil
	case <-run.ended:
	case <-ctx.Done():
		return End{}, context.Cause(ctx)
	}
	asked, err := d.drainResets(ctx)
	if err != nil {
		return End{}, err
	}
	if asked {
		d.noteReboot()
	}
	return End{Reboot: asked, Exit: run.cmd.ProcessState.ExitCode()}, nil
}

func (d *Device) noteReboot() {
	d.Log.Add("device", event.Reboot, nil, "the device reboots")
}

// Run powers the device on and lets it reboot as often as it asks, at most maxBoots times, until the daemon ends by itself.
func (d *Device) Run(ctx context.Context, maxBoots int) (exit int, err error) {
	for range maxBoots {
		if err := d.PowerOn(ctx); err != nil {
			return 0, err
		}
		end, err := d.Wait(ctx)
		if err != nil || !end.Reboot {
			return end.Exit, err
		}
	}
	return 0, fmt.Errorf("the device asked for more than %d reboots", maxBoots-1)
}

// Stop ends the daemon with SIGTERM, or SIGKILL when that has no effect, and returns the exit code of its last run.
func (d *Device) Stop() int { return d.end(syscall.SIGTERM) }

// Kill ends the daemon with SIGKILL.
func (d *Device) Kill() int { return d.end(syscall.SIGKILL) }

func (d *Device) end(with syscall.Signal) int {
	run := d.last()
	if run == nil {
		return 0
	}
	return run.end(with)
}

func (run *daemon) end(with syscall.Signal) int {
	if run.alive() {
		run.cmd.Process.Signal(with)
	}
	select {
	case <-run.ended:
	case <-time.After(stopTimeout):
		run.cmd.Process.Kill()
		<-run.ended
	}
	return run.cmd.ProcessState.ExitCode()
}

// PowerOff takes the power away: the daemon and whatever it started are gone at once, and so is the TPM.
func (d *Device) PowerOff() {
	if d.Namespace != nil {
		d.Namespace.Kill()
	}
	d.Kill()
	if d.privileged != nil {
		d.privileged.end(syscall.SIGKILL)
	}
	if d.tpm != nil {
		d.tpm.Stop()
	}
}

const syncLine = "sync"

func (d *Device) watchResetButton() {
	lines := bufio.NewScanner(d.fifo)
	for lines.Scan() {
		d.resets <- lines.Text()
	}
}

// drainResets reports whether a reboot was asked for before now. It writes a line itself, so that everything written
// before has been read when that line comes out.
func (d *Device) drainResets(ctx context.Context) (asked bool, err error) {
	if _, err := fmt.Fprintln(d.fifo, syncLine); err != nil {
		return false, err
	}
	for {
		select {
		case line := <-d.resets:
			if line == syncLine {
				return asked, nil
			}
			asked = true
		case <-ctx.Done():
			return asked, context.Cause(ctx)
		}
	}
}
