package daemon

import (
	"context"
	"crypto/tls"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/dhcp"
	"github.com/xpu-sztp/ztp/pkg/agent"
	"github.com/xpu-sztp/ztp/pkg/config"
	"github.com/xpu-sztp/ztp/pkg/doctor"
	"github.com/xpu-sztp/ztp/pkg/link"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/restconf"
	"github.com/xpu-sztp/ztp/pkg/source"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// Bounds of a look at the network.
const (
	carrierTime = 3 * time.Second // for interfaces that were brought up to find their carrier
	dialTime    = 5 * time.Second
	shakeTime   = 10 * time.Second // for a TLS handshake, with the TPM's signature
	refusalTime = time.Second      // for a server to refuse the device's certificate after that
	maxLooked   = 16               // servers
	maxEach     = 4                // addresses of each: a TPM makes one signature after the other
)

// network looks at the interfaces, at what their networks say, and at the servers that are named there.
func (d *diagnosis) network(ctx context.Context, l doctor.Lines) {
	o := networkOptions(d.cfg, d.cfg.Discovery.Include, d.Logger)
	v := &visits{diagnosis: d, found: map[string]*doctor.ServerFacts{}}
	var system *link.System
	var err error
	if !d.Offline && !d.running {
		if system, err = link.Open(o); err == nil {
			d.ask(ctx, system, v, l)
		}
	}
	if errors.Is(context.Cause(ctx), errAgentStarted) {
		l.Unasked(errAgentStarted)
		return
	}
	if system == nil {
		l.Links(link.Look(o))
	}
	switch {
	case d.Offline:
		return
	case err != nil:
		l.Unasked(err)
	case d.running:
		l.Discovery(d.ofAgent())
	}
	if len(d.named) > 0 && !v.answered(d.named) {
		v.visit(ctx, source.Lead{Source: named, Servers: d.named, Network: source.System{}})
	}
	for _, url := range v.order {
		l.Server(v.found[url])
	}
}

const named = "url"

// ask gets on the networks as the agent would, and off them again.
func (d *diagnosis) ask(ctx context.Context, system *link.System, v *visits, l doctor.Lines) {
	m := &memory{}
	serial := ""
	if found := d.identity().facts.Found; found != nil {
		serial = found.SerialNumber
	}
	networks := source.NewNetworks(source.NetworksOptions{
		System: system, Serial: serial, VendorClass: d.cfg.Discovery.VendorClass, Static: d.cfg.Discovery.StaticFor, Logger: d.Logger,
		Timeout: min(time.Duration(d.cfg.Discovery.Timeout), d.Timeout/2), Board: m, KeepDown: !d.idle(),
		Finders: d.finders(serial),
	})
	usable, elsewhere := false, false
	waiting, cancel := context.WithTimeout(ctx, carrierTime)
	_ = system.Await(waiting, func(links []link.Link) bool {
		for i := range links {
			usable, elsewhere = usable || links[i].Usable(), elsewhere || doctor.Connected(&links[i])
		}
		return usable
	})
	cancel()
	links, _ := system.Links()
	l.Links(links, nil)
	var err error
	if usable || elsewhere {
		err = networks.Discover(ctx, func(ctx context.Context, lead source.Lead) error {
			v.visit(ctx, lead)
			return errLooked
		})
	}
	if closing := networks.Close(); closing != nil {
		l.Unasked(closing)
	}
	f := &doctor.DiscoveryFacts{Interfaces: m.s.Interfaces, Leads: v.leads, Looked: d.cfg.Discovery.Sources, Named: len(d.named) > 0}
	f.DNS, f.Err = concluded(err)
	if (usable || elsewhere) && !errors.Is(context.Cause(ctx), errAgentStarted) {
		l.Discovery(f)
	}
}

// concluded is what is said of DNS, and of all of them, when the finders have ended with err.
func concluded(err error) (ofDNS *state.Source, all error) {
	var e *source.FindersError
	if !errors.As(err, &e) {
		return nil, &reason.Error{Code: reason.TimedOut, Msg: "there was no time to hear all that networks have to say", Fix: "give more with --timeout"}
	}
	for _, f := range e.Findings {
		if f.Finder == "dns" {
			code, _ := reason.Of(f.Err)
			ofDNS = &state.Source{Result: string(code), Detail: f.Err.Error()}
		}
	}
	return ofDNS, &reason.Error{Code: reason.Code(e.Reason()), Msg: "DHCP and DNS were asked", Fix: e.Hint()}
}

// errLooked keeps the search going: one finding is not all.
var errLooked = errors.New("looked at")

// finders are the agent's, without removable storage, which would be mounted, and with the servers of the command line.
func (d *diagnosis) finders(serial string) []source.Finder {
	anchors := artifacts.PlainAnchors(config.Certificates(d.cfg.Anchors.BootstrapServers))
	servers, _ := config.Servers(d.cfg.Discovery.WellKnown, anchors) // checked when it was read
	list := finders(d.cfg, leads{wellKnown: servers}, serial, nil)
	if len(d.named) > 0 {
		list = append(list, source.Static{Servers: d.named})
	}
	return list
}

// memory is a board that nobody but us sees.
type memory struct {
	mu sync.Mutex
	s  state.Status
}

// Update is part of source.Board.
func (m *memory) Update(change func(*state.Status)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(&m.s)
}

// visits are the leads and servers that were looked at. Leads come one after the other.
type visits struct {
	*diagnosis
	leads []doctor.Lead
	order []string // URLs
	found map[string]*doctor.ServerFacts
}

// ofAgent is what the agent that runs has found. Its servers are not connected to: it does that itself, and tells.
func (d *diagnosis) ofAgent() *doctor.DiscoveryFacts {
	f := &doctor.DiscoveryFacts{Interfaces: d.status.Interfaces, Looked: d.cfg.Discovery.Sources}
	for i := range f.Interfaces {
		if e := &f.Interfaces[i]; len(e.Options) > 0 {
			f.Leads = append(f.Leads, doctor.Lead{Source: "dhcp", Interface: e.Name, Servers: e.Options})
		}
	}
	return f
}

// answered reports whether some servers have been reached.
func (v *visits) answered(servers []artifacts.BootstrapServer) bool {
	for _, s := range servers {
		if !reached(v.found[urlOf(s)]) {
			return false
		}
	}
	return true
}

func reached(f *doctor.ServerFacts) bool {
	if f != nil {
		for i := range f.Attempts {
			if f.Attempts[i].Err == nil {
				return true
			}
		}
	}
	return false
}

func urlOf(s artifacts.BootstrapServer) string {
	return dhcp.Server{Host: s.Address, Port: s.Port}.String()
}

// visit connects to the servers of a lead, all at once, unless they have been reached already.
func (v *visits) visit(ctx context.Context, l source.Lead) {
	lead := doctor.Lead{Source: l.Source, Interface: l.Interface, Data: l.Bundle != nil}
	var wait sync.WaitGroup
	var fresh []*doctor.ServerFacts
	for _, s := range l.Servers {
		url := urlOf(s)
		if slices.Contains(lead.Servers, url) {
			continue
		}
		lead.Servers = append(lead.Servers, url)
		if known := v.found[url]; reached(known) {
			if known.Trusted = known.Trusted || l.Trusted; l.Source == named {
				known.Source = named
			}
			continue
		} else if known == nil && len(v.order) >= maxLooked {
			continue
		}
		if v.found[url] == nil {
			v.order = append(v.order, url)
		}
		f := &doctor.ServerFacts{URL: url, Source: l.Source, Trusted: l.Trusted, Anchors: len(v.cfg.Anchors.BootstrapServers)}
		fresh = append(fresh, f)
		wait.Go(func() { v.look(ctx, l, s, f) })
	}
	wait.Wait()
	for _, f := range fresh {
		v.found[f.URL] = f
	}
	if l.Source != named {
		v.leads = append(v.leads, lead)
	}
}

// look connects to the addresses of one server.
func (v *visits) look(ctx context.Context, l source.Lead, s artifacts.BootstrapServer, f *doctor.ServerFacts) {
	addresses, err := agent.Resolve(ctx, l, s.Address)
	if err != nil {
		f.Lookup = err
		return
	}
	addresses = addresses[:min(len(addresses), maxEach)]
	f.Attempts = make([]doctor.Attempt, len(addresses))
	var wait sync.WaitGroup
	for i, a := range addresses {
		f.Attempts[i].Address = netip.AddrPortFrom(a, s.Port).String()
		wait.Go(func() { v.connect(ctx, l, s, a, &f.Attempts[i]) })
	}
	wait.Wait()
}

// connect makes one connection, and asks for nothing. Without an identity it is one of TCP.
func (v *visits) connect(ctx context.Context, l source.Lead, s artifacts.BootstrapServer, at netip.Addr, a *doctor.Attempt) {
	ctx, cancel := context.WithTimeout(ctx, dialTime+shakeTime)
	defer cancel()
	id := v.identity().id
	var certificate tls.Certificate
	var newest uint16
	err := errors.New("there is no identity")
	if id != nil {
		certificate, newest, err = id.TLSCertificate(ctx)
	}
	if err != nil {
		v.connectOnly(ctx, l, a)
		return
	}
	session, err := restconf.Connect(ctx, restconf.Options{
		Host: s.Address, Port: s.Port, Address: at, Dial: l.Network.DialContext, Certificate: certificate, MaxVersion: newest,
		Logger: v.Logger, Timeouts: restconf.Timeouts{Dial: dialTime, Handshake: shakeTime},
	})
	if err != nil {
		a.Err = err
		return
	}
	defer session.Close()
	chain := session.PeerCertificates()
	if len(chain) > 0 {
		a.Presented = chain[0]
	}
	anchors := s.Anchors
	if !l.Trusted {
		anchors = artifacts.PlainAnchors(config.Certificates(v.cfg.Anchors.BootstrapServers))
	}
	_, a.Authentic = artifacts.AuthenticateServer(chain, s.Address, anchors, v.clock())
	a.Version = session.TLSVersion()
	a.Err = session.AwaitRefusal(refusalTime)
}

func (v *visits) connectOnly(ctx context.Context, l source.Lead, a *doctor.Attempt) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	conn, err := l.Network.DialContext(ctx, "tcp", a.Address)
	if err != nil {
		a.Err = &reason.Error{Code: restconf.CodeConnectFailed, Msg: "no connection", Err: err, Fix: "check that the server runs and listens on that port"}
		return
	}
	conn.Close()
}
