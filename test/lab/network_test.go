package lab_test

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/dhcpv6/nclient6"
	"github.com/vishvananda/netlink"

	"github.com/xpu-sztp/ztp/test/lab"
	"github.com/xpu-sztp/ztp/test/lab/dhcpd"
	"github.com/xpu-sztp/ztp/test/lab/event"
	"github.com/xpu-sztp/ztp/test/lab/netlab"
)

// inOwnNetwork runs f with a lab that is the only one in its network namespace, and a device's namespace with an unplugged
// interface eth0 that is up.
func inOwnNetwork(t *testing.T, family lab.Family, f func(ctx context.Context, l *lab.Lab, ns *netlab.Namespace, c *netlab.Cable)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	l, err := lab.New(lab.Options{Family: family})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ns, err := netlab.New()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	cable, err := l.Connect(ns, "eth0")
	if err != nil {
		t.Fatal(err)
	}
	err = ns.Do(func() error {
		// Without duplicate address detection addresses can be used at once.
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/eth0/accept_dad", []byte("0"), 0o644); err != nil {
			return err
		}
		return netlab.Up("eth0")
	})
	if err != nil {
		t.Fatal(err)
	}
	f(ctx, l, ns, cable)
}

func redirectList(t *testing.T, l *lab.Lab) []byte {
	t.Helper()
	list, err := dhcpd.List(l.RedirectAt.URL())
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestDHCPv4(t *testing.T) { // R8-01, R8-06
	inOwnNetwork(t, lab.IPv4, func(ctx context.Context, l *lab.Lab, ns *netlab.Namespace, cable *netlab.Cable) {
		if err := l.PlugIn(cable); err != nil {
			t.Fatal(err)
		}
		var lease *nclient4.Lease
		err := ns.Do(func() error {
			client, err := nclient4.New("eth0")
			if err != nil {
				return err
			}
			defer client.Close()
			lease, err = client.Request(ctx, dhcpv4.WithRequestedOptions(dhcpv4.GenericOptionCode(dhcpd.Option4)))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(redirectList(t, l), lease.ACK.Options.Get(dhcpv4.GenericOptionCode(dhcpd.Option4))); diff != "" {
			t.Error(diff)
		}
		if !lease.ACK.YourIPAddr.Equal(net.IPv4(192, 0, 2, 100)) || !lease.ACK.Router()[0].Equal(net.IPv4(192, 0, 2, 1)) {
			t.Errorf("%s", lease.ACK.Summary())
		}
	})
}

func TestDHCPv6AndRouter(t *testing.T) { // R8-02, R8-06
	inOwnNetwork(t, lab.IPv6, func(ctx context.Context, l *lab.Lab, ns *netlab.Namespace, cable *netlab.Cable) {
		routes := make(chan netlink.RouteUpdate, 100)
		done := make(chan struct{})
		defer close(done)
		if err := ns.Do(func() error { return netlink.RouteSubscribe(routes, done) }); err != nil {
			t.Fatal(err)
		}
		if err := l.PlugIn(cable); err != nil {
			t.Fatal(err)
		}
		awaitDefaultRoute(ctx, t, routes)

		var advertise, reply *dhcpv6.Message
		err := ns.Do(func() error {
			client, err := nclient6.New("eth0")
			if err != nil {
				return err
			}
			defer client.Close()
			ask := dhcpv6.WithRequestedOptions(dhcpv6.OptionCode(dhcpd.Option6))
			if advertise, err = client.Solicit(ctx, ask); err != nil {
				return err
			}
			reply, err = client.Request(ctx, advertise, ask)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		option := reply.GetOneOption(dhcpv6.OptionCode(dhcpd.Option6))
		if option == nil || !bytes.Equal(option.ToBytes(), redirectList(t, l)) {
			t.Errorf("option 136 is %v", option)
		}
		address := reply.Options.OneIANA().Options.OneAddress()
		if address == nil || !address.IPv6Addr.Equal(net.ParseIP("2001:db8:1::100")) {
			t.Fatalf("%s", reply.Summary())
		}
		err = ns.Do(func() error {
			if err := netlab.AddAddress("eth0", netip.MustParsePrefix("2001:db8:1::100/128")); err != nil {
				return err
			}
			var d net.Dialer
			conn, err := d.DialContext(ctx, "tcp", netip.AddrPortFrom(l.RedirectAt.Addresses[0], l.RedirectAt.Port).String())
			if err == nil {
				conn.Close()
			}
			return err
		})
		if err != nil {
			t.Errorf("the server behind the router is not reachable: %v", err)
		}
	})
}

func awaitDefaultRoute(ctx context.Context, t *testing.T, routes <-chan netlink.RouteUpdate) {
	t.Helper()
	for {
		select {
		case r := <-routes:
			if r.Gw.Equal(net.ParseIP("fe80::1")) && (r.Dst == nil || r.Dst.IP.IsUnspecified()) {
				return
			}
		case <-ctx.Done():
			t.Fatal("no default route from a router advertisement")
		}
	}
}

func TestNames(t *testing.T) {
	inOwnNetwork(t, lab.Dual, func(ctx context.Context, l *lab.Lab, _ *netlab.Namespace, _ *netlab.Cable) {
		for _, network := range []string{"udp", "tcp"} {
			r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
				var d net.Dialer
				return d.DialContext(ctx, network, netip.AddrPortFrom(lab.Router4.Addr(), 53).String())
			}}
			got, err := r.LookupNetIP(ctx, "ip", l.BootstrapAt.Host+".")
			slices.SortFunc(got, netip.Addr.Compare)
			if diff := cmp.Diff(l.BootstrapAt.Addresses, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" || err != nil {
				t.Errorf("%s: %v %s", network, err, diff)
			}
			if _, err := r.LookupNetIP(ctx, "ip", "unknown.example."); err == nil {
				t.Error("an unknown name has an address")
			}
		}
	})
}

func TestLabServesOverItsNetwork(t *testing.T) {
	for _, family := range []lab.Family{lab.IPv4, lab.IPv6} {
		t.Run(string(family), func(t *testing.T) {
			inOwnNetwork(t, family, func(_ context.Context, l *lab.Lab, _ *netlab.Namespace, _ *netlab.Cable) {
				// The voucher service is reached by the name in the IDevID.
				l.MASA.Sell(serial, l.Owner.Root.Certificate)
				certs := client(t, l, serial).Transport.(*http.Transport).TLSClientConfig.Certificates
				if _, err := l.Voucher(certs[0].Leaf, nil); err != nil {
					t.Error(err)
				}
				if n := len(l.Log.Find(event.Is(event.Voucher, "serial", serial))); n != 1 {
					t.Errorf("%d vouchers issued", n)
				}
			})
		})
	}
}
