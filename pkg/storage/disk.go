package storage

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Disk is what /sys says of a disk, or of a drive with or without a medium.
type Disk struct {
	Partition
	Path       string      // the device's place in /sys, such as "/devices/pci0000:00/…/usb1/1-2/…/block/sda"
	Removable  bool        // the medium can be taken out
	Card       string      // what kind of card it is, of those on an MMC bus: "SD" or "MMC"; else empty
	Sequence   string      // changes with the medium; empty with kernels before 5.15
	Partitions []Partition // in the order of their names
}

// Partition is a part of a disk, or all of it.
type Partition struct {
	Name    string // "sda1"
	Device  string // its number, "8:1"
	Sectors int64  // of 512 bytes; 0 when there is no medium
}

// Bounds of what a hub full of sticks can cost.
const (
	maxDisks      = 16
	maxPartitions = 16
)

// External reports whether somebody may have plugged the disk in, and it has a medium: the medium is removable, or the disk is
// on a USB bus or is an SD card. What is soldered in, eMMC too, is not external.
func (d *Disk) External() bool {
	return d.Sectors > 0 && (d.Removable || d.Card == "SD" || slices.ContainsFunc(strings.Split(d.Path, "/"), isUSBBus))
}

// isUSBBus reports whether a folder of /sys is a USB bus, such as "usb2".
func isUSBBus(folder string) bool {
	number, found := strings.CutPrefix(folder, "usb")
	_, err := strconv.ParseUint(number, 10, 16)
	return found && err == nil
}

// Key identifies this medium in this drive for as long as it is plugged in.
func (d *Disk) Key() string {
	return d.Name + " " + d.Device + " " + d.Sequence + " " + strconv.FormatInt(d.Sectors, 10)
}

// Disks lists the external disks, in the order of their names. Where /sys is missing there are none.
func (s *System) Disks() []*Disk {
	var list []*Disk
	names, _ := os.ReadDir(filepath.Join(s.Sys, "block"))
	for _, entry := range names {
		if d := s.disk(entry.Name()); d.External() && len(list) < maxDisks {
			list = append(list, d)
		}
	}
	return list
}

func (s *System) disk(name string) *Disk {
	folder := filepath.Join(s.Sys, "block", name)
	d := &Disk{Partition: partition(folder), Removable: attribute(folder, "removable") == "1",
		Card: attribute(folder, "device/type"), Sequence: attribute(folder, "diskseq")}
	if !strings.HasPrefix(d.Name, "mmcblk") { // a SCSI device has a number there
		d.Card = ""
	}
	if path, err := filepath.EvalSymlinks(folder); err == nil {
		d.Path = strings.TrimPrefix(path, filepath.Clean(s.Sys))
	}
	entries, _ := os.ReadDir(folder)
	for _, entry := range entries {
		sub := filepath.Join(folder, entry.Name())
		if attribute(sub, "partition") != "" && len(d.Partitions) < maxPartitions {
			d.Partitions = append(d.Partitions, partition(sub))
		}
	}
	return d
}

func partition(folder string) Partition {
	p := Partition{Name: filepath.Base(folder), Device: attribute(folder, "dev")}
	p.Sectors, _ = strconv.ParseInt(attribute(folder, "size"), 10, 64)
	return p
}

// attribute returns the one line of a file of /sys, or nothing.
func attribute(folder, name string) string {
	f, err := os.Open(filepath.Join(folder, name))
	if err != nil {
		return ""
	}
	defer f.Close()
	b, _ := io.ReadAll(io.LimitReader(f, 256))
	return strings.TrimSpace(string(b))
}
