package dhcp

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
)

// maxRefusers bounds how many servers one attempt remembers for what they did not keep to.
const maxRefusers = 16

// acquire is one solicit, advertise, request, reply, or with rapid commit one solicit, reply. When a server does not grant what it
// has advertised, the others have their turn.
func (s *session) acquire(ctx context.Context, r retransmission) (*Lease, error) {
	s.refusers = nil
	var failure error
	for {
		best, err := s.solicit(ctx, r)
		switch {
		case err != nil && failure == nil, err == nil && best.committed:
			return best.lease, err
		case err != nil, best.refused, len(s.refusers) == maxRefusers:
			return nil, failure
		}
		m := s.message(dhcpv6.MessageTypeRequest)
		m.AddOption(serverID(best.lease.serverID))
		m.AddOption(s.iana(best.lease))
		s.requested = fmt.Errorf("%v advertised %v and then did not answer in time", best.lease.Server, best.lease.Address.Addr())
		lease, err := s.leased(ctx, m, v6Request, netip.Addr{})
		if err == nil || ctx.Err() != nil {
			return lease, err
		}
		failure = fmt.Errorf("%v advertised %v and then did not grant it: %w", best.lease.Server, best.lease.Address.Addr(), err)
		s.refusers = append(s.refusers, best.lease.serverID)
	}
}

// offer6 is what a server advertises, or has committed at once (RFC 8415 §18.3.1, rapid commit).
type offer6 struct {
	lease     *Lease
	committed bool
	refused   bool // the server has advertised before what it then did not grant
}

// flaws are, after those that count in both families, an administrator's preference for another server, and that the address
// needs to be asked for.
func (o offer6) flaws(c *choice, preference uint8) []int {
	refused, asking := 0, 1
	if o.refused {
		refused = 1
	}
	if o.committed {
		asking = 0
	}
	return append(c.flaws(o.lease, refused), 255-int(preference), asking)
}

// solicit returns the best of what servers advertise or commit. Others are waited for until the first retransmission time is
// over (RFC 8415 §18.2.1), or for the time that DHCPv4 offers have, whichever is shorter, and not at all once an answer names
// bootstrap servers, for which this client came, or has the greatest preference; unless leases were in vain before. An address that a server has committed and that is not used is released.
func (s *session) solicit(ctx context.Context, r retransmission) (best offer6, _ error) {
	var unusable error
	choice := s.Servers.choice(s.Rand)
	m := s.message(dhcpv6.MessageTypeSolicit)
	m.AddOption(&dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionRapidCommit})
	m.AddOption(s.iana(nil))
	accept := func(p datagram, elapsed time.Duration) verdict {
		reply := s.reply(p, m)
		if reply == nil || reply.kind != dhcpv6.MessageTypeAdvertise && !(reply.kind == dhcpv6.MessageTypeReply && reply.rapid) {
			return verdict{}
		}
		wait := verdict{done: elapsed >= r.initial, settle: min(offerWindow, r.initial-elapsed)}
		lease, err := reply.lease(s.IAID, netip.Addr{}, p.from, time.Now())
		if err != nil {
			unusable = err
			return wait
		}
		o := offer6{lease, reply.kind == dhcpv6.MessageTypeReply, s.hasRefused(reply.serverID)}
		if !choice.prefers(o.flaws(choice, reply.preference)) {
			s.unwanted(o)
			return wait
		}
		s.unwanted(best)
		best = o
		wait.done = wait.done || choice.final(choice.best)
		return wait
	}
	if err := s.exchange(ctx, m, r, accept); err != nil {
		return best, err
	}
	if best.lease == nil {
		return best, unusable
	}
	return best, nil
}

func (s *session) hasRefused(server []byte) bool {
	return slices.ContainsFunc(s.refusers, func(id []byte) bool { return bytes.Equal(id, server) })
}

// unwanted releases what a server has committed, without waiting: at worst it runs out.
func (s *session) unwanted(o offer6) {
	if o.committed {
		_ = s.send(s.giveUpMessage(dhcpv6.MessageTypeRelease, o.lease), 0)
	}
}
