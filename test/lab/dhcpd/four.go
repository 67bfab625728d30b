package dhcpd

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"

	"github.com/xpu-sztp/ztp/test/lab/event"
)

// Server4 is a DHCPv4 server on one interface.
type Server4 struct {
	Interface string
	Address   netip.Prefix // the server's own address and the subnet
	First     netip.Addr   // the first address to lease; later clients get the ones after it
	Router    netip.Addr   // invalid: no router option
	DNS       []netip.Addr
	Lease     time.Duration // default one hour
	// Redirect is the payload of option 143, as List makes it; nil leaves the option out.
	Redirect []byte
	Log      *event.Log

	mu     sync.Mutex
	leases leases
	server *server4.Server
}

// Start begins to serve.
func (s *Server4) Start() error {
	if s.Log == nil {
		s.Log = &event.Log{}
	}
	if s.Lease == 0 {
		s.Lease = time.Hour
	}
	s.leases.next = s.First
	server, err := server4.NewServer(s.Interface, &net.UDPAddr{IP: net.IPv4zero, Port: dhcpv4.ServerPort}, s.handle)
	if err != nil {
		return fmt.Errorf("DHCPv4 server on %s: %w", s.Interface, err)
	}
	s.server = server
	go server.Serve()
	return nil
}

// Close ends the service.
func (s *Server4) Close() error { return s.server.Close() }

// SetRedirect changes the payload of option 143 for later answers.
func (s *Server4) SetRedirect(list []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Redirect = list
}

func (s *Server4) handle(conn net.PacketConn, peer net.Addr, m *dhcpv4.DHCPv4) {
	if m.OpCode != dhcpv4.OpcodeBootRequest {
		return
	}
	var reply dhcpv4.MessageType
	switch m.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		reply = dhcpv4.MessageTypeOffer
	case dhcpv4.MessageTypeRequest:
		if id := m.ServerIdentifier(); id != nil && !id.Equal(s.ip()) {
			return
		}
		reply = dhcpv4.MessageTypeAck
	case dhcpv4.MessageTypeInform:
		reply = dhcpv4.MessageTypeAck
	case dhcpv4.MessageTypeRelease:
		s.note(m, m.ClientIPAddr, "%s gives back %s", m.ClientHWAddr, m.ClientIPAddr)
		return
	default:
		return
	}
	answer, err := s.answer(m, reply)
	if err != nil {
		s.note(m, nil, "no answer to %s: %v", m.ClientHWAddr, err)
		return
	}
	if _, err := conn.WriteTo(answer.ToBytes(), peer); err != nil {
		s.note(m, nil, "answer to %s not sent: %v", m.ClientHWAddr, err)
		return
	}
	with := "without option 143"
	if len(answer.Options.Get(dhcpv4.GenericOptionCode(Option4))) > 0 {
		with = "with option 143"
	}
	s.note(answer, answer.YourIPAddr, "%s → %s to %s: %s, %s",
		m.MessageType(), reply, m.ClientHWAddr, answer.YourIPAddr, with)
}

func (s *Server4) ip() net.IP { return s.Address.Addr().AsSlice() }

func (s *Server4) note(m *dhcpv4.DHCPv4, ip net.IP, format string, args ...any) {
	attrs := []string{"message", m.MessageType().String(), "address", fmt.Sprint(ip)}
	s.Log.Add("dhcp4", event.DHCP4, attrs, format, args...)
}

func (s *Server4) answer(m *dhcpv4.DHCPv4, kind dhcpv4.MessageType) (*dhcpv4.DHCPv4, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	mods := []dhcpv4.Modifier{
		dhcpv4.WithMessageType(kind),
		dhcpv4.WithServerIP(s.ip()),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(s.ip())),
		dhcpv4.WithOption(dhcpv4.OptSubnetMask(net.CIDRMask(s.Address.Bits(), 32))),
	}
	if m.MessageType() != dhcpv4.MessageTypeInform {
		leased := s.leases.of(m.ClientHWAddr.String())
		if want := m.RequestedIPAddress(); kind == dhcpv4.MessageTypeAck && want != nil && !want.Equal(leased.AsSlice()) {
			return dhcpv4.NewReplyFromRequest(m, dhcpv4.WithMessageType(dhcpv4.MessageTypeNak),
				dhcpv4.WithOption(dhcpv4.OptServerIdentifier(s.ip())))
		}
		mods = append(mods, dhcpv4.WithYourIP(leased.AsSlice()), dhcpv4.WithLeaseTime(uint32(s.Lease.Seconds())))
	}
	if s.Router.IsValid() {
		mods = append(mods, dhcpv4.WithRouter(s.Router.AsSlice()))
	}
	if len(s.DNS) > 0 {
		mods = append(mods, dhcpv4.WithDNS(ips(s.DNS)...))
	}
	if s.Redirect != nil && m.IsOptionRequested(dhcpv4.GenericOptionCode(Option4)) {
		mods = append(mods, dhcpv4.WithGeneric(dhcpv4.GenericOptionCode(Option4), s.Redirect))
	}
	return dhcpv4.NewReplyFromRequest(m, mods...)
}

// leases maps clients to addresses. The caller locks.
type leases struct {
	next  netip.Addr
	taken map[string]netip.Addr
}

func (l *leases) of(client string) netip.Addr {
	if a, ok := l.taken[client]; ok {
		return a
	}
	if l.taken == nil {
		l.taken = map[string]netip.Addr{}
	}
	a := l.next
	l.taken[client] = a
	l.next = a.Next()
	return a
}

func ips(addrs []netip.Addr) []net.IP {
	var out []net.IP
	for _, a := range addrs {
		out = append(out, a.AsSlice())
	}
	return out
}
