package nettest

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// DetectDuplicates has the device's interface look for other hosts with its IPv6 addresses, as interfaces do outside of tests. Call
// it before the interface comes up.
func (n *Network) DetectDuplicates(t testing.TB) {
	t.Helper()
	n.Inside.Do(t, func() error {
		return os.WriteFile("/proc/sys/net/ipv6/conf/"+n.Device+"/accept_dad", []byte("1"), 0o644)
	})
}

// LinkLocal returns the link-local address that the device's interface will have, from its hardware address (RFC 4291 §2.5.1).
func (n *Network) LinkLocal(t testing.TB) netip.Addr {
	t.Helper()
	var mac net.HardwareAddr
	n.Inside.Do(t, func() error {
		ifi, err := net.InterfaceByName(n.Device)
		if err == nil {
			mac = ifi.HardwareAddr
		}
		return err
	})
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]})
}

// Radvd starts a real router advertisement daemon on the servers' interface with settings such as "AdvManagedFlag on;".
func (n *Network) Radvd(t testing.TB, settings string) *Log {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "radvd.conf")
	config := "interface " + n.Server + " { AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4; " + settings + " };\n"
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	return n.Serve(t, "polling for", exec.Command(Unconfined(t, "radvd"), "-n", "-m", "stderr_clean", "-d", "1", "-C", file,
		"-p", filepath.Join(dir, "radvd.pid")))
}

// Router is what router advertisements say.
type Router struct {
	From             string // link-local address of the router, which the servers' interface must have; empty is its first
	Prefix           string // "2001:db8:1::/64"; empty means none
	Autonomous       bool   // addresses may be made from the prefix
	Deprecated       bool   // but are not preferred
	Managed, Other   bool   // the M and O flags
	NotDefaultRouter bool
	DNS              []string
	MTU              uint32 // 0 means none
}

// Advertise sends router advertisements from the servers' interface, several a second and at once when solicited, until stop is
// called or the test ends.
func (n *Network) Advertise(t testing.TB, r Router) (stop func()) {
	t.Helper()
	var conn net.PacketConn
	n.Servers.Do(t, func() (err error) {
		lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
			return c.Control(func(fd uintptr) {
				unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255)
				unix.BindToDevice(int(fd), n.Server)
				unix.SetsockoptIPv6Mreq(int(fd), unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP,
					&unix.IPv6Mreq{Multiaddr: [16]byte{0xff, 2, 15: 2}, Interface: index(n.Server)})
			})
		}}
		conn, err = lc.ListenPacket(t.Context(), "ip6:ipv6-icmp", "::")
		return err
	})
	message := append(r.message(t), n.sourceAddress(t)...)
	solicited, ended := make(chan struct{}, 1), make(chan struct{})
	go func() {
		defer close(ended)
		for buf := make([]byte, 1500); ; {
			k, _, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if k > 0 && buf[0] == 133 {
				select {
				case solicited <- struct{}{}:
				default:
				}
			}
		}
	}()
	go func() {
		tick := time.NewTicker(300 * time.Millisecond)
		defer tick.Stop()
		for {
			r.send(conn.(*net.IPConn), message)
			select {
			case <-ended:
				return
			case <-tick.C:
			case <-solicited:
			}
		}
	}()
	stop = func() { conn.Close(); <-ended }
	t.Cleanup(stop)
	return stop
}

// sourceAddress is the option with the servers' hardware address (RFC 4861 §4.6.1).
func (n *Network) sourceAddress(t testing.TB) (option []byte) {
	n.Servers.Do(t, func() error {
		ifi, err := net.InterfaceByName(n.Server)
		if err == nil {
			option = append([]byte{1, 1}, ifi.HardwareAddr...)
		}
		return err
	})
	return option
}

func index(name string) uint32 {
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return 0
	}
	return uint32(ifi.Index)
}

// send sends from the chosen address.
func (r Router) send(conn *net.IPConn, message []byte) {
	var control []byte
	if r.From != "" {
		control = make([]byte, unix.CmsgSpace(20))
		binary.NativeEndian.PutUint64(control, uint64(unix.CmsgLen(20)))
		binary.NativeEndian.PutUint32(control[8:], unix.IPPROTO_IPV6)
		binary.NativeEndian.PutUint32(control[12:], unix.IPV6_PKTINFO)
		from := netip.MustParseAddr(r.From).As16()
		copy(control[unix.CmsgLen(0):], from[:])
	}
	conn.WriteMsgIP(message, control, &net.IPAddr{IP: net.ParseIP("ff02::1")})
}

// message encodes a router advertisement (RFC 4861 §4.2, RFC 8106 §5.1).
func (r Router) message(t testing.TB) []byte {
	t.Helper()
	flag := func(on bool, bit byte) byte {
		if on {
			return bit
		}
		return 0
	}
	lifetime := flag(!r.NotDefaultRouter, 7) // 1800 s and a little
	m := []byte{134, 0, 0, 0, 64, flag(r.Managed, 0x80) | flag(r.Other, 0x40), lifetime, flag(!r.NotDefaultRouter, 8), 0, 0, 0, 0, 0, 0, 0, 0}
	if r.MTU > 0 {
		m = binary.BigEndian.AppendUint32(append(m, 5, 1, 0, 0), r.MTU)
	}
	if len(r.DNS) > 0 {
		m = append(m, 25, byte(1+2*len(r.DNS)), 0, 0, 0, 0, 14, 16)
		for _, server := range r.DNS {
			m = append(m, netip.MustParseAddr(server).AsSlice()...)
		}
	}
	if r.Prefix == "" {
		return m
	}
	p, err := netip.ParsePrefix(r.Prefix)
	if err != nil {
		t.Fatal(err)
	}
	preferred := flag(!r.Deprecated, 14)
	m = append(m, 3, 4, byte(p.Bits()), 0x80|flag(r.Autonomous, 0x40), 0, 0, 14, 16, 0, 0, preferred, flag(!r.Deprecated, 16), 0, 0, 0, 0)
	return append(m, p.Addr().AsSlice()...)
}
