package slot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/xpu-sztp/ztp/pkg/durable"
)

// fileWriter writes one image into one slot of a File.
type fileWriter struct {
	backend *File
	slot    string
	file    *os.File
	size    int64
}

func (w *fileWriter) Slot() string { return w.slot }

func (w *fileWriter) Write(p []byte) (int, error) {
	n, err := w.file.Write(p)
	w.size += int64(n)
	if err != nil {
		err = fail(CodeWriteFailed, "cannot write the image to slot "+w.slot, "check that the storage is healthy and large enough", err)
	}
	return n, err
}

func (w *fileWriter) Reset() error {
	_, err := w.file.Seek(0, io.SeekStart)
	if err == nil {
		err = w.file.Truncate(0)
	}
	if err == nil {
		err = w.backend.remove(digestFile(w.slot))
	}
	if err != nil {
		return fail(CodeWriteFailed, "cannot start slot "+w.slot+" again", "check the storage", err)
	}
	w.size = 0
	return nil
}

func (w *fileWriter) Commit(ctx context.Context, sum []byte) error {
	if err := w.file.Sync(); err != nil {
		return fail(CodeWriteFailed, "cannot force the image in slot "+w.slot+" to the storage", "check the storage", err)
	}
	// Read what the storage holds rather than what is still cached. Where the cache cannot be dropped the comparison
	// is weaker, not wrong.
	_ = unix.Fadvise(int(w.file.Fd()), 0, 0, unix.FADV_DONTNEED)
	stored, size, err := digest(ctx, w.file)
	if err != nil {
		return fail(CodeReadBack, "cannot read the image in slot "+w.slot+" back", "check the storage", err)
	}
	if size != w.size || !bytes.Equal(stored, sum) {
		return fail(CodeReadBack, fmt.Sprintf("slot %s holds %d bytes with SHA-256 %x, not the %d bytes with %x that were to be installed",
			w.slot, size, stored, w.size, sum), "check the storage; it may be failing", nil)
	}
	// The folder entry of the image must be as durable as the record that says it is complete.
	if err := (durable.OS{}).SyncDir(w.backend.dir); err != nil {
		return fail(CodeWriteFailed, "cannot record the image in slot "+w.slot, "check the storage", err)
	}
	return w.backend.write(digestFile(w.slot), hex.EncodeToString(sum)+"  "+imageFile(w.slot))
}

func (w *fileWriter) Close() error { return w.file.Close() }

// digest reads a file from its start.
func digest(ctx context.Context, file *os.File) (sum []byte, size int64, err error) {
	hash := sha256.New()
	buffer := make([]byte, 1<<20)
	for {
		if ctx.Err() != nil {
			return nil, size, context.Cause(ctx)
		}
		n, err := file.ReadAt(buffer, size)
		hash.Write(buffer[:n])
		size += int64(n)
		if err == io.EOF {
			return hash.Sum(nil), size, nil
		}
		if err != nil {
			return nil, size, err
		}
	}
}
