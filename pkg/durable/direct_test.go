package durable

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// picky is storage that wants direct I/O in larger pieces than anybody knows, and says so only when it is asked to write or read.
type picky struct{ *os.File }

func (p picky) WriteAt(b []byte, offset int64) (int, error) {
	if isDirect(p.File) {
		return 0, &os.PathError{Op: "write", Path: p.Name(), Err: unix.EINVAL}
	}
	return p.File.WriteAt(b, offset)
}

func (p picky) ReadAt(b []byte, offset int64) (int, error) {
	if isDirect(p.File) {
		return 0, &os.PathError{Op: "read", Path: p.Name(), Err: unix.EINVAL}
	}
	return p.File.ReadAt(b, offset)
}

// noFile is no file of the kernel's, as layers that tests put between are.
type noFile struct{ *os.File }

func (noFile) SyscallConn() (syscall.RawConn, error) { return nil, os.ErrInvalid }

func isDirect(f *os.File) bool {
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	return err == nil && flags&unix.O_DIRECT != 0
}

// Whatever the offsets, lengths and memory, the file holds what a plain one would, and so does what is read of it.
func TestDirectIsAFile(t *testing.T) {
	layers := map[string]func(*os.File) File{
		"file":             func(f *os.File) File { return f },
		"refuses late":     func(f *os.File) File { return picky{f} },
		"no kernel's file": func(f *os.File) File { return noFile{f} },
	}
	for name, layer := range layers {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			rapid.Check(t, func(t *rapid.T) {
				f, err := os.OpenFile(filepath.Join(dir, "image"), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				d := NewDirect(layer(f))
				var want []byte
				size := rapid.OneOf(rapid.IntRange(1, 3*block), rapid.Map(rapid.IntRange(1, 80), func(n int) int { return n * block }),
					rapid.IntRange(1, 2*bounceSize))
				rng := rand.NewChaCha8([32]byte{})
				for range rapid.IntRange(1, 6).Draw(t, "writes") {
					p := memory(t, size.Draw(t, "size"))
					rng.Read(p)
					if n, err := d.WriteAt(p, int64(len(want))); n != len(p) || err != nil {
						t.Fatalf("wrote %d of %d: %v", n, len(p), err)
					}
					want = append(want, p...)
				}
				if err := d.Sync(); err != nil {
					t.Fatal(err)
				}
				if got, err := os.ReadFile(f.Name()); err != nil || !bytes.Equal(got, want) {
					t.Fatalf("the file holds %d other bytes than the %d written: %v", len(got), len(want), err)
				}
				at := rapid.IntRange(0, len(want)).Draw(t, "offset")
				if rapid.Bool().Draw(t, "aligned") {
					at &^= block - 1
				}
				p := memory(t, size.Draw(t, "size"))
				n, err := d.ReadAt(p, int64(at))
				whole := min(len(p), len(want)-at)
				if n != whole || !bytes.Equal(p[:n], want[at:at+n]) || (n < len(p)) != (err == io.EOF) || err != nil && err != io.EOF {
					t.Fatalf("read %d of %d bytes at %d of %d: %v", n, len(p), at, len(want), err)
				}
			})
		})
	}
}

// memory is aligned or not.
func memory(t *rapid.T, size int) []byte {
	if rapid.Bool().Draw(t, "aligned memory") {
		return Buffer(size)
	}
	return Buffer(size + 1)[1:]
}

// An image leaves the page cache as it is.
func TestDirectLeavesTheCacheAlone(t *testing.T) {
	f, err := os.OpenFile(filepath.Join(t.TempDir(), "image"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d := NewDirect(f)
	if !isDirect(f) { // tmpfs of older kernels
		if d.direct {
			t.Error("says that it goes past the cache, and does not")
		}
		return
	}
	p := Buffer(1 << 20)
	for i := range int64(8) {
		if _, err := d.WriteAt(p, i<<20); err != nil {
			t.Fatal(err)
		}
		if _, err := d.ReadAt(p, i<<20); err != nil {
			t.Fatal(err)
		}
	}
	if n := cached(t, f, 8<<20); n > 0 {
		t.Errorf("%d pages of it are in the cache", n)
	}
}

// cached counts the pages of a file that are in the cache.
func cached(t *testing.T, f *os.File, size int) (n int) {
	m, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(m)
	pages := make([]byte, size/block)
	if _, _, errno := unix.Syscall(unix.SYS_MINCORE, address(m), uintptr(size), address(pages)); errno != 0 {
		t.Fatal(errno)
	}
	for _, p := range pages {
		n += int(p & 1)
	}
	return n
}

// Calls that are aligned take no memory.
func TestDirectAllocatesNothing(t *testing.T) {
	f, err := os.OpenFile(filepath.Join(t.TempDir(), "image"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d := NewDirect(f)
	p := Buffer(1 << 20)
	allocs := testing.AllocsPerRun(4, func() {
		d.WriteAt(p, 0)
		d.ReadAt(p, 0)
	})
	if allocs > 0 || d.bounce != nil {
		t.Errorf("%v allocations, and %d bytes to copy through", allocs, len(d.bounce))
	}
}

func address(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }
