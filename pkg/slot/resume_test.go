package slot_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xpu-sztp/ztp/pkg/durable"
	"github.com/xpu-sztp/ztp/pkg/image"
	"github.com/xpu-sztp/ztp/pkg/slot/unpack"
)

// TestGoesOnInAnotherProcess: a process is killed somewhere behind a checkpoint; the next goes on at that, without the bytes
// before.
func TestGoesOnInAnotherProcess(t *testing.T) {
	for _, tool := range []string{"cat", "gzip", "xz", "zstd"} {
		t.Run(tool, func(t *testing.T) {
			d := newDevice(t)
			content, published := system(t, tool)
			w := d.open(t, d.start())
			if err := w.Expect(int64(len(published))); err != nil {
				t.Fatal(err)
			}
			put(t, w, published[:1234567])
			mark, err := w.Checkpoint()
			if err != nil || mark == nil || len(mark) > image.MaxMark {
				t.Fatal(len(mark), err)
			}
			if err := w.Sync(); err != nil {
				t.Fatal(err)
			}
			put(t, w, published[1234567:1500000])
			w.Close()

			w = d.open(t, d.start())
			if err := w.Restore(mark); err != nil {
				t.Fatal(err)
			}
			put(t, w, published[1234567:])
			commit(t, w, published)
			if !bytes.Equal(d.read(t, "b.img"), content) {
				t.Error("the slot holds something else")
			}
		})
	}
}

// A checkpoint that does not fit leaves the sink ready for the start of the image.
func TestCannotGoOn(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, d *device){
		"spool gone":      func(t *testing.T, d *device) { os.Remove(filepath.Join(d.dir, "cache/b.spool")) },
		"spool cut":       func(t *testing.T, d *device) { os.Truncate(filepath.Join(d.dir, "cache/b.spool"), 1000) },
		"spool not used":  func(t *testing.T, d *device) { d.opts.Spool = "" },
		"other format":    func(t *testing.T, d *device) { d.opts.Format = unpack.XZ },
		"spool corrupted": func(t *testing.T, d *device) { flip(t, filepath.Join(d.dir, "cache/b.spool"), 600000) },
	} {
		t.Run(name, func(t *testing.T) {
			d := newDevice(t)
			content, published := system(t, "gzip")
			w := d.open(t, d.start())
			w.Expect(int64(len(published)))
			put(t, w, published[:1234567])
			mark, err := w.Checkpoint()
			if err != nil || mark == nil {
				t.Fatal(err)
			}
			w.Sync()
			w.Close()
			format := d.opts.Format
			spoil(t, &d)
			w = d.open(t, d.start())
			if err := w.Restore(mark); err == nil {
				t.Fatal("restored")
			}
			if d.opts.Format != format {
				return
			}
			put(t, w, published)
			commit(t, w, published)
			if !bytes.Equal(d.read(t, "b.img"), content) {
				t.Error("the slot holds something else")
			}
		})
	}
	d := newDevice(t)
	w := d.open(t, d.start())
	for _, mark := range []string{"", "{}", "{", `{"slot":"a"}`, `{"slot":"b","spool":{}}`, `{"slot":"b","place":{}}`, `{"slot":"b","spool":{"format":"raw"}}`} {
		if err := w.Restore([]byte(mark)); err == nil {
			t.Errorf("restored %s", mark)
		}
	}
}

func flip(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
}

// TestNoRoomToSpool: an image is installed all the same, without checkpoints.
func TestNoRoomToSpool(t *testing.T) {
	for name, spoil := range map[string]func(d *device) int64{
		"unknown size":   func(*device) int64 { return 0 },
		"not wanted":     func(d *device) int64 { d.opts.Spool = ""; return 1 << 20 },
		"cannot be made": func(d *device) int64 { d.opts.Spool = filepath.Join(d.dir, "a.img", "x"); return 1 << 20 },
		"fails":          func(d *device) int64 { d.opts.FS = noSpool{durable.OS{}}; return 1 << 20 },
	} {
		t.Run(name, func(t *testing.T) {
			d := newDevice(t)
			total := spoil(&d)
			content, published := system(t, "zstd")
			w := d.open(t, d.start())
			if total > 0 {
				w.Expect(total)
			}
			put(t, w, published[:1<<20])
			if mark, err := w.Checkpoint(); mark != nil || err != nil {
				t.Errorf("a checkpoint %s, %v", mark, err)
			}
			put(t, w, published[1<<20:])
			commit(t, w, published)
			if !bytes.Equal(d.read(t, "b.img"), content) {
				t.Error("the slot holds something else")
			}
		})
	}
}

// noSpool is a file system on which spools cannot be written.
type noSpool struct{ durable.FS }

func (n noSpool) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	f, err := n.FS.OpenFile(name, flag, perm)
	if err == nil && strings.HasSuffix(name, ".spool") {
		return unwritable{f}, nil
	}
	return f, err
}

type unwritable struct{ durable.File }

func (unwritable) WriteAt([]byte, int64) (int, error) { return 0, os.ErrInvalid }
