package dhcp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
)

// message6 is what this client uses of a server's DHCPv6 message. It is read here and not by the library, which decodes
// every option of every kind: 4 KiB of compressed names cost it more than half a second, and one odd option that nobody
// asked for makes it refuse the message.
type message6 struct {
	kind               dhcpv6.MessageType
	clientID, serverID []byte
	preference         uint8
	rapid              bool // the server has committed the lease that was solicited
	solMaxRT, infMaxRT time.Duration
	status             status6
	associations       []association
	dns                []byte
	domains            []byte
	redirects          [][]byte // each instance of option 136
}

// association is an IA_NA option.
type association struct {
	iaid      [4]byte
	t1, t2    time.Duration
	status    status6
	addresses []leased6
}

// leased6 is an IA address option.
type leased6 struct {
	address          netip.Addr
	preferred, valid time.Duration
	status           status6
}

// status6 is a status code option; the zero value is success.
type status6 struct {
	code iana.StatusCode
	text []byte
}

func (s status6) err() error {
	switch s.code {
	case iana.StatusSuccess:
		return nil
	case iana.StatusNoAddrsAvail:
		return errNoAddress
	case iana.StatusNoBinding:
		return errNoBinding
	}
	return fmt.Errorf("status %v (%.80q)", s.code, s.text)
}

// Bounds on what a message may hold.
const (
	maxAssociations = 8
	maxRedirects    = 4
)

var errMalformed = errors.New("malformed message")

// parseV6 reads a message from a server (RFC 8415 §8, §21). Options that are not used are not looked into; those that are
// and have a wrong length make the message malformed.
func parseV6(b []byte) (*message6, error) {
	if len(b) < 4 {
		return nil, errMalformed
	}
	m := &message6{kind: dhcpv6.MessageType(b[0])}
	err := options6(b[4:], func(code dhcpv6.OptionCode, v []byte) bool {
		switch code {
		case dhcpv6.OptionClientID:
			m.clientID = v
		case dhcpv6.OptionServerID:
			m.serverID = v
		case dhcpv6.OptionPreference:
			if len(v) != 1 {
				return false
			}
			m.preference = v[0]
		case dhcpv6.OptionRapidCommit:
			m.rapid = true
		case dhcpv6.OptionSolMaxRT:
			return maxRT(v, &m.solMaxRT)
		case dhcpv6.OptionInfMaxRT:
			return maxRT(v, &m.infMaxRT)
		case dhcpv6.OptionStatusCode:
			return m.status.parse(v)
		case dhcpv6.OptionIANA:
			return m.associate(v)
		case dhcpv6.OptionDNSRecursiveNameServer:
			m.dns = v
		case dhcpv6.OptionDomainSearchList:
			m.domains = v
		case dhcpv6.OptionV6SZTPRedirect:
			if len(m.redirects) < maxRedirects {
				m.redirects = append(m.redirects, v)
			}
		}
		return true
	})
	return m, err
}

// options6 shows each option to use, which reports whether it is well-formed.
func options6(b []byte, use func(dhcpv6.OptionCode, []byte) bool) error {
	for len(b) > 0 {
		if len(b) < 4 {
			return errMalformed
		}
		code, n := dhcpv6.OptionCode(binary.BigEndian.Uint16(b)), int(binary.BigEndian.Uint16(b[2:]))
		if n > len(b)-4 || !use(code, b[4:4+n]) {
			return fmt.Errorf("%w: option %d", errMalformed, code)
		}
		b = b[4+n:]
	}
	return nil
}

func (s *status6) parse(v []byte) bool {
	if len(v) < 2 {
		return false
	}
	s.code, s.text = iana.StatusCode(binary.BigEndian.Uint16(v)), v[2:]
	return true
}

func (m *message6) associate(v []byte) bool {
	if len(v) < 12 || len(m.associations) == maxAssociations {
		return len(v) >= 12
	}
	ia := association{iaid: [4]byte(v), t1: seconds6(v[4:]), t2: seconds6(v[8:])}
	err := options6(v[12:], func(code dhcpv6.OptionCode, v []byte) bool {
		switch code {
		case dhcpv6.OptionStatusCode:
			return ia.status.parse(v)
		case dhcpv6.OptionIAAddr:
			if len(v) < 24 {
				return false
			}
			if len(ia.addresses) < maxAssociations {
				a := leased6{address: netip.AddrFrom16([16]byte(v)), preferred: seconds6(v[16:]), valid: seconds6(v[20:])}
				err := options6(v[24:], func(code dhcpv6.OptionCode, v []byte) bool {
					return code != dhcpv6.OptionStatusCode || a.status.parse(v)
				})
				ia.addresses = append(ia.addresses, a)
				return err == nil
			}
		}
		return true
	})
	m.associations = append(m.associations, ia)
	return err == nil
}

func seconds6(b []byte) time.Duration { return time.Duration(binary.BigEndian.Uint32(b)) * time.Second }

// maxRT reads SOL_MAX_RT or INF_MAX_RT into t; values that RFC 8415 §21.24 does not allow are passed over.
func maxRT(v []byte, t *time.Duration) bool {
	if len(v) != 4 {
		return false
	}
	if d := seconds6(v); d >= time.Minute && d <= 24*time.Hour {
		*t = d
	}
	return true
}

// What servers say about an address.
var (
	errNoAddress = errors.New("the server has no address for this interface")
	errNoBinding = errors.New("the server does not know of this lease")
	errWithdrawn = errors.New("the server took the address back")
)

// configuration reads what an advertisement or reply says besides addresses.
func (m *message6) configuration(from net.Addr, now time.Time) (*Lease, error) {
	l := &Lease{Obtained: now, DNS: v6Addresses(m.dns, maxDNS), Domains: domains6(m.domains), serverID: m.serverID}
	if udp, ok := from.(*net.UDPAddr); ok {
		l.Server = udp.AddrPort().Addr()
	}
	if len(m.serverID) == 0 {
		return nil, errors.New("no server identifier")
	}
	if err := m.status.err(); err != nil {
		return nil, err
	}
	// The option is a singleton (RFC 8572 §8.2): of several the first is used.
	if len(m.redirects) > 0 {
		l.readServers(m.redirects[0])
	}
	if len(m.redirects) > 1 {
		l.warn("the server sent option %d more than once; used the first", OptionV6Redirect)
	}
	return l, nil
}

// lease reads the lease for iaid from an advertisement or reply: that of the address held, when that is valid.
func (m *message6) lease(iaid [4]byte, held netip.Addr, from net.Addr, now time.Time) (*Lease, error) {
	l, err := m.configuration(from, now)
	if err != nil {
		return nil, err
	}
	return l, l.takeAddress(m, iaid, held)
}

func (l *Lease) takeAddress(m *message6, iaid [4]byte, held netip.Addr) error {
	failure := errNoAddress
	for _, ia := range m.associations {
		if ia.iaid != iaid || ia.t1 > ia.t2 && ia.t2 > 0 { // as if the server had not sent it (RFC 8415 §21.4)
			continue
		}
		if err := ia.status.err(); err != nil {
			return err
		}
		for _, a := range ia.addresses {
			switch {
			case held.IsValid() && a.address != held, !assignable(a.address), a.address.IsLinkLocalUnicast(), a.address.Is4In6(),
				a.preferred > a.valid: // RFC 8415 §21.6
			case a.status.err() != nil:
				failure = a.status.err()
			case a.valid == 0:
				failure = errWithdrawn
			case a.valid < minLease:
				failure = fmt.Errorf("a lease of %v is too short to use", a.valid)
			case a.preferred == 0 && !held.IsValid():
				failure = errors.New("the leased address must not be used for anything new")
			default:
				l.take(ia, a)
				return nil
			}
		}
	}
	return failure
}

// take sets the address and its times. T1 and T2 are the client's to choose where they are 0, then as RFC 8415 §21.4 recommends,
// or make no sense beside the lifetimes.
func (l *Lease) take(ia association, a leased6) {
	const never = infinite * time.Second
	l.Address = netip.PrefixFrom(a.address, 128)
	if a.valid == never {
		return
	}
	l.Valid, l.Preferred = a.valid, max(a.preferred, time.Second)
	if ia.t1 == never { // the server does not want to hear of the lease again
		l.Renew, l.Rebind = l.Valid, l.Valid
		return
	}
	l.Renew, l.Rebind = ia.t1, ia.t2
	if ia.t1 == 0 {
		l.Renew = a.preferred / 2
	}
	if ia.t2 == 0 {
		l.Rebind = max(a.preferred/5*4, l.Renew)
	}
	l.Rebind = min(l.Rebind, l.Valid/8*7)
	l.boundTimes(true)
}

func v6Addresses(b []byte, limit int) []netip.Addr {
	var addrs []netip.Addr
	for ; len(b) >= 16 && len(addrs) < limit; b = b[16:] {
		if a := netip.AddrFrom16([16]byte(b)); assignable(a) && !slices.Contains(addrs, a) {
			addrs = append(addrs, a)
		}
	}
	return addrs
}

// domains6 reads names in the uncompressed form of RFC 1035 §3.1, up to the first fault.
func domains6(b []byte) []string {
	var domains []string
	var labels []string
	for len(b) > 0 && len(domains) < maxDomains {
		n := int(b[0])
		if n > 63 || n >= len(b) || len(labels) > 127 {
			break
		}
		if n > 0 {
			labels = append(labels, string(b[1:1+n]))
		} else if name := strings.Join(labels, "."); isName(name) {
			domains, labels = append(domains, name), nil
		} else {
			labels = nil
		}
		b = b[1+n:]
	}
	return domains
}
