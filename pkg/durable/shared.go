package durable

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// OpenShared opens a file for reading and writing, and makes it where it is missing, in a folder that may belong to a user whom
// root does not trust, but lets use it, too. No link is followed, and what root makes belongs to that user.
func OpenShared(path string) (*os.File, error) { return openShared(path, 0) }

// CreateShared is OpenShared for a file that must not be there.
func CreateShared(path string) (*os.File, error) { return openShared(path, os.O_EXCL) }

// ErrTooLarge says that a file is longer than its reader will take.
var ErrTooLarge = errors.New("file is too large")

// ReadShared reads a regular file of at most limit bytes in such a folder. It follows no link and waits for nobody.
func ReadShared(path string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, fmt.Errorf("%s is no regular file", path))
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		return nil, ErrTooLarge
	}
	return data, err
}

func openShared(path string, flags int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK|flags, 0o600)
	if err != nil {
		return nil, err
	}
	if err := giveToOwner(f, filepath.Dir(path)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func giveToOwner(f *os.File, folder string) error {
	var file, above unix.Stat_t
	if err := errors.Join(unix.Fstat(int(f.Fd()), &file), unix.Stat(folder, &above)); err != nil {
		return err
	}
	// With another name it may be any file of the same file system.
	if file.Mode&unix.S_IFMT != unix.S_IFREG || file.Nlink != 1 {
		return fmt.Errorf("%s is no regular file of this name alone", f.Name())
	}
	if os.Geteuid() != 0 || file.Uid == above.Uid {
		return nil
	}
	return f.Chown(int(above.Uid), int(above.Gid))
}
