package efi

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
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

// find returns the first of the places that is on a FAT file system and has entries of a slot. A place where nothing is mounted
// is a folder of another file system.
func (l *Loader) find() (dir string, err error) {
	fat := ""
	for _, dir := range l.opts.ESP {
		if kind, err := l.opts.Filesystem(dir); err != nil || kind != unix.MSDOS_SUPER_MAGIC {
			continue
		}
		fat = dir
		found, err := l.list(dir)
		if err != nil {
			return "", err
		}
		for _, files := range found {
			if len(files.visible) > 0 || files.hidden != nil {
				return dir, nil
			}
		}
	}
	places := strings.Join(l.opts.ESP, ", ")
	if fat == "" {
		return "", fail(CodeESP, "no EFI system partition is mounted at "+places,
			"mount it, with its entry in /etc/fstab, or set image.esp to where it is mounted", nil)
	}
	return "", fail(CodeEntry, "none of the entries "+l.ids()+" is on "+fat,
		"set image.entries to the names of files in loader/entries or EFI/Linux, without their boot counters", nil)
}

// file is a regular file of a slot.
type file struct {
	name
	size int64 // bytes
}

// files are those of one slot.
type files struct {
	visible []file // to systemd-boot, by name
	hidden  *file
}

// plain reports whether one of them is an entry without a counter.
func (f files) plain() bool {
	return slices.ContainsFunc(f.visible, func(f file) bool { return !f.counted && f.size > 0 })
}

// maxFiles is how many files of a folder are looked at.
const maxFiles = 10000

// list returns the files of each slot. What is no regular file is none of theirs.
func (l *Loader) list(esp string) (map[string]files, error) {
	infos, err := readDir(filepath.Join(esp, l.folder))
	if err != nil {
		return nil, unreadable(err)
	}
	found := map[string]files{}
	for slot, e := range l.entries {
		var of files
		for _, info := range infos {
			if !info.Mode().IsRegular() {
				continue
			}
			if strings.EqualFold(info.Name(), e.hidden()) {
				of.hidden = &file{name{file: info.Name()}, info.Size()}
			} else if n, ok := parseName(info.Name()); ok && e.has(n) {
				of.visible = append(of.visible, file{n, info.Size()})
			}
		}
		of.visible = sorted(of.visible, func(a, b file) int { return strings.Compare(a.file, b.file) })
		found[slot] = of
	}
	return found, nil
}

// readDir returns what is in a folder; nothing when there is no folder.
func readDir(dir string) ([]fs.FileInfo, error) {
	f, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	infos, err := f.Readdir(maxFiles)
	if err != nil && err != io.EOF {
		return nil, err
	}
	return infos, nil
}
