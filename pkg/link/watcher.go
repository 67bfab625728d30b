package link

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// settle is how far apart the interfaces are read. The first change of a burst is seen at once, because a device waits for it.
const settle = 20 * time.Millisecond

// watcher keeps the list of interfaces current. It blocks in the kernel while nothing happens: no timer runs.
type watcher struct {
	include, exclude []string
	run              string
	ours             func() ownAddresses
	news             func() // called with every new list, before those who wait are told
	log              *slog.Logger
	advertised       advertised

	reading sync.Mutex // one refresh at a time, so that none stores what is older
	lives   int        // how many interfaces have had; guarded by reading
	mu      sync.Mutex
	links   []Link
	changed chan struct{} // closed and replaced at every change
	socket  *nl.NetlinkSocket
	inotify *os.File
	routers *os.File // may be nil
	closed  bool
	done    sync.WaitGroup
}

// start subscribes and reads the interfaces for the first time.
func (w *watcher) start() error {
	w.changed = make(chan struct{})
	if err := w.subscribe(); err != nil {
		return err
	}
	if err := w.refresh(); err != nil {
		w.socket.Close()
		return err
	}
	events := make(chan struct{}, 1)
	w.done.Go(func() { w.follow(events) })
	w.done.Go(func() { w.refreshOn(events) })
	w.watchManagers(events)
	var err error
	if w.routers, err = w.listenRouters(); err != nil {
		w.log.Info("cannot listen to router advertisements; the kernel may, but forgets the name servers that they bring", "error", err)
	}
	return nil
}

func (w *watcher) subscribe() error {
	s, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
		unix.RTNLGRP_IPV6_IFINFO)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		s.Close()
		return os.ErrClosed
	}
	w.socket = s
	return nil
}

// follow turns netlink messages into events. Their content does not matter, because everything is read again: that way an
// overrun of the socket's buffer (ENOBUFS), which loses messages, does no harm.
func (w *watcher) follow(events chan<- struct{}) {
	defer close(events)
	for {
		w.mu.Lock()
		socket := w.socket
		w.mu.Unlock()
		_, _, err := socket.Receive()
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil {
			w.log.Debug("netlink subscription failed; subscribing anew", "error", err)
			socket.Close()
			for w.subscribe() != nil {
				if w.isClosed() {
					return
				}
				time.Sleep(time.Second) // out of file descriptors or memory
			}
		}
		notify(events)
	}
}

func notify(events chan<- struct{}) {
	select {
	case events <- struct{}{}:
	default:
	}
}

func (w *watcher) refreshOn(events <-chan struct{}) {
	for range events {
		if err := w.refresh(); err != nil {
			w.log.Warn("cannot list network interfaces", "error", err)
		}
		time.Sleep(settle) // what happens meanwhile is one more event
	}
}

// watchManagers makes events of changes in the files of systemd-networkd and NetworkManager, which may decide about an
// interface without any change to it, and of the folders that they make when they start.
func (w *watcher) watchManagers(events chan<- struct{}) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return
	}
	watch := func() {
		for _, dir := range []string{networkdLinks, managerDevices} {
			file := filepath.Join(w.run, dir)
			unix.InotifyAddWatch(fd, file, unix.IN_MOVED_TO|unix.IN_CLOSE_WRITE|unix.IN_DELETE)
			for parent := filepath.Dir(file); len(parent) >= len(w.run); parent = filepath.Dir(parent) {
				unix.InotifyAddWatch(fd, parent, unix.IN_MOVED_TO|unix.IN_CREATE)
			}
		}
	}
	watch()
	f := os.NewFile(uintptr(fd), "inotify")
	w.inotify = f
	inner := make(chan struct{}, 1)
	w.done.Go(func() {
		defer close(inner)
		for buf := make([]byte, 4096); ; {
			if _, err := f.Read(buf); err != nil {
				return
			}
			watch()
			notify(inner)
		}
	})
	w.done.Go(func() { w.refreshOn(inner) })
}

// refresh reads the interfaces and tells those who wait when anything changed.
func (w *watcher) refresh() error {
	w.reading.Lock()
	defer w.reading.Unlock()
	before := w.ours() // one of these may be taken away, and forgotten, after it was listed
	links, err := list()
	if err != nil {
		return err
	}
	now := w.ours()
	ours := func(index int, a netip.Addr) bool { return before.has(index, a) || now.has(index, a) }
	for i := range links {
		l := &links[i]
		l.Skip = skip(l, w.include, w.exclude)
		l.Managed, l.Settled = managedBy(l, w.run, ours)
	}
	w.advertised.forget(func(index int) bool {
		return slices.ContainsFunc(links, func(l Link) bool { return l.Index == index && l.Carrier })
	})
	for i := range links {
		links[i].Router = w.advertised.of(links[i].Index, links[i].Router, time.Now())
	}
	known, _ := w.snapshot()
	for i := range links {
		w.live(&links[i], known)
	}
	if reflect.DeepEqual(links, known) {
		return nil
	}
	w.mu.Lock()
	w.links = links
	w.mu.Unlock()
	w.news()
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.changed)
	w.changed = make(chan struct{})
	return nil
}

// live tells whether an interface goes on with its life. Who looks at the list now and then, as the watcher itself does, would
// not see it flap, nor that another interface has got the index of one that is gone.
func (w *watcher) live(l *Link, links []Link) {
	for _, before := range links {
		same := before.Index == l.Index && bytes.Equal(before.MAC, l.MAC) && before.Managed == l.Managed
		if same && before.carriers == l.carriers && (before.Usable() || !l.Usable()) {
			l.Life = before.Life
			return
		}
	}
	w.lives++
	l.Life = w.lives
}

func (w *watcher) snapshot() ([]Link, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.links, w.changed
}

func (w *watcher) isClosed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.closed
}

func (w *watcher) close() {
	w.mu.Lock()
	w.closed = true
	w.socket.Close()
	if w.inotify != nil {
		w.inotify.Close()
	}
	if w.routers != nil {
		w.routers.Close()
	}
	w.mu.Unlock()
	w.done.Wait()
}

// await blocks until cond holds for the interfaces or ctx ends.
func (w *watcher) await(ctx context.Context, cond func([]Link) bool) error {
	for {
		links, changed := w.snapshot()
		if cond(links) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}
