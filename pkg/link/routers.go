package link

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of what routers can make the agent remember on one interface. They say everything again within half an hour (RFC 4861
// §6.2.1), so that what one said that is gone ends, whatever lifetime it had.
const (
	maxAdvertised = 8 // of each kind
	maxLifetime   = 2 * time.Hour
)

const routerAdvertisement = 134

// advertised is what routers said since the agent listens, by interface. The kernel keeps the flags of the latest advertisement
// only, which may be a liar's, and of those that came before it has itself solicited routers not even that there were any.
type advertised struct {
	mu         sync.Mutex
	interfaces map[int]*routers
}

// routers is what the routers on one interface said. Those that say that there is DHCPv6 are kept apart, so that nobody else
// can unsay it.
type routers struct {
	flags   []expiring[routerFlags]
	servers []expiring[netip.Addr]
	domains []expiring[string]
}

// routerFlags is a router that says that there is DHCPv6.
type routerFlags struct {
	router         netip.Addr
	managed, other bool
}

// expiring is a value and when it ends.
type expiring[T comparable] struct {
	value T
	until time.Time
}

// listenRouters hears router advertisements as they come, also where the kernel does not follow them. It notifies events, and
// ends when the returned socket is closed.
func (w *watcher) listenRouters() (net.PacketConn, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		filter := unix.ICMPv6Filter{}
		for i := range filter.Data {
			filter.Data[i] = ^uint32(0)
		}
		filter.Data[routerAdvertisement/32] &^= 1 << (routerAdvertisement % 32)
		controlErr := c.Control(func(fd uintptr) {
			if err = unix.SetsockoptICMPv6Filter(int(fd), unix.IPPROTO_ICMPV6, unix.ICMPV6_FILTER, &filter); err == nil {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 1)
			}
			if err == nil {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
			}
		})
		if controlErr != nil {
			return controlErr
		}
		return err
	}}
	conn, err := lc.ListenPacket(context.Background(), "ip6:ipv6-icmp", "::")
	if err != nil {
		return nil, err
	}
	events := make(chan struct{}, 1)
	w.done.Go(func() {
		defer close(events)
		w.hear(conn.(*net.IPConn), events)
	})
	w.done.Go(func() { w.refreshOn(events) })
	return conn, nil
}

func (w *watcher) hear(conn *net.IPConn, events chan<- struct{}) {
	message, control := make([]byte, 1<<16), make([]byte, 128)
	for failures := 0; failures < 8; {
		n, oobn, _, from, err := conn.ReadMsgIP(message, control)
		if err != nil {
			failures++
			if w.isClosed() {
				return
			}
			continue
		}
		failures = 0
		index, hops := packetInfo(control[:oobn])
		router, ok := netip.AddrFromSlice(from.IP)
		if ok && router.IsLinkLocalUnicast() && hops == 255 && w.advertised.message(index, router, message[:n], time.Now()) {
			notify(events)
		}
	}
}

// packetInfo returns by which interface a packet came, and its hop limit.
func packetInfo(control []byte) (index, hops int) {
	messages, _ := unix.ParseSocketControlMessage(control)
	for _, m := range messages {
		switch {
		case m.Header.Level != unix.IPPROTO_IPV6:
		case m.Header.Type == unix.IPV6_HOPLIMIT && len(m.Data) >= 4:
			hops = int(binary.NativeEndian.Uint32(m.Data))
		case m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= 20:
			index = int(binary.NativeEndian.Uint32(m.Data[16:]))
		}
	}
	return index, hops
}

// message remembers what a router advertisement says (RFC 4861 §4.2), and reports whether it is one (§6.1.2).
func (a *advertised) message(index int, router netip.Addr, m []byte, now time.Time) bool {
	if len(m) < 16 || m[0] != routerAdvertisement || m[1] != 0 || !wholeOptions(m[16:]) {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.interfaces == nil {
		a.interfaces = map[int]*routers{}
	}
	r := a.interfaces[index]
	if r == nil {
		r = &routers{}
		a.interfaces[index] = r
	}
	r.flagged(routerFlags{router.WithZone(""), m[5]&0x80 != 0, m[5]&0x40 != 0}, now)
	for options := m[16:]; len(options) > 0; options = options[int(options[1])*8:] {
		r.option(options[0], options[4:int(options[1])*8], now)
	}
	return true
}

func wholeOptions(options []byte) bool {
	for len(options) > 0 {
		if len(options) < 8 || options[1] == 0 || int(options[1])*8 > len(options) {
			return false
		}
		options = options[int(options[1])*8:]
	}
	return true
}

// flagged replaces what the router said about DHCPv6 before.
func (r *routers) flagged(f routerFlags, now time.Time) {
	r.flags = slices.DeleteFunc(r.flags, func(e expiring[routerFlags]) bool { return e.value.router == f.router })
	if f.managed || f.other {
		r.flags = remember(r.flags, []routerFlags{f}, now.Add(maxLifetime), now)
	}
}

// remember adds or prolongs values; a lifetime of zero takes them away. What is new comes first, and displaces what is oldest:
// otherwise one advertisement of many servers that do not answer would keep out all that come after it.
func remember[T comparable](list []expiring[T], values []T, until, now time.Time) []expiring[T] {
	list = slices.DeleteFunc(list, func(e expiring[T]) bool { return !e.until.After(now) })
	for _, v := range slices.Backward(values) {
		switch i := slices.IndexFunc(list, func(e expiring[T]) bool { return e.value == v }); {
		case i >= 0 && until.After(now):
			list[i].until = until
		case i >= 0:
			list = slices.Delete(list, i, i+1)
		case until.After(now):
			list = slices.Insert(list, 0, expiring[T]{v, until})
		}
		list = list[:min(len(list), maxAdvertised)]
	}
	return list
}

// of returns what holds now for an interface; before the agent has heard anything itself, that is what the kernel remembers.
func (a *advertised) of(index int, kernel Router, now time.Time) Router {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := a.interfaces[index]
	if r == nil {
		return kernel
	}
	said := Router{Heard: true, Recent: true, DNS: current(r.servers, now), Domains: current(r.domains, now)}
	for _, f := range current(r.flags, now) {
		said.Managed, said.Other = said.Managed || f.managed, said.Other || f.other
	}
	return said
}

func current[T comparable](list []expiring[T], now time.Time) (values []T) {
	for _, e := range list {
		if e.until.After(now) {
			values = append(values, e.value)
		}
	}
	return values
}

// forget drops what was heard on interfaces that are gone or have another network now, as far as one can know.
func (a *advertised) forget(connected func(index int) bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for index := range a.interfaces {
		if !connected(index) {
			delete(a.interfaces, index)
		}
	}
}
