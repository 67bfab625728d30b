package link

import (
	"errors"
	"maps"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/xpu-sztp/ztp/pkg/link/rtnetlink"
)

// Raise brings up the interfaces that are down, may be used and are nobody's, because only then they show whether they have
// a carrier. Each is tried once. Close takes them down again.
func (s *System) Raise() {
	links, _ := s.Links()
	s.forget(links)
	for _, l := range links {
		s.hope(l)
		if l.Up || l.Skip != "" || l.Managed != "" || !s.first(l.Index) {
			continue
		}
		c := change{Kind: "up", Index: l.Index, Interface: l.Name, MAC: l.MAC.String()}
		err := s.changes.do(c, func() error { return rtnetlink.SetUp(l.Index) })
		switch {
		case errors.Is(err, unix.ENETDOWN): // what it is on top of is down, and may come up later
			s.again(l.Index)
		case err != nil:
			s.log.Warn("cannot bring up the interface", "interface", l.Name, "error", err)
		}
	}
}

func (s *System) again(index int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.raised, index)
}

// first reports whether an interface has yet to be brought up.
func (s *System) first(index int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.raised[index]
	s.raised[index] = true
	return !before
}

// forget forgets interfaces that are gone: they come back as new ones, and so may their indexes.
func (s *System) forget(links []Link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, of := range []map[int]bool{s.raised, s.hopeful} {
		maps.DeleteFunc(of, func(index int, _ bool) bool {
			return !slices.ContainsFunc(links, func(l Link) bool { return l.Index == index })
		})
	}
}
