package wire

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv6"
	"golang.org/x/net/dns/dnsmessage"
)

// Packet is one recorded frame.
type Packet struct {
	gopacket.Packet
	At         time.Time // when the kernel saw it
	FromDevice bool
}

// Addresses returns source and destination with their ports, which are 0 for protocols without any; both are invalid for
// anything that is not IP.
func (p Packet) Addresses() (source, destination netip.AddrPort) {
	var from, to netip.Addr
	switch ip := p.NetworkLayer().(type) {
	case *layers.IPv4:
		from, _ = netip.AddrFromSlice(ip.SrcIP)
		to, _ = netip.AddrFromSlice(ip.DstIP)
	case *layers.IPv6:
		from, _ = netip.AddrFromSlice(ip.SrcIP)
		to, _ = netip.AddrFromSlice(ip.DstIP)
	default:
		return source, destination
	}
	var fromPort, toPort uint16
	switch t := p.TransportLayer().(type) {
	case *layers.UDP:
		fromPort, toPort = uint16(t.SrcPort), uint16(t.DstPort)
	case *layers.TCP:
		fromPort, toPort = uint16(t.SrcPort), uint16(t.DstPort)
	}
	return netip.AddrPortFrom(from, fromPort), netip.AddrPortFrom(to, toPort)
}

// DHCP4 decodes a DHCPv4 message; nil is anything else.
func (p Packet) DHCP4() *dhcpv4.DHCPv4 {
	if _, to := p.Addresses(); to.Port() != 67 && to.Port() != 68 {
		return nil
	}
	m, err := dhcpv4.FromBytes(p.payload())
	if err != nil {
		return nil
	}
	return m
}

// DHCP6 decodes a DHCPv6 message; nil is anything else, also what relays say to servers.
func (p Packet) DHCP6() *dhcpv6.Message {
	if _, to := p.Addresses(); to.Port() != 546 && to.Port() != 547 {
		return nil
	}
	m, err := dhcpv6.MessageFromBytes(p.payload())
	if err != nil {
		return nil
	}
	return m
}

// DNS decodes a DNS message over UDP, multicast DNS included; nil is anything else.
func (p Packet) DNS() *dnsmessage.Message {
	from, to := p.Addresses()
	var m dnsmessage.Message
	if p.Layer(layers.LayerTypeUDP) == nil || !dnsPort(from) && !dnsPort(to) || m.Unpack(p.payload()) != nil {
		return nil
	}
	return &m
}

func dnsPort(a netip.AddrPort) bool { return a.Port() == 53 || a.Port() == 5353 }

func (p Packet) payload() []byte {
	if t := p.TransportLayer(); t != nil {
		return t.LayerPayload()
	}
	return nil
}

// Kind names the packet: "DHCPDISCOVER" and the other types of RFC 2131; "SOLICIT6", "REPLY6" and so on of RFC 8415; "ARP
// probe", "ARP request", "ARP reply"; "RS", "RA", "NS", "DAD" (a neighbour solicitation from no address), "NA"; "DNS query TXT", "DNS answer SRV" and
// "mDNS …" likewise; "SYN", "SYN ACK", "RST", "TCP", "UDP"; otherwise the name of the innermost protocol.
func (p Packet) Kind() string {
	if m := p.DHCP4(); m != nil {
		return "DHCP" + m.MessageType().String()
	}
	if m := p.DHCP6(); m != nil {
		return strings.ToUpper(m.MessageType.String()) + "6"
	}
	if m := p.DNS(); m != nil {
		return p.dnsKind(m)
	}
	for _, l := range p.Layers() {
		switch l := l.(type) {
		case *layers.ARP:
			return arpKind(l)
		case *layers.TCP:
			return tcpKind(l)
		case *layers.UDP:
			return "UDP"
		case *layers.ICMPv6RouterSolicitation:
			return "RS"
		case *layers.ICMPv6RouterAdvertisement:
			return "RA"
		case *layers.ICMPv6NeighborAdvertisement:
			return "NA"
		case *layers.ICMPv6NeighborSolicitation:
			if from, _ := p.Addresses(); from.Addr().IsUnspecified() {
				return "DAD"
			}
			return "NS"
		}
	}
	all := p.Layers()
	if len(all) == 0 {
		return "nothing"
	}
	return all[len(all)-1].LayerType().String()
}

func (p Packet) dnsKind(m *dnsmessage.Message) string {
	from, to := p.Addresses()
	kind := "DNS query"
	if m.Response {
		kind = "DNS answer"
	}
	if from.Port() == 5353 || to.Port() == 5353 {
		kind = "m" + kind
	}
	var types []dnsmessage.Type
	for _, q := range m.Questions {
		types = append(types, q.Type)
	}
	if len(types) == 0 { // as in multicast DNS
		for _, a := range m.Answers {
			types = append(types, a.Header.Type)
		}
	}
	for _, t := range types {
		kind += " " + strings.TrimPrefix(t.String(), "Type")
	}
	return kind
}

func arpKind(a *layers.ARP) string {
	switch {
	case a.Operation == layers.ARPReply:
		return "ARP reply"
	case netip.AddrFrom4([4]byte(a.SourceProtAddress)).IsUnspecified():
		return "ARP probe"
	}
	return "ARP request"
}

func tcpKind(t *layers.TCP) string {
	switch {
	case t.RST:
		return "RST"
	case t.SYN && t.ACK:
		return "SYN ACK"
	case t.SYN:
		return "SYN"
	}
	return "TCP"
}

// String tells who said what to whom, such as "> DHCPDISCOVER 0.0.0.0:68 255.255.255.255:67"; ">" is from the device.
func (p Packet) String() string {
	direction := "<"
	if p.FromDevice {
		direction = ">"
	}
	from, to := p.Addresses()
	if !from.IsValid() {
		return direction + " " + p.Kind()
	}
	return fmt.Sprintf("%s %s %v %v", direction, p.Kind(), from, to)
}
