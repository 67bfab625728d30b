package nettest

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
)

// Record is a record for a multicast DNS responder to publish.
type Record struct {
	name string
	kind uint16
	data []byte
}

// SRV is a server record without priority and weight (RFC 2782).
func SRV(name, target string, port uint16) Record {
	data := binary.BigEndian.AppendUint16([]byte{0, 0, 0, 0}, port)
	for label := range strings.SplitSeq(target, ".") {
		data = append(append(data, byte(len(label))), label...)
	}
	return Record{name, 33, append(data, 0)}
}

// TXT is a text record with these character strings.
func TXT(name string, texts ...string) Record {
	var data []byte
	for _, s := range texts {
		data = append(append(data, byte(len(s))), s...)
	}
	return Record{name, 16, data}
}

// Address is the record of an IPv4 address.
func Address(name, address string) Record { return Record{name, 1, net.ParseIP(address).To4()} }

// Avahi starts a real avahi-daemon on the servers' interface, whose host name is host.local. services are folders' contents as in
// /etc/avahi/services: instances of services, which is all that its files can publish. The records come by D-Bus.
func (n *Network) Avahi(t testing.TB, host string, services map[string]string, records ...Record) *Log {
	t.Helper()
	dir, err := os.MkdirTemp("", "avahi-") // a unix socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	bus := "unix:path=" + filepath.Join(dir, "bus")
	write := func(name, content string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("bus.conf", fmt.Sprintf(`<busconfig><type>system</type><listen>%s</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/></policy></busconfig>`, bus))
	write("avahi.conf", fmt.Sprintf("[server]\nhost-name=%s\nallow-interfaces=%s\nenable-dbus=yes\nratelimit-interval-usec=0\n"+
		"[publish]\npublish-hinfo=no\npublish-workstation=no\n", host, n.Server))
	if err := os.Mkdir(filepath.Join(dir, "services"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range services {
		write(filepath.Join("services", name), content)
	}
	n.Serve(t, bus, exec.Command("dbus-daemon", "--config-file="+filepath.Join(dir, "bus.conf"), "--nofork", "--nopidfile", "--print-address"))
	// It gives its folder to this user, and an ordinary user's namespace has no other.
	write("passwd", "avahi:x:0:0::/:/bin/false\n")
	write("group", "avahi:x:0:\n")
	// Its folders are fixed, and the machine may have another running.
	cmd := exec.Command("unshare", "--mount", "sh", "-ec", `mount -t tmpfs avahi /run
mkdir /run/avahi-daemon
mount --bind "$1/services" /etc/avahi/services
mount --bind "$1/passwd" /etc/passwd
mount --bind "$1/group" /etc/group
exec avahi-daemon --file "$1/avahi.conf" --no-drop-root --no-chroot --no-rlimits`, "sh", dir)
	cmd.Env = append(os.Environ(), "DBUS_SYSTEM_BUS_ADDRESS="+bus)
	log := n.Serve(t, "Server startup complete", cmd)
	if err := publish(t, bus, records); err != nil {
		t.Fatalf("nettest: avahi: %v\n%s", err, log)
	}
	return log
}

// publish has avahi publish records until the test ends, to all that ask on any interface.
func publish(t testing.TB, bus string, records []Record) error {
	if len(records) == 0 {
		return nil
	}
	conn, err := dbus.Connect(bus)
	if err != nil {
		return err
	}
	t.Cleanup(func() { conn.Close() })
	const service = "org.freedesktop.Avahi"
	var path dbus.ObjectPath
	if err := conn.Object(service, "/").Call(service+".Server.EntryGroupNew", 0).Store(&path); err != nil {
		return err
	}
	group := conn.Object(service, path)
	const any, class, ttl = int32(-1), uint16(1), uint32(120)
	for _, r := range records {
		err := group.Call(service+".EntryGroup.AddRecord", 0, any, any, uint32(0), r.name, class, r.kind, ttl, r.data).Err
		if err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
	}
	return group.Call(service+".EntryGroup.Commit", 0).Err
}
