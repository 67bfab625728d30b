package onboard

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/pkg/progress"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/state"
	"github.com/xpu-sztp/ztp/test/faultfs"
)

// TestSweep lets something go wrong at every operation on files, and at every message and reboot, of several ways to be
// provisioned, and wants the device to end where it would have without it. ZTP_SWEEP=complete does so at every single
// one (make sweep); otherwise a sample is taken.
func TestSweep(t *testing.T) {
	server := newImageServer(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for _, name := range slices.Sorted(maps.Keys(scenarios())) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want, ops := uninterrupted(t, name, server.URL)
			if len(ops) < 20 {
				t.Fatalf("only %d operations: the sweep does not reach anything", len(ops))
			}
			all := mishaps(len(ops), want.image)
			r := rand.New(rand.NewPCG(seed, 0))
			r.Shuffle(len(all), func(i, k int) { all[i], all[k] = all[k], all[i] })
			if os.Getenv("ZTP_SWEEP") != "complete" {
				all = all[:min(samples, len(all))]
			}
			t.Logf("%d operations, %d ways to go wrong", len(ops), len(all))
			for _, m := range all {
				m.run(t, life{Scenario: name, URL: server.URL}, len(ops), want)
				if t.Failed() {
					return // what follows usually has the same cause
				}
			}
		})
	}
}

// samples is how many ways to go wrong are tried of each scenario unless the sweep is complete.
const samples = 20

// newImageServer serves the images as /next and /lying.
func newImageServer(t *testing.T) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		served, ok := map[string][]byte{"/next": nextImage, "/lying": lyingImage}[q.URL.Path]
		if !ok {
			http.NotFound(w, q)
			return
		}
		http.ServeContent(w, q, "", time.Unix(1, 0), bytes.NewReader(served))
	}))
	t.Cleanup(s.Close)
	return s
}

// mishap is a way to go wrong.
type mishap struct {
	plan    faultfs.Plan
	script  string // kills the agent in the middle: "pre.run", "post.undo" and so on
	deaths  int    // how often in a row; after the first time at random operations
	abandon bool   // afterwards nobody provisions the device for a while
}

func (m mishap) String() string {
	if m.script != "" {
		return "killed in " + m.script
	}
	return fmt.Sprintf("%s at operation %d, %d more, seed %d, %d deaths, abandoned %v",
		m.plan.What, m.plan.At, m.plan.More, m.plan.Seed, m.deaths, m.abandon)
}

// mishaps returns all ways to go wrong.
func mishaps(ops int, image bool) (all []mishap) {
	deadly := append([]faultfs.Fault{faultfs.Kill, faultfs.KillAfter, faultfs.KillTorn}, faultfs.Cuts()...)
	for at := range ops {
		for _, what := range deadly {
			all = append(all, mishap{plan: faultfs.Plan{What: what, At: at, Seed: uint64(at)}, deaths: 1, abandon: at%2 == 0})
		}
		// The other way round, and other choices.
		all = append(all, mishap{plan: faultfs.Plan{What: faultfs.CutTorn, At: at, Seed: uint64(at) + 1000}, deaths: 1, abandon: at%2 == 1})
		all = append(all, mishap{plan: faultfs.Plan{What: faultfs.CutLost, At: at}, deaths: 1, abandon: at%2 == 1})
		for _, what := range faultfs.Errors() {
			for _, more := range []int{0, -1} {
				all = append(all, mishap{plan: faultfs.Plan{What: what, At: at, More: more}, abandon: at%2 == 0})
			}
		}
		for _, deaths := range []int{2, 3, 5} {
			what := deadly[(at+deaths)%len(deadly)]
			all = append(all, mishap{plan: faultfs.Plan{What: what, At: at, Seed: uint64(deaths)}, deaths: deaths, abandon: at%4 == 0})
		}
		if image {
			all = append(all, mishap{plan: faultfs.Plan{What: faultfs.Flipped, At: at % 16, Only: "b.img"}})
		}
	}
	for _, name := range []string{"pre", "post", "handler"} {
		for _, how := range []string{"run", "undo"} {
			for _, abandon := range []bool{false, true} {
				all = append(all, mishap{script: name + "." + how, deaths: 1, abandon: abandon, plan: faultfs.Plan{At: -1, What: faultfs.Kill}})
			}
		}
	}
	return all
}

// run plays a device with which something goes wrong, and then nothing any more.
func (m mishap) run(t *testing.T, l life, ops int, want ending) {
	dir, err := os.MkdirTemp("", "sweep")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	l.Dir, l.Boots, l.Plan = dir, true, m.plan
	defer func() {
		if t.Failed() {
			op, _ := os.ReadFile(l.world("fault"))
			trace, _ := os.ReadFile(l.world("trace"))
			reports, _ := os.ReadFile(l.world("reports"))
			verdict, _ := os.ReadFile(l.world("verdict"))
			t.Errorf("%v: %s\ntrace: %s\nreports: %s\nverdict: %s", m, op, strings.ReplaceAll(string(trace), "\n", ", "),
				strings.ReplaceAll(string(reports), "\n", ", "), verdict)
		}
	}()
	l.setUp(t)
	if m.script != "" {
		put(t, l.world("die-in-"+m.script), "", 0o600)
	}
	if m.deaths == 0 {
		m.fail(t, l, want)
	}
	l = m.die(t, l, ops)
	l.Plan = faultfs.Plan{At: -1}
	if m.abandon {
		l.Recover = true
		l.lives(t)
		wantNothingHalfDone(t, l, want, "etc", "effects", "state/onboard")
		l.Recover, l.Boots = false, false
	}
	l.lives(t)
	diff(t, want, l.ending(t))
	wantOrder(t, l, want.effects())
}

// die plays until the device has died as often as it shall.
func (m mishap) die(t *testing.T, l life, ops int) life {
	r := rand.New(rand.NewPCG(m.plan.Seed, uint64(m.plan.At)))
	for range m.deaths {
		if !l.start(t) {
			break
		}
		l.Boots = slices.Contains(faultfs.Cuts(), m.plan.What)
		wantBootable(t, l)
		l.Plan.At, l.Plan.Seed = r.IntN(ops), r.Uint64()
	}
	return l
}

// fail plays a device with a fault that it can tell of.
func (m mishap) fail(t *testing.T, l life, want ending) {
	l.lives(t)
	wantBootable(t, l)
	v := l.verdict(t)
	switch {
	case v.Code == "" && (v.Text != "" || want.Verdict != ""):
		t.Errorf("it ended well, or without a reason code: %+v", v)
	case v.Code == reason.Internal:
		t.Errorf("%+v", v)
	case v.Code != "" && m.plan.More == 0 && m.plan.What != faultfs.SyncLost && !strings.Contains(v.Text, "cannot undo"):
		wantNothingHalfDone(t, l, want, "etc", "effects") // what is private may wait for the next start
	}
}

// lives plays a life that nothing ends early.
func (l life) lives(t *testing.T) {
	t.Helper()
	if err := l.play(); err != nil {
		t.Fatal(err)
	}
}

// start plays a life in a process of its own.
func (l life) start(t *testing.T) (died bool) {
	t.Helper()
	spec, err := json.Marshal(l)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0", "ONBOARD_TEST_LIFE="+string(spec))
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return true
	}
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return false
}

func (l life) verdict(t *testing.T) (v verdict) {
	t.Helper()
	data, err := os.ReadFile(l.world("verdict"))
	if err == nil {
		err = json.Unmarshal(data, &v)
	}
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// wantBootable checks what the boot loader would start: only what was there before, or all of an image that is to run.
func wantBootable(t *testing.T, l life) {
	t.Helper()
	disk := filepath.Join(l.Dir, "copy")
	if err := os.CopyFS(disk, os.DirFS(l.disk())); err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(disk)
	started, err := start(disk)
	if err != nil {
		t.Errorf("not bootable: %v", err)
	}
	if demanded := scenarios()[l.Scenario].image; !bytes.Equal(started, factoryImage) && !bytes.Equal(started, demanded) {
		t.Errorf("what boots are %d bytes %.9q that nobody verified", len(started), started)
	}
}

// ending is what is left in the end.
type ending struct {
	Disk    map[string]string // content with mode by name
	Verdict reason.Code
	Record  string
	Steps   map[string]string // by name; in the status
	Reports []string          // of the last session
	All     []string          // reports at all, each kind once

	image bool
}

// uninterrupted returns how a scenario ends, and the operations that it takes.
func uninterrupted(t *testing.T, name, url string) (e ending, ops []string) {
	t.Helper()
	dir := t.TempDir()
	l := life{Scenario: name, URL: url, Dir: dir, Boots: true, Plan: faultfs.Plan{At: -1}}
	l.log = func(_ int, op string) { ops = append(ops, op) }
	l.setUp(t)
	l.lives(t)
	e = l.ending(t)
	e.image = scenarios()[name].image != nil
	if e.Verdict != scenarios()[name].fails {
		t.Fatalf("ended with %q", e.Verdict)
	}
	return e, ops
}

func (l life) ending(t *testing.T) ending {
	t.Helper()
	e := ending{Disk: map[string]string{}, Steps: map[string]string{}, Verdict: l.verdict(t).Code}
	err := filepath.WalkDir(l.disk(), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(l.disk(), path)
		switch name {
		case "run":
			return fs.SkipDir
		case "slots/running": // depends on the latest boot; what counts is what is started next
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		e.Disk[name] = info.Mode().String()
		if info.Mode().IsRegular() && name != "state/state.json" {
			content, err := os.ReadFile(path)
			e.Disk[name] += " " + string(content)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	e.Record = l.record(t)
	e.status(t, l)
	reports, err := os.ReadFile(l.world("reports"))
	if err != nil {
		t.Fatal(err)
	}
	for report := range strings.Lines(string(reports)) {
		switch report = strings.TrimSpace(report); report {
		case string(progress.Informational):
			continue
		case string(progress.BootstrapInitiated):
			e.Reports = nil
		}
		e.Reports = append(e.Reports, report)
		e.All = append(e.All, report)
	}
	slices.Sort(e.All)
	e.All = slices.Compact(e.All)
	return e
}

// record is what of the durable record must not depend on interruptions.
func (l life) record(t *testing.T) string {
	t.Helper()
	store, err := state.Open(l.disk("state"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := store.Load()
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("enabled %v, outcome %q, %d steps", r.Enabled, r.Outcome, len(r.Journal))
	for _, hash := range slices.Sorted(maps.Keys(r.Images)) {
		i := r.Images[hash]
		text += fmt.Sprintf(", image %.8s %s in slot %q", hash, i.State, i.Slot)
		if i.State == state.ImageGood && (i.Attempts > 0 || i.Reboots > 0) {
			text += " with attempts left"
		}
	}
	return text
}

func (e *ending) status(t *testing.T, l life) {
	t.Helper()
	data, err := os.ReadFile(l.disk("run", "status.json"))
	var s state.Status
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range s.Steps {
		e.Steps[step.Name] = step.Result
	}
}

// diff compares two endings. A device that only had to find out that it was done shows no steps, and has other reports behind it.
func diff(t *testing.T, want, got ending) {
	t.Helper()
	if len(got.Steps) == 0 {
		want.Steps = got.Steps
	}
	want.All, got.All = nil, nil
	if d := cmp.Diff(want, got, cmp.FilterPath(func(p cmp.Path) bool { return p.String() == "image" }, cmp.Ignore())); d != "" {
		t.Errorf("it ends otherwise than without interruption: %s", d)
	}
}

// effects are the scripts whose effects are there in the end.
func (e ending) effects() (names []string) {
	for _, name := range []string{"pre", "handler", "post"} {
		if _, ok := e.Disk["effects/"+name]; ok {
			names = append(names, name)
		}
	}
	return names
}

// wantNothingHalfDone checks that the device is as before the session, or after it, as far as the folders go.
func wantNothingHalfDone(t *testing.T, l life, want ending, folders ...string) {
	t.Helper()
	r := l.record(t)
	done := strings.Contains(r, string(state.OutcomeProvisioned))
	if !strings.Contains(r, " 0 steps") {
		t.Errorf("there are still steps to undo: %s", r)
	}
	expect := map[string]string{"effects/none": "", "etc/config.json": oldConfig}
	if done {
		expect = map[string]string{}
		for name := range want.Disk {
			if strings.HasPrefix(name, "effects/") || name == "etc/config.json" {
				_, expect[name], _ = strings.Cut(want.Disk[name], " ")
			}
		}
	}
	got := map[string]string{}
	for _, folder := range folders {
		entries, _ := os.ReadDir(l.disk(folder))
		for _, entry := range entries {
			name := folder + "/" + entry.Name()
			content, _ := os.ReadFile(l.disk(name))
			got[name] = string(content)
		}
	}
	if d := cmp.Diff(expect, got); d != "" {
		t.Errorf("half-done (provisioned: %v): %s", done, d)
	}
}

// wantOrder checks that scripts were undone before they ran again, in reverse order, and which were not undone at the end.
func wantOrder(t *testing.T, l life, effects []string) {
	t.Helper()
	trace, err := os.ReadFile(l.world("trace"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	var done []string
	for line := range strings.Lines(string(trace)) {
		name, how, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch n := len(done); {
		case how == "run" && slices.Contains(done, name):
			t.Errorf("%q twice", name)
		case how == "run":
			done = append(done, name)
		case n > 0 && done[n-1] == name: // the last effect; or none, when the script had been recorded but not yet run
			done = done[:n-1]
		case slices.Contains(done, name):
			t.Errorf("%q undone out of order", name)
		}
	}
	if !slices.Equal(effects, done) {
		t.Errorf("in effect: %q, want %q", done, effects)
	}
}
