package dhcp

import (
	"context"
	"net"
	"net/netip"
)

// Foreign returns what is known of a lease that another program holds on the interface: who gave it, and the bootstrap
// servers of RFC 8572 §8.3 in option, which is the value of option 143 or 136.
func Foreign(server netip.Addr, option []byte) *Lease {
	l := &Lease{Server: server}
	l.readServers(option)
	return l
}

// Holder returns the hardware address of another host on the link that uses an IPv4 address, or nil (RFC 5227). It takes a
// moment.
func (c *Client4) Holder(ctx context.Context, address netip.Addr) net.HardwareAddr {
	return c.holder(ctx, address)
}
