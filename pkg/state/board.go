package state

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"time"

	"github.com/xpu-sztp/ztp/pkg/durable"
)

// StatusName is the name of the live status in the run folder.
const StatusName = "status.json"

// Board is the live status of the running daemon, kept in memory and mirrored to a file that anyone may read. It is safe
// for use by several goroutines.
type Board struct {
	path string
	now  func() time.Time

	mu     sync.Mutex
	status Status
	bytes  []byte
	err    error
}

// NewBoard returns a board that shows initial at path, making its folder when it is missing.
func NewBoard(path string, initial Status) *Board {
	b := &Board{path: path, now: time.Now, status: initial}
	os.MkdirAll(filepath.Dir(path), 0o755) // what went wrong, the write that follows finds out
	b.Update(func(*Status) {})
	return b
}

// Update changes the status and publishes it: readers see the old one or the new one. It costs one small file; callers
// coalesce changes that come more often than a person can read. Texts are shortened and made printable. A file that cannot
// be written does not stop the agent; see Err.
func (b *Board) Update(change func(*Status)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change(&b.status)
	tidy(reflect.ValueOf(&b.status))
	b.status.Schema = StatusSchema
	b.status.Updated = b.now().UTC()
	data, err := json.Marshal(&b.status)
	if err == nil {
		b.bytes = data
		err = publish(b.path, data)
	}
	b.err = err
}

// Snapshot returns a copy that shares nothing with the board.
func (b *Board) Snapshot() Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	var s Status
	if err := json.Unmarshal(b.bytes, &s); err != nil {
		return b.status
	}
	return s
}

// Err tells why the last Update could not be published, or nil.
func (b *Board) Err() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

// publish replaces the file at path without syncing: the run folder does not survive a power cut anyway.
func publish(path string, data []byte) error {
	temp := durable.TempName(path)
	os.Remove(temp) // left by a daemon that was killed
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	// Nothing in the status is secret, and operators without privileges look at it; the umask shall not decide.
	if chmodErr := f.Chmod(0o644); err == nil {
		err = chmodErr
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		os.Remove(temp)
	}
	return err
}
