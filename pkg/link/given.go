package link

import (
	"context"
	"encoding/hex"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/xpu-sztp/ztp/dhcp"
)

// Given is what the manager of an interface has for it, as far as it tells.
type Given struct {
	State   string // in the manager's words, while the interface is not ready; empty when it is
	DNS     []netip.Addr
	Domains []string
	// Option is the value of the option of RFC 8572 §8 in the manager's own DHCP lease, from Server; empty when there is none.
	Option []byte
	Server netip.Addr
	// System is the name servers of the system, to be asked by its own routes where there are no others.
	System []netip.Addr
}

// maxGiven bounds how many name servers, and domains, a manager may tell.
const maxGiven = 16

// Given asks the manager of an interface what it has for it in one of the families.
func (s *System) Given(ctx context.Context, l Link, ipv6 bool) Given {
	var g Given
	switch l.Managed {
	case networkd:
		g = networkdGave(s.watcher.run, l.Index, ipv6)
	case networkManager:
		b := bus{socket: filepath.Join(s.watcher.run, "dbus/system_bus_socket")}
		if g = b.gave(ctx, l.Name, ipv6); b.err != nil {
			s.log.Warn("cannot ask NetworkManager", "interface", l.Name, "error", b.err)
		}
	}
	system := readResolver(s.resolver)
	g.System = system.DNS
	if l.Managed == ByHand {
		g.Domains = system.Domains
	}
	return g
}

// SystemResolver returns the name servers and search domains of the system, for networks that the agent does not hold.
func (s *System) SystemResolver() ([]netip.Addr, []string) {
	r := readResolver(s.resolver)
	return r.DNS, r.Domains
}

// networkdGave reads the files of systemd-networkd. It keeps its DHCPv4 lease there, but neither that of DHCPv6 nor, up to
// now, options below 224, even when they were asked for with RequestOptions=.
func networkdGave(run string, index int, ipv6 bool) Given {
	file := filepath.Join(run, networkdLinks, strconv.Itoa(index))
	var g Given
	if now := lookup(file, "ADMIN_STATE"); now != "configured" {
		g.State = now
	}
	for _, server := range strings.Fields(lookup(file, "DNS")) {
		g.addDNS(server)
	}
	for _, domain := range strings.Fields(lookup(file, "DOMAINS")) {
		g.addDomain(domain)
	}
	if !ipv6 {
		lease := filepath.Join(run, networkdLeases, strconv.Itoa(index))
		g.Option, _ = hex.DecodeString(lookup(lease, "OPTION_"+strconv.Itoa(dhcp.OptionV4Redirect)))
		g.Server, _ = netip.ParseAddr(lookup(lease, "SERVER_ADDRESS"))
	}
	return g
}

// leasedBy reports whether systemd-networkd has the address by a lease of its own.
func leasedBy(run string, index int, a netip.Addr) bool {
	return lookup(filepath.Join(run, networkdLeases, strconv.Itoa(index)), "ADDRESS") == a.String()
}

// addDNS adds a name server that may have a port, an interface and a name, as in "192.0.2.1:53%eth0#dns.example". One with
// another port than DNS has is left out, and one on this very machine: it may be what a DHCP server said.
func (g *Given) addDNS(server string) {
	server, _, _ = strings.Cut(server, "#")
	server, _, _ = strings.Cut(server, "%")
	a, err := netip.ParseAddr(server)
	if err != nil {
		ap, _ := netip.ParseAddrPort(server)
		if a = ap.Addr(); ap.Port() != 53 {
			return
		}
	}
	if a = a.Unmap(); !a.IsLoopback() {
		g.add(a)
	}
}

func (g *Given) add(server netip.Addr) {
	if !server.IsUnspecified() && !server.IsMulticast() && len(g.DNS) < maxGiven && !slices.Contains(g.DNS, server) {
		g.DNS = append(g.DNS, server)
	}
}

// addDomain adds a search domain. Those with a tilde only say which names a server is for.
func (g *Given) addDomain(domain string) {
	domain = strings.TrimSuffix(domain, ".")
	if domain != "" && !strings.HasPrefix(domain, "~") && len(domain) < 254 && len(g.Domains) < maxGiven && !slices.Contains(g.Domains, domain) {
		g.Domains = append(g.Domains, domain)
	}
}
