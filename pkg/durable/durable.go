// Package durable changes files so that a power cut at any instant leaves what was there before or what was to be there. A
// program that must survive one does nothing to its files but through FS: the order of writes, syncs and renames is then in
// one place, and tests can cut the power, fill the disk or break it at every single operation.
package durable

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// FS is everything that changes files. Reading is not part of it, except from files that were opened for writing. Names are
// paths as package os takes them. Errors are those of package os, with their names.
type FS interface {
	// OpenFile opens or makes a file; see os.OpenFile.
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	Mkdir(name string, perm fs.FileMode) error
	Rename(from, to string) error
	// Exchange swaps two names at one instant, which may be those of folders. Where the file system cannot do that it fails
	// with EINVAL or ENOSYS, and nothing has happened.
	Exchange(one, other string) error
	Link(from, to string) error
	Remove(name string) error
	// SyncDir makes the names in a folder durable: what was made, renamed or removed there.
	SyncDir(name string) error
	// SyncAll makes everything durable, whoever wrote it. It returns when that has happened, which takes as long as the
	// slowest file system does.
	SyncAll() error
}

// File is an open file; *os.File is one.
type File interface {
	io.Reader
	io.ReaderAt
	io.Writer
	io.WriterAt
	io.Seeker
	io.Closer
	Name() string
	Stat() (fs.FileInfo, error)
	Truncate(size int64) error
	Chmod(mode fs.FileMode) error
	Chown(uid, gid int) error
	// Sync makes the content durable. The name of a new file needs FS.SyncDir as well.
	Sync() error
	// SyscallConn is for what only some files can do, such as discarding blocks of a device.
	SyscallConn() (syscall.RawConn, error)
}

// OS is the file system of the machine.
type OS struct{}

var _ FS = OS{}

// OpenFile is os.OpenFile.
func (OS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := os.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err // not f: a nil *os.File in an interface is not nil
	}
	return f, nil
}

// Mkdir is os.Mkdir.
func (OS) Mkdir(name string, perm fs.FileMode) error { return os.Mkdir(name, perm) }

// Rename is os.Rename.
func (OS) Rename(from, to string) error { return os.Rename(from, to) }

// Exchange is renameat2(2) with RENAME_EXCHANGE.
func (OS) Exchange(one, other string) error {
	err := unix.Renameat2(unix.AT_FDCWD, one, unix.AT_FDCWD, other, unix.RENAME_EXCHANGE)
	if err != nil {
		return &os.LinkError{Op: "exchange", Old: one, New: other, Err: err}
	}
	return nil
}

// Link is os.Link.
func (OS) Link(from, to string) error { return os.Link(from, to) }

// Remove is os.Remove.
func (OS) Remove(name string) error { return os.Remove(name) }

// SyncDir calls fsync(2) for a folder.
func (OS) SyncDir(name string) error {
	f, err := os.Open(name)
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

// SyncAll calls sync(2).
func (OS) SyncAll() error {
	syscall.Sync()
	return nil
}

// Owner is the numeric user and group of a file.
type Owner struct{ UID, GID int }

// WriteFile replaces the file at path, or makes it, so that after a power cut it has either its old content or data. The
// new file has exactly mode, and belongs to owner or, when that is nil, to the process. Whatever was left by an
// interrupted earlier call is overwritten. On an error the old file is intact.
func WriteFile(on FS, path string, data []byte, mode fs.FileMode, owner *Owner) error {
	temp := TempName(path)
	if err := on.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err := writeTemp(on, temp, data, mode, owner)
	if err == nil {
		err = on.Rename(temp, path)
	}
	if err != nil {
		_ = on.Remove(temp) // what stays is overwritten the next time
		return err
	}
	return on.SyncDir(filepath.Dir(path))
}

func writeTemp(on FS, temp string, data []byte, mode fs.FileMode, owner *Owner) (err error) {
	f, err := on.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
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
	if owner != nil {
		if err := f.Chown(owner.UID, owner.GID); err != nil {
			return err
		}
	}
	if err := f.Chmod(mode); err != nil {
		return err
	}
	return f.Sync()
}

// MkdirAll makes a folder and those above it that are missing, each of them durable before anything is made in it: what is
// synced in a folder whose own name is lost is lost with it. That goes for the first one that it finds, too, which may be
// what an interrupted earlier call left.
func MkdirAll(on FS, path string, perm fs.FileMode) error {
	path = filepath.Clean(path)
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return on.SyncDir(filepath.Dir(path))
	case err == nil:
		return &fs.PathError{Op: "mkdir", Path: path, Err: syscall.ENOTDIR}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	parent := filepath.Dir(path)
	if err := MkdirAll(on, parent, perm); err != nil {
		return err
	}
	if err := on.Mkdir(path, perm); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return on.SyncDir(parent)
}

// TempName is the name of the file that WriteFile writes before it takes the place of path. It is fixed, so that
// interrupted writes leave one file behind at most.
func TempName(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".ztp-new")
}

// Remove removes a file for good; it may be absent.
func Remove(on FS, path string) error {
	err := on.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return on.SyncDir(filepath.Dir(path))
}
