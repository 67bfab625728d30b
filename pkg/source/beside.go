package source

import (
	"context"

	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// Beside returns the source of networks, during which what is plugged in gets its turn at once, unless a visit is under way:
// networks may have to be waited for without end. s must be one of the finders of networks.
func (s *Storage) Beside(networks *Networks) Source {
	return &beside{networks, s, make(chan struct{}, 1)}
}

type beside struct {
	networks *Networks
	storage  *Storage
	turn     chan struct{} // full during a visit
}

// Name is that of the networks.
func (b *beside) Name() string { return b.networks.Name() }

// maxRestarts bounds how often something that is plugged in can make one round of the networks begin anew.
const maxRestarts = 3

// Discover is that of the networks.
func (b *beside) Discover(ctx context.Context, visit func(context.Context, Lead) error) error {
	if len(b.networks.active()) == 0 {
		return &passing{&reason.Error{Code: NoServer, Msg: "nothing has led to a server on a network"}}
	}
	if !b.isConnected() && len(b.storage.unseen()) > 0 { // storage comes after the networks, which may never come
		notify(b.storage.arrived)
	}
	for restarts := 0; ; restarts++ {
		again, err := b.discover(ctx, visit, restarts < maxRestarts)
		if !again || ctx.Err() != nil {
			return err
		}
	}
}

// discover makes one round of the networks. again says that it was cut short because something that was plugged in leads to
// servers, for which the networks have to be tried that were done with already.
func (b *beside) discover(ctx context.Context, visit func(context.Context, Lead) error, mayRestart bool) (again bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ended := make(chan error, 1)
	go func() {
		ended <- b.networks.Discover(ctx, func(ctx context.Context, l Lead) error { return b.inTurn(ctx, l, visit) })
	}()
	var turn chan<- struct{} // nil while nothing was plugged in
	for {
		select {
		case err := <-ended:
			return false, err
		case <-b.storage.arrived:
			turn = b.turn
		case turn <- struct{}{}:
			turn = nil
			won, leads := b.visitArrivals(ctx, visit)
			again := leads && mayRestart
			if won || again {
				cancel(errOver)
			}
			<-b.turn
			switch {
			case won:
				<-ended
				return false, nil
			case again:
				return true, <-ended
			}
		}
	}
}

// inTurn makes a visit for the networks when no other is under way.
func (b *beside) inTurn(ctx context.Context, l Lead, visit func(context.Context, Lead) error) error {
	select {
	case b.turn <- struct{}{}:
		defer func() { <-b.turn }()
	case <-ctx.Done():
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return visit(ctx, l)
}

// visitArrivals visits what was plugged in. leads says that some of it needs a network.
func (b *beside) visitArrivals(ctx context.Context, visit func(context.Context, Lead) error) (won, leads bool) {
	disks := b.storage.unseen()
	before := len(b.storage.needNetwork())
	err := b.storage.visitAll(ctx, disks, visit)
	if err == nil || ctx.Err() != nil {
		return err == nil, false
	}
	why := shown(err)
	b.networks.Board.Update(func(s *state.Status) {
		s.ShowSource(state.Source{Name: b.storage.Name(), Tried: why.At, Result: why.Code, Detail: why.Message})
		if b.isConnected() { // decided here, so that whoever finds a connection has the last word
			return
		}
		links, _ := b.networks.System.Links()
		s.Phase, s.Reason = state.PhaseWaitingForLink, shown(b.networks.whyWaiting(links))
	})
	if len(disks) > 0 {
		b.networks.Logger.Info("nothing came of what was plugged in", "reason", why.Code, "error", why.Message)
	}
	return false, len(b.storage.needNetwork()) > before
}

// isConnected reports whether networks need not be waited for.
func (b *beside) isConnected() bool {
	links, _ := b.networks.System.Links()
	usable, elsewhere := connected(links)
	return usable || elsewhere
}

// News returns the source of what was plugged in since removable storage was last visited, for whoever heard of it by Arrivals
// while no round is on. When it leads to servers, networks wakes up those who wait for the next one.
func (s *Storage) News(networks *Networks) Source { return &news{s, networks} }

type news struct {
	storage  *Storage
	networks *Networks
}

// Name is that of removable storage.
func (n *news) Name() string { return n.storage.Name() }

// Discover visits what was not visited yet.
func (n *news) Discover(ctx context.Context, visit func(context.Context, Lead) error) error {
	disks := n.storage.unseen()
	before := len(n.storage.needNetwork())
	err := n.storage.visitAll(ctx, disks, visit)
	if len(n.storage.needNetwork()) > before {
		notify(n.networks.wake)
	}
	return err
}

// active are the finders that have something to look for.
func (d *Networks) active() (list []Finder) {
	for _, f := range d.Finders {
		if s, ok := f.(*Storage); !ok || len(s.needNetwork()) > 0 {
			list = append(list, f)
		}
	}
	return list
}
