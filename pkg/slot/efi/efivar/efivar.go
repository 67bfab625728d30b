// Package efivar reads and writes the variables by which an operating system and its boot loader talk to each other (systemd's
// Boot Loader Interface), as files of efivarfs: four bytes of attributes, then the value.
package efivar

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/xpu-sztp/ztp/pkg/durable"
)

// vendor is the GUID of the Boot Loader Interface, as it stands in names of files.
const vendor = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"

// attributes of what is written: non-volatile, and to be seen by boot loaders and by the running system.
const attributes = 1 | 2 | 4

// immutable is the inode flag FS_IMMUTABLE_FL of linux/fs.h.
const immutable = 0x10

// maxValue is how many bytes of a value are read. Entry ids and paths, of which there are at most 255 characters and two such
// names, are much shorter.
const maxValue = 4 << 10

// ErrMalformed is wrapped by the errors about variables whose content is not of their type.
var ErrMalformed = errors.New("malformed EFI variable")

// Store is a folder of variables.
type Store struct {
	FS  durable.FS // every change goes through it
	Dir string     // where efivarfs is mounted; a plain folder will do as well
}

// Text reads a variable that holds a string: UTF-16, little-endian, ended by a NUL. One that does not exist is an error that
// wraps fs.ErrNotExist.
func (s Store) Text(name string) (string, error) {
	value, err := s.read(name)
	if err != nil {
		return "", err
	}
	text, ok := decodeText(value)
	if !ok {
		return "", fmt.Errorf("%w %s: %d bytes that are no UTF-16 string with a NUL", ErrMalformed, name, len(value))
	}
	return text, nil
}

// Uint64 reads a variable that holds a number of eight bytes, little-endian.
func (s Store) Uint64(name string) (uint64, error) {
	value, err := s.read(name)
	if err != nil {
		return 0, err
	}
	if len(value) != 8 {
		return 0, fmt.Errorf("%w %s: %d bytes instead of 8", ErrMalformed, name, len(value))
	}
	return binary.LittleEndian.Uint64(value), nil
}

func (s Store) read(name string) ([]byte, error) {
	raw, err := s.raw(name)
	if err != nil {
		return nil, err
	}
	if len(raw) < 4 || len(raw) > 4+maxValue {
		return nil, fmt.Errorf("%w %s: %d bytes or more", ErrMalformed, name, len(raw))
	}
	return raw[4:], nil
}

// raw reads attributes and value, and a byte more than a value may have.
func (s Store) raw(name string) ([]byte, error) {
	f, err := os.Open(s.path(name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 4+maxValue+1))
}

// SetText makes a variable hold a string, durably, and reads it back. A variable that holds it already is not written to:
// flash memory wears out.
func (s Store) SetText(name, text string) error {
	value, err := encodeText(text)
	if err != nil {
		return err
	}
	want := append(binary.LittleEndian.AppendUint32(nil, attributes), value...)
	if have, err := s.raw(name); err == nil && bytes.Equal(have, want) {
		return nil
	}
	if err := s.write(name, want); err != nil {
		return err
	}
	have, err := s.raw(name)
	if err == nil && !bytes.Equal(have, want) {
		err = fmt.Errorf("%s: the firmware keeps another value than was written", s.path(name))
	}
	return err
}

// write writes attributes and value with one call, as efivarfs wants it. The kernel makes files of variables immutable lest
// somebody removes what their firmware cannot do without; that is lifted for as long as it takes.
func (s Store) write(name string, content []byte) (err error) {
	path := s.path(name)
	lock := s.unlock(path)
	defer lock()
	f, err := s.FS.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := f.Close(); err == nil {
			err = closeErr
		}
	}()
	if _, err := f.Write(content); err != nil {
		return err
	}
	// In efivarfs what is written is the whole variable. A plain folder keeps the rest of a longer one, and forgets what was
	// not forced to the storage; efivarfs has nothing to force and says so.
	if info, err := f.Stat(); err == nil && info.Size() > int64(len(content)) {
		if err := f.Truncate(int64(len(content))); err != nil {
			return err
		}
	}
	if err := f.Sync(); err != nil && !errors.Is(err, unix.EINVAL) {
		return err
	}
	return s.FS.SyncDir(s.Dir)
}

// Delete removes a variable for good; it may be absent.
func (s Store) Delete(name string) error {
	path := s.path(name)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	lock := s.unlock(path)
	if err := durable.Remove(s.FS, path); err != nil {
		lock()
		return err
	}
	return nil
}

// unlock lets a file be changed, and returns what protects it again if it was protected. A file system that knows no such
// flags needs neither.
func (s Store) unlock(path string) (lock func()) {
	flags, err := s.flags(path, func(flags uint32) uint32 { return flags &^ immutable })
	if err != nil || flags&immutable == 0 {
		return func() {}
	}
	return func() {
		// What stays unprotected is as usable as before.
		_, _ = s.flags(path, func(flags uint32) uint32 { return flags | immutable })
	}
}

// flags changes the inode flags of a file, and returns what they were.
func (s Store) flags(path string, change func(uint32) uint32) (before uint32, err error) {
	f, err := s.FS.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	raw, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	controlErr := raw.Control(func(fd uintptr) {
		before, err = unix.IoctlGetUint32(int(fd), unix.FS_IOC_GETFLAGS)
		if after := change(before); err == nil && after != before {
			err = unix.IoctlSetPointerInt(int(fd), unix.FS_IOC_SETFLAGS, int(after))
		}
	})
	return before, errors.Join(err, controlErr)
}

func (s Store) path(name string) string { return filepath.Join(s.Dir, name+"-"+vendor) }
