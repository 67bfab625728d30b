package media

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/xpu-sztp/ztp/pkg/durable"
	"github.com/xpu-sztp/ztp/pkg/reason"
)

const (
	block = 4096     // what is written is aligned to
	run   = 64 << 10 // zeros are looked for in pieces of this size
	burst = 2 << 20  // what is read back at a time: a quarter faster than half a MiB
)

// Writer writes one image into a Place. It is not safe for concurrent use, but for Sync. Errors are *reason.Error. One that is
// unix.ENOSPC says that the image does not fit.
type Writer struct {
	place    Place
	subject  subject
	file     *durable.Direct
	storage  storage
	capacity int64
	started  bool   // the place no longer holds what it held
	flushed  int64  // bytes that the storage was given, zeros included; a multiple of block until the image is complete
	zeros    int64  // how many bytes at the end of these are zeros that a device is yet to be told of
	tail     []byte // less than a block, behind them
	sums     checksums
	named    bool  // the name of the file is durable; for Sync alone
	failed   error // of Write; the image is not complete whatever comes after it
}

func newWriter(p Place, s subject, file *durable.Direct, capacity int64) *Writer {
	return &Writer{
		place: p, subject: s, file: file, capacity: capacity, storage: storage{file: file, device: s.device},
		tail: durable.Buffer(block)[:0], sums: newChecksums(capacity),
	}
}

// Size is how many bytes of the image were written.
func (w *Writer) Size() int64 { return w.flushed + int64(len(w.tail)) }

// Identity is that of the place, however it is called by now.
func (w *Writer) Identity() string {
	if !w.subject.device {
		return ""
	}
	return w.place.System.identity(w.subject)
}

// Expect refuses an image of total bytes that the place cannot hold.
func (w *Writer) Expect(total int64) error {
	have := w.capacity
	if !w.subject.device {
		free, _, err := room(filepath.Dir(w.subject.path))
		if err != nil {
			return unavailable(w.place.Path, err)
		}
		if info, err := w.file.Stat(); err == nil {
			free += allocated(info) // what the old image takes
		}
		have = min(have, free)
	}
	if total > have {
		return tooSmall(w.place.Path, total, have)
	}
	return nil
}

// Write writes the next bytes of the image.
func (w *Writer) Write(p []byte) (n int, err error) {
	if w.failed != nil {
		return 0, w.failed
	}
	defer func() { w.failed = err }()
	if int64(len(p)) > w.capacity-w.Size() {
		return 0, tooSmall(w.place.Path, w.Size()+int64(len(p)), w.capacity)
	}
	if !w.started {
		if err := w.start(); err != nil {
			return 0, err
		}
	}
	for n < len(p) {
		rest := p[n:]
		if len(w.tail) == 0 && len(rest) >= block {
			rest = rest[:len(rest)&^(block-1)]
			err = w.blocks(rest)
		} else {
			rest = rest[:min(len(rest), block-len(w.tail))]
			if w.tail = append(w.tail, rest...); len(w.tail) == block {
				if err = w.blocks(w.tail); err == nil {
					w.tail = w.tail[:0]
				}
			}
		}
		if err != nil {
			return n, w.writeError(err)
		}
		w.sums.add(rest)
		n += len(rest)
	}
	return n, nil
}

// blocks writes whole blocks. Zeros become holes.
func (w *Writer) blocks(p []byte) error {
	for len(p) > 0 {
		zeros := 0
		for zeros < len(p) {
			piece := w.piece(p[zeros:], zeros)
			if !isZero(piece) {
				break
			}
			zeros += len(piece)
		}
		w.zeros += int64(zeros)
		w.flushed += int64(zeros)
		p = p[zeros:]
		data := 0
		for data < len(p) {
			piece := w.piece(p[data:], data)
			if isZero(piece) {
				break
			}
			data += len(piece)
		}
		if data == 0 && w.zeros < maxZeros {
			continue
		}
		if err := w.settle(); err != nil {
			return err
		}
		n, err := w.file.WriteAt(p[:data], w.flushed)
		w.flushed += int64(n)
		if err != nil {
			return err
		}
		w.storage.written(w.flushed)
		p = p[data:]
	}
	return nil
}

// piece is what of p lies in the same run as its first byte, which is to be written skip bytes behind what was flushed.
func (w *Writer) piece(p []byte, skip int) []byte {
	return p[:min(len(p), run-int((w.flushed+int64(skip))%run))]
}

func isZero(p []byte) bool { return p[0] == 0 && bytes.Equal(p[1:], p[:len(p)-1]) }

// settle has the zeros at the end stored. A file was empty when it was started: what it does not hold reads as zero.
func (w *Writer) settle() error {
	if w.zeros == 0 {
		return nil
	}
	if w.subject.device {
		if err := w.storage.zero(w.flushed-w.zeros, w.zeros); err != nil {
			return err
		}
	}
	w.zeros = 0
	return nil
}

// start destroys what the place held.
func (w *Writer) start() error {
	w.started = true
	if !w.subject.device {
		return w.writeError(w.file.Truncate(0))
	}
	if !w.place.KeepBlocks {
		// Flash that knows what is free is written faster and lives longer. What the blocks read as afterwards is up to the
		// device, so zeros are written all the same.
		w.storage.discard()
	}
	return nil
}

// Reset discards what was written; the next Write is the start of the image.
func (w *Writer) Reset() error {
	w.flushed, w.zeros, w.tail, w.sums, w.failed = 0, 0, w.tail[:0], newChecksums(w.capacity), nil
	w.storage.restarted()
	if w.started && !w.subject.device {
		return w.writeError(w.file.Truncate(0))
	}
	return nil
}

// Sync makes durable what was written before. Write may be called meanwhile.
func (w *Writer) Sync() error {
	err := w.file.Sync()
	if err == nil && !w.subject.device && !w.named {
		// A file that is lost with its name would be made again, perhaps with the same inode, and pass for the one of a mark.
		err = w.place.FS.SyncDir(filepath.Dir(w.subject.path))
		w.named = err == nil
	}
	return w.writeError(err)
}

// Verify forces the image to the storage, reads it back from there and compares it with what was written.
func (w *Writer) Verify(ctx context.Context) error {
	if w.failed != nil {
		return w.failed
	}
	if err := w.finish(); err != nil {
		return w.writeError(err)
	}
	// With direct I/O nothing is in the cache. Where it is not possible, and the cache cannot be dropped, the comparison is
	// weaker, not wrong.
	w.storage.dropCache()
	if err := w.compare(ctx); err != nil {
		return err
	}
	if w.subject.device {
		return nil
	}
	// The folder entry of the image must be as durable as the record that says it is complete.
	return w.writeError(w.place.FS.SyncDir(filepath.Dir(w.subject.path)))
}

// finish stores what is left behind the last block.
func (w *Writer) finish() error {
	if !w.started { // an image without a byte
		if err := w.start(); err != nil {
			return err
		}
	}
	if err := w.settle(); err != nil {
		return err
	}
	if len(w.tail) > 0 {
		if _, err := w.file.WriteAt(w.tail, w.flushed); err != nil {
			return err
		}
	}
	if !w.subject.device {
		if err := w.file.Truncate(w.Size()); err != nil { // zeros at the end
			return err
		}
	}
	return w.file.Sync()
}

// compare reads the image. A checksum of 32 bits for every few mebibytes suffices to find what storage does wrong: that it lost
// writes, put them elsewhere, or has bits that flipped escapes it once in four thousand million times. It need not withstand
// anybody's intent, as the digest that the bytes were verified by must: who can change the storage behind the kernel's back can
// do so after any comparison. It costs a tenth of that digest.
func (w *Writer) compare(ctx context.Context) error {
	if info, err := w.file.Stat(); err == nil && !w.subject.device && info.Size() != w.Size() {
		return fail(CodeReadBack, fmt.Sprintf("%s holds %d bytes, not the %d that were written", w.place.Path, info.Size(), w.Size()),
			"check the storage; it may be failing", nil)
	}
	return w.sums.compare(ctx, w.place.Path, w.file, w.Size())
}

func readError(ctx context.Context, path string, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fail(CodeReadBack, "cannot read the image back from "+path, "check the storage; it may be failing", err)
}

func (w *Writer) writeError(err error) error {
	var known *reason.Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	if errors.Is(err, unix.ENOSPC) {
		return fail(CodeTooSmall, "there is no more room for the image in "+w.place.Path, "make room, or make the slot larger", err)
	}
	return fail(CodeWriteFailed, "cannot write the image to "+w.place.Path, "check the storage; it may be failing", err)
}

// Close releases the place.
func (w *Writer) Close() error {
	if err := w.file.Close(); err != nil {
		return w.writeError(err)
	}
	return nil
}

var _ io.Writer = (*Writer)(nil)
