// Package device simulates the machine that the agent runs on: a root folder instead of a disk, a software TPM that a
// factory provisioned, two image slots, firmware that chooses between them, and a reset button. The agent itself is the
// real program, started as a process inside the device's network namespace.
package device

import (
	"context"
	"crypto"
	"crypto/x509"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/xpu-sztp/ztp/test/lab/event"
	"github.com/xpu-sztp/ztp/test/lab/netlab"
	"github.com/xpu-sztp/ztp/test/lab/pki"
	"github.com/xpu-sztp/ztp/test/lab/softtpm"
	"github.com/xpu-sztp/ztp/tpm"
)

// Options describes a device. Dir, ZTP, Serial and Certify are mandatory.
type Options struct {
	Dir    string // an empty folder of its own; the device's root is Dir/root
	ZTP    string // the agent's program
	Serial string
	Model  string // default "LabDPU-1"
	// Certify is the manufacturer's CA: it issues the IDevID for the key made in the factory.
	Certify func(pub crypto.PublicKey, model, serial string) (*pki.Entity, error)
	// FileKey keeps the IDevID key in a file instead of a software TPM.
	FileKey  bool
	Template tpm.Template // of the key in the TPM; default P-256
	// VoucherAnchors and ServerAnchors are preconfigured (RFC 8572 §5.1).
	VoucherAnchors []*x509.Certificate
	ServerAnchors  []*x509.Certificate
	Factory        Image  // the image in slot a; default LabOS 1.0.0
	Config         string // TOML appended to a drop-in that overrides the factory's configuration
	// Namespace is where the daemon runs; nil is the lab's own.
	Namespace *netlab.Namespace
	// EagerReboot stops the daemon while its reboot command still runs, as systemd may, instead of when it ended.
	EagerReboot bool
	// Firmware chooses the slot to start, and returns it with the file that holds its image; nil is that of installer "file".
	Firmware func(d *Device) (slot, image string, err error)
	// Command is what init starts: arguments of the agent's program; default "daemon".
	Command []string
	// Split has the daemon leave what needs privileges to another process (`ztp onboard`); ZTP_SPLIT=1 in the environment has all
	// do so.
	Split bool
	Log   *event.Log
}

// Device is one simulated machine.
type Device struct {
	Options
	IDevID *pki.Entity

	tpm    *softtpm.TPM // nil with FileKey
	fifo   *os.File
	resets chan string // lines from the reset button

	mu     sync.Mutex
	daemon *daemon // the last run; nil before the first
	// privileged is the last run of the process beside it.
	privileged *daemon
	boots      int
}

// New builds a device as its factory would: key, certificate, trust anchors, configuration and the factory image.
func New(ctx context.Context, o Options) (*Device, error) {
	if o.Model == "" {
		o.Model = "LabDPU-1"
	}
	if o.Template == "" {
		o.Template = tpm.P256
	}
	if o.Factory == (Image{}) {
		o.Factory = Image{OSName: "LabOS", OSVersion: "1.0.0"}
	}
	if len(o.Command) == 0 {
		o.Command = []string{"daemon"}
	}
	o.Split = o.Split || os.Getenv("ZTP_SPLIT") == "1"
	if o.Log == nil {
		o.Log = &event.Log{}
	}
	d := &Device{Options: o, resets: make(chan string, 16)}
	if err := d.build(ctx); err != nil {
		d.Close()
		return nil, fmt.Errorf("build device %s: %w", o.Serial, err)
	}
	return d, nil
}

func (d *Device) build(ctx context.Context) error {
	for _, step := range []func(context.Context) error{d.makeResetButton, d.makeIdentity, d.installAnchors, d.configure, d.installImage} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Root is the device's root folder, the --root of the agent.
func (d *Device) Root() string { return filepath.Join(d.Dir, "root") }

// Path returns the place of one of the device's files on this machine.
func (d *Device) Path(file string) string { return filepath.Join(d.Root(), file) }

// Slots is the folder of the image slots.
func (d *Device) Slots() string { return d.Path("var/lib/ztp/slots") }

// Close takes the power away for good.
func (d *Device) Close() error {
	d.PowerOff()
	if d.fifo != nil {
		d.fifo.Close()
	}
	return nil
}

func (d *Device) makeIdentity(ctx context.Context) error {
	if d.FileKey {
		return d.makeFileIdentity()
	}
	d.tpm = &softtpm.TPM{Socket: d.Path("dev/tpm.sock"), State: filepath.Join(d.Dir, "tpm")}
	if err := os.MkdirAll(filepath.Dir(d.tpm.Socket), 0o755); err != nil {
		return err
	}
	if err := d.tpm.Start(ctx); err != nil {
		return err
	}
	return d.provisionTPM(ctx)
}

func (d *Device) makeFileIdentity() error {
	key, err := pki.NewKey(pki.P256)
	if err != nil {
		return err
	}
	if d.IDevID, err = d.Certify(key.Public(), d.Model, d.Serial); err != nil {
		return err
	}
	if err := pki.SaveKey(d.Path("etc/ztp/idevid.key"), key); err != nil {
		return err
	}
	return d.Write("etc/ztp/idevid.pem", pki.PEM(d.IDevID.Path()...))
}

func (d *Device) installAnchors(context.Context) error {
	for folder, certs := range map[string][]*x509.Certificate{"vouchers": d.VoucherAnchors, "bootstrap-servers": d.ServerAnchors} {
		for i, c := range certs {
			file := fmt.Sprintf("usr/lib/ztp/trust/%s/%d.pem", folder, i)
			if err := d.Write(file, pki.PEM(c)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *Device) installImage(context.Context) error {
	return d.Write("var/lib/ztp/slots/a.img", d.Factory.Bytes())
}

// Write puts a file on the device.
func (d *Device) Write(file string, content []byte) error {
	path := d.Path(file)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, content, 0o644)
}

// makeResetButton makes the pipe that the configured reboot command writes to. It is outside the root because a reboot
// clears run/.
func (d *Device) makeResetButton(context.Context) error {
	path := d.resetPath()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := unix.Mkfifo(path, 0o600); err != nil {
		return fmt.Errorf("reset button: %w", err)
	}
	// Open for writing too, so that the pipe never reads as ended.
	fifo, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("reset button: %w", err)
	}
	d.fifo = fifo
	go d.watchResetButton()
	return nil
}

func (d *Device) resetPath() string { return filepath.Join(d.Dir, "reset") }

// Ztp runs the agent's program with args on the device, with --root set, and returns its standard output and error in one and
// its exit code.
func (d *Device) Ztp(ctx context.Context, args ...string) (output string, code int, err error) {
	cmd := exec.CommandContext(ctx, d.ZTP, append(args, "--root", d.Root())...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState != nil && cmd.ProcessState.Exited() {
		return string(out), cmd.ProcessState.ExitCode(), nil
	}
	return string(out), -1, err
}
