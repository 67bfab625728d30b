package source

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/link"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// Board shows what is going on; *state.Board is one.
type Board interface{ Update(func(*state.Status)) }

// DHCPOptions configure DHCP.
type DHCPOptions struct {
	System  *link.System  // required; closed by Close
	Serial  string        // of the device; the DHCP client identifiers derive from it. Empty means from the hardware address
	Timeout time.Duration // to get an address on one interface; 0 is a minute
	Board   Board         // required
	Logger  *slog.Logger  // nil discards
}

// DHCP finds bootstrap servers with DHCPv4 option 143 and DHCPv6 option 136 on every interface that may be used (RFC 8572
// §4.3, §8). Its leads are never trusted.
type DHCP struct {
	DHCPOptions
	wake  chan struct{}
	stop  context.CancelFunc
	watch sync.WaitGroup
}

// NewDHCP begins to follow the interfaces and brings up those that are down and nobody's; Close ends that.
func NewDHCP(o DHCPOptions) *DHCP {
	if o.Timeout == 0 {
		o.Timeout = time.Minute
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	ctx, stop := context.WithCancel(context.Background())
	d := &DHCP{DHCPOptions: o, wake: make(chan struct{}, 1), stop: stop}
	d.watch.Go(func() { d.follow(ctx) })
	return d
}

var _ Source = (*DHCP)(nil)

// Name returns "dhcp".
func (*DHCP) Name() string { return "dhcp" }

// Wake returns a channel that says that an interface has become usable since the last Discover, so that a new round makes
// sense before its time. An interface that flaps says so every wakeSpacing at most.
func (d *DHCP) Wake() <-chan struct{} { return d.wake }

// wakeSpacing keeps a faulty cable from making the agent hurry.
const wakeSpacing = 10 * time.Second

// Close stops following the interfaces and undoes everything that was done to them. No Discover may be running.
func (d *DHCP) Close() error {
	d.stop()
	d.watch.Wait()
	return d.System.Close()
}

// follow brings up interfaces as they appear, shows them, and says when one becomes usable.
func (d *DHCP) follow(ctx context.Context) {
	known := map[int]bool{}
	news := false
	var spacing <-chan time.Time // runs only after an interface has become usable
	for {
		links, changed := d.System.Links()
		d.System.Raise()
		d.showLinks()
		for _, l := range links {
			news = news || l.Usable() && !known[l.Index]
			known[l.Index] = l.Usable()
		}
		if news && spacing == nil {
			news, spacing = false, time.After(wakeSpacing)
			select {
			case d.wake <- struct{}{}:
			default:
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-spacing:
			spacing = nil
		}
	}
}

// Discover tries both families on all usable interfaces at once, and those that become usable meanwhile. Visits happen one
// after the other, each while the lease that led to it is held. Without any usable interface it waits for one, unless
// the machine is connected by one that the agent does not use.
func (d *DHCP) Discover(ctx context.Context, visit func(context.Context, Lead) error) error {
	return d.discover(ctx, visit, nil)
}

// discover is Discover; with wellKnown it uses the networks for those servers instead of the ones that DHCP names, and only
// those that nobody else configures.
func (d *DHCP) discover(ctx context.Context, visit func(context.Context, Lead) error, wellKnown []artifacts.BootstrapServer) error {
	if err := d.awaitLink(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := &round{DHCP: d, visit: visit, wellKnown: wellKnown, results: make(chan result), running: map[int]*tries{}}
	err := r.run(ctx, cancel)
	if ctx.Err() != nil && err != nil {
		return context.Cause(ctx)
	}
	return err
}

// awaitLink blocks until an interface is usable. No timer runs.
func (d *DHCP) awaitLink(ctx context.Context) error {
	drain(d.wake)
	waiting := false
	err := d.System.Await(ctx, func(links []link.Link) bool {
		usable, elsewhere := connected(links)
		if usable || elsewhere {
			return true
		}
		if !waiting {
			waiting = true
			d.Logger.Info("waiting for a network interface with a carrier")
			d.Board.Update(func(s *state.Status) {
				s.Phase, s.Reason = state.PhaseWaitingForLink, &state.Reason{
					Code: string(errNoLink.Code), Message: errNoLink.Msg, Hint: errNoLink.Fix, At: time.Now().UTC(),
				}
			})
		}
		return false
	})
	if err != nil {
		return context.Cause(ctx)
	}
	if waiting {
		d.Board.Update(func(s *state.Status) { s.Phase, s.Reason = state.PhaseDiscovering, nil })
	}
	links, _ := d.System.Links()
	if usable, _ := connected(links); !usable {
		return errNoLink
	}
	return nil
}

func drain(ch <-chan struct{}) {
	select {
	case <-ch:
	default:
	}
}

// connected reports whether any interface is usable, and whether one that the agent does not use has an address.
func connected(links []link.Link) (usable, elsewhere bool) {
	for i := range links {
		l := &links[i]
		usable = usable || l.Usable()
		elsewhere = elsewhere || l.Skip != "" && l.Carrier && len(l.Global(false))+len(l.Global(true)) > 0
	}
	return usable, elsewhere
}

// round is one pass over the interfaces.
type round struct {
	*DHCP
	visit     func(context.Context, Lead) error
	visiting  sync.Mutex // visits are serial
	won       bool       // a visit succeeded; guarded by visiting
	wellKnown []artifacts.BootstrapServer
	results   chan result
	running   map[int]*tries // by interface index
}

// tries are what happens on one interface.
type tries struct {
	begun  int // how often in this round; bounds what a flapping interface can cause
	active int
	cancel context.CancelFunc
}

const maxTries = 3

// result is how one family on one interface ended.
type result struct {
	link    link.Link
	family  family
	visited bool
	err     error
}

// run starts and stops attempts as interfaces come and go, until one has succeeded or all have ended.
func (r *round) run(ctx context.Context, cancel context.CancelFunc) error {
	var failures, visits []error
	succeeded, active := false, 0
	for {
		links, changed := r.System.Links()
		if ctx.Err() == nil {
			active += r.adjust(ctx, links)
		}
		if active == 0 {
			break
		}
		select {
		case <-changed:
			continue
		case res := <-r.results:
			active--
			r.running[res.link.Index].active--
			r.showLinks()
			switch {
			case res.visited && res.err == nil:
				succeeded = true
				cancel()
			case res.visited:
				visits = append(visits, res.err)
			default:
				failures = append(failures, &attemptError{res.link.Name, res.family, res.err})
			}
		}
	}
	switch {
	case succeeded:
		return nil
	case len(visits) > 0:
		return errors.Join(visits...)
	}
	return explain(failures)
}

// adjust starts attempts on newly usable interfaces, ends those on interfaces that no longer are unless they have come to a
// visit, and returns how many it started.
func (r *round) adjust(ctx context.Context, links []link.Link) (started int) {
	usable := map[int]bool{}
	for _, l := range links {
		if !l.Usable() || r.wellKnown != nil && l.Managed != "" {
			continue
		}
		usable[l.Index] = true
		t := r.running[l.Index]
		if t == nil {
			t = &tries{}
			r.running[l.Index] = t
		}
		if t.active > 0 || t.begun == maxTries || t.begun > 0 && t.cancel != nil {
			continue
		}
		drain(r.wake)
		plugged, cancel := context.WithCancel(ctx)
		t.begun, t.cancel = t.begun+1, cancel
		for _, f := range []family{ipv4, ipv6} {
			t.active++
			started++
			go func() {
				a := &attempt{round: r, link: l, family: f}
				visited, err := a.run(ctx, plugged)
				r.results <- result{l, f, visited, err}
			}()
		}
	}
	for index, t := range r.running {
		if !usable[index] && t.cancel != nil {
			t.cancel()
			t.cancel = nil // the interface may be tried anew once these attempts have ended
		}
	}
	return started
}
