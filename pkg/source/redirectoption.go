package source

import (
	"context"
	"fmt"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/dhcp"
	"github.com/xpu-sztp/ztp/pkg/reason"
)

// DHCP finds bootstrap servers in DHCPv4 option 143 and DHCPv6 option 136 (RFC 8572 §4.3, §8). Its leads are never trusted.
type DHCP struct{}

var _ Finder = DHCP{}

// Name returns "dhcp".
func (DHCP) Name() string { return "dhcp" }

// Find visits the servers of the option, when there are any.
func (DHCP) Find(_ context.Context, u *Uplink, visit func(Lead) error) error {
	name, option := "dhcp4", fmt.Sprintf("DHCPv4 option %d", dhcp.OptionV4Redirect)
	if u.IPv6 {
		name, option = "dhcp6", fmt.Sprintf("DHCPv6 option %d", dhcp.OptionV6Redirect)
	}
	switch {
	case u.Lease == nil && u.NoLease == nil:
		return ErrNothing
	case u.Lease == nil:
		return u.NoLease
	case len(u.Lease.Servers) == 0 && u.Lease.OptionError != nil:
		return u.Lease.OptionError
	case len(u.Lease.Servers) == 0:
		return &reason.Error{Code: NoOption, Msg: fmt.Sprintf("the DHCP server %v did not send %s", u.Lease.Server, option),
			Fix: "configure the option on the DHCP server; `ztp-lab dhcp-option URL` prints it for common servers"}
	}
	l := Lead{Source: name, Interface: u.Interface, Network: u.Network}
	for _, w := range u.Lease.Warnings {
		l.Warnings = append(l.Warnings, fmt.Sprintf("%s %s: %s", u.Interface, name, w))
	}
	for _, s := range u.Lease.Servers {
		l.Servers = append(l.Servers, artifacts.BootstrapServer{Address: s.Host, Port: s.Port})
	}
	return visit(l)
}
