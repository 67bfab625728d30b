package dhcp

import "sync"

// Servers remembers which DHCP servers of one network gave leases that led to nothing, so that the one that answers first
// does not keep a device from the others for ever. The zero value is ready to use, also by several goroutines.
type Servers struct {
	mu    sync.Mutex
	times map[string]int // by server
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
}

// fruitless returns how often that was so of leases of the same server.
func (s *Servers) fruitless(lease *Lease) int {
	if s == nil {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.times[lease.server()]
}

// server tells servers apart: DHCPv6 answers may all come from one relay.
func (l *Lease) server() string {
	if len(l.serverID) > 0 {
		return string(l.serverID)
	}
	return l.Server.String()
}
