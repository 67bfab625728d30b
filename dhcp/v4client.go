package dhcp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// Ports of RFC 2131.
const (
	v4ClientPort = 68
	v4ServerPort = 67
)

// Timing of DHCPv4. RFC 2131 §4.1 asks for randomised exponential back-off up to 64 s.
var (
	v4Discover = retransmission{initial: 2 * time.Second, max: 64 * time.Second, jitter: 0.25}
	v4Request  = retransmission{initial: 2 * time.Second, max: 64 * time.Second, jitter: 0.25, tries: 3}
	v4Inform   = v4Discover
)

const (
	// offerWindow is how long after a first offer without a bootstrap server option a better one may still come.
	offerWindow = 700 * time.Millisecond
	// startDelay spreads machines that are powered on together.
	startDelay = 500 * time.Millisecond
	// extendRetry is the shortest wait between attempts to extend a lease (RFC 2131 §4.4.5).
	extendRetry = time.Minute
)

// Client4 is a DHCPv4 client on one interface. One call at a time.
type Client4 struct {
	MAC      net.HardwareAddr
	ClientID []byte       // option 61
	MTU      int          // of the interface; 0 is 1500
	Open     OpenV4       // makes sockets; required
	OpenARP  OpenARP      // to look whether another host uses a leased address; nil does not look
	Rand     *rand.Rand   // timing and transaction ids; nil is seeded at random
	Logger   *slog.Logger // nil discards
}

// OpenV4 makes the socket for DHCPv4 on one interface, from port 68. A raw socket works on an interface that has no address
// and receives what is sent to any (local invalid) or to the local address; one that is not raw is an ordinary UDP socket
// bound to the local address and the interface.
type OpenV4 func(raw bool, local netip.Addr) (net.PacketConn, error)

var _ Client = (*Client4)(nil)

// requestedV4 is the parameter request list; classless routes come before the router option as RFC 3442 demands.
var requestedV4 = []dhcpv4.OptionCode{dhcpv4.OptionSubnetMask, dhcpv4.OptionClasslessStaticRoute, dhcpv4.OptionRouter,
	dhcpv4.OptionDomainNameServer, dhcpv4.OptionDomainName, dhcpv4.GenericOptionCode(OptionV4Redirect),
	dhcpv4.OptionRenewTimeValue, dhcpv4.OptionRebindingTimeValue}

// Acquire discovers servers, prefers an offer with bootstrap servers, and requests it. A refusal begins anew, and so does an
// address that another host uses, which is declined.
func (c *Client4) Acquire(ctx context.Context) (*Lease, error) {
	conn, err := c.open(true, netip.Addr{})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	in := receive(conn)
	if err := sleep(ctx, randomly(c.Rand, startDelay)); err != nil {
		return nil, c.explain(err, nil)
	}
	var failure error // the latest reason why an offer came to nothing
	pause := time.Second
	for {
		xid := c.xid()
		offer, err := c.discover(ctx, conn, in, xid)
		if err != nil {
			return nil, c.explain(err, failure)
		}
		lease, err := c.request(ctx, conn, in, xid, offer)
		if err == nil {
			other := c.holder(ctx, lease.Address.Addr())
			if other == nil {
				return lease, nil
			}
			c.decline(conn, lease)
			err = &Error{Code: NoLease, Msg: fmt.Sprintf("another host (%v) uses the leased address %v", other, lease.Address.Addr())}
			pause = max(pause, declined)
		}
		if ctx.Err() != nil || errors.Is(err, errSocket) {
			return nil, c.explain(err, failure)
		}
		failure = err
		logger(c.Logger).Warn("the DHCPv4 lease was not granted; starting over", "server", offer.lease.Server, "error", err)
		if err := sleep(ctx, pause+randomly(c.Rand, pause)); err != nil {
			return nil, c.explain(err, failure)
		}
		pause = min(2*pause, time.Minute)
	}
}

// offer is a server's offer, and the lease it would be.
type offer struct {
	message *dhcpv4.DHCPv4
	lease   *Lease
}

func (c *Client4) discover(ctx context.Context, conn net.PacketConn, in <-chan datagram, xid dhcpv4.TransactionID) (*offer, error) {
	var best *offer
	accept := func(p datagram, _ time.Duration) verdict {
		m := c.reply(p, xid)
		if m == nil || m.MessageType() != dhcpv4.MessageTypeOffer {
			return verdict{}
		}
		lease, err := leaseFromV4(m, false, time.Now())
		if err != nil {
			logger(c.Logger).Debug("ignored a DHCPv4 offer", "from", p.from, "error", err)
			return verdict{}
		}
		if best == nil || len(best.lease.Servers) == 0 && len(lease.Servers) > 0 {
			best = &offer{m, lease}
		}
		return verdict{done: len(lease.Servers) > 0, settle: offerWindow}
	}
	send := func(elapsed time.Duration) error {
		return c.broadcast(conn, c.message(dhcpv4.MessageTypeDiscover, xid, elapsed))
	}
	if err := exchange(ctx, in, v4Discover, c.Rand, send, accept); err != nil {
		return nil, err
	}
	return best, nil
}

func (c *Client4) request(ctx context.Context, conn net.PacketConn, in <-chan datagram, xid dhcpv4.TransactionID, o *offer) (*Lease, error) {
	send := func(elapsed time.Duration) error {
		m := c.message(dhcpv4.MessageTypeRequest, xid, elapsed)
		m.UpdateOption(dhcpv4.OptRequestedIPAddress(o.message.YourIPAddr))
		m.UpdateOption(dhcpv4.OptServerIdentifier(o.lease.Server.AsSlice()))
		return c.broadcast(conn, m)
	}
	return c.acknowledged(ctx, in, xid, v4Request, send)
}

// acknowledged runs an exchange that ends with a lease, or with the server's refusal.
func (c *Client4) acknowledged(ctx context.Context, in <-chan datagram, xid dhcpv4.TransactionID, r retransmission,
	send func(time.Duration) error) (*Lease, error) {
	var lease *Lease
	var refused error
	accept := func(p datagram, _ time.Duration) verdict {
		m := c.reply(p, xid)
		if m == nil {
			return verdict{}
		}
		switch m.MessageType() {
		case dhcpv4.MessageTypeNak:
			refused = &Error{Code: NoLease, Msg: fmt.Sprintf("the DHCPv4 server refused the address (%.80q)", m.Message())}
			return verdict{done: true}
		case dhcpv4.MessageTypeAck:
			var err error
			if lease, err = leaseFromV4(m, false, time.Now()); err != nil {
				logger(c.Logger).Debug("ignored a DHCPv4 acknowledgement", "from", p.from, "error", err)
				return verdict{}
			}
			return verdict{done: true}
		}
		return verdict{}
	}
	if err := exchange(ctx, in, r, c.Rand, send, accept); err != nil {
		return nil, err
	}
	return lease, refused
}

// Inform asks for configuration for an interface that somebody else gave address to (RFC 2131 §4.4.3). Like an offer, an
// answer without bootstrap servers is taken only when no better one follows.
func (c *Client4) Inform(ctx context.Context, address netip.Addr) (*Lease, error) {
	conn, err := c.open(true, address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := sleep(ctx, randomly(c.Rand, startDelay)); err != nil {
		return nil, c.explain(err, nil)
	}
	xid := c.xid()
	var best *Lease
	send := func(elapsed time.Duration) error {
		m := c.message(dhcpv4.MessageTypeInform, xid, elapsed)
		m.ClientIPAddr = address.AsSlice()
		return c.broadcast(conn, m)
	}
	accept := func(p datagram, _ time.Duration) verdict {
		m := c.reply(p, xid)
		if m == nil || m.MessageType() != dhcpv4.MessageTypeAck {
			return verdict{}
		}
		lease, err := leaseFromV4(m, true, time.Now())
		if err != nil {
			return verdict{}
		}
		if best == nil || len(best.Servers) == 0 && len(lease.Servers) > 0 {
			best = lease
		}
		return verdict{done: len(lease.Servers) > 0, settle: offerWindow}
	}
	if err := exchange(ctx, receive(conn), v4Inform, c.Rand, send, accept); err != nil {
		return nil, c.explain(err, nil)
	}
	return best, nil
}

// Extend renews the lease with its server until T2, then asks any server until the lease runs out (RFC 2131 §4.4.5).
func (c *Client4) Extend(ctx context.Context, lease *Lease) (*Lease, error) {
	conn, err := c.open(false, lease.Address.Addr())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	in := receive(conn)
	xid := c.xid()
	ask := func(to netip.Addr, until time.Duration) (*Lease, error) {
		r := retransmission{initial: extendRetry, jitter: 0.1, duration: time.Until(lease.Obtained.Add(until))}
		if r.duration <= 0 {
			return nil, errUnanswered
		}
		r.initial = min(max(r.duration/2, extendRetry), r.duration)
		send := func(elapsed time.Duration) error {
			m := c.message(dhcpv4.MessageTypeRequest, xid, elapsed)
			m.ClientIPAddr = lease.Address.Addr().AsSlice()
			_, err := conn.WriteTo(m.ToBytes(), &net.UDPAddr{IP: to.AsSlice(), Port: v4ServerPort})
			return err
		}
		return c.acknowledged(ctx, in, xid, r, send)
	}
	next, err := ask(lease.Server, lease.Rebind)
	if errors.Is(err, errUnanswered) {
		next, err = ask(netip.AddrFrom4([4]byte{255, 255, 255, 255}), lease.Valid)
	}
	if err == nil && next.Address != lease.Address {
		err = &Error{Code: NoLease, Msg: fmt.Sprintf("the DHCPv4 server replaced the address %v by %v", lease.Address, next.Address)}
	}
	if err != nil {
		return nil, &Error{Code: NoLease, Msg: fmt.Sprintf("the lease of %v was not extended", lease.Address), Err: err}
	}
	return next, nil
}

// Release gives the address back; the server does not answer (RFC 2131 §4.4.6). The interface must still have the address.
func (c *Client4) Release(lease *Lease) error {
	if !lease.Address.IsValid() {
		return nil
	}
	conn, err := c.open(false, lease.Address.Addr())
	if err != nil {
		return err
	}
	defer conn.Close()
	m := c.message(dhcpv4.MessageTypeRelease, c.xid(), 0)
	m.Options.Del(dhcpv4.OptionParameterRequestList)
	m.Options.Del(dhcpv4.OptionMaximumDHCPMessageSize)
	m.ClientIPAddr = lease.Address.Addr().AsSlice()
	m.UpdateOption(dhcpv4.OptServerIdentifier(lease.Server.AsSlice()))
	_, err = conn.WriteTo(m.ToBytes(), &net.UDPAddr{IP: lease.Server.AsSlice(), Port: v4ServerPort})
	return err
}

func (c *Client4) message(t dhcpv4.MessageType, xid dhcpv4.TransactionID, elapsed time.Duration) *dhcpv4.DHCPv4 {
	m := &dhcpv4.DHCPv4{
		OpCode: dhcpv4.OpcodeBootRequest, HWType: 1, ClientHWAddr: c.MAC, TransactionID: xid,
		NumSeconds:   uint16(min(elapsed/time.Second, 0xffff)),
		ClientIPAddr: net.IPv4zero, YourIPAddr: net.IPv4zero, ServerIPAddr: net.IPv4zero, GatewayIPAddr: net.IPv4zero,
		Options: make(dhcpv4.Options),
	}
	mtu := c.MTU
	if mtu < 576 {
		mtu = 1500
	}
	m.UpdateOption(dhcpv4.OptMessageType(t))
	m.UpdateOption(dhcpv4.OptParameterRequestList(requestedV4...))
	m.UpdateOption(dhcpv4.OptMaxMessageSize(uint16(min(mtu, 1500)))) // of the IP datagram
	if len(c.ClientID) > 0 {
		m.UpdateOption(dhcpv4.OptClientIdentifier(c.ClientID))
	}
	return m
}

func (c *Client4) broadcast(conn net.PacketConn, m *dhcpv4.DHCPv4) error {
	_, err := conn.WriteTo(m.ToBytes(), &net.UDPAddr{IP: net.IPv4bcast, Port: v4ServerPort})
	return err
}

// reply decodes p when it is a server's answer to this transaction of this client, or returns nil.
func (c *Client4) reply(p datagram, xid dhcpv4.TransactionID) *dhcpv4.DHCPv4 {
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
	return m
}

func (c *Client4) open(raw bool, local netip.Addr) (net.PacketConn, error) {
	conn, err := c.Open(raw, local)
	if err != nil {
		return nil, socketError("DHCPv4", err)
	}
	return conn, nil
}

func socketError(protocol string, err error) error {
	return &Error{Code: SocketFailed, Msg: "cannot open a socket for " + protocol, Err: err,
		Fix: "the agent needs the capabilities CAP_NET_RAW and CAP_NET_ADMIN, and no other DHCP client on the same interface"}
}

// explain turns the end of an exchange into an explained error. A cancelled context stays what it is.
func (c *Client4) explain(err, failure error) error { return explain("DHCPv4", err, failure) }

func explain(protocol string, err, failure error) error {
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case failure != nil:
		return &Error{Code: NoLease, Msg: "the " + protocol + " server granted no lease in time", Err: failure,
			Fix: "look at the DHCP server's log for this interface's hardware address; its pool may be exhausted"}
	case errors.Is(err, errSocket):
		return socketError(protocol, err)
	}
	return &Error{Code: NoAnswer, Msg: "no " + protocol + " server answered in time",
		Fix: "check cabling and VLAN, and that a DHCP server or relay serves this network"}
}

func (c *Client4) xid() (xid dhcpv4.TransactionID) {
	binary.BigEndian.PutUint32(xid[:], random(c.Rand).Uint32())
	return xid
}
