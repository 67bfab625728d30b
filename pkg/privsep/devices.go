package privsep

import (
	"context"
	"io/fs"
	"os"

	"github.com/xpu-sztp/ztp/pkg/storage"
)

// Devices are the machine's removable disks, of which the privileged process opens what is to be read.
type Devices struct {
	Client *Client
	System *storage.System // what there is, anybody may see
}

// Disks lists them.
func (d *Devices) Disks() []*storage.Disk { return d.System.Disks() }

// Partitions returns the parts of a disk that may hold a file system.
func (d *Devices) Partitions(disk *storage.Disk) ([]storage.Partition, error) {
	got, _, err := d.Client.ask(context.Background(), &message{Kind: kindStick, Disk: disk.Key()})
	if err != nil {
		return nil, err
	}
	return got.Partitions, nil
}

// Mount returns a volume that is mounted anew for each file that is opened.
func (d *Devices) Mount(p storage.Partition) (*storage.Volume, error) {
	if _, err := d.open(p, ""); err != nil {
		return nil, err
	}
	return storage.Elsewhere(p.Name, func(path string) (*os.File, error) { return d.open(p, path) }), nil
}

// Files are the files of a partition.
func (d *Devices) Files(p storage.Partition) fs.FS { return &files{d, p} }

// files is recognised by Onboarder, whose server has the files itself.
type files struct {
	devices   *Devices
	partition storage.Partition
}

// Open is part of fs.FS.
func (f *files) Open(name string) (fs.File, error) {
	file, err := f.devices.open(f.partition, name)
	if err != nil {
		return nil, err
	}
	return file, nil
}

// open has no context: who waits for a stick does not wait for long (package source).
func (d *Devices) open(p storage.Partition, path string) (*os.File, error) {
	_, file, err := d.Client.ask(context.Background(), &message{Kind: kindStick, Partition: &p, Path: path})
	switch {
	case err != nil:
		return nil, err
	case (file == nil) != (path == ""):
		return nil, lost(context.Background(), errKind)
	}
	return file, nil
}
