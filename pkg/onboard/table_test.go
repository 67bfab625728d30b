package onboard

import (
	std "cmp"
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/progress"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/slot"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// matrix draws rules as a table: a line for each state and a column for each event, with the state that it leads to.
func matrix(table string, states []string, events []event) string {
	var b strings.Builder
	for _, from := range states {
		for _, on := range events {
			to := "."
			if r, err := find(table, from, on); err == nil {
				if to = r.to; r.do != nothing {
					to += "(" + string(r.do) + ")"
				}
			}
			b.WriteString(to + " ")
		}
		b.WriteString("\n")
	}
	return b.String()
}

var (
	imageStates = []state.ImageState{
		state.ImageNone, state.ImageFetching, state.ImageWritten, state.ImageActivated, state.ImageTrial, state.ImageRunning, state.ImageGood,
		state.ImageFellBack, state.ImageRefused,
	}
	imageEvents = []event{
		fetch, verified, activate, reboot, started, satisfied, acknowledge, withdraw, fellBack, returned, leave, refuse, overwritten, expire,
	}
	stepStates = []string{string(absent), string(begun), string(stuck)}
	stepEvents = []event{begin, acknowledge, undo, undone, undoFailed, giveUp}
)

// TestTransitions is the table of every state and event, written down a second time.
func TestTransitions(t *testing.T) {
	const images = `
fetching(write) . . . . . none(bless) . . . none(restart) refused . .
fetching(write) written . . . . . . . . fetching(restart) refused none .
. . activated(arm) . trial . . . . . written(restart) refused none .
. . activated(arm) trial(restart) trial . . written(disarm) . . activated(restart) refused(disarm) none .
. . . trial(restart) . running good(bless) none(disarm) fell-back . . refused(disarm) none trial(retreat)
. . . . . running good(bless) . . none . refused none trial(retreat)
fetching(write) . . . . good good(bless) . . . good(restart) refused good .
fetching(write) . . . trial . . . . . fell-back(restart) refused fell-back .
fetching(write) . . . . running good(bless) refused(disarm) . . refused(restart) refused refused refused(retreat)
`
	if diff := cmp.Diff(lines(images), lines(matrix(imageRules, named(imageStates), imageEvents))); diff != "" {
		t.Errorf("images: %s", diff)
	}
	const steps = `
begun(execute) . . . . .
. absent begun(take-back) absent stuck .
. . stuck(take-back) absent stuck absent
`
	if diff := cmp.Diff(lines(steps), lines(matrix(stepRules, stepStates, stepEvents))); diff != "" {
		t.Errorf("steps: %s", diff)
	}
}

// named is how the table calls the states.
func named(states []state.ImageState) (all []string) {
	for _, s := range states {
		all = append(all, std.Or(string(s), "none"))
	}
	return all
}

func lines(text string) (all []string) {
	for line := range strings.Lines(strings.TrimSpace(text)) {
		all = append(all, strings.TrimSpace(line))
	}
	return all
}

// TestTableIsReadable: every line is a rule, of states, events and effects that there are, and no two say different things.
func TestTableIsReadable(t *testing.T) {
	effects := []effect{nothing, write, arm, disarm, bless, restart, retreat, execute, takeBack}
	for table, known := range map[string]struct {
		states []string
		events []event
	}{imageRules: {named(imageStates), imageEvents}, stepRules: {stepStates, stepEvents}} {
		seen := map[[2]string]bool{}
		all := rules(table)
		for _, r := range all {
			if !slices.Contains(known.states, r.from) || !slices.Contains(known.states, r.to) || !slices.Contains(known.events, r.on) ||
				!slices.Contains(effects, r.do) || !slices.Contains(effects, r.back) || seen[[2]string{r.from, string(r.on)}] {
				t.Errorf("%+v", r)
			}
			seen[[2]string{r.from, string(r.on)}] = true
		}
		written := 0
		for line := range strings.Lines(table) {
			if strings.TrimSpace(line) != "" && !strings.HasPrefix(line, "state ") {
				written++
			}
		}
		if len(all) != written {
			t.Errorf("%d of %d lines are rules", len(all), written)
		}
	}
}

// TestNoDeadEnds: whatever state an image is in, it can become good, and it can be refused.
func TestNoDeadEnds(t *testing.T) {
	for _, goal := range []string{"good", "refused"} {
		reaches := map[string]bool{goal: true}
		for range imageStates {
			for _, r := range rules(imageRules) {
				reaches[r.from] = reaches[r.from] || reaches[r.to]
			}
		}
		for _, s := range named(imageStates) {
			if !reaches[s] {
				t.Errorf("%q never becomes %s", s, goal)
			}
		}
	}
}

// TestOnlyAcknowledgedBecomesGood (RFC 8572 §5.6).
func TestOnlyAcknowledgedBecomesGood(t *testing.T) {
	for _, r := range rules(imageRules) {
		if (r.to == "good" && r.from != "good" || r.do == bless) && r.on != acknowledge {
			t.Errorf("%+v", r)
		}
	}
}

// TestDrawing holds the drawing in the package comment against the table.
func TestDrawing(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "onboard.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	_, drawing, _ := strings.Cut(f.Doc.Text(), "\n\n")
	words := strings.FieldsFunc(drawing, func(r rune) bool { return r != '-' && (r < 'a' || r > 'z') })
	for _, s := range imageStates[1:] {
		if !slices.Contains(words, string(s)) {
			t.Errorf("the state %s is not drawn", s)
		}
	}
	for _, on := range slices.Concat(imageEvents, stepEvents) {
		if !slices.Contains(words, string(on)) {
			t.Errorf("the event %s is not drawn", on)
		}
	}
}

// TestEffectsHaveOnePlace: nothing but the function that looks at the rule changes slots.
func TestEffectsHaveOnePlace(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][]string{}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			ast.Inspect(fn, func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok {
					if of, ok := s.X.(*ast.SelectorExpr); ok && of.Sel.Name == "Slots" && s.Sel.Name != "Describe" {
						got[fn.Name.Name] = append(got[fn.Name.Name], s.Sel.Name)
					}
				}
				return true
			})
		}
	}
	want := map[string][]string{"perform": {"Activate", "Deactivate", "MarkGood"}, "write": {"Open"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// spy is a back end that notes what it is told, together with the state that is recorded at that moment.
type spy struct {
	slot.Description
	recorded func() state.ImageState
	told     []string
}

func (s *spy) note(what string)                                   { s.told = append(s.told, what+" in "+string(s.recorded())) }
func (s *spy) Describe(context.Context) (slot.Description, error) { return s.Description, nil }
func (s *spy) Activate(context.Context) error                     { s.note(string(arm)); return nil }
func (s *spy) Deactivate(context.Context) error                   { s.note(string(disarm)); return nil }
func (s *spy) MarkGood(context.Context) error                     { s.note(string(bless)); return nil }
func (s *spy) Open(context.Context) (slot.Writer, error) {
	s.note(string(write))
	return &spyWriter{s}, nil
}

// spyWriter takes nothing.
type spyWriter struct{ *spy }

func (*spyWriter) Write(p []byte) (int, error)          { return len(p), nil }
func (w *spyWriter) Slot() string                       { return w.Target }
func (*spyWriter) Reset() error                         { return nil }
func (*spyWriter) Commit(context.Context, []byte) error { return nil }
func (*spyWriter) Close() error                         { return nil }

// TestExecutorObeysTheTable tries every event in every state. What the table does not have changes nothing; what it has is
// recorded before its one effect.
func TestExecutorObeysTheTable(t *testing.T) {
	m := newMirror(t, newImage)
	for _, from := range imageStates {
		for _, on := range imageEvents {
			t.Run(string(from)+"/"+string(on), func(t *testing.T) {
				r := newRig(t)
				p := plan{boot: demand(newImage, "2", m.URL+"/image")}
				recorded := func() state.ImageState { return r.record(t).Images[r.key(p)].State }
				watch := &spy{recorded: recorded, Description: slot.Description{Running: "a", Good: "a", Target: "b"}}
				r.opts.Slots = watch
				before := state.ImageRecord{State: from, Slot: "b"}
				if err := r.store.Update(func(rec *state.Record) error {
					rec.Images = map[string]state.ImageRecord{r.key(p): before}
					return nil
				}); err != nil {
					t.Fatal(err)
				}
				s := &session{Executor: New(r.opts), plan: p, network: loopback{}, slots: watch.Description}
				s.reports = s.Executor.reports(nil, progress.Minimal)
				err := s.advance(t.Context(), on)
				step, unknown := findImage(from, on)
				if unknown != nil {
					wantCode(t, err, reason.Internal)
					if diff := cmp.Diff(before, r.record(t).Images[r.key(p)]); diff != "" || watch.told != nil || r.trace() != nil {
						t.Errorf("did %v %v: %s", watch.told, r.trace(), diff)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				var told, trace []string
				end := step.image()
				switch step.do {
				case nothing:
				case restart:
					trace = []string{"reboot"}
				case retreat:
					told, trace = []string{"disarm in " + string(step.image())}, []string{"reboot"}
				case write:
					end = state.ImageWritten // the effect ends with an event of its own
					fallthrough
				default:
					told = []string{string(step.do) + " in " + string(step.image())}
				}
				if diff := cmp.Diff([]any{told, trace, end}, []any{watch.told, r.trace(), recorded()}); diff != "" {
					t.Error(diff)
				}
			})
		}
	}
}

// TestStepsObeyTheTable tries to begin and acknowledge what must not be.
func TestStepsObeyTheTable(t *testing.T) {
	entry := func(step state.StepName, undos int) state.Entry { return state.Entry{Step: step, Undos: undos} }
	for name, tt := range map[string]struct {
		journal []state.Entry
		step    state.StepName
		want    reason.Code
	}{
		"first":        {nil, state.StepPreScript, ""},
		"next":         {[]state.Entry{entry(state.StepPreScript, 0)}, state.StepPostScript, ""},
		"twice":        {[]state.Entry{entry(state.StepPreScript, 0)}, state.StepPreScript, reason.Internal},
		"out of order": {[]state.Entry{entry(state.StepConfiguration, 0)}, state.StepPreScript, reason.Internal},
		"stuck":        {[]state.Entry{entry(state.StepPostScript, 1)}, state.StepPostScript, reason.Internal},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			if err := r.store.Update(func(rec *state.Record) error { rec.Journal = tt.journal; return nil }); err != nil {
				t.Fatal(err)
			}
			s := &session{Executor: New(r.opts)}
			wantCode(t, s.record(state.Entry{Step: tt.step}), tt.want)
			if got := len(r.record(t).Journal); (got > len(tt.journal)) != (tt.want == "") {
				t.Errorf("%d entries", got)
			}
		})
	}
	t.Run("stuck is not acknowledged", func(t *testing.T) {
		r := newRig(t)
		if err := r.store.Update(func(rec *state.Record) error {
			rec.Journal = []state.Entry{entry(state.StepPreScript, 1)}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		s := &session{Executor: New(r.opts)}
		s.reports = s.Executor.reports(r.server, progress.Minimal)
		wantCode(t, s.complete(t.Context()), reason.Internal)
		if r.record(t).Outcome != "" {
			t.Error("provisioned")
		}
	})
}

// TestWhateverTheSlotsSay goes through every state of an image, everything that its slot may hold, and every way the slots may
// stand: the record is brought up to date by events that the table has, in a few of them, and what is decided then is in it too.
func TestWhateverTheSlotsSay(t *testing.T) {
	key := (&session{plan: plan{boot: demand(newImage, "")}}).imageKey()
	contents := map[string]map[string]slot.Image{
		"it":        {"b": {SHA256: demand(newImage, "").SHA256}},
		"something": {"b": {SHA256: demand("something else", "").SHA256}},
		"unknown":   {},
	}
	now := time.Now()
	for _, from := range imageStates {
		for what, held := range contents {
			for _, running := range []string{"a", "b"} {
				for _, good := range []string{"a", "b"} {
					for _, next := range []string{"", "a", "b"} {
						for _, attempts := range []int{0, 2} {
							i := state.ImageRecord{State: from, Slot: "b", Attempts: attempts, Updated: now.Add(-2 * state.RefusedFor)}
							d := slot.Description{Running: running, Good: good, Next: next, Target: "b", Contents: held}
							if running == "b" {
								d.Target = "a"
							}
							if from == state.ImageNone {
								i.Slot = ""
							}
							checkLook(t, key, i, d, what, false)
							checkLook(t, key, i, d, what, true)
						}
					}
				}
			}
		}
	}
}

func checkLook(t *testing.T, key string, i state.ImageRecord, d slot.Description, what string, signed bool) {
	t.Helper()
	start := i
	for looks := 0; ; looks++ {
		on, ok := observed(key, i, d, signed)
		if !ok {
			break
		}
		step, err := findImage(i.State, on)
		if err != nil || looks > 3 {
			t.Fatalf("%q, slot b holds %s, %+v: %s: %v", start.State, what, d, on, err)
		}
		i.State = step.image()
		tally(&i, on)
	}
	do, why := decide(key, i, d, 2, time.Now())
	if _, err := findImage(i.State, do); err != nil {
		t.Errorf("%q, slot b holds %s, %+v: became %q, decided %s %s", start.State, what, d, i.State, do, why)
	}
	if d.Trial() && (do == fetch || do == activate) {
		t.Errorf("%q, slot b holds %s, %+v: %s although the other slot is the only one to fall back to", start.State, what, d, do)
	}
	if i.Slot != "" && d.Running == i.Slot && i.State != state.ImageRefused {
		if _, err := findImage(i.State, satisfied); err != nil {
			t.Errorf("%q, slot b holds %s, %+v: became %q, which cannot be what is demanded", start.State, what, d, i.State)
		}
	}
}

// TestReturnIsNotBlamed: an image that has shown that it works is not blamed when the power fails before the session is at its
// end, and one that did not is.
func TestReturnIsNotBlamed(t *testing.T) {
	r, m := imageRig(t), newMirror(t, newImage)
	p := plan{boot: demand(newImage, "2", m.URL+"/image"), pre: sh("exit 1")}
	r.installs(t, p)
	r.boot(t)
	r.opts.Device.OSVersion = "2"
	_, err := r.run(progress.Minimal, p)
	wantCode(t, err, ReasonScriptFailed)
	if got := r.record(t).Images[r.key(p)]; got.State != state.ImageRunning || got.Attempts != 0 {
		t.Errorf("image %+v", got)
	}
	r.boot(t)
	r.opts.Device.OSVersion = "1"
	// A session that wants nothing notices all the same.
	if outcome, err := New(r.opts).execute(t.Context(), Request{}, plan{boot: &artifacts.BootImage{OSVersion: "1"}}); outcome != Complete {
		t.Fatal(err)
	}
	if got := r.record(t).Images[r.key(p)]; got.State != state.ImageNone || got.Reason != nil || got.Slot != "" {
		t.Errorf("image %+v", got)
	}
	if _, err := os.Stat(filepath.Join(r.dir, "slots", "next")); err == nil {
		t.Error("the image is started once more")
	}
}
