// Package media is where the image of a slot goes: a block device, or a plain file. An image is written front to back in one
// pass and in constant memory, forced to the storage, and read back from there before anybody may boot it. What must not be
// overwritten is refused before a byte is fetched: what is mounted, swapped to or held by another device, what is read-only or
// too small. Until the first byte of an image is written, the place keeps what it held.
package media

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/xpu-sztp/ztp/pkg/durable"
	"github.com/xpu-sztp/ztp/pkg/reason"
)

// Reasons why an image could not be put into its place.
const (
	CodeUnavailable reason.Code = "slot-unavailable" // the place cannot be opened, or is neither a block device nor a file
	CodeInUse       reason.Code = "slot-in-use"      // it is mounted, swap, part of another device, or open for itself alone
	CodeReadOnly    reason.Code = "slot-read-only"
	CodeTooSmall    reason.Code = "slot-too-small"
	CodeWriteFailed reason.Code = "slot-write-failed"
	CodeReadBack    reason.Code = "slot-readback-mismatch" // the storage does not hold what was written
)

// Place is a block device or a regular file. A file that does not exist is made when an image is written.
type Place struct {
	Path       string     // symbolic links are followed, such as /dev/disk/by-partlabel/root-b
	FS         durable.FS // every change goes through it
	MaxSize    int64      // of an image in bytes, where there is room for more; 0 does not limit it
	KeepBlocks bool       // do not discard the blocks of a device before it is written
	System     System
}

// System is where the kernel tells what it uses.
type System struct {
	Proc string // "" is /proc
	Sys  string // "" is /sys
}

// Open opens the place for one image, and refuses one that must not be written to. It changes nothing that is there. A block
// device is held exclusively until the Writer is closed: nobody can mount it meanwhile.
func (p Place) Open() (*Writer, error) {
	s, err := p.System.subject(p.Path)
	if err != nil {
		return nil, err
	}
	if err := p.System.free(s); err != nil {
		return nil, err
	}
	flag := os.O_RDWR | unix.O_NOFOLLOW
	if s.device {
		flag |= os.O_EXCL
	} else {
		flag |= os.O_CREATE
		if err := durable.MkdirAll(p.FS, filepath.Dir(s.path), 0o700); err != nil {
			return nil, unavailable(p.Path, err)
		}
	}
	file, err := p.FS.OpenFile(s.path, flag, 0o600)
	if err != nil {
		return nil, openError(p.Path, err)
	}
	capacity, err := p.capacity(s, file)
	if err != nil {
		file.Close()
		return nil, err
	}
	return newWriter(p, s, durable.NewDirect(file), capacity), nil
}

func openError(path string, err error) error {
	switch {
	case errors.Is(err, unix.EBUSY):
		return fail(CodeInUse, path+" is in use", "unmount it, and look for what else has it open", err)
	case errors.Is(err, unix.EROFS), errors.Is(err, fs.ErrPermission):
		return fail(CodeReadOnly, path+" cannot be written to", "check for write protection, and what the unit may write to", err)
	}
	return unavailable(path, err)
}

// capacity is the size of the largest image. It makes sure that what was opened is what was looked at: a link or a name may
// have come to mean another device.
func (p Place) capacity(s subject, file durable.File) (int64, error) {
	info, err := file.Stat()
	if err != nil {
		return 0, unavailable(p.Path, err)
	}
	number, device := deviceNumber(info)
	if device != s.device || number != s.number || !device && !info.Mode().IsRegular() {
		return 0, fail(CodeUnavailable, p.Path+" has become something else while it was opened", "try again", nil)
	}
	var capacity int64
	if s.device {
		capacity, err = file.Seek(0, io.SeekEnd)
	} else {
		_, capacity, err = room(filepath.Dir(s.path))
	}
	if err != nil {
		return 0, unavailable(p.Path, err)
	}
	return p.limited(capacity), nil
}

// room is how many bytes the file system of a folder has, free and in all.
func room(folder string) (free, all int64, err error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(folder, &fs); err != nil {
		return 0, 0, err
	}
	if fs.Blocks == 0 { // one in memory that has no limit
		return math.MaxInt64 / 2, math.MaxInt64 / 2, nil
	}
	return int64(fs.Bavail) * fs.Bsize, int64(fs.Blocks) * fs.Bsize, nil
}

// Identity tells a block device from others that may have its name the next time, by what the hardware and the partition
// table say of it. It is "" for a file.
func (p Place) Identity() (string, error) {
	s, err := p.System.subject(p.Path)
	if err != nil || !s.device {
		return "", err
	}
	return p.System.identity(s), nil
}

// Same reports whether two places are one, or have blocks in common.
func Same(a, b Place) (bool, error) {
	one, err := a.System.subject(a.Path)
	if err != nil {
		return false, err
	}
	other, err := b.System.subject(b.Path)
	if err != nil {
		return false, err
	}
	return a.System.common(one, other), nil
}

func unavailable(path string, err error) error {
	return fail(CodeUnavailable, path+" cannot be used as a slot", "check the devices in [image.slot], or image.slots, in the configuration, and the storage", err)
}

func tooSmall(path string, need, have int64) error {
	return fail(CodeTooSmall, fmt.Sprintf("%s has room for %d bytes, the image has %d or more", path, have, need),
		"make the slot larger, raise image.max-size, or publish a smaller image", unix.ENOSPC)
}

func fail(code reason.Code, msg, fix string, err error) error {
	return &reason.Error{Code: code, Msg: msg, Fix: fix, Err: err}
}
