package link_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/dhcp"
	"github.com/xpu-sztp/ztp/pkg/link"
	"github.com/xpu-sztp/ztp/test/nettest"
)

// TestAddressesWithoutServer applies what the configuration gives, of both families and without end, then crashes: the next
// process has the record, or not even that.
func TestAddressesWithoutServer(t *testing.T) {
	for name, recorded := range map[string]bool{"recorded": true, "record lost": false} {
		t.Run(name, func(t *testing.T) {
			n := nettest.NewNetwork(t, nil)
			n.Up(t)
			all := func() string {
				return n.Inside.Run(t, "ip", "-4", "rule") + n.Inside.Run(t, "ip", "-6", "rule") +
					n.Inside.Run(t, "ip", "-4", "route", "show", "table", "all", "dev", n.Device, "proto", "dhcp") +
					n.Inside.Run(t, "ip", "-6", "route", "show", "table", "all", "dev", n.Device, "proto", "dhcp")
			}
			before, record := all(), filepath.Join(t.TempDir(), "network.json")
			crashing := open(t, link.Options{Record: record})
			l := await(t, crashing, n.Device, func(l *link.Link) bool { return l.LinkLocal().IsValid() })
			for _, lease := range []*dhcp.Lease{
				{Address: netip.MustParsePrefix("192.0.2.10/24"), Routes: []dhcp.Route{{Destination: netip.MustParsePrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr("192.0.2.1")}}},
				{Address: netip.MustParsePrefix("2001:db8::10/64"), Routes: []dhcp.Route{{Destination: netip.MustParsePrefix("::/0"), Gateway: netip.MustParseAddr("fe80::1")}}},
			} {
				if _, err := crashing.Apply(t.Context(), l, lease); err != nil {
					t.Fatal(err)
				}
			}
			if out := all(); strings.Count(out, "default via") != 2 || strings.Count(out, "oif "+n.Device+" lookup") != 2 || strings.Count(out, "\n") != strings.Count(before, "\n")+10 {
				t.Errorf("while applied:\n%s", out)
			}
			if l := await(t, crashing, n.Device, usable); l.Managed != "" {
				t.Errorf("managed by %q", l.Managed)
			}
			if !recorded {
				if err := os.WriteFile(record, []byte("["), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			crash(t, record)
			open(t, link.Options{Record: record})
			if diff := cmp.Diff(before, all()); diff != "" {
				t.Errorf("after the crash:\n%s", diff)
			}
		})
	}
}
