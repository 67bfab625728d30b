package onboard

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/config"
	"github.com/xpu-sztp/ztp/pkg/durable"
	"github.com/xpu-sztp/ztp/pkg/image"
	"github.com/xpu-sztp/ztp/pkg/progress"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/slot"
	"github.com/xpu-sztp/ztp/pkg/state"
	"github.com/xpu-sztp/ztp/test/bootmodel"
	"github.com/xpu-sztp/ztp/test/faultfs"
)

// TestMain lets the test binary play a device that dies.
func TestMain(m *testing.M) {
	spec := os.Getenv("ONBOARD_TEST_LIFE")
	if spec == "" {
		os.Exit(m.Run())
	}
	var l life
	if err := errors.Join(json.Unmarshal([]byte(spec), &l), l.play()); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// scenario is what a device is told to do, and how that ends.
type scenario struct {
	image   []byte // to run; nil is none
	served  string // where it is served
	before  []byte // what the other slot holds already, of the same size as image
	stopped bool   // the agent is stopped once while it fetches it
	expires bool   // the time on trial is over when a session there has failed, and two trials are all
	quiet   bool   // there are no scripts
	handler string // of the configuration: "file", "exec" or "cloud-init"
	config  string
	path    string // of the file that it goes to, below etc; empty is config.json
	refuse  int    // exit code of the exec handler
	post    int    // exit code of the post-script
	fails   reason.Code
}

// Images say what they are in their first line. They have several sectors, not all of them whole.
var (
	factoryImage = sectors("AcmeOS 1\n", 3000)
	nextImage    = sectors("AcmeOS 2\n", 5500)
	lyingImage   = sectors("AcmeOS 3\n", 4500) // is published as version 2
	olderImage   = sectors("AcmeOS 0\n", 5500)
)

func sectors(name string, size int) []byte {
	b := []byte(name)
	for len(b) < size {
		b = fmt.Appendf(b, "byte %d of %s", len(b), name)
	}
	return b[:size]
}

const (
	oldConfig = `{"old":[1,2],"new":null}`
	newConfig = `{"new":true}`
)

func scenarios() map[string]scenario {
	return map[string]scenario{
		"file":               {handler: "file", config: newConfig},
		"exec":               {handler: "exec", config: newConfig},
		"image":              {handler: "file", config: newConfig, image: nextImage, served: "/next"},
		"cloud-init":         {handler: "cloud-init", config: newUser},
		"new-file":           {handler: "file", config: newConfig, path: "new/folder/config.json"},
		"new-file-only":      {handler: "file", config: newConfig, path: "new/folder/config.json", quiet: true},
		"new-file-fails":     {handler: "file", config: newConfig, path: "new/folder/config.json", post: 1, fails: ReasonScriptFailed},
		"image-resumed":      {handler: "file", config: newConfig, image: nextImage, served: "/next", stopped: true},
		"image-replaces":     {handler: "file", config: newConfig, image: nextImage, served: "/next", before: olderImage},
		"post-script-fails":  {handler: "file", config: newConfig, post: 1, fails: ReasonScriptFailed},
		"handler-fails":      {handler: "exec", config: newConfig, refuse: 1, fails: ReasonConfigFailed},
		"merge-impossible":   {handler: "file", config: `[]`, fails: ReasonConfigMerge},
		"image-is-not-right": {handler: "file", config: newConfig, image: nextImage, served: "/lying", fails: image.CodeHashMismatch},
		"image-expires":      {handler: "file", config: newConfig, image: nextImage, served: "/next", post: 1, expires: true, fails: ReasonImageRefused},
		"image-lies":         {handler: "file", config: newConfig, image: lyingImage, served: "/lying", fails: ReasonImageRefused},
	}
}

// life is one life of the daemon on a device, or several with reboots in between.
type life struct {
	Scenario string       `json:"scenario"`
	Backend  string       `json:"backend"`
	Dir      string       `json:"dir"`
	URL      string       `json:"url"`     // of the server of images
	Boots    bool         `json:"boots"`   // it begins with the boot loader, not with a service manager that starts the daemon again
	Recover  bool         `json:"recover"` // there is nobody to provision the device
	Plan     faultfs.Plan `json:"plan"`

	log func(n int, op string)
}

// Below life.Dir: what is on the device's disk, and what the world around it knows.
func (l life) disk(name ...string) string {
	return filepath.Join(l.Dir, "disk", filepath.Join(name...))
}

// machine is the device when nothing of ours runs.
func (l life) machine() bootmodel.Machine { return bootmodel.New(l.Backend, l.Dir) }

func (l life) world(name string) string { return filepath.Join(l.Dir, "world", name) }

// setUp makes a device as it leaves the factory.
func (l life) setUp(t *testing.T) {
	t.Helper()
	if err := l.machine().Factory(factoryImage); err != nil {
		t.Fatal(err)
	}
	if image := scenarios()[l.Scenario].before; image != nil {
		l.install(t, image)
	}
	put(t, l.disk("seed", "nocloud", "user-data"), oldUser, 0o600)
	put(t, l.disk("seed", "nocloud", "meta-data"), factoryID, 0o600)
	put(t, l.disk("etc", "config.json"), oldConfig, 0o640)
	put(t, l.disk("effects", "none"), "", 0o644)
	put(t, l.disk("run", "none"), "", 0o644)
	put(t, l.world("handler"), l.script("handler", scenarios()[l.Scenario].refuse), 0o755)
}

// install puts an image into the slot that the device does not start.
func (l life) install(t *testing.T, image []byte) {
	t.Helper()
	b, err := l.machine().Backend(durable.OS{})
	if err == nil {
		_, err = l.machine().Start()
	}
	var w slot.Writer
	if err == nil {
		w, err = b.Open(t.Context())
	}
	if err == nil {
		_, err = w.Write(image)
	}
	if err == nil {
		sum := sha256.Sum256(image)
		err = errors.Join(w.Commit(t.Context(), sum[:]), w.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// script leaves a trace of being run and undone, and a file as long as it is not undone. It kills the agent in the middle
// when the world asks for it.
func (l life) script(name string, exit int) string {
	return fmt.Sprintf(`#!/bin/sh
case $ZTP_ACTION in undo) how=undo ;; *) how=run ;; esac
echo %[1]s $how >>%[2]s
die() { if [ -e %[3]s.$how ]; then rm %[3]s.$how; kill -9 $PPID; fi; }
if [ $how = undo ]; then
	cd "$ZTP_ROOT/effects"
	if [ -e %[3]s.$how ]; then rm -f %[1]s; die; fi
	rm -f %[1]s %[1]s.more
	exit 0
fi
echo "output of %[1]s"
echo done >"$ZTP_ROOT/effects/%[1]s"
die
echo done >"$ZTP_ROOT/effects/%[1]s.more"
exit %[4]d
`, name, l.world("trace"), l.world("die-in-"+name), exit)
}

// maxBoots is more than any scenario needs.
const maxBoots = 8

// play ends with an error when the device does anything that it should not; the end of the session is noted in the world.
func (l life) play() (err error) {
	log := l.log
	if log == nil {
		log = func(n int, op string) {
			if n == l.Plan.At {
				os.WriteFile(l.world("fault"), []byte(op), 0o600)
			}
		}
	}
	on, err := faultfs.New(faultfs.Options{
		Root: l.disk(), Volatile: []string{"run"}, FAT: l.machine().FAT(), Memory: l.world("durable"), Plan: l.Plan, Log: log,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, on.Close()) }()
	for range maxBoots {
		if l.Boots {
			if err := l.boot(on); err != nil {
				return err
			}
		}
		rebooting, err := l.session(on)
		if err != nil || !rebooting {
			return errors.Join(err, l.ends(on))
		}
		on.Moment("the machine goes down")
		// Brutally: whoever asks for a reboot must have synced what matters.
		if err := on.Cut(faultfs.CutLost); err != nil {
			return err
		}
		l.Boots = true
	}
	return errors.New("it never ends")
}

// ends makes up for what a sync that failed would cost in the long run.
func (l life) ends(on *faultfs.FS) error {
	if l.Plan.What != faultfs.SyncLost {
		return nil
	}
	return on.Cut(faultfs.CutLost)
}

// boot plays the boot loader.
func (l life) boot(on *faultfs.FS) error {
	started, err := l.machine().Start()
	if err != nil {
		return err
	}
	line, _, _ := strings.Cut(string(started), "\n")
	return errors.Join(os.WriteFile(l.world("running"), []byte(line), 0o600), on.Settle())
}

// session is one session, or less: the device may be done, or there may be nobody to provision it.
func (l life) session(on *faultfs.FS) (rebooting bool, err error) {
	store, err := state.OpenOn(on, l.disk("state"))
	if err != nil {
		return false, l.end(err)
	}
	running, err := os.ReadFile(l.world("running"))
	if err != nil {
		return false, err
	}
	slots, err := l.machine().Backend(on)
	if err != nil {
		return false, err
	}
	name, version, _ := strings.Cut(string(running), " ")
	s := scenarios()[l.Scenario]
	e := New(Options{
		Store: store, FS: on,
		Board:  state.NewBoard(l.disk("run", "status.json"), state.Status{}),
		Dir:    l.disk("state", "onboard"),
		Root:   l.disk(),
		Device: state.Device{OSName: name, OSVersion: version},
		Slots:  slots,
		Configuration: config.Configuration{
			Handler: s.handler, Path: l.disk("etc", cmp.Or(s.path, "config.json")), Seed: l.disk("seed", "nocloud"),
			Command: []string{l.world("handler")}, Timeout: config.Duration(time.Minute),
		},
		Checkpoints: image.CheckpointFile{FS: on, Path: l.disk("state", "image-checkpoint")},
		Scripts:     config.Scripts{Timeout: config.Duration(time.Minute), WarningExit: 10, OutputLimit: 4096},
		Image:       config.Image{Attempts: maxBoots, MaxSize: 1 << 20, Timeout: config.Duration(time.Minute)},
		Reboot:      config.Reboot{Command: []string{"/bin/true"}},
	})
	if s.expires {
		e.Image.Attempts = 2
	}
	if err := e.Recover(context.Background()); err != nil {
		return false, l.end(err)
	}
	rec, err := store.Load()
	if err != nil {
		return false, l.end(err)
	}
	if rec.Outcome == state.OutcomeProvisioned {
		return false, l.end(nil)
	}
	if l.Recover || !rec.Enabled {
		return false, nil
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	r := Request{Reporter: reporter{l, on}, Level: progress.Verbose, Network: loopback{}}
	if s.stopped {
		r.Network = stopping{stop: stop, once: l.world("stopped")}
	}
	if over, err := l.expired(e); over || err != nil {
		return over, err
	}
	outcome, err := e.execute(ctx, r, l.plan(s))
	if outcome == Rebooting {
		return true, nil
	}
	if code, _ := reason.Of(err); s.expires && code == ReasonScriptFailed {
		if err := os.WriteFile(l.disk("run", "over"), nil, 0o600); err != nil {
			return false, err
		}
		return l.session(on) // in which that is seen first
	}
	if code, _ := reason.Of(err); code == ReasonImageFellBack {
		return l.session(on) // the next round, after the server was told
	}
	if ctx.Err() != nil {
		return l.session(on) // somebody starts the agent again
	}
	return false, l.end(err)
}

// expired ends a trial whose time is over, which is known as long as the device runs.
func (l life) expired(e *Executor) (over bool, err error) {
	if _, err := os.Stat(l.disk("run", "over")); err != nil {
		return false, nil
	}
	t, err := e.Trial(context.Background())
	if err != nil || t == (Trial{}) {
		return false, err
	}
	if err := e.Expire(context.Background(), t, time.Hour, nil); err != nil {
		return false, l.end(err)
	}
	return true, nil
}

func (l life) plan(s scenario) plan {
	p := plan{
		pre:    []byte(l.script("pre", 0)),
		config: &artifacts.Configuration{Handling: artifacts.Merge, Data: []byte(s.config)},
		post:   []byte(l.script("post", s.post)),
	}
	if s.quiet {
		p.pre, p.post = nil, nil
	}
	if s.image != nil {
		p.boot = demand(string(s.image), "2", l.URL+s.served)
	}
	return p
}

// verdict is how a session ended.
type verdict struct {
	Code reason.Code `json:"code,omitempty"` // empty: the device is provisioned
	Text string      `json:"text,omitempty"`
}

// end tells the world how a session ended.
func (l life) end(err error) error {
	var v verdict
	if err != nil {
		v.Code, _ = reason.Of(err)
		v.Text = err.Error()
	}
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return os.WriteFile(l.world("verdict"), data, 0o600)
}

// stopping is a network that has the agent stopped, once, after half of an image.
type stopping struct {
	loopback
	stop func()
	once string // the file that says that it happened
}

func (s stopping) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := s.loopback.DialContext(ctx, network, address)
	if _, statErr := os.Stat(s.once); err != nil || statErr == nil {
		return conn, err
	}
	return &stoppingConn{Conn: conn, on: s}, nil
}

type stoppingConn struct {
	net.Conn
	on   stopping
	read int
}

// Read hands over one half of the image, and then waits for the end.
func (c *stoppingConn) Read(p []byte) (int, error) {
	half := len(nextImage) / 2
	if c.read < half {
		n, err := c.Conn.Read(p[:min(len(p), half-c.read)])
		c.read += n
		return n, err
	}
	if err := os.WriteFile(c.on.once, nil, 0o600); err != nil {
		return 0, err
	}
	c.on.stop()
	return c.Conn.Read(p)
}

// reporter is a bootstrap server that takes reports, and may be the last thing that the device does.
type reporter struct {
	life
	on *faultfs.FS
}

func (r reporter) ReportProgress(_ context.Context, p progress.Report) error {
	r.on.Moment("send " + string(p.Type))
	f, err := os.OpenFile(r.world("reports"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, p.Type)
	err = errors.Join(err, f.Close())
	r.on.Moment("receive the acknowledgement of " + string(p.Type))
	return err
}
