package source

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/xpu-sztp/ztp/dhcp"
	"github.com/xpu-sztp/ztp/pkg/config"
	"github.com/xpu-sztp/ztp/pkg/link"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// Board shows what is going on; *state.Board is one.
type Board interface{ Update(func(*state.Status)) }

// NetworksOptions configure Networks.
type NetworksOptions struct {
	System  *link.System  // required; closed by Close
	Serial  string        // of the device; the DHCP client identifiers derive from it. Empty means from the hardware address
	Timeout time.Duration // to get an address on one interface; 0 is a minute
	Finders []Finder      // where to look on each uplink, in order
	Board   Board         // required
	Logger  *slog.Logger  // nil discards
	// VendorClass is DHCPv4 option 60; empty sends none.
	VendorClass string
	// Static tells how an interface is configured on a network without DHCP; nil, or a nil answer, means by DHCP.
	Static func(ifname string) *config.Static
	// KeepDown leaves interfaces down that are.
	KeepDown bool
	// Spread is how long to wait when a carrier was waited for and is there; nil is not at all.
	Spread func() time.Duration
}

// Networks is the source of everything that is found through a network: it gets every interface that may be used onto its
// network, both families at once, and has each finder look there in turn.
type Networks struct {
	NetworksOptions
	wake  chan struct{}
	stop  context.CancelFunc
	watch sync.WaitGroup

	mu    sync.Mutex
	dhcp  map[int]*dhcp.Servers // what came of DHCP servers, by interface index
	tried map[int]int           // the latest life of each interface that a round has tried
	told  map[int]int           // and the latest that a wake was about
	quiet time.Time             // no wake before
}

// NewNetworks begins to follow the interfaces and brings up those that are down and nobody's, unless KeepDown; Close ends that.
func NewNetworks(o NetworksOptions) *Networks {
	if o.Timeout == 0 {
		o.Timeout = time.Minute
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	ctx, stop := context.WithCancel(context.Background())
	d := &Networks{NetworksOptions: o, wake: make(chan struct{}, 1), stop: stop, tried: map[int]int{}}
	d.watch.Go(func() { d.follow(ctx) })
	return d
}

var _ Source = (*Networks)(nil)

// Name returns the names of the finders.
func (d *Networks) Name() string {
	var names []string
	for _, f := range d.Finders {
		names = append(names, f.Name())
	}
	return strings.Join(names, ", ")
}

// Wake returns a channel that says that an interface has become usable that no Discover has tried since, so that a new round
// makes sense before its time. It says so every wakeSpacing at most, however an interface flaps.
func (d *Networks) Wake() <-chan struct{} { return d.wake }

// wakeSpacing keeps a faulty cable from making the agent hurry.
const wakeSpacing = 10 * time.Second

// maxNetworks bounds of how many interfaces the DHCP servers are remembered.
const maxNetworks = 256

// dhcpServers returns what is remembered of the DHCP servers on an interface.
func (d *Networks) dhcpServers(index int) *dhcp.Servers {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dhcp == nil || len(d.dhcp) >= maxNetworks {
		d.dhcp = map[int]*dhcp.Servers{}
	}
	if d.dhcp[index] == nil {
		d.dhcp[index] = new(dhcp.Servers)
	}
	return d.dhcp[index]
}

// Close stops following the interfaces and undoes everything that was done to them. No Discover may be running.
func (d *Networks) Close() error {
	d.stop()
	d.watch.Wait()
	return d.System.Close()
}

// follow brings up interfaces as they appear, shows them, and says when one becomes usable.
func (d *Networks) follow(ctx context.Context) {
	for {
		links, changed := d.System.Links()
		if !d.KeepDown {
			d.System.Raise()
		}
		d.showLinks()
		var later <-chan time.Time // runs only while there is something to tell
		if wait := d.tell(links, time.Now()); wait > 0 {
			later = time.After(wait)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-later:
		}
	}
}

// tell wakes whoever waits for it when an interface has become usable that was neither tried nor told of. When that is too
// early it returns for how long. With no such interface left a wake that nobody has received yet is taken back.
func (d *Networks) tell(links []link.Link, now time.Time) (wait time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	untried, news := false, false
	told, tried := d.told, d.tried
	d.told, d.tried = map[int]int{}, map[int]int{} // without interfaces that are gone
	for _, l := range links {
		d.told[l.Index], d.tried[l.Index] = told[l.Index], tried[l.Index]
		untried = untried || l.Usable() && l.Life > tried[l.Index]
		news = news || l.Usable() && l.Life > max(tried[l.Index], told[l.Index])
	}
	if !untried {
		d.takeBack()
	}
	if !news {
		return 0
	}
	if wait = d.quiet.Sub(now); wait > 0 {
		return wait
	}
	for _, l := range links {
		if l.Usable() {
			d.told[l.Index] = l.Life
		}
	}
	d.quiet = now.Add(wakeSpacing)
	select {
	case d.wake <- struct{}{}:
	default:
	}
	return 0
}

// trying notes that a round tries an interface: a wake about it would be for nothing.
func (d *Networks) trying(l link.Link) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tried[l.Index] = l.Life
	for index, life := range d.told {
		if life > d.tried[index] {
			return
		}
	}
	d.takeBack()
}

// takeBack makes a wake undone that nobody has received: the next one need not keep its distance.
func (d *Networks) takeBack() {
	if drain(d.wake) {
		d.quiet = time.Time{}
	}
}

// Discover tries both families on all usable interfaces at once, and those that become usable meanwhile. Visits happen one
// after the other, each while the lease that led to it is held. Without any usable interface it waits for one, unless the
// machine is connected by one that the agent does not use: then the finders look through the machine's own network. Its
// error is a *FindersError unless ctx ended.
func (d *Networks) Discover(ctx context.Context, visit func(context.Context, Lead) error) error {
	if err := d.awaitLink(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := &round{Networks: d, visit: visit, results: make(chan result), running: map[int]*tries{}}
	err := r.run(ctx, cancel)
	if ctx.Err() != nil && err != nil {
		return context.Cause(ctx)
	}
	return err
}

// whyWaiting is what a person needs to know while no interface is usable: what is wrong with the stick that was plugged in
// for this device, if one was, and otherwise that there is no carrier.
func (d *Networks) whyWaiting(links []link.Link) error {
	for _, f := range d.Finders {
		if s, ok := f.(*Storage); ok {
			if err := s.failure(); err != nil && !errors.Is(err, ErrNothing) {
				return err
			}
		}
	}
	return noLink(links)
}

// raising is how long interfaces that were just brought up may take to find their carrier before a person needs to know.
const raising = time.Second

// awaitLink blocks until an interface is usable. Once it has said so, no timer runs.
func (d *Networks) awaitLink(ctx context.Context) error {
	quiet, cancel := context.WithTimeout(ctx, raising)
	defer cancel()
	if d.System.Await(quiet, func(links []link.Link) bool {
		usable, _ := connected(links) // the machine's own network is for when there is nothing else
		return usable
	}) == nil {
		return nil
	}
	waiting, said := false, ""
	err := d.System.Await(ctx, func(links []link.Link) bool {
		usable, elsewhere := connected(links)
		if usable || elsewhere {
			return true
		}
		if !waiting {
			waiting = true
			d.Logger.Info("waiting for a network interface with a carrier")
		}
		if why := d.whyWaiting(links); why.Error() != said {
			said = why.Error()
			d.Board.Update(func(s *state.Status) { s.Phase, s.Reason = state.PhaseWaitingForLink, shown(why) })
		}
		return false
	})
	if err != nil {
		return context.Cause(ctx)
	}
	if waiting {
		d.Board.Update(func(s *state.Status) { s.Phase, s.Reason = state.PhaseDiscovering, nil })
		return d.spread(ctx)
	}
	return nil
}

// spread keeps devices apart that have waited for the same switch.
func (d *Networks) spread(ctx context.Context) error {
	if d.Spread == nil || d.Spread() == 0 {
		return nil
	}
	select {
	case <-time.After(d.Spread()):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// drain reports whether there was something in ch, which it takes out.
func drain(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
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
