package dhcp

import (
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

// errNoAddress says that a server has configuration but no address for this interface.
var errNoAddress = errors.New("the server has no address for this interface")

// leaseFromV6 reads the lease for iaid, or the configuration alone when inform is set, from an advertisement or reply.
func leaseFromV6(m *dhcpv6.Message, iaid [4]byte, inform bool, from net.Addr, now time.Time) (*Lease, error) {
	l := &Lease{Obtained: now, DNS: v6Addresses(m.Options.DNS(), maxDNS)}
	if udp, ok := from.(*net.UDPAddr); ok {
		l.Server = udp.AddrPort().Addr()
	}
	id := m.Options.ServerID()
	if id == nil {
		return nil, errors.New("no server identifier")
	}
	l.serverID = id.ToBytes()
	if s := m.Options.Status(); s != nil && s.StatusCode != iana.StatusSuccess {
		if s.StatusCode == iana.StatusNoAddrsAvail {
			return nil, errNoAddress
		}
		return nil, fmt.Errorf("status %v (%.80q)", s.StatusCode, s.StatusMessage)
	}
	if search := m.Options.DomainSearchList(); search != nil {
		for _, name := range search.Labels {
			if name = strings.TrimSuffix(name, "."); isName(name) && len(l.Domains) < maxDomains {
				l.Domains = append(l.Domains, name)
			}
		}
	}
	l.readOption136(m)
	if inform {
		return l, nil
	}
	return l, l.readAddress(m, iaid)
}

// readOption136 reads the bootstrap servers. The option is a singleton (RFC 8572 §8.2): of several the first is used.
func (l *Lease) readOption136(m *dhcpv6.Message) {
	options := m.GetOption(dhcpv6.OptionV6SZTPRedirect)
	if len(options) == 0 {
		return
	}
	l.readServers(options[0].ToBytes())
	if len(options) > 1 {
		l.warn("the server sent option %d %d times; used the first", OptionV6Redirect, len(options))
	}
}

func (l *Lease) readAddress(m *dhcpv6.Message, iaid [4]byte) error {
	for _, ia := range m.Options.IANA() {
		if ia.IaId != iaid {
			continue
		}
		if s := ia.Options.Status(); s != nil && s.StatusCode != iana.StatusSuccess {
			if s.StatusCode == iana.StatusNoAddrsAvail {
				return errNoAddress
			}
			return fmt.Errorf("status %v (%.80q)", s.StatusCode, s.StatusMessage)
		}
		for _, a := range ia.Options.Addresses() {
			addr, ok := netip.AddrFromSlice(a.IPv6Addr)
			if !ok || !assignable(addr) || addr.IsLinkLocalUnicast() || addr.Is4In6() || a.PreferredLifetime > a.ValidLifetime {
				continue
			}
			return l.takeAddress(addr, ia, a)
		}
	}
	return errNoAddress
}

func (l *Lease) takeAddress(addr netip.Addr, ia *dhcpv6.OptIANA, a *dhcpv6.OptIAAddress) error {
	l.Address = netip.PrefixFrom(addr, 128)
	if a.ValidLifetime == infinite*time.Second {
		return nil
	}
	if a.ValidLifetime < minLease {
		return fmt.Errorf("a lease of %v is too short to use", a.ValidLifetime)
	}
	l.Valid, l.Preferred = a.ValidLifetime, a.PreferredLifetime
	l.Renew, l.Rebind = ia.T1, ia.T2
	l.boundTimes(ia.T1 > 0 && ia.T2 > 0)
	return nil
}

func v6Addresses(ips []net.IP, limit int) []netip.Addr {
	var addrs []netip.Addr
	for _, ip := range ips {
		a, ok := netip.AddrFromSlice(ip)
		if ok && assignable(a) && !slices.Contains(addrs, a) && len(addrs) < limit {
			addrs = append(addrs, a)
		}
	}
	return addrs
}
