// Package storage reads removable storage, which anybody may have plugged in. It says which disks of the machine count as
// removable, tells when they come and go, and mounts their file systems read-only where no other process can see them, for as
// long as a file is being read. Nothing of what is on them is believed, followed or executed, and nothing larger than it
// should be is read.
package storage

import "io/fs"

// System says where the machine's devices are.
type System struct {
	Sys string // "/sys", or one below another root
	Dev string // "/dev", likewise
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
