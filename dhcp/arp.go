package dhcp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sys/unix"
)

// OpenARP makes a socket on which ARP packets of one Ethernet interface are sent to all and received, without their Ethernet
// header.
type OpenARP func() (net.PacketConn, error)

// SocketARP returns the ARP sockets of a real interface; they need CAP_NET_RAW.
func SocketARP(ifi *net.Interface) OpenARP {
	return func() (net.PacketConn, error) {
		conn, err := listenPackets(ifi, unix.ETH_P_ARP, nil)
		if err != nil {
			return nil, err // not conn: a nil *packets in an interface is not nil
		}
		return conn, nil
	}
}

// probing asks three times and takes 0.12 s; whoever has the address and is alive answers within a few milliseconds. RFC 5227
// §2.1.1 asks for seconds, which is meant for addresses that nobody hands out.
var probing = retransmission{initial: 40 * time.Millisecond, max: 40 * time.Millisecond, tries: 3}

// declined is the shortest wait before servers may be asked again after an address was in use (RFC 2131 §3.1).
const declined = 10 * time.Second

// holder returns the hardware address of another host that uses address. When nobody does it announces, so that neighbours
// forget who had the address before (RFC 5227 §2.3), and returns nil. Without ARP nobody can tell.
func (c *Client4) holder(ctx context.Context, address netip.Addr) net.HardwareAddr {
	if c.OpenARP == nil || len(c.MAC) != 6 {
		return nil
	}
	conn, err := c.OpenARP()
	if err != nil {
		logger(c.Logger).Debug("cannot look who uses the leased address", "error", err)
		return nil
	}
	defer conn.Close()
	var other net.HardwareAddr
	probe := arpRequestFor(c.MAC, netip.IPv4Unspecified(), address)
	send := func(time.Duration) error { _, err := conn.WriteTo(probe, nil); return err }
	accept := func(p datagram, _ time.Duration) verdict {
		other = arpHolder(p.data, c.MAC, address)
		return verdict{done: other != nil}
	}
	if err := exchange(ctx, receive(conn), probing, c.Rand, send, accept); err != nil && !errors.Is(err, errUnanswered) {
		return nil
	}
	if other == nil {
		_, _ = conn.WriteTo(arpRequestFor(c.MAC, address, address), nil) // as good as lost
	}
	return other
}

// ARP for IPv4 on Ethernet (RFC 826).
const (
	arpLength  = 28
	arpRequest = 1
)

var arpHeader = []byte{0, 1, 8, 0, 6, 4}

// arpRequestFor asks for address: a probe when it comes from no address (RFC 5227 §2.1.1), an announcement when from the same.
func arpRequestFor(mac net.HardwareAddr, from, address netip.Addr) []byte {
	b := binary.BigEndian.AppendUint16(bytes.Clone(arpHeader), arpRequest)
	b = append(append(b, mac...), from.AsSlice()...)
	return append(append(b, 0, 0, 0, 0, 0, 0), address.AsSlice()...)
}

// arpHolder returns who else uses address, or is about to, according to a packet, or nil.
func arpHolder(p []byte, mac net.HardwareAddr, address netip.Addr) net.HardwareAddr {
	if len(p) < arpLength || !bytes.HasPrefix(p, arpHeader) || bytes.Equal(p[8:14], mac) {
		return nil
	}
	want, sender, target := address.AsSlice(), p[14:18], p[24:28]
	probe := binary.BigEndian.Uint16(p[6:]) == arpRequest && bytes.Equal(sender, []byte{0, 0, 0, 0}) && bytes.Equal(target, want)
	if bytes.Equal(sender, want) || probe {
		return bytes.Clone(p[8:14])
	}
	return nil
}

// decline tells the server that another host uses the address (RFC 2131 §4.4.4). It does not answer.
func (c *Client4) decline(conn net.PacketConn, lease *Lease) {
	m := c.message(dhcpv4.MessageTypeDecline, c.xid(), 0)
	m.UpdateOption(dhcpv4.OptRequestedIPAddress(lease.Address.Addr().AsSlice()))
	m.UpdateOption(dhcpv4.OptServerIdentifier(lease.Server.AsSlice()))
	_ = c.send(conn, m, v4Broadcast) // as good as lost; the next lease is looked at as well
}
