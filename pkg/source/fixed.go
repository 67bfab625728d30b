package source

import (
	"context"
	"errors"
	"net"
	"net/netip"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/reason"
)

// System is the network as the machine has it, with its resolver and routes.
type System struct{}

var _ Network = System{}

// LookupNetIP asks the system's resolver.
func (System) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, network, host)
}

// DialContext connects by the system's routes.
func (System) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, address)
}

// Static is servers that a person named, reached by the system's network.
type Static struct {
	Servers []artifacts.BootstrapServer
	Trusted bool // the servers' trust anchors count
}

var _ Source = Static{}

// Name returns "url".
func (Static) Name() string { return "url" }

// Discover visits the one lead there is.
func (s Static) Discover(ctx context.Context, visit func(context.Context, Lead) error) error {
	if len(s.Servers) == 0 {
		return &reason.Error{Code: NoServer, Msg: "no bootstrap server was named"}
	}
	return visit(ctx, Lead{Source: s.Name(), Servers: s.Servers, Trusted: s.Trusted, Network: System{}})
}

const wellKnownName = "well-known"

// WellKnown is the maker's bootstrap servers, whose preconfigured trust anchors count (RFC 8572 §4.4, §5.1). They are reached
// by the network that the machine has and, where nobody configures an interface, by what DHCP gives there.
type WellKnown struct {
	Servers []artifacts.BootstrapServer
	DHCP    *DHCP // nil means the machine's own network only
}

var _ Source = WellKnown{}

// Name returns "well-known".
func (WellKnown) Name() string { return wellKnownName }

// Discover visits the servers by one network after the other until a visit succeeds.
func (w WellKnown) Discover(ctx context.Context, visit func(context.Context, Lead) error) error {
	if len(w.Servers) == 0 {
		return &reason.Error{Code: NoServer, Msg: "no well-known bootstrap server is configured",
			Fix: "list servers under [discovery] well-known, or take the source out of [discovery] sources"}
	}
	if w.DHCP == nil {
		return w.bySystem(ctx, visit)
	}
	configured, free := w.networks()
	if !configured {
		return w.DHCP.discover(ctx, visit, w.Servers)
	}
	err := w.bySystem(ctx, visit)
	if err == nil || !free || ctx.Err() != nil {
		return err
	}
	if other := w.DHCP.discover(ctx, visit, w.Servers); other != nil {
		return errors.Join(err, other)
	}
	return nil
}

func (w WellKnown) bySystem(ctx context.Context, visit func(context.Context, Lead) error) error {
	return visit(ctx, Lead{Source: wellKnownName, Servers: w.Servers, Trusted: true, Network: System{}})
}

// networks reports whether somebody has configured an interface, and whether one is left for the agent.
func (w WellKnown) networks() (configured, free bool) {
	links, _ := w.DHCP.System.Links()
	for i := range links {
		l := &links[i]
		addressed := l.Carrier && len(l.Global(false))+len(l.Global(true)) > 0
		configured = configured || addressed && l.Skip != "loopback" && (l.Managed != "" || l.Skip != "")
		free = free || l.Usable() && l.Managed == ""
	}
	return configured, free
}
