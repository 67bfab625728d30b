package source

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/xpu-sztp/ztp/dhcp"
	"github.com/xpu-sztp/ztp/pkg/config"
	"github.com/xpu-sztp/ztp/pkg/link"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// static returns how an interface is to be configured instead of by DHCP, or nil. Where somebody else configures it, they do.
func (d *Networks) static(l link.Link) *config.Static {
	if d.Static == nil || l.Managed != "" {
		return nil
	}
	return d.Static(l.Name)
}

// families are those to try on an interface.
func (d *Networks) families(l link.Link) []family {
	var v4, v6 bool
	if s := d.static(l); s != nil {
		v4, v6 = s.Families()
	} else if d.Static != nil && d.Static(l.Name) != nil {
		d.Logger.Warn("the interface does not get its static addresses, because somebody else configures it", "interface", l.Name, "manager", manager(l))
	}
	switch {
	case v4 && !v6:
		return []family{ipv4}
	case v6 && !v4:
		return []family{ipv6}
	}
	return []family{ipv4, ipv6}
}

// connectStatic gets on the network with an address that the configuration gives.
func (a *attempt) connectStatic(ctx context.Context, s *config.Static) (*dhcp.Lease, *link.Lease, error) {
	lease := staticLease(s, a.family == ipv6)
	if err := a.prepareStatic(ctx, lease.Address.Addr()); err != nil {
		return nil, nil, err
	}
	applied, err := a.System.Apply(ctx, a.link, lease)
	if err == nil {
		a.undo = append(a.undo, func() { a.remove(&holding{lease: lease, applied: applied}) })
		a.show(func(i *state.Interface) {
			i.State, i.Method, i.Addresses, i.RoutesAdded = "bound", "static", []string{lease.Address.String()}, applied.Routes()
		})
	}
	if err == nil && a.family == ipv6 { // nobody has seen to it that it is unique
		err = a.System.AwaitUnique(ctx, a.link, lease.Address.Addr())
	}
	switch {
	case errors.Is(err, link.ErrDuplicate):
		return nil, nil, staticDuplicate(lease.Address.Addr(), "")
	case err != nil:
		return nil, nil, &reason.Error{Code: NoAddress, Msg: "cannot apply the static addresses", Err: err,
			Fix: "look at [discovery.static] in the configuration"}
	}
	return lease, applied, nil
}

// prepareStatic makes the interface ready for an address and looks whether another host has it. For IPv6 the kernel looks.
func (a *attempt) prepareStatic(ctx context.Context, address netip.Addr) error {
	if a.family == ipv6 {
		if link.IPv6Disabled(a.link) {
			return &reason.Error{Code: NoAddress, Msg: "IPv6 is disabled on the interface"}
		}
		return nil
	}
	a.undo = append(a.undo, a.System.PrepareIPv4(a.link))
	client := &dhcp.Client4{MAC: a.link.MAC, OpenARP: dhcp.SocketARP(a.link.Interface()), Logger: a.Logger.With("interface", a.link.Name)}
	if other := client.Holder(ctx, address); other != nil {
		return staticDuplicate(address, fmt.Sprintf(" (%v)", other))
	}
	return ctx.Err()
}

func staticDuplicate(address netip.Addr, other string) error {
	return &reason.Error{Code: DuplicateAddress, Msg: fmt.Sprintf("another host%s uses the static address %v", other, address),
		Fix: "give one of them another address; the agent's is below [discovery.static] in its configuration"}
}

// staticLease is a lease without a server that says what the configuration says of one family.
func staticLease(s *config.Static, v6 bool) *dhcp.Lease {
	l := &dhcp.Lease{Domains: s.Domains, DNS: s.DNS}
	for _, p := range s.Addresses {
		if p.Addr().Is6() == v6 {
			l.Address = p
		}
	}
	for _, g := range s.Gateways {
		if g.Is6() == v6 {
			l.Routes = []dhcp.Route{{Destination: netip.PrefixFrom(l.Address.Addr(), 0).Masked(), Gateway: g}}
		}
	}
	return l
}
