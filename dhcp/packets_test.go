package dhcp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// The filter is what its instructions are called elsewhere.
func TestClientPortFilter(t *testing.T) {
	want, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: 9, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_UDP, SkipTrue: 5},
		bpf.LoadAbsolute{Off: 6, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 0x3fff, SkipTrue: 3},
		bpf.LoadMemShift{Off: 0},
		bpf.LoadIndirect{Off: 2, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: v4ClientPort, SkipTrue: 1},
		bpf.RetConstant{Val: 0},
		bpf.RetConstant{Val: maxPacket},
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []bpf.RawInstruction
	for _, f := range toClientPort {
		got = append(got, bpf.RawInstruction{Op: f.Code, Jt: f.Jt, Jf: f.Jf, K: f.K})
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// cable is a packet socket that is given packets and remembers one.
type cable struct {
	net.PacketConn
	in  [][]byte
	out []byte
}

func (w *cable) ReadFrom(b []byte) (int, net.Addr, error) {
	if len(w.in) == 0 {
		return 0, nil, net.ErrClosed
	}
	n := copy(b, w.in[0])
	w.in = w.in[1:]
	return n, nil, nil
}

func (w *cable) WriteTo(b []byte, _ net.Addr) (int, error) {
	w.out = bytes.Clone(b)
	return len(b), nil
}

// Packets are written and read as the DHCP library's own socket does it.
func TestBroadcastUDPLikeTheLibrary(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		local := rapid.SampledFrom([]netip.Addr{{}, netip.MustParseAddr("192.0.2.7")}).Draw(t, "local")
		payload := rapid.SliceOfN(rapid.Byte(), 0, 600).Draw(t, "payload")
		target := &net.UDPAddr{IP: net.IP(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "to")), Port: 67}
		bound := &net.UDPAddr{Port: v4ClientPort}
		if local.IsValid() {
			bound.IP = local.AsSlice()
		}
		var ours, theirs cable
		n, err := (&broadcastUDP{&ours, local, v4ClientPort}).WriteTo(payload, target)
		if n != len(payload) || err != nil {
			t.Fatal(n, err)
		}
		if _, err := nclient4.NewBroadcastUDPConn(&theirs, bound).WriteTo(payload, target); err != nil {
			t.Fatal(err)
		}
		if binary.BigEndian.Uint16(theirs.out[26:]) == 0 { // it sends "no checksum" where RFC 768 wants 0xffff
			theirs.out[26], theirs.out[27] = 0xff, 0xff
		}
		if !bytes.Equal(ours.out, theirs.out) {
			t.Fatalf("wrote\n%x, the library\n%x", ours.out, theirs.out)
		}

		packet := bytes.Clone(ours.out)
		switch rapid.IntRange(0, 2).Draw(t, "what comes") {
		case 0:
			packet = rapid.SliceOfN(rapid.Byte(), 1, 80).Draw(t, "noise")
		case 1:
			binary.BigEndian.PutUint16(packet[22:], v4ClientPort)
			copy(packet[16:], rapid.SampledFrom([][]byte{{192, 0, 2, 7}, {255, 255, 255, 255}}).Draw(t, "for"))
			packet = append(packet, rapid.SliceOfN(rapid.Byte(), 0, 9).Draw(t, "padding")...)
		}
		for range rapid.IntRange(0, 3).Draw(t, "changes") {
			packet[rapid.IntRange(0, min(len(packet)-1, 27)).Draw(t, "at")] = rapid.Byte().Draw(t, "byte")
		}
		packet = packet[:rapid.IntRange(1, len(packet)).Draw(t, "length")]
		ours.in, theirs.in = [][]byte{packet}, [][]byte{packet}
		a, b := make([]byte, maxPacket), make([]byte, maxPacket)
		n, from, err := (&broadcastUDP{&ours, local, v4ClientPort}).ReadFrom(a)
		m, source, other := nclient4.NewBroadcastUDPConn(&theirs, bound).ReadFrom(b)
		if (err == nil) != (other == nil) || !bytes.Equal(a[:n], b[:m]) {
			t.Fatalf("%x: read %x, %v; the library %x, %v", packet, a[:n], err, b[:m], other)
		}
		if err == nil && from.String() != source.String() {
			t.Fatalf("from %v, for the library from %v", from, source)
		}
	})
}

// An empty buffer of the receiver, another kind of address and a datagram that is too large are no reason to panic.
func TestBroadcastUDPRefuses(t *testing.T) {
	c := &broadcastUDP{&cable{}, netip.Addr{}, v4ClientPort}
	for name, send := range map[string]func() (int, error){
		"other address": func() (int, error) { return c.WriteTo(nil, linkAddress{}) },
		"IPv6":          func() (int, error) { return c.WriteTo(nil, &net.UDPAddr{IP: net.IPv6loopback}) },
		"too large":     func() (int, error) { return c.WriteTo(make([]byte, 1<<16), &net.UDPAddr{IP: net.IPv4bcast}) },
	} {
		if _, err := send(); !errors.Is(err, os.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
