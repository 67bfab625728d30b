package storage_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/xpu-sztp/ztp/pkg/storage"
)

// sector returns the start of a device with magic at an offset, and more when there is more.
func sector(magic ...any) []byte {
	b := make([]byte, 70<<10)
	for i := 0; i < len(magic); i += 2 {
		copy(b[magic[i].(int):], magic[i+1].(string))
	}
	return b
}

func TestFileSystem(t *testing.T) {
	const end = "\x55\xaa"
	for name, test := range map[string]struct {
		start []byte
		want  string
	}{
		"FAT12":                   {sector(0x36, "FAT12   ", 0x1fe, end), "vfat"},
		"FAT16":                   {sector(0x36, "FAT16   ", 0x1fe, end), "vfat"},
		"FAT32":                   {sector(0x52, "FAT32   ", 0x1fe, end), "vfat"},
		"FAT without signature":   {sector(0x52, "FAT32   "), ""},
		"exFAT":                   {sector(3, "EXFAT   ", 0x1fe, end), "exfat"},
		"ext":                     {sector(0x438, "\x53\xef"), "ext4"},
		"ISO 9660":                {sector(0x8001, "CD001"), "iso9660"},
		"ISO 9660 that boots":     {sector(0x8001, "CD001", 0x1fe, end, 0x52, "FAT32   "), "iso9660"},
		"squashfs":                {sector(0, "hsqs"), "squashfs"},
		"partition table":         {sector(0x1fe, end), ""},
		"NTFS":                    {sector(3, "NTFS    ", 0x1fe, end), ""},
		"XFS":                     {sector(0, "XFSB"), ""},
		"Btrfs":                   {sector(0x10040, "_BHRfS_M"), ""},
		"nothing":                 {nil, ""},
		"cut off within":          {sector(0x8001, "CD001")[:0x8004], ""},
		"cut off right after":     {sector(0x8001, "CD001")[:0x8006], "iso9660"},
		"all ones":                {bytes.Repeat([]byte{0xff}, 40<<10), ""},
		"magic at the very start": {[]byte("CD001FAT32   \x53\xef"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := storage.FileSystem(test.start); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// FuzzFileSystem: only what is on the list is ever mounted, and what is not there yet does not change what it is.
func FuzzFileSystem(f *testing.F) {
	f.Add(sector(0x438, "\x53\xef")[:0x500], uint16(0x438))
	f.Add(sector(0x52, "FAT32   ", 0x1fe, "\x55\xaa")[:512], uint16(512))
	f.Fuzz(func(t *testing.T, start []byte, cut uint16) {
		got := storage.FileSystem(start)
		if !slices.Contains([]string{"", "vfat", "exfat", "ext4", "iso9660", "squashfs"}, got) {
			t.Errorf("named %q", got)
		}
		if part := storage.FileSystem(start[:min(int(cut), len(start))]); part != "" && got == "" {
			t.Errorf("%q, but nothing with what follows", part)
		}
	})
}

func uevent(lines ...string) []byte {
	var b []byte
	for _, l := range lines {
		b = append(append(b, l...), 0)
	}
	return b
}

func TestAboutBlocks(t *testing.T) {
	const path = "/devices/pci0000:00/usb1/1-2/block/sdb"
	for name, test := range map[string]struct {
		message []byte
		want    bool
	}{
		"stick plugged in":     {uevent("add@"+path, "ACTION=add", "DEVPATH="+path, "SUBSYSTEM=block", "DEVNAME=sdb"), true},
		"medium changed":       {uevent("change@"+path, "ACTION=change", "SUBSYSTEM=block", "DISK_MEDIA_CHANGE=1"), true},
		"network interface":    {uevent("add@/devices/virtual/net/veth0", "ACTION=add", "SUBSYSTEM=net"), false},
		"udev's":               {append([]byte("libudev\x00\xfe\xed\xca\xfe\x00"), uevent("SUBSYSTEM=block")...), false},
		"no subsystem":         {uevent("add@"+path, "ACTION=add"), false},
		"two, the first tells": {uevent("add@"+path, "SUBSYSTEM=net", "SUBSYSTEM=block"), false},
		"subsystem of another": {uevent("add@"+path, "XSUBSYSTEM=block"), false},
		"cut off":              {uevent("add@"+path, "SUBSYSTEM=bloc"), false},
		"no head":              {uevent("SUBSYSTEM=block"), false},
		"empty":                {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := storage.AboutBlocks(test.message); got != test.want {
				t.Errorf("AboutBlocks() = %t", got)
			}
		})
	}
}

// FuzzAboutBlocks: a message is about blocks only when it says so, and what comes after that changes nothing.
func FuzzAboutBlocks(f *testing.F) {
	f.Add(uevent("add@/devices/x", "SUBSYSTEM=block"))
	f.Add([]byte("libudev\x00"))
	f.Fuzz(func(t *testing.T, message []byte) {
		got := storage.AboutBlocks(message)
		if got && !(bytes.Contains(message, []byte("SUBSYSTEM=block")) && bytes.Contains(message, []byte("@/"))) {
			t.Errorf("%q is not about blocks", message)
		}
		if got && !storage.AboutBlocks(append(slices.Clone(message), 0)) {
			t.Errorf("%q is not about blocks with a zero byte more", message)
		}
	})
}
