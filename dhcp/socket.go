package dhcp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"

	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// SocketsV4 returns the sockets of a real interface. Raw ones need CAP_NET_RAW, the others CAP_NET_BIND_SERVICE.
func SocketsV4(ifi *net.Interface) OpenV4 {
	return func(raw bool, local netip.Addr) (net.PacketConn, error) {
		if !raw {
			address := netip.AddrPortFrom(local, v4ClientPort).String()
			return listen("udp4", address, ifi)
		}
		filter, err := bpf.Assemble(toClientPort)
		if err != nil {
			return nil, err
		}
		conn, err := packet.Listen(ifi, packet.Datagram, unix.ETH_P_IP, &packet.Config{Filter: filter})
		if err != nil {
			return nil, err
		}
		bound := &net.UDPAddr{Port: v4ClientPort}
		if local.IsValid() {
			bound.IP = local.AsSlice()
		}
		return nclient4.NewBroadcastUDPConn(conn, bound), nil
	}
}

// toClientPort lets through whole UDP datagrams to the DHCPv4 client port, so that other traffic does not wake the agent.
// It sees packets from their IP header on.
var toClientPort = []bpf.Instruction{
	bpf.LoadAbsolute{Off: 9, Size: 1},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_UDP, SkipTrue: 5},
	bpf.LoadAbsolute{Off: 6, Size: 2},
	bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 0x3fff, SkipTrue: 3}, // more fragments, or not the first one
	bpf.LoadMemShift{Off: 0},
	bpf.LoadIndirect{Off: 2, Size: 2},
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: v4ClientPort, SkipTrue: 1},
	bpf.RetConstant{Val: 0},
	bpf.RetConstant{Val: maxPacket},
}

// SocketV6 returns the socket of a real interface with the link-local address local.
func SocketV6(ifi *net.Interface, local netip.Addr) OpenV6 {
	return func() (net.PacketConn, error) {
		return listen("udp6", netip.AddrPortFrom(local.WithZone(strconv.Itoa(ifi.Index)), 546).String(), ifi)
	}
}

// listen binds a UDP socket to an interface as well as to an address. The address may be shared with another client of
// the same family: transaction ids keep their answers apart.
func listen(network, address string, ifi *net.Interface) (net.PacketConn, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		controlErr := c.Control(func(fd uintptr) {
			if err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
				return
			}
			err = BindToInterface(int(fd), ifi)
		})
		if controlErr != nil {
			return controlErr
		}
		return err
	}}
	return lc.ListenPacket(context.Background(), network, address)
}

// BindToInterface binds a socket to an interface whatever it is called by now. Linux before 5.0 knows it by its name only.
func BindToInterface(fd int, ifi *net.Interface) error {
	err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, ifi.Index)
	if errors.Is(err, unix.ENOPROTOOPT) {
		err = unix.BindToDevice(fd, ifi.Name)
	}
	if err != nil {
		return fmt.Errorf("bind to interface %s: %w", ifi.Name, err)
	}
	return nil
}
