// Package media is where the image of a slot goes: a block device, or a plain file. An image is written front to back in one
// pass and in constant memory, forced to the storage, and read back from there before anybody may boot it. What must not be
// overwritten is refused before a byte is fetched: what is mounted, swapped to or held by another device, what is read-only or
// too small. Until the first byte of an image is written, the place keeps what it held.
package media

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/xpu-sztp/ztp/pkg/durable"
	"github.com/xpu-sztp/ztp/pkg/reason"
)

// Reasons why an image could not be put into its place.
const (
	CodeUnavailable reason.Code = "slot-unavailable" // the place cannot be opened, or is neither a block device nor a file
	CodeWriteFailed reason.Code = "slot-write-failed"
	CodeReadBack    reason.Code = "slot-readback-mismatch" // the storage does not hold what was written
)

// Place is a block device or a regular file. A file that does not exist is made when an image is written.
type Place struct {
	Path string
	FS   durable.FS
}

// Writer writes one image into a Place. It is not safe for concurrent use. Errors are *reason.Error.
type Writer struct {
	place   Place
	file    durable.File
	started bool  // the place no longer holds what it held
	size    int64 // bytes written
	chunks  checksums
}

// Open opens the place for one image. It changes nothing that is there.
func (p Place) Open(context.Context) (*Writer, error) {
	err := durable.MkdirAll(p.FS, filepath.Dir(p.Path), 0o700)
	var file durable.File
	if err == nil {
		file, err = p.FS.OpenFile(p.Path, os.O_RDWR|os.O_CREATE, 0o600)
	}
	if err == nil {
		var info fs.FileInfo
		if info, err = file.Stat(); err == nil && !info.Mode().IsRegular() {
			err = errors.New("not a regular file")
		}
		if err != nil {
			file.Close()
		}
	}
	if err != nil {
		return nil, fail(CodeUnavailable, p.Path+" cannot be used as a slot", "check image.slots in the configuration and the storage", err)
	}
	return &Writer{place: p, file: durable.NewDirect(file)}, nil
}

// Expect refuses an image of total bytes that the place cannot hold.
func (w *Writer) Expect(total int64) error { return nil }

// Size is how many bytes of the image were written.
func (w *Writer) Size() int64 { return w.size }

func (w *Writer) Write(p []byte) (int, error) {
	if !w.started {
		if err := w.Reset(); err != nil {
			return 0, err
		}
	}
	n, err := w.file.WriteAt(p, w.size)
	w.size += int64(n)
	w.chunks.add(p[:n])
	if err != nil {
		err = fail(CodeWriteFailed, "cannot write the image to "+w.place.Path, "check that the storage is healthy and large enough", err)
	}
	return n, err
}

// Reset discards what was written; the next Write is the start of the image.
func (w *Writer) Reset() error {
	if err := w.file.Truncate(0); err != nil {
		return fail(CodeWriteFailed, "cannot start "+w.place.Path+" again", "check the storage", err)
	}
	w.started, w.size, w.chunks = true, 0, checksums{}
	return nil
}

// Checkpoint makes everything written so far durable and returns what Restore needs to go on behind it.
func (w *Writer) Checkpoint() ([]byte, error) { return nil, nil }

// Restore goes on behind the bytes of a Checkpoint, perhaps of another process. After an error nothing counts as written.
func (w *Writer) Restore(mark []byte) error { return errors.New("no such checkpoint") }

// Verify forces the image to the storage, reads it back from there and compares it with what was written.
func (w *Writer) Verify(ctx context.Context) error {
	if err := w.file.Sync(); err != nil {
		return fail(CodeWriteFailed, "cannot force the image to "+w.place.Path, "check the storage", err)
	}
	// Read what the storage holds rather than what is still cached. Where the cache cannot be dropped the comparison
	// is weaker, not wrong.
	if raw, err := w.file.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _ = unix.Fadvise(int(fd), 0, 0, unix.FADV_DONTNEED) })
	}
	if err := w.compare(ctx); err != nil {
		return err
	}
	// The folder entry of the image must be as durable as the record that says it is complete.
	if err := w.place.FS.SyncDir(filepath.Dir(w.place.Path)); err != nil {
		return fail(CodeWriteFailed, "cannot force "+w.place.Path+" to the storage", "check the storage", err)
	}
	return nil
}

func (w *Writer) compare(ctx context.Context) error {
	info, err := w.file.Stat()
	if err == nil && info.Size() != w.size {
		return fail(CodeReadBack, fmt.Sprintf("%s holds %d bytes, not the %d that were written", w.place.Path, info.Size(), w.size),
			"check the storage; it may be failing", nil)
	}
	var stored checksums
	buffer := durable.Buffer(1 << 20)
	for offset := int64(0); offset < w.size && err == nil; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var n int
		n, err = w.file.ReadAt(buffer[:min(int64(len(buffer)), w.size-offset)], offset)
		offset += int64(n)
		stored.add(buffer[:n])
	}
	if err != nil && err != io.EOF {
		return fail(CodeReadBack, "cannot read the image back from "+w.place.Path, "check the storage", err)
	}
	if stored != w.chunks {
		return fail(CodeReadBack, w.place.Path+" does not hold what was written", "check the storage; it may be failing", nil)
	}
	return nil
}

// Close releases the place.
func (w *Writer) Close() error { return w.file.Close() }

type checksums struct{ sum uint32 }

func (c *checksums) add(p []byte) {
	c.sum = crc32.Update(c.sum, crc32.MakeTable(crc32.Castagnoli), p)
}

func fail(code reason.Code, msg, fix string, err error) error {
	return &reason.Error{Code: code, Msg: msg, Fix: fix, Err: err}
}
