package state

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Owner is the numeric user and group of a file.
type Owner struct{ UID, GID int }

// WriteFile replaces the file at path, or makes it, so that after a power cut it has either its old content or data. The
// new file has exactly mode, and belongs to owner or, when that is nil, to the process. Whatever was left by an
// interrupted earlier call is overwritten. On an error the old file is intact.
func WriteFile(path string, data []byte, mode fs.FileMode, owner *Owner) error {
	return writeFile(path, data, mode, owner, func(string) {})
}

// The moments of writeFile at which a test may pull the plug.
const (
	momentWritten = "temporary file written"
	momentSynced  = "temporary file synced"
	momentRenamed = "renamed"
)

func writeFile(path string, data []byte, mode fs.FileMode, owner *Owner, at func(moment string)) error {
	temp := TempName(path)
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := writeTemp(temp, data, mode, owner, at); err != nil {
		os.Remove(temp)
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		os.Remove(temp)
		return err
	}
	at(momentRenamed)
	return SyncDir(filepath.Dir(path))
}

func writeTemp(temp string, data []byte, mode fs.FileMode, owner *Owner, at func(string)) (err error) {
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := f.Close(); err == nil {
			err = closeErr
		}
	}()
	if _, err := f.Write(data); err != nil {
		return err
	}
	at(momentWritten)
	if owner != nil {
		if err := f.Chown(owner.UID, owner.GID); err != nil {
			return err
		}
	}
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	at(momentSynced)
	return nil
}

// TempName is the name of the file that WriteFile writes before it takes the place of path. It is fixed, so that
// interrupted writes leave one file behind at most.
func TempName(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".ztp-new")
}

// SyncDir makes the names in a folder durable.
func SyncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	// Some file systems cannot sync a folder and say EINVAL; they have nothing to sync then.
	if err := f.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) {
		return err
	}
	return nil
}

// errTooLarge says that a file is longer than its reader will take.
var errTooLarge = errors.New("file is too large")

// readBounded reads a regular file of at most limit bytes.
func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		return nil, errTooLarge
	}
	return data, err
}
