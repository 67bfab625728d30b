package onboard

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/pkg/durable"
	"github.com/xpu-sztp/ztp/pkg/progress"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/state"
	"github.com/xpu-sztp/ztp/test/bootmodel"
	"github.com/xpu-sztp/ztp/test/faultfs"
)

// wantBootable checks what the boot loader would start: only what was there before, or all of an image that is to run.
func wantBootable(t *testing.T, l life) {
	t.Helper()
	started := l.wouldStart(t, 1)[0]
	if demanded := scenarios()[l.Scenario].image; !bytes.Equal(started, factoryImage) && !bytes.Equal(started, demanded) {
		t.Errorf("what boots are %d bytes %.9q that nobody verified", len(started), started)
	}
}

// wantWholeConfiguration checks that nobody could see half a configuration, not even before the agent runs: each is as it was
// before, or as it is to be.
func wantWholeConfiguration(t *testing.T, l life, want ending) {
	t.Helper()
	var seed, before, after []string
	for name, old := range map[string]string{"seed/nocloud/user-data": oldUser, "seed/nocloud/meta-data": factoryID} {
		now, _ := os.ReadFile(l.disk(name))
		_, next, _ := strings.Cut(want.Disk[name], " ")
		seed, before, after = append(seed, string(now)), append(before, old), append(after, next)
	}
	if !slices.Equal(seed, before) && !slices.Equal(seed, after) {
		t.Errorf("the seed is neither as before nor as it is to be: %q", seed)
	}
	for name, whole := range map[string][]string{
		"etc/config.json":            {oldConfig, "{\n  \"new\": true,\n  \"old\": [\n    1,\n    2\n  ]\n}\n"},
		"etc/new/folder/config.json": {"", "{\n  \"new\": true\n}\n"},
	} {
		if b, err := os.ReadFile(l.disk(name)); !slices.Contains(whole, string(b)) || err == nil && len(b) == 0 {
			t.Errorf("%s is neither as before nor as it is to be: %q", name, b)
		}
	}
}

// wantTrueRecords checks that each slot holds what its record says.
func wantTrueRecords(t *testing.T, l life) {
	t.Helper()
	b, err := l.machine().Backend(durable.OS{})
	if err != nil {
		t.Fatal(err)
	}
	d, err := b.Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, known := range d.Contents {
		if sum := sha256.Sum256(l.machine().Content(name)); !bytes.Equal(sum[:], known.SHA256) {
			t.Errorf("slot %s does not hold what its record says", name)
		}
	}
}

// wouldStart returns what the boot loader would start at the next few boots, if the agent did nothing.
func (l life) wouldStart(t *testing.T, boots int) (images [][]byte) {
	t.Helper()
	at := filepath.Join(l.Dir, "copy")
	defer os.RemoveAll(at)
	// Only what the boot loader reads: a script may still be at work, whose agent was killed.
	for _, part := range []string{"disk/slots", "disk/boot", "disk/efi", "firmware"} {
		from := filepath.Join(l.Dir, part)
		if _, err := os.Stat(from); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := os.CopyFS(filepath.Join(at, part), os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
	}
	for range boots {
		started, err := bootmodel.New(l.Backend, at).Start()
		if err != nil {
			t.Errorf("not bootable: %v", err)
		}
		images = append(images, started)
	}
	return images
}

// ending is what is left in the end.
type ending struct {
	Disk    map[string]string // content with mode by name
	Starts  string            // what the boot loader starts, if nobody does anything any more
	Verdict reason.Code
	Record  string
	Steps   map[string]string // by name; in the status
	Reports []string          // of the last session
	All     []string          // reports at all, each kind once
}

// uninterrupted returns how a scenario ends, and the operations that it takes.
func (l life) uninterrupted(t *testing.T) (e ending, ops []string) {
	t.Helper()
	l.Dir, l.Boots, l.Plan = t.TempDir(), true, faultfs.Plan{At: -1}
	l.log = func(_ int, op string) { ops = append(ops, op) }
	l.setUp(t)
	l.lives(t)
	e = l.ending(t)
	if e.Verdict != scenarios()[l.Scenario].fails {
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
		case "run", "boot", "efi": // the boot loader's; what counts is what it starts
			return fs.SkipDir
		case "slots/running", "slots/good", "slots/next":
			return nil
		}
		if dir := filepath.Dir(name); (dir == "slots" || dir == "state") && strings.HasSuffix(name, ".ztp-new") {
			return nil // what an interrupted write leaves there is overwritten by the next one
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		e.Disk[name] = info.Mode().String()
		if info.Mode().IsRegular() && name != "state/state.json" {
			content, err := os.ReadFile(path)
			e.Disk[name] += " " + passing.ReplaceAllString(string(content), "")
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, image := range l.wouldStart(t, 3) {
		line, _, _ := bytes.Cut(image, []byte("\n"))
		e.Starts = string(line)
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

// refusedIn is what the record says of an image that was refused when it was in a slot.
var refusedIn = regexp.MustCompile(`refused in slot "\w+"`)

// diff compares two endings. A device that only had to find out that it was done shows no steps, and has other reports behind it.
// One that was interrupted on trial withdraws the image, which is in no slot then, before it refuses it for its attempts.
func diff(t *testing.T, want, got ending) {
	t.Helper()
	if len(got.Steps) == 0 {
		want.Steps = got.Steps
	}
	if withdrawn := refusedIn.ReplaceAllString(want.Record, `refused in slot ""`); got.Record == withdrawn {
		want.Record = withdrawn
	}
	want.All, got.All = nil, nil
	if d := cmp.Diff(want, got); d != "" {
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
	expect := map[string]string{"effects/none": "", "etc/config.json": oldConfig,
		"seed/nocloud/user-data": oldUser, "seed/nocloud/meta-data": factoryID}
	if done {
		expect = map[string]string{}
		for name := range want.Disk {
			if strings.HasPrefix(name, "effects/") || strings.HasPrefix(name, "seed/nocloud/") || path.Dir(name) == "etc" {
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
