// Package source finds leads: places where bootstrapping data may be had (RFC 8572 §4). Storage looks on sticks. Networks gets
// every usable interface onto its network and has finders look there (the options of DHCPv4 and DHCPv6, records in DNS and
// multicast DNS, the maker's well-known servers); Static is servers named on the command line. What they find goes to the visitor
// while the network it came with is up. A lead is never believed here; what trust it carries is part of the value and is judged by the agent.
package source

import (
	"context"
	"io/fs"
	"net"
	"net/netip"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// Lead is one finding of a source: a list of bootstrap servers to ask, or the artifacts themselves.
type Lead struct {
	Source    string // the name of the source, such as "dhcp4"
	Interface string // where it was learned; empty when it belongs to no interface
	Servers   []artifacts.BootstrapServer
	// Trusted is true only for the maker's well-known servers, whose preconfigured anchors count (RFC 8572 §5.1). DHCP
	// and DNS are never trusted.
	Trusted  bool
	Bundle   *artifacts.Bundle // set instead of Servers by sources that carry artifacts
	Place    string            // where Bundle was found, for people
	Files    fs.FS             // what file URIs of onboarding information in Bundle name; nil when they name nothing
	Network  Network           // how the servers are reached
	Warnings []string          // tolerated deviations on the wire, for people
	// Where tells what the network is known by that the lead came from; nil when it came from none.
	Where func() state.Network
	// InVain is shared by the leads of one network. The visitor fills in which servers of untrusted lists it has asked in vain, and
	// what came of it; nil when leads are independent.
	InVain map[ServerKey]error
}

// ServerKey is a server as an untrusted list names it.
type ServerKey struct {
	Host string // in its canonical spelling
	Port uint16
}

// Network reaches hosts by way of the interface and name servers that a lead came with.
type Network interface {
	// LookupNetIP resolves host; network is "ip", "ip4" or "ip6". The order is the order to try.
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	// DialContext connects to address (an IP literal and port).
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// Source is one kind of place to look for leads.
type Source interface {
	// Name is the configuration's name for the source.
	Name() string
	// Discover looks for leads once and calls visit with each, keeping up the network it came with until visit returns.
	// visit returns nil when the lead led to success, which ends Discover with nil. Discover returns an explained error
	// when there was no lead or none succeeded; the visitor's own errors are joined to it. Whatever was changed on the
	// system is undone before it returns.
	Discover(ctx context.Context, visit func(context.Context, Lead) error) error
}
