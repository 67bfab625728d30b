package link_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/xpu-sztp/ztp/pkg/link"
	"github.com/xpu-sztp/ztp/test/nettest"
)

// TestAdvertisedForEver has a router whose prefix does not expire: what the kernel makes of it is nobody's configuration.
func TestAdvertisedForEver(t *testing.T) {
	n := nettest.NewNetwork(t, nil, "2001:db8:5::1/64")
	n.Up(t)
	s := open(t, link.Options{})
	defer s.PrepareIPv6(await(t, s, n.Device, usable))()
	config := filepath.Join(t.TempDir(), "radvd.conf")
	text := fmt.Sprintf("interface %s { AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4;\n"+
		"prefix 2001:db8:5::/64 { AdvValidLifetime infinity; AdvPreferredLifetime infinity; }; };\n", n.Server)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	n.Servers.Run(t, "sysctl", "-q", "-w", "net.ipv6.conf.all.forwarding=1")
	n.Serve(t, " started", exec.Command("radvd", "--nodaemon", "--logmethod=stderr", "--debug=1", "--config="+config, "--pidfile="+config+".pid"))
	l := await(t, s, n.Device, func(l *link.Link) bool { return len(l.Global(true)) == 1 })
	if l.Managed != "" {
		t.Errorf("managed by %q: %+v", l.Managed, l.Addresses)
	}
}

// TestManagerStartsLate has its folder come into being while the interfaces are watched.
func TestManagerStartsLate(t *testing.T) {
	run := t.TempDir()
	n := nettest.NewNetwork(t, nil)
	n.Up(t)
	s := open(t, link.Options{Run: run})
	before := await(t, s, n.Device, usable)
	for _, dir := range []string{"systemd", "systemd/netif", "systemd/netif/links"} { // each may be seen before the next is there
		if err := os.Mkdir(filepath.Join(run, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(run, "systemd/netif/links", fmt.Sprint(before.Index))
	if err := os.WriteFile(file, []byte("ADMIN_STATE=configuring\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	managed := await(t, s, n.Device, func(l *link.Link) bool { return l.Managed == "systemd-networkd" })
	if err := os.WriteFile(file, []byte("ADMIN_STATE=unmanaged\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	after := await(t, s, n.Device, func(l *link.Link) bool { return l.Managed == "" })
	if before.Life == managed.Life || managed.Life == after.Life {
		t.Errorf("lives %d, %d, %d", before.Life, managed.Life, after.Life)
	}
}
