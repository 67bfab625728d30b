package slot_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/xpu-sztp/ztp/pkg/durable"
	"github.com/xpu-sztp/ztp/pkg/image"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/slot"
	"github.com/xpu-sztp/ztp/pkg/slot/unpack"
)

// sink is what package image makes of the Writer of an AB.
type sink interface {
	slot.Writer
	image.Sizer
	image.Checkpointer
}

// device is a pair of slots in a folder.
type device struct {
	dir  string
	opts slot.Options
}

func newDevice(t *testing.T) device {
	t.Helper()
	dir := t.TempDir()
	factory(t, dir)
	return device{dir, slot.Options{Dir: dir, MaxSize: 64 << 20, Spool: filepath.Join(dir, "cache")}}
}

// start is a new process.
func (d device) start() *slot.AB { return slot.NewFile(d.opts) }

func (d device) open(t *testing.T, b *slot.AB) sink {
	t.Helper()
	w, err := b.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w.(sink)
}

func (d device) read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(d.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// system is an image, and how it is published.
func system(t *testing.T, tool string) (content, published []byte) {
	t.Helper()
	content = make([]byte, 3<<20+100)
	rand.NewChaCha8([32]byte{}).Read(content[:2<<20])
	cmd := exec.Command(tool)
	cmd.Stdin = bytes.NewReader(content)
	published, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return content, published
}

func put(t *testing.T, w sink, p []byte) {
	t.Helper()
	for part := range slices.Chunk(p, 100000) {
		if n, err := w.Write(part); n != len(part) || err != nil {
			t.Fatal(n, err)
		}
	}
}

func commit(t *testing.T, w sink, published []byte) {
	t.Helper()
	sum := sha256.Sum256(published)
	if err := w.Commit(t.Context(), sum[:]); err != nil {
		t.Fatal(err)
	}
}

// TestInstall: each format is told by how it begins, and the record is about what was downloaded.
func TestInstall(t *testing.T) {
	for tool, format := range map[string]unpack.Format{"cat": unpack.Raw, "gzip": unpack.Gzip, "xz": unpack.XZ, "zstd": unpack.Zstd} {
		t.Run(tool, func(t *testing.T) {
			d := newDevice(t)
			b := d.start()
			content, published := system(t, tool)
			w := d.open(t, b)
			if err := w.Expect(int64(len(published))); err != nil {
				t.Fatal(err)
			}
			put(t, w, []byte("another mirror's bytes, which were wrong"))
			if err := w.Reset(); err != nil {
				t.Fatal(err)
			}
			for i := range 30 { // so few that the format does not show at first
				put(t, w, published[i:i+1])
			}
			put(t, w, published[30:])
			commit(t, w, published)
			if !bytes.Equal(d.read(t, "b.img"), content) {
				t.Error("the slot holds something else")
			}
			sum := sha256.Sum256(published)
			want := slot.Image{SHA256: sum[:], Size: int64(len(published)), Written: int64(len(content)), Format: format}
			description, err := d.start().Describe(t.Context())
			if diff := cmp.Diff(want, description.Contents["b"], cmpopts.IgnoreFields(slot.Image{}, "At")); diff != "" || err != nil {
				t.Error(err, diff)
			}
			if _, err := os.Stat(filepath.Join(d.dir, "cache/b.spool")); err == nil {
				t.Error("the spool is left")
			}
			if err := d.start().Activate(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// Few bytes and none are images too.
func TestSmallImages(t *testing.T) {
	for _, content := range []string{"", "x", "17 bytes of image", "18 bytes of image."} {
		d := newDevice(t)
		b := d.start()
		install(t, b, content)
		if got := string(d.read(t, "b.img")); got != content {
			t.Errorf("%q became %q", content, got)
		}
	}
}

func TestConfiguredFormat(t *testing.T) {
	content, published := system(t, "gzip")
	t.Run("none", func(t *testing.T) {
		d := newDevice(t)
		d.opts.Format = unpack.Raw
		w := d.open(t, d.start())
		put(t, w, published)
		commit(t, w, published)
		if !bytes.Equal(d.read(t, "b.img"), published) {
			t.Error("unpacked what was not to be")
		}
	})
	t.Run("another", func(t *testing.T) {
		d := newDevice(t)
		d.opts.Format = unpack.Zstd
		w := d.open(t, d.start())
		put(t, w, content[:1])
		wantCode(t, w.Commit(t.Context(), make([]byte, 32)), unpack.CodeCorrupt)
	})
}

// TestNothingIsDestroyed by an image that never begins, is too large, or does not look like one that fits.
func TestNothingIsDestroyed(t *testing.T) {
	d := newDevice(t)
	d.opts.MaxSize = 4 << 20
	content, published := system(t, "zstd")
	w := d.open(t, d.start())
	put(t, w, published)
	commit(t, w, published)
	large := exec.Command("zstd", "--stream-size=5000000")
	large.Stdin = bytes.NewReader(make([]byte, 5000000))
	tooLarge, err := large.Output()
	if err != nil {
		t.Fatal(err)
	}
	for name, try := range map[string]func(w sink) error{
		"no byte":            func(w sink) error { return w.Reset() },
		"too large":          func(w sink) error { return w.Expect(4<<20 + 1) },
		"too large unpacked": func(w sink) error { _, err := w.Write(tooLarge); return err },
	} {
		b := d.start()
		w := d.open(t, b)
		err := try(w)
		if name != "no byte" {
			wantCode(t, err, slot.CodeTooSmall)
		}
		w.Close()
		if !bytes.Equal(d.read(t, "b.img"), content) {
			t.Fatalf("%s: the slot was changed", name)
		}
		if err := b.Activate(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestLook: whether an image could be installed is found out without a change.
func TestLook(t *testing.T) {
	d := newDevice(t)
	before := files(t, d.dir)
	if o, err := d.start().Look(t.Context()); err != nil || o != (slot.Outlook{Room: 64 << 20, Running: 64 << 20}) {
		t.Errorf("%+v, %v", o, err)
	}
	if diff := cmp.Diff(before, files(t, d.dir)); diff != "" {
		t.Error(diff)
	}
	content, published := system(t, "zstd")
	b := d.start()
	w := d.open(t, b)
	put(t, w, published)
	commit(t, w, published)
	if err := b.Activate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := slot.Boot(d.dir); err != nil {
		t.Fatal(err)
	}
	_, err := d.start().Look(t.Context())
	wantCode(t, err, slot.CodeInTrial)
	if !bytes.Equal(d.read(t, "b.img"), content) {
		t.Error("the slot was changed")
	}
}

// files are the names in a folder, and below it.
func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, _ fs.DirEntry, err error) error {
		names = append(names, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// TestForgottenFirst: at the instant in which the first byte of a slot is destroyed, nothing says any more that it holds an
// image, and that is durable.
func TestForgottenFirst(t *testing.T) {
	d := newDevice(t)
	_, published := system(t, "cat")
	w := d.open(t, d.start())
	put(t, w, published)
	commit(t, w, published)
	mark, err := w.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	for name, begin := range map[string]func(w sink) error{
		"write":   func(w sink) error { _, err := w.Write(published); return err },
		"restore": func(w sink) error { return w.Restore(mark) },
		"nothing": func(w sink) error { return w.Commit(t.Context(), make([]byte, 32)) },
	} {
		t.Run(name, func(t *testing.T) {
			w := d.open(t, d.start())
			put(t, w, published)
			commit(t, w, published)
			w.Close()
			log := &logged{FS: durable.OS{}}
			again := d
			again.opts.FS = log
			w = again.open(t, again.start())
			if err := begin(w); err != nil {
				t.Fatal(err)
			}
			removed := slices.Index(log.did, "remove b.sha256")
			synced := slices.Index(log.did[max(removed, 0):], "sync "+filepath.Base(d.dir))
			changed := slices.Index(log.did, "change b.img")
			if removed < 0 || synced < 0 || changed < removed+synced {
				t.Errorf("in this order: %q", log.did)
			}
			if name != "nothing" {
				wantCode(t, d.start().Activate(t.Context()), slot.CodeNotReady)
			}
		})
	}
}

// logged notes what changes files.
type logged struct {
	durable.FS
	did []string
}

func (l *logged) note(what, path string) { l.did = append(l.did, what+" "+filepath.Base(path)) }

func (l *logged) Remove(name string) error  { l.note("remove", name); return l.FS.Remove(name) }
func (l *logged) SyncDir(name string) error { l.note("sync", name); return l.FS.SyncDir(name) }
func (l *logged) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	f, err := l.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return loggedFile{f, l}, nil
}

type loggedFile struct {
	durable.File
	log *logged
}

func (f loggedFile) Truncate(size int64) error {
	f.log.note("change", f.Name())
	return f.File.Truncate(size)
}

func (f loggedFile) WriteAt(p []byte, offset int64) (int, error) {
	f.log.note("change", f.Name())
	return f.File.WriteAt(p, offset)
}

// TestReadOnceMore: what another process put into a slot, and somebody changed since, is not armed, and is no longer known.
func TestReadOnceMore(t *testing.T) {
	d := newDevice(t)
	b := d.start()
	content, published := system(t, "cat")
	w := d.open(t, b)
	put(t, w, published)
	commit(t, w, published)
	w.Close()
	flip(t, filepath.Join(d.dir, "b.img"), int64(len(content)-1))
	b = d.start()
	wantCode(t, b.Activate(t.Context()), slot.CodeReadBack)
	if _, err := os.Stat(filepath.Join(d.dir, "next")); err == nil {
		t.Error("the slot is armed")
	}
	wantCode(t, b.Activate(t.Context()), slot.CodeNotReady)
}

// TestSameDevice: two names of one file are no two slots.
func TestSameDevice(t *testing.T) {
	d := newDevice(t)
	if err := os.Symlink("a.img", filepath.Join(d.dir, "b.img")); err != nil {
		t.Fatal(err)
	}
	_, err := d.start().Look(t.Context())
	wantCode(t, err, slot.CodeInUse)
	_, err = d.start().Open(t.Context())
	wantCode(t, err, slot.CodeInUse)
	if got := string(d.read(t, "a.img")); got != "factory" {
		t.Errorf("the running slot holds %q", got)
	}
}

// loader is a boot loader in a certain state, which keeps its files where it wants.
type loader struct {
	state slot.State
	dir   string
	did   []string
}

func (l *loader) State(context.Context) (slot.State, error) { return l.state, nil }
func (l *loader) Disarm(_ context.Context, name string) error {
	l.did = append(l.did, "disarm "+name)
	return nil
}
func (l *loader) Arm(_ context.Context, name string) error {
	l.did = append(l.did, "arm "+name)
	return nil
}
func (l *loader) Bless(_ context.Context, name string) error {
	l.did = append(l.did, "bless "+name)
	return nil
}
func (l *loader) Place(_ context.Context, name string) (string, error) {
	return filepath.Join(l.dir, "elsewhere", name), nil
}

// TestLoader: what a boot loader is asked to do, in each state, by an installation and what follows it.
func TestLoader(t *testing.T) {
	for _, tt := range []struct {
		state slot.State
		did   []string
		codes []reason.Code // of Open, Activate, Deactivate, MarkGood
	}{
		{slot.State{Running: "one", Good: "one"}, []string{"disarm two", "arm two", "disarm two"}, []reason.Code{"", "", "", ""}},
		{slot.State{Running: "two", Good: "two", Next: "one"}, []string{"disarm one", "arm one", "disarm one"}, []reason.Code{"", "", "", ""}},
		{slot.State{Running: "two", Good: "one"}, []string{"bless two"}, []reason.Code{slot.CodeInTrial, slot.CodeNotReady, "", ""}},
		{slot.State{Running: "two", Good: "recovery"}, []string{"disarm one", "bless two"}, []reason.Code{slot.CodeUnavailable, slot.CodeNotReady, "", ""}},
		{slot.State{Running: "usb", Good: "one"}, nil, []reason.Code{slot.CodeUnavailable, slot.CodeUnavailable, slot.CodeUnavailable, slot.CodeUnavailable}},
	} {
		t.Run(tt.state.Running+" "+tt.state.Good, func(t *testing.T) {
			l := &loader{state: tt.state, dir: t.TempDir()}
			b := slot.NewAB(l, [2]slot.Slot{{Name: "one"}, {Name: "two"}}, slot.Options{Dir: filepath.Join(l.dir, "records")})
			w, err := b.Open(t.Context())
			wantCode(t, err, tt.codes[0])
			if err == nil {
				put(t, w.(sink), []byte("new"))
				commit(t, w.(sink), []byte("new"))
				w.Close()
				if got, err := os.ReadFile(filepath.Join(l.dir, "elsewhere", w.Slot())); string(got) != "new" {
					t.Errorf("the file holds %q: %v", got, err)
				}
			}
			wantCode(t, b.Activate(t.Context()), tt.codes[1])
			wantCode(t, b.Deactivate(t.Context()), tt.codes[2])
			wantCode(t, b.MarkGood(t.Context()), tt.codes[3])
			if diff := cmp.Diff(tt.did, l.did); diff != "" {
				t.Error(diff)
			}
		})
	}
}
