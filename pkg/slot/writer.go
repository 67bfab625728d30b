package slot

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/xpu-sztp/ztp/pkg/slot/media"
	"github.com/xpu-sztp/ztp/pkg/slot/unpack"
)

// writer writes one image into one slot of an AB, unpacked where it is compressed.
type writer struct {
	ctx     context.Context // of Open: ends unpacking
	slot    string
	place   media.Place
	out     *media.Writer
	records *records
	now     func() time.Time
	proven  func()        // called once the slot was read back and recorded
	format  unpack.Format // what the configuration says; empty when the image decides

	dirty    bool // the slot no longer holds what it held
	total    int64
	size     int64  // bytes taken
	head     []byte // the first of them, as long as there are too few to tell the format
	actual   unpack.Format
	unpacker *unpack.Writer
	spool    spool
	replayed bool // the spool is being read, not written
}

// auto stands for a format that is not known yet.
const auto unpack.Format = ""

func (w *writer) Slot() string { return w.slot }

// Expect refuses an image that the place cannot hold (image.Sizer). What is compressed has at least its own size.
func (w *writer) Expect(total int64) error {
	w.total = total
	return w.out.Expect(total)
}

func (w *writer) Write(p []byte) (int, error) {
	if w.actual == auto {
		taken := len(p)
		if w.head = append(w.head, p[:min(taken, unpack.HeadSize-len(w.head))]...); len(w.head) < unpack.HeadSize {
			w.size += int64(taken)
			return taken, nil
		}
		before := w.head[:w.size]
		if err := w.begin(); err != nil {
			return 0, err
		}
		if len(before) > 0 {
			w.size = 0
			if _, err := w.take(before); err != nil {
				return 0, err
			}
		}
	}
	return w.take(p)
}

// begin decides how the image is unpacked, by how it begins, and forgets what the slot held.
func (w *writer) begin() error {
	format := w.format
	if format == auto {
		format = unpack.Detect(w.head)
	}
	if size := unpack.Size(w.head); format != unpack.Raw && size > 0 {
		if err := w.out.Expect(size); err != nil {
			return err
		}
	}
	if err := w.destroy(); err != nil {
		return err
	}
	if w.actual = format; format == unpack.Raw {
		w.spool.drop() // of an earlier image
		return nil
	}
	w.unpacker = unpack.NewWriter(w.ctx, w.out, format)
	if !w.replayed {
		w.spool.begin(w.total)
	}
	return nil
}

func (w *writer) take(p []byte) (n int, err error) {
	if w.actual == unpack.Raw {
		n, err = w.out.Write(p)
	} else {
		if !w.replayed {
			w.spool.write(p)
		}
		n, err = w.unpacker.Write(p)
	}
	w.size += int64(n)
	return n, err
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
	w.stop()
	w.spool.drop()
	w.size, w.head, w.actual = 0, w.head[:0], auto
	return w.out.Reset()
}

// stop ends unpacking, so that nothing more is written.
func (w *writer) stop() {
	if w.unpacker != nil {
		w.unpacker.Abort()
		w.unpacker = nil
	}
}

// mark is a checkpoint: of the place, or of the spool when the image is compressed.
type mark struct {
	Slot  string          `json:"slot"`
	Place json.RawMessage `json:"place,omitempty"`
	Spool json.RawMessage `json:"spool,omitempty"`
}

// Checkpoint implements image.Checkpointer.
func (w *writer) Checkpoint() ([]byte, error) {
	m := mark{Slot: w.slot}
	var err error
	switch w.actual {
	case auto:
		return nil, nil
	case unpack.Raw:
		m.Place, err = w.out.Checkpoint()
	default:
		m.Spool, err = w.spool.mark(w.actual)
	}
	if err != nil || m.Place == nil && m.Spool == nil {
		return nil, err
	}
	return json.Marshal(m)
}

// Sync implements image.Checkpointer.
func (w *writer) Sync() error {
	if w.actual == unpack.Raw {
		return w.out.Sync()
	}
	w.spool.sync()
	return nil
}

// Restore implements image.Checkpointer.
func (w *writer) Restore(b []byte) error {
	if err := w.restore(b); err != nil {
		return errors.Join(err, w.Reset())
	}
	return nil
}

func (w *writer) restore(b []byte) error {
	var m mark
	if err := json.Unmarshal(b, &m); err != nil {
		return err
	}
	if m.Slot != w.slot {
		return errors.New("the checkpoint is one of another slot")
	}
	w.stop()
	if m.Spool != nil {
		return w.unpackAgain(m.Spool)
	}
	// A checkpoint of a raw image is good only while nothing else was put into the slot, so there is no record.
	if w.format != auto && w.format != unpack.Raw {
		return errors.New("the checkpoint is one of an image that was not unpacked")
	}
	if err := w.destroy(); err != nil {
		return err
	}
	if err := w.out.Restore(m.Place); err != nil {
		return err
	}
	w.actual, w.size = unpack.Raw, w.out.Size()
	return nil
}

// unpackAgain unpacks what the spool has.
func (w *writer) unpackAgain(b []byte) error {
	var m spoolMark
	if err := json.Unmarshal(b, &m); err != nil {
		return err
	}
	if m.Format == unpack.Raw || w.format != auto && w.format != m.Format {
		return errors.New("the checkpoint is one of another format")
	}
	if err := w.out.Reset(); err != nil {
		return err
	}
	w.size, w.head, w.actual, w.replayed = 0, w.head[:0], auto, true
	err := w.spool.replay(w.ctx, m, w)
	w.replayed = false
	if err == nil && w.actual != m.Format {
		err = errSpool
	}
	return err
}

func (w *writer) Commit(ctx context.Context, sum []byte) error {
	if w.actual == auto { // an image of a few bytes
		if err := w.begin(); err != nil {
			return err
		}
		w.size = 0
		if _, err := w.take(w.head); err != nil {
			return err
		}
	}
	if unpacker := w.unpacker; unpacker != nil {
		w.unpacker = nil
		if err := unpacker.Finish(); err != nil {
			return err
		}
	}
	if err := w.out.Verify(ctx); err != nil {
		return err
	}
	known := record{SHA256: sum, Size: w.size, Format: w.actual, At: w.now(), Place: w.out.Identity(), Proof: w.out.Proof()}
	if err := w.records.write(w.slot, w.place.Path, known); err != nil {
		return err
	}
	w.proven()
	w.spool.drop()
	return nil
}

func (w *writer) Close() error {
	w.stop()
	w.spool.close()
	if err := w.out.Close(); err != nil {
		return fail(CodeWriteFailed, "cannot finish writing slot "+w.slot, "check the storage", err)
	}
	return nil
}
