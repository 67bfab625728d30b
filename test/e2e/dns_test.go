package e2e

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/test/lab"
	"github.com/xpu-sztp/ztp/test/lab/artifact"
	"github.com/xpu-sztp/ztp/test/lab/bootstrap"
	"github.com/xpu-sztp/ztp/test/lab/device"
	"github.com/xpu-sztp/ztp/test/lab/dhcpd"
	"github.com/xpu-sztp/ztp/test/lab/event"
	"github.com/xpu-sztp/ztp/test/lab/names"
)

// TestServiceRecords has a network with nothing but routers and a name server: the device makes itself an address, learns
// the name server and the domain from the router, finds no record of its own and then the one for everybody (RFC 8572 §4.2).
func TestServiceRecords(t *testing.T) {
	ctx := within(t, time.Minute)
	l := newLab(t, lab.Options{Family: lab.IPv6, NoDHCP: true})
	router := &dhcpd.Advertiser{Interface: lab.Bridge, LinkLocal: netip.MustParseAddr("fe80::1"), Prefix: lab.Router6.Masked(),
		Autonomous: true, DNS: []netip.Addr{lab.Router6.Addr()}, Domain: lab.Domain, Log: l.Log}
	if err := router.Start(); err != nil {
		t.Fatal(err)
	}
	defer router.Close()
	l.Onboard(onboarding(l), "verbose")
	d := newDevice(t, l, device.Options{})

	exit, err := d.Run(ctx, 3)
	if exit != 0 || err != nil {
		t.Fatalf("exit code %d, %v", exit, err)
	}
	wantProvisioned(t, l, d)
	var asked []string
	for _, e := range l.Log.Find(func(e event.Event) bool { return e.Kind == event.DNS }) {
		asked = append(asked, e.Attrs["type"]+" "+e.Attrs["name"])
	}
	own, all := slices.Index(asked, "TXT "+strings.ToLower(d.Serial)+"._sztp."+lab.Domain), slices.Index(asked, "SRV _sztp._tcp."+lab.Domain)
	if own < 0 || all < own {
		t.Errorf("asked %q", asked)
	}
	noNetworkOf(t, l, d)
}

// TestNeighbourHasArtifacts has a link without routers, name servers or DHCP: a neighbour hands out signed artifacts by
// multicast DNS, and the device reports to nobody.
func TestNeighbourHasArtifacts(t *testing.T) {
	ctx := within(t, time.Minute)
	l := newLab(t, lab.Options{Family: lab.IPv6, NoDHCP: true})
	l.Onboard(artifact.Onboarding{PreScript: mark("pre"), Handling: "replace", Configuration: []byte(configuration), PostScript: mark("post")}, "")
	d := newDevice(t, l, device.Options{})
	answer, err := l.SignedOnboarding(bootstrap.Request{Serial: d.Serial, Chain: d.IDevID.Path()})
	if err != nil {
		t.Fatal(err)
	}
	texts := [][]string{pair("foo", []byte("bar")), pair("ov", answer.OwnershipVoucher), pair("ci", answer.ConveyedInformation),
		pair("oc", answer.OwnerCertificate)}
	bridge, err := net.InterfaceByName(lab.Bridge)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.ListenMulticastUDP("udp6", bridge, &net.UDPAddr{IP: net.ParseIP("ff02::fb"), Port: 5353, Zone: lab.Bridge})
	if err != nil {
		t.Fatal(err)
	}
	neighbour := &names.Server{Texts: map[string][][]string{strings.ToLower(d.Serial) + "._sztp.local": texts}, Datagram: 9000, Log: l.Log}
	defer neighbour.Close()
	go neighbour.Serve(conn, nil)

	exit, err := d.Run(ctx, 1)
	if exit != 0 || err != nil {
		t.Fatalf("exit code %d, %v", exit, err)
	}
	for file, want := range map[string]string{"etc/device.conf": configuration, trail: "pre\npost\n"} {
		got, err := os.ReadFile(d.Path(file))
		if diff := cmp.Diff(want, string(got)); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", file, err, diff)
		}
	}
	if got := reports(l); len(got) > 0 {
		t.Errorf("reports were %v", got)
	}
}

// pair cuts key=value into the strings of a TXT record.
func pair(key string, value []byte) (texts []string) {
	for chunk := range slices.Chunk(append([]byte(key+"="), value...), 255) {
		texts = append(texts, string(chunk))
	}
	return texts
}
