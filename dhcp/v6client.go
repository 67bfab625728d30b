package dhcp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
)

const v6ServerPort = 547

// allServers is All_DHCP_Relay_Agents_and_Servers (RFC 8415 §7.1).
var allServers = net.ParseIP("ff02::1:2")

// Timing of DHCPv6 (RFC 8415 §7.6), with fewer tries where giving up early serves a device that has other ways to try.
var (
	v6Solicit = retransmission{initial: time.Second, max: 30 * time.Second, jitter: 0.1, tries: 2}
	v6Request = retransmission{initial: time.Second, max: 30 * time.Second, jitter: 0.1, tries: 4}
	v6Inform  = retransmission{initial: time.Second, max: 30 * time.Second, jitter: 0.1}
	v6Extend  = retransmission{initial: 10 * time.Second, max: 600 * time.Second, jitter: 0.1}
	v6Release = retransmission{initial: time.Second, jitter: 0.1, tries: 1}
)

// Client6 is a DHCPv6 client on one interface. One call at a time.
type Client6 struct {
	DUID   []byte // required
	IAID   [4]byte
	Open   OpenV6       // makes sockets; required
	Rand   *rand.Rand   // timing and transaction ids; nil is seeded at random
	Logger *slog.Logger // nil discards
}

// OpenV6 makes a UDP socket from port 546 of the interface's link-local address, which must not be tentative. The zone of
// its local address names the interface.
type OpenV6 func() (net.PacketConn, error)

var _ Client = (*Client6)(nil)

// session is one socket in use.
type session struct {
	*Client6
	conn net.PacketConn
	in   <-chan datagram
	to   net.Addr
}

func (c *Client6) session() (*session, error) {
	conn, err := c.Open()
	if err != nil {
		return nil, socketError("DHCPv6", err)
	}
	to := &net.UDPAddr{IP: allServers, Port: v6ServerPort}
	if local, ok := conn.LocalAddr().(*net.UDPAddr); ok {
		to.Zone = local.Zone
	}
	return &session{Client6: c, conn: conn, in: receive(conn), to: to}, nil
}

// Acquire solicits an address. A network whose servers have none, or which answers information requests only, gives a lease
// without an address: the interface then has one from a router advertisement.
func (c *Client6) Acquire(ctx context.Context) (*Lease, error) {
	s, err := c.session()
	if err != nil {
		return nil, err
	}
	defer s.conn.Close()
	if err := sleep(ctx, randomly(c.Rand, startDelay)); err != nil {
		return nil, explain("DHCPv6", err, nil)
	}
	solicit, inform := v6Solicit, v6Inform
	inform.tries = 1
	var failure error
	for {
		lease, err := s.acquire(ctx, solicit)
		if err != nil && ctx.Err() == nil && !errors.Is(err, errSocket) {
			if !errors.Is(err, errUnanswered) {
				failure = err
			}
			lease, err = s.inform(ctx, inform)
		}
		switch {
		case err == nil:
			return lease, nil
		case ctx.Err() != nil || !errors.Is(err, errUnanswered):
			return nil, explain("DHCPv6", err, failure)
		}
		solicit.initial = min(2*solicit.initial, solicit.max)
		inform.initial = min(2*inform.initial, inform.max)
	}
}

// acquire is one solicit, advertise, request, reply.
func (s *session) acquire(ctx context.Context, r retransmission) (*Lease, error) {
	advert, err := s.solicit(ctx, r)
	if err != nil {
		return nil, err
	}
	m := s.message(dhcpv6.MessageTypeRequest)
	m.AddOption(serverID(advert.serverID))
	m.AddOption(s.iana(advert))
	return s.leased(ctx, m, v6Request)
}

// solicit collects advertisements for the first retransmission time (RFC 8415 §18.2.1) and returns the best: one with
// bootstrap servers, then the one with the highest preference.
func (s *session) solicit(ctx context.Context, r retransmission) (*Lease, error) {
	var best *Lease
	var bestPreference uint8
	var unusable error
	m := s.message(dhcpv6.MessageTypeSolicit)
	m.AddOption(s.iana(nil))
	accept := func(p datagram, elapsed time.Duration) verdict {
		reply := s.reply(p, m)
		if reply == nil || reply.kind != dhcpv6.MessageTypeAdvertise {
			return verdict{}
		}
		wait := verdict{done: elapsed >= r.initial, settle: r.initial - elapsed}
		lease, err := reply.lease(s.IAID, false, p.from, time.Now())
		if err != nil {
			unusable = err
			return wait
		}
		preference := reply.preference
		better := len(lease.Servers) > 0 && len(best.servers()) == 0 ||
			(len(lease.Servers) > 0) == (len(best.servers()) > 0) && preference > bestPreference
		if best == nil || better {
			best, bestPreference = lease, preference
		}
		return verdict{done: wait.done || preference == 255, settle: wait.settle}
	}
	if err := s.exchange(ctx, m, r, accept); err != nil {
		return nil, err
	}
	if best == nil {
		return nil, unusable
	}
	return best, nil
}

func (l *Lease) servers() []Server {
	if l == nil {
		return nil
	}
	return l.Servers
}

// leased sends m until a reply grants or refuses the address.
func (s *session) leased(ctx context.Context, m *dhcpv6.Message, r retransmission) (*Lease, error) {
	var lease *Lease
	var refused error
	accept := func(p datagram, _ time.Duration) verdict {
		reply := s.reply(p, m)
		if reply == nil || reply.kind != dhcpv6.MessageTypeReply {
			return verdict{}
		}
		lease, refused = reply.lease(s.IAID, false, p.from, time.Now())
		return verdict{done: true}
	}
	if err := s.exchange(ctx, m, r, accept); err != nil {
		return nil, err
	}
	return lease, refused
}

// Inform asks for configuration only (RFC 8415 §18.2.6). The address is not used.
func (c *Client6) Inform(ctx context.Context, _ netip.Addr) (*Lease, error) {
	s, err := c.session()
	if err != nil {
		return nil, err
	}
	defer s.conn.Close()
	if err := sleep(ctx, randomly(c.Rand, startDelay)); err != nil {
		return nil, explain("DHCPv6", err, nil)
	}
	lease, err := s.inform(ctx, v6Inform)
	if err != nil {
		return nil, explain("DHCPv6", err, nil)
	}
	return lease, nil
}

func (s *session) inform(ctx context.Context, r retransmission) (*Lease, error) {
	var best *Lease
	m := s.message(dhcpv6.MessageTypeInformationRequest)
	accept := func(p datagram, _ time.Duration) verdict {
		reply := s.reply(p, m)
		if reply == nil || reply.kind != dhcpv6.MessageTypeReply {
			return verdict{}
		}
		lease, err := reply.lease(s.IAID, true, p.from, time.Now())
		if err != nil {
			return verdict{}
		}
		if best == nil || len(best.Servers) == 0 && len(lease.Servers) > 0 {
			best = lease
		}
		return verdict{done: len(lease.Servers) > 0, settle: offerWindow}
	}
	if err := s.exchange(ctx, m, r, accept); err != nil {
		return nil, err
	}
	return best, nil
}

// Extend renews the lease with its server until T2, then rebinds it with any server until it runs out.
func (c *Client6) Extend(ctx context.Context, lease *Lease) (*Lease, error) {
	s, err := c.session()
	if err != nil {
		return nil, err
	}
	defer s.conn.Close()
	ask := func(t dhcpv6.MessageType, until time.Duration) (*Lease, error) {
		r := v6Extend
		if r.duration = time.Until(lease.Obtained.Add(until)); r.duration <= 0 {
			return nil, errUnanswered
		}
		m := s.message(t)
		if t == dhcpv6.MessageTypeRenew {
			m.AddOption(serverID(lease.serverID))
		}
		m.AddOption(s.iana(lease))
		return s.leased(ctx, m, r)
	}
	next, err := ask(dhcpv6.MessageTypeRenew, lease.Rebind)
	if errors.Is(err, errUnanswered) {
		next, err = ask(dhcpv6.MessageTypeRebind, lease.Valid)
	}
	if err == nil && next.Address != lease.Address {
		err = fmt.Errorf("the server replaced it by %v", next.Address)
	}
	if err != nil {
		return nil, &Error{Code: NoLease, Msg: fmt.Sprintf("the lease of %v was not extended", lease.Address.Addr()), Err: err}
	}
	return next, nil
}

// Release gives the address back and waits for the answer for about a second.
func (c *Client6) Release(lease *Lease) error { return c.giveUp(dhcpv6.MessageTypeRelease, lease) }

// Decline tells the server that another host uses the address (RFC 8415 §18.2.8).
func (c *Client6) Decline(lease *Lease) error { return c.giveUp(dhcpv6.MessageTypeDecline, lease) }

func (c *Client6) giveUp(t dhcpv6.MessageType, lease *Lease) error {
	if !lease.Address.IsValid() {
		return nil
	}
	s, err := c.session()
	if err != nil {
		return err
	}
	defer s.conn.Close()
	m := s.message(t)
	m.Options.Del(dhcpv6.OptionORO)
	m.AddOption(serverID(lease.serverID))
	m.AddOption(s.iana(lease))
	return s.exchange(context.Background(), m, v6Release, func(p datagram, _ time.Duration) verdict {
		return verdict{done: s.reply(p, m) != nil}
	})
}

// exchange fills in the elapsed time of each transmission of m.
func (s *session) exchange(ctx context.Context, m *dhcpv6.Message, r retransmission,
	accept func(datagram, time.Duration) verdict) error {
	send := func(elapsed time.Duration) error {
		m.UpdateOption(dhcpv6.OptElapsedTime(min(elapsed, 0xffff*10*time.Millisecond)))
		_, err := s.conn.WriteTo(m.ToBytes(), s.to)
		return err
	}
	return exchange(ctx, s.in, r, s.Rand, send, accept)
}

func (c *Client6) message(t dhcpv6.MessageType) *dhcpv6.Message {
	m := &dhcpv6.Message{MessageType: t}
	n := random(c.Rand).Uint32()
	m.TransactionID = dhcpv6.TransactionID{byte(n >> 16), byte(n >> 8), byte(n)}
	m.AddOption(&dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionClientID, OptionData: c.DUID})
	m.AddOption(dhcpv6.OptElapsedTime(0))
	m.AddOption(dhcpv6.OptRequestedOption(dhcpv6.OptionDNSRecursiveNameServer, dhcpv6.OptionDomainSearchList,
		dhcpv6.OptionV6SZTPRedirect))
	return m
}

// iana is the identity association of this interface, with the address of lease when there is one.
func (c *Client6) iana(lease *Lease) *dhcpv6.OptIANA {
	ia := &dhcpv6.OptIANA{IaId: c.IAID}
	if lease != nil {
		ia.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: lease.Address.Addr().AsSlice()})
	}
	return ia
}

func serverID(duid []byte) dhcpv6.Option {
	return &dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionServerID, OptionData: duid}
}

// reply decodes p when it is a server's answer to request, or returns nil (RFC 8415 §16). An answer to a message with a
// client identifier has the same.
func (s *session) reply(p datagram, request *dhcpv6.Message) *message6 {
	if len(p.data) < 4 || !bytes.Equal(p.data[1:4], request.TransactionID[:]) {
		return nil
	}
	m, err := parseV6(p.data)
	if err != nil {
		logger(s.Logger).Debug("ignored a malformed DHCPv6 message", "from", p.from, "error", err)
		return nil
	}
	if !bytes.Equal(m.clientID, s.DUID) {
		return nil
	}
	return m
}
