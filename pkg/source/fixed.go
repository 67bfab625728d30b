package source

import (
	"context"
	"net"
	"net/netip"
	"sync/atomic"

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

// Offline is no network, for data that may need none.
type Offline struct{ asked atomic.Bool }

var _ Network = (*Offline)(nil)

// Fail returns why nothing can be reached. The source of the data learns that a network was needed.
func (o *Offline) Fail() error {
	o.asked.Store(true)
	return errOffline
}

// LookupNetIP is part of Network.
func (o *Offline) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return nil, o.Fail()
}

// DialContext is part of Network.
func (o *Offline) DialContext(context.Context, string, string) (net.Conn, error) {
	return nil, o.Fail()
}

// Static is servers that a person named, reached by the system's network.
type Static struct {
	Servers []artifacts.BootstrapServer
	Trusted bool // the servers' trust anchors count
}

var (
	_ Source = Static{}
	_ Finder = Static{}
)

// Name returns "url".
func (Static) Name() string { return "url" }

// Discover visits the one lead there is.
func (s Static) Discover(ctx context.Context, visit func(context.Context, Lead) error) error {
	if len(s.Servers) == 0 {
		return &reason.Error{Code: NoServer, Msg: "no bootstrap server was named"}
	}
	return visit(ctx, Lead{Source: s.Name(), Servers: s.Servers, Trusted: s.Trusted, Network: System{}})
}

// Find visits the one lead by way of the uplink.
func (s Static) Find(_ context.Context, u *Uplink, visit func(Lead) error) error {
	return visit(Lead{Source: s.Name(), Interface: u.Interface, Servers: s.Servers, Trusted: s.Trusted, Network: u.Network})
}
