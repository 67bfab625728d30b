package dhcp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
)

var (
	address6 = net.ParseIP("2001:db8::50")
	iaid6    = IAID("eth0")
)

func client6(w *wire) *Client6 {
	return &Client6{DUID: DUID("SN1", mac), IAID: iaid6, Rand: rand.New(rand.NewPCG(1, 2)),
		Open: func() (net.PacketConn, error) { return w.open(), nil }}
}

func parse6(t testing.TB, b []byte) *dhcpv6.Message {
	t.Helper()
	m, err := dhcpv6.MessageFromBytes(b)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// answer6 is the answer of the server with the given number.
func answer6(t testing.TB, b []byte, kind dhcpv6.MessageType, server byte, options ...dhcpv6.Option) []byte {
	t.Helper()
	req := parse6(t, b)
	m := &dhcpv6.Message{MessageType: kind, TransactionID: req.TransactionID}
	m.AddOption(req.GetOneOption(dhcpv6.OptionClientID))
	m.AddOption(serverID([]byte{0, 3, 0, 1, 2, 0, 0, 0, 0, server}))
	for _, o := range options {
		m.AddOption(o)
	}
	return m.ToBytes()
}

func granted(valid time.Duration) dhcpv6.Option {
	ia := &dhcpv6.OptIANA{IaId: iaid6, T1: valid / 2, T2: valid / 10 * 8}
	ia.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: address6, PreferredLifetime: valid / 2, ValidLifetime: valid})
	return ia
}

func noAddress() dhcpv6.Option {
	ia := &dhcpv6.OptIANA{IaId: iaid6}
	ia.Options.Add(&dhcpv6.OptStatusCode{StatusCode: iana.StatusNoAddrsAvail})
	return ia
}

func redirect6(t testing.TB, uris ...string) dhcpv6.Option {
	return &dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionV6SZTPRedirect, OptionData: encode(t, uris...)}
}

func TestAcquireV6(t *testing.T) {
	const solicit, advertise, request, reply, information = dhcpv6.MessageTypeSolicit, dhcpv6.MessageTypeAdvertise,
		dhcpv6.MessageTypeRequest, dhcpv6.MessageTypeReply, dhcpv6.MessageTypeInformationRequest
	tests := []struct {
		name    string
		answer  func(t *testing.T, kind dhcpv6.MessageType, b []byte) [][]byte
		address string
		within  time.Duration
		servers int
	}{
		{"stateful", func(t *testing.T, kind dhcpv6.MessageType, b []byte) [][]byte {
			if kind == solicit {
				return [][]byte{answer6(t, b, advertise, 1, granted(1000*time.Second))}
			}
			return [][]byte{answer6(t, b, reply, 1, granted(1000*time.Second), redirect6(t, "https://bs.example.net"))}
		}, "2001:db8::50/128", 2 * time.Second, 1},
		{"highest-preference-at-once", func(t *testing.T, kind dhcpv6.MessageType, b []byte) [][]byte {
			if kind == solicit {
				return [][]byte{answer6(t, b, advertise, 1, granted(1000*time.Second), dhcpv6.OptPreference(255))}
			}
			return [][]byte{answer6(t, b, reply, 1, granted(1000*time.Second))}
		}, "2001:db8::50/128", startDelay6, 0},
		{"prefers-the-server-with-the-option", func(t *testing.T, kind dhcpv6.MessageType, b []byte) [][]byte {
			if kind == solicit {
				return [][]byte{answer6(t, b, advertise, 1, granted(1000*time.Second), dhcpv6.OptPreference(200)),
					answer6(t, b, advertise, 2, granted(1000*time.Second), redirect6(t, "https://bs.example.net")),
					answer6(t, b, advertise, 3, granted(1000*time.Second))}
			}
			if id := parse6(t, b).Options.ServerID().ToBytes(); id[len(id)-1] != 2 {
				t.Errorf("request to server %x", id)
			}
			return [][]byte{answer6(t, b, reply, 2, granted(1000*time.Second), redirect6(t, "https://bs.example.net"))}
		}, "2001:db8::50/128", 2 * time.Second, 1},
		{"no-addresses-so-information-request", func(t *testing.T, kind dhcpv6.MessageType, b []byte) [][]byte {
			if kind == solicit {
				return [][]byte{answer6(t, b, advertise, 1, noAddress())}
			}
			if kind != information {
				t.Errorf("sent %v", kind)
			}
			return [][]byte{answer6(t, b, reply, 1, redirect6(t, "https://bs.example.net"))}
		}, "", 2 * time.Second, 1},
		{"stateless-server-only", func(t *testing.T, kind dhcpv6.MessageType, b []byte) [][]byte {
			if kind == information {
				return [][]byte{answer6(t, b, reply, 1, redirect6(t, "https://bs.example.net"))}
			}
			return nil
		}, "", 5 * time.Second, 1},
		{"singleton-twice", func(t *testing.T, kind dhcpv6.MessageType, b []byte) [][]byte {
			if kind == information {
				return [][]byte{answer6(t, b, reply, 1, redirect6(t, "https://a.example"), redirect6(t, "https://b.example", "https://c.example"))}
			}
			return nil
		}, "", 5 * time.Second, 1},
		{"silent-first", func(t *testing.T, kind dhcpv6.MessageType, b []byte) [][]byte {
			if kind == solicit && parse6(t, b).Options.ElapsedTime() > 0 {
				return [][]byte{answer6(t, b, advertise, 1, granted(1000*time.Second))}
			}
			if kind == request {
				return [][]byte{answer6(t, b, reply, 1, granted(1000*time.Second))}
			}
			return nil
		}, "2001:db8::50/128", 3 * time.Second, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWire(func(b []byte, _ time.Duration) [][]byte { return tt.answer(t, parse6(t, b).MessageType, b) })
				lease, err := client6(w).Acquire(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				got := ""
				if lease.Address.IsValid() {
					got = lease.Address.String()
				}
				if got != tt.address || len(lease.Servers) != tt.servers || time.Since(w.begun) > tt.within {
					t.Errorf("after %v: %+v", time.Since(w.begun), lease)
				}
				if !parse6(t, w.sent[0]).IsOptionRequested(dhcpv6.OptionV6SZTPRedirect) {
					t.Error("the first message does not ask for option 136")
				}
			})
		})
	}
}

func TestSilenceV6(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(func([]byte, time.Duration) [][]byte { return nil })
		ctx, cancel := context.WithTimeout(t.Context(), 120*time.Second)
		defer cancel()
		_, err := client6(w).Acquire(ctx)
		var e *Error
		if !errors.As(err, &e) || e.Reason() != NoAnswer {
			t.Errorf("error %v", err)
		}
		if n := len(w.sent); n < 6 || n > 20 {
			t.Errorf("%d messages at %v", n, w.times)
		}
	})
}

// TestUnansweredRequestV6: a server that advertised is not said to be silent.
func TestUnansweredRequestV6(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(func(b []byte, _ time.Duration) [][]byte {
			if parse6(t, b).MessageType != solicit6 {
				return nil
			}
			return [][]byte{answer6(t, b, advertise6, 1, granted(1000*time.Second))}
		})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, err := client6(w).Acquire(ctx)
		var e *Error
		if !errors.As(err, &e) || e.Reason() != NoLease || !strings.Contains(err.Error(), "and then did not answer in time") {
			t.Errorf("%v", err)
		}
	})
}

// TestForeignRepliesV6 checks that only answers to this client's transaction count.
func TestForeignRepliesV6(t *testing.T) {
	tests := map[string]func(t *testing.T, b []byte) []byte{
		"other-transaction": func(t *testing.T, b []byte) []byte {
			p := answer6(t, b, dhcpv6.MessageTypeReply, 1)
			p[2] ^= 1
			return p
		},
		"other-client": func(t *testing.T, b []byte) []byte {
			p := answer6(t, b, dhcpv6.MessageTypeReply, 1)
			p[len(p)-1-14] ^= 1
			return p
		},
		"no-server-identifier": func(t *testing.T, b []byte) []byte {
			m := parse6(t, answer6(t, b, dhcpv6.MessageTypeReply, 1))
			m.Options.Del(dhcpv6.OptionServerID)
			return m.ToBytes()
		},
		"truncated": func(t *testing.T, b []byte) []byte { return answer6(t, b, dhcpv6.MessageTypeReply, 1)[:9] },
	}
	for name, bad := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWire(func(b []byte, _ time.Duration) [][]byte { return [][]byte{bad(t, b)} })
				ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
				defer cancel()
				if lease, err := client6(w).Inform(ctx, netip.Addr{}); err == nil {
					t.Errorf("took %+v", lease)
				}
			})
		})
	}
}

func TestKeepAndReleaseV6(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var kinds []dhcpv6.MessageType
		w := newWire(func(b []byte, at time.Duration) [][]byte {
			kinds = append(kinds, parse6(t, b).MessageType)
			if at > 700*time.Second && at < 850*time.Second { // the server is away: T1 at about 1000 s, T2 later
				return nil
			}
			return [][]byte{answer6(t, b, dhcpv6.MessageTypeReply, 1, granted(1000*time.Second))}
		})
		c := client6(w)
		lease, err := grant(answer6(t, c.message(dhcpv6.MessageTypeSolicit).ToBytes(), dhcpv6.MessageTypeReply, 1, granted(1000*time.Second)))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 1800*time.Second)
		defer cancel()
		renewals := 0
		if err := Keep(ctx, c, lease, func(l *Lease) error { lease = l; renewals++; return nil }); err != nil || renewals < 3 {
			t.Errorf("%d renewals, %v", renewals, err)
		}
		if err := c.Release(lease); err != nil {
			t.Error(err)
		}
		last := parse6(t, w.sent[len(w.sent)-1])
		if last.MessageType != dhcpv6.MessageTypeRelease || !last.Options.OneIANA().Options.OneAddress().IPv6Addr.Equal(address6) {
			t.Errorf("last message %v", last)
		}
	})
}

func TestDUID(t *testing.T) {
	if a, b := DUID("SN1", mac), DUID("SN1", nil); !bytes.Equal(a, b) || len(a) != 18 || a[1] != duidUUID || bytes.Contains(a, []byte("SN1")) {
		t.Errorf("%x %x", a, b)
	}
	if bytes.Equal(DUID("SN1", mac), DUID("SN2", mac)) {
		t.Error("two devices have one DUID")
	}
	if got := DUID("", mac); !bytes.Equal(got, append([]byte{0, 3, 0, 1}, mac...)) {
		t.Errorf("%x", got)
	}
	if bytes.Equal(ClientID(DUID("SN1", mac), IAID("eth0")), ClientID(DUID("SN1", mac), IAID("eth1"))) {
		t.Error("two interfaces have one client identifier")
	}
}

// grant reads a lease from a message.
func grant(b []byte) (*Lease, error) {
	m, err := parseV6(b)
	if err != nil {
		return nil, err
	}
	return m.lease(iaid6, netip.Addr{}, nil, time.Now())
}

func TestLeaseDetailsV6(t *testing.T) {
	req := client6(nil).message(dhcpv6.MessageTypeSolicit).ToBytes()
	names := &dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionDomainSearchList,
		OptionData: []byte("\x03lab\x04test\x00\x01-\x00\x07example\x03net\x00\xc0\x00")}
	bomb := &dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionDomainSearchList,
		OptionData: append(bytes.Repeat([]byte{1, 'a'}, 1000), bytes.Repeat([]byte{0xc0, 0}, 1000)...)}
	odd := &dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionNTPServer, OptionData: []byte{1}}
	t.Run("names-and-servers", func(t *testing.T) {
		l, err := grant(answer6(t, req, dhcpv6.MessageTypeReply, 1, granted(time.Hour), names,
			dhcpv6.OptDNS(net.ParseIP("2001:db8::1"), net.IPv6loopback, net.ParseIP("fe80::1"))))
		if err != nil || fmt.Sprint(l.Domains, l.DNS) != "[lab.test example.net] [2001:db8::1 fe80::1]" {
			t.Errorf("%+v, %v", l, err)
		}
	})
	t.Run("odd-option-that-nobody-asked-for", func(t *testing.T) {
		if l, err := grant(answer6(t, req, dhcpv6.MessageTypeReply, 1, odd, granted(time.Hour))); err != nil {
			t.Errorf("%+v, %v", l, err)
		}
	})
	t.Run("compressed-names", func(t *testing.T) {
		b, begun := answer6(t, req, dhcpv6.MessageTypeReply, 1, granted(time.Hour), bomb), time.Now()
		if l, err := grant(b); err != nil || l.Domains != nil || time.Since(begun) > time.Second {
			t.Errorf("%+v, %v after %v", l, err, time.Since(begun))
		}
	})
	t.Run("other-association", func(t *testing.T) {
		ia := granted(time.Hour).(*dhcpv6.OptIANA)
		ia.IaId[0] ^= 1
		if l, err := grant(answer6(t, req, dhcpv6.MessageTypeReply, 1, ia)); !errors.Is(err, errNoAddress) {
			t.Errorf("%+v, %v", l, err)
		}
	})
	t.Run("status", func(t *testing.T) {
		if l, err := grant(answer6(t, req, dhcpv6.MessageTypeReply, 1, granted(time.Hour),
			&dhcpv6.OptStatusCode{StatusCode: iana.StatusNotOnLink, StatusMessage: "elsewhere"})); err == nil {
			t.Errorf("%+v", l)
		}
	})
}

// FuzzParseV6 checks that no message panics or takes long, and that an address taken from one is usable.
func FuzzParseV6(f *testing.F) {
	req := client6(nil).message(dhcpv6.MessageTypeSolicit).ToBytes()
	f.Add(answer6(f, req, dhcpv6.MessageTypeReply, 1, granted(1000*time.Second), redirect6(f, "https://bs.example.net")))
	f.Add(answer6(f, req, dhcpv6.MessageTypeReply, 1, noAddress()))
	f.Add(bytes.Repeat([]byte{0, 3, 0, 200, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 250))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > maxPacket {
			return
		}
		lease, err := grant(b)
		if err != nil {
			return
		}
		if a := lease.Address; !assignable(a.Addr()) || !a.Addr().Is6() || a.Bits() != 128 || len(lease.DNS) > maxDNS {
			t.Fatalf("%+v", lease)
		}
		if lease.Valid != 0 && (lease.Renew <= 0 || lease.Renew > lease.Rebind || lease.Rebind > lease.Valid) {
			t.Fatalf("%+v", lease)
		}
	})
}
