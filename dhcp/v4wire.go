package dhcp

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// requestedV4 is the parameter request list; classless routes come before the router option as RFC 3442 demands. What else
// servers offer for provisioning (options 43, 66, 67 and the header's fields for them) is neither asked for nor looked at.
var requestedV4 = []dhcpv4.OptionCode{dhcpv4.OptionSubnetMask, dhcpv4.OptionClasslessStaticRoute, dhcpv4.OptionRouter,
	dhcpv4.OptionDomainNameServer, dhcpv4.OptionDomainName, dhcpv4.GenericOptionCode(OptionV4Redirect),
	dhcpv4.OptionRenewTimeValue, dhcpv4.OptionRebindingTimeValue}

var v4Broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// message is a message with the fields and options that every one of its kind has (RFC 2131, table 5). The broadcast flag is
// clear because raw sockets receive what is sent to an address that the interface does not have yet.
func (c *Client4) message(t dhcpv4.MessageType, xid dhcpv4.TransactionID, elapsed time.Duration) *dhcpv4.DHCPv4 {
	m := &dhcpv4.DHCPv4{
		OpCode: dhcpv4.OpcodeBootRequest, HWType: 1, ClientHWAddr: c.MAC, TransactionID: xid,
		NumSeconds:   uint16(min(elapsed/time.Second, 0xffff)),
		ClientIPAddr: net.IPv4zero, YourIPAddr: net.IPv4zero, ServerIPAddr: net.IPv4zero, GatewayIPAddr: net.IPv4zero,
		Options: make(dhcpv4.Options),
	}
	m.UpdateOption(dhcpv4.OptMessageType(t))
	if len(c.ClientID) > 0 {
		m.UpdateOption(dhcpv4.OptClientIdentifier(c.ClientID))
	}
	if t == dhcpv4.MessageTypeDecline || t == dhcpv4.MessageTypeRelease {
		return m // they ask for nothing
	}
	mtu := c.MTU
	if mtu < 576 {
		mtu = 1500
	}
	m.UpdateOption(dhcpv4.OptParameterRequestList(requestedV4...))
	m.UpdateOption(dhcpv4.OptMaxMessageSize(uint16(min(mtu, 1500)))) // of the IP datagram
	if c.VendorClass != "" {
		m.UpdateOption(dhcpv4.OptClassIdentifier(c.VendorClass))
	}
	return m
}

// send sends m to a server or to all.
func (c *Client4) send(conn net.PacketConn, m *dhcpv4.DHCPv4, to netip.Addr) error {
	_, err := conn.WriteTo(m.ToBytes(), &net.UDPAddr{IP: to.AsSlice(), Port: v4ServerPort})
	address := m.RequestedIPAddress()
	if address == nil {
		address = m.ClientIPAddr
	}
	log := logger(c.Logger).With("to", to.String(), "xid", m.TransactionID.String(), "address", address.String())
	if err != nil {
		log.Debug("could not send DHCP"+m.MessageType().String(), "error", err)
		return err
	}
	log.Debug("sent DHCP" + m.MessageType().String())
	return nil
}

// reply decodes p when it is a server's answer to this transaction of this client and of one of the kinds, or returns nil.
func (c *Client4) reply(p datagram, xid dhcpv4.TransactionID, kinds ...dhcpv4.MessageType) *dhcpv4.DHCPv4 {
	// The transaction is compared first: most packets on a shared link are for others.
	if len(p.data) < v4HeaderLength || !bytes.Equal(p.data[4:8], xid[:]) {
		return nil
	}
	m, err := parseV4(p.data)
	if err != nil {
		logger(c.Logger).Debug("ignored a malformed DHCPv4 message", "from", p.from, "error", err)
		return nil
	}
	if m.OpCode != dhcpv4.OpcodeBootReply || !bytes.Equal(m.ClientHWAddr, c.MAC) {
		return nil
	}
	log := logger(c.Logger).With("from", p.from, "server", m.ServerIdentifier().String(), "xid", xid.String())
	kind := m.MessageType()
	// Servers that copy the client identifier say whom they mean (RFC 6842 §3).
	if id := m.Options.Get(dhcpv4.OptionClientIdentifier); len(id) > 0 && !bytes.Equal(id, c.ClientID) || !slices.Contains(kinds, kind) {
		log.Debug("ignored a DHCP" + kind.String() + " that nobody waits for")
		return nil
	}
	if kind == dhcpv4.MessageTypeNak {
		log.Debug("received DHCPNAK", "says", fmt.Sprintf("%.80q", m.Message()))
		return m
	}
	log.Debug("received DHCP"+kind.String(), "address", m.YourIPAddr.String(),
		"option-143", m.Options.Has(dhcpv4.GenericOptionCode(OptionV4Redirect)))
	return m
}
