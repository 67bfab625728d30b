package efivar_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/xpu-sztp/ztp/pkg/durable"
	"github.com/xpu-sztp/ztp/pkg/slot/efi/efivar"
)

const file = "LoaderEntryOneShot-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"

// kernel is a folder that behaves as efivarfs: each write is a whole variable, and nothing can be truncated or synced.
type kernel struct {
	durable.OS
	writes *int
}

func (k kernel) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	f, err := k.OS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return kernelFile{f, k.writes}, nil
}

type kernelFile struct {
	durable.File
	writes *int
}

func (f kernelFile) Write(p []byte) (int, error) {
	*f.writes++
	if len(p) < 4 {
		return 0, unix.EINVAL
	}
	return len(p), os.WriteFile(f.Name(), p, 0o644)
}

func (kernelFile) Truncate(int64) error { return unix.EINVAL }
func (kernelFile) Sync() error          { return unix.EINVAL }

func TestSetText(t *testing.T) {
	want := []byte("\x07\x00\x00\x00z\x00t\x00p\x00-\x00b\x00+\x001\x00.\x00c\x00o\x00n\x00f\x00\x00\x00")
	for name, before := range map[string][]byte{
		"new": nil, "shorter": []byte("\x07\x00\x00\x00a\x00\x00\x00"), "longer": bytes.Repeat([]byte{7, 0}, 200),
		"equal": want, "other attributes": append([]byte{3}, want[1:]...), "made, never written": {},
	} {
		for _, plain := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				writes := 0
				s := efivar.Store{FS: kernel{writes: &writes}, Dir: t.TempDir()}
				if plain {
					s.FS = durable.OS{}
				}
				if before != nil {
					if err := os.WriteFile(filepath.Join(s.Dir, file), before, 0o644); err != nil {
						t.Fatal(err)
					}
				}
				if err := s.SetText("LoaderEntryOneShot", "ztp-b+1.conf"); err != nil {
					t.Fatal(err)
				}
				if got, err := os.ReadFile(filepath.Join(s.Dir, file)); err != nil || !bytes.Equal(got, want) {
					t.Errorf("the file has %q, %v", got, err)
				}
				if wear := map[bool]int{true: 0, false: 1}[name == "equal"]; !plain && writes != wear {
					t.Errorf("written to %d times, want %d", writes, wear)
				}
				if got, err := s.Text("LoaderEntryOneShot"); err != nil || got != "ztp-b+1.conf" {
					t.Errorf("reads as %q, %v", got, err)
				}
			})
		}
	}
}

// deaf is a firmware that keeps what it has.
type deaf struct{ durable.OS }

func (d deaf) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	return d.OS.OpenFile(os.DevNull, flag&^os.O_CREATE, perm)
}

func TestSetTextReadsBack(t *testing.T) {
	s := efivar.Store{FS: deaf{}, Dir: t.TempDir()}
	if err := os.WriteFile(filepath.Join(s.Dir, file), []byte("\x07\x00\x00\x00a\x00\x00\x00"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := s.SetText("LoaderEntryOneShot", "b"); err == nil {
		t.Error("a variable that was not changed counts as changed")
	}
	for name, text := range map[string]string{"NUL": "a\x00b", "no UTF-8": "a\xff", "too long": strings.Repeat("x", 2048)} {
		if err := s.SetText("LoaderEntryDefault", text); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

// immutable sets the flag that the kernel sets, where the file system of the test and its user can; elsewhere a variable is
// like any other file.
func immutable(t *testing.T, path string, set bool) (did bool) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	flags, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil {
		return false
	}
	if set {
		return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(flags|0x10)) == nil
	}
	return flags&0x10 != 0
}

func TestImmutable(t *testing.T) {
	s := efivar.Store{FS: durable.OS{}, Dir: t.TempDir()}
	path := filepath.Join(s.Dir, file)
	if err := s.SetText("LoaderEntryOneShot", "one"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Delete("LoaderEntryOneShot") })
	protected := immutable(t, path, true)
	if err := s.SetText("LoaderEntryOneShot", "two"); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Text("LoaderEntryOneShot"); err != nil || got != "two" {
		t.Errorf("reads as %q, %v", got, err)
	}
	if immutable(t, path, false) != protected {
		t.Errorf("immutable before: %v, afterwards: %v", protected, !protected)
	}
	for range 2 {
		if err := s.Delete("LoaderEntryOneShot"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Text("LoaderEntryOneShot"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after it was removed: %v", err)
	}
}

func TestMalformed(t *testing.T) {
	for name, content := range map[string]string{
		"empty": "", "half of the attributes": "\x07\x00\x00", "no value": "\x07\x00\x00\x00", "half a unit": "\x07\x00\x00\x00a\x00\x00",
		"no NUL": "\x07\x00\x00\x00a\x00", "half a character": "\x07\x00\x00\x00\x3d\xd8\x00\x00", "the other half": "\x07\x00\x00\x00\x00\xde\x00\x00",
		"cut character": "\x07\x00\x00\x00\x3d\xd8", "too large": strings.Repeat("a\x00", 5000),
	} {
		t.Run(name, func(t *testing.T) {
			s := efivar.Store{FS: durable.OS{}, Dir: t.TempDir()}
			if err := os.WriteFile(filepath.Join(s.Dir, file), []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
			if got, err := s.Text("LoaderEntryOneShot"); !errors.Is(err, efivar.ErrMalformed) {
				t.Errorf("reads as %q, %v", got, err)
			}
			if got, err := s.Uint64("LoaderEntryOneShot"); !errors.Is(err, efivar.ErrMalformed) {
				t.Errorf("reads as %d, %v", got, err)
			}
		})
	}
}

func TestUint64(t *testing.T) {
	s := efivar.Store{FS: durable.OS{}, Dir: t.TempDir()}
	if err := os.WriteFile(filepath.Join(s.Dir, file), []byte("\x06\x00\x00\x00\x7f\x20\x00\x00\x00\x00\x00\x80"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Uint64("LoaderEntryOneShot"); err != nil || got != 0x800000000000207f {
		t.Errorf("reads as %#x, %v", got, err)
	}
}

// FuzzText: whatever a variable holds, reading it ends; what reads as text is what another decoder makes of it, and comes back
// when it is written and read.
func FuzzText(f *testing.F) {
	f.Add([]byte("\x07\x00\x00\x00z\x00t\x00p\x00\x00\x00"))
	f.Add([]byte("\x07\x00\x00\x00\x3d\xd8\x00\xde\x00\x00q\x00"))
	f.Add([]byte("\x07\x00\x00\x00\x3d\xd8\x00\x00"))
	f.Fuzz(func(t *testing.T, content []byte) {
		s := efivar.Store{FS: durable.OS{}, Dir: t.TempDir()}
		if err := os.WriteFile(filepath.Join(s.Dir, file), content, 0o644); err != nil {
			t.Fatal(err)
		}
		text, err := s.Text("LoaderEntryOneShot")
		if err != nil {
			return
		}
		var units []uint16
		for i := 4; i+1 < len(content); i += 2 {
			unit := binary.LittleEndian.Uint16(content[i:])
			if unit == 0 {
				break
			}
			units = append(units, unit)
		}
		if want := string(utf16.Decode(units)); text != want {
			t.Fatalf("%q, want %q", text, want)
		}
		if strings.ContainsRune(text, utf8.RuneError) {
			return // a character of its own, which is not written
		}
		if err := s.SetText("LoaderEntryDefault", text); err != nil {
			t.Fatal(err)
		}
		if again, err := s.Text("LoaderEntryDefault"); err != nil || again != text {
			t.Fatalf("%q came back as %q, %v", text, again, err)
		}
	})
}
