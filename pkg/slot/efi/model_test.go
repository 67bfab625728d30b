package efi_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
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

const guid = "-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"

// machine is what there is of a device when it is off: its EFI system partition and its variables. It has a model of systemd-boot
// that shares no code with the package under test.
type machine struct {
	esp, vars string
	ascending bool   // the vendor's entries have keys by which a comes before b; else b does
	bare      bool   // ids have no counter, as in newer versions
	preferred bool   // LoaderEntryPreferred is known, as from systemd 260 on
	conf      string // "preferred" in loader.conf
	stuck     bool   // the firmware does not remove LoaderEntryOneShot
}

// found is an entry as systemd-boot sees it. The name tells everything.
type found struct {
	path, file, id string
	left, done     int // -1 without a counter
}

// loaderForm is a line of a description that says what to start.
var loaderForm = regexp.MustCompile(`(?:^|[\n\r])[ \t]*(linux|efi|uki|uki-url)[ \t]+([^\n\r]+)`)

var counterForm = regexp.MustCompile(`^(.*)\+([0-9]+)(?:-([0-9]+))?((?i)\.conf|\.efi)$`)

func (m machine) entries() []found {
	var all []found
	for dir, suffix := range map[string]string{`loader/entries`: ".conf", `EFI/Linux`: ".efi"} {
		files, _ := os.ReadDir(filepath.Join(m.esp, dir))
		for _, f := range files {
			if strings.HasPrefix(f.Name(), ".") || !strings.EqualFold(filepath.Ext(f.Name()), suffix) || strings.HasPrefix(f.Name(), "auto-") {
				continue
			}
			path := filepath.Join(m.esp, dir, f.Name())
			text, _ := os.ReadFile(path)
			if suffix == ".efi" && !bytes.HasPrefix(text, []byte("MZ")) || suffix == ".conf" && !m.starts(text) {
				continue
			}
			e := found{path, f.Name(), strings.ToLower(f.Name()), -1, 0}
			if c := counterForm.FindStringSubmatch(f.Name()); c != nil {
				e.left, _ = strconv.Atoi(c[2])
				e.done, _ = strconv.Atoi(c[3])
				if m.bare {
					e.id = strings.ToLower(c[1] + c[4])
				}
			}
			all = append(all, e)
		}
	}
	slices.SortFunc(all, func(a, b found) int {
		switch {
		case a.left == 0 && b.left != 0:
			return 1
		case a.left != 0 && b.left == 0:
			return -1
		case m.ascending:
			return strings.Compare(a.id, b.id)
		}
		return strings.Compare(b.id, a.id)
	})
	return all
}

// starts tells whether an entry of type 1 names something that exists, or is to be downloaded.
func (m machine) starts(text []byte) bool {
	for _, c := range loaderForm.FindAllSubmatch(text, -1) {
		if _, err := os.Stat(m.esp + "/" + strings.ReplaceAll(strings.TrimSpace(string(c[2])), `\`, "/")); err == nil || string(c[1]) == "uki-url" {
			return true
		}
	}
	return false
}

// boot does what systemd-boot does from the start to the kernel, and returns the slot that starts.
func (m machine) boot() (slot string, err error) {
	oneShot := m.get("LoaderEntryOneShot")
	if !m.stuck {
		m.unset("LoaderEntryOneShot")
	}
	entries := m.entries()
	if len(entries) == 0 {
		return "", errors.New("systemd-boot finds no entry")
	}
	choice := entries[0]
	choose := func(pattern string, notBad bool) bool {
		for _, e := range entries {
			if match, _ := filepath.Match(strings.ToLower(pattern), e.id); match && pattern != "" && !(notBad && e.left == 0) {
				choice = e
				return true
			}
		}
		return false
	}
	_ = choose(oneShot, false) || m.preferred && (choose(m.get("LoaderEntryPreferred"), true) || choose(m.conf, true)) ||
		choose(m.get("LoaderEntryDefault"), false)
	m.report()
	m.set("LoaderEntrySelected", choice.id)
	m.unset("LoaderBootCountPath")
	stem := strings.TrimSuffix(choice.file, filepath.Ext(choice.file))
	if choice.left >= 0 {
		c := counterForm.FindStringSubmatch(choice.file)
		next := fmt.Sprintf("%s+%d-%d%s", c[1], max(choice.left-1, 0), choice.done+1, c[4])
		if err := os.Rename(choice.path, filepath.Join(filepath.Dir(choice.path), next)); err != nil {
			return "", err
		}
		m.set("LoaderBootCountPath", strings.ReplaceAll(strings.TrimPrefix(filepath.Join(filepath.Dir(choice.path), next), m.esp), "/", `\`))
		stem = c[1]
	}
	return strings.TrimPrefix(strings.ToLower(stem), "ztp-"), nil
}

func (m machine) file(name string) string { return filepath.Join(m.vars, name+guid) }

func (m machine) get(name string) string {
	raw, err := os.ReadFile(m.file(name))
	if err != nil || len(raw) < 4 || len(raw)%2 != 0 {
		return ""
	}
	var units []uint16
	for i := 4; i < len(raw); i += 2 {
		units = append(units, binary.LittleEndian.Uint16(raw[i:]))
	}
	text, _, _ := strings.Cut(string(utf16.Decode(units)), "\x00")
	return text
}

func (m machine) set(name, text string) {
	raw := []byte{6, 0, 0, 0}
	for _, unit := range append(utf16.Encode([]rune(text)), 0) {
		raw = binary.LittleEndian.AppendUint16(raw, unit)
	}
	must(os.WriteFile(m.file(name), raw, 0o644))
}

func (m machine) unset(name string) {
	if err := os.Remove(m.file(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		panic(err)
	}
}

// report has systemd-boot tell its features.
func (m machine) report() {
	must(os.MkdirAll(m.vars, 0o755))
	features := []byte{6, 0, 0, 0, 0xff, 0x3f, 0, 0, 0, 0, 0, 0} // as version 252
	if m.preferred {
		features[6] = 1 << 3
	}
	must(os.WriteFile(m.file("LoaderFeatures"), features, 0o644))
}

// loseVariables is what becomes of a device whose battery is empty, or whose firmware was updated.
func (m machine) loseVariables() {
	for _, name := range []string{"LoaderEntryOneShot", "LoaderEntryDefault", "LoaderEntryPreferred"} {
		m.unset(name)
	}
}

// names lists the files of entries, hidden ones too.
func (m machine) names() []string {
	var names []string
	for _, dir := range []string{"loader/entries", "EFI/Linux"} {
		files, _ := os.ReadDir(filepath.Join(m.esp, dir))
		for _, f := range files {
			names = append(names, f.Name())
		}
	}
	return names
}

// fsck does what fsck.vfat -a does to two files that share their clusters: one of them ends before.
func (m machine) fsck() {
	for _, dir := range []string{"loader/entries", "EFI/Linux"} {
		var seen []fs.FileInfo
		files, _ := os.ReadDir(filepath.Join(m.esp, dir))
		for _, f := range files {
			path := filepath.Join(m.esp, dir, f.Name())
			info, err := os.Stat(path)
			must(err)
			if slices.ContainsFunc(seen, func(other fs.FileInfo) bool { return os.SameFile(other, info) }) {
				must(os.Remove(path))
				must(os.WriteFile(path, nil, 0o644))
			}
			seen = append(seen, info)
		}
	}
}

// kind is how the two slots of a machine are made, and which systemd-boot it has.
type kind struct {
	name    string
	entries map[string]string
	bare    bool // ids have no counter
}

func kinds() []kind {
	conf, uki := map[string]string{"a": "ztp-a", "b": "ztp-b"}, map[string]string{"a": "ztp-a.efi", "b": "ztp-b.efi"}
	return []kind{{"type 1", conf, false}, {"images", uki, false}, {"type 1, bare ids", conf, true}, {"images, bare ids", uki, true}}
}

func (k kind) images() bool { return strings.HasSuffix(k.entries["a"], ".efi") }

const factoryImage = "MZ factory"

// factory puts onto the partition what the vendor does: slot a with an image, and slot b, if entries are files of their own,
// with its entry.
func (m machine) factory(k kind) {
	m.report()
	for _, dir := range []string{"loader/entries", "EFI/Linux", "kernels", "slots"} {
		must(os.MkdirAll(filepath.Join(m.esp, dir), 0o755))
	}
	if k.images() {
		must(os.WriteFile(filepath.Join(m.esp, "EFI/Linux/ztp-a.efi"), []byte(factoryImage), 0o644))
		return
	}
	for _, slot := range []string{"a", "b"} {
		must(os.WriteFile(filepath.Join(m.esp, "kernels", slot), nil, 0o644))
		must(os.WriteFile(filepath.Join(m.esp, "loader/entries/ztp-"+slot+".conf"), []byte(description(slot)), 0o644))
	}
	must(os.WriteFile(filepath.Join(m.esp, "slots/a"), []byte(factoryImage), 0o644))
}

// description is of more than one sector, so that a power cut can leave half of it.
func description(slot string) string {
	return "title Slot " + slot + "\nlinux /kernels/" + slot + "\noptions " + strings.Repeat("quiet ", 100) + "root=PARTLABEL=" + slot + "\n"
}

// image returns what the kernel of a slot finds as its system.
func (m machine) image(k kind, slot string) string {
	places := []string{"slots/" + slot}
	if k.images() {
		places = nil
		for _, name := range m.names() {
			if strings.HasPrefix(name, "ztp-"+slot) {
				places = append(places, "EFI/Linux/"+name)
			}
		}
	}
	for _, place := range places {
		if b, err := os.ReadFile(filepath.Join(m.esp, place)); err == nil && len(b) > 0 {
			return string(b)
		}
	}
	return ""
}

// loader returns what is tested.
func (m machine) loader(on durable.FS, k kind) slot.Loader {
	l, err := efi.New(efi.Options{
		FS: efivarfs{on, m.vars}, ESP: []string{filepath.Join(m.esp, "nothing"), m.esp}, Vars: m.vars, Entries: k.entries,
		Filesystem: func(dir string) (int64, error) {
			_, err := os.Stat(dir)
			return unix.MSDOS_SUPER_MAGIC, err
		},
	})
	must(err)
	return l
}

// slots returns the back end that an agent would use.
func (m machine) slots(on durable.FS, k kind) *slot.AB {
	return slot.NewAB(m.loader(on, k), [2]slot.Slot{
		{Name: "a", Path: filepath.Join(m.esp, "slots/a")}, {Name: "b", Path: filepath.Join(m.esp, "slots/b")},
	}, slot.Options{FS: on, Dir: filepath.Join(m.esp, "slots")})
}

// efivarfs has a write to a variable succeed as a whole or not at all, as firmware does.
type efivarfs struct {
	durable.FS
	vars string
}

func (e efivarfs) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	f, err := e.FS.OpenFile(name, flag, perm)
	if err != nil || filepath.Dir(name) != e.vars {
		return f, err
	}
	return variable{f}, nil
}

type variable struct{ durable.File }

func (v variable) Write(p []byte) (int, error) {
	before, err := os.ReadFile(v.Name())
	must(err)
	n, err := v.File.Write(p)
	if err != nil {
		must(os.WriteFile(v.Name(), before, 0o644))
		return 0, err
	}
	return n, nil
}

// Sync fails as it does in efivarfs.
func (variable) Sync() error { return unix.EINVAL }

// quick is the file system of the machine without waiting for its disk, for what no power cut follows.
type quick struct{ durable.OS }

func (q quick) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	f, err := q.OS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return unsynced{f}, nil
}

func (quick) SyncDir(string) error { return nil }

type unsynced struct{ durable.File }

func (unsynced) Sync() error { return nil }

func must(err error) {
	if err != nil {
		panic(err)
	}
}
