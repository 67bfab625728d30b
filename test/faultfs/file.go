package faultfs

import (
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"

	"github.com/xpu-sztp/ztp/pkg/durable"
)

// file is an open file of an FS.
type file struct {
	*os.File
	on   *FS
	node *node // nil for what is not on the disk
}

var _ durable.File = (*file)(nil)

func (f *FS) opened(o *os.File) *node {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.disk.open(o)
}

func (f *file) do(o op) error {
	o.what += " " + f.on.short(f.Name())
	return pathError(o.what, f.Name(), f.on.do(o))
}

func (f *file) Read(p []byte) (n int, err error) {
	err = f.do(op{what: "read", effect: func() (err error) { n, err = f.File.Read(p); return err }})
	return n, err
}

func (f *file) ReadAt(p []byte, off int64) (n int, err error) {
	err = f.do(op{what: "read", effect: func() (err error) { n, err = f.File.ReadAt(p, off); return err }})
	return n, err
}

func (f *file) Write(p []byte) (int, error) {
	at, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, err
	}
	return f.write(p, at, f.File.Write)
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	return f.write(p, off, func(p []byte) (int, error) { return f.File.WriteAt(p, off) })
}

func (f *file) write(p []byte, at int64, put func([]byte) (int, error)) (n int, err error) {
	part := func(p []byte) error {
		n, err = put(p)
		f.on.disk.written(f.node, at, int64(n))
		return err
	}
	err = f.do(op{
		what:   fmt.Sprintf("write %d bytes at %d of", len(p), at),
		effect: func() error { return part(p) },
		grows:  true,
		torn:   func(r *rand.Rand) error { return part(p[:r.IntN(len(p)+1)]) },
		short:  func() error { return part(p[:len(p)/2]) },
		flipped: func() error {
			q := append([]byte(nil), p...)
			if len(q) > 0 {
				q[len(q)/2] ^= 1
			}
			return part(q)
		},
	})
	return n, err
}

func (f *file) Truncate(size int64) error {
	return f.do(op{
		what: fmt.Sprintf("truncate to %d", size), effect: func() error { return f.File.Truncate(size) },
		note: func() { f.on.disk.written(f.node, size, 0) }, grows: true,
	})
}

func (f *file) Chmod(mode fs.FileMode) error {
	return f.do(op{what: "chmod", effect: func() error { return f.File.Chmod(mode) }})
}

func (f *file) Chown(uid, gid int) error {
	return f.do(op{what: "chown", effect: func() error { return f.File.Chown(uid, gid) }})
}

// Sync makes the content durable.
func (f *file) Sync() error {
	return f.do(op{
		what: "sync", effect: f.sync, note: func() { f.on.disk.syncContent(f.node) },
		broken: func() { f.on.disk.loseDirty(f.node) },
	})
}

// sync does nothing for a file of the disk: the machine of the tests does not lose its power.
func (f *file) sync() error {
	if f.node != nil {
		return nil
	}
	return f.File.Sync()
}

// Close closes the file, also when it reports an error.
func (f *file) Close() error {
	err := f.do(op{what: "close", effect: func() error { return nil }})
	if closeErr := f.File.Close(); err == nil {
		err = closeErr
	}
	return err
}
