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
	lease      *Lease
	preference uint8
	committed  bool
	fruitless  int  // how often a lease of the server led to nothing
	refused    bool // the server has advertised before what it then did not grant
}

// best reports whether nothing better than o can come.
func (o offer6) best() bool {
	return !o.refused && o.fruitless == 0 && (len(o.lease.Servers) > 0 || o.preference == 255)
}

// betterThan compares by what serves a device most: a server that keeps to what it advertises, bootstrap servers, of
// those that led to nothing the fewest times, the preference that the administrator set, and an address that needs not be asked for.
func (o offer6) betterThan(other offer6) bool {
	switch {
	case other.lease == nil:
		return true
	case o.refused != other.refused:
		return other.refused
	case len(o.lease.Servers) > 0 != (len(other.lease.Servers) > 0):
		return len(o.lease.Servers) > 0
	case o.fruitless != other.fruitless:
		return o.fruitless < other.fruitless
	case o.preference != other.preference:
		return o.preference > other.preference
	}
	return o.committed && !other.committed
}

// solicit returns the best of what servers advertise or commit. Others are waited for until the first retransmission time is
// over (RFC 8415 §18.2.1), or for the time that DHCPv4 offers have, whichever is shorter, and not at all once an answer names
// bootstrap servers: that is what this client came for. An address that a server has committed and that is not used is released.
func (s *session) solicit(ctx context.Context, r retransmission) (best offer6, _ error) {
	var unusable error
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
		o := offer6{lease: lease, preference: reply.preference, committed: reply.kind == dhcpv6.MessageTypeReply,
			fruitless: s.Servers.fruitless(lease), refused: s.hasRefused(reply.serverID)}
		if !o.betterThan(best) {
			s.unwanted(o)
			return wait
		}
		s.unwanted(best)
		best = o
		wait.done = wait.done || o.best()
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
