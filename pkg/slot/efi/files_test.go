package efi_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/pkg/durable"
	"github.com/xpu-sztp/ztp/pkg/slot"
	"github.com/xpu-sztp/ztp/pkg/slot/efi"
	"github.com/xpu-sztp/ztp/test/faultfs"
)

// TestVendorsEntry: what the vendor or an administrator writes into an entry stays, and is what is used.
func TestVendorsEntry(t *testing.T) {
	k := kinds()[0]
	m := device(t, k)
	m.ascending = true
	boot(t, m)
	b := m.slots(durable.OS{}, k)
	if err := install(t.Context(), b, "MZ one"); err != nil {
		t.Fatal(err)
	}
	boot(t, m)
	if err := b.MarkGood(t.Context()); err != nil {
		t.Fatal(err)
	}
	const changed = "linux /kernels/b\noptions quiet\n"
	for _, slot := range []string{"a", "b"} {
		must(os.WriteFile(filepath.Join(m.esp, "loader/entries/ztp-"+slot+".conf"), []byte(strings.ReplaceAll(changed, "/b", "/"+slot)), 0o644))
	}
	if got := boot(t, m); got != "b" {
		t.Fatalf("slot %s starts", got)
	}
	if err := install(t.Context(), b, "MZ two"); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"ztp-b.conf": changed, "ztp-a+1-1.conf": strings.ReplaceAll(changed, "/b", "/a")} {
		if got, err := os.ReadFile(filepath.Join(m.esp, "loader/entries", name)); err != nil || string(got) != want {
			t.Errorf("%s has %q, %v", name, got, err)
		}
	}
}

// TestNoKernel: a slot whose entry systemd-boot would pass over is not asked for.
func TestNoKernel(t *testing.T) {
	k := kinds()[0]
	m := device(t, k)
	m.ascending = true
	boot(t, m)
	entry := filepath.Join(m.esp, "loader/entries/ztp-b.conf")
	for _, text := range []string{"linux /kernels/c\n", "efi ../../kernels/c\r\n", "title b\nuki \\EFI\\b.efi\n"} {
		must(os.WriteFile(entry, []byte(text), 0o644))
		err := m.loader(durable.OS{}, k).Arm(t.Context(), "b")
		wantCode(t, err, efi.CodeEntry)
		if !errors.Is(err, fs.ErrNotExist) || m.get("LoaderEntryOneShot") != "" {
			t.Errorf("%q: %v, %q is next", text, err, m.get("LoaderEntryOneShot"))
		}
	}
	for _, text := range []string{"linux /kernels/b\n", "title b\r\tefi  kernels\\b \r\n", "uki /kernels/c\nlinux /kernels/b", "uki-url http://c/b.efi\n"} {
		must(os.WriteFile(entry, []byte(text), 0o644))
		if err := m.loader(durable.OS{}, k).Arm(t.Context(), "b"); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		m.unset("LoaderEntryOneShot")
		must(os.Remove(filepath.Join(m.esp, "loader/entries/ztp-b+1-1.conf")))
	}
}

// TestGoodFirst: before a slot is written to, the other one is what starts for good, as the vendor did not see to it.
func TestGoodFirst(t *testing.T) {
	k := kinds()[0]
	m := device(t, k)
	entries := filepath.Join(m.esp, "loader/entries")
	for _, slot := range []string{"a", "b"} {
		must(os.Rename(filepath.Join(entries, "ztp-"+slot+".conf"), filepath.Join(entries, "ztp-"+slot+"+3.conf")))
	}
	m.ascending = true
	boot(t, m)
	m.set("LoaderEntryOneShot", "ztp-b+3.conf")
	if err := m.loader(durable.OS{}, k).Disarm(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{".ztp-a.conf.ztp", ".ztp-b.conf.ztp", "ztp-a.conf"}, m.names()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"ztp-a.conf", ""}, []string{m.get("LoaderEntryDefault"), m.get("LoaderEntryOneShot")}); diff != "" {
		t.Errorf("default and next: %s", diff)
	}
}

// TestTwoImages: of two images of a slot, the one that systemd-boot finds counts, and is the one that stays.
func TestTwoImages(t *testing.T) {
	k := kinds()[1]
	m := device(t, k)
	m.ascending = true
	boot(t, m)
	images := filepath.Join(m.esp, "EFI/Linux")
	must(os.WriteFile(filepath.Join(images, ".ztp-b.efi.ztp"), []byte("MZ part"), 0o644))
	must(os.WriteFile(filepath.Join(images, "ztp-b+1.efi"), []byte("MZ of a person"), 0o644))
	must(os.WriteFile(filepath.Join(images, "ztp-b.efi"), nil, 0o644))
	l := m.loader(durable.OS{}, k)
	place := func() string {
		t.Helper()
		path, err := l.(slot.Placer).Place(t.Context(), "b")
		if err != nil {
			t.Fatal(err)
		}
		return filepath.Base(path)
	}
	before := place()
	if err := l.Disarm(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"ztp-b+1.efi", ".ztp-b.efi.ztp"}, []string{before, place()}); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{".ztp-b.efi.ztp", "ztp-a.efi"}, m.names()); diff != "" {
		t.Error(diff)
	}
	if b, err := os.ReadFile(filepath.Join(images, ".ztp-b.efi.ztp")); err != nil || string(b) != "MZ of a person" {
		t.Errorf("what stays is %q, %v", b, err)
	}
}

// TestOnlyImage: the only image there is, which has the vendor's boot counter, is not renamed.
func TestOnlyImage(t *testing.T) {
	k := kinds()[1]
	m := device(t, k)
	must(os.Rename(filepath.Join(m.esp, "EFI/Linux/ztp-a.efi"), filepath.Join(m.esp, "EFI/Linux/ztp-a+3.efi")))
	boot(t, m)
	wantCode(t, m.loader(durable.OS{}, k).Disarm(t.Context(), "b"), slot.CodeInTrial)
	if diff := cmp.Diff([]string{"ztp-a+2-1.efi"}, m.names()); diff != "" {
		t.Error(diff)
	}
}

// TestBlessedStarts: what was asked for before a slot was blessed does not come before it.
func TestBlessedStarts(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		m := device(t, k)
		m.ascending = true
		boot(t, m)
		b := m.slots(durable.OS{}, k)
		if err := install(t.Context(), b, "MZ new"); err != nil {
			t.Fatal(err)
		}
		boot(t, m)
		m.set("LoaderEntryOneShot", "ztp-a*")
		if err := b.MarkGood(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := boot(t, m); got != "b" {
			t.Errorf("slot %s starts", got)
		}
	})
}

// broken cannot force anything to the storage.
type broken struct{ durable.OS }

type brokenFile struct{ durable.File }

func (b broken) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	f, err := b.OS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return brokenFile{f}, nil
}

func (brokenFile) Sync() error { return syscall.EIO }

// TestNothingUncertainStays: what could not be forced to the storage is not taken for durable when it is tried again.
func TestNothingUncertainStays(t *testing.T) {
	k := kinds()[0]
	m := device(t, k)
	m.ascending = true
	boot(t, m)
	wantCode(t, m.loader(broken{}, k).Disarm(t.Context(), "b"), slot.CodeWriteFailed)
	if diff := cmp.Diff([]string{"ztp-a.conf", "ztp-b.conf"}, m.names()); diff != "" {
		t.Error(diff)
	}
}

// TestRenamedIsSynced: on FAT it is for the file, and not for the folder, to store where its content is under a new name.
func TestRenamedIsSynced(t *testing.T) {
	k := kinds()[1]
	m := device(t, k)
	m.ascending = true
	boot(t, m)
	if err := install(t.Context(), m.slots(durable.OS{}, k), "MZ new"); err != nil {
		t.Fatal(err)
	}
	var done []string // but for files that are closed
	on, err := faultfs.New(faultfs.Options{Root: m.esp, FAT: true, Log: func(_ int, op string) {
		if !strings.HasPrefix(op, "close") {
			done = append(done, op)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.loader(on, k).Disarm(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	at := slices.Index(done, "rename EFI/Linux/ztp-b+1-1.efi to EFI/Linux/.ztp-b.efi.ztp")
	if at < 0 {
		t.Fatal(done)
	}
	if diff := cmp.Diff([]string{"sync EFI/Linux/.ztp-b.efi.ztp", "sync folder EFI/Linux"}, done[at+1:]); diff != "" {
		t.Errorf("after the rename: %s", diff)
	}
}
