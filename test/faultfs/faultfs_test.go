package faultfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/xpu-sztp/ztp/pkg/durable"
)

// Contents of several sectors, the new one longer.
var (
	oldContent = strings.Repeat("old ", 300)
	newContent = strings.Repeat("new ", 600)
)

// replace is a way to replace the content of a file by a new one.
type replace func(on durable.FS, path string) error

func writeTo(on durable.FS, path string, flag int, sync bool) error {
	f, err := on.OpenFile(path, flag, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write([]byte(newContent))
	if err == nil && sync {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// byRename leaves out what a mistake leaves out.
func byRename(syncFile, syncDir bool) replace {
	return func(on durable.FS, path string) error {
		if err := writeTo(on, path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, syncFile); err != nil {
			return err
		}
		err := on.Rename(path+".new", path)
		if err == nil && syncDir {
			err = on.SyncDir(filepath.Dir(path))
		}
		return err
	}
}

func inPlace(flag int) replace {
	return func(on durable.FS, path string) error { return writeTo(on, path, os.O_WRONLY|flag, true) }
}

// syncTwice believes a sync that follows one that failed.
func syncTwice(on durable.FS, path string) error {
	return byRename(true, true)(twice{on}, path)
}

type twice struct{ durable.FS }

func (t twice) OpenFile(name string, flag int, perm os.FileMode) (durable.File, error) {
	f, err := t.FS.OpenFile(name, flag, perm)
	return twiceFile{f}, err
}

type twiceFile struct{ durable.File }

func (f twiceFile) Sync() error {
	if f.File.Sync() == nil {
		return nil
	}
	return f.File.Sync()
}

// removeAndRename has an instant with no file at all.
func removeAndRename(on durable.FS, path string) error {
	if err := writeTo(on, path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, true); err != nil {
		return err
	}
	if err := on.Remove(path); err != nil {
		return err
	}
	return errors.Join(on.Rename(path+".new", path), on.SyncDir(filepath.Dir(path)))
}

// TestMistakes lets the power fail at every instant of replacing a file, rightly and wrongly.
func TestMistakes(t *testing.T) {
	whole := func(on durable.FS, path string) error {
		return durable.WriteFile(on, path, []byte(newContent), 0o600, nil)
	}
	for _, tt := range []struct {
		name    string
		replace replace
		bad     []Fault // that show the mistake
	}{
		{"right", byRename(true, true), nil},
		{"durable.WriteFile", whole, nil},
		{"no-sync-before-rename", byRename(false, true), []Fault{CutLost, CutNames, CutTorn, SyncLost}},
		{"no-sync-of-the-folder", byRename(true, false), []Fault{CutLost, CutData, CutTorn, SyncLost}},
		{"emptied-and-written", inPlace(os.O_TRUNC), []Fault{Kill, KillAfter, KillTorn, CutKept, CutData, CutTorn, Full, FullShort, Broken}},
		{"written-in-place", inPlace(0), []Fault{KillTorn, CutTorn, FullShort}},
		{"sync-tried-again", syncTwice, []Fault{SyncLost}},
		{"removed-and-renamed", removeAndRename, []Fault{Kill, KillAfter, KillTorn, CutKept, CutNames, CutTorn, Full, FullShort, Broken}},
	} {
		for _, fault := range append([]Fault{Kill, KillAfter, KillTorn, Full, FullShort, Broken, SyncLost}, Cuts()...) {
			t.Run(tt.name+"/"+string(fault), func(t *testing.T) {
				t.Parallel()
				faults, err := sweepReplace(tt.replace, fault, false).Run(t.TempDir())
				if faults < 4 {
					t.Errorf("%d faults", faults)
				}
				bad := false
				for _, f := range tt.bad {
					bad = bad || f == fault
				}
				if (err != nil) != bad {
					t.Errorf("a mistake was to be found: %v; found: %v", bad, err)
				}
			})
		}
	}
}

// sweepReplace wants the old content, or the new one, and the new one once the replacing has ended well.
func sweepReplace(how replace, fault Fault, fat bool) Sweep {
	return Sweep{
		Faults: []Fault{fault}, Seeds: 40, FAT: fat,
		Setup: func(root string) error {
			return os.WriteFile(filepath.Join(root, "file"), []byte(oldContent), 0o600)
		},
		Task: func(on *FS, root string) error { return how(on, filepath.Join(root, "file")) },
		Check: func(root string, err error) error {
			got, readErr := os.ReadFile(filepath.Join(root, "file"))
			switch {
			case readErr != nil:
				return readErr
			case string(got) == newContent, err != nil && string(got) == oldContent:
				return nil
			}
			return fmt.Errorf("after %v: %d bytes that begin with %.8q", err, len(got), got)
		},
	}
}

// TestNamesWithoutJournal renames a file to a name that nothing had: without a journal, both names may be there, or none.
func TestNamesWithoutJournal(t *testing.T) {
	for _, fat := range []bool{false, true} {
		seen := map[string]bool{}
		_, err := Sweep{
			Faults: []Fault{CutTorn}, Seeds: 40, FAT: fat,
			Setup: func(root string) error { return os.WriteFile(filepath.Join(root, "from"), nil, 0o600) },
			Task: func(on *FS, root string) error {
				return on.Rename(filepath.Join(root, "from"), filepath.Join(root, "to"))
			},
			Check: func(root string, _ error) error {
				entries, err := os.ReadDir(root)
				seen[fmt.Sprint(entries)] = true
				return err
			},
		}.Run(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		want := 2
		if fat {
			want = 4
		}
		if len(seen) != want {
			t.Errorf("without a journal %v: %d states: %v", fat, len(seen), seen)
		}
	}
}

// TestExchange swaps folders, wholly or not at all.
func TestExchange(t *testing.T) {
	seen := map[string]bool{}
	_, err := Sweep{
		Faults: []Fault{CutTorn, CutLost, CutKept}, Seeds: 20,
		Setup: func(root string) error {
			return errors.Join(os.MkdirAll(filepath.Join(root, "a", "was-a"), 0o755), os.MkdirAll(filepath.Join(root, "b", "was-b"), 0o755))
		},
		Task: func(on *FS, root string) error {
			return on.Exchange(filepath.Join(root, "a"), filepath.Join(root, "b"))
		},
		Check: func(root string, err error) error {
			found, _ := filepath.Glob(filepath.Join(root, "*", "*"))
			for i := range found {
				found[i], _ = filepath.Rel(root, found[i])
			}
			seen[strings.Join(found, " ")] = true
			return nil
		},
	}.Run(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if len(seen) != 2 || !seen["a/was-a b/was-b"] || !seen["a/was-b b/was-a"] {
		t.Errorf("got %v", seen)
	}
}

// TestSyncAll counts what others write as lost until everything is synced.
func TestSyncAll(t *testing.T) {
	for _, synced := range []bool{false, true} {
		root := filepath.Join(t.TempDir(), "disk")
		path := filepath.Join(root, "sub", "file")
		on := open(t, Options{Root: root})
		// As a script would.
		if err := errors.Join(os.Mkdir(filepath.Dir(path), 0o755), os.WriteFile(path, []byte("by a script"), 0o600)); err != nil {
			t.Fatal(err)
		}
		if synced {
			if err := on.SyncAll(); err != nil {
				t.Fatal(err)
			}
		}
		if err := on.Cut(CutLost); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(path); (err == nil) != synced {
			t.Errorf("synced %v: %v", synced, err)
		}
	}
}

// TestFolderOfFolder loses what is synced in a folder whose own name is not.
func TestFolderOfFolder(t *testing.T) {
	for _, make := range []struct {
		name string
		kept bool
		how  func(on durable.FS, path string) error
	}{
		{"Mkdir", false, func(on durable.FS, path string) error { return on.Mkdir(path, 0o700) }},
		{"MkdirAll", true, func(on durable.FS, path string) error { return durable.MkdirAll(on, path, 0o700) }},
	} {
		root := filepath.Join(t.TempDir(), "disk")
		on := open(t, Options{Root: root})
		path := filepath.Join(root, "sub", "file")
		if err := make.how(on, filepath.Dir(path)); err != nil {
			t.Fatal(err)
		}
		if err := durable.WriteFile(on, path, []byte("x"), 0o600, nil); err != nil {
			t.Fatal(err)
		}
		if err := on.Cut(CutLost); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(path); (err == nil) != make.kept {
			t.Errorf("%s: %v", make.name, err)
		}
	}
}

// TestSecondProcess kills the making of a folder, has another process do it again, and cuts the power: what one process has
// found is not durable because another one made it.
func TestSecondProcess(t *testing.T) {
	trusting := func(on durable.FS, path string) error {
		if _, err := os.Stat(path); err == nil {
			return nil
		}
		return durable.MkdirAll(on, path, 0o700)
	}
	careful := func(on durable.FS, path string) error { return durable.MkdirAll(on, path, 0o700) }
	for _, tt := range []struct {
		name  string
		makes func(durable.FS, string) error
		bad   bool
	}{{"durable.MkdirAll", careful, false}, {"trusting", trusting, true}} {
		put := func(on *FS, root string) error {
			if err := tt.makes(on, filepath.Join(root, "a", "b")); err != nil {
				return err
			}
			return durable.WriteFile(on, filepath.Join(root, "a", "b", "file"), []byte("x"), 0o600, nil)
		}
		_, err := Sweep{
			Faults: []Fault{Kill, KillAfter, KillTorn},
			Setup:  func(string) error { return nil },
			Task:   put,
			Again:  put,
			Check: func(root string, err error) error {
				content, readErr := os.ReadFile(filepath.Join(root, "a", "b", "file"))
				if string(content) != "x" {
					err = errors.Join(err, readErr, errors.New("lost"))
				}
				return err
			},
		}.Run(t.TempDir())
		if (err != nil) != tt.bad {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// TestKeptWhole wants a cut that loses nothing to change nothing, but for volatile folders.
func TestKeptWhole(t *testing.T) {
	root := filepath.Join(t.TempDir(), "disk")
	on := open(t, Options{Root: root, Volatile: []string{"run"}})
	for _, err := range []error{
		os.Mkdir(filepath.Join(root, "run"), 0o755),
		os.WriteFile(filepath.Join(root, "run", "status"), nil, 0o600),
		os.WriteFile(filepath.Join(root, "file"), []byte("content"), 0o640),
		os.Chmod(filepath.Join(root, "file"), os.ModeSetuid|0o755),
		os.Symlink("file", filepath.Join(root, "symlink")),
		on.Link(filepath.Join(root, "file"), filepath.Join(root, "link")),
		on.Cut(CutKept),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	a, errA := os.Stat(filepath.Join(root, "symlink"))
	b, errB := os.Stat(filepath.Join(root, "link"))
	content, err := os.ReadFile(filepath.Join(root, "file"))
	run, runErr := os.ReadDir(filepath.Join(root, "run"))
	if err := errors.Join(errA, errB, err, runErr); err != nil {
		t.Fatal(err)
	}
	if !os.SameFile(a, b) || a.Mode() != os.ModeSetuid|0o755 || string(content) != "content" || len(run) != 0 {
		t.Errorf("got %v, %v, %q, %v", a.Mode(), os.SameFile(a, b), content, run)
	}
}

// TestErrors looks at what fails and what it leaves.
func TestErrors(t *testing.T) {
	for _, tt := range []struct {
		fault Fault
		only  string
		want  error
		left  int // bytes
	}{
		{Full, "write", syscall.ENOSPC, 0},
		{FullShort, "write", syscall.ENOSPC, 5},
		{Broken, "write", syscall.EIO, 0},
		{Full, "chmod", nil, 10},
		{Broken, "chmod", syscall.EIO, 10},
		{Broken, "sync", syscall.EIO, 10},
		{Broken, "close", syscall.EIO, 10},
		{Broken, "read", syscall.EIO, 10},
		{Full, "create", syscall.ENOSPC, -1},
	} {
		root := filepath.Join(t.TempDir(), "disk")
		on := open(t, Options{Root: root, Plan: Plan{What: tt.fault, Only: tt.only}})
		path := filepath.Join(root, "file")
		err := func() error {
			f, err := on.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
			if err != nil {
				return err
			}
			n, err := f.Write([]byte("0123456789"))
			if n != tt.left {
				t.Errorf("%s of %s: %d bytes were written", tt.fault, tt.only, n)
			}
			_, readErr := f.ReadAt(make([]byte, 1), 0)
			if readErr == io.EOF {
				readErr = nil
			}
			return errors.Join(err, readErr, f.Chmod(0o644), f.Sync(), f.Close())
		}()
		if !errors.Is(err, tt.want) {
			t.Errorf("%s of %s: %v", tt.fault, tt.only, err)
		}
		if info, err := os.Stat(path); tt.left >= 0 && (err != nil || info.Size() != int64(tt.left)) {
			t.Errorf("%s of %s: %v, %v", tt.fault, tt.only, info, err)
		}
	}
}

// TestMore lets later operations fail as well.
func TestMore(t *testing.T) {
	for more, want := range map[int]string{0: "-x--", 1: "-xx-", -1: "-xxx"} {
		root := filepath.Join(t.TempDir(), "disk")
		on := open(t, Options{Root: root, Plan: Plan{What: Full, At: 1, More: more}})
		got := ""
		for i := range 4 {
			if err := on.Mkdir(filepath.Join(root, fmt.Sprint(i)), 0o700); err != nil {
				got += "x"
			} else {
				got += "-"
			}
		}
		if got != want {
			t.Errorf("%d more: got %s, want %s", more, got, want)
		}
	}
}

// TestSyncLost fails a sync: what was to be synced is read as long as there is power, and no later sync writes it but of
// what was written again.
func TestSyncLost(t *testing.T) {
	root := filepath.Join(t.TempDir(), "disk")
	path := filepath.Join(root, "file")
	if err := errors.Join(os.Mkdir(root, 0o755), os.WriteFile(path, bytes.Repeat([]byte("o"), 3*sector), 0o600)); err != nil {
		t.Fatal(err)
	}
	on := open(t, Options{Root: root, Plan: Plan{What: SyncLost, Only: "sync file"}})
	f, err := on.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	put := func(c string, n int) {
		if _, err := f.WriteAt(bytes.Repeat([]byte(c), n*sector), 0); err != nil {
			t.Fatal(err)
		}
	}
	put("n", 2)
	if err := f.Sync(); !errors.Is(err, syscall.EIO) {
		t.Errorf("got %v", err)
	}
	put("m", 1)
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
	sectors := func() (s string) {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(content); i += sector {
			s += string(content[i : i+1])
		}
		return s
	}
	if got := sectors(); got != "mno" {
		t.Errorf("before the power cut: %s", got)
	}
	if err := on.Cut(CutLost); err != nil {
		t.Fatal(err)
	}
	if got := sectors(); got != "moo" {
		t.Errorf("after the power cut: %s", got)
	}
}

// TestFlipped writes something else.
func TestFlipped(t *testing.T) {
	root := filepath.Join(t.TempDir(), "disk")
	on := open(t, Options{Root: root, Plan: Plan{What: Flipped, Only: "write"}})
	path := filepath.Join(root, "file")
	if err := durable.WriteFile(on, path, []byte("abc"), 0o600, nil); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) == "abc" || len(got) != 3 {
		t.Errorf("got %q, %v", got, err)
	}
}

func open(t *testing.T, o Options) *FS {
	t.Helper()
	if err := os.MkdirAll(o.Root, 0o755); err != nil {
		t.Fatal(err)
	}
	on, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := on.Close(); err != nil {
			t.Error(err)
		}
	})
	return on
}
