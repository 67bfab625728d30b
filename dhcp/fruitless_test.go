package dhcp

import (
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// TestLiarDoesNotLastForEver has a neighbour that is always quicker than the real server, and leads nowhere. The real one gets
// its turn all the same, whatever the neighbour calls itself, and whether or not the real one has the option.
func TestLiarDoesNotLastForEver(t *testing.T) {
	redirect := option{OptionV4Redirect, encode(t, "https://bs.example.net")}
	for name, tt := range map[string]struct {
		real []option
		liar func(round int) string
	}{
		"the-real-one-without-the-option": {nil, func(int) string { return "192.0.2.66" }},
		"another-liar-each-time":          {[]option{redirect}, func(round int) string { return netip.AddrFrom4([4]byte{198, 51, 100, byte(round)}).String() }},
		"another-liar-and-no-option":      {nil, func(round int) string { return netip.AddrFrom4([4]byte{198, 51, 100, byte(round)}).String() }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				round := 0
				var w *wire
				w = newWire(func(b []byte, _ time.Duration) [][]byte {
					m, _ := dhcpv4.FromBytes(b)
					if m.MessageType() == dhcpv4.MessageTypeRequest {
						return [][]byte{answer4(t, b, dhcpv4.MessageTypeAck, m.ServerIdentifier().String(), redirect)}
					}
					go func() {
						time.Sleep(50 * time.Millisecond)
						w.answer <- answer4(t, b, dhcpv4.MessageTypeOffer, "192.0.2.1", tt.real...)
					}()
					return [][]byte{answer4(t, b, dhcpv4.MessageTypeOffer, tt.liar(round), redirect)}
				})
				c := client4(w)
				c.Servers = new(Servers)
				var chosen []string
				for round = 1; round < 40; round++ {
					lease, err := c.Acquire(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					for len(w.answer) > 0 {
						<-w.answer // what came too late
					}
					chosen = append(chosen, lease.Server.String())
					c.Servers.Fruitless(lease)
					time.Sleep(time.Minute)
				}
				if at := slices.Index(chosen, "192.0.2.1"); at < 0 {
					t.Errorf("%q", chosen)
				}
			})
		})
	}
}

// TestLiarDoesNotLastForEverV6 is the same for DHCPv6.
func TestLiarDoesNotLastForEverV6(t *testing.T) {
	lease := granted(1000 * time.Second)
	synctest.Test(t, func(t *testing.T) {
		var w *wire
		w = newWire(func(b []byte, _ time.Duration) [][]byte {
			switch m := parse6(t, b); m.MessageType {
			case solicit6:
				go func() {
					time.Sleep(50 * time.Millisecond)
					w.answer <- answer6(t, b, advertise6, 1, lease, redirect6(t, "https://bs.example.net"))
				}()
				return [][]byte{answer6(t, b, reply6, 66, rapidCommit(), lease, redirect6(t, "https://liar.example.net"))}
			case request6:
				return [][]byte{answer6(t, b, reply6, 1, lease, redirect6(t, "https://bs.example.net"))}
			}
			return nil
		})
		servers := new(Servers)
		var chosen []string
		for range 10 {
			c := client6(w)
			c.Servers, c.Rand = servers, nil
			lease, err := c.Acquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			servers.Fruitless(lease)
			chosen = append(chosen, lease.Servers[0].Host)
			time.Sleep(time.Minute)
			for len(w.answer) > 0 {
				<-w.answer
			}
		}
		if !slices.Contains(chosen, "bs.example.net") {
			t.Errorf("%q", chosen)
		}
	})
}
