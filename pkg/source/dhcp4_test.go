package source_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/xpu-sztp/ztp/dhcp"
	"github.com/xpu-sztp/ztp/pkg/link"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/source"
	"github.com/xpu-sztp/ztp/pkg/state"
	"github.com/xpu-sztp/ztp/test/lab/wire"
	"github.com/xpu-sztp/ztp/test/nettest"
)

// subnet is a /24 of 198.18.0.0/15 for one test, so that tests which run at once do not share addresses.
type subnet string

func (s subnet) host(n int) string { return fmt.Sprintf("198.18.%s.%d", string(s), n) }

// dhcp is a server on .1 that offers bootstrap servers there.
func (s subnet) dhcp(t *testing.T) nettest.DHCP {
	return nettest.DHCP{Subnet: s.host(0) + "/24", Pool: s.host(50) + "-" + s.host(60), Router: s.host(1), DNS: s.host(1), Domain: "lab.test",
		Redirect: redirect(t, "https://"+s.host(1)+":8443")}
}

func (s subnet) network(t *testing.T) *nettest.Network {
	n := nettest.NewNetwork(t, nil, s.host(1)+"/24")
	serve(t, n, s.host(1)+":8443")
	return n
}

// is reports whether a packet is a DHCPv4 message of a kind to an address.
func is(p wire.Packet, kind, to string) bool {
	_, destination := p.Addresses()
	return p.Kind() == kind && (to == "" || destination.Addr().String() == to)
}

// exceptOffers is what a trace of DHCPv4 is about. On a machine that is busy, an offer may come so late that it is asked for twice.
var exceptOffers = []string{"DHCPDISCOVER", "DHCPREQUEST", "DHCPACK", "DHCPNAK", "DHCPDECLINE", "DHCPRELEASE", "ARP probe", "SYN"}

// TestDHCPv4Trace is the whole exchange on a network with IPv4 only: nothing is asked for twice, the address is looked for
// before it is used, and given back.
func TestDHCPv4Trace(t *testing.T) {
	n := subnet("40").network(t)
	n.Kea4(t, subnet("40").dhcp(t))
	trace := n.Trace(t)
	r := newRig(t, 10*time.Second, n)
	if err := discover(t, r, reach); err != nil {
		t.Fatal(err)
	}
	trace.AwaitKind(t, "DHCPRELEASE", true)
	want := []string{"> DHCPDISCOVER", "> DHCPREQUEST", "< DHCPACK", "> ARP probe", "> SYN", "< SYN ACK", "> DHCPRELEASE"}
	if diff := cmp.Diff(want, trace.Kinds(exceptOffers...)); diff != "" {
		t.Error(diff)
	}
	if requests, probes := trace.Count("DHCPREQUEST"), trace.Count("ARP probe"); requests != 1 || probes != 3 {
		t.Errorf("%d requests, %d probes", requests, probes) // the switch may drop the first discover
	}
	m := trace.AwaitKind(t, "DHCPDISCOVER", true).DHCP4()
	if m.ClassIdentifier() != "" { // the test sets none
		t.Errorf("vendor class %q", m.ClassIdentifier())
	}
	if id := m.Options.Get(dhcpv4.OptionClientIdentifier); !bytes.HasSuffix(id, dhcp.DUID(r.Serial, nil)) || bytes.Contains(m.ToBytes(), []byte(r.Serial)) {
		t.Errorf("client identifier %x", id)
	}
	trace.AwaitPacket(t, "announcement", func(p wire.Packet) bool { return p.FromDevice && p.Kind() == "ARP request" })
}

// TestRelay has the server behind a relay: it answers by way of giaddr, and is asked directly for more time and to take the
// lease back.
func TestRelay(t *testing.T) {
	t.Parallel() // half of a lease passes
	s := subnet("41")
	n := s.network(t)
	c := s.dhcp(t)
	c.Lifetime = 10
	_, log := n.Relayed(t, s.host(1), "198.51.100.2/24", "198.51.100.1/24", c)
	trace := n.Trace(t)
	r := newRig(t, 10*time.Second, n)
	err := r.visit(t, func(lead source.Lead) {
		if e := r.board.entry(n.Device, "ipv4"); e.Server != "198.51.100.2" {
			t.Errorf("status %+v", e)
		}
		before := configured(t, n)
		renewal := trace.AwaitPacket(t, "renewal", func(p wire.Packet) bool { return is(p, "DHCPREQUEST", "198.51.100.2") }).DHCP4()
		if renewal.ClientIPAddr.IsUnspecified() || renewal.Options.Has(dhcpv4.OptionServerIdentifier) || renewal.Options.Has(dhcpv4.OptionRequestedIPAddress) {
			t.Errorf("%v", renewal)
		}
		trace.AwaitPacket(t, "extension", func(p wire.Packet) bool {
			return is(p, "DHCPACK", renewal.ClientIPAddr.String()) && p.DHCP4().TransactionID == renewal.TransactionID
		})
		if diff := cmp.Diff(strings.Fields(before)[:4], strings.Fields(configured(t, n))[:4]); diff != "" {
			t.Error(diff)
		}
		if err := reach(t.Context(), lead); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	for _, kind := range []string{"DHCPOFFER", "DHCPACK"} {
		if m := trace.AwaitKind(t, kind, false).DHCP4(); m.GatewayIPAddr.String() != s.host(1) {
			t.Errorf("%s by way of %v", kind, m.GatewayIPAddr)
		}
	}
	trace.AwaitPacket(t, "release", func(p wire.Packet) bool { return is(p, "DHCPRELEASE", "198.51.100.2") })
	log.Await(t, "DHCP4_RELEASE ")
}

// TestLyingServer has a second server on the link that lies to everybody; the real Kea must win.
func TestLyingServer(t *testing.T) {
	t.Parallel()
	lie := func(s subnet, m *dhcpv4.DHCPv4, kind dhcpv4.MessageType, mods ...dhcpv4.Modifier) [][]byte {
		t := dhcpv4.MessageTypeOffer
		if m.MessageType() == dhcpv4.MessageTypeRequest {
			t = dhcpv4.MessageTypeAck
		}
		if kind != dhcpv4.MessageTypeNone {
			t = kind
		}
		all := []dhcpv4.Modifier{dhcpv4.WithMessageType(t), dhcpv4.WithYourIP(net.ParseIP(s.host(70))), dhcpv4.WithServerIP(net.ParseIP(s.host(66))),
			dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.ParseIP(s.host(66)))), dhcpv4.WithNetmask(net.CIDRMask(24, 32)), dhcpv4.WithLeaseTime(3600)}
		p, err := dhcpv4.NewReplyFromRequest(m, append(all, mods...)...)
		if err != nil {
			panic(err)
		}
		return [][]byte{p.ToBytes()}
	}
	mine := func(s subnet, m *dhcpv4.DHCPv4) bool { return m.ServerIdentifier().Equal(net.ParseIP(s.host(66))) }
	option := func(b []byte) dhcpv4.Modifier {
		return dhcpv4.WithOption(dhcpv4.OptGeneric(dhcpv4.GenericOptionCode(dhcp.OptionV4Redirect), b))
	}
	good := option(redirect(t, "https://192.0.2.99"))
	for i, tt := range []struct {
		name string
		lie  func(s subnet, m *dhcpv4.DHCPv4) [][]byte
		says string // what the device answers; the real server starts late then
	}{
		{"no-option", func(s subnet, m *dhcpv4.DHCPv4) [][]byte { return lie(s, m, 0) }, ""},
		{"malformed-option", func(s subnet, m *dhcpv4.DHCPv4) [][]byte { return lie(s, m, 0, option([]byte("\x00\xffhttps"))) }, ""},
		{"refuses-everything", func(s subnet, m *dhcpv4.DHCPv4) [][]byte { return lie(s, m, dhcpv4.MessageTypeNak) }, ""},
		{"offers-and-refuses", func(s subnet, m *dhcpv4.DHCPv4) [][]byte {
			if m.MessageType() == dhcpv4.MessageTypeDiscover {
				return lie(s, m, 0, good)
			}
			return lie(s, m, dhcpv4.MessageTypeNak)
		}, "> DHCPREQUEST"},
		{"address-of-the-router", func(s subnet, m *dhcpv4.DHCPv4) [][]byte {
			if m.MessageType() == dhcpv4.MessageTypeRequest && !mine(s, m) {
				return nil
			}
			return lie(s, m, 0, good, dhcpv4.WithYourIP(net.ParseIP(s.host(1))))
		}, "> DHCPDECLINE"},
		{"other-transaction", func(s subnet, m *dhcpv4.DHCPv4) [][]byte {
			m.TransactionID[0] ^= 1
			return lie(s, m, 0, good)
		}, ""},
		{"other-hardware-address", func(s subnet, m *dhcpv4.DHCPv4) [][]byte {
			m.ClientHWAddr[5] ^= 1
			return lie(s, m, 0, good)
		}, ""},
		{"huge", func(s subnet, m *dhcpv4.DHCPv4) [][]byte {
			return [][]byte{append(lie(s, m, 0, good, option(make([]byte, 60_000)))[0], 255)}
		}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel() // who was given an address in use waits for 10 s
			s := subnet(fmt.Sprint(50 + i))
			n := s.network(t)
			n.Liar(t, s.host(66)+"/24", func(m *dhcpv4.DHCPv4) [][]byte { return tt.lie(s, m) })
			if tt.says == "" {
				n.Kea4(t, s.dhcp(t))
			}
			trace := n.Trace(t)
			r := newRig(t, time.Minute, n)
			won := make(chan error, 1)
			go func() {
				won <- r.Discover(t.Context(), func(ctx context.Context, lead source.Lead) error {
					if e := r.board.entry(n.Device, "ipv4"); e.Server != s.host(1) {
						t.Errorf("status %+v", e)
					}
					return reach(ctx, lead)
				})
			}()
			if tt.says != "" {
				trace.AwaitPacket(t, tt.says, func(p wire.Packet) bool { return p.FromDevice && "> "+p.Kind() == tt.says })
				n.Kea4(t, s.dhcp(t))
			}
			if err := <-won; err != nil {
				t.Fatal(err)
			}
			if trace.Count("DHCPREQUEST") > 3 {
				t.Errorf("%q", trace.Story("DHCP"))
			}
		})
	}
}

// TestFruitlessServer has a server whose list of bootstrap servers leads nowhere answer first in the first round. In a later
// one the other server gets its turn.
func TestFruitlessServer(t *testing.T) {
	t.Parallel()
	s := subnet("42")
	n := s.network(t)
	c := s.dhcp(t)
	n.Liar(t, s.host(66)+"/24", func(m *dhcpv4.DHCPv4) [][]byte {
		if id := m.ServerIdentifier(); id != nil && !id.Equal(net.ParseIP(s.host(66))) {
			return nil
		}
		kind := dhcpv4.MessageTypeOffer
		if m.MessageType() == dhcpv4.MessageTypeRequest {
			kind = dhcpv4.MessageTypeAck
		}
		p, err := dhcpv4.NewReplyFromRequest(m, dhcpv4.WithMessageType(kind), dhcpv4.WithYourIP(net.ParseIP(s.host(70))),
			dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.ParseIP(s.host(66)))), dhcpv4.WithNetmask(net.CIDRMask(24, 32)), dhcpv4.WithLeaseTime(3600),
			dhcpv4.WithOption(dhcpv4.OptGeneric(dhcpv4.GenericOptionCode(dhcp.OptionV4Redirect), redirect(t, "https://"+s.host(66)))))
		if err != nil {
			panic(err)
		}
		return [][]byte{p.ToBytes()}
	})
	n.Kea4(t, c)
	r := newRig(t, 3*time.Second, n)
	var servers []string
	for range 6 {
		err := r.Discover(t.Context(), func(ctx context.Context, lead source.Lead) error {
			servers = append(servers, lead.Servers[0].Address)
			return reach(ctx, lead)
		})
		if err == nil {
			break
		}
		t.Log(err)
	}
	if !slices.Contains(servers, s.host(1)) {
		t.Errorf("%q", servers)
	}
}

// TestRefusedRenewal renumbers the network during a visit: the server refuses the renewal, the old address goes at once and
// the visit goes on from a new one.
func TestRefusedRenewal(t *testing.T) {
	t.Parallel() // half of a lease passes
	s := subnet("43")
	n := s.network(t)
	c := s.dhcp(t)
	c.Lifetime = 10
	log := n.Kea4(t, c)
	trace := n.Trace(t)
	r := newRig(t, 10*time.Second, n)
	err := r.visit(t, func(lead source.Lead) {
		log.Stop()
		n.Dnsmasq(t, "dhcp-range="+s.host(100)+","+s.host(109)+",1h")
		nak := trace.AwaitKind(t, "DHCPNAK", false)
		if _, to := nak.Addresses(); to.Addr().String() != "255.255.255.255" {
			t.Errorf("refused to %v", to)
		}
		r.board.await(t, func(status state.Status) bool {
			return slices.ContainsFunc(status.Interfaces, func(i state.Interface) bool {
				return i.Family == "ipv4" && i.State == "bound" && len(i.Addresses) == 1 && strings.HasPrefix(i.Addresses[0], s.host(10))
			})
		})
		if out := configured(t, n); strings.Contains(out, s.host(50)) {
			t.Errorf("still has %s", out)
		}
		if err := reach(t.Context(), lead); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"> DHCPDISCOVER", "> DHCPREQUEST", "< DHCPACK", "> ARP probe", "> DHCPREQUEST", "< DHCPNAK",
		"> DHCPDISCOVER", "> DHCPREQUEST", "< DHCPACK", "> ARP probe", "> SYN", "< SYN ACK", "> DHCPRELEASE"}
	trace.AwaitKind(t, "DHCPRELEASE", true)
	if diff := cmp.Diff(want, trace.Kinds(exceptOffers...)); diff != "" {
		t.Error(diff)
	}
}

// TestExpiredLease has the server die during a visit: it is asked for more time, then any server is; then the address is gone,
// and there is another one once a server is back.
func TestExpiredLease(t *testing.T) {
	t.Parallel() // a whole lease passes
	s := subnet("44")
	n := s.network(t)
	c := s.dhcp(t)
	c.Lifetime = 10
	log := n.Kea4(t, c)
	trace := n.Trace(t)
	r := newRig(t, 10*time.Second, n)
	err := r.visit(t, func(lead source.Lead) {
		log.Stop()
		renewal := trace.AwaitPacket(t, "renewal", func(p wire.Packet) bool { return is(p, "DHCPREQUEST", s.host(1)) })
		rebinding := trace.AwaitPacket(t, "rebinding", func(p wire.Packet) bool {
			return is(p, "DHCPREQUEST", "255.255.255.255") && !p.DHCP4().ClientIPAddr.IsUnspecified()
		})
		if !rebinding.At.After(renewal.At) {
			t.Error("asked all servers before its own")
		}
		err := r.System.Await(t.Context(), func(links []link.Link) bool {
			return slices.ContainsFunc(links, func(l link.Link) bool { return l.Name == n.Device && len(l.Global(false)) == 0 })
		})
		if err != nil {
			t.Error(err)
		}
		r.board.await(t, func(status state.Status) bool {
			return slices.ContainsFunc(status.Interfaces, func(i state.Interface) bool {
				return i.Family == "ipv4" && i.State == "unbound" && strings.Contains(i.Detail, "not extended") && len(i.RoutesRemoved) == 2
			})
		})
		if out := configured(t, n); out != "" {
			t.Errorf("after the end of the lease: %s", out)
		}
		n.Kea4(t, c)
		trace.AwaitPacket(t, "next lease", func(p wire.Packet) bool { return p.At.After(rebinding.At) && is(p, "DHCPACK", "") })
		r.board.await(t, func(status state.Status) bool {
			return slices.ContainsFunc(status.Interfaces, func(i state.Interface) bool { return i.Family == "ipv4" && i.State == "bound" })
		})
		if err := reach(t.Context(), lead); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	trace.AwaitKind(t, "DHCPRELEASE", true)
}

// TestLongOption has real servers send a list of bootstrap servers that takes more than one instance of the option (RFC 3396).
func TestLongOption(t *testing.T) {
	var uris []string
	for i := range 5 {
		uris = append(uris, fmt.Sprintf("https://sztp-%02d.region-eu-central.bootstrap.example.net:8443", i+1))
	}
	list := redirect(t, uris...)
	n := subnet("45").network(t)
	c := subnet("45").dhcp(t)
	c.Redirect = list
	n.Kea4(t, c)
	trace := n.Trace(t)
	r := newRig(t, 10*time.Second, n)
	err := discover(t, r, func(_ context.Context, lead source.Lead) error {
		if len(lead.Servers) != len(uris) || len(lead.Warnings) > 0 {
			t.Errorf("%+v", lead)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	p := trace.AwaitKind(t, "DHCPACK", false)
	if whole := p.TransportLayer().LayerPayload(); bytes.Contains(whole, list) || !bytes.Equal(p.DHCP4().Options[dhcp.OptionV4Redirect], list) {
		t.Errorf("the option was not split: %x", whole)
	}
}

// TestOtherProvisioningIsIgnored has real servers offer everything by which other agents are provisioned, in options and in
// the fields of the header; nothing of it is fetched, or even looked up.
func TestOtherProvisioningIsIgnored(t *testing.T) {
	forced := map[int]string{43: "\x01\x10http://198.18.46.9", 66: "tftp.lab.test", 67: "boot/image.bin", 114: "http://ztp.lab.test/script.sh",
		128: "http://ztp.lab.test", 150: "\xc6\x12\x2e\x09", 239: "http://ztp.lab.test/ztp.json"}
	for server, start := range map[string]func(t *testing.T, n *nettest.Network, s subnet){
		"kea": func(t *testing.T, n *nettest.Network, s subnet) {
			c := s.dhcp(t)
			c.Forced = forced
			c.More = map[string]any{"next-server": s.host(9), "server-hostname": "tftp.lab.test", "boot-file-name": "boot/image.bin"}
			n.Kea4(t, c)
		},
		"dnsmasq": func(t *testing.T, n *nettest.Network, s subnet) {
			args := []string{"dhcp-range=" + s.host(50) + "," + s.host(60) + ",1h", "dhcp-boot=boot/image.bin,tftp.lab.test," + s.host(9),
				"dhcp-option=143," + nettest.HexOption(redirect(t, "https://"+s.host(1)+":8443")), "address=/lab.test/" + s.host(9)}
			for code, value := range forced {
				if code == 150 {
					args = append(args, "dhcp-option-force=150,"+s.host(9))
				} else if code != 66 && code != 67 { // they are in the header
					args = append(args, fmt.Sprintf("dhcp-option-force=%d,%s", code, nettest.HexOption([]byte(value))))
				}
			}
			n.Dnsmasq(t, args...)
		},
	} {
		t.Run(server, func(t *testing.T) {
			s := subnet("46")
			n := s.network(t)
			n.Attach(t, s.host(9)+"/24")
			start(t, n, s)
			trace := n.Trace(t)
			r := newRig(t, 10*time.Second, n)
			if err := discover(t, r, reach); err != nil {
				t.Fatal(err)
			}
			trace.AwaitKind(t, "DHCPRELEASE", true)
			m := trace.AwaitKind(t, "DHCPACK", false).DHCP4()
			if m.BootFileName != "boot/image.bin" || m.ServerHostName != "tftp.lab.test" || !m.Options.Has(dhcpv4.GenericOptionCode(239)) || !m.Options.Has(dhcpv4.GenericOptionCode(43)) {
				t.Errorf("the server did not offer what is to be ignored: %v", m.Summary())
			}
			for _, code := range []uint8{43, 66, 67, 114, 150, 239} {
				if trace.AwaitKind(t, "DHCPDISCOVER", true).DHCP4().IsOptionRequested(dhcpv4.GenericOptionCode(code)) {
					t.Errorf("asked for option %d", code)
				}
			}
			for _, p := range trace.Packets() {
				_, to := p.Addresses()
				if p.FromDevice && to.Addr().Is4() && !is(p, "DHCP"+strings.TrimPrefix(p.Kind(), "DHCP"), "") && to != netip.MustParseAddrPort(s.host(1)+":8443") {
					t.Errorf("sent %v", p)
				}
			}
		})
	}
}

// TestInformTrace: on an interface that somebody else configured, nothing but DHCPINFORM is sent, from its address.
func TestInformTrace(t *testing.T) {
	s := subnet("47")
	n := s.network(t)
	n.Up(t)
	n.Inside.Run(t, "ip", "addr", "add", s.host(7)+"/24", "dev", n.Device)
	n.Kea4(t, s.dhcp(t))
	trace := n.Trace(t)
	r := newRig(t, 10*time.Second, n)
	if err := discover(t, r, reach); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"> DHCPINFORM", "< DHCPACK"}, trace.Kinds("DHCP", "ARP probe")); diff != "" {
		t.Error(diff)
	}
	p := trace.AwaitKind(t, "DHCPINFORM", true)
	if from, _ := p.Addresses(); from.Addr().String() != s.host(7) || p.DHCP4().ClientIPAddr.String() != s.host(7) {
		t.Errorf("%v", p)
	}
	n.Inside.Run(t, "ip", "addr", "del", s.host(7)+"/24", "dev", n.Device)
}

// TestReleaseAfterFailure: a round that comes to nothing gives its lease back as well.
func TestReleaseAfterFailure(t *testing.T) {
	s := subnet("48")
	n := s.network(t)
	n.Kea4(t, s.dhcp(t))
	trace := n.Trace(t)
	r := newRig(t, 2*time.Second, n)
	failed := &reason.Error{Code: "no-use", Msg: "of no use"}
	if err := discover(t, r, func(context.Context, source.Lead) error { return failed }); !errors.Is(err, failed) {
		t.Errorf("%v", err)
	}
	trace.AwaitPacket(t, "release", func(p wire.Packet) bool { return is(p, "DHCPRELEASE", s.host(1)) })
}
