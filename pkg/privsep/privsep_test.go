package privsep

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/pkg/onboard"
	"github.com/xpu-sztp/ztp/pkg/progress"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/restconf"
	"github.com/xpu-sztp/ztp/pkg/state"
	"github.com/xpu-sztp/ztp/pkg/storage"
)

// outside is the network and the server of a client.
type outside struct {
	reports []progress.Report
	refuse  error
	names   map[string]string
}

func (o *outside) ReportProgress(_ context.Context, r progress.Report) error {
	o.reports = append(o.reports, r)
	return o.refuse
}

func (o *outside) LookupNetIP(_ context.Context, network, host string) ([]netip.Addr, error) {
	if o.names[host] == "" {
		return nil, &reason.Error{Code: "no-name", Msg: "no such name " + host + " (" + network + ")", Fix: "correct it"}
	}
	return []netip.Addr{netip.MustParseAddr(o.names[host])}, nil
}

func (o *outside) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, address)
}

// TestExecute has everything asked for that an execution may need of the other process.
func TestExecute(t *testing.T) {
	before := descriptors(t)
	mirror, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		if c, err := mirror.Accept(); err == nil {
			fmt.Fprint(c, "image")
			c.Close()
		}
	}()
	world := &outside{names: map[string]string{"mirror.example": "127.0.0.1"}}
	h := &hand{execute: func(ctx context.Context, o Order, r onboard.Request, b onboard.Board) (onboard.Outcome, error) {
		if o.Level != progress.Verbose || string(o.Proof.Bundle.ConveyedInformation) != "ci" || string(o.Proof.Nonce) != "nonce" {
			t.Errorf("order %+v", o)
		}
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		report := progress.Report{Type: progress.BootstrapComplete, Message: "done\x00", SSHHostKeys: []progress.SSHHostKey{{Algorithm: "a", KeyData: []byte{0, 255}}}}
		if err := r.Reporter.ReportProgress(ctx, report); err != nil {
			t.Error(err)
		}
		addresses, err := r.Network.LookupNetIP(ctx, "ip", "mirror.example")
		if err != nil || len(addresses) != 1 || addresses[0].String() != "127.0.0.1" {
			t.Errorf("%v, %v", addresses, err)
		}
		_, err = r.Network.LookupNetIP(ctx, "ip4", "other.example")
		if code, fix := reason.Of(err); code != "no-name" || fix != "correct it" || err.Error() != "no such name other.example (ip4)" {
			t.Errorf("%q, %q, %v", code, fix, err)
		}
		c, err := r.Network.DialContext(ctx, "tcp", mirror.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if image, err := io.ReadAll(c); err != nil || string(image) != "image" {
			t.Errorf("%q, %v", image, err)
		}
		if _, err := r.Network.DialContext(ctx, "tcp", "127.0.0.1:1"); err == nil || !strings.Contains(err.Error(), "refused") {
			t.Error(err)
		}
		if got := r.Where(); got.Compare(state.Network{"domain lab.example"}) != state.Same || len(got) != 1 {
			t.Errorf("on %v", got)
		}
		b.Update(func(s *state.Status) {
			s.Steps = []state.Step{{Name: "pre-script", Result: "complete"}}
			s.Warnings = append(s.Warnings, state.Warning{Text: "of onboarding"})
			s.Outcome, s.Enabled, s.Device.SerialNumber = state.OutcomeProvisioned, true, "not to be told from here"
		})
		b.Update(func(s *state.Status) { s.Phase, s.Reboots = state.PhaseRebooting, 2 })
		return onboard.Rebooting, nil
	}}
	client, stop := serve(t, h)
	d := &display{status: state.Status{Phase: state.PhaseOnboarding, Warnings: []state.Warning{{Text: "of the session"}}, Slots: &state.Slots{Running: "a"}}}
	outcome, err := (&Onboarder{Client: client, Board: d}).Execute(t.Context(), order(func(r *onboard.Request) {
		r.Reporter, r.Network, r.Level = world, world, progress.Verbose
		r.Where = func() state.Network {
			return state.Network{"domain lab.example", "domain " + strings.Repeat("x", 1000)}
		}
	}))
	if outcome != onboard.Rebooting || err != nil {
		t.Errorf("%v, %v", outcome, err)
	}
	want := state.Status{Phase: state.PhaseRebooting, Reboots: 2, Slots: &state.Slots{Running: "a"}, Steps: []state.Step{{Name: "pre-script", Result: "complete"}},
		Warnings: []state.Warning{{Text: "of the session"}, {Text: "of onboarding"}}}
	if diff := cmp.Diff(want, d.now()); diff != "" {
		t.Error(diff)
	}
	if len(world.reports) != 1 || world.reports[0].Message != "done\x00" || string(world.reports[0].SSHHostKeys[0].KeyData) != "\x00\xff" {
		t.Errorf("reports %+v", world.reports)
	}
	mirror.Close()
	stop()
	if after := descriptors(t); after > before {
		t.Errorf("%d descriptors are open, before %d", after, before)
	}
}

// TestNothingToAsk: who has no server and no network is not asked, or answers that there is none.
func TestNothingToAsk(t *testing.T) {
	h := &hand{execute: func(ctx context.Context, _ Order, r onboard.Request, _ onboard.Board) (onboard.Outcome, error) {
		if r.Reporter != nil || r.Where != nil || r.Info != nil || r.Files != nil {
			t.Errorf("request %+v", r)
		}
		_, err := r.Network.LookupNetIP(ctx, "ip", "mirror.example")
		return 0, err
	}}
	client, _ := serve(t, h)
	o := &Onboarder{Client: client, Board: &display{}}
	if _, err := o.Execute(t.Context(), order(nil)); err == nil {
		t.Error("no error")
	}
	if _, err := o.Execute(t.Context(), onboard.Request{}); err == nil || len(h.called()) != 1 {
		t.Errorf("%v, %v", err, h.called())
	}
}

// TestBusyServer: how long a server that takes no report wants to be left alone is not lost on the way.
func TestBusyServer(t *testing.T) {
	world := &outside{refuse: fmt.Errorf("too busy: %w", &restconf.Error{RetryAfter: time.Hour})}
	h := &hand{execute: func(ctx context.Context, _ Order, r onboard.Request, _ onboard.Board) (onboard.Outcome, error) {
		err := r.Reporter.ReportProgress(ctx, progress.Report{Type: progress.BootstrapInitiated})
		return 0, &reason.Error{Code: onboard.ReasonReport, Msg: "not acknowledged", Fix: "look", Err: err}
	}}
	client, _ := serve(t, h)
	_, err := (&Onboarder{Client: client, Board: &display{}}).Execute(t.Context(), order(func(r *onboard.Request) { r.Reporter = world }))
	var busy *restconf.Error
	if code, fix := reason.Of(err); code != onboard.ReasonReport || fix != "look" || !strings.HasPrefix(err.Error(), "not acknowledged: too busy") {
		t.Errorf("%q, %q, %v", code, fix, err)
	}
	if !errors.As(err, &busy) || busy.RetryAfter != time.Hour {
		t.Errorf("%v does not say how long", err)
	}
}

// TestStopped: the server hears of the end of the session, and still has its last report delivered.
func TestStopped(t *testing.T) {
	world := &outside{}
	begun := make(chan struct{})
	h := &hand{execute: func(ctx context.Context, _ Order, r onboard.Request, _ onboard.Board) (onboard.Outcome, error) {
		close(begun)
		<-ctx.Done()
		err := r.Reporter.ReportProgress(context.WithoutCancel(ctx), progress.Report{Type: progress.BootstrapError})
		return 0, errors.Join(context.Cause(ctx), err)
	}}
	client, _ := serve(t, h)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-begun; cancel() }()
	_, err := (&Onboarder{Client: client, Board: &display{}}).Execute(ctx, order(func(r *onboard.Request) { r.Reporter = world }))
	if code, _ := reason.Of(err); code != reason.Cancelled || len(world.reports) != 1 {
		t.Errorf("%v, reports %v", err, world.reports)
	}
}

// TestClientDies: the server notices, whatever it does just then.
func TestClientDies(t *testing.T) {
	began, ended := make(chan struct{}, 2), make(chan error, 2)
	for name, execute := range map[string]func(context.Context, onboard.Request) error{
		"while it works": func(ctx context.Context, _ onboard.Request) error { <-ctx.Done(); return context.Cause(ctx) },
		"while it asks": func(ctx context.Context, r onboard.Request) error {
			return r.Reporter.ReportProgress(context.WithoutCancel(ctx), progress.Report{})
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := &hand{execute: func(ctx context.Context, _ Order, r onboard.Request, _ onboard.Board) (onboard.Outcome, error) {
				began <- struct{}{}
				err := execute(ctx, r)
				ended <- err
				return 0, err
			}}
			client, _ := serve(t, h)
			c := dialled(t, client)
			write(t, c, `{"kind":"execute","order":{"reports":true}}`, `{}`)
			<-began
			c.Close()
			if code, _ := reason.Of(<-ended); code != CodeLost {
				t.Errorf("ended with %q", code)
			}
			if _, err := client.Change(t.Context(), state.Change{}); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestServerDies while it executes: the client has the next one clean up, and finds out whether all was done, or tries once more.
func TestServerDies(t *testing.T) {
	done := &state.Record{Outcome: state.OutcomeProvisioned}
	moved := &state.Record{Outcome: state.OutcomeProvisioned, Session: &state.Session{Moved: true}}
	for name, tt := range map[string]struct {
		deaths int
		record *state.Record
		code   reason.Code
		calls  []string // of the one that lives
	}{
		"in the middle":            {1, &state.Record{Session: &state.Session{}}, "", []string{"recover", "change ", "execute"}},
		"on a device that moved":   {1, moved, "", []string{"recover", "change ", "execute"}},
		"when all was done":        {1, done, "", []string{"recover", "change "}},
		"each time that it begins": {2, moved, CodeLost, []string{"recover", "change ", "recover", "change "}},
	} {
		t.Run(name, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "privsep")
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(dir)
			client := &Client{Socket: filepath.Join(dir, "s"), Logger: slog.New(slog.DiscardHandler)}
			die := make(chan *conn, 2)
			h := &hand{change: func(state.Change) (*state.Record, error) { return tt.record, nil }}
			h.execute = func(ctx context.Context, _ Order, r onboard.Request, _ onboard.Board) (onboard.Outcome, error) {
				if tt.deaths == 0 {
					return onboard.Complete, nil
				}
				tt.deaths--
				h.mu.Lock()
				h.calls = h.calls[:len(h.calls)-1]
				h.mu.Unlock()
				die <- r.Network.(*link).conn
				<-ctx.Done()
				return 0, context.Cause(ctx)
			}
			serveAt(t, h, client.Socket)
			go func() {
				for c := range die {
					c.Close()
				}
			}()
			outcome, err := (&Onboarder{Client: client, Board: &display{}}).Execute(t.Context(), order(nil))
			if code, _ := reason.Of(err); code != tt.code || (outcome == onboard.Complete) != (err == nil) {
				t.Errorf("%v, %v", outcome, err)
			}
			if diff := cmp.Diff(tt.calls, h.called()); diff != "" {
				t.Error(diff)
			}
			close(die)
		})
	}
}

// TestNobody: a process that cannot be reached is told as such.
func TestNobody(t *testing.T) {
	client := &Client{Socket: filepath.Join(t.TempDir(), "s"), Logger: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Millisecond, errors.New("told to end"))
	defer cancel()
	if err := client.Recover(ctx); err == nil || err.Error() != "told to end" {
		t.Error(err)
	}
}

// TestRecord: a client learns of the record what it needs, and of the journal only how long it is.
func TestRecord(t *testing.T) {
	h := &hand{change: func(c state.Change) (*state.Record, error) {
		if c.Fresh || c.Once {
			t.Error("a person's wishes have crossed")
		}
		if c.Kind == state.ChangeMove {
			return nil, &reason.Error{Code: CodeRefused, Msg: "not now", Fix: "wait"}
		}
		return &state.Record{Schema: 1, Enabled: true, Network: state.Network{"domain a"}, Session: &state.Session{ID: "s"},
			Journal: []state.Entry{{Step: "pre-script", Command: []string{"secret"}}}, Images: map[string]state.ImageRecord{"x": {}}}, nil
	}}
	client, _ := serve(t, h)
	got, err := client.Change(t.Context(), state.Change{Kind: state.ChangeBegin, Fresh: true, Once: true})
	want := &state.Record{Schema: 1, Enabled: true, Network: state.Network{"domain a"}, Session: &state.Session{ID: "s"}, Journal: make([]state.Entry, 1)}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	_, err = client.Change(t.Context(), state.Change{Kind: state.ChangeMove})
	if code, fix := reason.Of(err); code != CodeRefused || fix != "wait" {
		t.Error(err)
	}
}

// TestSticks reads files that the other process opens.
func TestSticks(t *testing.T) {
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "file"), []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := descriptors(t)
	var broken atomic.Bool
	h := &hand{open: func(_ storage.Partition, path string) (*os.File, error) {
		v, err := storage.Folder(folder)
		if err != nil || path == "" || broken.Load() {
			if v != nil {
				v.Close()
			}
			if broken.Load() {
				err = &reason.Error{Code: storage.CodeUnreadable, Msg: "broken", Fix: "another"}
			}
			return nil, err
		}
		defer v.Close()
		return v.Open(path)
	}}
	client, stop := serve(t, h)
	d := &Devices{Client: client, System: &storage.System{Sys: t.TempDir(), Dev: "/dev"}}
	if list := d.Disks(); len(list) != 0 {
		t.Errorf("disks %v", list)
	}
	parts, err := d.Partitions(&storage.Disk{Partition: storage.Partition{Name: "sda", Device: "8:0", Sectors: 9}})
	if err != nil || len(parts) != 1 || parts[0].Name != "sda1" || h.called()[0] != "partitions sda 8:0  9" {
		t.Fatalf("%v, %v, %v", parts, err, h.called())
	}
	v, err := d.Mount(parts[0])
	if err != nil {
		t.Fatal(err)
	}
	if content, err := v.ReadFile("file", 100); err != nil || string(content) != "content" {
		t.Errorf("%q, %v", content, err)
	}
	if _, err := v.ReadFile("file", 3); err == nil {
		t.Error("the limit does not count")
	}
	if !v.Exists("file") || v.Exists("nothing") || !v.Exists("../x") {
		t.Error("what exists does not, or the other way round")
	}
	if _, err := v.ReadFile("nothing", 100); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if f, err := d.Files(parts[0]).Open("file"); err != nil {
		t.Error(err)
	} else {
		f.Close()
	}
	broken.Store(true)
	if _, err := d.Mount(parts[0]); err == nil || err.Error() != "broken" {
		t.Error(err)
	}
	if err := v.Close(); err != nil {
		t.Error(err)
	}
	stop()
	if after := descriptors(t); after > before {
		t.Errorf("%d descriptors are open, before %d", after, before)
	}
}

// TestIdle ends a server that nobody asks, but not one that works.
func TestIdle(t *testing.T) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	working := make(chan struct{})
	h := &hand{change: func(state.Change) (*state.Record, error) { <-working; return state.NewRecord(), nil }}
	s := &Server{Handler: h, Logger: slog.New(slog.DiscardHandler), Client: uint32(os.Geteuid()), Idle: 10 * time.Millisecond}
	client := &Client{Socket: l.Addr().String(), Logger: s.Logger}
	answered := make(chan error, 1)
	go func() {
		_, err := client.Change(t.Context(), state.Change{})
		answered <- err
	}()
	time.AfterFunc(100*time.Millisecond, func() { close(working) })
	if err := s.Serve(t.Context(), l); err != nil {
		t.Error(err)
	}
	if err := <-answered; err != nil {
		t.Error(err)
	}
}

// TestTrial asks what runs on trial, and ends that.
func TestTrial(t *testing.T) {
	h := &hand{}
	client, _ := serve(t, h)
	trial, left, err := client.Trial(t.Context())
	if want := (onboard.Trial{Image: "aa", Slot: "b", Good: "a"}); trial != want || left != time.Minute || err != nil {
		t.Errorf("%+v, %v, %v", trial, left, err)
	}
	if err := client.Expire(t.Context(), nil); err == nil || err.Error() != "not yet" {
		t.Errorf("got %v", err)
	}
	if err := client.Expire(t.Context(), &state.Reason{Code: "no-lease"}); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"trial", "expire", "expire after no-lease"}, h.called()); diff != "" {
		t.Error(diff)
	}
}
