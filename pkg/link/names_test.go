package link_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/xpu-sztp/ztp/pkg/dns"
	"github.com/xpu-sztp/ztp/pkg/link"
	"github.com/xpu-sztp/ztp/test/lab/wire"
	"github.com/xpu-sztp/ztp/test/nettest"
)

// liar is a name server that answers as it likes. An answer of nil is none.
type liar struct {
	udp, tcp func(query *dnsmessage.Message) [][]byte
}

// lie has a server answer at an address among the servers of n.
func lie(t *testing.T, n *nettest.Network, address string, l liar) {
	t.Helper()
	var udp net.PacketConn
	n.Servers.Do(t, func() (err error) {
		udp, err = net.ListenPacket("udp", netip.MustParseAddr(address).String()+":53")
		return err
	})
	t.Cleanup(func() { udp.Close() })
	go func() {
		buf := make([]byte, 4096)
		for {
			k, from, err := udp.ReadFrom(buf)
			if err != nil {
				return
			}
			var query dnsmessage.Message
			if query.Unpack(buf[:k]) == nil && l.udp != nil {
				for _, b := range l.udp(&query) {
					udp.WriteTo(b, from)
				}
			}
		}
	}()
	if l.tcp == nil {
		return
	}
	var tcp net.Listener
	n.Servers.Do(t, func() (err error) { tcp, err = net.Listen("tcp", address+":53"); return err })
	t.Cleanup(func() { tcp.Close() })
	go func() {
		for {
			conn, err := tcp.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { conn.Close() })
			var query dnsmessage.Message
			size := make([]byte, 2)
			if _, err := io.ReadFull(conn, size); err != nil {
				return
			}
			buf := make([]byte, binary.BigEndian.Uint16(size))
			if _, err := io.ReadFull(conn, buf); err != nil || query.Unpack(buf) != nil {
				return
			}
			for _, b := range l.tcp(&query) {
				conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...))
			}
		}
	}()
}

// says answers with a change to what is right, which is a TXT record "right".
func says(changes ...func(*dnsmessage.Message)) func(*dnsmessage.Message) [][]byte {
	return func(query *dnsmessage.Message) (answers [][]byte) {
		for _, change := range changes {
			m := dnsmessage.Message{Header: dnsmessage.Header{ID: query.ID, Response: true}, Questions: slices.Clone(query.Questions),
				Answers: []dnsmessage.Resource{record(query.Questions[0].Name, &dnsmessage.TXTResource{TXT: []string{"right"}})}}
			change(&m)
			b, err := m.Pack()
			if err != nil {
				panic(err)
			}
			answers = append(answers, b)
		}
		return answers
	}
}

func record(name dnsmessage.Name, body dnsmessage.ResourceBody) dnsmessage.Resource {
	return dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: name, Class: dnsmessage.ClassINET}, Body: body}
}

func right(*dnsmessage.Message)       {}
func truncated(m *dnsmessage.Message) { m.Truncated, m.Answers = true, nil }

// raw answers with the octets that follow the question, and a count of records.
func raw(count uint16, rest string) func(*dnsmessage.Message) [][]byte {
	return func(query *dnsmessage.Message) [][]byte {
		m := dnsmessage.Message{Header: dnsmessage.Header{ID: query.ID, Response: true}, Questions: query.Questions}
		b, err := m.Pack()
		if err != nil {
			panic(err)
		}
		binary.BigEndian.PutUint16(b[6:], count)
		return [][]byte{append(b, rest...)}
	}
}

// index is that of the device's interface.
func index(t *testing.T, n *nettest.Network) int {
	t.Helper()
	ifi, err := net.InterfaceByName(n.Device)
	if err != nil {
		t.Fatal(err)
	}
	return ifi.Index
}

func silent(*dnsmessage.Message) [][]byte { return nil }

// TestLyingNameServers asks servers that lie, on a real link. What they say comes to nothing, and to it soon; what others say at
// the same time counts. At the cable the device has asked what the case says.
func TestLyingNameServers(t *testing.T) {
	n := nettest.NewNetwork(t, nil, "192.0.2.1/24")
	n.Up(t)
	n.Inside.Run(t, "ip", "addr", "add", "192.0.2.200/24", "dev", n.Device)
	trace := n.Trace(t)
	loop := func(m *dnsmessage.Message) {
		other := dnsmessage.MustNewName("y.test.")
		m.Answers = []dnsmessage.Resource{record(m.Questions[0].Name, &dnsmessage.CNAMEResource{CNAME: other}), record(other, &dnsmessage.CNAMEResource{CNAME: m.Questions[0].Name})}
	}
	text := func(size int) func(*dnsmessage.Message) {
		return func(m *dnsmessage.Message) {
			m.Answers[0].Body = &dnsmessage.TXTResource{TXT: slices.Repeat([]string{strings.Repeat("x", 255)}, size/256)}
		}
	}
	const rdata = "\x00\x00\x00\x00\x00\x01\x01y\x00"
	srv := "\xc0\x0c\x00\x21\x00\x01\x00\x00\x00\x00\x00\x09" + rdata
	bomb := strings.Repeat("\xc0\x0c\x00\x63\x00\x01\x00\x00\x00\x00\x01\x00"+strings.Repeat("\x3f"+strings.Repeat("b", 63), 4), 60) +
		strings.Repeat("\xc0\xff\x00\x63\x00\x01\x00\x00\x00\x00\x00\x02\xc0\xff", 195)
	for i, test := range []struct {
		name    string
		liar    liar
		strings int   // of the record found
		want    error // nil with none found is any
		kinds   []string
		within  time.Duration
	}{
		{"other-id-before-the-answer", liar{says(func(m *dnsmessage.Message) { m.ID++ }, right), nil}, 1, nil, nil, time.Second},
		{"other-question-before-the-answer", liar{says(func(m *dnsmessage.Message) { m.Questions[0].Name = dnsmessage.MustNewName("y.test.") }, right), nil}, 1, nil, nil, time.Second},
		{"denial-before-the-answer", liar{says(func(m *dnsmessage.Message) { m.RCode, m.Answers = dnsmessage.RCodeNameError, nil }, right), nil}, 0, dns.ErrNoSuchName, nil, time.Second},
		{"aliases-in-a-circle", liar{says(loop), nil}, 0, dns.ErrNoData, nil, time.Second},
		{"in-fragments", liar{says(text(3500)), nil}, 13, nil, nil, time.Second},
		{"truncated-and-nobody-there-by-tcp", liar{says(truncated), nil}, 0, nil, []string{"SYN", "RST"}, time.Second},
		{"truncated-by-tcp-too", liar{says(truncated), says(func(m *dnsmessage.Message) { m.Truncated = true })}, 0, nil, []string{"SYN"}, time.Second},
		{"silent-by-tcp", liar{says(truncated), silent}, 0, dns.ErrNoAnswer, []string{"SYN"}, 6 * time.Second},
		{"as-long-as-can-be", liar{says(truncated), says(text(65000))}, 253, nil, []string{"SYN"}, time.Second},
		{"thousands-of-records", liar{says(truncated), raw(3000, strings.Repeat(srv, 3000))}, 0, nil, []string{"SYN"}, time.Second},
		{"fewer-records-than-it-says", liar{raw(200, srv), nil}, 0, dns.ErrNoAnswer, nil, 6 * time.Second},
		{"names-that-point-at-names", liar{says(truncated), raw(255, bomb)}, 0, nil, []string{"SYN"}, time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			address := fmt.Sprintf("192.0.2.%d", 10+i)
			n.Servers.Run(t, "ip", "addr", "add", address+"/24", "dev", n.Server)
			lie(t, n, address, test.liar)
			name, err := dns.ParseName(test.name + ".test")
			if err != nil {
				t.Fatal(err)
			}
			network := &link.Network{Interface: n.Device, Index: index(t, n), DNS: []netip.Addr{netip.MustParseAddr(address)}}
			begun := time.Now()
			records, err := network.Ask(t.Context(), name, dns.TXT)
			took := time.Since(begun)
			if test.strings == 0 && (err == nil || !errors.Is(err, test.want) && test.want != nil) || test.strings > 0 && (err != nil || len(records[0].Strings) != test.strings) {
				t.Errorf("%d records, %v", len(records), err)
			}
			if took > test.within+time.Second {
				t.Errorf("took %v", took)
			}
			is := func(p wire.Packet, kind string) bool {
				from, to := p.Addresses()
				return p.Kind() == kind && (from.Addr().String() == address || to.Addr().String() == address)
			}
			for _, kind := range test.kinds {
				trace.AwaitPacket(t, kind, func(p wire.Packet) bool { return is(p, kind) })
			}
			if len(test.kinds) == 0 && slices.ContainsFunc(trace.Packets(), func(p wire.Packet) bool { return is(p, "SYN") }) {
				t.Error("connected for nothing")
			}
		})
	}
}

// TestDeadNameServers has three that never answer, and then a fourth that does: the dead take seconds, once.
func TestDeadNameServers(t *testing.T) {
	t.Parallel()
	n := nettest.NewNetwork(t, nil, "198.18.0.1/24", "198.18.0.2/24", "198.18.0.3/24", "198.18.0.4/24")
	n.Up(t)
	n.Inside.Run(t, "ip", "addr", "add", "198.18.0.200/24", "dev", n.Device)
	network := &link.Network{Interface: n.Device, Index: index(t, n), Prefer: "ip4", Domains: []string{"a.test", "b.test"}}
	for i := range 3 {
		address := fmt.Sprintf("198.18.0.%d", 1+i)
		lie(t, n, address, liar{silent, nil})
		network.DNS = append(network.DNS, netip.MustParseAddr(address))
	}
	trace := n.Trace(t)
	took := func(most time.Duration, f func() error) {
		t.Helper()
		begun := time.Now()
		if err := f(); !errors.Is(err, dns.ErrNoAnswer) || strings.Count(err.Error(), "198.18.0.") != 3 || time.Since(begun) > most+2*time.Second {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
	}
	ask := func() error { _, err := network.Ask(t.Context(), "\x01x\x04test\x00", dns.TXT); return err }
	took(7*time.Second, ask)
	took(1500*time.Millisecond, ask)
	took(3*1500*time.Millisecond, func() error { _, err := network.LookupNetIP(t.Context(), "ip", "bs"); return err }) // both families, three names
	if asked := trace.Count("DNS"); asked > 3*3+3+3*2*3 {
		t.Errorf("asked %d times", asked)
	}

	lie(t, n, "198.18.0.4", liar{says(right), nil})
	network.DNS = append(network.DNS, netip.MustParseAddr("198.18.0.4"))
	begun := time.Now()
	if records, err := network.Ask(t.Context(), "\x01x\x04test\x00", dns.TXT); err != nil || len(records) != 1 || time.Since(begun) > 2*time.Second {
		t.Errorf("%d records, %v after %v", len(records), err, time.Since(begun))
	}
}

// TestClosedNameServer: what a person reads of it is short and the same each time.
func TestClosedNameServer(t *testing.T) {
	t.Parallel()
	n := nettest.NewNetwork(t, nil, "198.18.7.1/24")
	n.Up(t)
	n.Inside.Run(t, "ip", "addr", "add", "198.18.7.200/24", "dev", n.Device)
	network := &link.Network{Interface: n.Device, Index: index(t, n), Prefer: "ip4", DNS: []netip.Addr{netip.MustParseAddr("198.18.7.1")}}
	if _, err := network.Ask(t.Context(), "\x01x\x04test\x00", dns.TXT); err == nil || err.Error() != "198.18.7.1: read: connection refused" {
		t.Error(err)
	}
}

// TestNameServerWithoutIPv6 never answers for IPv6 addresses. Nobody waits for those.
func TestNameServerWithoutIPv6(t *testing.T) {
	t.Parallel()
	n := nettest.NewNetwork(t, nil, "198.18.1.1/24")
	n.Up(t)
	n.Inside.Run(t, "ip", "addr", "add", "198.18.1.200/24", "dev", n.Device)
	lie(t, n, "198.18.1.1", liar{udp: func(query *dnsmessage.Message) [][]byte {
		if query.Questions[0].Type != dnsmessage.TypeA {
			return nil
		}
		return says(func(m *dnsmessage.Message) { m.Answers[0].Body = &dnsmessage.AResource{A: [4]byte{198, 18, 1, 1}} })(query)
	}})
	network := &link.Network{Interface: n.Device, Index: index(t, n), Prefer: "ip4", DNS: []netip.Addr{netip.MustParseAddr("198.18.1.1")}}
	begun := time.Now()
	addrs, err := network.LookupNetIP(t.Context(), "ip", "bs.test")
	if fmt.Sprint(addrs) != "[198.18.1.1]" || time.Since(begun) > 3*time.Second {
		t.Errorf("%v, %v after %v", addrs, err, time.Since(begun))
	}
}

// TestEachLinkHasItsNames has two links with the same addresses, whose name servers and neighbours give a name to different ones.
func TestEachLinkHasItsNames(t *testing.T) {
	t.Parallel()
	type side struct {
		*nettest.Network
		trace *nettest.Trace
		want  string
	}
	var sides []side
	for i := range 2 {
		want := fmt.Sprintf("198.18.2.%d", 10+i)
		n := nettest.NewNetwork(t, nil, "198.18.2.1/24", want+"/32")
		n.Up(t)
		n.Inside.Run(t, "ip", "addr", "add", "198.18.2.200/24", "dev", n.Device)
		n.Dnsmasq(t, "local=/test/", "address=/bs.test/"+want)
		n.Avahi(t, "bs", nil, nettest.Address("here.local", want))
		sides = append(sides, side{n, n.Trace(t), want})
	}
	for i, s := range sides {
		network := &link.Network{Interface: s.Device, Index: index(t, s.Network), Prefer: "ip4", DNS: []netip.Addr{netip.MustParseAddr("198.18.2.1")}}
		for _, host := range []string{"bs.test", "here.local"} {
			addrs, err := network.LookupNetIP(t.Context(), "ip4", host)
			if fmt.Sprint(addrs) != "["+s.want+"]" {
				t.Errorf("%s on link %d: %v, %v, want %s", host, i, addrs, err, s.want)
			}
		}
	}
	for i, s := range sides {
		want := []string{"> DNS query A", "> mDNS query A"} // the neighbours themselves ask when they begin
		if got := s.trace.Kinds("DNS query", "mDNS query A"); !slices.Equal(got, want) {
			t.Errorf("on the cable of link %d: %q", i, got)
		}
	}
}
