package media_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/xpu-sztp/ztp/pkg/durable"
	"github.com/xpu-sztp/ztp/pkg/slot/media"
	"github.com/xpu-sztp/ztp/test/sticks"
)

// sparse is an image of size bytes that begins with data and goes on with zeros and data by turns, at the given lengths; what is
// left is data.
func sparse(size int, turns ...int) []byte {
	b := make([]byte, size)
	rng := rand.NewChaCha8([32]byte{1})
	at := 0
	for i, n := range append(turns, size) {
		part := b[at:min(at+n, size)]
		if i%2 == 0 {
			rng.Read(part)
		}
		at += len(part)
	}
	rng.Read(b[at:])
	return b
}

func write(t interface {
	Helper()
	Fatal(...any)
}, w io.Writer, content []byte, size int) {
	t.Helper()
	for part := range slices.Chunk(content, size) {
		if n, err := w.Write(part); n != len(part) || err != nil {
			t.Fatal(n, err)
		}
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func file(t *testing.T) media.Place {
	return media.Place{Path: filepath.Join(t.TempDir(), "slots", "b.img"), FS: durable.OS{}, MaxSize: 1 << 30}
}

func open(t *testing.T, p media.Place) *media.Writer {
	t.Helper()
	w, err := p.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func TestZerosBecomeHoles(t *testing.T) {
	p := file(t)
	content := sparse(40<<20, 1<<20, 30<<20, 1<<20, 8<<20)
	w := open(t, p)
	write(t, w, content, 256<<10)
	if err := w.Verify(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(read(t, p.Path), content) {
		t.Error("the file holds something else")
	}
	var st unix.Stat_t
	if err := unix.Stat(p.Path, &st); err != nil {
		t.Fatal(err)
	}
	if used := st.Blocks * 512; used > 4<<20 {
		t.Errorf("%d bytes are stored", used)
	}
}

// A file keeps what it holds until the first byte of the next image, and nothing of it shows through that one's zeros.
func TestOldContent(t *testing.T) {
	p := file(t)
	w := open(t, p)
	old := sparse(3 << 20)
	write(t, w, old, 1<<20)
	if err := w.Verify(t.Context()); err != nil {
		t.Fatal(err)
	}
	w = open(t, p)
	if err := w.Expect(2 << 20); err != nil {
		t.Fatal(err)
	}
	if err := w.Reset(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(read(t, p.Path), old) {
		t.Fatal("the old content is gone before there is a new one")
	}
	content := sparse(2<<20, 4096, 1<<20)
	for range 2 { // begun, reset, written
		write(t, w, content, 12345)
		if err := w.Reset(); err != nil {
			t.Fatal(err)
		}
	}
	write(t, w, content, 54321)
	if err := w.Verify(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(read(t, p.Path), content) {
		t.Error("the file holds something else")
	}
}

func TestFileRefusals(t *testing.T) {
	dir := t.TempDir()
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	must(os.Mkdir(filepath.Join(dir, "folder"), 0o700))
	must(unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	must(os.Symlink("nowhere", filepath.Join(dir, "dangling")))
	must(os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	for path, want := range map[string]bool{
		dir + "/folder": true, dir + "/fifo": true, dir + "/dangling": true, "/dev/null": true, "/dev/disk/by-partlabel/none": true,
		dir + "/file/below": true, dir + "/new/b.img": false, dir + "/file": false,
	} {
		place := media.Place{Path: path, FS: durable.OS{}, MaxSize: 4096}
		if size, err := place.Look(); (err != nil) != want || err == nil && size != 4096 {
			t.Errorf("%s: a look finds room for %d, %v", path, size, err)
		}
		if _, err := os.Lstat(dir + "/new"); err == nil && strings.HasPrefix(path, dir+"/new") {
			t.Errorf("%s was made by a look", path)
		}
		w, err := place.Open()
		if want {
			wantCode(t, err, media.CodeUnavailable)
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		w.Close()
	}
	if _, err := os.Lstat(dir + "/nowhere"); err == nil {
		t.Error("the end of a link was made")
	}
}

func TestNoRoom(t *testing.T) {
	t.Run("configured", func(t *testing.T) {
		p := file(t)
		p.MaxSize = 1 << 20
		w := open(t, p)
		wantCode(t, w.Expect(1<<20+1), media.CodeTooSmall)
		if err := w.Expect(1 << 20); err != nil {
			t.Error(err)
		}
		write(t, w, make([]byte, 1<<20), 4096)
		_, err := w.Write([]byte{0})
		wantCode(t, err, media.CodeTooSmall)
	})
	t.Run("in the file system", func(t *testing.T) {
		p := file(t)
		p.MaxSize = 0
		w := open(t, p)
		wantCode(t, w.Expect(1<<60), media.CodeTooSmall)
		if !sticks.Allowed() {
			return
		}
		small := t.TempDir()
		if err := unix.Mount("none", small, "tmpfs", 0, "size=4m"); err != nil {
			t.Fatal(err)
		}
		defer unix.Unmount(small, unix.MNT_DETACH)
		p.Path = filepath.Join(small, "b.img")
		if err := os.WriteFile(p.Path, make([]byte, 3<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		w = open(t, p)
		if err := w.Expect(4 << 20); err != nil {
			t.Errorf("the room that the old image takes does not count: %v", err)
		}
		wantCode(t, w.Expect(4<<20+1), media.CodeTooSmall)
		_, err := w.Write(sparse(5 << 20))
		wantCode(t, err, media.CodeTooSmall)
		if _, again := w.Write([]byte("x")); again == nil {
			t.Error("took more after an error")
		}
	})
}

// TestSwappedMeanwhile: what is opened must be what was looked at.
func TestSwappedMeanwhile(t *testing.T) {
	p := file(t)
	open(t, p)
	p.FS = meanwhile{FS: durable.OS{}, do: func() {
		if err := os.Remove(p.Path); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mkfifo(p.Path, 0o600); err != nil {
			t.Fatal(err)
		}
	}}
	_, err := p.Open()
	wantCode(t, err, media.CodeUnavailable)
}

// meanwhile does something just before a file is opened.
type meanwhile struct {
	durable.FS
	do func()
}

func (m meanwhile) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	m.do()
	return m.FS.OpenFile(name, flag, perm)
}

// liar is storage that stores something else than it is given.
type liar struct {
	durable.FS
	how func(f durable.File, p []byte, offset int64) (int, error)
}

func (l liar) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	f, err := l.FS.OpenFile(name, flag, perm)
	return lyingFile{f, l.how}, err
}

type lyingFile struct {
	durable.File
	how func(f durable.File, p []byte, offset int64) (int, error)
}

func (f lyingFile) WriteAt(p []byte, offset int64) (int, error) { return f.how(f.File, p, offset) }

func TestStorageThatLies(t *testing.T) {
	content := sparse(5<<20 + 17)
	for name, how := range map[string]func(f durable.File, p []byte, offset int64) (int, error){
		"a bit": func(f durable.File, p []byte, offset int64) (int, error) {
			wrong := durable.Buffer(len(p))
			copy(wrong, p)
			if offset == 3<<20 {
				wrong[100] ^= 4
			}
			return f.WriteAt(wrong, offset)
		},
		"a lost write": func(f durable.File, p []byte, offset int64) (int, error) {
			if offset == 3<<20 {
				return len(p), nil
			}
			return f.WriteAt(p, offset)
		},
		"a write elsewhere": func(f durable.File, p []byte, offset int64) (int, error) {
			if offset == 3<<20 {
				offset = 4 << 20
			}
			return f.WriteAt(p, offset)
		},
		"the end": func(f durable.File, p []byte, offset int64) (int, error) {
			if offset == 5<<20 {
				return len(p), nil
			}
			return f.WriteAt(p, offset)
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := file(t)
			p.FS = liar{durable.OS{}, how}
			w := open(t, p)
			write(t, w, content, 1<<20)
			err := w.Verify(t.Context())
			wantCode(t, err, media.CodeReadBack)
			want := fmt.Sprintf("between byte %d and byte %d", 3<<20, 4<<20)
			if name == "the end" {
				want = fmt.Sprintf("between byte %d and byte %d", 5<<20, len(content))
			}
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%v; want %s", err, want)
			}
		})
	}
}

func TestVerifyCancelled(t *testing.T) {
	w := open(t, file(t))
	write(t, w, sparse(1<<20), 1<<20)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Verify(ctx); err == nil {
		t.Error("verified after being cancelled")
	}
}

func TestCheck(t *testing.T) {
	p := file(t)
	w := open(t, p)
	write(t, w, sparse(3<<20+5, 1<<20, 1<<20), 1<<20)
	if err := w.Verify(t.Context()); err != nil {
		t.Fatal(err)
	}
	proof := w.Proof()
	if err := p.Check(t.Context(), proof); err != nil {
		t.Fatal(err)
	}
	for _, at := range []int64{0, 1 << 20, 3<<20 + 4} {
		if err := os.WriteFile(p.Path+"x", read(t, p.Path), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(p.Path+"x", os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		var b [1]byte
		f.ReadAt(b[:], at)
		b[0]++
		f.WriteAt(b[:], at)
		f.Close()
		changed := media.Place{Path: p.Path + "x", FS: p.FS}
		wantCode(t, changed.Check(t.Context(), proof), media.CodeReadBack)
	}
	if err := os.Truncate(p.Path, 1<<20); err != nil {
		t.Fatal(err)
	}
	wantCode(t, p.Check(t.Context(), proof), media.CodeReadBack)
	if err := p.Check(t.Context(), media.Proof{Size: 1}); err == nil {
		t.Error("a proof of nothing holds")
	}
}

// Whatever the pieces in which an image comes, wherever its zeros are, and wherever another process goes on with it, the file
// holds the image.
func TestAnyPieces(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		p := media.Place{Path: filepath.Join(dir, "b.img"), FS: durable.OS{}}
		turn := rapid.OneOf(rapid.IntRange(1, 10000), rapid.IntRange(1, 300<<10), rapid.Map(rapid.IntRange(1, 40), func(n int) int { return n * 4096 }))
		turns := rapid.SliceOfN(turn, 1, 8).Draw(t, "turns")
		size := 0
		for _, n := range turns {
			size += n
		}
		content := sparse(size, turns...)
		w, err := p.Open()
		if err != nil {
			t.Fatal(err)
		}
		defer func() { w.Close() }()
		var mark []byte
		at := 0
		for done := 0; done < size; {
			n := min(turn.Draw(t, "piece"), size-done)
			write(t, w, content[done:done+n], n)
			done += n
			switch rapid.IntRange(0, 5).Draw(t, "what happens") {
			case 0:
				if mark, err = w.Checkpoint(); err != nil {
					t.Fatal(err)
				}
				if err := w.Sync(); err != nil {
					t.Fatal(err)
				}
				at = done
			case 1: // killed; the next process goes on at the mark
				if mark == nil {
					continue
				}
				write(t, w, sparse(rapid.IntRange(1, 100000).Draw(t, "wrong bytes")), 70000) // of a mirror that had others
				w.Close()
				if w, err = p.Open(); err != nil {
					t.Fatal(err)
				}
				if err := w.Restore(mark); err != nil {
					t.Fatal(err)
				}
				done = at
				mark = nil
			}
		}
		if err := w.Verify(context.Background()); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(p.Path)
		if err != nil || !bytes.Equal(got, content) {
			t.Fatalf("the file holds something else: %v", err)
		}
	})
}

func TestRestoreRefuses(t *testing.T) {
	p := file(t)
	w := open(t, p)
	if mark, err := w.Checkpoint(); mark != nil || err != nil {
		t.Fatalf("a checkpoint of nothing: %s, %v", mark, err)
	}
	content := sparse(2<<20 + 77)
	write(t, w, content, len(content))
	mark, err := w.Checkpoint()
	if err != nil || len(mark) > 64<<10 {
		t.Fatal(len(mark), err)
	}
	other := open(t, file(t))
	smaller := p
	smaller.MaxSize = 2 << 20
	for name, tt := range map[string]struct {
		w    *media.Writer
		mark string
	}{
		"another file":  {other, string(mark)},
		"smaller":       {open(t, smaller), string(mark)},
		"garbage":       {w, "{"},
		"nothing":       {w, ""},
		"empty":         {w, "{}"},
		"negative":      {w, strings.Replace(string(mark), `"flushed":`, `"flushed":-`, 1)},
		"not a block":   {w, strings.Replace(string(mark), `"flushed":`, `"flushed":1`, 1)},
		"no chunk":      {w, strings.Replace(string(mark), `"chunk":`, `"chunk":0,"c":`, 1)},
		"sums too few":  {w, strings.Replace(string(mark), `"sums":"`, `"sums":"","s":"`, 1)},
		"another chunk": {w, strings.Replace(string(mark), `"chunk":`, `"chunk":2`, 1)},
	} {
		t.Run(name, func(t *testing.T) {
			if err := tt.w.Restore([]byte(tt.mark)); err == nil {
				t.Fatal("restored")
			}
			if tt.w.Size() != 0 {
				t.Fatalf("%d bytes count as written", tt.w.Size())
			}
		})
	}
}

func TestMemory(t *testing.T) {
	w := open(t, file(t))
	content := sparse(1 << 20)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 64 {
		write(t, w, content, len(content))
	}
	if err := w.Verify(t.Context()); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 3<<20 { // two of them are what is read back at a time
		t.Errorf("allocated %d bytes for an image of %d", got, 64<<20)
	}
}
