// Package wire records what goes over a cable of the lab and says what each packet is, so that tests can assert what was
// asked of whom and in which order, not only what came of it. Packets are decoded by github.com/gopacket/gopacket.
package wire

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"
)

// Recording is the packets seen on one interface since Record, in the order in which the kernel saw them.
type Recording struct {
	device net.HardwareAddr
	file   *os.File
	done   chan struct{}

	mu      sync.Mutex
	packets []Packet
	more    chan struct{} // closed and replaced with every packet
}

// Record begins to record both directions on an interface of the calling thread's namespace. What has the source address
// device counts as sent by the device; for a cable to a device that is the device's own hardware address. It needs
// CAP_NET_RAW.
func Record(ifname string, device net.HardwareAddr) (*Recording, error) {
	ifi, err := net.InterfaceByName(ifname)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("record packets: %w", err)
	}
	file := os.NewFile(uintptr(fd), "recording of "+ifname)
	// Only root of the machine may have more than others.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 8<<20)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20)
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: bigEndian(unix.ETH_P_ALL), Ifindex: ifi.Index}),
	)
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("record packets of %s: %w", ifname, err)
	}
	r := &Recording{device: device, file: file, done: make(chan struct{}), more: make(chan struct{})}
	go r.follow()
	return r, nil
}

func bigEndian(v uint16) uint16 { return v<<8 | v>>8 }

// Close ends the recording. What was recorded can still be read.
func (r *Recording) Close() {
	r.file.Close()
	<-r.done
}

func (r *Recording) follow() {
	defer close(r.done)
	raw, err := r.file.SyscallConn()
	if err != nil {
		return
	}
	data, control := make([]byte, 1<<16), make([]byte, 256)
	for {
		var n, oobn int
		var failure error
		err := raw.Read(func(fd uintptr) bool {
			n, oobn, _, _, failure = unix.Recvmsg(int(fd), data, control, 0)
			return !errors.Is(failure, unix.EAGAIN)
		})
		if err != nil {
			return
		}
		if failure != nil {
			continue // ENETDOWN while the interface is down
		}
		r.add(r.packet(slices.Clone(data[:n]), control[:oobn]))
	}
}

func (r *Recording) add(p Packet) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.packets = append(r.packets, p)
	close(r.more)
	r.more = make(chan struct{})
}

func (r *Recording) packet(data, control []byte) Packet {
	p := Packet{At: arrival(control), Packet: gopacket.NewPacket(data, layers.LayerTypeEthernet, gopacket.NoCopy)}
	if ethernet, ok := p.LinkLayer().(*layers.Ethernet); ok {
		p.FromDevice = bytes.Equal(ethernet.SrcMAC, r.device)
	}
	return p
}

// arrival returns the kernel's time stamp.
func arrival(control []byte) time.Time {
	messages, _ := unix.ParseSocketControlMessage(control)
	for _, m := range messages {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS && len(m.Data) >= 16 {
			return time.Unix(int64(binary.NativeEndian.Uint64(m.Data)), int64(binary.NativeEndian.Uint64(m.Data[8:])))
		}
	}
	return time.Now()
}

// Packets returns what was recorded so far.
func (r *Recording) Packets() []Packet {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.packets)
}

// Await returns the first packet, recorded already or to come, for which cond holds. Its error is that of ctx.
func (r *Recording) Await(ctx context.Context, cond func(Packet) bool) (Packet, error) {
	for seen := 0; ; {
		r.mu.Lock()
		packets, more := r.packets[seen:], r.more
		r.mu.Unlock()
		if i := slices.IndexFunc(packets, cond); i >= 0 {
			return packets[i], nil
		}
		seen += len(packets)
		select {
		case <-ctx.Done():
			return Packet{}, ctx.Err()
		case <-more:
		}
	}
}
