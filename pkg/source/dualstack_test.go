package source_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket/layers"
	"github.com/vishvananda/netlink"

	"github.com/xpu-sztp/ztp/pkg/source"
	"github.com/xpu-sztp/ztp/pkg/state"
	"github.com/xpu-sztp/ztp/test/lab/wire"
	"github.com/xpu-sztp/ztp/test/nettest"
)

// TestOneFamilyBroken has both families, of which one leads nowhere in one of the ways in which it can. The other leads to the
// server within seconds.
func TestOneFamilyBroken(t *testing.T) {
	kea := func(t *testing.T, n *nettest.Network, lead4, lead6 string) {
		if lead4 != "" {
			c := kea4
			c.Redirect = redirect(t, lead4)
			n.Kea4(t, c)
		}
		if lead6 != "" {
			c := kea6
			c.Redirect = redirect(t, lead6)
			n.Kea6(t, c)
		}
	}
	const good4, dead6 = "https://192.0.2.1:8443", "https://[2001:db8:dead::1]:8443"
	router := nettest.Router{Prefix: "2001:db8:6::/64", Managed: true}
	tests := []struct {
		name   string
		set    func(t *testing.T, n *nettest.Network)
		after  func(t *testing.T, n *nettest.Network) // what there is once the device has tried to connect; nil is nothing
		from   string                                 // the address that the connection came from begins so
		kinds  []string
		absent []string
	}{
		{"no-DHCPv4-server", func(t *testing.T, n *nettest.Network) {
			kea(t, n, "", lead6)
			n.Advertise(t, router)
		}, nil, "[2001:db8:6::1", []string{"> DHCPDISCOVER", "> SOLICIT6", "> REQUEST6"}, []string{"< DHCPOFFER"}},
		{"no-IPv6-router", func(t *testing.T, n *nettest.Network) {
			kea(t, n, good4, "")
		}, nil, "192.0.2.5", []string{"> RS", "> DHCPREQUEST"}, []string{"< RA"}},
		{"no-DHCPv6-server", func(t *testing.T, n *nettest.Network) {
			kea(t, n, good4, "")
			n.Advertise(t, router)
		}, nil, "192.0.2.5", []string{"> SOLICIT6", "> DHCPREQUEST"}, []string{"< ADVERTISE6"}},
		{"IPv6-leads-into-a-black-hole", func(t *testing.T, n *nettest.Network) {
			kea(t, n, "", dead6)
			n.Advertise(t, router)
		}, func(t *testing.T, n *nettest.Network) { kea(t, n, good4, "") }, "192.0.2.5", []string{"> REQUEST6", "> DHCPREQUEST"}, nil},
		{"IPv4-leads-into-a-black-hole", func(t *testing.T, n *nettest.Network) {
			kea(t, n, "https://203.0.113.9:8443", "")
		}, func(t *testing.T, n *nettest.Network) {
			kea(t, n, "", lead6)
			n.Advertise(t, router)
		}, "[2001:db8:6::1", []string{"> REQUEST6", "> DHCPREQUEST"}, nil},
		{"IPv4-names-a-server-that-has-IPv6-only", func(t *testing.T, n *nettest.Network) {
			kea(t, n, lead6, "")
			n.Advertise(t, nettest.Router{Prefix: "2001:db8:6::/64", Autonomous: true})
		}, nil, "[2001:db8:6:", []string{"> RS", "> DHCPREQUEST"}, []string{"> SOLICIT6"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n := newNetwork6(t, "192.0.2.1/24")
			serve(t, n, "192.0.2.1:8443")
			tt.set(t, n)
			trace := n.Trace(t)
			r := newRig(t, 30*time.Second, n)
			done := make(chan error, 1)
			go func() {
				done <- r.Discover(t.Context(), func(ctx context.Context, lead source.Lead) error {
					ctx, cancel := context.WithTimeout(ctx, 4*time.Second) // as an agent's patience with a server that does not answer
					defer cancel()
					return reach(ctx, lead)
				})
			}()
			if tt.after != nil {
				trace.AwaitKind(t, "SYN", true)
				tt.after(t, n)
			}
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			reached := trace.AwaitKind(t, "SYN ACK", false)
			if _, to := reached.Addresses(); !strings.HasPrefix(to.String(), tt.from) {
				t.Errorf("reached the server from %v, want %s", to, tt.from)
			}
			story := trace.Kinds()
			for _, kind := range tt.kinds {
				if !slices.Contains(story, kind) {
					t.Errorf("no %q on the cable", kind)
				}
			}
			for _, kind := range tt.absent {
				if slices.Contains(story, kind) {
					t.Errorf("%q on the cable", kind)
				}
			}
		})
	}
}

// TestSmallMTU has packets of 1280 octets, the least that IPv6 links carry: of the link, as its router says, or of a link on the way
// to the server, whose router says so when a packet is too large. The DHCPv6 reply is larger and comes in fragments.
func TestSmallMTU(t *testing.T) {
	const mtu = 1280
	const far = "2001:db8:fa::1"
	uris := []string{"https://[" + far + "]:8443"}
	for i := range 24 {
		uris = append(uris, fmt.Sprintf("https://bootstrap-server-%02d.some-data-centre.example.net:8443", i))
	}
	for where, tt := range map[string]struct {
		router nettest.Router
		upload func(wire.Packet) bool // one packet that has to be seen
	}{
		"link": {nettest.Router{Prefix: "2001:db8:6::/64", Managed: true, MTU: mtu}, func(p wire.Packet) bool {
			return p.FromDevice && len(p.Data()) > mtu && len(p.Data()) <= mtu+14
		}},
		"path": {nettest.Router{Prefix: "2001:db8:6::/64", Managed: true}, isTooBig},
	} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			n := nettest.NewNetwork(t, nil, "2001:db8:6::1/64")
			if where == "link" {
				n.Servers.Run(t, "ip", "link", "set", n.Server, "mtu", fmt.Sprint(mtu))
			}
			for where, name := range map[*nettest.Namespace]string{n.Inside: n.Device, n.Servers: n.Server} {
				where.Run(t, "ip", "link", "set", name, "gso_max_segs", "1") // packets as they are on a real cable
			}
			serveTLS(t, farNetwork(t, n, far, mtu), "["+far+"]:8443")
			c := kea6
			c.Redirect = redirect(t, uris...)
			n.Kea6(t, c)
			n.Advertise(t, tt.router)
			trace := n.Trace(t)
			r := newRig(t, 20*time.Second, n)
			err := discover(t, r, func(ctx context.Context, lead source.Lead) error {
				if len(lead.Servers) != len(uris) {
					t.Errorf("%d servers", len(lead.Servers))
				}
				return upload(ctx, lead)
			})
			if err != nil {
				t.Fatal(err)
			}
			trace.AwaitPacket(t, "packet of the upload", tt.upload)
			if where == "link" {
				trace.AwaitPacket(t, "fragment of the reply", func(p wire.Packet) bool { return p.Layer(layers.LayerTypeIPv6Fragment) != nil })
				for _, p := range trace.Packets() {
					if len(p.Data()) > mtu+14 {
						t.Errorf("a packet of %d octets: %v", len(p.Data()), p)
					}
				}
			}
		})
	}
}

func isTooBig(p wire.Packet) bool {
	l, ok := p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6)
	return ok && l.TypeCode.Type() == layers.ICMPv6TypePacketTooBig
}

// farNetwork makes a host with an address behind a link of a small MTU, which the servers' host routes to. It lets its peers send
// larger segments than fit.
func farNetwork(t *testing.T, n *nettest.Network, address string, mtu int) *nettest.Namespace {
	t.Helper()
	far := nettest.NewNamespace(t)
	n.Servers.Do(t, func() error {
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "near", MTU: mtu}, PeerName: "far", PeerMTU: uint32(mtu),
			PeerNamespace: netlink.NsFd(far.FD())})
	})
	n.Servers.Run(t, "sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
	n.Servers.Run(t, "ip", "addr", "add", "2001:db8:fa::ffff/64", "dev", "near", "nodad")
	n.Servers.Run(t, "ip", "link", "set", "near", "up")
	far.Run(t, "ip", "addr", "add", address+"/64", "dev", "far", "nodad")
	far.Run(t, "ip", "link", "set", "far", "up")
	far.Run(t, "ip", "-6", "route", "add", "default", "via", "2001:db8:fa::ffff", "advmss", "1440")
	return far
}

const uploaded = 64 << 10

// serveTLS accepts TLS with a certificate of some kilobytes, reads uploaded octets and answers one.
func serveTLS(t *testing.T, where *nettest.Namespace, address string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour),
		Subject: pkix.Name{CommonName: "server", Organization: []string{strings.Repeat("a long name ", 400)}}}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	var l net.Listener
	where.Do(t, func() (err error) { l, err = net.Listen("tcp", address); return err })
	t.Cleanup(func() { l.Close() })
	config := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{certificate}, PrivateKey: key}}}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				s := tls.Server(c, config)
				if _, err := io.CopyN(io.Discard, s, uploaded); err == nil {
					s.Write([]byte{1})
				}
			}()
		}
	}()
}

// upload sends to the first server of a lead and waits for the answer.
func upload(ctx context.Context, lead source.Lead) error {
	s := lead.Servers[0]
	conn, err := lead.Network.DialContext(ctx, "tcp", net.JoinHostPort(s.Address, strconv.Itoa(int(s.Port))))
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	c := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	if _, err := c.Write(make([]byte, uploaded)); err != nil {
		return err
	}
	_, err = io.ReadFull(c, make([]byte, 1))
	return err
}

// TestIPv6LeaseRunsOut has a lease of seconds and a server that renews it once and is gone then: the device renews, rebinds, and
// gives the address up, and asks anew. The visit goes on.
func TestIPv6LeaseRunsOut(t *testing.T) {
	t.Parallel()
	n := newNetwork6(t)
	c := kea6
	c.Redirect, c.Lifetime = redirect(t, lead6), 12
	c.More = map[string]any{"renew-timer": 5, "rebind-timer": 8, "preferred-lifetime": 12}
	n.Kea6(t, c)
	n.Advertise(t, nettest.Router{Prefix: "2001:db8:6::/64", Managed: true})
	trace := n.Trace(t)
	r := newRig(t, time.Minute, n)
	visiting, over, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		done <- r.Discover(t.Context(), func(context.Context, source.Lead) error {
			close(visiting)
			<-over
			return nil
		})
	}()
	<-visiting
	renewal := trace.AwaitKind(t, "RENEW6", true)
	trace.AwaitPacket(t, "answer to the renewal", func(p wire.Packet) bool { return p.At.After(renewal.At) && p.Kind() == "REPLY6" })
	n.Servers.Run(t, "ip", "link", "set", n.Server, "down")
	rebinding := trace.AwaitKind(t, "REBIND6", true)
	r.board.await(t, func(s state.Status) bool {
		return slices.ContainsFunc(s.Interfaces, func(i state.Interface) bool {
			return i.Name == n.Device && i.Family == "ipv6" && i.State == "unbound" && strings.Contains(i.Detail, "was not extended")
		})
	})
	if out := n.Inside.Run(t, "ip", "-6", "addr", "show", "dev", n.Device); strings.Contains(out, "/128") {
		t.Errorf("the address is still there: %s", out)
	}
	trace.AwaitPacket(t, "new solicitation", func(p wire.Packet) bool { return p.At.After(rebinding.At) && p.Kind() == "SOLICIT6" })
	close(over)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	want := []string{"> SOLICIT6", "< ADVERTISE6", "> REQUEST6", "< REPLY6", "> RENEW6", "< REPLY6", "> RENEW6", "> REBIND6", "> SOLICIT6"}
	if story := exchanges6(trace); !slices.Equal(want, story[:min(len(want), len(story))]) || slices.Contains(story, "> RELEASE6") {
		t.Error(cmp.Diff(want, story))
	}
}
