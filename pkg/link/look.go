package link

import (
	"log/slog"
	"net/netip"
)

// Look lists the interfaces as a System with the same options would have them, and who has been given what by the agent, if one
// runs. It neither sends nor changes anything, and needs no privilege.
func Look(o Options) ([]Link, error) {
	o.defaults()
	links, err := list()
	if err != nil {
		return nil, err
	}
	agent := changes{file: o.Record}
	_ = agent.read() // of a record that cannot be read nothing is known
	own := agent.addresses()
	for i := range links {
		l := &links[i]
		l.Skip = skip(l, o.Include, o.Exclude)
		l.Managed, l.Settled = managedBy(l, o.Run, func(index int, a netip.Addr) bool { return own.has(index, a) })
	}
	return links, nil
}

func (o *Options) defaults() {
	if o.Run == "" {
		o.Run = "/run"
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Resolver == "" {
		o.Resolver = "/etc/resolv.conf"
	}
}
