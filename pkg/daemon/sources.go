package daemon

import (
	"context"
	"crypto/x509"
	"net"
	"net/netip"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/config"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/source"
	"github.com/xpu-sztp/ztp/tpm"
)

// leads is where the session looks besides DHCP.
type leads struct {
	wellKnown []artifacts.BootstrapServer // the maker's, with their trust anchors
	named     []artifacts.BootstrapServer // on the command line; instead of every source
}

// prepare reads the configuration and the servers that it and the command line name.
func (d *daemon) prepare() (*config.Config, leads, error) {
	cfg, err := config.Load(d.Root)
	if err != nil {
		return nil, leads{}, err
	}
	var plan leads
	anchors := trustAnchors(cfg)
	if plan.wellKnown, err = config.Servers(cfg.Discovery.WellKnown, anchors); err != nil {
		return nil, leads{}, err
	}
	if !d.Trusted {
		anchors = nil
	} else if len(anchors) == 0 {
		return nil, leads{}, &reason.Error{
			Code: CodeNoAnchor,
			Msg:  "no trust anchor is configured that could authenticate a trusted server",
			Fix:  "put the certificate of its certification authority below " + d.paths.Below("/etc/ztp/trust/bootstrap-servers") + ", or leave out --trusted",
		}
	}
	plan.named, err = config.Servers(d.Servers, anchors)
	return cfg, plan, err
}

// trustAnchors are the configured anchors in the form that servers carry: a plain certificate is a chain of one.
func trustAnchors(cfg *config.Config) []artifacts.TrustAnchor {
	var anchors []artifacts.TrustAnchor
	for _, cert := range config.Certificates(cfg.Anchors.BootstrapServers) {
		anchors = append(anchors, artifacts.TrustAnchor{Lowest: cert, Chain: []*x509.Certificate{cert}})
	}
	return anchors
}

func (d *daemon) sources(cfg *config.Config, plan leads, id *tpm.Identity) ([]source.Source, <-chan struct{}, func(), error) {
	if plan.named != nil {
		return []source.Source{named{source.Lead{
			Source: "command-line", Servers: plan.named, Trusted: d.Trusted, Network: system{},
		}}}, nil, func() {}, nil
	}
	return nil, nil, func() {}, nil
}

// named is a source that always has the same lead.
type named struct{ lead source.Lead }

func (n named) Name() string { return n.lead.Source }

func (n named) Discover(ctx context.Context, visit func(context.Context, source.Lead) error) error {
	return visit(ctx, n.lead)
}

// system is the network as the system has it, with its resolver and routes.
type system struct{}

func (system) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, network, host)
}

func (system) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, address)
}
