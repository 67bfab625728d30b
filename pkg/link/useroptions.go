package link

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Options of router advertisements about names (RFC 8106 §5). The kernel hands them on and keeps nothing.
const (
	optionRDNSS = 25
	optionDNSSL = 31
)

// Bounds of what routers can make the agent remember on one interface. They say everything again within half an hour (RFC 4861
// §6.2.1), so that what one said that is gone ends, whatever lifetime it had.
const (
	maxAdvertised = 8 // of each kind
	maxLifetime   = 2 * time.Hour
)

// advertised is what routers said about names, by interface.
type advertised struct {
	mu    sync.Mutex
	names map[int]*nameOptions
}

type nameOptions struct {
	servers []expiring[netip.Addr]
	domains []expiring[string]
}

// expiring is a value and when it ends.
type expiring[T comparable] struct {
	value T
	until time.Time
}

// message remembers what an RTM_NEWNDUSEROPT message says: a header of 16 octets, then options as they were on the wire.
func (a *advertised) message(data []byte, now time.Time) {
	if len(data) < 16 || data[0] != unix.AF_INET6 {
		return
	}
	index := int(int32(nl.NativeEndian().Uint32(data[4:])))
	options := data[16:]
	if size := int(nl.NativeEndian().Uint16(data[2:])); size < len(options) {
		options = options[:size]
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.names == nil {
		a.names = map[int]*nameOptions{}
	}
	n := a.names[index]
	if n == nil {
		n = &nameOptions{}
		a.names[index] = n
	}
	for len(options) >= 8 {
		size := int(options[1]) * 8
		if size == 0 || size > len(options) {
			return
		}
		n.option(options[0], options[4:size], now)
		options = options[size:]
	}
}

// option reads an option from its lifetime on.
func (n *nameOptions) option(kind byte, body []byte, now time.Time) {
	until := now.Add(min(time.Duration(binary.BigEndian.Uint32(body))*time.Second, maxLifetime))
	body = body[4:]
	switch kind {
	case optionRDNSS:
		var servers []netip.Addr
		for ; len(body) >= 16; body = body[16:] {
			if addr := netip.AddrFrom16([16]byte(body)); !addr.IsMulticast() && !addr.IsUnspecified() && !addr.IsLoopback() {
				servers = append(servers, addr)
			}
		}
		n.servers = remember(n.servers, servers, until, now)
	case optionDNSSL:
		n.domains = remember(n.domains, domains(body), until, now)
	}
}

// domains reads uncompressed names up to the padding. What is malformed ends the list.
func domains(body []byte) (list []string) {
	var labels []string
	for len(body) > 0 {
		size := int(body[0])
		if size > 63 || size >= len(body) && size > 0 {
			return list
		}
		if size == 0 {
			if len(labels) == 0 {
				return list
			}
			if domain := strings.Join(labels, "."); len(domain) < 254 {
				list = append(list, domain)
			}
			labels, body = nil, body[1:]
			continue
		}
		label := string(body[1 : 1+size])
		if strings.ContainsFunc(label, func(r rune) bool { return r <= ' ' || r > '~' || r == '.' }) {
			return list
		}
		labels, body = append(labels, label), body[1+size:]
	}
	return list
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

// of returns what holds now for an interface.
func (a *advertised) of(index int, now time.Time) (servers []netip.Addr, domains []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := a.names[index]
	if n == nil {
		return nil, nil
	}
	return current(n.servers, now), current(n.domains, now)
}

func current[T comparable](list []expiring[T], now time.Time) (values []T) {
	for _, e := range list {
		if e.until.After(now) {
			values = append(values, e.value)
		}
	}
	return values
}

// forget drops interfaces that are gone.
func (a *advertised) forget(exists func(index int) bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for index := range a.names {
		if !exists(index) {
			delete(a.names, index)
		}
	}
}
