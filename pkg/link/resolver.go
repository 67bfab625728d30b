package link

import (
	"context"
	"net"
	"net/netip"
	"strings"
)

// readResolver reads resolv.conf(5).
func readResolver(file string) Given {
	var g Given
	for _, line := range lines(file) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		switch fields[0] {
		case "nameserver":
			if server, err := netip.ParseAddr(fields[1]); err == nil {
				g.add(server.Unmap())
			}
		case "search", "domain": // the last one counts
			g.Domains = nil
			for _, domain := range fields[1:] {
				g.addDomain(domain)
			}
		}
	}
	g.DNS = g.DNS[:min(len(g.DNS), 3)] // as many as C libraries ask
	return g
}

// servers are the name servers to ask for records.
func (n *Network) servers() []netip.Addr {
	servers := n.DNS
	if len(servers) == 0 {
		servers = n.System
	}
	return servers[:min(len(servers), maxNameServers)]
}

// dialServer connects to a name server, to those of the system's resolver by the machine's own routes.
func (n *Network) dialServer(ctx context.Context, network string, server netip.Addr) (net.Conn, error) {
	dial := n.DialContext
	if len(n.DNS) == 0 {
		dial = new(net.Dialer).DialContext
	}
	return dial(ctx, network, netip.AddrPortFrom(server, 53).String())
}
