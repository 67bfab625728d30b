package media

import (
	"errors"
	"io"
	"io/fs"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/xpu-sztp/ztp/pkg/durable"
)

const (
	// maxZeros is how many zeros are collected before a device is told, so that no call takes long.
	maxZeros = 256 << 20
	// window is how much is written through the cache before the storage is made to begin with it. What was begun before is
	// waited for then: dirty pages are never more than two windows, and the last sync is short.
	window = 8 << 20
	// leastHole is what is cheaper to write than to make a hole of.
	leastHole = 1 << 20
)

// storage is what only some files can do. All of it may fail, and is done in another way or left out then.
type storage struct {
	file   *durable.Direct
	device bool
	begun  int64 // up to where writing was begun
}

// control calls f with the file's descriptor.
func (s *storage) control(f func(fd int) error) error {
	raw, err := s.file.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = f(int(fd)) }); err != nil {
		return err
	}
	return failed
}

// discard tells a device that nothing on it is needed any more.
func (s *storage) discard() {
	size, err := s.file.Seek(0, io.SeekEnd)
	if err != nil {
		return
	}
	extent := [2]uint64{0, uint64(size)}
	_ = s.control(func(fd int) error {
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.BLKDISCARD, uintptr(unsafe.Pointer(&extent))); errno != 0 {
			return errno
		}
		return nil
	})
}

// zero makes part of a device read as zero: by saying so where it understands that, otherwise by writing zeros.
func (s *storage) zero(offset, length int64) error {
	if length >= leastHole && s.punch(offset, length) == nil {
		return nil
	}
	zeros := durable.Buffer(run)
	for length > 0 {
		n, err := s.file.WriteAt(zeros[:min(run, length)], offset)
		if err != nil {
			return err
		}
		offset += int64(n)
		length -= int64(n)
	}
	return nil
}

// punch has the kernel do it. A hole that a device cannot make, and guarantee to be zero, it fills itself.
func (s *storage) punch(offset, length int64) error {
	return s.control(func(fd int) error {
		err := unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, offset, length)
		if err != nil {
			err = unix.Fallocate(fd, unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, offset, length)
		}
		return err
	})
}

// written is told up to where the file was written.
func (s *storage) written(end int64) {
	if end-s.begun < window {
		return
	}
	_ = s.control(func(fd int) error {
		if behind := s.begun - window; behind >= 0 {
			const finish = unix.SYNC_FILE_RANGE_WAIT_BEFORE | unix.SYNC_FILE_RANGE_WRITE | unix.SYNC_FILE_RANGE_WAIT_AFTER
			if err := unix.SyncFileRange(fd, behind, window, finish); err != nil {
				return err
			}
			_ = unix.Fadvise(fd, behind, window, unix.FADV_DONTNEED)
		}
		return unix.SyncFileRange(fd, s.begun, end-s.begun, unix.SYNC_FILE_RANGE_WRITE)
	})
	s.begun = end
}

// restarted is told that the image begins anew.
func (s *storage) restarted() { s.begun = 0 }

// dropCache has what is read next come from the storage.
func (s *storage) dropCache() {
	_ = s.control(func(fd int) error {
		err := unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED)
		if s.device {
			err = errors.Join(err, unix.IoctlSetInt(fd, unix.BLKFLSBUF, 0))
		}
		return err
	})
}

// allocated is how much of the storage a file takes.
func allocated(info fs.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * 512
	}
	return 0
}
