package dhcp

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// arp is an ARP packet of a neighbour.
func arp(operation byte, sender net.HardwareAddr, senderIP, targetIP string) []byte {
	b := append([]byte{0, 1, 8, 0, 6, 4, 0, operation}, sender...)
	b = append(b, netip.MustParseAddr(senderIP).AsSlice()...)
	b = append(b, 0, 0, 0, 0, 0, 0)
	return append(b, netip.MustParseAddr(targetIP).AsSlice()...)
}

var neighbour = net.HardwareAddr{2, 0, 0, 0, 0, 9}

func TestWhoHoldsAnAddress(t *testing.T) {
	address := netip.MustParseAddr("192.0.2.50")
	for name, tt := range map[string]struct {
		packet []byte
		holds  bool
	}{
		"reply":            {arp(2, neighbour, "192.0.2.50", "0.0.0.0"), true},
		"announcement":     {arp(1, neighbour, "192.0.2.50", "192.0.2.50"), true},
		"asks-as-holder":   {arp(1, neighbour, "192.0.2.50", "192.0.2.1"), true},
		"probes-it-too":    {arp(1, neighbour, "0.0.0.0", "192.0.2.50"), true},
		"asks-for-it":      {arp(1, neighbour, "192.0.2.1", "192.0.2.50"), false},
		"about-another":    {arp(2, neighbour, "192.0.2.51", "0.0.0.0"), false},
		"our-own":          {arp(1, mac, "0.0.0.0", "192.0.2.50"), false},
		"short":            {arp(2, neighbour, "192.0.2.50", "0.0.0.0")[:27], false},
		"other-hardware":   {append([]byte{0, 6}, arp(2, neighbour, "192.0.2.50", "0.0.0.0")[2:]...), false},
		"nothing":          {nil, false},
		"padded-like-real": {append(arp(2, neighbour, "192.0.2.50", "0.0.0.0"), make([]byte, 18)...), true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := arpHolder(tt.packet, mac, address); (got != nil) != tt.holds || tt.holds && got.String() != neighbour.String() {
				t.Errorf("%v", got)
			}
		})
	}
}

// TestAddressInUse leases an address that a neighbour has: it is declined, and the next one taken after a while.
func TestAddressInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var kinds []string
		w := newWire(func(b []byte, _ time.Duration) [][]byte {
			switch k := kind4(t, b); k {
			case dhcpv4.MessageTypeDiscover:
				kinds = append(kinds, "discover")
				return [][]byte{answer4(t, b, dhcpv4.MessageTypeOffer, "192.0.2.1", option{OptionV4Redirect, encode(t, "https://bs.example.net")})}
			case dhcpv4.MessageTypeRequest:
				return [][]byte{answer4(t, b, dhcpv4.MessageTypeAck, "192.0.2.1", option{OptionV4Redirect, encode(t, "https://bs.example.net")})}
			case dhcpv4.MessageTypeDecline:
				m, err := dhcpv4.FromBytes(b)
				if err != nil || m.RequestedIPAddress().String() != "192.0.2.50" || m.ServerIdentifier().String() != "192.0.2.1" ||
					!m.ClientIPAddr.Equal(net.IPv4zero) || len(m.ParameterRequestList()) > 0 {
					t.Errorf("%v, %v", m, err)
				}
				kinds = append(kinds, "decline")
			default:
				t.Errorf("sent %v", k)
			}
			return nil
		})
		probes := 0
		air := newWire(func(b []byte, _ time.Duration) [][]byte {
			if string(b[14:18]) == string(b[24:28]) {
				kinds = append(kinds, "announce")
			} else if string(b) != string(arp(1, mac, "0.0.0.0", "192.0.2.50")) {
				t.Errorf("sent %x", b)
			} else if probes++; probes == 2 { // the first is lost
				return [][]byte{arp(2, neighbour, "192.0.2.50", "0.0.0.0")}
			}
			return nil
		})
		c := client4(w)
		c.OpenARP = func() (net.PacketConn, error) { return air.open(), nil }
		begun := time.Now()
		lease, err := c.Acquire(t.Context())
		if err != nil || lease.Address.Addr().String() != "192.0.2.50" {
			t.Fatalf("%+v, %v", lease, err)
		}
		if got := strings.Join(kinds, " "); got != "discover decline discover announce" || probes != 5 {
			t.Errorf("%s, %d probes", got, probes)
		}
		if took := time.Since(begun); took < 10*time.Second || took > 22*time.Second {
			t.Errorf("asked again after %v", took)
		}
	})
}
