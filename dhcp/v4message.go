package dhcp

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// Bounds on what a lease may hold.
const (
	maxRoutes  = 64
	maxDNS     = 8
	maxDomains = 8
	// minLease is the shortest lease worth having: below it, renewal would be all that we do.
	minLease     = 10 * time.Second
	defaultLease = time.Hour // when a server does not say
	infinite     = 0xffffffff
)

const (
	v4HeaderLength = 236 // up to the magic cookie
	v4ServerName   = 44  // offset of sname (64 bytes)
	v4File         = 108 // offset of file (128 bytes)
)

// parseV4 decodes a DHCPv4 message with all its options: those of one code are concatenated over the options field, then
// file, then sname when they are overloaded (RFC 2131 §4.1, RFC 3396 §5). The library joins within the options field only.
func parseV4(b []byte) (*dhcpv4.DHCPv4, error) {
	m, err := dhcpv4.FromBytes(b)
	if err != nil {
		return nil, err
	}
	overload := m.Options.Get(dhcpv4.OptionOptionOverload)
	if len(overload) != 1 {
		return m, nil
	}
	if overload[0]&1 != 0 {
		if err := m.Options.FromBytes(b[v4File:v4HeaderLength]); err != nil {
			return nil, fmt.Errorf("options in the file field: %w", err)
		}
		m.BootFileName = ""
	}
	if overload[0]&2 != 0 {
		if err := m.Options.FromBytes(b[v4ServerName:v4File]); err != nil {
			return nil, fmt.Errorf("options in the sname field: %w", err)
		}
		m.ServerHostName = ""
	}
	return m, nil
}

// leaseFromV4 reads the lease, or the configuration alone when inform is set, from an offer or acknowledgement.
func leaseFromV4(m *dhcpv4.DHCPv4, inform bool, now time.Time) (*Lease, error) {
	l := &Lease{Obtained: now, DNS: v4Addresses(m.Options.Get(dhcpv4.OptionDomainNameServer), maxDNS)}
	if ids := v4Addresses(m.Options.Get(dhcpv4.OptionServerIdentifier), 1); len(ids) == 1 {
		l.Server = ids[0]
	}
	if name := strings.TrimRight(string(m.Options.Get(dhcpv4.OptionDomainName)), "\x00."); isName(name) {
		l.Domains = []string{name}
	}
	if code := dhcpv4.GenericOptionCode(OptionV4Redirect); m.Options.Has(code) {
		l.readServers(m.Options.Get(code))
	}
	if inform {
		return l, nil
	}
	if !l.Server.IsValid() {
		return nil, fmt.Errorf("no server identifier")
	}
	addr, ok := netip.AddrFromSlice(m.YourIPAddr.To4())
	if !ok || !assignable(addr) {
		return nil, fmt.Errorf("%v cannot be an interface's address", m.YourIPAddr)
	}
	l.readPrefix(addr, m.Options.Get(dhcpv4.OptionSubnetMask))
	if err := l.checkAddress(m); err != nil {
		return nil, err
	}
	if err := l.readTimes(m); err != nil {
		return nil, err
	}
	l.readRoutes(m)
	return l, nil
}

// checkAddress refuses addresses that the message itself shows to be taken, or that are no host's in their subnet (RFC 1122
// §3.2.1.3).
func (l *Lease) checkAddress(m *dhcpv4.DHCPv4) error {
	a := l.Address.Addr()
	routers := v4Addresses(m.Options.Get(dhcpv4.OptionRouter), maxRoutes)
	if a == l.Server || slices.Contains(routers, a) {
		return fmt.Errorf("%v is the address of the server or the router", a)
	}
	hosts := uint32(1)<<(32-l.Address.Bits()) - 1 // the bits of the address that tell hosts apart
	host := binary.BigEndian.Uint32(a.AsSlice()) & hosts
	if l.Address.Bits() < 31 && (host == 0 || host == hosts) {
		return fmt.Errorf("%v means the whole subnet, no host", l.Address)
	}
	return nil
}

func (l *Lease) warn(format string, args ...any) {
	l.Warnings = append(l.Warnings, fmt.Sprintf(format, args...))
}

// readServers reads the bootstrap server option of either family. An option without a usable server counts as absent
// (RFC 8572 §8.1, §8.2), but not silently.
func (l *Lease) readServers(list []byte) {
	servers, findings, err := ParseServerListLeniently(list)
	l.Servers, l.OptionError = servers, err
	if err != nil {
		return
	}
	for _, f := range findings {
		l.warn("bootstrap server option: %v", f)
	}
}

// readPrefix reads the subnet mask. One shorter than any class has is as good as none: it would draw traffic that is meant
// for other interfaces.
func (l *Lease) readPrefix(addr netip.Addr, mask []byte) {
	if len(mask) == 4 {
		m := binary.BigEndian.Uint32(mask)
		for bits := 32; bits >= 8; bits-- {
			if m == ^uint32(0)<<(32-bits) {
				l.Address = netip.PrefixFrom(addr, bits)
				return
			}
		}
	}
	classful := 24
	switch first := addr.As4()[0]; {
	case first < 128:
		classful = 8
	case first < 192:
		classful = 16
	}
	l.Address = netip.PrefixFrom(addr, classful)
	l.warn("the server sent no usable subnet mask; assumed /%d", classful)
}

func (l *Lease) readTimes(m *dhcpv4.DHCPv4) error {
	seconds := func(code dhcpv4.OptionCode) (uint32, bool) {
		b := m.Options.Get(code)
		if len(b) != 4 {
			return 0, false
		}
		return binary.BigEndian.Uint32(b), true
	}
	valid, ok := seconds(dhcpv4.OptionIPAddressLeaseTime)
	switch {
	case !ok:
		l.Valid = defaultLease
		l.warn("the server sent no lease time; assumed %v", defaultLease)
	case valid == infinite:
		return nil
	default:
		l.Valid = time.Duration(valid) * time.Second
	}
	if l.Valid < minLease {
		return fmt.Errorf("a lease of %v is too short to use", l.Valid)
	}
	t1, ok1 := seconds(dhcpv4.OptionRenewTimeValue)
	t2, ok2 := seconds(dhcpv4.OptionRebindingTimeValue)
	l.Renew, l.Rebind = time.Duration(t1)*time.Second, time.Duration(t2)*time.Second
	l.boundTimes(ok1 && ok2)
	return nil
}

// boundTimes replaces renewal times that are missing or make no sense by those of RFC 2131 §4.4.5 and RFC 8415 §21.4.
func (l *Lease) boundTimes(given bool) {
	if !given || l.Renew < minLease/2 || l.Renew > l.Rebind || l.Rebind >= l.Valid {
		l.Renew = l.Valid / 2
		l.Rebind = l.Valid / 8 * 7
	}
}

// readRoutes reads classless static routes, which replace the router option when present (RFC 3442).
func (l *Lease) readRoutes(m *dhcpv4.DHCPv4) {
	if raw := m.Options.Get(dhcpv4.OptionClasslessStaticRoute); len(raw) > 0 {
		var routes dhcpv4.Routes
		if err := routes.FromBytes(raw); err != nil {
			l.warn("the classless static routes are malformed: %v; used those before the fault", err)
		}
		for _, r := range routes[:min(len(routes), maxRoutes)] {
			dst, _ := netip.AddrFromSlice(r.Dest.IP.To4())
			bits, _ := r.Dest.Mask.Size()
			gw, _ := netip.AddrFromSlice(r.Router.To4())
			if gw.IsUnspecified() {
				gw = netip.Addr{}
			}
			l.addRoute(netip.PrefixFrom(dst, bits).Masked(), gw)
		}
		return
	}
	for _, gw := range v4Addresses(m.Options.Get(dhcpv4.OptionRouter), 1) {
		l.addRoute(netip.PrefixFrom(netip.IPv4Unspecified(), 0), gw)
	}
}

func (l *Lease) addRoute(dst netip.Prefix, gw netip.Addr) {
	local := dst.Bits() > 0 && (dst.Addr().IsLoopback() || dst.Addr().IsMulticast())
	if local || gw.IsValid() && !assignable(gw) {
		l.warn("the route to %v by way of %v makes no sense; ignored", dst, gw)
		return
	}
	r := Route{Destination: dst, Gateway: gw}
	if !slices.Contains(l.Routes, r) {
		l.Routes = append(l.Routes, r)
	}
}

// assignable reports whether an address can be some host's.
func assignable(a netip.Addr) bool {
	return a.IsValid() && !a.IsUnspecified() && !a.IsLoopback() && !a.IsMulticast() && !isBroadcast(a)
}

func v4Addresses(b []byte, limit int) []netip.Addr {
	var addrs []netip.Addr
	for ; len(b) >= 4 && len(addrs) < limit; b = b[4:] {
		if a := netip.AddrFrom4([4]byte(b)); assignable(a) && !slices.Contains(addrs, a) {
			addrs = append(addrs, a)
		}
	}
	return addrs
}
