package dhcp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"
)

// wire is an in-memory network: what the client writes is handed to serve, whose answers the client reads.
type wire struct {
	serve  func(b []byte, at time.Duration) [][]byte
	local  net.Addr
	from   net.Addr
	begun  time.Time
	answer chan []byte
	sent   [][]byte
	to     []string // where each was sent
	times  []time.Duration
	opened int // sockets that are open
}

func newWire(serve func(b []byte, at time.Duration) [][]byte) *wire {
	return &wire{serve: serve, begun: time.Now(), answer: make(chan []byte, 64),
		local: &net.UDPAddr{}, from: &net.UDPAddr{IP: net.ParseIP("fe80::1"), Port: 547}}
}

// socket is one socket on the wire.
type socket struct {
	*wire
	closed chan struct{}
}

func (w *wire) open() *socket {
	w.opened++
	return &socket{w, make(chan struct{})}
}

func (w *socket) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case <-w.closed:
		return 0, nil, net.ErrClosed
	case p := <-w.answer:
		return copy(b, p), w.from, nil
	}
}

func (w *wire) WriteTo(b []byte, to net.Addr) (int, error) {
	w.sent = append(w.sent, bytes.Clone(b))
	w.to = append(w.to, fmt.Sprint(to))
	w.times = append(w.times, time.Since(w.begun))
	for _, p := range w.serve(b, time.Since(w.begun)) {
		w.answer <- p
	}
	return len(b), nil
}

func (w *socket) Close() error                   { close(w.closed); w.opened--; return nil }
func (w *wire) LocalAddr() net.Addr              { return w.local }
func (w *wire) SetDeadline(time.Time) error      { return nil }
func (w *wire) SetReadDeadline(time.Time) error  { return nil }
func (w *wire) SetWriteDeadline(time.Time) error { return nil }

var mac = net.HardwareAddr{2, 0, 0, 0, 0, 1}

func client4(w *wire) *Client4 {
	return &Client4{MAC: mac, ClientID: ClientID(DUID("SN1", mac), IAID("eth0")), Rand: rand.New(rand.NewPCG(1, 2)),
		Open: func(bool, netip.Addr) (net.PacketConn, error) { return w.open(), nil }}
}

type option struct {
	code  uint8
	value []byte
}

// answer4 is a server's answer to the request b, with an address, a lease of 1000 s and more options.
func answer4(t testing.TB, b []byte, kind dhcpv4.MessageType, server string, options ...option) []byte {
	t.Helper()
	req, err := dhcpv4.FromBytes(b)
	if err != nil {
		t.Fatal(err)
	}
	m, err := dhcpv4.NewReplyFromRequest(req, dhcpv4.WithMessageType(kind), dhcpv4.WithYourIP(net.IPv4(192, 0, 2, 50)))
	if err != nil {
		t.Fatal(err)
	}
	m.UpdateOption(dhcpv4.OptServerIdentifier(net.ParseIP(server)))
	m.UpdateOption(dhcpv4.OptSubnetMask(net.CIDRMask(24, 32)))
	m.UpdateOption(dhcpv4.OptIPAddressLeaseTime(1000 * time.Second))
	for _, o := range options {
		if o.value == nil {
			m.Options.Del(dhcpv4.GenericOptionCode(o.code))
		} else {
			m.UpdateOption(dhcpv4.OptGeneric(dhcpv4.GenericOptionCode(o.code), o.value))
		}
	}
	return m.ToBytes()
}

func kind4(t testing.TB, b []byte) dhcpv4.MessageType {
	t.Helper()
	m, err := dhcpv4.FromBytes(b)
	if err != nil {
		t.Fatal(err)
	}
	return m.MessageType()
}

func encode(t testing.TB, uris ...string) []byte {
	t.Helper()
	b, err := EncodeServerList(uris)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestAcquireV4(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		redirect := option{OptionV4Redirect, encode(t, "https://bs.example.net:8443")}
		w := newWire(func(b []byte, _ time.Duration) [][]byte {
			if kind4(t, b) == dhcpv4.MessageTypeDiscover {
				return [][]byte{answer4(t, b, dhcpv4.MessageTypeOffer, "192.0.2.1", redirect)}
			}
			return [][]byte{answer4(t, b, dhcpv4.MessageTypeAck, "192.0.2.1", redirect, option{3, []byte{192, 0, 2, 1}},
				option{6, []byte{192, 0, 2, 1, 127, 0, 0, 1, 192, 0, 2, 2}}, option{15, []byte("example.net")})}
		})
		lease, err := client4(w).Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want := &Lease{Address: netip.MustParsePrefix("192.0.2.50/24"), Server: netip.MustParseAddr("192.0.2.1"),
			Routes:  []Route{{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr("192.0.2.1")}},
			DNS:     []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")},
			Domains: []string{"example.net"}, Obtained: time.Now(), Renew: 500 * time.Second, Rebind: 875 * time.Second,
			Valid: 1000 * time.Second, Servers: []Server{{"bs.example.net", 8443}}}
		if diff := cmp.Diff(want, lease, cmp.AllowUnexported(Lease{}), cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
			cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
			t.Error(diff)
		}
		m, _ := dhcpv4.FromBytes(w.sent[0])
		if !m.IsOptionRequested(dhcpv4.GenericOptionCode(OptionV4Redirect)) {
			t.Error("the discover does not ask for option 143")
		}
		if id := m.Options.Get(dhcpv4.OptionClientIdentifier); len(id) < 7 || id[0] != 255 {
			t.Errorf("client identifier %x is not of RFC 4361", id)
		}
	})
}

// TestOptionConcatenation sends a long option 143 in several ways that RFC 3396 allows.
func TestOptionConcatenation(t *testing.T) {
	var uris []string
	for i := range 5 {
		uris = append(uris, fmt.Sprintf("https://sztp-%02d.region-eu-central.bootstrap.example.net:8443", i+1))
	}
	long := encode(t, uris...)
	if len(long) != 310 {
		t.Fatal(len(long))
	}
	short := encode(t, "https://bs1.example.net", "https://198.51.100.7:8443")
	tlv := func(code byte, v []byte) []byte { return append([]byte{code, byte(len(v))}, v...) }
	build := func(options, file, sname []byte, overload byte) []byte {
		b := make([]byte, 236, 1024)
		b[0], b[1], b[2] = 2, 1, 6
		copy(b[44:108], append(sname, 255))
		copy(b[108:236], append(file, 255))
		b = append(b, 99, 130, 83, 99, 53, 1, 2)
		if overload > 0 {
			b = append(b, 52, 1, overload)
		}
		return append(append(b, options...), 255)
	}
	type packet struct {
		name string
		wire []byte
		want int
	}
	packets := []packet{
		{"inside-a-uri", build(slices.Concat(tlv(143, long[:255]), tlv(6, []byte{1, 2, 3, 4}), tlv(143, long[255:])), nil, nil, 0), 5},
		{"between-the-bytes-of-a-length", build(slices.Concat(tlv(143, long[:63]), tlv(143, long[63:249]), tlv(143, long[249:])), nil, nil, 0), 5},
		{"options-file-sname", build(tlv(143, short[:7]), tlv(143, short[7:30]), tlv(143, short[30:]), 3), 2},
		{"options-file", build(tlv(143, short[:1]), tlv(143, short[1:]), []byte("boot.example"), 1), 2},
		{"options-sname", build(tlv(143, short[:26]), []byte("pxelinux.0"), tlv(143, short[26:]), 2), 2},
		{"file-sname-only", build(nil, tlv(143, short[:25]), tlv(143, short[25:]), 3), 2},
		{"not-overloaded", build(tlv(143, short), tlv(143, []byte("noise")), tlv(143, []byte("noise")), 0), 2},
	}
	for i := 1; i < len(short); i++ {
		packets = append(packets, packet{fmt.Sprintf("split-at-%d", i), build(slices.Concat(tlv(143, short[:i]), tlv(143, short[i:])), nil, nil, 0), 2})
	}
	for _, p := range packets {
		t.Run(p.name, func(t *testing.T) {
			m, err := parseV4(p.wire)
			if err != nil {
				t.Fatal(err)
			}
			lease, err := leaseFromV4(m, true, time.Time{})
			if err != nil || len(lease.Servers) != p.want || len(lease.Warnings) > 0 {
				t.Fatalf("%+v, %v", lease, err)
			}
		})
	}
}

func TestOfferPreference(t *testing.T) {
	redirect := option{OptionV4Redirect, encode(t, "https://bs.example.net")}
	tests := []struct {
		name   string
		offers []string // servers in the order of their offers; "143" after a slash when it has the option
		want   string
	}{
		{"first-with-option", []string{"192.0.2.1", "192.0.2.2/143", "192.0.2.3/143"}, "192.0.2.2"},
		{"none-with-option", []string{"192.0.2.1", "192.0.2.2"}, "192.0.2.1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWire(func(b []byte, _ time.Duration) (answers [][]byte) {
					if kind4(t, b) == dhcpv4.MessageTypeDiscover {
						for _, o := range tt.offers {
							server, has, _ := strings.Cut(o, "/")
							if has != "" {
								answers = append(answers, answer4(t, b, dhcpv4.MessageTypeOffer, server, redirect))
							} else {
								answers = append(answers, answer4(t, b, dhcpv4.MessageTypeOffer, server))
							}
						}
						return answers
					}
					m, _ := dhcpv4.FromBytes(b)
					return [][]byte{answer4(t, b, dhcpv4.MessageTypeAck, m.ServerIdentifier().String())}
				})
				lease, err := client4(w).Acquire(t.Context())
				if err != nil || lease.Server.String() != tt.want {
					t.Errorf("%+v, %v", lease, err)
				}
				longest := 120 * time.Millisecond
				if strings.HasPrefix(tt.name, "first-with") {
					longest = 0
				}
				if time.Since(w.begun) > longest {
					t.Errorf("took %v", time.Since(w.begun))
				}
			})
		})
	}
}

func TestRefusalBeginsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refusals := 0
		w := newWire(func(b []byte, _ time.Duration) [][]byte {
			switch {
			case kind4(t, b) == dhcpv4.MessageTypeDiscover:
				return [][]byte{answer4(t, b, dhcpv4.MessageTypeOffer, "192.0.2.1")}
			case refusals < 2:
				refusals++
				return [][]byte{answer4(t, b, dhcpv4.MessageTypeNak, "192.0.2.1")}
			}
			return [][]byte{answer4(t, b, dhcpv4.MessageTypeAck, "192.0.2.1")}
		})
		if _, err := client4(w).Acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(w.sent) != 6 || bytes.Equal(w.sent[0][4:8], w.sent[2][4:8]) {
			t.Errorf("%d messages; transaction ids %x %x", len(w.sent), w.sent[0][4:8], w.sent[2][4:8])
		}
	})
}

func TestRetransmissionBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(func([]byte, time.Duration) [][]byte { return nil })
		ctx, cancel := context.WithTimeout(t.Context(), 130*time.Second)
		defer cancel()
		_, err := client4(w).Acquire(ctx)
		var e *Error
		if !errors.As(err, &e) || e.Reason() != NoAnswer || e.Hint() == "" {
			t.Errorf("error %v", err)
		}
		if len(w.times) < 5 || len(w.times) > 9 {
			t.Fatalf("sent at %v", w.times)
		}
		want := time.Second
		for i := 1; i < len(w.times); i++ {
			gap := w.times[i] - w.times[i-1]
			if gap < want/2 || gap > 2*want || gap == want {
				t.Errorf("wait %d was %v, want about %v and jitter", i, gap, want)
			}
			want = 2 * gap
		}
	})
}

// TestUnusableOffers checks that an offer which no host could use is as good as none.
func TestUnusableOffers(t *testing.T) {
	tests := []struct {
		name string
		bad  func(t *testing.T, b []byte) []byte
	}{
		{"other-transaction", func(t *testing.T, b []byte) []byte {
			p := answer4(t, b, dhcpv4.MessageTypeOffer, "192.0.2.1")
			p[4] ^= 1
			return p
		}},
		{"other-client", func(t *testing.T, b []byte) []byte {
			p := answer4(t, b, dhcpv4.MessageTypeOffer, "192.0.2.1")
			p[30] ^= 1
			return p
		}},
		{"request-not-reply", func(t *testing.T, b []byte) []byte { return b }},
		{"no-server-identifier", func(t *testing.T, b []byte) []byte {
			return answer4(t, b, dhcpv4.MessageTypeOffer, "192.0.2.1", option{54, nil})
		}},
		{"loopback-address", func(t *testing.T, b []byte) []byte {
			p := answer4(t, b, dhcpv4.MessageTypeOffer, "192.0.2.1")
			copy(p[16:20], []byte{127, 0, 0, 1})
			return p
		}},
		{"lease-too-short", func(t *testing.T, b []byte) []byte {
			return answer4(t, b, dhcpv4.MessageTypeOffer, "192.0.2.1", option{51, []byte{0, 0, 0, 3}})
		}},
		{"truncated", func(t *testing.T, b []byte) []byte { return answer4(t, b, dhcpv4.MessageTypeOffer, "192.0.2.1")[:240] }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWire(func(b []byte, _ time.Duration) [][]byte { return [][]byte{tt.bad(t, b)} })
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				if lease, err := client4(w).Acquire(ctx); err == nil {
					t.Errorf("took %+v", lease)
				}
			})
		})
	}
}

func TestLeaseDetailsV4(t *testing.T) {
	offer := func(t *testing.T, options ...option) *Lease {
		t.Helper()
		req := (&Client4{MAC: mac}).message(dhcpv4.MessageTypeDiscover, dhcpv4.TransactionID{1}, 0).ToBytes()
		m, err := parseV4(answer4(t, req, dhcpv4.MessageTypeOffer, "192.0.2.1", options...))
		if err != nil {
			t.Fatal(err)
		}
		lease, err := leaseFromV4(m, false, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		return lease
	}
	t.Run("classless-routes-replace-router", func(t *testing.T) {
		l := offer(t, option{3, []byte{192, 0, 2, 9}}, option{121, []byte{
			0, 192, 0, 2, 1, 8, 10, 0, 0, 0, 0, 24, 198, 51, 100, 192, 0, 2, 3, 8, 127, 192, 0, 2, 1}})
		if got, want := fmt.Sprint(l.Routes), "[{0.0.0.0/0 192.0.2.1} {10.0.0.0/8 invalid IP} {198.51.100.0/24 192.0.2.3}]"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
		if len(l.Warnings) != 1 {
			t.Errorf("the route to loopback: %v", l.Warnings)
		}
	})
	t.Run("missing-mask", func(t *testing.T) {
		if l := offer(t, option{1, nil}); l.Address.Bits() != 24 || len(l.Warnings) != 1 {
			t.Errorf("%+v", l)
		}
	})
	t.Run("holes-in-mask", func(t *testing.T) {
		if l := offer(t, option{1, []byte{255, 0, 255, 0}}); l.Address.Bits() != 24 || len(l.Warnings) != 1 {
			t.Errorf("%+v", l)
		}
	})
	t.Run("for-ever", func(t *testing.T) {
		if l := offer(t, option{51, []byte{255, 255, 255, 255}}); !l.Ends().IsZero() {
			t.Errorf("%+v", l)
		}
	})
	t.Run("nonsensical-times", func(t *testing.T) {
		if l := offer(t, option{58, []byte{0, 0, 9, 0}}, option{59, []byte{0, 0, 0, 1}}); l.Renew != 500*time.Second {
			t.Errorf("%+v", l)
		}
	})
	t.Run("option-without-a-usable-server", func(t *testing.T) {
		if l := offer(t, option{OptionV4Redirect, []byte{0, 0}}); l.OptionError == nil || l.Servers != nil || l.Warnings != nil ||
			!strings.HasSuffix(l.OptionError.Error(), "an entry is empty") {
			t.Errorf("%+v", l)
		}
	})
	t.Run("raw-text-is-accepted-with-a-warning", func(t *testing.T) {
		l := offer(t, option{OptionV4Redirect, []byte("https://bs.example.net/restconf")})
		if diff := cmp.Diff([]Server{{"bs.example.net", 443}}, l.Servers); diff != "" || len(l.Warnings) == 0 {
			t.Errorf("%s %v", diff, l.Warnings)
		}
	})
}

func TestInformV4(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(func(b []byte, _ time.Duration) [][]byte {
			if m, _ := dhcpv4.FromBytes(b); m.MessageType() != dhcpv4.MessageTypeInform || m.ClientIPAddr.String() != "192.0.2.7" {
				t.Errorf("%v", m)
			}
			p := answer4(t, b, dhcpv4.MessageTypeAck, "192.0.2.1", option{OptionV4Redirect, encode(t, "https://bs.example.net")}, option{51, nil})
			copy(p[16:20], make([]byte, 4))
			return [][]byte{p}
		})
		lease, err := client4(w).Inform(t.Context(), netip.MustParseAddr("192.0.2.7"))
		if err != nil || lease.Address.IsValid() || len(lease.Servers) != 1 {
			t.Errorf("%+v, %v", lease, err)
		}
	})
}

func TestKeepV4(t *testing.T) {
	tests := []struct {
		name   string
		answer dhcpv4.MessageType // to renewals; none when 0
		from   time.Duration      // when the server begins to answer
		lost   time.Duration      // when the lease is lost, or 0
	}{
		{"renewed", dhcpv4.MessageTypeAck, 0, 0},
		{"rebound-after-T2", dhcpv4.MessageTypeAck, 880 * time.Second, 0},
		{"refused", dhcpv4.MessageTypeNak, 0, 500 * time.Second},
		{"unanswered", dhcpv4.MessageTypeNone, 0, 1000 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWire(func(b []byte, at time.Duration) [][]byte {
					if tt.answer == dhcpv4.MessageTypeNone || at < tt.from {
						return nil
					}
					return [][]byte{answer4(t, b, tt.answer, "192.0.2.1")}
				})
				ctx, cancel := context.WithTimeout(t.Context(), 3000*time.Second)
				defer cancel()
				lease := &Lease{Address: netip.MustParsePrefix("192.0.2.50/24"), Server: netip.MustParseAddr("192.0.2.1"),
					Obtained: time.Now(), Renew: 500 * time.Second, Rebind: 875 * time.Second, Valid: 1000 * time.Second}
				fuzz := 38 * time.Second // a tenth of the time from T1 to T2
				renewals := 0
				err := Keep(ctx, client4(w), lease, func(*Lease) error { renewals++; return nil })
				if tt.lost == 0 {
					if err != nil || renewals < 3 {
						t.Errorf("%d renewals, %v", renewals, err)
					}
					return
				}
				var e *Error
				if !errors.As(err, &e) || e.Reason() != NoLease || time.Since(w.begun) < tt.lost || time.Since(w.begun) > tt.lost+fuzz {
					t.Errorf("after %v: %v", time.Since(w.begun), err)
				}
				if len(w.sent) > 10 {
					t.Errorf("%d messages", len(w.sent))
				}
			})
		})
	}
}

// FuzzParseV4 checks that no message panics, and that what is taken from one is bounded and sane.
func FuzzParseV4(f *testing.F) {
	req := (&Client4{MAC: mac}).message(dhcpv4.MessageTypeDiscover, dhcpv4.TransactionID{1}, 0).ToBytes()
	f.Add(answer4(f, req, dhcpv4.MessageTypeAck, "192.0.2.1", option{121, []byte{8, 10, 192, 0, 2, 1}}, option{52, []byte{3}}))
	f.Add(binary.BigEndian.AppendUint32(make([]byte, 236), 0x63825363))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseV4(b)
		if err != nil {
			return
		}
		lease, err := leaseFromV4(m, false, time.Time{})
		if err != nil {
			return
		}
		if !assignable(lease.Address.Addr()) || lease.Address.Bits() < 1 || len(lease.Routes) > maxRoutes || len(lease.DNS) > maxDNS {
			t.Fatalf("%+v", lease)
		}
		if lease.Valid != 0 && (lease.Renew <= 0 || lease.Renew > lease.Rebind || lease.Rebind > lease.Valid) {
			t.Fatalf("%+v", lease)
		}
	})
}
