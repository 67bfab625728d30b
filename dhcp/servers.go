package dhcp

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Servers remembers which DHCP servers of one network gave leases that led to nothing, so that the one that answers first
// does not keep a device from the others for ever. The zero value is ready to use, also by several goroutines.
type Servers struct {
	mu    sync.Mutex
	times map[string]int // by server
	all   int
}

// maxRemembered bounds how many servers are remembered; whoever makes up more makes all be forgotten.
const maxRemembered = 64

// Fruitless notes that a lease led to nothing.
func (s *Servers) Fruitless(lease *Lease) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.times == nil || len(s.times) >= maxRemembered {
		s.times = map[string]int{}
	}
	s.times[lease.server()]++
	s.all++
}

// fruitless returns how often that was so of leases of the same server, and of all.
func (s *Servers) fruitless(lease *Lease) (its, all int) {
	if s == nil {
		return 0, 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.times[lease.server()], s.all
}

// server tells servers apart: DHCPv6 answers may all come from one relay.
func (l *Lease) server() string {
	if len(l.serverID) > 0 {
		return string(l.serverID)
	}
	return l.Server.String()
}

// choice picks one of the answers to a question. Once leases have led to nothing here, those who had most turns come last,
// with the option or without; and since whoever answers may call itself something else each time, every other choice is by lot.
type choice struct {
	servers *Servers
	rand    *rand.Rand
	all     int // how many leases led to nothing here
	lots    bool
	seen    int
	best    []int // flaws of the best answer up to now; nil when there is none
}

func (s *Servers) choice(r *rand.Rand) *choice {
	c := &choice{servers: s, rand: random(r)}
	_, c.all = s.fruitless(new(Lease))
	c.lots = c.all > 3 && c.rand.IntN(2) == 0
	return c
}

// flaws says what speaks against an answer, the weightiest first; refused is how often its server did not keep to what it offered.
func (c *choice) flaws(l *Lease, refused int) []int {
	unhelpful := 0
	if len(l.Servers) == 0 {
		unhelpful = 1
	}
	its, _ := c.servers.fruitless(l)
	return []int{refused, its + unhelpful, unhelpful}
}

// prefers reports whether an answer with these flaws is better than those before it, and keeps that. Flaws may be followed by
// others that count less.
func (c *choice) prefers(flaws []int) bool {
	c.seen++
	order := slices.Compare(flaws, c.best)
	if c.lots && c.best != nil && flaws[0] == c.best[0] {
		order = c.rand.IntN(c.seen)*2 - 1 // negative for one of those seen
	}
	if c.best != nil && order >= 0 {
		return false
	}
	c.best = flaws
	return true
}

// final reports whether nothing better need be waited for: where nothing was in vain yet, an answer is helpful, or preferred above
// all by whoever runs the DHCPv6 servers.
func (c *choice) final(flaws []int) bool {
	return c.all == 0 && flaws[0] == 0 && (flaws[2] == 0 || len(flaws) > 3 && flaws[3] == 0)
}

// window is how long after a first answer with flaws a better one may come: a moment at first, so that a network without
// bootstrap servers in DHCP costs no time, and up to some seconds once its servers have disappointed, because servers that
// look whether an address is free before they offer it take that long.
func (c *choice) window(flaws []int) time.Duration {
	const least, doublings = 120 * time.Millisecond, 5
	return least << min(flaws[0]+c.all, doublings)
}
