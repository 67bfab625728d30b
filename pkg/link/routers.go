package link

import (
	"net/netip"
	"os"
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
	flags, servers, domains []said
}

// said is one thing that a router said. It is one type for all kinds, because functions of lists are compiled for each anew.
type said struct {
	fact
	until time.Time
}

type fact struct {
	address        netip.Addr // of a router that says that there is DHCPv6, or of a name server
	managed, other bool
	domain         string
}

// toAdvertisements lets through router advertisements whose hop limit shows that they are from this link (RFC 4861 §6.1.2), so
// that other traffic does not wake the agent. It sees packets from their ICMPv6 header on.
var toAdvertisements = []unix.SockFilter{
	{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 0},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: routerAdvertisement, Jf: 3},
	{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: netOffset + 7},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: 255, Jf: 1},
	{Code: unix.BPF_RET | unix.BPF_K, K: 1 << 16},
	{Code: unix.BPF_RET | unix.BPF_K, K: 0},
}

// netOffset is SKF_NET_OFF: offsets from there count from the IPv6 header.
const netOffset = 0xfff00000

// listenRouters hears router advertisements as they come, also where the kernel does not follow them, until the returned socket is
// closed.
func (w *watcher) listenRouters() (*os.File, error) {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_ICMPV6)
	if err != nil {
		return nil, err
	}
	socket := os.NewFile(uintptr(fd), "router advertisements")
	program := unix.SockFprog{Len: uint16(len(toAdvertisements)), Filter: &toAdvertisements[0]}
	err = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program)
	var raw syscall.RawConn
	if err == nil {
		raw, err = socket.SyscallConn()
	}
	if err != nil {
		socket.Close()
		return nil, err
	}
	events := make(chan struct{}, 1)
	w.done.Go(func() {
		defer close(events)
		w.hear(raw, events)
	})
	w.done.Go(func() { w.refreshOn(events) })
	return socket, nil
}

func (w *watcher) hear(socket syscall.RawConn, events chan<- struct{}) {
	message := make([]byte, 1<<16)
	for failures := 0; failures < 8; {
		var n int
		var sender unix.Sockaddr
		var failure error
		err := socket.Read(func(fd uintptr) bool {
			n, sender, failure = unix.Recvfrom(int(fd), message, 0)
			return failure != unix.EAGAIN
		})
		if err != nil {
			return // closed
		}
		if failure != nil {
			failures++
			continue
		}
		failures = 0
		from, ok := sender.(*unix.SockaddrInet6)
		if !ok {
			continue
		}
		router := netip.AddrFrom16(from.Addr)
		if router.IsLinkLocalUnicast() && w.advertised.message(int(from.ZoneId), router, message[:n], time.Now()) {
			notify(events)
		}
	}
}

// message remembers what a router advertisement says (RFC 4861 §4.2), and reports whether it is one.
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
	r.flagged(fact{address: router, managed: m[5]&0x80 != 0, other: m[5]&0x40 != 0}, now)
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
func (r *routers) flagged(f fact, now time.Time) {
	r.flags = slices.DeleteFunc(r.flags, func(s said) bool { return s.address == f.address })
	if f.managed || f.other {
		r.flags = remember(r.flags, []fact{f}, now.Add(maxLifetime), now)
	}
}

// remember adds or prolongs facts; a lifetime of zero takes them away. What is new comes first, and displaces what is oldest:
// otherwise one advertisement of many servers that do not answer would keep out all that come after it.
func remember(list []said, facts []fact, until, now time.Time) []said {
	list = slices.DeleteFunc(list, func(s said) bool { return !s.until.After(now) })
	for i := len(facts) - 1; i >= 0; i-- {
		at := slices.IndexFunc(list, func(s said) bool { return s.fact == facts[i] })
		switch {
		case at >= 0 && until.After(now):
			list[at].until = until
		case at >= 0:
			list = append(list[:at], list[at+1:]...)
		case until.After(now):
			list = append([]said{{facts[i], until}}, list[:min(len(list), maxAdvertised-1)]...)
		}
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
	router := Router{Heard: true, Recent: true}
	for _, s := range r.flags {
		if s.until.After(now) {
			router.Managed, router.Other = router.Managed || s.managed, router.Other || s.other
		}
	}
	for _, s := range r.servers {
		if s.until.After(now) {
			router.DNS = append(router.DNS, s.address)
		}
	}
	for _, s := range r.domains {
		if s.until.After(now) {
			router.Domains = append(router.Domains, s.domain)
		}
	}
	return router
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
