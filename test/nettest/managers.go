package nettest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// Networkd is a real systemd-networkd.
type Networkd struct {
	*Log
	parent int // process id
}

// Freeze stops it for good as it is, so that it writes nothing any more.
func (d *Networkd) Freeze(t testing.TB) {
	t.Helper()
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", d.parent, d.parent))
	if err != nil {
		t.Fatal(err)
	}
	for _, child := range strings.Fields(string(children)) {
		pid, err := strconv.Atoi(child)
		if err == nil {
			err = syscall.Kill(pid, syscall.SIGSTOP)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Networkd starts a real systemd-networkd that configures the device's interface as the lines below [Match] say, and keeps
// its state below run as it would below /run.
func (n *Network) Networkd(t testing.TB, run string, config ...string) *Networkd {
	t.Helper()
	netif, etc := filepath.Join(run, "systemd/netif"), t.TempDir()
	for _, dir := range []string{"links", "leases", "lldp"} {
		if err := os.MkdirAll(filepath.Join(netif, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(etc, "10-device.network"), "[Match]\nName="+n.Device+"\n"+strings.Join(config, "\n")+"\n", 0o644)
	// It becomes this user, and an ordinary user's namespace has no other.
	write(t, filepath.Join(etc, "passwd"), "systemd-network:x:0:0::/:/bin/false\n", 0o644)
	// It waits for udev to know an interface, unless /sys is read-only as in a container.
	script := fmt.Sprintf(`mkdir -p /run/systemd/netif
		mount --bind %s /run/systemd/netif
		mount --bind %s /etc/systemd/network
		mount --bind /etc/systemd/network/passwd /etc/passwd
		/lib/systemd/systemd-networkd`, netif, etc)
	cmd := private(script)
	cmd.Env = append(cmd.Env, "SYSTEMD_LOG_LEVEL=debug", "SYSTEMD_LOG_TARGET=console")
	log := n.Inside.serve(t, "Enumeration completed", cmd)
	return &Networkd{log, cmd.Process.Pid}
}

// private runs a shell script in mount and process namespaces of its own, so that what it starts ends with it.
func private(script string) *exec.Cmd {
	cmd := exec.Command("sh", "-c", "set -e\nmount -t proc proc /proc\nmount -t sysfs -o ro sysfs /sys\nmount -t tmpfs tmpfs /run\n"+script+"\n:")
	cmd.Env = os.Environ()
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Cloneflags: syscall.CLONE_NEWPID}
	return cmd
}

func write(t testing.TB, file, content string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}

// NetworkManager starts a real NetworkManager that configures the device's interface as a connection of the given lines says,
// in the form of its keyfile plug-in, with one of its DHCP clients: "internal" or "dhclient". Its state and the socket of a
// D-Bus of its own are below run as they would be below /run.
func (n *Network) NetworkManager(t testing.TB, run, client string, connection ...string) *Log {
	t.Helper()
	etc := t.TempDir()
	for _, dir := range []string{filepath.Join(run, "NetworkManager"), filepath.Join(run, "dbus"), filepath.Join(etc, "system-connections")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	socket := filepath.Join(run, "dbus/system_bus_socket")
	write(t, filepath.Join(etc, "dbus.conf"), `<busconfig><type>system</type><listen>unix:path=`+socket+`</listen><auth>EXTERNAL</auth>
		<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/></policy></busconfig>`, 0o644)
	write(t, filepath.Join(etc, "NetworkManager.conf"), "[main]\nplugins=keyfile\ndns=none\nrc-manager=unmanaged\nno-auto-default=*\n"+
		"auth-polkit=false\ndhcp="+client+"\n[keyfile]\nunmanaged-devices=*,except:interface-name:"+n.Device+"\n", 0o644)
	write(t, filepath.Join(etc, "system-connections/device.nmconnection"), "[connection]\nid=device\nuuid=143136ff-0000-4000-8000-000000008572\n"+
		"type=ethernet\ninterface-name="+n.Device+"\n"+strings.Join(connection, "\n")+"\n", 0o600)
	write(t, filepath.Join(etc, "dhclient.conf"), "option sztp-redirect code 143 = string;\nalso request sztp-redirect;\n", 0o644)
	cmd := private(fmt.Sprintf(`mkdir /run/NetworkManager
		mount --bind %s /run/NetworkManager
		mount -t tmpfs tmpfs /var/lib/NetworkManager
		mount --bind %s /etc/NetworkManager
		dbus-daemon --config-file=/etc/NetworkManager/dbus.conf --nopidfile --fork
		NetworkManager --no-daemon --debug`, filepath.Join(run, "NetworkManager"), etc))
	cmd.Env = append(cmd.Env, "DBUS_SYSTEM_BUS_ADDRESS=unix:path="+socket)
	return n.Inside.serve(t, "manager: startup complete", cmd)
}
