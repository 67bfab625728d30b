package source_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/dhcp"
	"github.com/xpu-sztp/ztp/pkg/link"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/source"
	"github.com/xpu-sztp/ztp/pkg/state"
	"github.com/xpu-sztp/ztp/test/lab/wire"
	"github.com/xpu-sztp/ztp/test/nettest"
)

func TestDHCPv4WithKea(t *testing.T) {
	n := nettest.NewNetwork(t, nil, "192.0.2.1/24")
	c := kea4
	c.Redirect = redirect(t, "https://192.0.2.1:8443", "https://[2001:db8::7]")
	log := n.Kea4(t, c)
	serve(t, n, "192.0.2.1:8443")
	r := newRig(t, 10*time.Second, n)
	err := discover(t, r, func(ctx context.Context, lead source.Lead) error {
		if lead.Source != "dhcp4" || lead.Interface != n.Device || lead.Trusted || len(lead.Warnings) > 0 {
			t.Errorf("lead %+v", lead)
		}
		want := []artifacts.BootstrapServer{{Address: "192.0.2.1", Port: 8443}, {Address: "2001:db8::7", Port: 443}}
		if diff := cmp.Diff(want, lead.Servers); diff != "" {
			t.Error(diff)
		}
		if out := configured(t, n); !strings.Contains(out, "192.0.2.5") || !strings.Contains(out, "default via 192.0.2.1") {
			t.Errorf("during the visit: %s", out)
		}
		e := r.board.entry(n.Device, "ipv4")
		if e.State != "bound" || e.Server != "192.0.2.1" || len(e.Addresses) != 1 || len(e.Options) != 2 || len(e.RoutesAdded) != 2 ||
			len(e.DNS) != 1 || !slices.Equal(e.Domains, []string{"lab.test"}) || time.Until(e.LeaseEnds) < 50*time.Minute ||
			e.LeaseEnds.Sub(e.LeaseObtained) != time.Hour || !e.LeaseRebind.After(e.LeaseRenew) || !e.LeaseRenew.After(e.LeaseObtained) ||
			e.Method != "lease" || e.Kind != "veth" || e.MAC == "" || e.MTU != 1500 || e.Index == 0 {
			t.Errorf("status %+v", e)
		}
		return reach(ctx, lead)
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	if out := configured(t, n); out != "" {
		t.Errorf("afterwards: %s", out)
	}
	log.Await(t, "DHCP4_RELEASE ")
	// The addresses follow when the kernel tells that they are gone, which nobody listens to any more.
	if e := r.board.entry(n.Device, "ipv4"); e.State != "unbound" || len(e.RoutesRemoved) != 2 || !e.LeaseObtained.IsZero() || !e.LeaseEnds.IsZero() {
		t.Errorf("status %+v", e)
	}
}

func TestDHCPv6WithKea(t *testing.T) {
	n := nettest.NewNetwork(t, nil, "2001:db8:6::1/64")
	log := n.Kea6(t, nettest.DHCP{Subnet: "2001:db8:6::/64", Pool: "2001:db8:6::100-2001:db8:6::1ff", DNS: "2001:db8:6::1",
		Domain: "lab.test", Redirect: redirect(t, "https://[2001:db8:6::1]:8443")})
	n.Advertise(t, nettest.Router{Prefix: "2001:db8:6::/64", Managed: true, Other: true})
	serve(t, n, "[2001:db8:6::1]:8443")
	r := newRig(t, 10*time.Second, n)
	err := discover(t, r, func(ctx context.Context, lead source.Lead) error {
		if lead.Source != "dhcp6" || lead.Trusted || len(lead.Servers) != 1 {
			t.Errorf("lead %+v", lead)
		}
		if out := n.Inside.Run(t, "ip", "-6", "addr", "show", "dev", n.Device); !strings.Contains(out, "2001:db8:6::1") || !strings.Contains(out, "/128") {
			t.Errorf("during the visit: %s", out)
		}
		if out := n.Inside.Run(t, "ip", "-6", "route", "show", "dev", n.Device); !strings.Contains(out, "default via fe80::") {
			t.Errorf("during the visit: %s", out)
		}
		return reach(ctx, lead)
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	if out := n.Inside.Run(t, "ip", "-6", "addr", "show", "dev", n.Device); strings.Contains(out, "/128") {
		t.Errorf("afterwards: %s", out)
	}
	log.Await(t, "DHCP6_RELEASE")
}

// TestDnsmasq serves both families at once, names by DNS, and DHCPv6 in its three forms.
func TestDnsmasq(t *testing.T) {
	for form, args := range map[string][]string{
		"stateful":  {"dhcp-range=2001:db8:8::100,2001:db8:8::1ff,64,1h"},
		"stateless": {"dhcp-range=2001:db8:8::,ra-stateless"},
	} {
		t.Run(form, func(t *testing.T) {
			n := nettest.NewNetwork(t, nil, "192.0.2.1/24", "2001:db8:8::1/64")
			option := nettest.HexOption(redirect(t, "https://bs:8443"))
			log := n.Dnsmasq(t, append(args, "enable-ra", "dhcp-range=192.0.2.50,192.0.2.60,1h", "dhcp-option=143,"+option,
				"dhcp-option=option6:136,"+option, "dhcp-option=option6:dns-server,[2001:db8:8::1]", "domain=lab.test",
				"dhcp-option=option6:domain-search,lab.test", "address=/bs.lab.test/192.0.2.1", "address=/bs.lab.test/2001:db8:8::1")...)
			serve(t, n, "[::]:8443")
			r := newRig(t, 10*time.Second, n)
			var seen []string
			err := discover(t, r, func(ctx context.Context, lead source.Lead) error {
				seen = append(seen, lead.Source)
				if err := reach(ctx, lead); err != nil {
					t.Errorf("%s: %v", lead.Source, err)
				}
				return errors.New("look further")
			})
			slices.Sort(seen)
			if err == nil || !slices.Equal(seen, []string{"dhcp4", "dhcp6"}) {
				t.Errorf("leads %q, %v\n%s", seen, err, log)
			}
			if !strings.Contains(err.Error(), "look further\nlook further") {
				t.Errorf("the visitor's errors are lost: %v", err)
			}
		})
	}
}

func TestFirstSuccessEndsTheRound(t *testing.T) {
	var networks []*nettest.Network
	for range 2 {
		n := nettest.NewNetwork(t, nil, "192.0.2.1/24")
		c := kea4
		c.Redirect = redirect(t, "https://192.0.2.1")
		n.Kea4(t, c)
		networks = append(networks, n)
	}
	r := newRig(t, 15*time.Second, networks...)
	visits, begun := 0, time.Now()
	if err := discover(t, r, func(context.Context, source.Lead) error { visits++; return nil }); err != nil {
		t.Fatal(err)
	}
	if visits != 1 || time.Since(begun) > 10*time.Second { // IPv6 alone would have taken its whole time-out
		t.Errorf("%d visits in %v", visits, time.Since(begun))
	}
	for _, n := range networks {
		if out := configured(t, n); out != "" {
			t.Errorf("left on %s: %s", n.Device, out)
		}
		if i := r.board.entry(n.Device, "ipv6"); strings.Contains(i.Detail, "carrier") {
			t.Errorf("an attempt that was no longer needed says %q", i.Detail)
		}
	}
}

func TestCancelledDuringVisit(t *testing.T) {
	n := nettest.NewNetwork(t, nil, "192.0.2.1/24")
	c := kea4
	c.Redirect = redirect(t, "https://192.0.2.1")
	log := n.Kea4(t, c)
	r := newRig(t, 10*time.Second, n)
	stopped := errors.New("stopped from outside")
	ctx, cancel := context.WithCancelCause(t.Context())
	err := r.Discover(ctx, func(ctx context.Context, lead source.Lead) error {
		cancel(stopped)
		<-ctx.Done()
		return ctx.Err()
	})
	if !errors.Is(err, stopped) {
		t.Errorf("error %v", err)
	}
	if out := configured(t, n); out != "" {
		t.Errorf("afterwards: %s", out)
	}
	log.Await(t, "DHCP4_RELEASE ")
}

// TestCableUnpluggedDuringVisit interrupts the cable for a moment, which a visit has to survive.
func TestCableUnpluggedDuringVisit(t *testing.T) {
	n := nettest.NewNetwork(t, nil, "192.0.2.1/24")
	c := kea4
	c.Redirect = redirect(t, "https://192.0.2.1:8443")
	n.Kea4(t, c)
	serve(t, n, "192.0.2.1:8443")
	r := newRig(t, 10*time.Second, n)
	err := discover(t, r, func(ctx context.Context, lead source.Lead) error {
		carrier := func(want bool) {
			err := r.System.Await(ctx, func(links []link.Link) bool {
				return slices.ContainsFunc(links, func(l link.Link) bool { return l.Name == n.Device && l.Carrier == want })
			})
			if err != nil {
				t.Error(err)
			}
		}
		n.Unplug(t)
		carrier(false)
		n.Plug(t)
		carrier(true)
		return reach(ctx, lead)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestCableUnpluggedBeforeLease(t *testing.T) {
	n := nettest.NewNetwork(t, nil)
	r := newRig(t, time.Minute, n)
	done := make(chan error, 1)
	go func() {
		done <- r.Discover(t.Context(), func(context.Context, source.Lead) error { t.Error("visited"); return nil })
	}()
	acquiring := func(s state.Status) bool {
		return slices.ContainsFunc(s.Interfaces, func(i state.Interface) bool { return i.State == "acquiring" })
	}
	r.board.await(t, acquiring)
	n.Unplug(t)
	if code, hint := reason.Of(<-done); code != source.LinkLost || hint == "" {
		t.Errorf("code %q, hint %q", code, hint)
	}
	r.board.await(t, func(s state.Status) bool {
		return len(s.Interfaces) > 0 && s.Interfaces[len(s.Interfaces)-1].State == "no-carrier"
	})
}

// TestManagedInterface has an address by hand: the agent asks for the option only and changes nothing.
func TestManagedInterface(t *testing.T) {
	n := nettest.NewNetwork(t, nil, "192.0.2.1/24", "2001:db8:9::1/64")
	n.Up(t)
	n.Inside.Run(t, "ip", "addr", "add", "192.0.2.7/24", "dev", n.Device)
	option := nettest.HexOption(redirect(t, "https://192.0.2.1:8443"))
	log := n.Dnsmasq(t, "dhcp-range=192.0.2.50,192.0.2.60,1h", "dhcp-option=143,"+option, "dhcp-range=2001:db8:9::,ra-stateless",
		"dhcp-option=option6:136,"+option)
	serve(t, n, "192.0.2.1:8443")
	r := newRig(t, 10*time.Second, n)
	addresses := func() string { return n.Inside.Run(t, "ip", "-4", "addr", "show", "dev", n.Device) }
	before := addresses()
	var seen []string
	discover(t, r, func(ctx context.Context, lead source.Lead) error {
		seen = append(seen, lead.Source)
		if err := reach(ctx, lead); err != nil {
			t.Errorf("%s: %v", lead.Source, err)
		}
		if diff := cmp.Diff(before, addresses()); diff != "" {
			t.Error(diff)
		}
		return errors.New("look further")
	})
	slices.Sort(seen)
	if !slices.Equal(seen, []string{"dhcp4", "dhcp6"}) {
		t.Errorf("leads %q\n%s", seen, log)
	}
	log.Await(t, "DHCPINFORM")
	if strings.Contains(log.String(), "DHCPDISCOVER") {
		t.Errorf("asked for an address:\n%s", log)
	}
	if e := r.board.entry(n.Device, "ipv4"); e.Managed != "manual" || e.RoutesAdded != nil {
		t.Errorf("status %+v", e)
	}
	n.Inside.Run(t, "ip", "addr", "del", "192.0.2.7/24", "dev", n.Device)
}

func TestReasons(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		redirect []byte
		serve    bool
		code     reason.Code
		says     string
	}{
		{"no-server", nil, false, dhcp.NoAnswer, "no DHCPv4 server answered"},
		{"no-option", nil, true, source.NoOption, "did not send DHCPv4 option 143"},
		{"bad-option", []byte{0, 22, 'h', 't', 't', 'p', ':', '/', '/', 'x'}, true, dhcp.BadOption, "holds no usable server"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel() // each takes its whole time-out
			n := nettest.NewNetwork(t, nil, "192.0.2.1/24")
			if tt.serve {
				c := kea4
				c.Redirect = tt.redirect
				n.Kea4(t, c)
			}
			r := newRig(t, 7*time.Second, n)
			err := discover(t, r, func(context.Context, source.Lead) error { t.Error("visited"); return nil })
			code, hint := reason.Of(err)
			if code != tt.code || hint == "" || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), n.Device) {
				t.Errorf("code %q, hint %q, %v", code, hint, err)
			}
			e := r.board.entry(n.Device, "ipv4")
			if e.State != "unbound" || (e.OptionError != "") != (tt.code == dhcp.BadOption) || (e.Server != "") != tt.serve {
				t.Errorf("status %+v", e)
			}
		})
	}
}

// TestToleratedOption has a server that sends a plain URL with a path, as servers in the field do.
func TestToleratedOption(t *testing.T) {
	n := nettest.NewNetwork(t, nil, "192.0.2.1/24")
	c := kea4
	c.Redirect = []byte("https://192.0.2.1:8443/restconf")
	n.Kea4(t, c)
	r := newRig(t, 10*time.Second, n)
	err := discover(t, r, func(_ context.Context, lead source.Lead) error {
		if e := r.board.entry(n.Device, "ipv4"); len(e.Warnings) != 2 || e.OptionError != "" {
			t.Errorf("status %+v", e)
		}
		want := []artifacts.BootstrapServer{{Address: "192.0.2.1", Port: 8443}}
		if diff := cmp.Diff(want, lead.Servers); diff != "" || len(lead.Warnings) != 2 || !strings.Contains(lead.Warnings[0], "plain text") {
			t.Errorf("%s %q", diff, lead.Warnings)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestWaitsForLink begins without any carrier.
func TestWaitsForLink(t *testing.T) {
	n := nettest.NewNetwork(t, nil, "192.0.2.1/24")
	c := kea4
	c.Redirect = redirect(t, "https://192.0.2.1")
	n.Kea4(t, c)
	n.Unplug(t)
	r := newRig(t, 10*time.Second, n)
	done := make(chan error, 1)
	go func() { done <- r.Discover(t.Context(), func(context.Context, source.Lead) error { return nil }) }()
	r.board.await(t, func(s state.Status) bool {
		return s.Phase == state.PhaseWaitingForLink && s.Reason != nil && s.Reason.Code == string(source.NoLink)
	})
	select {
	case err := <-done:
		t.Fatalf("ended without a link: %v", err)
	default:
	}
	n.Plug(t)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// TestLinkDuringRound plugs a cable in while another interface is being tried.
func TestLinkDuringRound(t *testing.T) {
	silent, late := nettest.NewNetwork(t, nil), nettest.NewNetwork(t, nil, "192.0.2.1/24")
	c := kea4
	c.Redirect = redirect(t, "https://192.0.2.1")
	late.Kea4(t, c)
	late.Unplug(t)
	r := newRig(t, 10*time.Second, silent, late)
	done := make(chan error, 1)
	go func() {
		done <- r.Discover(t.Context(), func(_ context.Context, lead source.Lead) error {
			if lead.Interface != late.Device {
				t.Errorf("lead %+v", lead)
			}
			return nil
		})
	}()
	r.board.await(t, func(s state.Status) bool {
		return slices.ContainsFunc(s.Interfaces, func(i state.Interface) bool { return i.Name == silent.Device && i.State == "acquiring" })
	})
	late.Plug(t)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestWakesWhenLinkComesUp(t *testing.T) {
	n := nettest.NewNetwork(t, nil)
	n.Unplug(t)
	r := newRig(t, time.Second, n)
	select {
	case <-r.Wake():
		t.Fatal("woke without a carrier")
	default:
	}
	n.Plug(t)
	select {
	case <-r.Wake():
	case <-time.After(10 * time.Second):
		t.Fatal("did not wake")
	}
}

func TestStatusOfUnusedInterfaces(t *testing.T) {
	used, unplugged, skipped := nettest.NewNetwork(t, nil), nettest.NewNetwork(t, nil), nettest.NewNetwork(t, nil)
	unplugged.Unplug(t)
	r := newRig(t, time.Second, used, unplugged)
	want := map[string]string{unplugged.Device: "no-carrier", skipped.Device: "skipped"}
	r.board.await(t, func(s state.Status) bool {
		got := map[string]string{}
		for _, i := range s.Interfaces {
			if want[i.Name] != "" {
				got[i.Name] = i.State
			}
		}
		return cmp.Equal(want, got)
	})
}

func TestWellKnown(t *testing.T) {
	servers := []artifacts.BootstrapServer{{Address: "192.0.2.1", Port: 8443}}
	t.Run("by-dhcp-where-nobody-configures", func(t *testing.T) {
		n := nettest.NewNetwork(t, nil, "192.0.2.1/24")
		n.Kea4(t, kea4) // without option 143
		serve(t, n, "192.0.2.1:8443")
		r := newRig(t, 10*time.Second, n)
		r.Finders = []source.Finder{source.DHCP{}, source.WellKnown{Servers: servers}}
		err := discover(t, r, func(ctx context.Context, lead source.Lead) error {
			if !lead.Trusted || lead.Source != "well-known" {
				t.Errorf("lead %+v", lead)
			}
			return reach(ctx, lead)
		})
		if err != nil {
			t.Fatal(err)
		}
	})
	t.Run("by-the-configured-network", func(t *testing.T) {
		n := nettest.NewNetwork(t, nil, "192.0.2.1/24")
		n.Up(t)
		n.Inside.Run(t, "ip", "addr", "add", "192.0.2.7/24", "dev", n.Device)
		serve(t, n, "192.0.2.1:8443")
		r := newRig(t, 2*time.Second, n) // nobody answers DHCP
		r.board.await(t, func(state.Status) bool { return true })
		r.Finders = []source.Finder{source.WellKnown{Servers: servers}}
		err := discover(t, r, func(ctx context.Context, lead source.Lead) error {
			if !lead.Trusted || lead.Interface != n.Device {
				t.Errorf("lead %+v", lead)
			}
			return reach(ctx, lead)
		})
		if err != nil {
			t.Fatal(err)
		}
		n.Inside.Run(t, "ip", "addr", "del", "192.0.2.7/24", "dev", n.Device)
	})
	t.Run("none-configured", func(t *testing.T) {
		n := nettest.NewNetwork(t, nil, "192.0.2.1/24")
		n.Kea4(t, kea4)
		r := newRig(t, time.Second, n)
		r.Finders = []source.Finder{source.WellKnown{}}
		err := discover(t, r, func(context.Context, source.Lead) error { t.Error("visited"); return nil })
		if code, _ := reason.Of(err); code != source.NoServer {
			t.Errorf("error %v", err)
		}
	})
}

func TestStatic(t *testing.T) {
	for _, trusted := range []bool{false, true} {
		s := source.Static{Servers: []artifacts.BootstrapServer{{Address: "bs.example.net", Port: 443}}, Trusted: trusted}
		failed := errors.New("failed")
		err := discover(t, s, func(_ context.Context, lead source.Lead) error {
			if lead.Trusted != trusted || len(lead.Servers) != 1 || lead.Network == nil {
				t.Errorf("lead %+v", lead)
			}
			return failed
		})
		if !errors.Is(err, failed) {
			t.Errorf("error %v", err)
		}
	}
}

// TestAddressInUse has a server lease an address that another host of the link has: it is declined and never used, and the next
// one works.
func TestAddressInUse(t *testing.T) {
	t.Parallel() // the server must not be asked again for 10 s
	n := nettest.NewNetwork(t, nil, "192.0.2.1/24", "192.0.2.50/32")
	c := kea4
	c.Redirect = redirect(t, "https://192.0.2.1")
	log := n.Kea4(t, c)
	serve(t, n, "192.0.2.1:443")
	trace := n.Trace(t)
	r := newRig(t, 30*time.Second, n)
	err := r.Discover(t.Context(), func(ctx context.Context, lead source.Lead) error {
		if e := r.board.entry(n.Device, "ipv4"); len(e.Addresses) != 1 || e.Addresses[0] == "192.0.2.50/24" {
			t.Errorf("status %+v", e)
		}
		return reach(ctx, lead)
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	log.Await(t, "DHCP4_DECLINE")
	trace.AwaitKind(t, "DHCPRELEASE", true)
	want := []string{"> DHCPDISCOVER", "> DHCPREQUEST", "> ARP probe", "> DHCPDECLINE", "> DHCPDISCOVER", "> DHCPREQUEST", "> ARP probe",
		"> SYN", "< SYN ACK", "> DHCPRELEASE"}
	if diff := cmp.Diff(want, trace.Kinds("DHCPDISCOVER", "DHCPREQUEST", "DHCPDECLINE", "DHCPRELEASE", "ARP probe", "SYN")); diff != "" {
		t.Error(diff)
	}
	decline := trace.AwaitKind(t, "DHCPDECLINE", true)
	if m := decline.DHCP4(); m.RequestedIPAddress().String() != "192.0.2.50" || !m.ClientIPAddr.IsUnspecified() {
		t.Errorf("%v", m)
	}
	if again := trace.AwaitPacket(t, "second discover", func(p wire.Packet) bool {
		return p.FromDevice && p.Kind() == "DHCPDISCOVER" && p.At.After(decline.At)
	}); again.At.Sub(decline.At) < 10*time.Second {
		t.Errorf("asked again after %v", again.At.Sub(decline.At))
	}
}
