package link

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"time"
)

// Options of router advertisements about names (RFC 8106 §5).
const (
	optionRDNSS = 25
	optionDNSSL = 31
)

// option reads an option from its lifetime on.
func (r *routers) option(kind byte, body []byte, now time.Time) {
	until := now.Add(min(time.Duration(binary.BigEndian.Uint32(body))*time.Second, maxLifetime))
	body = body[4:]
	switch kind {
	case optionRDNSS:
		var servers []fact
		for ; len(body) >= 16; body = body[16:] {
			if addr := netip.AddrFrom16([16]byte(body)); !addr.IsMulticast() && !addr.IsUnspecified() && !addr.IsLoopback() {
				servers = append(servers, fact{address: addr})
			}
		}
		r.servers = remember(r.servers, servers, until, now)
	case optionDNSSL:
		r.domains = remember(r.domains, domains(body), until, now)
	}
}

// domains reads uncompressed names up to the padding. What is malformed ends the list.
func domains(body []byte) (list []fact) {
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
				list = append(list, fact{domain: domain})
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
