// Package storage reads removable storage, which anybody may have plugged in. It says which disks of the machine count as
// removable, tells when they come and go, and mounts their file systems read-only where no other process can see them, for as
// long as a file is being read. Nothing of what is on them is believed, followed or executed, and nothing larger than it
// should be is read.
package storage

import (
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/xpu-sztp/ztp/pkg/reason"
)

// System says where the machine's devices are.
type System struct {
	Sys string // "/sys", or one below another root
	Dev string // "/dev", likewise
	// Mounts is what is mounted, as in /proc/self/mountinfo, which "" is.
	Mounts string
}

// Files returns the files of one file system. It is mounted anew for each file that is opened, and stays so until that is
// closed.
func (s *System) Files(p Partition) fs.FS { return &files{s, p} }

type files struct {
	system    *System
	partition Partition
}

// Open is part of fs.FS.
func (f *files) Open(name string) (fs.File, error) {
	v, err := f.system.Mount(f.partition)
	if err != nil {
		return nil, err
	}
	defer v.Close()
	file, err := v.Open(name)
	if err != nil {
		return nil, err
	}
	return file, nil
}

// External returns the part of a disk that p speaks of, if it is one of a disk that somebody may have plugged in, and not the one
// that the system itself runs from.
func (s *System) External(p Partition) (Partition, error) {
	for _, d := range s.Disks() {
		parts := append(d.Partitions, d.Partition)
		i := slices.IndexFunc(parts, p.same)
		switch {
		case i < 0:
		case s.uses(parts):
			return Partition{}, &reason.Error{Code: CodeUnreadable, Msg: fmt.Sprintf("%q is on a disk that the system uses", p.Name), Fix: tryAnother}
		default:
			return parts[i], nil
		}
	}
	return Partition{}, &reason.Error{Code: CodeUnreadable, Msg: fmt.Sprintf("%q is not on removable storage that is plugged in", p.Name), Fix: tryAnother}
}

// uses tells whether one of them is mounted, or another device is made of it. Volumes of this package are not mounted anywhere.
func (s *System) uses(parts []Partition) bool {
	mounts, err := os.ReadFile(cmp.Or(s.Mounts, "/proc/self/mountinfo"))
	if err != nil {
		return true
	}
	for _, p := range parts {
		for line := range strings.Lines(string(mounts)) {
			// Its third field is a number; that of btrfs is not the device's.
			if f := strings.Fields(line); len(f) > 2 && f[2] == p.Device || slices.Contains(f, "/dev/"+p.Name) {
				return true
			}
		}
		if holders, _ := os.ReadDir(filepath.Join(s.Sys, "class/block", p.Name, "holders")); len(holders) > 0 {
			return true
		}
	}
	return false
}

func (p Partition) same(other Partition) bool {
	return p.Name == other.Name && p.Device == other.Device
}
