package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/dhcp"
	"github.com/xpu-sztp/ztp/test/lab"
	"github.com/xpu-sztp/ztp/test/lab/artifact"
	"github.com/xpu-sztp/ztp/test/lab/device"
	"github.com/xpu-sztp/ztp/test/lab/dhcpd"
	"github.com/xpu-sztp/ztp/test/lab/netlab"
	"github.com/xpu-sztp/ztp/test/lab/pki"
	"github.com/xpu-sztp/ztp/test/nettest"
)

// TestKea4 and TestKea6 are the main story with servers that are not ours: Kea leases the address and hands out option
// 143 or 136, nginx serves the image.
func TestKea4(t *testing.T) {
	ctx := within(t, time.Minute)
	l := newLab(t, lab.Options{Family: lab.IPv4, NoDHCP: true})
	network := real(t, l)
	kea := network.Kea4(t, nettest.DHCP{Subnet: "192.0.2.0/24", Pool: "192.0.2.100-192.0.2.110", Router: "192.0.2.1",
		DNS: "192.0.2.1", Redirect: option(t, l.RedirectAt.URL())})
	access := provisionWithNginx(t, l, network)
	d := newDevice(t, l, device.Options{})

	exit, err := d.Run(ctx, 3)
	if exit != 0 || err != nil {
		t.Fatalf("exit code %d, %v", exit, err)
	}
	wantProvisioned(t, l, d)
	wantInLog(t, kea.String(), "DHCP4_LEASE_ALLOC", "DHCP4_RELEASE")
	wantInLog(t, access(), `"GET /LabOS-2.0.0.img HTTP/1.1" 200`)
	noNetworkOf(t, l, d)
}

func TestKea6(t *testing.T) {
	ctx := within(t, time.Minute)
	l := newLab(t, lab.Options{Family: lab.IPv6, NoDHCP: true})
	network := real(t, l)
	kea := network.Kea6(t, nettest.DHCP{Subnet: "2001:db8:1::/64", Pool: "2001:db8:1::100-2001:db8:1::110",
		DNS: "2001:db8:1::1", Redirect: option(t, l.RedirectAt.URL())})
	router := &dhcpd.Advertiser{Interface: lab.Bridge, LinkLocal: netip.MustParseAddr("fe80::1"), Prefix: lab.Router6.Masked(), Log: l.Log}
	if err := router.Start(); err != nil {
		t.Fatal(err)
	}
	defer router.Close()
	access := provisionWithNginx(t, l, network)
	d := newDevice(t, l, device.Options{})

	exit, err := d.Run(ctx, 3)
	if exit != 0 || err != nil {
		t.Fatalf("exit code %d, %v", exit, err)
	}
	wantProvisioned(t, l, d)
	wantInLog(t, kea.String(), "DHCP6_LEASE_ALLOC", "DHCP6_RELEASE_NA")
	wantInLog(t, access(), `"GET /LabOS-2.0.0.img HTTP/1.1" 200`)
	noNetworkOf(t, l, d)
}

// TestXMLServers has a redirect and a bootstrap server that know XML alone: the device is provisioned, and every report arrives
// (R7-04).
func TestXMLServers(t *testing.T) {
	ctx := within(t, time.Minute)
	l := newLab(t, lab.Options{Family: lab.IPv4})
	l.Redirect.SpeakXML()
	l.Bootstrap.SpeakXML()
	l.Onboard(onboarding(l), "verbose")
	d := newDevice(t, l, device.Options{})

	exit, err := d.Run(ctx, 3)
	if exit != 0 || err != nil {
		t.Fatalf("exit code %d, %v", exit, err)
	}
	wantProvisioned(t, l, d)
	got := reports(l)
	for _, want := range []string{"bootstrap-initiated", "boot-image-installed-rebooting", "pre-script-complete", "bootstrap-complete"} {
		if !slices.Contains(got, want) {
			t.Errorf("no report %s among %v", want, got)
		}
	}
}

// TestTerminated stops the daemon while it waits for a bootstrap server that does not answer: the lease is given back.
func TestTerminated(t *testing.T) {
	ctx := within(t, time.Minute)
	l := newLab(t, lab.Options{Family: lab.IPv4, NoDHCP: true})
	network := real(t, l)
	silent, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	silent.SetDeadline(time.Now().Add(time.Minute))
	kea := network.Kea4(t, nettest.DHCP{Subnet: "192.0.2.0/24", Pool: "192.0.2.100-192.0.2.110", Router: "192.0.2.1",
		Redirect: option(t, "https://"+silent.Addr().String())})
	d := newDevice(t, l, device.Options{})
	if err := d.PowerOn(ctx); err != nil {
		t.Fatal(err)
	}
	conn, err := silent.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := syscall.Kill(d.PID(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if end, err := d.Wait(ctx); err != nil || end.Reboot {
		t.Errorf("the daemon ended with %+v, %v", end, err)
	}
	kea.Await(t, "DHCP4_RELEASE ")
}

// real gives the lab's own namespace and bridge to servers that are not the lab's. The bridge gets a neighbour, without
// which it would have no carrier, and Kea no socket on it, until the device is there.
func real(t *testing.T, l *lab.Lab) *nettest.Network {
	t.Helper()
	ns, err := netlab.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	cable, err := l.Connect(ns, "neighbour")
	if err != nil {
		t.Fatal(err)
	}
	if err := ns.Do(func() error { return netlab.Up("neighbour") }); err != nil {
		t.Fatal(err)
	}
	if err := cable.Plug(); err != nil {
		t.Fatal(err)
	}
	return &nettest.Network{Server: lab.Bridge}
}

func option(t *testing.T, urls ...string) []byte {
	t.Helper()
	list, err := dhcp.EncodeServerList(urls)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// provisionWithNginx lets the owner's onboarding information name an image that a real nginx serves over HTTPS, and returns
// how to read nginx's access log.
func provisionWithNginx(t *testing.T, l *lab.Lab, network *nettest.Network) (access func() string) {
	t.Helper()
	const port = 9443
	dir := t.TempDir()
	web, err := l.OwnerWeb.Issue(pki.ServerProfile(l.FilesAt.Host))
	if err != nil {
		t.Fatal(err)
	}
	if err := web.Save(dir, "web"); err != nil {
		t.Fatal(err)
	}
	image := device.Image{OSName: "LabOS", OSVersion: "2.0.0", PayloadSize: 256 << 10}
	l.Onboard(withImage(onboarding(l), fmt.Sprintf("https://%s:%d/LabOS-2.0.0.img", l.FilesAt.Host, port)), "verbose")
	var listen strings.Builder
	for _, a := range l.FilesAt.Addresses {
		fmt.Fprintf(&listen, "listen %s ssl;", netip.AddrPortFrom(a, port))
	}
	server := fmt.Sprintf("%s ssl_certificate %[2]s/web.pem; ssl_certificate_key %[2]s/web.key;", listen.String(), dir)
	return nginx(t, network, dir, server, map[string][]byte{"LabOS-2.0.0.img": image.Bytes()})
}

// nginx serves files with a real nginx that works in dir. server is what its configuration says about where to listen.
func nginx(t *testing.T, network *nettest.Network, dir, server string, content map[string][]byte) (access func() string) {
	t.Helper()
	config := nettest.NginxConfig(dir, "user root; error_log stderr notice;", fmt.Sprintf("access_log %s/access.log;", dir),
		fmt.Sprintf("%s root %s/www;", server, dir))
	files := map[string][]byte{"nginx.conf": config}
	for name, data := range content {
		files["www/"+name] = data
	}
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("nginx", "-p", dir, "-c", filepath.Join(dir, "nginx.conf"))
	network.Serve(t, "getrlimit", cmd)
	return func() string {
		b, err := os.ReadFile(filepath.Join(dir, "access.log"))
		if err != nil {
			t.Error(err)
		}
		return string(b)
	}
}

func withImage(o artifact.Onboarding, uri string) artifact.Onboarding {
	o.BootImage.URIs = []string{uri}
	return o
}

func wantInLog(t *testing.T, log string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(log, p) {
			t.Errorf("no %q in the server's log:\n%s", p, log)
		}
	}
}
