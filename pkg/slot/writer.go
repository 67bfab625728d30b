package slot

import (
	"context"
	"time"

	"github.com/xpu-sztp/ztp/pkg/slot/media"
)

// writer writes one image into one slot of an AB.
type writer struct {
	slot    string
	path    string
	out     *media.Writer
	records *records
	now     func() time.Time
	dirty   bool // the slot no longer holds what it held
}

func (w *writer) Slot() string { return w.slot }

// Expect refuses an image that the place cannot hold (image.Sizer).
func (w *writer) Expect(total int64) error { return w.out.Expect(total) }

func (w *writer) Write(p []byte) (int, error) {
	if err := w.destroy(); err != nil {
		return 0, err
	}
	return w.out.Write(p)
}

// destroy forgets what the slot held, before the first byte of it is overwritten.
func (w *writer) destroy() error {
	if w.dirty {
		return nil
	}
	if err := w.records.remove(w.slot); err != nil {
		return err
	}
	w.dirty = true
	return nil
}

func (w *writer) Reset() error {
	if !w.dirty {
		return nil
	}
	return w.out.Reset()
}

func (w *writer) Commit(ctx context.Context, sum []byte) error {
	if err := w.destroy(); err != nil {
		return err
	}
	if err := w.out.Verify(ctx); err != nil {
		return err
	}
	size := w.out.Size()
	return w.records.write(w.slot, w.path, Image{SHA256: sum, Size: size, Written: size, Format: "raw", At: w.now()})
}

func (w *writer) Close() error { return w.out.Close() }
