package state

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/xpu-sztp/ztp/pkg/durable"
)

// Files beside the record by whose names systemd decides what to start, without a process that would read the record.
//
//	at-rest.RELEASE  the system RELEASE has nothing to do at boot. It was found so by a daemon that knew the configuration; whatever
//	                 changes the record takes it away first. A power cut so leaves none too many, and a daemon that is started
//	                 for nothing puts it back.
//	at-rest.any      some system has: all that is asked where systemd knows no name.
//	trial            an image is on trial, or about to be. It is there before the record says so, and goes after the record does
//	                 not any more. It holds the name of the system that said so first: who finds its own name runs the good one.
//
// Both are made of the record alone, so that losing them, or having one too many, never needs more than a daemon that looks.
const (
	restPrefix = "at-rest."
	restAny    = restPrefix + "any"
	trialName  = "trial"

	maxRelease = 200 // bytes, of what a name can have
)

// As tells the store what systemd calls the system that runs: ID, VERSION_ID, IMAGE_VERSION and BUILD_ID of os-release, joined by
// dashes (%o-%w-%A-%B in units).
func (s *Store) As(release string) { s.release = release }

// Rest leaves word that the system has nothing to do at boot, if idle finds so of the record. A system whose name cannot be part
// of that of a file has the daemon started at each boot.
func (s *Store) Rest(idle func(*Record) bool) error {
	release := s.release
	if release == "" || len(release) > maxRelease || strings.ContainsAny(release, "/\x00") {
		return nil
	}
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	r, _, err := s.read()
	if err != nil || !idle(r) {
		return err
	}
	// Who wrote the record may have died, or failed, before it was durable.
	err = s.on.SyncDir(s.dir)
	for _, name := range []string{restPrefix + release, restAny} {
		if err == nil {
			err = s.mark(name)
		}
	}
	return s.unwritten(err)
}

// AtRest returns the file in the state folder dir by which systemd leaves the system with that name alone, as the unit's conditions
// do; "" when it starts the daemon.
func AtRest(dir, release string) string {
	file := filepath.Join(dir, restPrefix+release)
	for _, path := range []string{file, filepath.Join(dir, restAny), filepath.Join(dir, recordName)} {
		if _, err := os.Stat(path); err != nil {
			return ""
		}
	}
	return file
}

// Disturb has the daemon be started at the next boot, whatever it finds to do.
func (s *Store) Disturb() error {
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	return s.unwritten(s.disturb())
}

// disturb takes the word back. File systems keep the order of what happens to the names in one folder, so that what somebody
// removed who was killed right after it is not back beside a record that was written later.
func (s *Store) disturb() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), restPrefix) {
			err = errors.Join(err, durable.Remove(s.on, filepath.Join(s.dir, e.Name())))
		}
	}
	return err
}

// replace changes the record, and before and after it the files that are made of it.
func (s *Store) replace(r *Record, data []byte) error {
	if err := s.disturb(); err != nil {
		return err
	}
	if r.OnTrial() {
		if err := s.tryFrom(); err != nil {
			return err
		}
	}
	if err := durable.WriteFile(s.on, s.path(), data, 0o600, nil); err != nil {
		return err
	}
	return s.noTrial(r)
}

// tryFrom notes that what comes is tried from the system that runs, unless that is known of another one.
func (s *Store) tryFrom() error {
	trial := filepath.Join(s.dir, trialName)
	if _, err := os.Lstat(trial); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return durable.WriteFile(s.on, trial, []byte(s.release+"\n"), 0o600, nil)
}

// noTrial removes that when nothing is on trial any more.
func (s *Store) noTrial(r *Record) error {
	trial := filepath.Join(s.dir, trialName)
	if _, err := os.Lstat(trial); r.OnTrial() || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return durable.Remove(s.on, trial)
}

func (s *Store) mark(name string) error {
	f, err := s.on.OpenFile(filepath.Join(s.dir, name), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return s.on.SyncDir(s.dir)
}

// OnTrial reports whether an image of the record is on trial, or is about to be: from before the boot loader is told until the
// device was provisioned by it, or is known to have left it.
func (r *Record) OnTrial() bool {
	for _, i := range r.Images {
		switch i.State {
		case ImageActivated, ImageTrial, ImageRunning:
			return true
		}
	}
	return false
}
