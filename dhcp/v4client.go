package dhcp

import (
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

// Timing of DHCPv4 (RFC 2131 §4.1). The first message is sent at once: of the one to ten seconds that RFC 2131 §4.4.1 would
// have clients wait, a fabric whose machines get power together has more by itself, in firmware and link training, and whom
// a server cannot answer comes again after a wait that differs from machine to machine. The first wait is short, because many
// a switch drops what comes in the moment after a carrier.
var (
	v4Discover = retransmission{initial: time.Second, max: 64 * time.Second, jitter: 0.4}
	v4Request  = retransmission{initial: 2 * time.Second, max: 64 * time.Second, jitter: 0.4, tries: 3}
	v4Inform   = v4Discover
)

// extendRetry is the shortest wait between attempts to extend a lease (RFC 2131 §4.4.5).
const extendRetry = time.Minute

// Client4 is a DHCPv4 client on one interface. One call at a time.
type Client4 struct {
	MAC         net.HardwareAddr
	ClientID    []byte       // option 61
	VendorClass string       // option 60, 1 to 255 octets; empty sends none
	MTU         int          // of the interface; 0 is 1500
	Open        OpenV4       // makes sockets; required
	OpenARP     OpenARP      // to look whether another host uses a leased address; nil does not look
	Servers     *Servers     // what came of earlier leases; nil knows nothing
	Rand        *rand.Rand   // timing and transaction ids; nil is seeded at random
	Logger      *slog.Logger // gets every message at level debug; nil discards
}

// OpenV4 makes the socket for DHCPv4 on one interface, from port 68. A raw socket works on an interface that has no address
// and receives what is sent to any (local invalid) or to the local address; one that is not raw is an ordinary UDP socket
// bound to the local address and the interface.
type OpenV4 func(raw bool, local netip.Addr) (net.PacketConn, error)

var _ Client = (*Client4)(nil)

// acquisition is one call of Acquire.
type acquisition struct {
	*Client4
	conn    net.PacketConn
	in      <-chan datagram
	begun   time.Time
	elapsed time.Duration      // as the latest DISCOVER told it
	refused map[netip.Addr]int // how often the offers of a server came to nothing
	failure error              // why, at the latest
}

// Acquire discovers servers, prefers an offer with bootstrap servers, and requests it. A refusal begins anew, and so does an
// address that another host uses, which is declined; servers whose offers came to nothing are then asked last.
func (c *Client4) Acquire(ctx context.Context) (*Lease, error) {
	conn, err := c.open(true, netip.Addr{})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	a := &acquisition{Client4: c, conn: conn, in: receive(conn), begun: time.Now(), refused: map[netip.Addr]int{}}
	for pause := time.Second; ; pause = min(2*pause, time.Minute) {
		lease, err := a.once(ctx)
		if err == nil {
			return lease, nil
		}
		if ctx.Err() != nil || errors.Is(err, errSocket) {
			return nil, c.explain(err, a.failure)
		}
		a.failure = err
		logger(c.Logger).Warn("the DHCPv4 lease was not granted; starting over", "error", err)
		wait := pause
		if errors.Is(err, errInUse) {
			wait = max(wait, declined)
		}
		if err := sleep(ctx, wait+randomly(c.Rand, pause)); err != nil {
			return nil, c.explain(err, a.failure)
		}
	}
}

// once goes from the first message to a lease that nobody else uses, or to the refusal of an offer.
func (a *acquisition) once(ctx context.Context) (*Lease, error) {
	xid := a.xid()
	offered, err := a.discover(ctx, xid)
	if err != nil {
		return nil, err
	}
	a.failure = fmt.Errorf("the offer of %v by %v came to nothing: no answer in time", offered.Address, offered.Server)
	lease, err := a.request(ctx, xid, offered)
	if err == nil {
		other := a.holder(ctx, lease.Address.Addr())
		if other == nil {
			return lease, nil
		}
		a.decline(a.conn, lease)
		err = fmt.Errorf("%w: %v has the address %v", errInUse, other, lease.Address.Addr())
	}
	if len(a.refused) < maxRemembered {
		a.refused[offered.Server]++
	}
	return nil, fmt.Errorf("the offer of %v by %v came to nothing: %w", offered.Address, offered.Server, err)
}

// errInUse is why a lease was declined.
var errInUse = errors.New("another host uses the address")

// discover returns the best offer. Whoever offers bootstrap servers, and never disappointed, is taken at once.
func (a *acquisition) discover(ctx context.Context, xid dhcpv4.TransactionID) (*Lease, error) {
	choice := a.Servers.choice(a.Rand)
	var best *Lease
	accept := func(p datagram, _ time.Duration) verdict {
		m := a.reply(p, xid, dhcpv4.MessageTypeOffer)
		if m == nil {
			return verdict{}
		}
		lease, err := leaseFromV4(m, false, time.Now())
		if err != nil {
			a.failure = fmt.Errorf("the offer of %v by %v cannot be used: %w", m.YourIPAddr, p.from, err)
			logger(a.Logger).Debug("ignored a DHCPv4 offer", "error", a.failure)
			return verdict{}
		}
		flaws := choice.flaws(lease, a.refused[lease.Server])
		if choice.prefers(flaws) {
			best = lease
		}
		return verdict{done: choice.final(flaws), settle: choice.window(flaws)}
	}
	send := func(time.Duration) error {
		a.elapsed = time.Since(a.begun)
		return a.send(a.conn, a.message(dhcpv4.MessageTypeDiscover, xid, a.elapsed), v4Broadcast)
	}
	if err := exchange(ctx, a.in, v4Discover, a.Rand, send, accept); err != nil {
		return nil, err
	}
	return best, nil
}

func (a *acquisition) request(ctx context.Context, xid dhcpv4.TransactionID, offered *Lease) (*Lease, error) {
	send := func(time.Duration) error {
		// The same seconds let relays choose the same servers (RFC 2131 §3.1).
		m := a.message(dhcpv4.MessageTypeRequest, xid, a.elapsed)
		m.UpdateOption(dhcpv4.OptRequestedIPAddress(offered.Address.Addr().AsSlice()))
		m.UpdateOption(dhcpv4.OptServerIdentifier(offered.Server.AsSlice()))
		return a.send(a.conn, m, v4Broadcast)
	}
	lease, err := a.acknowledged(ctx, a.in, xid, v4Request, send, func(m *dhcpv4.DHCPv4) bool {
		return m.ServerIdentifier().Equal(offered.Server.AsSlice()) // only the server that was chosen may answer
	})
	if err == nil && lease.Address.Addr() != offered.Address.Addr() {
		return nil, fmt.Errorf("%w: it acknowledged the address %v instead", errRefused, lease.Address.Addr())
	}
	return lease, err
}

// errRefused is what a server did that takes back its word.
var errRefused = errors.New("the server refused the address")

// acknowledged runs an exchange that ends with a lease, or with the refusal of a server. Answers that are not meant are
// ignored.
func (c *Client4) acknowledged(ctx context.Context, in <-chan datagram, xid dhcpv4.TransactionID, r retransmission,
	send func(time.Duration) error, meant func(*dhcpv4.DHCPv4) bool) (*Lease, error) {
	var lease *Lease
	var refused error
	accept := func(p datagram, _ time.Duration) verdict {
		m := c.reply(p, xid, dhcpv4.MessageTypeAck, dhcpv4.MessageTypeNak)
		if m == nil || !meant(m) {
			return verdict{}
		}
		if m.MessageType() == dhcpv4.MessageTypeNak {
			if refused = errRefused; m.Message() != "" {
				refused = fmt.Errorf("%w (%.80q)", errRefused, m.Message())
			}
		} else if lease, refused = leaseFromV4(m, false, time.Now()); refused != nil {
			refused = fmt.Errorf("%w: its acknowledgement cannot be used: %w", errRefused, refused)
		}
		return verdict{done: true}
	}
	if err := exchange(ctx, in, r, c.Rand, send, accept); err != nil {
		return nil, err
	}
	return lease, refused
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
			Fix: "look at the DHCP server's log for this interface's hardware address: its pool may be exhausted; or look who else answers"}
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
