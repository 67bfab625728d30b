package nettest

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/test/lab/wire"
)

// Trace is what goes over the device's cable.
type Trace struct{ *wire.Recording }

// Trace records the packets on the device's cable from now on, at the switch: what the device sends and what reaches it.
// With the first failure of the test they are printed.
func (n *Network) Trace(t testing.TB) *Trace {
	t.Helper()
	var device *net.Interface
	n.Inside.Do(t, func() (err error) { device, err = net.InterfaceByName(n.Device); return err })
	trace := &Trace{}
	n.switches.Do(t, func() (err error) { trace.Recording, err = wire.Record(n.port, device.HardwareAddr); return err })
	t.Cleanup(func() {
		trace.Close()
		if t.Failed() {
			t.Logf("on the cable of %s:\n%s", n.Device, strings.Join(trace.Story(), "\n"))
		}
	})
	return trace
}

// Story tells the packets of the given kinds, or all of them, one a line: "> DHCPDISCOVER 0.0.0.0:68 255.255.255.255:67" is
// from the device, "<" is to it. A kind is the beginning of wire.Packet.Kind, such as "DHCP" or "DNS query".
func (tr *Trace) Story(kinds ...string) (story []string) {
	for _, p := range tr.Packets() {
		if isOf(p, kinds) {
			story = append(story, p.String())
		}
	}
	return story
}

// Kinds is Story with the kinds alone, such as "> DHCPDISCOVER", and what is repeated at once left out.
func (tr *Trace) Kinds(kinds ...string) (story []string) {
	for _, p := range tr.Packets() {
		direction := "< "
		if p.FromDevice {
			direction = "> "
		}
		if told := direction + p.Kind(); isOf(p, kinds) && (len(story) == 0 || story[len(story)-1] != told) {
			story = append(story, told)
		}
	}
	return story
}

// Count counts the packets of a kind that the device sent.
func (tr *Trace) Count(kind string) (count int) {
	for _, p := range tr.Packets() {
		if p.FromDevice && isOf(p, []string{kind}) {
			count++
		}
	}
	return count
}

// AwaitKind blocks until a packet of a kind, from the device or to it, has been seen, and returns the first; the test fails
// when none comes within a minute.
func (tr *Trace) AwaitKind(t testing.TB, kind string, fromDevice bool) wire.Packet {
	t.Helper()
	return tr.AwaitPacket(t, kind, func(p wire.Packet) bool { return p.FromDevice == fromDevice && isOf(p, []string{kind}) })
}

// AwaitPacket is AwaitKind for any condition; what names it in the failure.
func (tr *Trace) AwaitPacket(t testing.TB, what string, cond func(wire.Packet) bool) wire.Packet {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	p, err := tr.Await(ctx, cond)
	if err != nil {
		t.Fatalf("nettest: no %s on the cable: %v", what, err)
	}
	return p
}

func isOf(p wire.Packet, kinds []string) bool {
	for _, k := range kinds {
		if strings.HasPrefix(p.Kind(), k) {
			return true
		}
	}
	return len(kinds) == 0
}
