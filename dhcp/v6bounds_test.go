package dhcp

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
)

// TestOffersInOrder compares each offer with each worse one.
func TestOffersInOrder(t *testing.T) {
	servers := new(Servers)
	from := func(server byte, fruitless int, list ...Server) *Lease {
		l := &Lease{Servers: list, serverID: []byte{server}}
		for range fruitless {
			servers.Fruitless(l)
		}
		return l
	}
	bs := Server{"bs", 443}
	useful, useful1, useful2 := from(1, 0, bs), from(2, 1, bs), from(3, 2, bs)
	plain, plain1 := from(4, 0), from(5, 1)
	offers := []struct {
		offer6
		preference uint8
	}{ // the best first
		{offer6{lease: useful}, 9},
		{offer6{lease: useful, committed: true}, 0},
		{offer6{lease: useful}, 0},
		{offer6{lease: useful1}, 255},
		{offer6{lease: plain}, 255},
		{offer6{lease: plain, committed: true}, 7},
		{offer6{lease: plain}, 7},
		{offer6{lease: plain, committed: true}, 0},
		{offer6{lease: useful2}, 255},
		{offer6{lease: plain1, committed: true}, 255},
		{offer6{lease: useful, refused: true}, 255},
		{offer6{lease: plain, refused: true}, 0},
	}
	chosen := func(i, j int) (second bool) {
		c := &choice{servers: servers}
		return c.prefers(offers[i].flaws(c, offers[i].preference)) && c.prefers(offers[j].flaws(c, offers[j].preference))
	}
	for i, better := range offers {
		for j := range offers[i+1:] {
			if j += i + 1; chosen(i, j) || !chosen(j, i) {
				t.Errorf("%+v is not better than %+v", better, offers[j])
			}
		}
		if chosen(i, i) {
			t.Errorf("%+v is better than itself", better)
		}
		for all := range 2 {
			c := &choice{servers: servers, all: all}
			if want := all == 0 && (len(better.lease.Servers) > 0 || better.preference == 255) && !better.refused; c.final(better.flaws(c, better.preference)) != want {
				t.Errorf("%+v is final: %t, after %d in vain", better, !want, all)
			}
		}
	}
}

// TestWhatEachMessageHolds: the options that servers need (RFC 8415 §16, §18.2), and where messages go.
func TestWhatEachMessageHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(func(b []byte, _ time.Duration) [][]byte {
			switch parse6(t, b).MessageType {
			case solicit6:
				return [][]byte{answer6(t, b, advertise6, 1, granted(1000*time.Second), dhcpv6.OptPreference(255))}
			case dhcpv6.MessageTypeRenew:
				return nil
			}
			return [][]byte{answer6(t, b, advertise6, 1, granted(50*time.Second)), answer6(t, b, reply6, 1, granted(1000*time.Second))}
		})
		w.local = &net.UDPAddr{IP: net.ParseIP("fe80::2"), Zone: "7"}
		c := client6(w)
		lease, err := c.Acquire(t.Context())
		if err != nil || lease.Valid != 1000*time.Second {
			t.Fatalf("%+v, %v", lease, err)
		}
		lease.Obtained = lease.Obtained.Add(-lease.Renew)
		if lease, err = c.Extend(t.Context(), lease); err != nil || lease.Valid != 1000*time.Second {
			t.Fatalf("%+v, %v", lease, err)
		}
		if err := errors.Join(c.Decline(lease), c.Release(lease)); err != nil {
			t.Fatal(err)
		}
		seen := map[dhcpv6.MessageType]bool{}
		for i, b := range w.sent {
			m := parse6(t, b)
			seen[m.MessageType] = true
			ia := m.Options.OneIANA()
			if ia == nil || ia.IaId != iaid6 || m.Options.ClientID() == nil || w.to[i] != "[ff02::1:2%7]:547" {
				t.Fatalf("to %s: %v", w.to[i], m)
			}
			a := ia.Options.OneAddress()
			if soliciting := m.MessageType == solicit6; soliciting != (a == nil) || soliciting != (m.GetOneOption(dhcpv6.OptionRapidCommit) != nil) {
				t.Errorf("%v", m)
			}
			if a != nil && !a.IPv6Addr.Equal(address6) {
				t.Errorf("about %v", a)
			}
		}
		if len(seen) != 6 || w.opened != 0 {
			t.Errorf("sent %v; %d sockets are open", seen, w.opened)
		}
	})
}

// TestExtendLateV6: from T2 on all servers are asked, and nobody from the end on.
func TestExtendLateV6(t *testing.T) {
	for at, want := range map[time.Duration]string{800 * time.Second: "REBIND", 900 * time.Second: "REBIND", 1000 * time.Second: "", time.Hour: ""} {
		synctest.Test(t, func(t *testing.T) {
			w := newWire(func(b []byte, _ time.Duration) [][]byte {
				return [][]byte{answer6(t, b, reply6, 2, granted(1000*time.Second))}
			})
			c := client6(w)
			lease, err := grant(answer6(t, c.message(solicit6).ToBytes(), reply6, 1, granted(1000*time.Second)))
			if err != nil {
				t.Fatal(err)
			}
			lease.Obtained = lease.Obtained.Add(-at)
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			_, err = c.Extend(ctx, lease)
			if story := strings.Join(told(t, w), " "); story != want || (err == nil) != (want != "") || time.Since(w.begun) > 0 {
				t.Errorf("after %v: %q, %v", at, story, err)
			}
		})
	}
}

// TestGiveUpV6: who answers a release or decline with something else, or for somebody else, has not answered.
func TestGiveUpV6(t *testing.T) {
	lease := &Lease{Address: netip.MustParsePrefix("2001:db8::50/128"), serverID: []byte{0, 3, 0, 1, 2, 0, 0, 0, 0, 1}}
	synctest.Test(t, func(t *testing.T) {
		w := newWire(func(b []byte, _ time.Duration) [][]byte {
			foreign := answer6(t, b, reply6, 1)
			foreign[1] ^= 1
			return [][]byte{foreign, answer6(t, b, advertise6, 1), answer6(t, b, reply6, 2)}
		})
		c := client6(w)
		if err := c.Release(lease); err == nil || len(w.sent) != 1 {
			t.Errorf("released with %d messages: %v", len(w.sent), err)
		}
		if err := c.Decline(lease); err == nil || len(w.sent) != 1+3 {
			t.Errorf("declined with %d messages: %v", len(w.sent)-1, err)
		}
		if took := time.Since(w.begun); took > 10*time.Second {
			t.Errorf("took %v", took)
		}
		w.sent = nil
		if err := errors.Join(c.Release(&Lease{}), c.Decline(&Lease{})); err != nil || len(w.sent) > 0 {
			t.Errorf("%d messages for no address, %v", len(w.sent), err)
		}
	})
	c := &Client6{Open: func() (net.PacketConn, error) { return nil, net.ErrClosed }}
	_, acquire := c.Acquire(t.Context())
	_, inform := c.Inform(t.Context(), netip.Addr{})
	_, extend := c.Extend(t.Context(), lease)
	for name, err := range map[string]error{"acquire": acquire, "inform": inform, "extend": extend, "release": c.Release(lease)} {
		var e *Error
		if !errors.As(err, &e) || e.Reason() != SocketFailed {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestInformV6 says which of several answers counts.
func TestInformV6(t *testing.T) {
	for name, tt := range map[string]struct {
		useful string // servers with bootstrap servers
		spent  string // of which these led to nothing
		want   byte
		within time.Duration
	}{
		"none-useful": {"", "", 1, startDelay6 + offerWindow},
		"useful-last": {"3", "", 3, startDelay6},
		"spent-first": {"12", "1", 2, startDelay6 + offerWindow}, // the other may be the same
		"all-spent":   {"13", "13", 1, startDelay6 + offerWindow},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWire(func(b []byte, _ time.Duration) (answers [][]byte) {
					answers = append(answers, answer6(t, b, advertise6, 4, redirect6(t, "https://bs")), answer6(t, b, reply6, 5, status6of(iana.StatusUnspecFail)))
					for i, server := range "123" {
						if strings.ContainsRune(tt.useful, server) {
							answers = append(answers, answer6(t, b, reply6, byte(i+1), redirect6(t, "https://bs")))
						} else {
							answers = append(answers, answer6(t, b, reply6, byte(i+1)))
						}
					}
					return answers
				})
				c := client6(w)
				c.Servers = new(Servers)
				for _, server := range tt.spent {
					c.Servers.Fruitless(&Lease{serverID: []byte{0, 3, 0, 1, 2, 0, 0, 0, 0, byte(server - '0')}})
				}
				lease, err := c.Inform(t.Context(), netip.Addr{})
				if err != nil || lease.serverID[9] != tt.want || time.Since(w.begun) > tt.within {
					t.Errorf("after %v: %+v, %v", time.Since(w.begun), lease, err)
				}
			})
		})
	}
}

// TestRefusersAreBounded: whoever advertises under ever new names and grants nothing ends the attempt, and an honest server that
// was busy is asked again in the next one.
func TestRefusersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		name, requests, most := byte(0), 0, 0
		w := newWire(func(b []byte, _ time.Duration) [][]byte {
			switch m := parse6(t, b); m.MessageType {
			case solicit6:
				name++
				return [][]byte{answer6(t, b, advertise6, name, granted(time.Hour), dhcpv6.OptPreference(255))}
			case request6:
				requests++
				most = max(most, requests)
				id := m.Options.ServerID().ToBytes()
				return [][]byte{answer6(t, b, reply6, id[len(id)-1], noAddress())}
			}
			requests = 0
			return nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := client6(w).Acquire(ctx)
		if most != maxRefusers || err == nil || !strings.Contains(err.Error(), "advertised 2001:db8::50 and then did not grant it") {
			t.Errorf("%d requests in one attempt, %v", most, err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		busy, requests := true, 0
		w := newWire(func(b []byte, _ time.Duration) [][]byte {
			switch parse6(t, b).MessageType {
			case solicit6:
				return [][]byte{answer6(t, b, advertise6, 1, granted(time.Hour))}
			case request6:
				requests++
				if busy {
					return [][]byte{answer6(t, b, reply6, 1, noAddress())}
				}
				return [][]byte{answer6(t, b, reply6, 1, granted(time.Hour))}
			}
			busy = false
			return nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if lease, err := client6(w).Acquire(ctx); err != nil || !lease.Address.IsValid() || requests != 2 {
			t.Errorf("%+v, %v", lease, err)
		}
	})
}

// TestAddressesThatCount says which addresses are used, and why others are not.
func TestAddressesThatCount(t *testing.T) {
	req := client6(nil).message(solicit6).ToBytes()
	address := func(ip string, preferred, valid time.Duration, status ...iana.StatusCode) dhcpv6.Option {
		a := address6of(ip, preferred, valid).(*dhcpv6.OptIAAddress)
		for _, s := range status {
			a.Options.Add(status6of(s))
		}
		return a
	}
	const hour = time.Hour
	for name, tt := range map[string]struct {
		address dhcpv6.Option
		says    string // why it is not used; nothing when it is
	}{
		"plain":           {address("2001:db8::50", hour, hour), ""},
		"unique-local":    {address("fd00::50", hour, hour), ""},
		"success":         {address("2001:db8::50", hour, hour, iana.StatusSuccess), ""},
		"refused":         {address("2001:db8::50", hour, hour, iana.StatusNotOnLink), "status"},
		"no-binding":      {address("2001:db8::50", hour, hour, iana.StatusNoBinding), errNoBinding.Error()},
		"shortest":        {address("2001:db8::50", minLease, minLease), ""},
		"too-short":       {address("2001:db8::50", minLease-time.Second, minLease-time.Second), "too short"},
		"withdrawn":       {address("2001:db8::50", 0, 0), errWithdrawn.Error()},
		"deprecated":      {address("2001:db8::50", 0, hour), "must not be used"},
		"preferred-more":  {address("2001:db8::50", hour+time.Second, hour), errNoAddress.Error()},
		"unspecified":     {address("::", hour, hour), errNoAddress.Error()},
		"loopback":        {address("::1", hour, hour), errNoAddress.Error()},
		"multicast":       {address("ff02::1", hour, hour), errNoAddress.Error()},
		"link-local":      {address("fe80::50", hour, hour), errNoAddress.Error()},
		"mapped-from-4":   {&dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionIAAddr, OptionData: mapped4()}, errNoAddress.Error()},
		"malformed-state": {&dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionIAAddr, OptionData: append(mapped4(), 0, 13, 0, 1, 0)}, errMalformed.Error()},
	} {
		_, err := grant(answer6(t, req, reply6, 1, association6(0, 0, tt.address)))
		if (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	deprecated := answer6(t, req, reply6, 1, association6(0, 0, address("2001:db8::50", 0, hour)))
	if m, err := parseV6(deprecated); err != nil {
		t.Error(err)
	} else if _, err := m.lease(iaid6, netip.MustParseAddr("2001:db8::50"), nil, time.Time{}); err != nil {
		t.Errorf("held, and now deprecated: %v", err)
	}
	hasty, err := grant(answer6(t, req, reply6, 1, association6(time.Second, 2*time.Second, address("2001:db8::50", hour, hour))))
	if err != nil || hasty.Renew < minLease/2 || hasty.Rebind < hasty.Renew {
		t.Errorf("%+v, %v", hasty, err)
	}
	for _, code := range []dhcpv6.OptionCode{dhcpv6.OptionSolMaxRT, dhcpv6.OptionInfMaxRT} {
		for _, value := range [][]byte{{}, {0, 0, 60}, {0, 0, 0, 60, 0}} {
			if _, err := parseV6(answer6(t, req, reply6, 1, &dhcpv6.OptionGeneric{OptionCode: code, OptionData: value})); !errors.Is(err, errMalformed) {
				t.Errorf("%v of %d octets: %v", code, len(value), err)
			}
		}
	}
	day := time.Duration(0)
	if maxRT([]byte{0, 1, 0x51, 0x80}, &day); day != 24*time.Hour {
		t.Errorf("a day is %v", day)
	}
}

// mapped4 is an IA address option's value with ::ffff:192.0.2.1 for an hour.
func mapped4() []byte {
	b := append(make([]byte, 10), 0xff, 0xff, 192, 0, 2, 1)
	return append(b, 0, 0, 14, 16, 0, 0, 14, 16)
}
