package onboard

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/test/bootmodel"
	"github.com/xpu-sztp/ztp/test/faultfs"
)

// TestSweep lets something go wrong at every operation on files, and at every message and reboot, of several ways to be
// provisioned, and wants the device to end where it would have without it. ZTP_SWEEP=complete does so at every single
// one (make sweep); otherwise a sample is taken.
func TestSweep(t *testing.T) {
	server := newImageServer(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for _, l := range lives(server.URL) {
		t.Run(l.Backend+"/"+l.Scenario, func(t *testing.T) {
			t.Parallel()
			want, ops := l.uninterrupted(t)
			if len(ops) < 20 {
				t.Fatalf("only %d operations: the sweep does not reach anything", len(ops))
			}
			all := mishaps(ops, l.Backend == "file")
			r := rand.New(rand.NewPCG(seed, 0))
			r.Shuffle(len(all), func(i, k int) { all[i], all[k] = all[k], all[i] })
			if os.Getenv("ZTP_SWEEP") != "complete" {
				all = all[:min(samples, len(all))]
			}
			t.Logf("%d operations, %d ways to go wrong", len(ops), len(all))
			for some := range slices.Chunk(all, 100) { // so that no life is left for one processor at the end
				t.Run("", func(t *testing.T) {
					t.Parallel()
					for _, m := range some {
						m.run(t, l, len(ops), want)
						if t.Failed() {
							return // what follows usually has the same cause
						}
					}
				})
			}
		})
	}
}

// lives are all scenarios, and those with images on all kinds of devices.
func lives(url string) (all []life) {
	for _, backend := range slices.Sorted(maps.Keys(bootmodel.Kinds())) {
		for _, name := range slices.Sorted(maps.Keys(scenarios())) {
			if s := scenarios()[name]; backend == "file" || s.image != nil && !s.stopped {
				all = append(all, life{Scenario: name, Backend: backend, URL: url})
			}
		}
	}
	return all
}

// samples is how many ways to go wrong are tried of each scenario unless the sweep is complete.
const samples = 12

// newImageServer serves the images as /next and /lying.
func newImageServer(t *testing.T) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		served, ok := map[string][]byte{"/next": nextImage, "/lying": lyingImage}[q.URL.Path]
		if !ok {
			http.NotFound(w, q)
			return
		}
		w.Header().Set("ETag", `"`+q.URL.Path+`"`)
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

// deadly are the faults that end the life of a process.
func deadly() []faultfs.Fault {
	return append([]faultfs.Fault{faultfs.Kill, faultfs.KillAfter}, faultfs.Cuts()...)
}

// imageFile is what an image is written to, on any device.
var imageFile = regexp.MustCompile(`\.img$|/EFI/Linux/`)

// passing is what records hold for a while: the path of an image, where it is not always the same one, and which attempt of
// an installer was the latest.
var passing = regexp.MustCompile(`/\S*/EFI/Linux/\S*|/\S*/disk|,"attempt":\{[^{}]*\}`)

// mishaps returns all ways to go wrong that are worth it. On other devices than those with the back end "file", whatever has
// nothing to do with images is the same, so there are fewer.
func mishaps(ops []string, every bool) (all []mishap) {
	add := func(m mishap) { all = append(all, m) }
	for at, op := range ops {
		even := at%2 == 0
		what := func(f faultfs.Fault, seed uint64) faultfs.Plan { return faultfs.Plan{What: f, At: at, Seed: seed} }
		add(mishap{plan: what(faultfs.Broken, 0), abandon: even})
		kind, _, _ := strings.Cut(op, " ")
		switch kind {
		case "write":
			add(mishap{plan: what(faultfs.KillTorn, uint64(at)), deaths: 1, abandon: even})
			add(mishap{plan: what(faultfs.FullShort, 0), abandon: even})
			if _, file, ok := strings.Cut(op, " of "); ok && imageFile.MatchString(file) {
				add(mishap{plan: faultfs.Plan{What: faultfs.Flipped, Only: op}})
			}
		case "sync":
			add(mishap{plan: what(faultfs.SyncLost, 0), abandon: even})
		case "create", "rename", "mkdir", "exchange":
			add(mishap{plan: what(faultfs.Full, 0), abandon: even})
		case "send", "receive", "the":
			add(mishap{plan: what(faultfs.KillAfter, 0), deaths: 1, abandon: even})
		}
		if at > 0 && (strings.HasPrefix(ops[at-1], "read") || strings.HasPrefix(ops[at-1], "close")) {
			continue // nothing has changed since
		}
		add(mishap{plan: what(faultfs.Kill, 0), deaths: 1, abandon: even})
		add(mishap{plan: what(deadly()[at%len(deadly())], uint64(at)), deaths: []int{2, 3, 5}[at%3], abandon: even})
		add(mishap{plan: what(faultfs.CutTorn, uint64(at)), deaths: 1, abandon: even})
		add(mishap{plan: what(faultfs.CutLost, 0), deaths: 1, abandon: !even})
		switch {
		case !every:
		case even:
			add(mishap{plan: what(faultfs.CutTorn, uint64(at)+1000), deaths: 1})
			add(mishap{plan: what(faultfs.CutNames, 0), deaths: 1, abandon: true})
			add(mishap{plan: faultfs.Plan{What: faultfs.Full, At: at, More: -1}, abandon: true})
		default:
			add(mishap{plan: what(faultfs.CutLost, 0), deaths: 1})
			add(mishap{plan: what(faultfs.CutData, 0), deaths: 1, abandon: true})
			add(mishap{plan: what(faultfs.CutKept, 0), deaths: 1})
			add(mishap{plan: faultfs.Plan{What: faultfs.Broken, At: at, More: -1}})
		}
	}
	for _, name := range []string{"pre", "post", "handler"} {
		for _, how := range []string{"run", "undo"} {
			for _, abandon := range []bool{false, true} {
				add(mishap{script: name + "." + how, deaths: 1, abandon: abandon, plan: faultfs.Plan{At: -1, What: faultfs.Kill}})
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
	l = m.die(t, l, ops, want)
	l.Plan = faultfs.Plan{At: -1}
	if m.abandon {
		l.Recover = true
		l.lives(t)
		wantNothingHalfDone(t, l, want, "etc", "effects", "seed/nocloud", "state/onboard")
		l.Recover, l.Boots = false, false
	}
	l.lives(t)
	diff(t, want, l.ending(t))
	wantOrder(t, l, want.effects())
}

// die plays until the device has died as often as it shall.
func (m mishap) die(t *testing.T, l life, ops int, want ending) life {
	r := rand.New(rand.NewPCG(m.plan.Seed, uint64(m.plan.At)))
	for range m.deaths {
		if !l.start(t) {
			break
		}
		l.Boots = slices.Contains(faultfs.Cuts(), l.Plan.What)
		wantBootable(t, l)
		wantTrueRecords(t, l)
		wantWholeConfiguration(t, l, want)
		deadly := deadly()
		l.Plan = faultfs.Plan{What: deadly[r.IntN(len(deadly))], At: r.IntN(ops), Seed: r.Uint64()}
	}
	return l
}

// fail plays a device with a fault that it can tell of.
func (m mishap) fail(t *testing.T, l life, want ending) {
	l.lives(t)
	wantBootable(t, l)
	wantTrueRecords(t, l)
	wantWholeConfiguration(t, l, want)
	v := l.verdict(t)
	switch {
	case v.Code == "" && (v.Text != "" || want.Verdict != ""):
		t.Errorf("it ended well, or without a reason code: %+v", v)
	case v.Code == reason.Internal:
		t.Errorf("%+v", v)
	case v.Code != "" && m.plan.More == 0 && m.plan.What != faultfs.SyncLost && !strings.Contains(v.Text, "cannot undo"):
		wantNothingHalfDone(t, l, want, "etc", "effects", "seed/nocloud") // what is private may wait for the next start
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
