package link

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/xpu-sztp/ztp/dhcp"
	"github.com/xpu-sztp/ztp/pkg/link/rtnetlink"
	"golang.org/x/sys/unix"
)

// Options configure a System.
type Options struct {
	Include []string // globs of interface names; empty means all
	Exclude []string // globs; stronger than Include
	// Record is a file, in a folder that is emptied at boot, for what was changed on the system.
	Record string
	// Patience is how long to wait for another process that changes the network and will be done with it soon.
	Patience time.Duration
	Run      string // where network managers keep their state; "/run" when empty
	// Resolver is the system's resolv.conf(5); "/etc/resolv.conf" when empty.
	Resolver string
	Logger   *slog.Logger // nil discards
}

// System is the network of the machine, or of the network namespace, that the process runs in.
type System struct {
	turn     *os.File // keeps other processes from changing the network; may be nil
	watcher  watcher
	changes  changes
	resolver string // resolv.conf(5)
	log      *slog.Logger
	mu       sync.Mutex
	raised   map[int]bool // interfaces that were brought up or could not be
	hopeful  map[int]bool // interfaces that use addresses optimistically
	leases   []*Lease     // those that are applied
	naming   sync.Mutex   // so that no older list of names comes last
}

// Open undoes what a crashed predecessor left behind and begins to follow the interfaces. It fails with ErrInUse while another
// process does, who would lose what it is using.
func Open(o Options) (*System, error) {
	o.defaults()
	s := &System{log: o.Logger, changes: changes{file: o.Record, run: o.Run}, resolver: o.Resolver, raised: map[int]bool{}, hopeful: map[int]bool{}}
	var err error
	if s.turn, err = takeTurn(o.Record, o.Patience); errors.Is(err, ErrInUse) {
		return nil, err
	} else if err != nil {
		s.log.Warn("cannot keep other processes of ztp from changing the network", "error", err)
	}
	if err := s.changes.load(); err != nil {
		s.log.Warn("cannot read which network changes an earlier run left behind", "file", o.Record, "error", err)
		if err := sweep(); err != nil {
			s.log.Warn("cannot undo network changes of an earlier run", "error", err)
		}
	}
	if err := s.changes.undoAll(); err != nil {
		s.log.Warn("cannot undo network changes of an earlier run", "error", err)
	}
	s.watcher = watcher{include: o.Include, exclude: o.Exclude, run: o.Run, ours: s.changes.addresses,
		news: s.followNames, log: o.Logger}
	if err := s.watcher.start(); err != nil {
		s.turn.Close()
		return nil, fmt.Errorf("follow network interfaces: %w", err)
	}
	return s, nil
}

// Links returns all interfaces, which the caller must not modify, and a channel that is closed at the next change to any.
func (s *System) Links() ([]Link, <-chan struct{}) { return s.watcher.snapshot() }

// Await blocks until cond holds for the interfaces or ctx ends. Nothing runs while nothing changes.
func (s *System) Await(ctx context.Context, cond func([]Link) bool) error {
	return s.watcher.await(ctx, cond)
}

// AwaitLink blocks until cond holds for the interface with the given index; cond gets nil when it is gone.
func (s *System) AwaitLink(ctx context.Context, index int, cond func(*Link) bool) error {
	return s.Await(ctx, func(links []Link) bool {
		i := slices.IndexFunc(links, func(l Link) bool { return l.Index == index })
		if i < 0 {
			return cond(nil)
		}
		return cond(&links[i])
	})
}

// Close undoes every change that is left and ends the subscription.
func (s *System) Close() error {
	err := s.changes.undoAll()
	s.watcher.close()
	s.turn.Close()
	return err
}

// ErrDuplicate is returned by Apply when another host uses the leased address.
var ErrDuplicate = errors.New("another host uses the address")

// infiniteLease is what an address lives that was leased for ever, so that even a crash leaves nothing permanent.
const infiniteLease = 7 * 24 * time.Hour

// Lease is a DHCP lease that was applied to an interface.
type Lease struct {
	system  *System
	link    Link
	address netip.Prefix

	mu   sync.Mutex
	made []change
	name string // of the interface now
}

// Apply gives the interface the leased address, and routes in a table of its own, and waits until the address may be used: after
// duplicate address detection, or at once where that is optimistic; then AwaitUnique tells how it ends. When it fails nothing is left
// applied.
func (s *System) Apply(ctx context.Context, l Link, lease *dhcp.Lease) (*Lease, error) {
	a := &Lease{system: s, link: l, name: l.Name, address: lease.Address}
	err := a.apply(ctx, lease)
	if err != nil {
		return nil, errors.Join(err, a.Remove())
	}
	s.mu.Lock()
	s.leases = append(s.leases, a)
	s.mu.Unlock()
	s.followNames()
	return a, nil
}

func (a *Lease) apply(ctx context.Context, lease *dhcp.Lease) error {
	if !lease.Address.IsValid() {
		return nil
	}
	if a.system.needs(lease.Address.Addr()) {
		return fmt.Errorf("%v is the address of a router or name server of this machine, which would lose it", lease.Address.Addr())
	}
	c := change{Kind: "address", Index: a.link.Index, Interface: a.link.Name, Prefix: lease.Address}
	if err := a.do(c, leased(a.link.Index, lease).Add); err != nil {
		return fmt.Errorf("add address %v: %w", lease.Address, err)
	}
	if lease.Address.Addr().Is6() { // which routes cannot name before duplicate address detection allows it
		if err := a.awaitAddress(ctx); err != nil {
			return err
		}
		err := a.route(lease)
		if err != nil {
			err = cmp.Or(a.awaitAddress(ctx), err) // one that was used optimistically may be gone
		}
		return err
	}
	if err := a.route(lease); err != nil {
		return err
	}
	return a.awaitAddress(ctx)
}

// do makes a change unless the same is there already, which then is somebody else's.
func (a *Lease) do(c change, apply func() error) error {
	err := a.system.changes.do(c, apply)
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	if err == nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.made = append(a.made, c)
	}
	return err
}

// awaitAddress waits for the end of duplicate address detection. The kernel removes an expiring address that fails it.
func (a *Lease) awaitAddress(ctx context.Context) error {
	// The list must not be older than the address, or a missing address would mean nothing.
	if err := a.system.watcher.refresh(); err != nil {
		return err
	}
	duplicate, gone := false, false
	err := a.system.AwaitLink(ctx, a.link.Index, func(l *Link) bool {
		if gone = l == nil; gone {
			return true
		}
		duplicate = true
		for _, addr := range l.Addresses {
			if addr.Prefix == a.address {
				duplicate = addr.Duplicate
				return !addr.Tentative || addr.Duplicate
			}
		}
		return true
	})
	switch {
	case err != nil:
		return fmt.Errorf("wait for address %v: %w", a.address, err)
	case gone:
		return fmt.Errorf("the interface %s vanished", a.link.Name)
	case duplicate:
		return fmt.Errorf("%v: %w", a.address.Addr(), ErrDuplicate)
	}
	return nil
}

// Extend prolongs the life of the address as a renewed lease says.
func (a *Lease) Extend(lease *dhcp.Lease) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.made) == 0 || !lease.Address.IsValid() {
		return nil
	}
	return leased(a.link.Index, lease).Replace()
}

// TakenOver reports whether somebody else has leased the same address meanwhile, so that the lease is no longer ours to give
// back.
func (a *Lease) TakenOver() bool { return slices.ContainsFunc(a.made, a.system.changes.takenOver) }

// Remove undoes everything. It may be called more than once.
func (a *Lease) Remove() error {
	if a.system == nil { // nothing was applied
		return nil
	}
	a.system.mu.Lock()
	a.system.leases = slices.DeleteFunc(a.system.leases, func(other *Lease) bool { return other == a })
	a.system.mu.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	var errs []error
	for _, c := range slices.Backward(a.made) {
		errs = append(errs, a.system.changes.undo(c))
	}
	a.made = nil
	return errors.Join(errs...)
}

// leased is the leased address without a prefix route, which would get a metric stronger than other people's routes.
func leased(index int, lease *dhcp.Lease) *rtnetlink.Address {
	valid := lease.Valid
	if valid == 0 {
		valid = infiniteLease
	}
	preferred := lease.Preferred
	if preferred == 0 || preferred > valid {
		preferred = valid
	}
	flags := uint32(unix.IFA_F_NOPREFIXROUTE)
	if lease.Address.Addr().Is6() {
		flags |= unix.IFA_F_OPTIMISTIC // as RFC 4429 §3.1 allows for addresses from DHCPv6; the kernel does it where hope has told it to
	}
	return &rtnetlink.Address{Index: index, Prefix: lease.Address, Flags: flags, Valid: seconds(valid), Preferred: seconds(preferred)}
}

// seconds stays below what the kernel takes for "for ever".
func seconds(d time.Duration) uint32 { return uint32(min(d/time.Second, 0x7fffffff)) }

// DefaultRecord is where the record of changes is kept below the root folder.
func DefaultRecord(root string) string { return filepath.Join(root, "run/ztp/network.json") }
