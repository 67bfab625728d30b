package dhcp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// Inform asks for configuration for an interface that somebody else gave address to (RFC 2131 §4.4.3). Like an offer, an
// answer without bootstrap servers is taken only when no better one follows.
func (c *Client4) Inform(ctx context.Context, address netip.Addr) (*Lease, error) {
	conn, err := c.open(true, address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	xid, begun := c.xid(), time.Now()
	var best *Lease
	choice := c.Servers.choice(c.Rand)
	send := func(time.Duration) error {
		m := c.message(dhcpv4.MessageTypeInform, xid, time.Since(begun))
		m.ClientIPAddr = address.AsSlice()
		return c.send(conn, m, v4Broadcast)
	}
	accept := func(p datagram, _ time.Duration) verdict {
		m := c.reply(p, xid, dhcpv4.MessageTypeAck)
		if m == nil {
			return verdict{}
		}
		lease, err := leaseFromV4(m, true, time.Now())
		if err != nil {
			return verdict{}
		}
		flaws := choice.flaws(lease, 0)
		if choice.prefers(flaws) {
			best = lease
		}
		return verdict{done: choice.final(flaws), settle: choice.window(flaws)}
	}
	if err := exchange(ctx, receive(conn), v4Inform, c.Rand, send, accept); err != nil {
		return nil, c.explain(err, nil)
	}
	return best, nil
}

// Extend renews the lease with its server until T2, then asks any server until the lease runs out (RFC 2131 §4.4.5).
func (c *Client4) Extend(ctx context.Context, lease *Lease) (*Lease, error) {
	out, err := c.open(false, lease.Address.Addr())
	if err != nil {
		return nil, err
	}
	defer out.Close()
	// Refusals are sent to all (RFC 2131 §4.1), and a socket that is bound to an address does not receive that.
	conn, err := c.open(true, netip.Addr{})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	in := receive(conn)
	xid, begun := c.xid(), time.Now()
	ask := func(to netip.Addr, until time.Duration) (*Lease, error) {
		left := time.Until(lease.Obtained.Add(until))
		if left <= 0 {
			return nil, errUnanswered
		}
		send := func(time.Duration) error {
			m := c.message(dhcpv4.MessageTypeRequest, xid, time.Since(begun))
			m.ClientIPAddr = lease.Address.Addr().AsSlice()
			return c.send(out, m, to)
		}
		return c.acknowledged(ctx, in, xid, retransmission{halving: extendRetry, jitter: 0.1, duration: left}, send, func(m *dhcpv4.DHCPv4) bool {
			if m.MessageType() == dhcpv4.MessageTypeNak {
				return to == v4Broadcast || m.ServerIdentifier().Equal(to.AsSlice())
			}
			next, err := leaseFromV4(m, false, time.Now())
			return err == nil && next.Address.Addr() == lease.Address.Addr() // another address would be a new lease
		})
	}
	next, err := ask(lease.Server, lease.Rebind)
	if errors.Is(err, errUnanswered) {
		next, err = ask(v4Broadcast, lease.Valid)
	}
	if err != nil {
		return nil, &Error{Code: NoLease, Msg: fmt.Sprintf("the lease of %v was not extended", lease.Address), Err: err,
			Fix: "look at the log of the DHCP server, and whether it is reached"}
	}
	next.Address = lease.Address // as it is on the interface, whatever the mask says now
	return next, nil
}

// Release gives the address back; the server does not answer (RFC 2131 §4.4.6). The interface should still have the address: a
// server behind a relay is not reached otherwise.
func (c *Client4) Release(lease *Lease) error {
	if !lease.Address.IsValid() {
		return nil
	}
	conn, err := c.open(false, lease.Address.Addr())
	if err != nil {
		conn, err = c.open(true, lease.Address.Addr())
	}
	if err != nil {
		return err
	}
	defer conn.Close()
	m := c.message(dhcpv4.MessageTypeRelease, c.xid(), 0)
	m.ClientIPAddr = lease.Address.Addr().AsSlice()
	m.UpdateOption(dhcpv4.OptServerIdentifier(lease.Server.AsSlice()))
	return c.send(conn, m, lease.Server)
}
