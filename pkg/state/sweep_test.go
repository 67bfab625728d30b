package state

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/test/faultfs"
)

// faults are all that can go wrong with a record.
func faults() []faultfs.Fault {
	return append(append([]faultfs.Fault{faultfs.Kill, faultfs.KillTorn}, faultfs.Cuts()...), faultfs.Errors()...)
}

// TestUpdateSurvives interrupts changes of the record: all that were reported are there, and at most the one that was being
// made. The state folder is made by the first one.
func TestUpdateSurvives(t *testing.T) {
	done := 0
	update := func(s *Store) error {
		return s.Update(func(r *Record) error {
			r.Network = Network{fmt.Sprint(done + 1)}
			return nil
		})
	}
	n, err := faultfs.Sweep{
		Faults: faults(), Seeds: 4,
		Setup: func(string) error { done = 0; return nil },
		Task: func(on *faultfs.FS, root string) error {
			s, err := OpenOn(on, filepath.Join(root, "lib", "state"))
			for ; err == nil && done < 2; done++ {
				if err = update(s); err != nil {
					break
				}
			}
			if err != nil {
				return err
			}
			return update(s)
		},
		Check: func(root string, taskErr error) error {
			if code, hint := reason.Of(taskErr); taskErr != nil && !errors.Is(taskErr, faultfs.ErrDied) && (code == reason.Internal || hint == "") {
				return fmt.Errorf("no reason for people: %w", taskErr)
			}
			s, err := Open(filepath.Join(root, "lib", "state"))
			if err != nil {
				return err
			}
			r, err := s.Load()
			if err != nil {
				return err
			}
			got := 0
			if len(r.Network) > 0 {
				fmt.Sscan(r.Network[0], &got)
			}
			if got != done && got != done+1 {
				return fmt.Errorf("%d updates were reported, and the record is that of %d", done, got)
			}
			return update(s) // nothing is in the way of the next one
		},
	}.Run(t.TempDir())
	if err != nil {
		t.Error(err)
	}
	t.Logf("%d faults", n)
}

// TestUpdateAgain has another process make the same change again after the first one was killed: when it is reported, it is
// durable, whoever wrote it.
func TestUpdateAgain(t *testing.T) {
	update := func(on *faultfs.FS, root string) error {
		s, err := OpenOn(on, filepath.Join(root, "state"))
		if err != nil {
			return err
		}
		return s.Update(func(r *Record) error { r.Outcome = OutcomeProvisioned; return nil })
	}
	_, err := faultfs.Sweep{
		Faults: []faultfs.Fault{faultfs.Kill, faultfs.KillAfter},
		Setup:  func(string) error { return nil },
		Task:   update,
		Again:  update,
		Check: func(root string, err error) error {
			if err != nil {
				return err
			}
			s, err := Open(filepath.Join(root, "state"))
			if err != nil {
				return err
			}
			r, err := s.Load()
			if err == nil && r.Outcome != OutcomeProvisioned {
				err = errors.New("the outcome was lost")
			}
			return err
		},
	}.Run(t.TempDir())
	if err != nil {
		t.Error(err)
	}
}

// TestQuarantineSurvives interrupts the moving aside of a corrupt record: it is there for people, and never does the device
// read as fresh from the factory.
func TestQuarantineSurvives(t *testing.T) {
	const corrupt = "{ not a record"
	_, err := faultfs.Sweep{
		Faults: faults(),
		Setup: func(root string) error {
			return os.WriteFile(filepath.Join(root, recordName), []byte(corrupt), 0o600)
		},
		Task: func(on *faultfs.FS, root string) error {
			s, err := OpenOn(on, root)
			if err == nil {
				_, err = s.Load()
			}
			return err
		},
		Check: func(root string, _ error) error {
			kept := false
			for _, name := range []string{recordName, recordName + ".corrupt"} {
				content, _ := os.ReadFile(filepath.Join(root, name))
				kept = kept || string(content) == corrupt
			}
			if !kept {
				return errors.New("nobody can look at it any more")
			}
			s, err := Open(root)
			if err != nil {
				return err
			}
			r, err := s.Load()
			if err != nil {
				r, err = s.Load() // the first one moved it aside
			}
			if err != nil {
				return err
			}
			if r.Enabled {
				return errors.New("the device would provision itself again")
			}
			return nil
		},
	}.Run(t.TempDir())
	if err != nil {
		t.Error(err)
	}
}
