package dhcp

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// TestInformAnswers says which of several answers counts, and that what others send does not.
func TestInformAnswers(t *testing.T) {
	useful := option{OptionV4Redirect, encode(t, "https://bs.example.net")}
	answer := func(t *testing.T, b []byte, server string, options ...option) []byte {
		return answer4(t, b, dhcpv4.MessageTypeAck, server, options...)
	}
	for name, tt := range map[string]struct {
		answers func(t *testing.T, b []byte) [][]byte
		want    string
		within  time.Duration
	}{
		"useful-at-once": {func(t *testing.T, b []byte) [][]byte {
			return [][]byte{answer(t, b, "192.0.2.2", useful), answer(t, b, "192.0.2.1")}
		}, "192.0.2.2", 0},
		"useful-later": {func(t *testing.T, b []byte) [][]byte {
			return [][]byte{answer(t, b, "192.0.2.1"), answer(t, b, "192.0.2.2", useful)}
		}, "192.0.2.2", 0},
		"none-useful": {func(t *testing.T, b []byte) [][]byte {
			return [][]byte{answer(t, b, "192.0.2.1"), answer(t, b, "192.0.2.2")}
		}, "192.0.2.1", 120 * time.Millisecond},
		"others-first": {func(t *testing.T, b []byte) [][]byte {
			foreign, offer := answer(t, b, "192.0.2.3", useful), answer4(t, b, dhcpv4.MessageTypeOffer, "192.0.2.4", useful)
			foreign[4] ^= 1
			return [][]byte{{}, foreign, offer, answer(t, b, "192.0.2.2", useful)}
		}, "192.0.2.2", 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWire(func(b []byte, _ time.Duration) [][]byte { return tt.answers(t, b) })
				lease, err := client4(w).Inform(t.Context(), netip.MustParseAddr("192.0.2.7"))
				if err != nil || lease.Server.String() != tt.want || lease.Address.IsValid() {
					t.Fatalf("%+v, %v", lease, err)
				}
				if took := time.Since(w.begun); took > tt.within {
					t.Errorf("took %v", took)
				}
			})
		})
	}
}

// TestSocketFails: whoever cannot have a socket is told, whatever for.
func TestSocketFails(t *testing.T) {
	c := &Client4{MAC: mac, Open: func(bool, netip.Addr) (net.PacketConn, error) { return nil, net.ErrClosed }}
	lease := &Lease{Address: netip.MustParsePrefix("192.0.2.50/24"), Server: netip.MustParseAddr("192.0.2.1")}
	_, acquire := c.Acquire(t.Context())
	_, inform := c.Inform(t.Context(), lease.Address.Addr())
	_, extend := c.Extend(t.Context(), lease)
	for name, err := range map[string]error{"acquire": acquire, "inform": inform, "extend": extend, "release": c.Release(lease)} {
		var e *Error
		if !errors.As(err, &e) || e.Reason() != SocketFailed || !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestReleaseV4: an address that is gone already is given back all the same, and where there is none nothing is sent.
func TestReleaseV4(t *testing.T) {
	w := newWire(func([]byte, time.Duration) [][]byte { return nil })
	c := client4(w)
	c.Open = func(raw bool, local netip.Addr) (net.PacketConn, error) {
		if !raw || local.String() != "192.0.2.50" {
			return nil, net.ErrClosed
		}
		return w.open(), nil
	}
	if err := c.Release(&Lease{Server: netip.MustParseAddr("192.0.2.1")}); err != nil || len(w.sent) > 0 {
		t.Errorf("%d messages for no address, %v", len(w.sent), err)
	}
	lease := &Lease{Address: netip.MustParsePrefix("192.0.2.50/24"), Server: netip.MustParseAddr("192.0.2.1")}
	if err := c.Release(lease); err != nil || len(w.sent) != 1 || w.to[0] != "192.0.2.1:67" || w.opened != 0 {
		t.Errorf("sent to %q, %d sockets are open, %v", w.to, w.opened, err)
	}
}

// TestMessageBounds: what does not fit a field does not wrap around in it.
func TestMessageBounds(t *testing.T) {
	for mtu, want := range map[int]uint16{0: 1500, 575: 1500, 576: 576, 1280: 1280, 1500: 1500, 9000: 1500, 70000: 1500} {
		m := (&Client4{MAC: mac, MTU: mtu}).message(dhcpv4.MessageTypeDiscover, dhcpv4.TransactionID{}, 0)
		if got, err := m.MaxMessageSize(); err != nil || got != want {
			t.Errorf("with MTU %d: %d, %v", mtu, got, err)
		}
		if m.Options.Has(dhcpv4.OptionClassIdentifier) || m.Options.Has(dhcpv4.OptionClientIdentifier) {
			t.Errorf("options without a value: %v", m.Options)
		}
	}
	for elapsed, want := range map[time.Duration]uint16{1999 * time.Millisecond: 1, 0xffff * time.Second: 0xffff, 100 * time.Hour: 0xffff} {
		if m := (&Client4{MAC: mac}).message(dhcpv4.MessageTypeDiscover, dhcpv4.TransactionID{}, elapsed); m.NumSeconds != want {
			t.Errorf("after %v: %d s", elapsed, m.NumSeconds)
		}
	}
}

// TestHostAddresses: the first and the last address of a subnet are no host's, except on links between two (RFC 3021).
func TestHostAddresses(t *testing.T) {
	for address, good := range map[string]bool{
		"192.0.2.0/24": false, "192.0.2.1/24": true, "192.0.2.254/24": true, "192.0.2.255/24": false, "192.0.2.127/25": false,
		"192.0.2.8/30": false, "192.0.2.9/30": true, "192.0.2.10/30": true, "192.0.2.11/30": false,
		"192.0.2.8/31": true, "192.0.2.9/31": true, "192.0.2.8/32": true,
	} {
		l := &Lease{Address: netip.MustParsePrefix(address)}
		if err := l.checkAddress(&dhcpv4.DHCPv4{Options: dhcpv4.Options{}}); (err == nil) != good {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// TestForeign reads what another program's lease tells.
func TestForeign(t *testing.T) {
	server := netip.MustParseAddr("192.0.2.1")
	if l := Foreign(server, encode(t, "https://bs.example.net")); l.Server != server || len(l.Servers) != 1 || l.Address.IsValid() {
		t.Errorf("%+v", l)
	}
}

// TestWaitAfterRefusal: a server that refuses is asked again soon, and one whose address was in use after ten seconds.
func TestWaitAfterRefusal(t *testing.T) {
	for name, used := range map[string]bool{"refused": false, "in-use": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var discovers []time.Duration
				w := newWire(func(b []byte, at time.Duration) [][]byte {
					if kind4(t, b) == dhcpv4.MessageTypeDiscover {
						discovers = append(discovers, at)
						return [][]byte{answer4(t, b, dhcpv4.MessageTypeOffer, "192.0.2.1")}
					}
					if len(discovers) == 1 && !used {
						return [][]byte{answer4(t, b, dhcpv4.MessageTypeNak, "192.0.2.1")}
					}
					return [][]byte{answer4(t, b, dhcpv4.MessageTypeAck, "192.0.2.1")}
				})
				air := newWire(func([]byte, time.Duration) [][]byte {
					if used && len(discovers) == 1 {
						return [][]byte{arp(2, neighbour, "192.0.2.50", "0.0.0.0")}
					}
					return nil
				})
				c := client4(w)
				c.OpenARP = func() (net.PacketConn, error) { return air.open(), nil }
				if _, err := c.Acquire(t.Context()); err != nil || len(discovers) != 2 {
					t.Fatalf("%v, %v", discovers, err)
				}
				low, high := time.Second, 2500*time.Millisecond
				if used {
					low, high = 10*time.Second, 11500*time.Millisecond
				}
				if wait := discovers[1] - discovers[0]; wait < low || wait > high {
					t.Errorf("asked again after %v", wait)
				}
				if w.opened != 0 || air.opened != 0 {
					t.Errorf("%d and %d sockets are open", w.opened, air.opened)
				}
			})
		})
	}
}

// TestExtendLateV4: from T2 on all servers are asked, and nobody from the end on.
func TestExtendLateV4(t *testing.T) {
	for at, want := range map[time.Duration]string{900 * time.Second: "255.255.255.255:67", 950 * time.Second: "255.255.255.255:67",
		1000 * time.Second: "", 2000 * time.Second: ""} {
		synctest.Test(t, func(t *testing.T) {
			w := newWire(func(b []byte, _ time.Duration) [][]byte {
				return [][]byte{answer4(t, b, dhcpv4.MessageTypeAck, "192.0.2.2")}
			})
			lease := &Lease{Address: netip.MustParsePrefix("192.0.2.50/25"), Server: netip.MustParseAddr("192.0.2.1"),
				Obtained: time.Now().Add(-at), Renew: 500 * time.Second, Rebind: 900 * time.Second, Valid: 1000 * time.Second}
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			_, err := client4(w).Extend(ctx, lease)
			if to := strings.Join(w.to, " "); to != want || (err == nil) != (want != "") || time.Since(w.begun) > 0 {
				t.Errorf("after %v: asked %q, %v", at, to, err)
			}
		})
	}
}
