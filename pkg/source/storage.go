package source

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"github.com/xpu-sztp/ztp/pkg/storage"
)

// Storage finds bootstrapping data on removable storage (RFC 8572 §4.1). As a Source it visits what is there without any
// network. What turns out to need one, such as a redirect, it visits again as a Finder, by way of each uplink. Its leads are
// never trusted.
type Storage struct {
	StorageOptions
	arrived chan struct{} // something was plugged in that was not visited, or pulled out

	mu     sync.Mutex
	seen   map[string]bool          // disks that were visited, by their key
	pulled bool                     // one of these is gone since Changed
	turns  map[string]chan struct{} // of those who read a disk, by its key
	online []*place                 // what needs a network, in the order to visit
	latest error                    // why storage has led to nothing
}

// StorageOptions configure Storage.
type StorageOptions struct {
	Devices Devices
	Serial  string       // of the device
	Logger  *slog.Logger // nil discards
}

// NewStorage returns the source. Somebody has to call Changed.
func NewStorage(o StorageOptions) *Storage {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Storage{StorageOptions: o, arrived: make(chan struct{}, 1), seen: map[string]bool{}, turns: map[string]chan struct{}{}}
}

var (
	_ Source = (*Storage)(nil)
	_ Finder = (*Storage)(nil)
)

// Name returns "removable-storage".
func (*Storage) Name() string { return "removable-storage" }

// Discover visits what is on all removable storage. It never waits for any.
func (s *Storage) Discover(ctx context.Context, visit func(context.Context, Lead) error) error {
	drain(s.arrived)
	s.mu.Lock()
	s.online = nil
	s.mu.Unlock()
	return s.visitAll(ctx, s.Devices.Disks(), visit)
}

// visitAll visits what is on the disks, until something has led to success.
func (s *Storage) visitAll(ctx context.Context, disks []*storage.Disk, visit func(context.Context, Lead) error) error {
	var failures []error
	for _, d := range disks {
		s.mu.Lock()
		s.seen[d.Key()] = true
		s.mu.Unlock()
		places, failed := s.look(ctx, d)
		failures = append(failures, failed...)
		for _, p := range places {
			offline := &Offline{}
			err := s.visit(ctx, p, "", offline, visit)
			if err == nil || ctx.Err() != nil {
				return err
			}
			if failures = append(failures, err); offline.asked.Load() {
				s.mu.Lock()
				s.online = append(s.online, p)
				s.mu.Unlock()
			}
		}
	}
	fresh := len(disks) > 0 || len(s.Devices.Disks()) == 0
	s.mu.Lock()
	defer s.mu.Unlock()
	if fresh { // otherwise what was said before still holds
		s.latest = explainStorage(failures)
	}
	return s.latest
}

// failure is why storage has led to nothing, or nil before it was looked at.
func (s *Storage) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.latest
}

// Find visits what was found to need a network.
func (s *Storage) Find(ctx context.Context, u *Uplink, visit func(Lead) error) error {
	var visits []error
	for _, p := range s.needNetwork() {
		err := s.visit(ctx, p, u.Interface, u.Network, func(_ context.Context, l Lead) error { return visit(l) })
		if err == nil || ctx.Err() != nil {
			return err
		}
		visits = append(visits, err)
	}
	if len(visits) == 0 {
		return ErrNothing
	}
	return errors.Join(visits...)
}

func (s *Storage) needNetwork() []*place {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.online)
}

// visit reads what is at p and visits it.
func (s *Storage) visit(ctx context.Context, p *place, ifname string, network Network, visit func(context.Context, Lead) error) error {
	bundle, err := s.load(ctx, p)
	if err != nil {
		s.Logger.Warn("data on removable storage is refused", "place", p.String(), "error", err)
		return err
	}
	err = visit(ctx, Lead{Source: s.Name(), Interface: ifname, Bundle: bundle, Place: p.String(), Files: s.Devices.Files(p.partition), Network: network})
	if err != nil {
		return fmt.Errorf("%s: %w", p, err)
	}
	return nil
}

// Changed makes the source look what has been plugged in. Call it whenever block devices have come, gone or changed.
func (s *Storage) Changed() {
	news := s.unseen()
	s.mu.Lock()
	pulled := s.pulled
	s.pulled = false
	s.mu.Unlock()
	if pulled || len(news) > 0 {
		notify(s.arrived)
	}
}

// Arrivals returns a channel that says that something was plugged in that was not visited, or pulled out that was: what is said
// of it then no longer holds.
func (s *Storage) Arrivals() <-chan struct{} { return s.arrived }

// unseen returns the disks that were not visited, and forgets those that are gone with what led from there to servers.
func (s *Storage) unseen() (news []*storage.Disk) {
	present := map[string]bool{}
	disks := s.Devices.Disks()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range disks {
		present[d.Key()] = true
		if !s.seen[d.Key()] {
			news = append(news, d)
		}
	}
	for key := range s.seen {
		if !present[key] {
			delete(s.seen, key)
			delete(s.turns, key)
			s.pulled = true
		}
	}
	s.online = slices.DeleteFunc(s.online, func(p *place) bool { return !present[p.disk.Key()] })
	return news
}

func notify(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
