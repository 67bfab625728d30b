package onboard

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/config"
	"github.com/xpu-sztp/ztp/pkg/progress"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/slot"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// rig is a device in a folder. Everything in it is real but the bootstrap server.
type rig struct {
	dir    string
	store  *state.Store
	board  *state.Board
	slots  *slot.AB
	server *server
	opts   Options
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r, err := openRig(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func openRig(dir string) (*rig, error) {
	store, err := state.Open(filepath.Join(dir, "state"))
	if err != nil {
		return nil, err
	}
	r := &rig{
		dir:    dir,
		store:  store,
		board:  state.NewBoard(filepath.Join(dir, "run", "status.json"), state.Status{}),
		slots:  slot.NewFile(slot.Options{Dir: filepath.Join(dir, "slots"), Now: func() time.Time { return time.Unix(1, 0) }}),
		server: &server{refuse: map[progress.Type]int{}},
	}
	r.opts = Options{
		Store:         store,
		Board:         r.board,
		Dir:           filepath.Join(dir, "state", "onboard"),
		Root:          dir,
		Device:        state.Device{OSName: "AcmeOS", OSVersion: "1"},
		Slots:         r.slots,
		Configuration: config.Configuration{Handler: "file", Path: filepath.Join(dir, "etc", "config.json")},
		Scripts:       config.Scripts{Timeout: config.Duration(20 * time.Second), WarningExit: 10, OutputLimit: 4096},
		Image:         config.Image{Attempts: 2, MaxSize: 1 << 20, Timeout: config.Duration(10 * time.Second)},
		Reboot:        config.Reboot{Command: []string{"/bin/sh", "-c", "echo reboot >>" + filepath.Join(dir, "trace")}},
	}
	return r, nil
}

// run executes p for a trusted server.
func (r *rig) run(level progress.Level, p plan) (Outcome, error) {
	return New(r.opts).execute(context.Background(), Request{Reporter: r.server, Level: level, Network: loopback{}}, p)
}

// tracer is a script that leaves a trace of being run and undone, and a file as long as it is not undone.
func (r *rig) tracer(name string, exit int) []byte {
	return fmt.Appendf(nil, `#!/bin/sh
echo "%[1]s $1" >>%[2]s/trace
if [ "$1" = undo ]; then rm -f %[2]s/%[1]s.effect; exit 0; fi
echo "output of %[1]s"
echo done >%[2]s/%[1]s.effect
exit %[3]d
`, name, r.dir, exit)
}

func (r *rig) trace() []string {
	data, _ := os.ReadFile(filepath.Join(r.dir, "trace"))
	var lines []string
	for line := range strings.Lines(string(data)) {
		lines = append(lines, strings.TrimSpace(line))
	}
	return lines
}

// full is onboarding information with every part but an image.
func (r *rig) full() plan {
	return plan{
		pre:    r.tracer("pre", 0),
		config: &artifacts.Configuration{Handling: artifacts.Replace, Data: []byte(`{"new":true}`)},
		post:   r.tracer("post", 0),
	}
}

func (r *rig) record(t *testing.T) *state.Record {
	t.Helper()
	rec, err := r.store.Load()
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

// server is a bootstrap server that takes reports, except those it is told to refuse.
type server struct {
	mu      sync.Mutex
	refuse  map[progress.Type]int // HTTP status, or 0 for accepted
	reports []progress.Report
	hang    progress.Type
}

func (s *server) ReportProgress(ctx context.Context, r progress.Report) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reports = append(s.reports, r)
	if r.Type == s.hang {
		<-ctx.Done()
		return ctx.Err()
	}
	if code := s.refuse[r.Type]; code != 0 {
		return fmt.Errorf("the server answered %d", code)
	}
	return ctx.Err()
}

func (s *server) types() []progress.Type {
	var types []progress.Type
	for _, r := range s.reports {
		types = append(types, r.Type)
	}
	return types
}

func (s *server) message(t progress.Type) string {
	for _, r := range s.reports {
		if r.Type == t {
			return r.Message
		}
	}
	return "(no " + string(t) + ")"
}

// loopback is the network of the tests.
type loopback struct{}

func (loopback) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	return nil, errors.New("no names here: " + host)
}

func (loopback) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, address)
}

// mirror serves an image and counts how often it is asked for.
type mirror struct {
	*httptest.Server
	gets int
}

func newMirror(t *testing.T, image string) *mirror {
	t.Helper()
	m := new(mirror)
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		m.gets++
		if q.URL.Path != "/image" {
			http.NotFound(w, q)
			return
		}
		io.WriteString(w, image)
	}))
	t.Cleanup(m.Close)
	return m
}

// demand asks for an image under a version.
func demand(image, version string, uris ...string) *artifacts.BootImage {
	sum := sha256.Sum256([]byte(image))
	return &artifacts.BootImage{OSName: "AcmeOS", OSVersion: version, URIs: uris, SHA256: sum[:]}
}

func wantCode(t *testing.T, err error, want reason.Code) {
	t.Helper()
	if got, _ := reason.Of(err); got != want {
		t.Fatalf("got reason %q (%v), want %q", got, err, want)
	}
}
