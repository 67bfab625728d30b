package storage_test

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/pkg/storage"
	"github.com/xpu-sztp/ztp/test/sticks"
)

// TestExternal decides by what /sys says, and nothing else.
func TestExternal(t *testing.T) {
	const pci = "/devices/pci0000:00/0000:00:14.0/"
	medium := storage.Partition{Sectors: 1000}
	for name, test := range map[string]struct {
		disk storage.Disk
		want bool
	}{
		"stick":                    {storage.Disk{Partition: medium, Removable: true, Path: pci + "usb1/1-2/1-2:1.0/host6/target6:0:0/6:0:0:0/block/sda"}, true},
		"disk in a USB enclosure":  {storage.Disk{Partition: medium, Path: pci + "usb2/2-1/2-1:1.0/host7/target7:0:0/7:0:0:0/block/sdb"}, true},
		"empty card reader":        {storage.Disk{Removable: true, Path: pci + "usb1/1-2/block/sda"}, false},
		"virtual medium":           {storage.Disk{Partition: medium, Removable: true, Path: pci + "usb1/1-3/block/sr0"}, true},
		"optical drive":            {storage.Disk{Partition: medium, Removable: true, Path: pci + "ata3/host2/block/sr0"}, true},
		"SD card":                  {storage.Disk{Partition: medium, Card: "SD", Path: "/devices/platform/mmc0/mmc0:aaaa/block/mmcblk0"}, true},
		"soldered eMMC":            {storage.Disk{Partition: medium, Card: "MMC", Path: "/devices/platform/mmc0/mmc0:0001/block/mmcblk0"}, false},
		"NVMe":                     {storage.Disk{Partition: medium, Path: pci + "nvme/nvme0/nvme0n1"}, false},
		"SATA":                     {storage.Disk{Partition: medium, Path: pci + "ata1/host0/block/sda"}, false},
		"loop device":              {storage.Disk{Partition: medium, Path: "/devices/virtual/block/loop0"}, false},
		"folder that resembles it": {storage.Disk{Partition: medium, Path: "/devices/usbhost/usb/usbx1/block/sda"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := test.disk.External(); got != test.want {
				t.Errorf("External() = %t", got)
			}
		})
	}
}

// TestOnlyExternal: whoever asks for a part of a disk gets one of a disk that is external, and there now.
func TestOnlyExternal(t *testing.T) {
	root := t.TempDir()
	sticks.Write(t, root, map[string][]byte{
		"block/sda/removable": []byte("1\n"), "block/sda/size": []byte("2000\n"), "block/sda/dev": []byte("8:0\n"),
		"block/sda/sda1/partition": []byte("1\n"), "block/sda/sda1/size": []byte("1800\n"), "block/sda/sda1/dev": []byte("8:1\n"),
		"block/sdb/removable": []byte("1\n"), "block/sdb/size": []byte("2000\n"), "block/sdb/dev": []byte("8:16\n"),
		"block/sdb/sdb1/partition": []byte("1\n"), "block/sdb/sdb1/size": []byte("1800\n"), "block/sdb/sdb1/dev": []byte("8:17\n"),
		"block/sdb/sdb2/partition": []byte("2\n"), "block/sdb/sdb2/size": []byte("100\n"), "block/sdb/sdb2/dev": []byte("8:18\n"),
		"block/sdc/removable": []byte("1\n"), "block/sdc/size": []byte("2000\n"), "block/sdc/dev": []byte("8:32\n"),
		"block/sdd/removable": []byte("1\n"), "block/sdd/size": []byte("2000\n"), "block/sdd/dev": []byte("8:48\n"),
		"class/block/sdd/holders/dm-0": nil,
		"mounts":                       []byte("22 1 8:18 / / ro - squashfs /dev/root ro\n23 22 0:44 / /var rw - btrfs /dev/sdc rw\n"),
		"block/vda/removable":          []byte("0\n"), "block/vda/size": []byte("9000\n"), "block/vda/dev": []byte("254:0\n"),
	})
	s := &storage.System{Sys: root, Dev: "/dev", Mounts: filepath.Join(root, "mounts")}
	for p, want := range map[storage.Partition]bool{
		{Name: "sda", Device: "8:0", Sectors: 7}: true, // however large it is said to be
		{Name: "sda1", Device: "8:1"}:            true,
		{Name: "sda1", Device: "8:17"}:           false, // of the stick before
		{Name: "sda1"}:                           false,
		{Name: "sdb1", Device: "8:17"}:           false, // beside what the system runs from
		{Name: "sdb", Device: "8:16"}:            false,
		{Name: "sdc", Device: "8:32"}:            false,
		{Name: "sdd", Device: "8:48"}:            false,
		{Name: "sda2", Device: "8:1"}:            false,
		{Name: "vda", Device: "254:0"}:           false,
		{Name: "../sda", Device: "8:0"}:          false,
		{}:                                       false,
	} {
		got, err := s.External(p)
		if (err == nil) != want || want && (got.Name != p.Name || got.Sectors < 1800) {
			t.Errorf("%+v: %+v, %v", p, got, err)
		}
	}
}

// TestDisks reads a tree as the kernel lays it out: links into /sys/devices, partitions as folders below the disk.
func TestDisks(t *testing.T) {
	root := t.TempDir()
	const usb, soldered = "devices/pci0000:00/usb1/1-2/block/sda", "devices/platform/mmc0/mmc0:0001/block/mmcblk0"
	const card = "devices/platform/mmc1/mmc1:aaaa/block/mmcblk1"
	sticks.Write(t, root, map[string][]byte{
		usb + "/removable": []byte("1\n"), usb + "/size": []byte("2000\n"), usb + "/dev": []byte("8:0\n"), usb + "/diskseq": []byte("9\n"),
		usb + "/device/type":    []byte("0\n"),
		usb + "/sda1/partition": []byte("1\n"), usb + "/sda1/size": []byte("1800\n"), usb + "/sda1/dev": []byte("8:1\n"),
		usb + "/queue/size": []byte("5\n"),
		soldered + "/size":  []byte("9000\n"), soldered + "/removable": []byte("0\n"), soldered + "/device/type": []byte("MMC\n"),
		card + "/size": []byte("7000\n"), card + "/removable": []byte("0\n"), card + "/device/type": []byte("SD\n"),
	})
	link := func(to string) {
		name := filepath.Join(root, "block", filepath.Base(to))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("../"+to, name); err != nil {
			t.Fatal(err)
		}
	}
	link(usb)
	link(soldered)
	link(card)

	want := []*storage.Disk{{Partition: storage.Partition{Name: "mmcblk1", Sectors: 7000}, Path: "/" + card, Card: "SD"}, {
		Partition: storage.Partition{Name: "sda", Device: "8:0", Sectors: 2000}, Path: "/" + usb, Removable: true, Sequence: "9",
		Partitions: []storage.Partition{{Name: "sda1", Device: "8:1", Sectors: 1800}},
	}}
	machine := &storage.System{Sys: root}
	if diff := cmp.Diff(want, machine.Disks()); diff != "" {
		t.Error(diff)
	}
	before := want[1].Key()
	sticks.Write(t, root, map[string][]byte{usb + "/diskseq": []byte("10\n")})
	if after := machine.Disks()[1].Key(); after == before {
		t.Error("another medium has the same key")
	}
}

func TestNoSys(t *testing.T) {
	machine := &storage.System{Sys: filepath.Join(t.TempDir(), "missing")}
	if got := machine.Disks(); got != nil {
		t.Errorf("found %v", got)
	}
}

// TestManyDisks: a hub full of them is no reason to read all day.
func TestManyDisks(t *testing.T) {
	root := t.TempDir()
	for i := range 40 {
		disk := "block/sd" + strconv.Itoa(i)
		files := map[string][]byte{disk + "/removable": []byte("1"), disk + "/size": []byte("8")}
		for p := range 40 {
			files[disk+"/p"+strconv.Itoa(p)+"/partition"] = []byte("1")
		}
		sticks.Write(t, root, files)
	}
	disks := (&storage.System{Sys: root}).Disks()
	if len(disks) != 16 || len(disks[0].Partitions) != 16 {
		t.Errorf("%d disks with %d partitions", len(disks), len(disks[0].Partitions))
	}
}
