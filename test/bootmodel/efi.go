package bootmodel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"

	"golang.org/x/sys/unix"

	"github.com/xpu-sztp/ztp/pkg/durable"
	"github.com/xpu-sztp/ztp/pkg/slot"
	"github.com/xpu-sztp/ztp/pkg/slot/efi"
)

// efiMachine has systemd-boot 252 and a unified kernel image in each slot, on an EFI system partition. Variables are firmware's.
type efiMachine struct{ dir string }

const loaderGUID = "-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"

func (m efiMachine) FAT() bool    { return true }
func (m efiMachine) esp() string  { return filepath.Join(m.dir, "disk", "efi") }
func (m efiMachine) vars() string { return filepath.Join(m.dir, "firmware", "efivars") }

func (m efiMachine) images() string { return filepath.Join(m.esp(), "EFI", "Linux") }

func (m efiMachine) Factory(image []byte) error {
	return errors.Join(os.MkdirAll(filepath.Join(m.esp(), "loader", "entries"), 0o755), os.MkdirAll(m.vars(), 0o755),
		put(filepath.Join(m.images(), "ztp-a.efi"), image))
}

// Content is what the largest of the files of a slot holds: a rename that was interrupted may have left empty ones.
func (m efiMachine) Content(slot string) (image []byte) {
	for _, pattern := range []string{"ztp-" + slot + "*", ".ztp-" + slot + "*"} {
		names, _ := filepath.Glob(filepath.Join(m.images(), pattern))
		for _, name := range names {
			if b := content(name); len(b) > len(image) {
				image = b
			}
		}
	}
	return image
}

func (m efiMachine) Backend(on durable.FS) (slot.Backend, error) {
	loader, err := efi.New(efi.Options{
		FS: variables{on, m.vars()}, ESP: []string{m.esp()}, Vars: m.vars(), Entries: map[string]string{"a": "ztp-a.efi", "b": "ztp-b.efi"},
		Filesystem: func(dir string) (int64, error) {
			_, err := os.Stat(dir)
			return unix.MSDOS_SUPER_MAGIC, err
		},
	})
	if err != nil {
		return nil, err
	}
	return slot.NewAB(loader, [2]slot.Slot{{Name: "a"}, {Name: "b"}},
		slot.Options{FS: on, Dir: filepath.Join(m.dir, "disk", "slots"), Now: then}), nil
}

// uki is a unified kernel image as systemd-boot sees it: its name, and how often it may still be started, or -1.
type uki struct {
	name  string
	tries int
}

var counter = regexp.MustCompile(`^(.*)\+([0-9]+)(?:-([0-9]+))?\.efi$`)

func (m efiMachine) Start() ([]byte, error) {
	if err := m.fsck(); err != nil {
		return nil, err
	}
	files, err := os.ReadDir(m.images())
	if err != nil {
		return nil, err
	}
	var found []uki
	for _, f := range files {
		if info, err := f.Info(); err != nil || info.Size() == 0 || strings.HasPrefix(f.Name(), ".") || !strings.HasSuffix(f.Name(), ".efi") {
			continue
		}
		u := uki{f.Name(), -1}
		if c := counter.FindStringSubmatch(f.Name()); c != nil {
			u.tries, _ = strconv.Atoi(c[2])
		}
		found = append(found, u)
	}
	if len(found) == 0 {
		return nil, errors.New("systemd-boot finds no image")
	}
	slices.SortFunc(found, func(a, b uki) int {
		switch {
		case (a.tries == 0) != (b.tries == 0):
			return map[bool]int{true: 1, false: -1}[a.tries == 0]
		}
		return strings.Compare(b.name, a.name)
	})
	start := found[0]
	for _, variable := range []string{"LoaderEntryDefault", "LoaderEntryOneShot"} {
		pattern := strings.ToLower(m.get(variable))
		for _, u := range slices.Backward(found) {
			if match, err := path.Match(pattern, strings.ToLower(u.name)); err == nil && match {
				start = u
			}
		}
	}
	if err := m.note(start); err != nil {
		return nil, err
	}
	name := start.name
	if c := counter.FindStringSubmatch(start.name); c != nil {
		done, _ := strconv.Atoi(c[3])
		name = fmt.Sprintf("%s+%d-%d.efi", c[1], max(start.tries-1, 0), done+1)
		if err := os.Rename(filepath.Join(m.images(), start.name), filepath.Join(m.images(), name)); err != nil {
			return nil, err
		}
		if err := m.set("LoaderBootCountPath", `\EFI\Linux\`+name); err != nil {
			return nil, err
		}
	}
	return os.ReadFile(filepath.Join(m.images(), name))
}

// note tells the system what was started.
func (m efiMachine) note(start uki) error {
	for _, name := range []string{"LoaderEntryOneShot", "LoaderBootCountPath"} {
		if err := os.Remove(m.variable(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	features := []byte{6, 0, 0, 0, 0xff, 0x3f, 0, 0, 0, 0, 0, 0}
	return errors.Join(put(m.variable("LoaderFeatures"), features), m.set("LoaderEntrySelected", strings.ToLower(start.name)))
}

// fsck does what fsck.vfat -a does to files that share their clusters, as a rename that was interrupted leaves them.
func (m efiMachine) fsck() error {
	files, err := os.ReadDir(m.images())
	var seen []fs.FileInfo
	for _, f := range files {
		path := filepath.Join(m.images(), f.Name())
		info, infoErr := f.Info()
		if infoErr == nil && slices.ContainsFunc(seen, func(other fs.FileInfo) bool { return os.SameFile(other, info) }) {
			infoErr = errors.Join(os.Remove(path), os.WriteFile(path, nil, 0o600))
		}
		err = errors.Join(err, infoErr)
		seen = append(seen, info)
	}
	return err
}

func (m efiMachine) variable(name string) string { return filepath.Join(m.vars(), name+loaderGUID) }

func (m efiMachine) get(name string) string {
	raw, err := os.ReadFile(m.variable(name))
	if err != nil {
		return ""
	}
	var units []uint16
	for i := 4; i+1 < len(raw); i += 2 {
		units = append(units, binary.LittleEndian.Uint16(raw[i:]))
	}
	text, _, _ := strings.Cut(string(utf16.Decode(units)), "\x00")
	return text
}

func (m efiMachine) set(name, text string) error {
	raw := []byte{6, 0, 0, 0}
	for _, unit := range append(utf16.Encode([]rune(text)), 0) {
		raw = binary.LittleEndian.AppendUint16(raw, unit)
	}
	return put(m.variable(name), raw)
}

// variables has a write to a variable succeed as a whole or not at all, as firmware does, and cannot sync one.
type variables struct {
	durable.FS
	dir string
}

func (v variables) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	f, err := v.FS.OpenFile(name, flag, perm)
	if err != nil || filepath.Dir(name) != v.dir {
		return f, err
	}
	return variable{f}, nil
}

type variable struct{ durable.File }

func (v variable) Write(p []byte) (int, error) {
	before, err := os.ReadFile(v.Name())
	if err != nil {
		return 0, err
	}
	n, err := v.File.Write(p)
	if err != nil {
		return 0, errors.Join(err, os.WriteFile(v.Name(), before, 0o600))
	}
	return n, nil
}

func (variable) Sync() error { return unix.EINVAL }
