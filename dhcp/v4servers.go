package dhcp

import (
	"net/netip"
	"sync"
)

// Servers remembers which DHCPv4 servers of one network gave leases that led to nothing, so that the one that answers first
// does not keep a device from the others for ever. The zero value is ready to use, also by several goroutines.
type Servers struct {
	mu    sync.Mutex
	times map[netip.Addr]int
}

// maxRemembered bounds how many servers are remembered; whoever makes up more makes all be forgotten.
const maxRemembered = 64

// Fruitless notes that a lease of the server led to nothing.
func (s *Servers) Fruitless(server netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.times == nil || len(s.times) >= maxRemembered {
		s.times = map[netip.Addr]int{}
	}
	s.times[server]++
}

// fruitless returns how often that was so.
func (s *Servers) fruitless(server netip.Addr) int {
	if s == nil {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.times[server]
}
