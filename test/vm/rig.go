package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/xpu-sztp/ztp/pkg/state"
	"github.com/xpu-sztp/ztp/test/lab"
	"github.com/xpu-sztp/ztp/test/lab/event"
	"github.com/xpu-sztp/ztp/test/lab/pki"
	"github.com/xpu-sztp/ztp/test/vm/machine"
)

// console is who notes lines of the serial console.
const console = "console"

// plan is what a scenario wants of its device and network.
type plan struct {
	family   lab.Family
	loader   string    // systemdBoot, newerBoot or grub
	template string    // of the identity's key, in the TCG's names
	encrypts bool      // a second key decrypts, and everything is encrypted for it
	clock    time.Time // at each power-on; zero is now
	image    string    // further keys of the table [image] of every image's configuration
	volatile bool      // the disk has a write cache, for power cuts
}

// rig is a device as it left the factory, on a network of its own. Its errors are what was not as it must be.
type rig struct {
	*plan
	dir      string
	ztp      string
	boot     string // the program of systemd-boot; empty is what the plan says
	base     base
	lab      *lab.Lab
	log      *event.Log
	machine  *machine.Machine
	decrypts []byte       // certificate of the second key, in PEM
	run      *machine.Run // nil while the power is off
	boots    []boot
	on       time.Time // when the power was switched on last
}

// boot is one life of the system, for the report.
type boot struct {
	slot, version string        // empty when nothing came up
	up, lasted    time.Duration // from power-on to the first unit of the system, and to the end
	cause         machine.Cause
}

// build makes the network, the device, its identity and its disk.
func (r *rig) build(ctx context.Context, b base) error {
	r.base = b
	var err error
	if r.lab, err = lab.New(lab.Options{Family: r.family, NoDHCP: true, Log: r.log}); err != nil {
		return err
	}
	if err := connect(ctx, r.lab, r.dir); err != nil {
		return err
	}
	tpm := filepath.Join(r.dir, "tpmstate")
	decrypts, err := identify(ctx, r.lab, r.ztp, filepath.Join(r.dir, "factory"), tpm, r.template, r.encrypts)
	if err != nil {
		return fmt.Errorf("factory: %w", err)
	}
	if decrypts != nil {
		r.decrypts = pki.PEM(decrypts)
		r.lab.Encrypt(decrypts)
	}
	carton, err := r.makeImage(ctx, "1.0.0", nil)
	if err != nil {
		return err
	}
	firmware, err := machine.FindFirmware()
	if err != nil {
		return err
	}
	r.machine = &machine.Machine{
		Dir: r.dir, Disk: filepath.Join(r.dir, "disk"), TPMState: tpm, Tap: tap, Firmware: firmware, Clock: r.clock, Volatile: r.volatile,
		Console: r.hear,
	}
	return r.makeDisk(ctx, carton)
}

func (r *rig) makeDisk(ctx context.Context, carton string) error {
	loader, program := r.loader, r.boot
	if r.loader == newerBoot {
		loader = systemdBoot
		if program == "" {
			program = r.base.newer
		}
	}
	disk := exec.CommandContext(ctx, filepath.Join(scripts, "disk"), r.machine.Disk, loader, r.base.userland, carton)
	// An emulated timer may be late on a busy machine, which the kernel would take for one that is not connected.
	disk.Env = append(os.Environ(), "COMMAND_LINE=no_timer_check", "SYSTEMD_BOOT="+program)
	return run(disk)
}

func (r *rig) close() {
	if r.run != nil {
		r.run.Stop()
	}
	if r.lab != nil {
		r.lab.Close()
	}
}

var bootLine = regexp.MustCompile(`lab-boot slot=(\S+) version=(\S+) clock=(\d+)`)

// hear notes a line of the console.
func (r *rig) hear(line string) {
	r.log.Add(console, event.DeviceLog, nil, "%s", line)
	if m := bootLine.FindStringSubmatch(line); m != nil {
		r.log.Add("device", event.PowerOn, []string{"slot", m[1], "os-version", m[2], "clock", m[3]}, "slot %s runs, version %s", m[1], m[2])
	}
}

// powerOn switches the power on.
func (r *rig) powerOn(ctx context.Context) (err error) {
	r.on = time.Now()
	r.boots = append(r.boots, boot{})
	r.log.Add("lab", event.CableIn, nil, "power on, for the %d. time", len(r.boots))
	r.run, err = r.machine.PowerOn(ctx)
	return err
}

// comesUp waits until a system has come up, and returns its slot.
func (r *rig) comesUp(ctx context.Context) (slot string, err error) {
	e, err := r.await(ctx, func(e event.Event) bool { return e.Kind == event.PowerOn })
	if err != nil {
		return "", fmt.Errorf("nothing comes up: %w", err)
	}
	now := &r.boots[len(r.boots)-1]
	now.slot, now.version, now.up = e.Attrs["slot"], e.Attrs["os-version"], e.At.Sub(r.on)
	return now.slot, nil
}

// runs waits until the system of a slot has come up.
func (r *rig) runs(ctx context.Context, slot, version string) error {
	_, err := r.comesUp(ctx)
	if now := r.boots[len(r.boots)-1]; err == nil && (now.slot != slot || now.version != version) {
		err = fmt.Errorf("slot %s runs with version %s, want slot %s with %s", now.slot, now.version, slot, version)
	}
	return err
}

// loaderSays prints, in the machine, which slot the boot loader itself has as the good one: "ztp-b.conf" or "ztp_good=b". The
// variable is UTF-16 (UEFI); it is not there before the first image was installed.
const loaderSays = `cat /sys/firmware/efi/efivars/LoaderEntryDefault-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f 2>/dev/null | tr -d '\000'; ` +
	`sed -n '/^ztp_good=/p' /efi/grub/grubenv 2>/dev/null || :`

// good wants the boot loader itself to have a slot as the good one. Of the slot that the factory made so it need not know.
func (r *rig) good(ctx context.Context, slot string) error {
	if slot == "a" {
		return nil
	}
	text, err := r.sh(ctx, loaderSays)
	if err == nil && !strings.Contains(text, r.goodSlot(slot)) {
		err = fmt.Errorf("the boot loader would not start slot %s next: %.200q", slot, text)
	}
	return err
}

func (r *rig) goodSlot(slot string) string {
	if r.loader == grub {
		return "ztp_good=" + slot
	}
	return "ztp-" + slot + ".conf"
}

// await waits for an event since the last power-on. It fails when the machine ends before.
func (r *rig) await(ctx context.Context, match func(event.Event) bool) (event.Event, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if running := r.run; running != nil {
		go func() {
			select {
			case <-running.Ended():
				cancel(errors.New("the machine ended"))
			case <-ctx.Done():
			}
		}()
	}
	return r.log.Wait(ctx, r.since(match))
}

// since restricts a matcher to what happened after the last power-on.
func (r *rig) since(match func(event.Event) bool) func(event.Event) bool {
	on := r.on
	return func(e event.Event) bool { return e.At.After(on) && match(e) }
}

// ends waits until the machine stops for the given cause.
func (r *rig) ends(ctx context.Context, want machine.Cause) error {
	cause, err := r.run.Wait(ctx)
	r.ended(cause)
	if err == nil && cause != want {
		err = fmt.Errorf("the machine ended by %s, want %s", cause, want)
	}
	return err
}

func (r *rig) ended(cause machine.Cause) {
	now := &r.boots[len(r.boots)-1]
	now.cause, now.lasted = cause, time.Since(r.on)
	r.run = nil
	r.log.Add("lab", event.Reboot, []string{"cause", string(cause)}, "the machine ended: %s", cause)
}

// reported waits for a report to the owner's server.
func (r *rig) reported(ctx context.Context, kind string) error {
	_, err := r.await(ctx, event.Is(event.Report, "progress-type", kind))
	if err != nil {
		return fmt.Errorf("no report %s: %w", kind, err)
	}
	return nil
}

// sh runs a command in the machine and returns what it printed; it must succeed.
func (r *rig) sh(ctx context.Context, command string) (string, error) {
	output, code, err := r.run.Shell.Run(ctx, command)
	if err == nil && code != 0 {
		err = fmt.Errorf("%s: exit status %d: %s", command, code, output)
	}
	return output, err
}

// status returns what `ztp status --json` says in the machine.
func (r *rig) status(ctx context.Context) (*state.Status, error) {
	output, _, err := r.run.Shell.Run(ctx, "ztp status --json")
	if err != nil {
		return nil, err
	}
	var s state.Status
	if err := json.Unmarshal([]byte(output), &s); err != nil {
		return nil, fmt.Errorf("ztp status --json: %w: %s", err, output)
	}
	return &s, nil
}

// done waits until the agent has ended, in the machine, and returns its last status.
func (r *rig) done(ctx context.Context) (*state.Status, error) {
	if _, err := r.sh(ctx, `until ztp status --json | grep -q '"phase": *"done"'; do sleep 0.5; done`); err != nil {
		return nil, fmt.Errorf("the agent goes on: %w", err)
	}
	return r.status(ctx)
}

// powerOff has the system shut itself down.
func (r *rig) powerOff(ctx context.Context) error {
	if err := r.run.Shell.Send(ctx, "systemctl poweroff"); err != nil {
		return err
	}
	return r.ends(ctx, machine.Off)
}

// times tells how long everything took.
func (r *rig) times() string {
	var parts []string
	for _, b := range r.boots {
		parts = append(parts, fmt.Sprintf("%s %s up %.0f s of %.0f s", b.slot, b.version, b.up.Seconds(), b.lasted.Seconds()))
	}
	return strings.Join(parts, ", ")
}
