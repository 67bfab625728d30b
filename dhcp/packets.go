package dhcp

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// packets is a socket for the packets of one protocol on one interface, without their link-layer header (packet(7)). What is
// written goes to all on the link.
type packets struct {
	*os.File // is closed, and given deadlines
	raw      syscall.RawConn
	all      unix.SockaddrLinklayer
	own      linkAddress
}

var _ net.PacketConn = (*packets)(nil)

// linkAddress is the hardware address of an interface.
type linkAddress net.HardwareAddr

func (a linkAddress) Network() string { return "packet" }
func (a linkAddress) String() string  { return net.HardwareAddr(a).String() }

// listenPackets opens a socket for packets of a protocol (ETH_P_…) that filter lets through; nil lets all through. It needs
// CAP_NET_RAW.
func listenPackets(ifi *net.Interface, protocol uint16, filter []unix.SockFilter) (*packets, error) {
	// Without a protocol nothing is received yet, so that nothing gets past the filter.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	p := &packets{File: os.NewFile(uintptr(fd), "packets"), own: linkAddress(ifi.HardwareAddr)}
	p.all = unix.SockaddrLinklayer{
		Protocol: networkOrder(protocol), Ifindex: ifi.Index, Halen: 6, Addr: [8]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
	}
	if len(filter) > 0 {
		program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
		err = os.NewSyscallError("setsockopt", unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program))
	}
	if err == nil {
		err = os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: p.all.Protocol, Ifindex: ifi.Index}))
	}
	if err == nil {
		p.raw, err = p.SyscallConn()
	}
	if err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// networkOrder returns the number that is in memory as v is in packets.
func networkOrder(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}

// LocalAddr returns the address of the interface.
func (p *packets) LocalAddr() net.Addr { return p.own }

// ReadFrom reads one packet.
func (p *packets) ReadFrom(b []byte) (n int, from net.Addr, err error) {
	var sender unix.Sockaddr
	var failure error
	err = p.raw.Read(func(fd uintptr) bool {
		n, sender, failure = unix.Recvfrom(int(fd), b, 0)
		return failure != unix.EAGAIN && failure != unix.EINTR
	})
	if err == nil && failure == nil {
		if link, ok := sender.(*unix.SockaddrLinklayer); ok {
			from = linkAddress(link.Addr[:min(int(link.Halen), len(link.Addr))])
		}
		return n, from, nil
	}
	return 0, nil, ioError("recvfrom", err, failure)
}

// WriteTo sends one packet to all on the link, whatever the address.
func (p *packets) WriteTo(b []byte, _ net.Addr) (int, error) {
	var failure error
	err := p.raw.Write(func(fd uintptr) bool {
		failure = unix.Sendto(int(fd), b, 0, &p.all)
		return failure != unix.EAGAIN && failure != unix.EINTR
	})
	if err == nil && failure == nil {
		return len(b), nil
	}
	return 0, ioError("sendto", err, failure)
}

// ioError tells errors of waiting, after which the socket is closed or a deadline over, from those of the kernel.
func ioError(call string, waiting, failure error) error {
	switch {
	case errors.Is(waiting, os.ErrDeadlineExceeded):
		return waiting
	case waiting != nil:
		return net.ErrClosed
	}
	return os.NewSyscallError(call, failure)
}

// broadcastUDP is a UDP socket for interfaces that have no address yet: what is sent goes to all on the link.
type broadcastUDP struct {
	net.PacketConn            // of IPv4 packets
	local          netip.Addr // only what is for this address is received; invalid: whatever the address
	port           uint16
}

const (
	ipv4Header    = 20 // without options
	maxIPv4Header = 60
	udpHeader     = 8
)

// ReadFrom reads the payload of one datagram for the address and port. Others pass.
func (c *broadcastUDP) ReadFrom(b []byte) (int, net.Addr, error) {
	packet := make([]byte, maxIPv4Header+udpHeader+len(b))
	for {
		n, _, err := c.PacketConn.ReadFrom(packet)
		if err != nil {
			return 0, nil, err
		}
		from, to, payload, ok := decodeUDP(packet[:n])
		if ok && to.Port() == c.port && (!c.local.IsValid() || to.Addr() == c.local) {
			return copy(b, payload), net.UDPAddrFromAddrPort(from), nil
		}
	}
}

// WriteTo sends one datagram to a *net.UDPAddr, as all on the link.
func (c *broadcastUDP) WriteTo(b []byte, to net.Addr) (int, error) {
	udp, ok := to.(*net.UDPAddr)
	if !ok || udp.IP.To4() == nil || len(b) > 1<<16-1-ipv4Header-udpHeader {
		return 0, os.ErrInvalid
	}
	local := c.local
	if !local.IsValid() {
		local = netip.IPv4Unspecified()
	}
	target := netip.AddrPortFrom(netip.AddrFrom4([4]byte(udp.IP.To4())), uint16(udp.Port))
	if _, err := c.PacketConn.WriteTo(encodeUDP(netip.AddrPortFrom(local, c.port), target, b), nil); err != nil {
		return 0, err
	}
	return len(b), nil
}

// decodeUDP reads an IPv4 packet that holds a UDP datagram (RFC 791, RFC 768); bytes behind it do not count. Checksums are
// not looked at: those of packets from the same machine are often not filled in.
func decodeUDP(p []byte) (from, to netip.AddrPort, payload []byte, ok bool) {
	if len(p) < ipv4Header || p[0]>>4 != 4 || p[9] != unix.IPPROTO_UDP {
		return from, to, nil, false
	}
	header, total := int(p[0]&0xf)*4, int(binary.BigEndian.Uint16(p[2:]))
	if header < ipv4Header || total < header+udpHeader || total > len(p) {
		return from, to, nil, false
	}
	udp := p[header:total]
	from = netip.AddrPortFrom(netip.AddrFrom4([4]byte(p[12:])), binary.BigEndian.Uint16(udp))
	to = netip.AddrPortFrom(netip.AddrFrom4([4]byte(p[16:])), binary.BigEndian.Uint16(udp[2:]))
	return from, to, udp[udpHeader:], true
}

// encodeUDP makes an IPv4 packet of a UDP datagram.
func encodeUDP(from, to netip.AddrPort, payload []byte) []byte {
	size := udpHeader + len(payload)
	p := make([]byte, ipv4Header, ipv4Header+size)
	p[0], p[8], p[9] = 4<<4|ipv4Header/4, 64, unix.IPPROTO_UDP
	binary.BigEndian.PutUint16(p[2:], uint16(ipv4Header+size))
	copy(p[12:], from.Addr().AsSlice())
	copy(p[16:], to.Addr().AsSlice())
	addresses := p[12:20]
	binary.BigEndian.PutUint16(p[10:], ^onesSum(0, p))
	for _, v := range []uint16{from.Port(), to.Port(), uint16(size), 0} {
		p = binary.BigEndian.AppendUint16(p, v)
	}
	p = append(p, payload...)
	udp := p[ipv4Header:]
	sum := ^onesSum(uint32(onesSum(uint32(size)+unix.IPPROTO_UDP, addresses)), udp)
	if sum == 0 { // which would say that there is no checksum
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(udp[6:], sum)
	return p
}

// onesSum adds the 16-bit words of b to sum in ones' complement (RFC 1071).
func onesSum(sum uint32, b []byte) uint16 {
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) > 0 {
		sum += uint32(b[0]) << 8
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return uint16(sum)
}
