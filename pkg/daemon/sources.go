package daemon

import (
	"log/slog"
	"maps"
	mathrand "math/rand/v2"
	"slices"
	"time"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/agent"
	"github.com/xpu-sztp/ztp/pkg/config"
	"github.com/xpu-sztp/ztp/pkg/link"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/source"
	"github.com/xpu-sztp/ztp/pkg/storage"
)

// leads is where the session looks besides DHCP.
type leads struct {
	wellKnown []artifacts.BootstrapServer // the maker's, with their trust anchors
	named     []artifacts.BootstrapServer // on the command line; instead of every source
}

// prepare reads the configuration, and the servers and slots that it and the command line name.
func (d *daemon) prepare() (*config.Config, leads, error) {
	cfg, err := config.Load(d.Root)
	if err != nil {
		return nil, leads{}, err
	}
	if d.slots, err = slotsOf(cfg); err != nil {
		return nil, leads{}, err
	}
	var plan leads
	anchors := artifacts.PlainAnchors(config.Certificates(cfg.Anchors.BootstrapServers))
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

// sources has the agent look for leads in the configured order, and hear of changes of the network. All of that ends with
// done, which also undoes what was done to the network.
func (d *daemon) sources(a *agent.Agent, cfg *config.Config, plan leads, serial string) (done func(), err error) {
	if len(plan.named) > 0 {
		return d.named(a, cfg, plan, serial)
	}
	system, err := d.openNetwork(cfg, cfg.Discovery.Include)
	if err != nil {
		return nil, err
	}
	sticks, stopSticks := d.storage(cfg, serial)
	networks := d.networks(a, cfg, system, serial, finders(cfg, plan, serial, sticks))
	a.Sources, a.Wake = inOrder(cfg, networks, sticks), networks.Wake()
	if sticks != nil {
		a.Plugged, a.Local = sticks.Arrivals(), sticks.News(networks)
	}
	if d.moved {
		onlyElsewhere(a, d.known, system.Seen)
	}
	return func() {
		stopSticks()
		d.close(networks)
	}, nil
}

// named has the agent visit the servers that the command line names by way of the interfaces that the configuration gives
// addresses, if it does, and by the machine's own network.
func (d *daemon) named(a *agent.Agent, cfg *config.Config, plan leads, serial string) (done func(), err error) {
	servers := source.Static{Servers: plan.named, Trusted: d.Trusted}
	a.Sources = []source.Source{servers}
	if len(cfg.Discovery.Static) == 0 {
		return func() {}, nil
	}
	system, err := d.openNetwork(cfg, slices.Collect(maps.Keys(cfg.Discovery.Static)))
	if err != nil {
		return nil, err
	}
	networks := d.networks(a, cfg, system, serial, []source.Finder{servers})
	a.Sources, a.Wake = []source.Source{networks, servers}, networks.Wake()
	return func() { d.close(networks) }, nil
}

func (d *daemon) networks(a *agent.Agent, cfg *config.Config, system *link.System, serial string, finders []source.Finder) *source.Networks {
	return source.NewNetworks(source.NetworksOptions{
		System: system, Serial: serial, VendorClass: cfg.Discovery.VendorClass, Timeout: time.Duration(cfg.Discovery.Timeout),
		Finders: finders, Board: d.board, Static: cfg.Discovery.StaticFor, Logger: d.Logger, Spread: a.Spread,
	})
}

func (d *daemon) close(networks *source.Networks) {
	if err := networks.Close(); err != nil {
		d.Logger.Warn("cannot undo every change to the network", "error", err)
	}
}

// doctorPatience is how long the agent waits for `ztp doctor` to give back what it has leased, which it does once it sees the
// agent.
const doctorPatience = time.Minute

// openNetwork begins to follow the interfaces; include has the globs of those that may be used.
func (d *daemon) openNetwork(cfg *config.Config, include []string) (*link.System, error) {
	o := networkOptions(cfg, include, d.Logger)
	o.Patience = doctorPatience
	system, err := link.Open(o)
	if err != nil {
		return nil, &reason.Error{
			Code: CodeNoNetwork,
			Msg:  "the network interfaces cannot be watched",
			Fix:  "run the daemon as root, on a kernel with netlink",
			Err:  err,
		}
	}
	return system, nil
}

// networkOptions are those of the device's network; include has the globs of interfaces that may be used.
func networkOptions(cfg *config.Config, include []string, log *slog.Logger) link.Options {
	return link.Options{Include: include, Exclude: cfg.Discovery.Exclude, Record: link.DefaultRecord(cfg.Paths.Root),
		Run: cfg.Paths.Below("/run"), Resolver: cfg.Paths.Below("/etc/resolv.conf"), Logger: log}
}

// storage is the source of removable storage, or nil when it is not wanted, and how to stop following what is plugged in.
func (d *daemon) storage(cfg *config.Config, serial string) (s *source.Storage, stop func()) {
	if !slices.Contains(cfg.Discovery.Sources, removableStorage) {
		return nil, func() {}
	}
	s = source.NewStorage(source.StorageOptions{Devices: d.devices(), Serial: serial, Logger: d.Logger})
	stop, err := storage.Watch(s.Changed, d.Logger)
	if err != nil {
		d.Logger.Warn("cannot see when storage is plugged in; it is looked at in each round only", "error", err)
		return s, func() {}
	}
	return s, stop
}

const removableStorage = "removable-storage"

// inOrder puts storage before all networks when it is configured to come first, and after them otherwise.
func inOrder(cfg *config.Config, networks *source.Networks, sticks *source.Storage) []source.Source {
	switch {
	case sticks == nil:
		return []source.Source{networks}
	case cfg.Discovery.Sources[0] == removableStorage:
		return []source.Source{sticks, sticks.Beside(networks)}
	}
	return []source.Source{sticks.Beside(networks), sticks}
}

// finders are where to look on each network, in the configured order.
func finders(cfg *config.Config, plan leads, serial string, sticks *source.Storage) (list []source.Finder) {
	for _, name := range cfg.Discovery.Sources {
		switch {
		case name == removableStorage:
			if sticks != nil {
				list = append(list, sticks)
			}
		case name == "dns":
			list = append(list, source.DNS{Serial: serial, Random: mathrand.Float64})
		case name == "dhcp":
			list = append(list, source.DHCP{})
		case len(plan.wellKnown) > 0 || len(cfg.Discovery.Sources) == 1: // a lone empty source has to say so
			list = append(list, source.WellKnown{Servers: plan.wellKnown})
		}
	}
	return list
}
