package dhcp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// SocketsV4 returns the sockets of a real interface. Raw ones need CAP_NET_RAW, the others CAP_NET_BIND_SERVICE.
func SocketsV4(ifi *net.Interface) OpenV4 {
	return func(raw bool, local netip.Addr) (net.PacketConn, error) {
		if !raw {
			address := netip.AddrPortFrom(local, v4ClientPort).String()
			return listen("udp4", address, ifi)
		}
		conn, err := listenPackets(ifi, unix.ETH_P_IP, toClientPort)
		if err != nil {
			return nil, err
		}
		return &broadcastUDP{PacketConn: conn, local: local, port: v4ClientPort}, nil
	}
}

// toClientPort lets through whole UDP datagrams to the DHCPv4 client port, so that other traffic does not wake the agent.
// It sees packets from their IP header on.
var toClientPort = []unix.SockFilter{
	{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 9},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.IPPROTO_UDP, Jf: 5},
	{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: 6},
	{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: 0x3fff, Jt: 3}, // more fragments, or not the first one
	{Code: unix.BPF_LDX | unix.BPF_B | unix.BPF_MSH, K: 0},
	{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_IND, K: 2},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: v4ClientPort, Jt: 1},
	{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	{Code: unix.BPF_RET | unix.BPF_K, K: maxPacket},
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
