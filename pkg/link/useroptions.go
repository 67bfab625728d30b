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

// maxAdvertised bounds what routers can make the agent remember of each kind on one interface.
const maxAdvertised = 8

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
	until := now.Add(time.Duration(binary.BigEndian.Uint32(body)) * time.Second)
	body = body[4:]
	switch kind {
	case optionRDNSS:
		for ; len(body) >= 16; body = body[16:] {
			if addr := netip.AddrFrom16([16]byte(body)); !addr.IsMulticast() && !addr.IsUnspecified() && !addr.IsLoopback() {
				n.servers = remember(n.servers, addr, until, now)
			}
		}
	case optionDNSSL:
		for _, domain := range domains(body) {
			n.domains = remember(n.domains, domain, until, now)
		}
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

// remember adds or prolongs a value; a lifetime of zero takes it away.
func remember[T comparable](list []expiring[T], value T, until, now time.Time) []expiring[T] {
	list = slices.DeleteFunc(list, func(e expiring[T]) bool { return e.value == value || !e.until.After(now) })
	if until.After(now) && len(list) < maxAdvertised {
		list = append(list, expiring[T]{value, until})
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
