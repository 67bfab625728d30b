package nspawn

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/xpu-sztp/ztp/test/agenttest"
	"github.com/xpu-sztp/ztp/test/lab"
	"github.com/xpu-sztp/ztp/test/lab/device"
	"github.com/xpu-sztp/ztp/test/lab/netlab"
)

// machine is a device with a real systemd, the unit as it is shipped, a software TPM and a cable to a laboratory. Its two slots
// are files, which the test starts in the place of a boot loader; all that differs between the systems is what os-release says.
type machine struct {
	t    *testing.T
	lab  *lab.Lab
	ns   *netlab.Namespace
	root string // of the device, as it is on the disk
	tpm  string // the folder with the socket of its TPM
	name string

	boot *boot
}

func newMachine(t *testing.T, family lab.Family, config string) *machine {
	t.Helper()
	l, err := lab.New(lab.Options{Family: family})
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, lab: l}
	// A unix socket's path must be short, which t.TempDir is not.
	dir, err := os.MkdirTemp("", "nspawn-")
	if err != nil {
		t.Fatal(err)
	}
	m.name = filepath.Base(dir)
	t.Cleanup(func() {
		m.powerOff()
		if t.Failed() {
			for _, e := range l.Log.All() {
				t.Logf("%s %-10s %s", e.At.Format("05.000"), e.Who, e.Text)
			}
			if m.boot != nil {
				t.Logf("console:\n%s", m.boot.output.String())
			}
		}
		if m.root != "" {
			if err := unix.Unmount(m.root, unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		}
		l.Close()
		os.RemoveAll(dir)
	})
	if m.ns, err = netlab.New(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.ns.Close() })
	cable, err := l.Connect(m.ns, "eth0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.PlugIn(cable); err != nil {
		t.Fatal(err)
	}
	d, err := l.Device(t.Context(), device.Options{Dir: dir, ZTP: agenttest.Program(), Serial: "LAB-000001", Namespace: m.ns,
		Config: "[identity]\ntpm = \"unix:/run/tpm/tpm.sock\"\n[reboot]\ncommand = [\"systemctl\", \"reboot\"]\n" + config})
	if err != nil {
		t.Fatal(err)
	}
	m.tpm = d.Path("dev")
	m.layOver(dir)
	m.install(d)
	return m
}

// layOver lets the machine change a tree that many machines share.
func (m *machine) layOver(dir string) {
	m.t.Helper()
	merged := filepath.Join(dir, "machine")
	for _, folder := range []string{"upper", "work", "machine"} {
		if err := os.Mkdir(filepath.Join(dir, folder), 0o755); err != nil {
			m.t.Fatal(err)
		}
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", tree(), filepath.Join(dir, "upper"), filepath.Join(dir, "work"))
	if err := unix.Mount("overlay", merged, "overlay", 0, options); err != nil {
		m.t.Fatal("overlay:", err)
	}
	m.root = merged
}

// install puts the agent and its units onto the image, as README.md tells vendors to, and what makes the device this one.
func (m *machine) install(d *device.Device) {
	m.t.Helper()
	files := map[string]string{agenttest.Program(): "usr/bin/ztp"}
	files["../../systemd/80-ztp.preset"] = "usr/lib/systemd/system-preset/80-ztp.preset"
	files["../../systemd/ztp.sysusers"] = "usr/lib/sysusers.d/ztp.conf"
	files["../../systemd/ztp.tmpfiles"] = "usr/lib/tmpfiles.d/ztp.conf"
	for _, name := range unitFiles(m.t) {
		files["../../systemd/"+name] = "usr/lib/systemd/system/" + name
	}
	for from, to := range files {
		m.copy(from, to)
	}
	for _, folder := range []string{"usr/lib/ztp", "etc/ztp", "etc/ssh", "var/lib/ztp"} {
		if err := os.MkdirAll(m.path(filepath.Dir(folder)), 0o755); err != nil {
			m.t.Fatal(err)
		}
		if out, err := exec.Command("cp", "-a", d.Path(folder), m.path(folder)).CombinedOutput(); err != nil {
			m.t.Fatalf("%v: %s", err, out)
		}
	}
	m.write("etc/machine-id", fmt.Sprintf("%032x\n", os.Getpid()))
	m.write("etc/hostname", m.name+"\n")
	preset := []string{"--root=" + m.root, "--quiet", "preset"}
	if out, err := exec.Command("systemctl", append(preset, unitFiles(m.t)...)...).CombinedOutput(); err != nil {
		m.t.Fatalf("systemctl preset: %v: %s", err, out)
	}
}

// unitFiles are the names of the units.
func unitFiles(t *testing.T) []string {
	t.Helper()
	var names []string
	for _, kind := range []string{"service", "socket", "path", "timer", "target"} {
		found, err := filepath.Glob("../../systemd/*." + kind)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range found {
			names = append(names, filepath.Base(file))
		}
	}
	return names
}

func (m *machine) path(file string) string { return filepath.Join(m.root, file) }

func (m *machine) copy(from, to string) {
	m.t.Helper()
	content, err := os.ReadFile(from)
	if err != nil {
		m.t.Fatal(err)
	}
	info, err := os.Stat(from)
	if err != nil {
		m.t.Fatal(err)
	}
	m.write(to, string(content))
	if err := os.Chmod(m.path(to), info.Mode().Perm()); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) write(file, content string) {
	m.t.Helper()
	if err := os.MkdirAll(filepath.Dir(m.path(file)), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(m.path(file), []byte(content), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) read(file string) string {
	content, err := os.ReadFile(m.path(file))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		m.t.Error(err)
	}
	return string(content)
}
