package source_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/pkg/link"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/source"
	"github.com/xpu-sztp/ztp/pkg/state"
	"github.com/xpu-sztp/ztp/test/nettest"
)

// desk is a device with a shelf of sticks and the networks given.
type desk struct {
	shelf
	*source.Storage
	beside source.Source
	nets   *source.Networks
	board  *board
	visits chan source.Lead
}

func newDesk(t *testing.T, interfaces ...string) *desk {
	t.Helper()
	d := &desk{board: &board{changed: make(chan struct{})}, visits: make(chan source.Lead, 100)}
	run := t.TempDir()
	system, err := link.Open(link.Options{Include: append(interfaces, "none"), Record: filepath.Join(run, "network.json"), Run: run})
	if err != nil {
		t.Fatal(err)
	}
	d.Storage = source.NewStorage(source.StorageOptions{Devices: &d.shelf, Serial: "SN1"})
	d.nets = source.NewNetworks(source.NetworksOptions{System: system, Timeout: time.Minute, Board: d.board,
		Finders: []source.Finder{d.Storage, source.DHCP{}}})
	t.Cleanup(func() { d.nets.Close() })
	d.beside = d.Storage.Beside(d.nets)
	return d
}

// visit fails but for data that says "good". Data that says "redirect" asks for a network first.
func (d *desk) visit(ctx context.Context, l source.Lead) error {
	d.board.Update(func(s *state.Status) { s.Phase = state.PhaseDiscovering })
	d.visits <- l
	if l.Bundle == nil {
		return errRefused
	}
	switch string(l.Bundle.ConveyedInformation) {
	case "good":
		return nil
	case "redirect":
		_, err := l.Network.LookupNetIP(ctx, "ip", "192.0.2.1")
		return err
	}
	return errRefused
}

func (d *desk) next(t *testing.T) source.Lead {
	t.Helper()
	select {
	case l := <-d.visits:
		return l
	case <-time.After(time.Minute):
		t.Fatal("no visit")
		return source.Lead{}
	}
}

func stickWith(content string) map[string]string {
	return map[string]string{"sztp/SN1/" + conveyed: content}
}

// TestStickWhileWaiting: a device without a carrier waits for ever, and uses a stick at once.
func TestStickWhileWaiting(t *testing.T) { // other tests' interfaces would be a connection
	d := newDesk(t)
	ended := make(chan error, 1)
	go func() { ended <- d.beside.Discover(t.Context(), d.visit) }()
	waiting := func(s state.Status) bool { return s.Phase == state.PhaseWaitingForLink }
	d.board.await(t, waiting)

	d.insert(t, "sda", stickWith("bad"))
	d.Changed()
	d.next(t)
	d.board.await(t, func(s state.Status) bool {
		return waiting(s) && len(s.Sources) == 1 && s.Sources[0].Name == "removable-storage"
	})
	d.Changed() // something else has happened: no reason to try it again
	d.pull("sda")
	d.Changed()
	d.insert(t, "sda", stickWith("bad")) // pulled out and plugged in again
	d.Changed()
	d.next(t)
	d.board.await(t, waiting)
	d.insert(t, "sdb", stickWith("good"))
	d.Changed()
	if l := d.next(t); l.Place != "sdb1: sztp/SN1" {
		t.Errorf("visited %s", l.Place)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if len(d.visits) > 0 {
		t.Errorf("%d visits too many", len(d.visits))
	}
}

// TestReasonOfTheLatestStick: whoever plugs one stick after the other in reads of the latest, and of none when it is pulled out.
func TestReasonOfTheLatestStick(t *testing.T) { // other tests' interfaces would be a connection
	d := newDesk(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.beside.Discover(ctx, d.visit) }()
	says := func(code reason.Code, what string) {
		t.Helper()
		d.board.await(t, func(s state.Status) bool {
			return s.Phase == state.PhaseWaitingForLink && s.Reason != nil && s.Reason.Code == string(code) && strings.Contains(s.Reason.Message, what)
		})
	}
	says(source.NoLink, "no network interface")
	d.insert(t, "sda", stickWith("bad"))
	d.Changed()
	says("internal", "sda1: sztp/SN1: refused")
	d.pull("sda")
	d.Changed()
	says(source.NoLink, "no network interface")
	d.insert(t, "sda", map[string]string{"sztp/SN2/" + conveyed: "another device's"})
	d.Changed()
	says(source.NoData, `nothing for the serial number "SN1"`)
	d.insert(t, "sdb", map[string]string{"DCIM/holiday.jpg": "sea"})
	d.Changed()
	says(source.NoLink, "no network interface") // nobody's fault; the sources tell
	cancel()
	<-ended
	if s := d.board.status.Sources; len(s) != 1 || s[0].Result != string(source.NoData) {
		t.Errorf("%+v", s)
	}
}

// TestReasonOfTheStickThatWasThere: it was visited before the networks, and that there is none says less.
func TestReasonOfTheStickThatWasThere(t *testing.T) { // other tests' interfaces would be a connection
	d := newDesk(t)
	d.insert(t, "sda", stickWith("bad"))
	if err := d.Storage.Discover(t.Context(), d.visit); !errors.Is(err, errRefused) {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.beside.Discover(ctx, d.visit) }()
	d.board.await(t, func(s state.Status) bool {
		return s.Phase == state.PhaseWaitingForLink && s.Reason != nil && strings.Contains(s.Reason.Message, "sda1: sztp/SN1: refused")
	})
	cancel()
	<-ended
}

// TestStickAfterNetworks: where networks come first but there is none, the stick that was there all along does not wait.
func TestStickAfterNetworks(t *testing.T) { // other tests' interfaces would be a connection
	d := newDesk(t)
	d.insert(t, "sda", stickWith("good"))
	if err := d.beside.Discover(t.Context(), d.visit); err != nil {
		t.Error(err)
	}
	d.next(t)
}

// TestStickDuringBackOff: while nobody discovers anything, arrivals are told once, and visited without what failed before.
func TestStickDuringBackOff(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.insert(t, "sda", stickWith("bad"))
	d.Changed()
	<-d.Arrivals()
	news := d.News(d.nets)
	if err := news.Discover(t.Context(), d.visit); !errors.Is(err, errRefused) {
		t.Error(err)
	}
	d.Changed()
	if len(d.Arrivals()) > 0 {
		t.Error("told of a stick that was tried")
	}
	if len(d.nets.Wake()) > 0 {
		t.Error("a network is wanted for nothing")
	}
	d.insert(t, "sdb", stickWith("redirect"))
	d.Changed()
	<-d.Arrivals()
	d.next(t)
	if err := news.Discover(t.Context(), d.visit); !errors.Is(err, source.ErrNothing) {
		t.Error(err)
	}
	if l := d.next(t); l.Place != "sdb1: sztp/SN1" || len(d.visits) > 0 {
		t.Errorf("visited %s and %d more", l.Place, len(d.visits))
	}
	select {
	case <-d.nets.Wake():
	default:
		t.Error("no network is wanted")
	}
	// Each round tries all of them once more (R5.2-02).
	if err := d.Storage.Discover(t.Context(), d.visit); !errors.Is(err, errRefused) || len(d.visits) != 2 {
		t.Error(len(d.visits), err)
	}
}

// TestStickAwaitsTurn: visits are made one after the other.
func TestStickAwaitsTurn(t *testing.T) {
	t.Parallel()
	n := nettest.NewNetwork(t, nil, "198.18.8.1/24")
	c := nettest.DHCP{Subnet: "198.18.8.0/24", Pool: "198.18.8.50-198.18.8.60", Router: "198.18.8.1", DNS: "198.18.8.1", Redirect: redirect(t, "https://198.18.8.1")}
	n.Kea4(t, c)
	d := newDesk(t, n.Device)
	release := make(chan struct{})
	visiting := false
	ended := make(chan error, 1)
	go func() {
		ended <- d.beside.Discover(t.Context(), func(ctx context.Context, l source.Lead) error {
			if visiting {
				t.Error("two visits at once")
			}
			visiting = true
			defer func() { visiting = false }()
			if l.Bundle == nil {
				d.visits <- l
				<-release
				return errRefused
			}
			return d.visit(ctx, l)
		})
	}()
	if l := d.next(t); l.Source != "dhcp4" {
		t.Fatalf("visited %+v", l)
	}
	d.insert(t, "sda", stickWith("good"))
	d.Changed()
	close(release)
	if l := d.next(t); l.Source != "removable-storage" {
		t.Errorf("visited %+v", l)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestStickLeadsToServers: a redirect from a stick is followed on a network that was looked at before the stick was there.
func TestStickLeadsToServers(t *testing.T) {
	t.Parallel()
	n := nettest.NewNetwork(t, nil, "198.18.9.1/24")
	c := nettest.DHCP{Subnet: "198.18.9.0/24", Pool: "198.18.9.50-198.18.9.60", Router: "198.18.9.1", DNS: "198.18.9.1", Redirect: redirect(t, "https://198.18.9.1")}
	n.Kea4(t, c)
	d := newDesk(t, n.Device)
	ended := make(chan error, 1)
	go func() {
		ended <- d.beside.Discover(t.Context(), func(ctx context.Context, l source.Lead) error {
			if l.Source == "dhcp4" {
				d.insert(t, "sda", stickWith("redirect"))
				d.Changed()
			}
			return d.visit(ctx, l)
		})
	}()
	for _, want := range []string{"dhcp4 " + n.Device, "removable-storage ", "removable-storage " + n.Device} {
		if l := d.next(t); l.Source+" "+l.Interface != want {
			t.Fatalf("visited %q, want %q", l.Source+" "+l.Interface, want)
		}
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestNothingForNetworks: sticks alone bring no network up.
func TestNothingForNetworks(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.nets.Finders = []source.Finder{d.Storage}
	if err := d.beside.Discover(t.Context(), d.visit); !errors.Is(err, source.ErrNothing) {
		t.Error(err)
	}
}
