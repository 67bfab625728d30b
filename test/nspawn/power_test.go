package nspawn

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xpu-sztp/ztp/pkg/slot"
	"github.com/xpu-sztp/ztp/test/lab/netlab"
)

// boot is one time that the machine runs.
type boot struct {
	nspawn *exec.Cmd
	leader int           // process id of its systemd
	ended  chan struct{} // closed when nspawn was waited for
	output bytes.Buffer  // of the console
}

// patience bounds every wait: a machine that many share may take its time.
const patience = 3 * time.Minute

// start powers the machine on and returns when systemd has started everything. It returns the slot that was started.
func (m *machine) start() string {
	m.t.Helper()
	name, image, err := slot.Boot(m.path("var/lib/ztp/slots"))
	if err != nil {
		m.t.Fatal("boot loader:", err)
	}
	// The rest of the image is the same.
	if out, err := exec.Command("tar", "-C", m.root, "-xf", image, "etc/os-release").CombinedOutput(); err != nil {
		m.t.Fatalf("boot: %v: %s", err, out)
	}
	// As udev does for a chip: the unprivileged part of the agent uses it.
	if err := os.Chmod(filepath.Join(m.tpm, "tpm.sock"), 0o666); err != nil {
		m.t.Fatal(err)
	}
	b := &boot{ended: make(chan struct{})}
	groups := ownGroups(m.t, m.name)
	// nspawn makes its control groups below the one it is in, where two of them would meet.
	script := `for g in $1; do echo $$ >"$g/cgroup.procs"; done; shift; exec "$@"`
	b.nspawn = exec.Command("/bin/sh", "-c", script, "sh", strings.Join(groups, " "),
		"systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--console=read-only", "--boot", "--machine="+m.name,
		"--directory="+m.root, "--network-namespace-path="+m.ns.Path(), "--capability=CAP_NET_ADMIN", "--bind="+m.tpm+":/run/tpm", "systemd.show_status=0")
	b.nspawn.Env = append(os.Environ(), "SYSTEMD_NSPAWN_API_VFS_WRITABLE=network")
	b.nspawn.Stdout, b.nspawn.Stderr = &b.output, &b.output
	b.nspawn.WaitDelay = patience
	if err := netlab.Start(b.nspawn); err != nil {
		m.t.Fatal(err)
	}
	m.boot = b
	go func() {
		b.nspawn.Wait()
		removeGroups(groups)
		close(b.ended)
	}()
	m.await("systemd is up", func() bool {
		if b.leader == 0 {
			b.leader = childOf(b.nspawn.Process.Pid, "systemd")
			return false
		}
		_, code := m.try("systemctl", "is-active", "multi-user.target")
		return code == 0
	})
	return name
}

// await waits until something is the case.
func (m *machine) await(what string, is func() bool) {
	m.t.Helper()
	m.awaitFor(patience, what, is)
}

func (m *machine) awaitFor(longest time.Duration, what string, is func() bool) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), longest)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-m.boot.ended:
			m.t.Fatalf("the machine went down (%s) before: %s", m.boot.nspawn.ProcessState, what)
		case <-ctx.Done():
			m.t.Fatalf("not so within %v: %s\n%s", longest, what, m.journal())
		}
	}
}

// awaitReboot waits until the machine has gone down to come up again.
func (m *machine) awaitReboot() {
	m.t.Helper()
	select {
	case <-m.boot.ended:
	case <-time.After(patience):
		m.t.Fatalf("no reboot within %v\n%s", patience, m.journal())
	}
	const rebooting = 133 // systemd-nspawn(1), with --keep-unit
	if code := m.boot.nspawn.ProcessState.ExitCode(); code != rebooting {
		m.t.Fatalf("the machine ended with %d instead of a reboot", code)
	}
}

// reboot has the machine shut down and start again.
func (m *machine) reboot() string {
	m.t.Helper()
	m.run("systemctl", "reboot")
	m.awaitReboot()
	return m.start()
}

// powerOff takes the power away.
func (m *machine) powerOff() {
	if m.boot == nil {
		return
	}
	m.boot.nspawn.Process.Kill()
	if m.boot.leader > 0 {
		unix.Kill(m.boot.leader, unix.SIGKILL)
	}
	<-m.boot.ended
}

// childOf returns the child of a process that has a name, or 0.
func childOf(parent int, name string) int {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		stat, err := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
		if err != nil {
			continue
		}
		// proc(5): the name is in parentheses, then come the state and the parent.
		head, tail, _ := strings.Cut(string(stat), ") ")
		fields := strings.Fields(tail)
		if pid, comm, ok := strings.Cut(head, " ("); ok && comm == name && len(fields) > 1 && fields[1] == strconv.Itoa(parent) {
			n, _ := strconv.Atoi(pid)
			return n
		}
	}
	return 0
}

// ownGroups makes a control group in each hierarchy that systemd manages, below the one of this process.
func ownGroups(t *testing.T, name string) (groups []string) {
	t.Helper()
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	places := map[string][]string{"": {"/sys/fs/cgroup/unified", "/sys/fs/cgroup"}, "name=systemd": {"/sys/fs/cgroup/systemd"}}
	for line := range strings.Lines(string(own)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		for _, place := range places[fields[1]] {
			if _, err := os.Stat(filepath.Join(place, "cgroup.procs")); err != nil {
				continue
			}
			group := filepath.Join(place, fields[2], "ztp-"+name)
			if err := os.MkdirAll(group, 0o755); err != nil {
				t.Fatal(err)
			}
			groups = append(groups, group)
			break
		}
	}
	return groups
}

// removeGroups removes control groups, and those in them, once their processes have gone.
func removeGroups(groups []string) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 500 {
		if emptied(groups) {
			return
		}
		<-tick.C
	}
}

func emptied(groups []string) bool {
	gone := true
	for _, group := range groups {
		var below []string
		filepath.WalkDir(group, func(path string, e os.DirEntry, err error) error {
			if err == nil && e.IsDir() {
				below = append(below, path)
			}
			return nil
		})
		for _, path := range slices.Backward(below) {
			gone = os.Remove(path) == nil && gone
		}
	}
	return gone
}
