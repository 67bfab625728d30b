package dhcp

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
)

const (
	solicit6   = dhcpv6.MessageTypeSolicit
	advertise6 = dhcpv6.MessageTypeAdvertise
	request6   = dhcpv6.MessageTypeRequest
	reply6     = dhcpv6.MessageTypeReply
	inform6    = dhcpv6.MessageTypeInformationRequest
)

func rapidCommit() dhcpv6.Option {
	return &dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionRapidCommit}
}

func status6of(code iana.StatusCode) dhcpv6.Option { return &dhcpv6.OptStatusCode{StatusCode: code} }

// association6 grants addresses with a status and times.
func association6(t1, t2 time.Duration, options ...dhcpv6.Option) dhcpv6.Option {
	ia := &dhcpv6.OptIANA{IaId: iaid6, T1: t1, T2: t2}
	for _, o := range options {
		ia.Options.Add(o)
	}
	return ia
}

func address6of(ip string, preferred, valid time.Duration) dhcpv6.Option {
	return &dhcpv6.OptIAAddress{IPv6Addr: net.ParseIP(ip), PreferredLifetime: preferred, ValidLifetime: valid}
}

// told is the messages of a client, with the last octet of the server that each is for.
func told(t *testing.T, w *wire) (story []string) {
	for _, b := range w.sent {
		m := parse6(t, b)
		line := m.MessageType.String()
		if id := m.Options.ServerID(); id != nil {
			raw := id.ToBytes()
			line += " to " + hex.EncodeToString(raw[len(raw)-1:])
		}
		story = append(story, line)
	}
	return story
}

func TestSolicitV6(t *testing.T) {
	lease := granted(1000 * time.Second)
	tests := []struct {
		name   string
		answer func(t *testing.T, kind dhcpv6.MessageType, b []byte) [][]byte
		story  []string
		server byte // that granted the lease
		within time.Duration
	}{
		{"rapid-commit-with-the-option", func(t *testing.T, kind dhcpv6.MessageType, b []byte) [][]byte {
			return [][]byte{answer6(t, b, reply6, 1, rapidCommit(), lease, redirect6(t, "https://bs.example.net"))}
		}, []string{"SOLICIT"}, 1, startDelay6},
		{"rapid-commit-without-the-option-waits-for-a-better-one", func(t *testing.T, kind dhcpv6.MessageType, b []byte) [][]byte {
			return [][]byte{answer6(t, b, reply6, 1, rapidCommit(), lease)}
		}, []string{"SOLICIT"}, 1, startDelay6 + offerWindow},
		{"what-was-committed-and-is-not-used-is-released", func(t *testing.T, kind dhcpv6.MessageType, b []byte) [][]byte {
			if kind == solicit6 {
				return [][]byte{answer6(t, b, reply6, 1, rapidCommit(), lease), answer6(t, b, advertise6, 2, lease, redirect6(t, "https://bs.example.net"))}
			}
			return [][]byte{answer6(t, b, reply6, 2, lease, redirect6(t, "https://bs.example.net"))}
		}, []string{"SOLICIT", "RELEASE to 01", "REQUEST to 02"}, 2, startDelay6},
		{"of-two-committed-one-is-released", func(t *testing.T, kind dhcpv6.MessageType, b []byte) [][]byte {
			return [][]byte{answer6(t, b, reply6, 1, rapidCommit(), lease), answer6(t, b, reply6, 2, rapidCommit(), lease)}
		}, []string{"SOLICIT", "RELEASE to 02"}, 1, startDelay6 + offerWindow},
		{"reply-without-rapid-commit-is-none", func(t *testing.T, kind dhcpv6.MessageType, b []byte) [][]byte {
			if kind == solicit6 {
				return [][]byte{answer6(t, b, reply6, 1, lease), answer6(t, b, advertise6, 2, lease, dhcpv6.OptPreference(255))}
			}
			return [][]byte{answer6(t, b, reply6, 1, lease), answer6(t, b, reply6, 2, lease)}
		}, []string{"SOLICIT", "REQUEST to 02"}, 2, startDelay6},
		{"an-advertisement-that-is-not-kept", func(t *testing.T, kind dhcpv6.MessageType, b []byte) [][]byte {
			if kind == solicit6 {
				return [][]byte{answer6(t, b, advertise6, 1, lease, redirect6(t, "https://liar.example.net")), answer6(t, b, advertise6, 2, lease)}
			}
			return [][]byte{answer6(t, b, reply6, 1, noAddress()), answer6(t, b, reply6, 2, lease)}
		}, []string{"SOLICIT", "REQUEST to 01", "SOLICIT", "REQUEST to 02"}, 2, startDelay6 + offerWindow},
		{"an-advertisement-of-a-silent-server", func(t *testing.T, kind dhcpv6.MessageType, b []byte) [][]byte {
			if kind == solicit6 {
				return [][]byte{answer6(t, b, advertise6, 1, lease, dhcpv6.OptPreference(255)), answer6(t, b, advertise6, 2, lease)}
			}
			return [][]byte{answer6(t, b, reply6, 2, lease)}
		}, []string{"SOLICIT", "REQUEST to 01", "REQUEST to 01", "REQUEST to 01", "SOLICIT", "REQUEST to 02"}, 2, 10 * time.Second},
		{"use-multicast-is-no-answer-to-multicast", func(t *testing.T, kind dhcpv6.MessageType, b []byte) [][]byte {
			if kind == solicit6 {
				return [][]byte{answer6(t, b, advertise6, 1, lease, dhcpv6.OptPreference(255))}
			}
			return [][]byte{answer6(t, b, reply6, 1, status6of(iana.StatusUseMulticast)), answer6(t, b, reply6, 1, lease)}
		}, []string{"SOLICIT", "REQUEST to 01"}, 1, startDelay6},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWire(func(b []byte, _ time.Duration) [][]byte {
					if kind := parse6(t, b).MessageType; kind != dhcpv6.MessageTypeRelease {
						return tt.answer(t, kind, b)
					}
					return nil
				})
				got, err := client6(w).Acquire(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(tt.story, told(t, w)); diff != "" {
					t.Error(diff)
				}
				if id := got.serverID; id[len(id)-1] != tt.server || !got.Address.IsValid() || time.Since(w.begun) > tt.within {
					t.Errorf("after %v: %+v", time.Since(w.begun), got)
				}
			})
		})
	}
}

// TestOptionsAskedForV6 holds the option requests against RFC 8415 §21.7, §18.2.7 and §18.2.8.
func TestOptionsAskedForV6(t *testing.T) {
	want := map[dhcpv6.MessageType][]dhcpv6.OptionCode{
		solicit6: {dhcpv6.OptionV6SZTPRedirect, dhcpv6.OptionSolMaxRT},
		request6: {dhcpv6.OptionV6SZTPRedirect, dhcpv6.OptionSolMaxRT},
		inform6:  {dhcpv6.OptionV6SZTPRedirect, dhcpv6.OptionInfMaxRT, dhcpv6.OptionInformationRefreshTime},
	}
	for kind, codes := range want {
		m := client6(nil).message(kind)
		for _, code := range codes {
			if !m.IsOptionRequested(code) {
				t.Errorf("%v does not ask for %v", kind, code)
			}
		}
	}
	for _, kind := range []dhcpv6.MessageType{dhcpv6.MessageTypeRelease, dhcpv6.MessageTypeDecline} {
		m := client6(nil).giveUpMessage(kind, &Lease{Address: netip.MustParsePrefix("2001:db8::50/128"), serverID: []byte{0, 1, 2}})
		if m.GetOneOption(dhcpv6.OptionORO) != nil || m.GetOneOption(dhcpv6.OptionServerID) == nil || m.Options.OneIANA().Options.OneAddress() == nil {
			t.Errorf("%v", m)
		}
	}
}

// TestMaximumTimesV6: a server without addresses says how rarely it wants to be asked (RFC 8415 §18.2.9), then falls silent.
func TestMaximumTimesV6(t *testing.T) {
	for name, tt := range map[string]struct {
		seconds []byte
		want    time.Duration
	}{
		"one-minute":         {[]byte{0, 0, 0, 60}, time.Minute},
		"two-hours":          {[]byte{0, 0, 0x1c, 0x20}, 2 * time.Hour},
		"too-short-to-count": {[]byte{0, 0, 0, 59}, time.Hour},
		"too-long-to-count":  {[]byte{0, 1, 0x51, 0x81}, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWire(nil)
				w.serve = func(b []byte, _ time.Duration) [][]byte {
					if len(w.sent) > 1 {
						return nil
					}
					return [][]byte{answer6(t, b, advertise6, 1, noAddress(), &dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionSolMaxRT, OptionData: tt.seconds},
						&dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionInfMaxRT, OptionData: tt.seconds})}
				}
				ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
				defer cancel()
				if _, err := client6(w).Acquire(ctx); err == nil {
					t.Fatal("a lease of nothing")
				}
				var longest time.Duration
				for i := range w.times[1:] {
					longest = max(longest, w.times[i+1]-w.times[i])
				}
				if ratio := longest.Seconds() / tt.want.Seconds(); ratio < 0.85 || ratio > 1.15 {
					t.Errorf("the longest wait is %v, want about %v", longest, tt.want)
				}
			})
		})
	}
}

func TestExtendV6(t *testing.T) {
	hour := granted(time.Hour)
	tests := []struct {
		name   string
		answer func(t *testing.T, m *dhcpv6.Message, b []byte) [][]byte
		story  []string // the first messages
		lost   error
	}{
		{"forgotten-so-requested-anew", func(t *testing.T, m *dhcpv6.Message, b []byte) [][]byte {
			if m.MessageType == request6 {
				return [][]byte{answer6(t, b, reply6, 1, hour)}
			}
			return [][]byte{answer6(t, b, reply6, 1, association6(0, 0, status6of(iana.StatusNoBinding)))}
		}, []string{"RENEW to 01", "REQUEST to 01"}, nil},
		{"forgotten-by-one-known-to-another", func(t *testing.T, m *dhcpv6.Message, b []byte) [][]byte {
			if m.MessageType == dhcpv6.MessageTypeRenew {
				return nil
			}
			return [][]byte{answer6(t, b, reply6, 3, association6(0, 0, status6of(iana.StatusNoBinding))), answer6(t, b, reply6, 2, hour)}
		}, []string{"RENEW to 01", "RENEW to 01", "RENEW to 01", "RENEW to 01", "RENEW to 01", "REBIND"}, nil},
		{"unspecified-failure-passes", func(t *testing.T, m *dhcpv6.Message, b []byte) [][]byte {
			if m.Options.ElapsedTime() == 0 {
				return [][]byte{answer6(t, b, reply6, 1, status6of(iana.StatusUnspecFail))}
			}
			return [][]byte{answer6(t, b, reply6, 1, hour)}
		}, []string{"RENEW to 01", "RENEW to 01"}, nil},
		{"an-answer-without-the-address-passes", func(t *testing.T, m *dhcpv6.Message, b []byte) [][]byte {
			if m.Options.ElapsedTime() == 0 {
				return [][]byte{answer6(t, b, reply6, 1)}
			}
			return [][]byte{answer6(t, b, reply6, 1, association6(0, 0, address6of("2001:db8::77", time.Hour, time.Hour), address6of("2001:db8::50", time.Hour, time.Hour)))}
		}, []string{"RENEW to 01", "RENEW to 01"}, nil},
		{"answer-of-another-server", func(t *testing.T, m *dhcpv6.Message, b []byte) [][]byte {
			return [][]byte{answer6(t, b, reply6, 2, association6(0, 0, address6of("2001:db8::50", 0, 0))), answer6(t, b, reply6, 1, hour)}
		}, []string{"RENEW to 01"}, nil},
		{"taken-back", func(t *testing.T, m *dhcpv6.Message, b []byte) [][]byte {
			return [][]byte{answer6(t, b, reply6, 1, association6(0, 0, address6of("2001:db8::50", 0, 0), address6of("2001:db8::77", time.Hour, time.Hour)))}
		}, []string{"RENEW to 01"}, errWithdrawn},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWire(func(b []byte, _ time.Duration) [][]byte { return tt.answer(t, parse6(t, b), b) })
				c := client6(w)
				lease, err := grant(answer6(t, c.message(solicit6).ToBytes(), reply6, 1, granted(1000*time.Second)))
				if err != nil {
					t.Fatal(err)
				}
				lease.Obtained = lease.Obtained.Add(-lease.Renew)
				next, err := c.Extend(t.Context(), lease)
				story := told(t, w)
				if diff := cmp.Diff(tt.story, story[:min(len(story), len(tt.story))]); diff != "" {
					t.Error(diff)
				}
				if tt.lost != nil {
					if !errors.Is(err, tt.lost) {
						t.Errorf("error %v", err)
					}
					return
				}
				if err != nil || next.Address != lease.Address || next.Valid != time.Hour {
					t.Errorf("%+v, %v", next, err)
				}
			})
		})
	}
}

func TestLifetimesV6(t *testing.T) {
	const never = infinite * time.Second
	req := client6(nil).message(solicit6).ToBytes()
	tests := []struct {
		name             string
		t1, t2           time.Duration
		preferred, valid time.Duration
		renew, rebind    time.Duration
		refused          bool
	}{
		{"as-given", 300 * time.Second, 700 * time.Second, 900 * time.Second, 1000 * time.Second, 300 * time.Second, 700 * time.Second, false},
		{"client's-choice", 0, 0, 800 * time.Second, 1000 * time.Second, 400 * time.Second, 640 * time.Second, false},
		{"client's-choice-of-T2", 700 * time.Second, 0, 800 * time.Second, 1000 * time.Second, 700 * time.Second, 700 * time.Second, false},
		{"T1-after-T2", 700 * time.Second, 600 * time.Second, 900 * time.Second, 1000 * time.Second, 0, 0, true},
		{"T2-after-the-end", 300 * time.Second, 7000 * time.Second, 900 * time.Second, 1000 * time.Second, 300 * time.Second, 875 * time.Second, false},
		{"never-to-be-renewed", never, never, 900 * time.Second, 1000 * time.Second, 1000 * time.Second, 1000 * time.Second, false},
		{"for-ever", 0, 0, never, never, 0, 0, false},
		{"preferred-longer-than-valid", 0, 0, 1001 * time.Second, 1000 * time.Second, 0, 0, true},
		{"deprecated", 0, 0, 0, 1000 * time.Second, 0, 0, true},
		{"nothing", 0, 0, 0, 0, 0, 0, true},
		{"too-short", 0, 0, 9 * time.Second, 9 * time.Second, 0, 0, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l, err := grant(answer6(t, req, reply6, 1, association6(tt.t1, tt.t2, address6of("2001:db8::50", tt.preferred, tt.valid))))
			if tt.refused {
				if err == nil {
					t.Errorf("%+v", l)
				}
				return
			}
			if err != nil || l.Renew != tt.renew || l.Rebind != tt.rebind || l.Ends().IsZero() != (tt.valid == never) {
				t.Errorf("%+v, %v", l, err)
			}
		})
	}
	t.Run("the-second-address-is-usable", func(t *testing.T) {
		l, err := grant(answer6(t, req, reply6, 1, association6(0, 0, address6of("fe80::1", time.Hour, time.Hour),
			address6of("2001:db8::1", 0, 0), address6of("2001:db8::50", time.Hour, time.Hour))))
		if err != nil || l.Address.Addr().String() != "2001:db8::50" {
			t.Errorf("%+v, %v", l, err)
		}
	})
}

// TestStableDUID holds the DUID of a device against that of earlier images: servers know the device by it.
func TestStableDUID(t *testing.T) {
	const want = "00041ef08a3d2ae98666a0b924cdcbeeaa62"
	for _, hardware := range []net.HardwareAddr{mac, {2, 0, 0, 0, 0, 9}, nil} {
		if got := hex.EncodeToString(DUID("SN-0001", hardware)); got != want {
			t.Errorf("%v: %s", hardware, got)
		}
	}
	if got := IAID("eth0"); got != [4]byte{0x9c, 0x32, 0xa8, 0xc7} || got == IAID("eth1") {
		t.Errorf("%x", got)
	}
}

// TestFruitlessServersV6 has two servers behind one relay, of which the quicker one names bootstrap servers that led to nothing.
func TestFruitlessServersV6(t *testing.T) {
	for _, kind := range []dhcpv6.MessageType{advertise6, reply6} { // without and with rapid commit
		synctest.Test(t, func(t *testing.T) {
			w := newWire(func(b []byte, _ time.Duration) [][]byte {
				m := parse6(t, b)
				answer := func(kind dhcpv6.MessageType, server byte) []byte {
					return answer6(t, b, kind, server, granted(time.Hour), redirect6(t, "https://bs.example.net"), rapidCommit())
				}
				switch {
				case m.MessageType == solicit6:
					return [][]byte{answer(kind, 1), answer(kind, 2)}
				case m.MessageType == request6:
					id := m.Options.ServerID().ToBytes()
					return [][]byte{answer(reply6, id[len(id)-1])}
				}
				return nil
			})
			c := client6(w)
			var out strings.Builder
			c.Logger = slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
			c.Servers = new(Servers)
			var chosen []byte
			for range 3 {
				lease, err := c.Acquire(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				c.Servers.Fruitless(lease)
				chosen = append(chosen, lease.serverID[len(lease.serverID)-1])
			}
			if !bytes.Equal(chosen, []byte{1, 2, 1}) {
				t.Errorf("asked %v", chosen)
			}
			for _, said := range []string{"sent DHCPv6 SOLICIT", "received DHCPv6 " + kind.String(), "option-136=true", "rapid-commit=true"} {
				if !strings.Contains(out.String(), said) {
					t.Errorf("the log does not say %q:\n%s", said, &out)
				}
			}
		})
	}
}
