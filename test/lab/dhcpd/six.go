package dhcpd

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/dhcpv6/server6"

	"github.com/xpu-sztp/ztp/test/lab/event"
)

// Server6 is a stateful DHCPv6 server on one interface.
type Server6 struct {
	Interface string
	First     netip.Addr // the first address to lease
	DNS       []netip.Addr
	Lease     time.Duration // valid lifetime; default one hour
	// Redirect is the payload of option 136, as List makes it; nil leaves the option out.
	Redirect []byte
	Log      *event.Log

	mu     sync.Mutex
	leases leases
	duid   dhcpv6.DUID
	server *server6.Server
}

// Start begins to serve.
func (s *Server6) Start() error {
	if s.Log == nil {
		s.Log = &event.Log{}
	}
	if s.Lease == 0 {
		s.Lease = time.Hour
	}
	s.leases.next = s.First
	s.duid = &dhcpv6.DUIDUUID{UUID: [16]byte{'z', 't', 'p', '-', 'l', 'a', 'b'}}
	server, err := server6.NewServer(s.Interface, nil, s.handle)
	if err != nil {
		return fmt.Errorf("DHCPv6 server on %s: %w", s.Interface, err)
	}
	s.server = server
	go server.Serve()
	return nil
}

// Close ends the service.
func (s *Server6) Close() error { return s.server.Close() }

// SetRedirect changes the payload of option 136 for later answers.
func (s *Server6) SetRedirect(list []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Redirect = list
}

func (s *Server6) handle(conn net.PacketConn, peer net.Addr, m dhcpv6.DHCPv6) {
	msg, ok := m.(*dhcpv6.Message)
	if !ok {
		return
	}
	if id := msg.Options.ServerID(); id != nil && !id.Equal(s.duid) {
		return
	}
	if msg.Options.ClientID() == nil && msg.MessageType != dhcpv6.MessageTypeInformationRequest {
		return
	}
	answer, address, err := s.answer(msg)
	if err != nil || answer == nil {
		if err != nil {
			s.note(msg.MessageType, address, "no answer: %v", err)
		}
		return
	}
	if _, err := conn.WriteTo(answer.ToBytes(), peer); err != nil {
		s.note(msg.MessageType, address, "answer not sent: %v", err)
		return
	}
	if msg.MessageType == dhcpv6.MessageTypeRelease {
		s.note(msg.MessageType, address, "%s gives its address back", peer)
		return
	}
	with := "without option 136"
	if answer.GetOneOption(dhcpv6.OptionCode(Option6)) != nil {
		with = "with option 136"
	}
	s.note(answer.Type(), address, "%s → %s to %s: %s, %s", msg.MessageType, answer.Type(), peer, address, with)
}

func (s *Server6) note(kind dhcpv6.MessageType, address, format string, args ...any) {
	s.Log.Add("dhcp6", event.DHCP6, []string{"message", kind.String(), "address", address}, format, args...)
}

// answer builds the reply of RFC 8415 §18.3, and the address it leases as text.
func (s *Server6) answer(m *dhcpv6.Message) (dhcpv6.DHCPv6, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	mods := []dhcpv6.Modifier{dhcpv6.WithServerID(s.duid)}
	if len(s.DNS) > 0 {
		mods = append(mods, dhcpv6.WithDNS(ips(s.DNS)...))
	}
	if s.Redirect != nil && m.IsOptionRequested(dhcpv6.OptionCode(Option6)) {
		option := &dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionCode(Option6), OptionData: s.Redirect}
		mods = append(mods, dhcpv6.WithOption(option))
	}
	address := "no address"
	if m.MessageType == dhcpv6.MessageTypeRelease || m.MessageType == dhcpv6.MessageTypeDecline {
		mods = append(mods, dhcpv6.WithOption(&dhcpv6.OptStatusCode{}))
	} else if ia := m.Options.OneIANA(); ia != nil && m.MessageType != dhcpv6.MessageTypeInformationRequest {
		leased := s.leases.of(fmt.Sprintf("%x/%x", m.Options.ClientID().ToBytes(), ia.IaId))
		address = leased.String()
		mods = append(mods, dhcpv6.WithOption(s.association(ia.IaId, leased)))
	}
	if m.MessageType == dhcpv6.MessageTypeSolicit && m.GetOneOption(dhcpv6.OptionRapidCommit) == nil {
		reply, err := dhcpv6.NewAdvertiseFromSolicit(m, mods...)
		return reply, address, err
	}
	switch m.MessageType {
	case dhcpv6.MessageTypeSolicit, dhcpv6.MessageTypeRequest, dhcpv6.MessageTypeConfirm, dhcpv6.MessageTypeRenew,
		dhcpv6.MessageTypeRebind, dhcpv6.MessageTypeRelease, dhcpv6.MessageTypeDecline, dhcpv6.MessageTypeInformationRequest:
		reply, err := dhcpv6.NewReplyFromMessage(m, mods...)
		return reply, address, err
	}
	return nil, "", nil
}

func (s *Server6) association(iaid [4]byte, leased netip.Addr) *dhcpv6.OptIANA {
	ia := &dhcpv6.OptIANA{IaId: iaid, T1: s.Lease / 2, T2: s.Lease * 4 / 5}
	ia.Options.Add(&dhcpv6.OptIAAddress{
		IPv6Addr: leased.AsSlice(), PreferredLifetime: s.Lease, ValidLifetime: s.Lease,
	})
	return ia
}
