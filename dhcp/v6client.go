package dhcp

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
)

const v6ServerPort = 547

// offerWindow is how long after a first answer without a bootstrap server option a better one may still come.
const offerWindow = 700 * time.Millisecond

// startDelay6 spreads machines that hear one router advertisement. RFC 8415 §18.2.1 would have up to a second of it, which is
// more than a device may take to its bootstrap server.
const startDelay6 = 100 * time.Millisecond

// allServers is All_DHCP_Relay_Agents_and_Servers (RFC 8415 §7.1).
var allServers = net.ParseIP("ff02::1:2")

// Timing of DHCPv6 (RFC 8415 §7.6), with fewer tries where giving up early serves a device that has other ways to try.
var (
	v6Solicit = retransmission{initial: time.Second, max: time.Hour, jitter: 0.1, tries: 2}
	v6Request = retransmission{initial: time.Second, max: 30 * time.Second, jitter: 0.1, tries: 3}
	v6Inform  = retransmission{initial: time.Second, max: time.Hour, jitter: 0.1}
	v6Renew   = retransmission{initial: 10 * time.Second, max: 600 * time.Second, jitter: 0.1}
	v6Decline = retransmission{initial: time.Second, jitter: 0.1, tries: 3}
	v6Release = retransmission{initial: time.Second, jitter: 0.1, tries: 1} // a device that has moved on does not wait for it
)

// Client6 is a DHCPv6 client on one interface. One call at a time.
type Client6 struct {
	DUID   []byte // required
	IAID   [4]byte
	Open   OpenV6       // makes sockets; required
	Rand   *rand.Rand   // timing and transaction ids; nil is seeded at random
	Logger *slog.Logger // nil discards
	// Servers is what is known of servers that were of no use; nil is nothing.
	Servers *Servers

	solMaxRT, infMaxRT time.Duration // what servers want instead of an hour, or 0 (RFC 8415 §18.2.9)
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
	// refusers are servers that advertised an address and did not grant it.
	refusers [][]byte
	// requested is why there is no lease when time runs out in the middle of a request.
	requested error
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
	if err := sleep(ctx, randomly(c.Rand, startDelay6)); err != nil {
		return nil, explain("DHCPv6", err, nil)
	}
	solicit, inform := v6Solicit, v6Inform
	inform.tries = 1
	var failure error
	for {
		solicit.max, inform.max = cmp.Or(c.solMaxRT, solicit.max), cmp.Or(c.infMaxRT, inform.max)
		lease, err := s.acquire(ctx, solicit)
		if err != nil && ctx.Err() == nil && !errors.Is(err, errSocket) {
			if !errors.Is(err, errUnanswered) {
				failure = err
				logger(c.Logger).Debug("DHCPv6 gave no lease", "error", err)
			}
			lease, err = s.inform(ctx, inform)
		}
		switch {
		case err == nil:
			return lease, nil
		case ctx.Err() != nil || !errors.Is(err, errUnanswered):
			return nil, explain("DHCPv6", err, cmp.Or(failure, s.requested))
		}
		solicit.initial = min(2*solicit.initial, solicit.max)
		inform.initial = min(2*inform.initial, inform.max)
	}
}

// leased sends m until a reply grants or refuses the address; held is the one to extend, if any. Of refusals to extend it only
// two are final, and one of those may be overruled by another server (RFC 8415 §18.2.10.1). With errNoBinding comes a lease that
// names the server.
func (s *session) leased(ctx context.Context, m *dhcpv6.Message, r retransmission, held netip.Addr) (*Lease, error) {
	var lease *Lease
	var refused error
	accept := func(p datagram, _ time.Duration) verdict {
		reply := s.reply(p, m)
		if reply == nil || reply.kind != dhcpv6.MessageTypeReply || reply.status.code == iana.StatusUseMulticast {
			return verdict{} // this client never uses unicast
		}
		got, err := reply.lease(s.IAID, held, p.from, time.Now())
		if err != nil {
			logger(s.Logger).Debug("the DHCPv6 server refused", "from", p.from, "error", err)
		}
		switch {
		case err == nil, !held.IsValid(), errors.Is(err, errWithdrawn):
			lease, refused = got, err
			return verdict{done: true}
		case errors.Is(err, errNoBinding):
			lease, refused = got, err
			return verdict{settle: offerWindow}
		}
		return verdict{}
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
	if err := sleep(ctx, randomly(c.Rand, startDelay6)); err != nil {
		return nil, explain("DHCPv6", err, nil)
	}
	r := v6Inform
	r.max = cmp.Or(c.infMaxRT, r.max)
	lease, err := s.inform(ctx, r)
	if err != nil {
		return nil, explain("DHCPv6", err, nil)
	}
	return lease, nil
}

func (s *session) inform(ctx context.Context, r retransmission) (*Lease, error) {
	var best *Lease
	choice := s.Servers.choice(s.Rand)
	m := s.message(dhcpv6.MessageTypeInformationRequest)
	accept := func(p datagram, _ time.Duration) verdict {
		reply := s.reply(p, m)
		if reply == nil || reply.kind != dhcpv6.MessageTypeReply {
			return verdict{}
		}
		lease, err := reply.configuration(p.from, time.Now())
		if err != nil {
			logger(s.Logger).Debug("the DHCPv6 server refused", "from", p.from, "error", err)
			return verdict{}
		}
		flaws := choice.flaws(lease, 0)
		if choice.prefers(flaws) {
			best = lease
		}
		return verdict{done: choice.final(flaws), settle: offerWindow}
	}
	if err := s.exchange(ctx, m, r, accept); err != nil {
		return nil, err
	}
	return best, nil
}

func (s *session) exchange(ctx context.Context, m *dhcpv6.Message, r retransmission,
	accept func(datagram, time.Duration) verdict) error {
	send := func(elapsed time.Duration) error { return s.send(m, elapsed) }
	return exchange(ctx, s.in, r, s.Rand, send, accept)
}

// send fills in the time since the first transmission of m.
func (s *session) send(m *dhcpv6.Message, elapsed time.Duration) error {
	m.UpdateOption(dhcpv6.OptElapsedTime(min(elapsed, 0xffff*10*time.Millisecond)))
	_, err := s.conn.WriteTo(m.ToBytes(), s.to)
	log := logger(s.Logger).With("xid", m.TransactionID.String(), "elapsed", elapsed)
	if err != nil {
		log.Debug("could not send DHCPv6 "+m.MessageType.String(), "error", err)
		return err
	}
	log.Debug("sent DHCPv6 " + m.MessageType.String())
	return nil
}

func (c *Client6) message(t dhcpv6.MessageType) *dhcpv6.Message {
	m := &dhcpv6.Message{MessageType: t}
	n := random(c.Rand).Uint32()
	m.TransactionID = dhcpv6.TransactionID{byte(n >> 16), byte(n >> 8), byte(n)}
	m.AddOption(&dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionClientID, OptionData: c.DUID})
	m.AddOption(dhcpv6.OptElapsedTime(0))
	// RFC 8415 §21.7 demands the last ones. What an answer says is asked for anew in each round, and so needs no refreshing.
	want := []dhcpv6.OptionCode{dhcpv6.OptionDNSRecursiveNameServer, dhcpv6.OptionDomainSearchList, dhcpv6.OptionV6SZTPRedirect,
		dhcpv6.OptionSolMaxRT}
	if t == dhcpv6.MessageTypeInformationRequest {
		want = append(want[:3], dhcpv6.OptionInfMaxRT, dhcpv6.OptionInformationRefreshTime)
	}
	m.AddOption(dhcpv6.OptRequestedOption(want...))
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

// reply decodes p when it is an answer to request of the server that it was for, or returns nil (RFC 8415 §16). An answer to a
// message with a client identifier has the same. What servers say about how often they want to be asked counts from now on.
func (s *session) reply(p datagram, request *dhcpv6.Message) *message6 {
	if len(p.data) < 4 || !bytes.Equal(p.data[1:4], request.TransactionID[:]) {
		return nil
	}
	m, err := parseV6(p.data)
	if err != nil {
		logger(s.Logger).Debug("ignored a malformed DHCPv6 message", "from", p.from, "error", err)
		return nil
	}
	asked := request.GetOneOption(dhcpv6.OptionServerID)
	if !bytes.Equal(m.clientID, s.DUID) || asked != nil && !bytes.Equal(m.serverID, asked.ToBytes()) {
		return nil
	}
	logger(s.Logger).Debug("received DHCPv6 "+m.kind.String(), "from", p.from, "xid", request.TransactionID.String(), "preference", m.preference,
		"rapid-commit", m.rapid, "option-136", len(m.redirects) > 0)
	s.solMaxRT, s.infMaxRT = cmp.Or(m.solMaxRT, s.solMaxRT), cmp.Or(m.infMaxRT, s.infMaxRT)
	return m
}
