package storage

import "bytes"

// probed is how much of the start of a device FileSystem looks at.
const probed = 0x8001 + 5

// FileSystem names, as the kernel does, the file system that a device begins with, or nothing when it is none of those that
// are mounted. The kernel's readers of file systems were not written against attackers, so only the few are tried that
// sticks, cards and virtual media come with: no NTFS, for one.
func FileSystem(start []byte) string {
	at := func(offset int, magic string) bool {
		return len(start) >= offset+len(magic) && string(start[offset:offset+len(magic)]) == magic
	}
	switch {
	case at(0x8001, "CD001"): // before FAT: images that are disks as well begin with a boot sector
		return "iso9660"
	case at(3, "EXFAT   "):
		return "exfat"
	case at(0x1fe, "\x55\xaa") && (at(0x36, "FAT12   ") || at(0x36, "FAT16   ") || at(0x52, "FAT32   ")):
		return "vfat"
	case at(0x438, "\x53\xef"): // that driver reads ext2 and ext3 too
		return "ext4"
	case bytes.HasPrefix(start, []byte("hsqs")):
		return "squashfs"
	}
	return ""
}

// options are what a file system is mounted with besides "ro".
func options(filesystem string) [][2]string {
	switch filesystem {
	case "ext4": // without them, mounting would replay the journal, and an error on the medium could demand a kernel panic
		return [][2]string{{"noload", ""}, {"errors", "continue"}}
	case "iso9660": // whose plain form has names in upper case only
		return [][2]string{{"check", "relaxed"}}
	}
	return nil
}
