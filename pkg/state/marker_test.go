package state

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/test/faultfs"
)

// markers lists the files of a state folder that systemd looks at.
func markers(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	found := []string{}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), restPrefix) || e.Name() == trialName {
			found = append(found, e.Name())
		}
	}
	return found
}

func provisioned(r *Record) bool { return r.Outcome == OutcomeProvisioned }

func TestMarkers(t *testing.T) {
	become := func(change func(*Record)) func(*Store) error {
		return func(s *Store) error { return s.Update(func(r *Record) error { change(r); return nil }) }
	}
	image := func(state ImageState) func(*Store) error {
		return become(func(r *Record) { r.Images = map[string]ImageRecord{"aa": {State: state, Slot: "b"}} })
	}
	done := become(func(r *Record) { r.Outcome = OutcomeProvisioned })
	restAs := func(release string) func(*Store) error {
		return func(s *Store) error { s.As(release); return s.Rest(provisioned) }
	}
	rest := restAs("os-1--")
	tests := map[string]struct {
		steps []func(*Store) error
		want  []string
	}{
		"fresh":                     {nil, []string{}},
		"nothing to do":             {[]func(*Store) error{done, rest}, []string{"at-rest.any", "at-rest.os-1--"}},
		"something to do":           {[]func(*Store) error{become(func(*Record) {}), rest}, []string{}},
		"changed":                   {[]func(*Store) error{done, rest, become(func(r *Record) { r.SetEnabled(false, "") })}, []string{}},
		"written as it was":         {[]func(*Store) error{done, rest, done}, []string{"at-rest.any", "at-rest.os-1--"}},
		"disturbed":                 {[]func(*Store) error{done, rest, (*Store).Disturb}, []string{}},
		"two systems":               {[]func(*Store) error{done, rest, restAs("os-2--")}, []string{"at-rest.any", "at-rest.os-1--", "at-rest.os-2--"}},
		"two systems, changed":      {[]func(*Store) error{done, rest, restAs("os-2--"), image(ImageGood)}, []string{}},
		"name of no file":           {[]func(*Store) error{done, restAs("../x")}, []string{}},
		"long name":                 {[]func(*Store) error{done, restAs(strings.Repeat("x", 201))}, []string{}},
		"system without a name":     {[]func(*Store) error{done, restAs("")}, []string{}},
		"fetching":                  {[]func(*Store) error{image(ImageFetching)}, []string{}},
		"written":                   {[]func(*Store) error{image(ImageWritten)}, []string{}},
		"activated":                 {[]func(*Store) error{image(ImageActivated)}, []string{"trial"}},
		"on trial":                  {[]func(*Store) error{image(ImageTrial)}, []string{"trial"}},
		"running":                   {[]func(*Store) error{image(ImageRunning)}, []string{"trial"}},
		"good":                      {[]func(*Store) error{image(ImageTrial), image(ImageGood)}, []string{}},
		"fell back":                 {[]func(*Store) error{image(ImageTrial), image(ImageFellBack)}, []string{}},
		"nothing to do on trial":    {[]func(*Store) error{image(ImageTrial), done, rest}, []string{"at-rest.any", "at-rest.os-1--", "trial"}},
		"an older one is forgotten": {[]func(*Store) error{image(ImageTrial), image(ImageRefused), done, rest}, []string{"at-rest.any", "at-rest.os-1--"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s, err := Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			for i, step := range tt.steps {
				if err := step(s); err != nil {
					t.Fatalf("step %d: %v", i, err)
				}
			}
			if diff := cmp.Diff(tt.want, markers(t, dir)); diff != "" {
				t.Errorf("markers (-want +got):\n%s", diff)
			}
		})
	}
}

// TestTrialKnowsItsOrigin: the file of a trial has the name of the system that armed it, whoever writes the record later.
func TestTrialKnowsItsOrigin(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		release string
		state   ImageState
		want    string
	}{{"os-1--", ImageWritten, ""}, {"os-1--", ImageActivated, "os-1--\n"}, {"os-2--", ImageTrial, "os-1--\n"}, {"os-2--", ImageRunning, "os-1--\n"},
		{"os-2--", ImageGood, ""}, {"os-2--", ImageActivated, "os-2--\n"}} {
		s.As(step.release)
		if err := s.Update(func(r *Record) error {
			r.Images = map[string]ImageRecord{"aa": {State: step.state, Slot: "b"}}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(filepath.Join(dir, trialName)); string(got) != step.want {
			t.Errorf("%s in %s: %q", step.state, step.release, got)
		}
	}
}

// TestCorruptRecordDisturbs has a device look again whose record was put in order.
func TestCorruptRecordDisturbs(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{recordName, restPrefix + "os-1--"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, err = s.Load()
	if code, _ := reason.Of(err); code != ReasonCorrupt {
		t.Errorf("got %v", err)
	}
	if got := markers(t, dir); len(got) != 0 {
		t.Errorf("still there: %v", got)
	}
}

// TestMarkersSurvive interrupts a device that becomes provisioned by an image, rests, and is to be provisioned anew. Whatever
// the power leaves, no daemon is kept from what it has to do, and an image on trial is known to be.
func TestMarkersSurvive(t *testing.T) {
	n, err := faultfs.Sweep{
		Faults: faults(), Seeds: 4,
		Setup: func(string) error { return nil },
		Task: func(on *faultfs.FS, root string) error {
			s, err := OpenOn(on, filepath.Join(root, "state"))
			if err != nil {
				return err
			}
			for _, change := range []func(*Record){
				func(r *Record) { r.Images = map[string]ImageRecord{"aa": {State: ImageActivated, Slot: "b"}} },
				func(r *Record) { r.Images = map[string]ImageRecord{"aa": {State: ImageGood, Slot: "b"}} },
				func(r *Record) { r.Outcome = OutcomeProvisioned },
				func(r *Record) { r.StartOver() },
			} {
				if err := s.Update(func(r *Record) error { change(r); return nil }); err != nil {
					return err
				}
				s.As("os-1--")
				if err := s.Rest(provisioned); err != nil {
					return err
				}
			}
			return nil
		},
		Again: func(on *faultfs.FS, root string) error { // another process starts anew, and is killed as well
			s, err := OpenOn(on, filepath.Join(root, "state"))
			if err != nil {
				return err
			}
			return s.Update(func(r *Record) error { r.StartOver(); return nil })
		},
		Check: func(root string, _ error) error {
			dir := filepath.Join(root, "state")
			r, _, err := readRecord(filepath.Join(dir, recordName))
			if err != nil {
				return err
			}
			resting := AtRest(dir, "os-1--") != ""
			_, any := os.Lstat(filepath.Join(dir, restAny))
			_, trying := os.Lstat(filepath.Join(dir, trialName))
			switch {
			case (resting || any == nil) && !provisioned(r): // systemd may not know the name
				return fmt.Errorf("no daemon starts for %+v", r)
			case r.OnTrial() && trying != nil:
				return errors.New("nobody knows of the trial")
			}
			return nil
		},
	}.Run(t.TempDir())
	if err != nil {
		t.Error(err)
	}
	t.Logf("%d faults", n)
}
