package durable

import (
	"errors"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// block is what offsets, lengths and memory are aligned to for direct I/O (open(2), O_DIRECT). No storage wants more than a
// page; one that does refuses, and is then written through the page cache.
const block = 4096

// bounceSize is the memory for callers whose own is not aligned, in bytes.
const bounceSize = 256 << 10

// Direct is a large file, or a block device, that is read and written past the page cache. An image is written once and read
// once: in the cache it would only displace what the device needs, and take most of the processor's time. What is read comes
// from the storage. Where direct I/O is impossible everything goes through the cache. Calls with offset, length and memory
// (see Buffer) all aligned to 4096 bytes copy nothing. WriteAt and ReadAt must not be called at the same time; Sync may.
type Direct struct {
	File
	direct bool
	bounce []byte
}

// NewDirect takes over a file that was opened for reading and writing. Only WriteAt and ReadAt may be used for its content.
func NewDirect(f File) *Direct { return &Direct{File: f, direct: setDirect(f, true) == nil} }

// Buffer returns memory that Direct need not copy.
func Buffer(size int) []byte {
	b := make([]byte, size+block)
	skip := -int(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) & (block - 1)
	return b[skip : skip+size : skip+size]
}

// WriteAt writes p at an offset, in whole blocks as far as possible.
func (d *Direct) WriteAt(p []byte, offset int64) (n int, err error) {
	for n < len(p) && err == nil {
		at := offset + int64(n)
		var m int
		switch rest := p[n:]; {
		case !d.direct:
			m, err = d.File.WriteAt(rest, at)
		case at%block != 0:
			m, err = d.writeCached(rest[:min(len(rest), block-int(at%block))], at)
		case len(rest) < block:
			m, err = d.writeCached(rest, at)
		default:
			m, err = d.writeBlocks(rest[:len(rest)&^(block-1)], at)
		}
		n += m
	}
	return n, err
}

func (d *Direct) writeBlocks(p []byte, offset int64) (int, error) {
	if !aligned(p) {
		copied := d.borrow(len(p))
		p = copied[:copy(copied, p)]
	}
	n, err := d.File.WriteAt(p, offset)
	if n == 0 && refused(err) {
		err = d.giveUp()
	}
	return n, err
}

// writeCached writes part of a block, which only the cache can do. The kernel keeps it in order with what is written
// directly.
func (d *Direct) writeCached(p []byte, offset int64) (int, error) {
	if err := setDirect(d.File, false); err != nil {
		return 0, err
	}
	n, err := d.File.WriteAt(p, offset)
	if restore := setDirect(d.File, true); err == nil {
		err = restore
	}
	return n, err
}

// ReadAt reads what the storage holds, as far as direct I/O is possible. It returns io.EOF as io.ReaderAt does.
func (d *Direct) ReadAt(p []byte, offset int64) (n int, err error) {
	for n < len(p) && err == nil {
		at := offset + int64(n)
		var m int
		switch rest := p[n:]; {
		case !d.direct:
			m, err = d.File.ReadAt(rest, at)
		case at%block == 0 && len(rest) >= block && aligned(rest):
			m, err = d.File.ReadAt(rest[:len(rest)&^(block-1)], at)
		default:
			m, err = d.readAround(rest, at)
		}
		n += m
		if n == 0 && refused(err) {
			err = d.giveUp()
		}
	}
	return n, err
}

// readAround reads the blocks that hold the next bytes of p.
func (d *Direct) readAround(p []byte, offset int64) (int, error) {
	skip := int(offset % block)
	buffer := d.borrow(skip + len(p))
	n, err := d.File.ReadAt(buffer, offset-int64(skip))
	if n = min(max(n-skip, 0), len(p)); n == len(p) {
		err = nil // the end of the file is behind what was asked for
	}
	return copy(p[:n], buffer[skip:]), err
}

// borrow returns memory for size bytes in whole blocks, or for as many as there is room for.
func (d *Direct) borrow(size int) []byte {
	if d.bounce == nil {
		d.bounce = Buffer(bounceSize)
	}
	return d.bounce[:min((size+block-1)&^(block-1), bounceSize)]
}

// giveUp goes through the page cache from now on.
func (d *Direct) giveUp() error {
	d.direct = false
	return setDirect(d.File, false)
}

func refused(err error) bool { return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) }

func aligned(p []byte) bool { return uintptr(unsafe.Pointer(unsafe.SliceData(p)))%block == 0 }

func setDirect(f File, on bool) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		var flags int
		if flags, failed = unix.FcntlInt(fd, unix.F_GETFL, 0); failed != nil {
			return
		}
		flags &^= syscall.O_DIRECT
		if on {
			flags |= syscall.O_DIRECT
		}
		_, failed = unix.FcntlInt(fd, unix.F_SETFL, flags)
	})
	return errors.Join(err, failed)
}
