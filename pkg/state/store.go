package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/xpu-sztp/ztp/pkg/durable"
	"github.com/xpu-sztp/ztp/pkg/reason"
)

// MaxRecord is the size in bytes beyond which a record is neither written nor read.
const MaxRecord = 1 << 20

const (
	recordName = "state.json"
	lockName   = "lock"

	// lockPatience bounds the wait for another program's change, which takes milliseconds.
	lockPatience = 10 * time.Second
	lockPause    = 5 * time.Millisecond
)

// Store is the durable record in a state folder. It is safe for use by several goroutines and several processes.
//
// A record that cannot be decoded is never taken for a factory-fresh one: a device that may well be in production would
// provision itself again. It is moved aside (state.json.corrupt), the call that found it fails with ReasonCorrupt, and
// from then on the record says disabled, with that reason, until a person runs `ztp enable`. Removing state.json is the
// way to make a device factory-fresh.
type Store struct {
	dir string
	mu  sync.Mutex // keeps goroutines of this process from polling for each other's file lock
	on  durable.FS
	now func() time.Time

	release string // of the system that runs; see As
}

// Open returns the store in dir, which is made when it is missing and restricted to its owner.
func Open(dir string) (*Store, error) { return OpenOn(durable.OS{}, dir) }

// OpenOn is Open with another way of changing files.
func OpenOn(on durable.FS, dir string) (*Store, error) {
	if err := durable.MkdirAll(on, dir, 0o700); err != nil {
		return nil, accessError(dir, err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return nil, accessError(dir, err)
	}
	return &Store{dir: dir, on: on, now: time.Now}, nil
}

// Load returns the record as it is now; changes to it go nowhere. A missing file reads as NewRecord.
func (s *Store) Load() (*Record, error) {
	r, _, err := readRecord(s.path())
	if !errors.Is(err, errCorrupt) {
		return r, err
	}
	unlock, lockErr := s.lock()
	if lockErr != nil {
		return nil, lockErr
	}
	defer unlock()
	r, _, err = s.read()
	return r, err
}

// Update changes the record under a lock that also holds off other processes. When it returns nil the change is
// durable. Otherwise the record is as it was or, when all but the last sync succeeded, as change made it, and which of the two
// outlasts a power cut is not known. An error of change is returned unaltered. change must be quick: no
// process can change anything meanwhile.
func (s *Store) Update(change func(*Record) error) error {
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	r, old, err := s.read()
	if err != nil {
		return err
	}
	if err := change(r); err != nil {
		return err
	}
	r.Schema = RecordSchema
	return s.write(r, old)
}

func (s *Store) path() string { return filepath.Join(s.dir, recordName) }

// read returns the record and its bytes, or moves a corrupt one aside and fails.
func (s *Store) read() (*Record, []byte, error) {
	r, data, err := readRecord(s.path())
	if errors.Is(err, errCorrupt) {
		if moveErr := s.quarantine(err); moveErr != nil {
			return nil, nil, errors.Join(err, moveErr)
		}
	}
	return r, data, err
}

// quarantine keeps the corrupt record for people and puts one in its place that is disabled. The copy is a hard link,
// so that at no instant there is no record at all, which would read as factory-fresh.
func (s *Store) quarantine(cause error) error {
	aside := s.path() + ".corrupt"
	if err := s.on.Remove(aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := s.on.Link(s.path(), aside); err != nil {
		return err
	}
	r := NewRecord()
	r.Enabled = false
	code, hint := reason.Of(cause)
	r.Reason = &Reason{Code: string(code), Message: cause.Error(), Hint: hint, At: s.now().UTC()}
	return s.write(r, nil)
}

func (s *Store) write(r *Record, old []byte) error {
	data, err := json.Marshal(r)
	if err != nil {
		return &reason.Error{Code: reason.Internal, Msg: "cannot encode the state", Err: err}
	}
	if len(data) > MaxRecord {
		return &reason.Error{Code: ReasonTooLarge, Msg: fmt.Sprintf("state of %d bytes exceeds %d", len(data), MaxRecord)}
	}
	if bytes.Equal(data, old) {
		err = s.on.SyncDir(s.dir) // who wrote it may have died, or failed, before that
		if err == nil {
			err = s.noTrial(r)
		}
	} else {
		err = s.replace(r, data)
	}
	return s.unwritten(err)
}

func (s *Store) unwritten(err error) error {
	if err == nil {
		return nil
	}
	return &reason.Error{
		Code: ReasonWrite,
		Msg:  "cannot write the state for good",
		Fix:  "check that " + s.dir + " has free space and is writable",
		Err:  err,
	}
}

// lock takes the store's lock and returns what releases it.
func (s *Store) lock() (unlock func(), err error) {
	s.mu.Lock()
	f, err := os.OpenFile(filepath.Join(s.dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		s.mu.Unlock()
		return nil, accessError(s.dir, err)
	}
	release := func() { f.Close(); s.mu.Unlock() }
	for waited := time.Duration(0); ; waited += lockPause {
		switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); {
		case err == nil:
			return release, nil
		case err != syscall.EWOULDBLOCK && err != syscall.EINTR:
			release()
			return nil, accessError(s.dir, err)
		case waited >= lockPatience:
			release()
			return nil, &reason.Error{
				Code: ReasonLocked,
				Msg:  fmt.Sprintf("another program has kept the state in %s locked for %v", s.dir, lockPatience),
				Fix:  "look for a stopped ztp process with `ps`",
			}
		}
		time.Sleep(lockPause)
	}
}

// errCorrupt is in the chain of the error for a record that cannot be decoded.
var errCorrupt = errors.New("corrupt state")

// readRecord reads and checks a record. It changes nothing.
func readRecord(path string) (*Record, []byte, error) {
	data, err := durable.ReadShared(path, MaxRecord)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return NewRecord(), nil, nil
	case errors.Is(err, durable.ErrTooLarge):
		return nil, nil, corruptError(path, err)
	case err != nil:
		return nil, nil, accessError(path, err)
	}
	var version struct {
		Schema int `json:"schema"`
	}
	if err := json.Unmarshal(data, &version); err != nil {
		return nil, nil, corruptError(path, err)
	}
	if version.Schema > RecordSchema {
		return nil, nil, &reason.Error{
			Code: ReasonSchema,
			Msg:  fmt.Sprintf("%s has schema %d; this version knows up to %d", path, version.Schema, RecordSchema),
			Fix:  "use the ztp version that wrote it, or remove the file to make the device factory-fresh",
		}
	}
	r := new(Record)
	if err := json.Unmarshal(data, r); err != nil {
		return nil, nil, corruptError(path, err)
	}
	if r.Schema < 1 {
		return nil, nil, corruptError(path, errors.New("no schema"))
	}
	return r, data, nil
}

func corruptError(path string, err error) error {
	return &reason.Error{
		Code: ReasonCorrupt,
		Msg:  fmt.Sprintf("%s is corrupt; the device stays disabled", path),
		Fix:  "look at " + path + ".corrupt; run `ztp enable` if the device shall provision itself",
		Err:  fmt.Errorf("%w: %w", errCorrupt, err),
	}
}

func accessError(path string, err error) error {
	e := &reason.Error{
		Code: ReasonAccess, Msg: "cannot use " + path, Err: err, Fix: "check that its storage works, is writable and has free space",
	}
	if errors.Is(err, fs.ErrPermission) {
		e.Fix = "run the command as root"
	}
	return e
}
