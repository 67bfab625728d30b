package dhcp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
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

// ruled is what RFC 2131, tables 4 and 5, rule about a message: its kind, where it is sent, ciaddr, options 50 and 54, and whether it asks for
// parameters (55, 57, 60).
func ruled(t *testing.T, b []byte, to string) string {
	t.Helper()
	m, err := dhcpv4.FromBytes(b)
	if err != nil {
		t.Fatal(err)
	}
	asks := 0
	for _, code := range []uint8{55, 57, 60} {
		if m.Options.Has(dhcpv4.GenericOptionCode(code)) {
			asks++
		}
	}
	if !m.Options.Has(dhcpv4.OptionClientIdentifier) || m.IsBroadcast() || !m.GatewayIPAddr.Equal(net.IPv4zero) || m.HopCount != 0 {
		t.Errorf("%v", m)
	}
	return fmt.Sprintf("%v to %s ciaddr=%v requested=%v server=%v asks=%d", m.MessageType(), to, m.ClientIPAddr, m.RequestedIPAddress(), m.ServerIdentifier(), asks)
}

// TestMessagesV4 follows a lease through all states and compares each message with RFC 2131, tables 4 and 5.
func TestMessagesV4(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(func(b []byte, at time.Duration) [][]byte {
			switch kind4(t, b) {
			case dhcpv4.MessageTypeDiscover:
				return [][]byte{answer4(t, b, dhcpv4.MessageTypeOffer, "192.0.2.1")}
			case dhcpv4.MessageTypeInform:
				return [][]byte{answer4(t, b, dhcpv4.MessageTypeAck, "192.0.2.1")}
			case dhcpv4.MessageTypeRequest:
				if at < time.Second || at > 900*time.Second { // the lease, and the first answer to all servers
					return [][]byte{answer4(t, b, dhcpv4.MessageTypeAck, "192.0.2.1")}
				}
			}
			return nil
		})
		c := client4(w)
		c.VendorClass = "ztp"
		lease, err := c.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(lease.Renew)
		lease, err = c.Extend(t.Context(), lease)
		if err != nil {
			t.Fatal(err)
		}
		conn := w.open()
		c.decline(conn, lease)
		conn.Close()
		if err := c.Release(lease); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Inform(t.Context(), netip.MustParseAddr("192.0.2.7")); err != nil {
			t.Fatal(err)
		}
		var story []string
		for i, b := range w.sent {
			if line := ruled(t, b, w.to[i]); len(story) == 0 || story[len(story)-1] != line {
				story = append(story, line)
			}
		}
		want := []string{
			"DISCOVER to 255.255.255.255:67 ciaddr=0.0.0.0 requested=<nil> server=<nil> asks=3",
			"REQUEST to 255.255.255.255:67 ciaddr=0.0.0.0 requested=192.0.2.50 server=192.0.2.1 asks=3",
			"REQUEST to 192.0.2.1:67 ciaddr=192.0.2.50 requested=<nil> server=<nil> asks=3",
			"REQUEST to 255.255.255.255:67 ciaddr=192.0.2.50 requested=<nil> server=<nil> asks=3",
			"DECLINE to 255.255.255.255:67 ciaddr=0.0.0.0 requested=192.0.2.50 server=192.0.2.1 asks=0",
			"RELEASE to 192.0.2.1:67 ciaddr=192.0.2.50 requested=<nil> server=192.0.2.1 asks=0",
			"INFORM to 255.255.255.255:67 ciaddr=192.0.2.7 requested=<nil> server=<nil> asks=3",
		}
		if diff := cmp.Diff(want, story); diff != "" {
			t.Error(diff)
		}
		if m, _ := dhcpv4.FromBytes(w.sent[0]); m.ClassIdentifier() != "ztp" {
			t.Errorf("vendor class %q", m.ClassIdentifier())
		}
		if w.opened != 0 {
			t.Errorf("%d sockets are open", w.opened)
		}
	})
}

// TestSecondsAndFirstMessage: the first message goes out at once, and a request has the seconds of the discover before it.
func TestSecondsAndFirstMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(func(b []byte, at time.Duration) [][]byte {
			switch {
			case at < 5*time.Second:
				return nil
			case kind4(t, b) == dhcpv4.MessageTypeDiscover:
				return [][]byte{answer4(t, b, dhcpv4.MessageTypeOffer, "192.0.2.1")}
			case at < 12*time.Second: // this request is lost
				return nil
			}
			return [][]byte{answer4(t, b, dhcpv4.MessageTypeAck, "192.0.2.1")}
		})
		if _, err := client4(w).Acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		if w.times[0] != 0 {
			t.Errorf("first sent after %v", w.times[0])
		}
		var offered uint16
		for i, b := range w.sent {
			m, _ := dhcpv4.FromBytes(b)
			if m.MessageType() == dhcpv4.MessageTypeDiscover {
				offered = m.NumSeconds
				if offered != uint16(w.times[i]/time.Second) {
					t.Errorf("after %v it says %d s", w.times[i], offered)
				}
			} else if m.NumSeconds != offered || offered == 0 {
				t.Errorf("request says %d s, the discover before it %d", m.NumSeconds, offered)
			}
		}
	})
}

// TestRepetitionsDisperse has many machines begin in one instant while the server is silent: what they repeat is spread.
func TestRepetitionsDisperse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		perBucket := map[time.Duration]int{} // first repetitions in each 100 ms
		for seed := range uint64(500) {
			w := newWire(func([]byte, time.Duration) [][]byte { return nil })
			c := client4(w)
			c.Rand = rand.New(rand.NewPCG(seed, 1))
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			c.Acquire(ctx)
			cancel()
			perBucket[w.times[1].Truncate(100*time.Millisecond)]++
		}
		for at, n := range perBucket {
			if n > 500/8*2 { // twice the mean over the 0.8 s in which they fall
				t.Errorf("%d of 500 machines repeat within 100 ms after %v", n, at)
			}
		}
	})
}

// TestLyingServers has a second server answer first, and everything, with lies; the honest one must win.
func TestLyingServers(t *testing.T) {
	redirect := option{OptionV4Redirect, encode(t, "https://bs.example.net")}
	offer := func(t *testing.T, b []byte, server string, options ...option) []byte {
		kind := dhcpv4.MessageTypeOffer
		if kind4(t, b) == dhcpv4.MessageTypeRequest {
			kind = dhcpv4.MessageTypeAck
		}
		return answer4(t, b, kind, server, options...)
	}
	named := func(t *testing.T, b []byte) string { m, _ := dhcpv4.FromBytes(b); return m.ServerIdentifier().String() }
	address := func(p []byte, a ...byte) []byte { copy(p[16:20], a); return p }
	for name, lie := range map[string]func(t *testing.T, b []byte) []byte{
		"no-option": func(t *testing.T, b []byte) []byte { return offer(t, b, "192.0.2.66") },
		"malformed-option": func(t *testing.T, b []byte) []byte {
			return offer(t, b, "192.0.2.66", option{OptionV4Redirect, []byte{1}})
		},
		"its-own-address": func(t *testing.T, b []byte) []byte {
			return address(offer(t, b, "192.0.2.66", redirect), 192, 0, 2, 66)
		},
		"address-of-router": func(t *testing.T, b []byte) []byte {
			return address(offer(t, b, "192.0.2.66", redirect, option{3, []byte{192, 0, 2, 9}}), 192, 0, 2, 9)
		},
		"address-in-use": func(t *testing.T, b []byte) []byte {
			return address(offer(t, b, "192.0.2.66", redirect), 192, 0, 2, 10)
		},
		"broadcast": func(t *testing.T, b []byte) []byte {
			return address(offer(t, b, "192.0.2.66", redirect), 192, 0, 2, 255)
		},
		"network": func(t *testing.T, b []byte) []byte { return address(offer(t, b, "192.0.2.66", redirect), 192, 0, 2, 0) },
		"zero-lease": func(t *testing.T, b []byte) []byte {
			return offer(t, b, "192.0.2.66", redirect, option{51, make([]byte, 4)})
		},
		"refuses-it-later": func(t *testing.T, b []byte) []byte { return answer4(t, b, dhcpv4.MessageTypeNak, "192.0.2.66") },
		"refuses-requests": func(t *testing.T, b []byte) []byte {
			if named(t, b) == "192.0.2.66" {
				return answer4(t, b, dhcpv4.MessageTypeNak, "192.0.2.66")
			}
			return offer(t, b, "192.0.2.66", redirect)
		},
		"silent-after-offer": func(t *testing.T, b []byte) []byte {
			if kind4(t, b) == dhcpv4.MessageTypeDiscover {
				return offer(t, b, "192.0.2.66", redirect)
			}
			return nil
		},
		"acknowledges-another-address": func(t *testing.T, b []byte) []byte {
			p := offer(t, b, "192.0.2.66", redirect)
			if kind4(t, b) == dhcpv4.MessageTypeRequest {
				address(p, 192, 0, 2, 99)
			}
			return p
		},
		"wrong-transaction": func(t *testing.T, b []byte) []byte { p := offer(t, b, "192.0.2.66", redirect); p[4] ^= 1; return p },
		"wrong-hardware":    func(t *testing.T, b []byte) []byte { p := offer(t, b, "192.0.2.66", redirect); p[28] ^= 4; return p },
		"wrong-client": func(t *testing.T, b []byte) []byte {
			return offer(t, b, "192.0.2.66", redirect, option{61, []byte("other")})
		},
		"empty": func(*testing.T, []byte) []byte { return []byte{} },
		"short": func(_ *testing.T, b []byte) []byte { return b[:8] },
		"garbage": func(_ *testing.T, b []byte) []byte {
			return append(bytes.Clone(b[:240]), bytes.Repeat([]byte{9}, 3800)...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWire(func(b []byte, _ time.Duration) (answers [][]byte) {
					if p := lie(t, b); p != nil {
						answers = append(answers, p)
					}
					if kind4(t, b) == dhcpv4.MessageTypeDiscover || named(t, b) == "192.0.2.1" {
						answers = append(answers, offer(t, b, "192.0.2.1", redirect))
					}
					return answers
				})
				air := newWire(func(b []byte, _ time.Duration) [][]byte {
					if bytes.Equal(b[24:28], []byte{192, 0, 2, 10}) {
						return [][]byte{arp(2, neighbour, "192.0.2.10", "0.0.0.0")}
					}
					return nil
				})
				c := client4(w)
				c.OpenARP = func() (net.PacketConn, error) { return air.open(), nil }
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // the default of the configuration
				defer cancel()
				lease, err := c.Acquire(ctx)
				if err != nil || lease.Server.String() != "192.0.2.1" || lease.Address.Addr().String() != "192.0.2.50" || len(lease.Servers) != 1 {
					t.Errorf("%+v, %v", lease, err)
				}
			})
		})
	}
}

// TestFailureIsExplained has the only server lie: what it did is what people are told.
func TestFailureIsExplained(t *testing.T) {
	for name, tt := range map[string]struct {
		options []option
		answer  dhcpv4.MessageType
		within  time.Duration
		says    string
	}{
		"refused":        {nil, dhcpv4.MessageTypeNak, time.Minute, "by 192.0.2.1 came to nothing: the server refused the address"},
		"unanswered":     {nil, dhcpv4.MessageTypeNone, time.Minute, "by 192.0.2.1 came to nothing: no answer"},
		"unanswered-yet": {nil, dhcpv4.MessageTypeNone, 5 * time.Second, "by 192.0.2.1 came to nothing: no answer in time"},
		"lease-of-3-s":   {[]option{{51, []byte{0, 0, 0, 3}}}, dhcpv4.MessageTypeAck, time.Minute, "a lease of 3s is too short"},
		"without-server": {[]option{{54, nil}}, dhcpv4.MessageTypeAck, time.Minute, "no server identifier"},
		"unusable-ack":   {[]option{{6, nil}}, dhcpv4.MessageTypeAck, time.Minute, "came to nothing: the server refused the address: its acknowledgement"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWire(func(b []byte, _ time.Duration) [][]byte {
					switch {
					case kind4(t, b) == dhcpv4.MessageTypeDiscover:
						return [][]byte{answer4(t, b, dhcpv4.MessageTypeOffer, "192.0.2.1", tt.options...)}
					case tt.answer == dhcpv4.MessageTypeNone:
						return nil
					}
					if name == "unusable-ack" {
						return [][]byte{answer4(t, b, tt.answer, "192.0.2.1", option{51, []byte{0, 0, 0, 3}})}
					}
					return [][]byte{answer4(t, b, tt.answer, "192.0.2.1")}
				})
				ctx, cancel := context.WithTimeout(t.Context(), tt.within)
				defer cancel()
				_, err := client4(w).Acquire(ctx)
				var e *Error
				if !errors.As(err, &e) || e.Reason() != NoLease || e.Hint() == "" || !strings.Contains(err.Error(), tt.says) ||
					strings.Contains(err.Error(), `""`) {
					t.Errorf("%v", err)
				}
				if len(w.sent) > 40 {
					t.Errorf("%d messages in a minute", len(w.sent))
				}
			})
		})
	}
}

// TestFruitlessServersAreAskedLast has two servers with bootstrap servers of which the quicker one was of no use before.
func TestFruitlessServersAreAskedLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		redirect := option{OptionV4Redirect, encode(t, "https://bs.example.net")}
		var w *wire
		w = newWire(func(b []byte, _ time.Duration) [][]byte {
			m, _ := dhcpv4.FromBytes(b)
			if m.MessageType() == dhcpv4.MessageTypeRequest {
				return [][]byte{answer4(t, b, dhcpv4.MessageTypeAck, m.ServerIdentifier().String(), redirect)}
			}
			go func() { // it looks whether the address is free
				time.Sleep(time.Second)
				w.answer <- answer4(t, b, dhcpv4.MessageTypeOffer, "192.0.2.1", redirect)
			}()
			return [][]byte{answer4(t, b, dhcpv4.MessageTypeOffer, "192.0.2.66", redirect)}
		})
		c := client4(w)
		c.Servers = new(Servers)
		var chosen []string
		for range 8 {
			lease, err := c.Acquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			c.Servers.Fruitless(lease)
			chosen = append(chosen, lease.Server.String())
			time.Sleep(time.Minute)
		}
		if first := slices.Index(chosen, "192.0.2.1"); first < 1 || first > 5 {
			t.Errorf("%q", chosen)
		}
	})
	var s Servers
	for i := range 1000 {
		s.Fruitless(&Lease{Server: netip.AddrFrom4([4]byte{192, 0, byte(i / 256), byte(i)})})
	}
	if len(s.times) != 1000%maxRemembered {
		t.Errorf("remembers %d servers", len(s.times))
	}
}

// TestExtendV4 says who may end a lease, and when it is asked for more time.
func TestExtendV4(t *testing.T) {
	lease := func() *Lease {
		return &Lease{Address: netip.MustParsePrefix("192.0.2.50/25"), Server: netip.MustParseAddr("192.0.2.1"),
			Obtained: time.Now().Add(-500 * time.Second), Renew: 500 * time.Second, Rebind: 900 * time.Second, Valid: 1000 * time.Second}
	}
	t.Run("half-of-the-rest-each-time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWire(func([]byte, time.Duration) [][]byte { return nil })
			if _, err := client4(w).Extend(t.Context(), lease()); err == nil {
				t.Error("extended by nobody")
			}
			want := []time.Duration{0, 200, 300, 360, 400, 460} // s; T2 is at 400 and the end at 500
			if len(w.times) != len(want) {
				t.Fatalf("sent at %v", w.times)
			}
			for i, at := range w.times {
				if off := at - want[i]*time.Second; off.Abs() > 40*time.Second {
					t.Errorf("sent at %v", w.times)
				}
			}
		})
	})
	for name, tt := range map[string]struct {
		answer func(t *testing.T, b []byte, at time.Duration) []byte
		ended  time.Duration // when it is lost; 0 means extended
	}{
		"another-server-refuses": {func(t *testing.T, b []byte, at time.Duration) []byte {
			if at > 0 {
				return answer4(t, b, dhcpv4.MessageTypeAck, "192.0.2.1")
			}
			return answer4(t, b, dhcpv4.MessageTypeNak, "192.0.2.66")
		}, 0},
		"another-address-first": {func(t *testing.T, b []byte, at time.Duration) []byte {
			if at > 0 {
				return answer4(t, b, dhcpv4.MessageTypeAck, "192.0.2.1")
			}
			p := answer4(t, b, dhcpv4.MessageTypeAck, "192.0.2.1", option{51, []byte{0, 0, 0, 60}})
			p[19] = 77
			return p
		}, 0},
		"unusable-first": {func(t *testing.T, b []byte, at time.Duration) []byte {
			if at > 0 {
				return answer4(t, b, dhcpv4.MessageTypeAck, "192.0.2.1")
			}
			return answer4(t, b, dhcpv4.MessageTypeAck, "192.0.2.1", option{51, []byte{0, 0, 0, 3}})
		}, 0},
		"any-server-after-T2": {func(t *testing.T, b []byte, at time.Duration) []byte {
			if at < 400*time.Second {
				return nil
			}
			return answer4(t, b, dhcpv4.MessageTypeAck, "192.0.2.2")
		}, 0},
		"its-server-refuses": {func(t *testing.T, b []byte, _ time.Duration) []byte {
			return answer4(t, b, dhcpv4.MessageTypeNak, "192.0.2.1")
		}, time.Nanosecond},
		"any-server-refuses-after-T2": {func(t *testing.T, b []byte, _ time.Duration) []byte {
			return answer4(t, b, dhcpv4.MessageTypeNak, "192.0.2.2")
		}, 401 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWire(func(b []byte, at time.Duration) [][]byte {
					if p := tt.answer(t, b, at); p != nil {
						return [][]byte{p}
					}
					return nil
				})
				begun := time.Now()
				next, err := client4(w).Extend(t.Context(), lease())
				if tt.ended > 0 {
					if err == nil || time.Since(begun) > tt.ended {
						t.Errorf("after %v: %+v, %v", time.Since(begun), next, err)
					}
				} else if err != nil || next.Address != lease().Address || next.Ends().Before(time.Now().Add(900*time.Second)) {
					t.Errorf("%+v, %v", next, err)
				}
			})
		})
	}
}

// TestShortLeasesAreBounded keeps a lease of a server that wants to be asked all the time.
func TestShortLeasesAreBounded(t *testing.T) {
	for _, times := range [][3]byte{{10, 1, 2}, {10, 9, 1}, {60, 1, 59}, {10, 5, 5}} {
		synctest.Test(t, func(t *testing.T) {
			options := []option{{51, []byte{0, 0, 0, times[0]}}, {58, []byte{0, 0, 0, times[1]}}, {59, []byte{0, 0, 0, times[2]}}}
			w := newWire(func(b []byte, _ time.Duration) [][]byte {
				if kind4(t, b) == dhcpv4.MessageTypeDiscover {
					return [][]byte{answer4(t, b, dhcpv4.MessageTypeOffer, "192.0.2.1", options...)}
				}
				return [][]byte{answer4(t, b, dhcpv4.MessageTypeAck, "192.0.2.1", options...)}
			})
			c := client4(w)
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Second)
			defer cancel()
			lease, err := c.Acquire(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if err := Keep(ctx, c, lease, func(*Lease) error { return nil }); err != nil || len(w.sent) > 23 {
				t.Errorf("%v: %d messages, %v", times, len(w.sent), err)
			}
		})
	}
}

// TestExchangeIsLogged reads what `ztp daemon --debug` says about a lease.
func TestExchangeIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refused := false
		w := newWire(func(b []byte, _ time.Duration) [][]byte {
			switch {
			case kind4(t, b) == dhcpv4.MessageTypeDiscover:
				return [][]byte{answer4(t, b, dhcpv4.MessageTypeOffer, "192.0.2.1", option{OptionV4Redirect, encode(t, "https://bs")})}
			case !refused:
				refused = true
				return [][]byte{answer4(t, b, dhcpv4.MessageTypeNak, "192.0.2.1", option{56, []byte("no\nlevel=ERROR forged")})}
			}
			return [][]byte{answer4(t, b, dhcpv4.MessageTypeAck, "192.0.2.1")}
		})
		var out bytes.Buffer
		c := client4(w)
		c.Logger = slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
		lease, err := c.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Release(lease); err != nil {
			t.Fatal(err)
		}
		var got []string
		for line := range strings.Lines(out.String()) {
			_, message, _ := strings.Cut(line, `msg="`)
			message, _, _ = strings.Cut(message, `"`)
			got = append(got, message)
		}
		want := []string{"sent DHCPDISCOVER", "received DHCPOFFER", "sent DHCPREQUEST", "received DHCPNAK",
			"the DHCPv4 lease was not granted; starting over", "sent DHCPDISCOVER", "received DHCPOFFER", "sent DHCPREQUEST",
			"received DHCPACK", "sent DHCPRELEASE"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s\n%s", diff, &out)
		}
		for _, part := range []string{"option-143=true", "server=192.0.2.1", "address=192.0.2.50", "to=255.255.255.255"} {
			if !strings.Contains(out.String(), part) {
				t.Errorf("no %s in\n%s", part, &out)
			}
		}
	})
}

// TestClientIDStays: whoever changes this makes every device in the field a stranger to its DHCP servers.
func TestClientIDStays(t *testing.T) {
	want := "ff" + "9c32a8c7" + "0004" + "f34a373b9ca58a9c9f7fbf47254eacfb"
	if got := fmt.Sprintf("%x", ClientID(DUID("SN1", mac), IAID("eth0"))); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
