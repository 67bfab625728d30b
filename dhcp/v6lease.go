package dhcp

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
)

// Extend renews the lease with its server until T2, then rebinds it with any server until it runs out. A server that has
// forgotten the lease is asked for it anew.
func (c *Client6) Extend(ctx context.Context, lease *Lease) (*Lease, error) {
	s, err := c.session()
	if err != nil {
		return nil, err
	}
	defer s.conn.Close()
	ask := func(t dhcpv6.MessageType, server []byte, r retransmission, until time.Duration) (*Lease, error) {
		if r.duration = time.Until(lease.Obtained.Add(until)); r.duration <= 0 {
			return nil, errUnanswered
		}
		m := s.message(t)
		if server != nil {
			m.AddOption(serverID(server))
		}
		m.AddOption(s.iana(lease))
		return s.leased(ctx, m, r, lease.Address.Addr())
	}
	next, err := ask(dhcpv6.MessageTypeRenew, lease.serverID, v6Renew, lease.Rebind)
	if errors.Is(err, errUnanswered) {
		next, err = ask(dhcpv6.MessageTypeRebind, nil, v6Renew, lease.Valid)
	}
	if errors.Is(err, errNoBinding) && next != nil {
		next, err = ask(dhcpv6.MessageTypeRequest, next.serverID, v6Request, lease.Valid)
	}
	if err != nil {
		return nil, &Error{Code: NoLease, Msg: fmt.Sprintf("the lease of %v was not extended", lease.Address.Addr()), Err: err}
	}
	return next, nil
}

// Release gives the address back, which must not be in use any more (RFC 8415 §18.2.7), and waits for the answer for about a
// second.
func (c *Client6) Release(lease *Lease) error {
	return c.giveUp(dhcpv6.MessageTypeRelease, lease, v6Release)
}

// Decline tells the server that another host uses the address (RFC 8415 §18.2.8), and waits for the answer for some seconds.
func (c *Client6) Decline(lease *Lease) error {
	return c.giveUp(dhcpv6.MessageTypeDecline, lease, v6Decline)
}

func (c *Client6) giveUp(t dhcpv6.MessageType, lease *Lease, r retransmission) error {
	if !lease.Address.IsValid() {
		return nil
	}
	s, err := c.session()
	if err != nil {
		return err
	}
	defer s.conn.Close()
	m := s.giveUpMessage(t, lease)
	return s.exchange(context.Background(), m, r, func(p datagram, _ time.Duration) verdict {
		reply := s.reply(p, m)
		return verdict{done: reply != nil && reply.kind == dhcpv6.MessageTypeReply}
	})
}

func (c *Client6) giveUpMessage(t dhcpv6.MessageType, lease *Lease) *dhcpv6.Message {
	m := c.message(t)
	m.Options.Del(dhcpv6.OptionORO)
	m.AddOption(serverID(lease.serverID))
	m.AddOption(c.iana(lease))
	return m
}
