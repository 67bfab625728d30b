package efi

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// StandardPlaces are the folders where systemd mounts the EFI system partition, or the extended boot loader partition with the
// entries, in the order in which they are looked at.
func StandardPlaces() []string { return []string{"/efi", "/boot/efi", "/boot"} }

// statfs returns the type of the file system that holds a folder.
func statfs(dir string) (int64, error) {
	var st unix.Statfs_t
	// What lies below the folder is asked for, so that a partition that is mounted when it is needed gets mounted.
	if err := unix.Statfs(dir+"/.", &st); err != nil {
		return 0, err
	}
	return int64(st.Type), nil
}

// found is what there is on the partition.
type found struct {
	dir       string   // of the entries
	slots     []*files // of each slot
	strangers []name   // the entries that are of none
}

// find returns what the first of the places has that is on a FAT file system and has entries of a slot. A place where nothing
// is mounted is a folder of another file system.
func (l *Loader) find() (found, error) {
	fat := ""
	for _, esp := range l.opts.ESP {
		if kind, err := l.opts.Filesystem(esp); err != nil || kind != unix.MSDOS_SUPER_MAGIC {
			continue
		}
		fat = esp
		has, err := l.list(filepath.Join(esp, l.folder))
		if err != nil {
			return found{}, err
		}
		if len(has.slots[0].all())+len(has.slots[1].all()) > 0 {
			return has, nil
		}
	}
	places := strings.Join(l.opts.ESP, ", ")
	if fat == "" {
		return found{}, fail(CodeESP, "no EFI system partition is mounted at "+places,
			"mount it, with its entry in /etc/fstab, or set efi.esp to where it is mounted", nil)
	}
	return found{}, fail(CodeEntry, "none of the entries "+l.ids()+" is on "+fat,
		"set entry in [image.slot.NAME] to the name of a file in loader/entries or EFI/Linux, without its boot counter", nil)
}

// file is a regular file of a slot.
type file struct {
	name
	size int64 // bytes
}

// files are those of one slot.
type files struct {
	*entry
	visible []*file // to systemd-boot
	secret  *file   // with the hidden name
}

// good reports whether one of them is an entry without a counter.
func (f *files) good() bool {
	for _, v := range f.visible {
		if !v.counted && v.size > 0 {
			return true
		}
	}
	return false
}

// all returns the one with the hidden name as well.
func (f *files) all() []*file {
	all := append([]*file(nil), f.visible...)
	if f.secret != nil {
		all = append(all, f.secret)
	}
	return all
}

// list returns the files in a folder of entries. What is no regular file is none of them.
func (l *Loader) list(dir string) (found, error) {
	all, err := os.ReadDir(dir) // FAT has 65536 entries in a folder at most
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return found{}, unreadable(err)
	}
	has := found{dir: dir}
	for _, e := range l.entries {
		has.slots = append(has.slots, &files{entry: e})
	}
	for _, one := range all {
		info, err := one.Info()
		switch {
		case errors.Is(err, fs.ErrNotExist): // removed since
			continue
		case err != nil:
			return found{}, unreadable(err)
		case !info.Mode().IsRegular():
			continue
		}
		has.add(one.Name(), info.Size())
	}
	return has, nil
}

func (d *found) add(called string, size int64) {
	n, ok := parseName(called)
	for _, of := range d.slots {
		switch {
		case strings.EqualFold(called, of.hidden()):
			of.secret = &file{name{file: called}, size}
			return
		case ok && of.has(n):
			of.visible = append(of.visible, &file{n, size})
			return
		}
	}
	if ok {
		d.strangers = append(d.strangers, n)
	}
}
