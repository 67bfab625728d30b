package source

import (
	"context"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/reason"
)

// WellKnown is the maker's bootstrap servers, whose preconfigured trust anchors count (RFC 8572 §4.4, §5.1).
type WellKnown struct{ Servers []artifacts.BootstrapServer }

var _ Finder = WellKnown{}

// Name returns "well-known".
func (WellKnown) Name() string { return "well-known" }

// Find visits the servers by way of the uplink.
func (w WellKnown) Find(_ context.Context, u *Uplink, visit func(Lead) error) error {
	if len(w.Servers) == 0 {
		return &reason.Error{Code: NoServer, Msg: "no well-known bootstrap server is configured",
			Fix: "list servers under [discovery] well-known, or take the source out of [discovery] sources"}
	}
	return visit(Lead{Source: w.Name(), Interface: u.Interface, Servers: w.Servers, Trusted: true, Network: u.Network})
}
