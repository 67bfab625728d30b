package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/artifacts/cms"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/storage"
)

// Devices are the machine's removable disks; *storage.System is one.
type Devices interface {
	Disks() []*storage.Disk
	// Partitions returns the parts of a disk that may hold a file system.
	Partitions(*storage.Disk) ([]storage.Partition, error)
	// Mount mounts one. The caller closes it.
	Mount(storage.Partition) (*storage.Volume, error)
	// Files are the files of one, which is mounted while one of them is open.
	Files(storage.Partition) fs.FS
}

// place is a folder with bootstrapping data.
type place struct {
	disk      *storage.Disk
	partition storage.Partition
	folder    string
}

func (p *place) String() string { return p.partition.Name + ": " + p.folder }

// Names on a stick. The files are called as in the examples of RFC 8572 §4.1.
const (
	ownFolder    = "sztp"
	vendorFolder = "EN9" // which routers of the enterprise with that number look for, and which their tools write
	conveyedFile = "conveyed-information.cms"
	ownerFile    = "owner-certificate.cms"
)

var voucherFiles = []string{"ownership-voucher.cms", "ownership-voucher.vcj"}

// folders are where the data for a device may be, in the order to try: what is for it alone comes first.
func folders(serial string) []string {
	if !isName(serial) {
		return []string{ownFolder}
	}
	return []string{ownFolder + "/" + serial, ownFolder, vendorFolder + "/" + serial + "/bootstrapping-data"}
}

// isName reports whether s names a file and leads nowhere else.
func isName(s string) bool {
	return s != "." && fs.ValidPath(s) && !strings.ContainsAny(s, "/\x00")
}

// diskTime is what reading one disk may take. A stick that is broken can keep a reader for much longer.
const diskTime = 30 * time.Second

// withDisk calls f, which reads the disk, when it is its turn, and gives it up when that takes too long. While f has not
// returned all the same, nobody else gets a turn.
func (s *Storage) withDisk(ctx context.Context, d *storage.Disk, f func()) error {
	turn := s.turnAt(d)
	timer := time.NewTimer(diskTime)
	defer timer.Stop()
	done := make(chan struct{})
	select {
	case turn <- struct{}{}:
		go func() {
			defer func() { <-turn; close(done) }()
			f()
		}()
	case <-timer.C:
		return tooSlow(d)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case <-done:
		return nil
	case <-timer.C:
		return tooSlow(d)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func tooSlow(d *storage.Disk) error {
	return &reason.Error{Code: SlowStorage, Msg: fmt.Sprintf("%s did not let itself be read within %v", d.Name, diskTime),
		Fix: "use another stick, or another port"}
}

// turnAt returns the semaphore of a disk.
func (s *Storage) turnAt(d *storage.Disk) chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	turn := s.turns[d.Key()]
	if turn == nil {
		turn = make(chan struct{}, 1)
		s.turns[d.Key()] = turn
	}
	return turn
}

// look finds the folders on a disk that hold data for this device. The errors are about what holds none.
func (s *Storage) look(ctx context.Context, d *storage.Disk) ([]*place, []error) {
	var places []*place
	var failures []error
	if err := s.withDisk(ctx, d, func() { places, failures = s.scan(d) }); err != nil {
		return nil, []error{err}
	}
	return places, failures
}

func (s *Storage) scan(d *storage.Disk) (places []*place, failures []error) {
	partitions, err := s.Devices.Partitions(d)
	if err != nil {
		return nil, []error{err}
	}
	for _, p := range partitions {
		v, err := s.Devices.Mount(p)
		if err != nil {
			failures = append(failures, err)
			continue
		}
		found, err := s.scanVolume(v)
		v.Close()
		for _, folder := range found {
			places = append(places, &place{d, p, folder})
		}
		if err != nil {
			failures = append(failures, err)
		}
	}
	return places, failures
}

// scanVolume returns the folders with data, or why there is none.
func (s *Storage) scanVolume(v *storage.Volume) (found []string, err error) {
	for _, folder := range folders(s.Serial) {
		if v.Exists(folder + "/" + conveyedFile) {
			found = append(found, folder)
		}
	}
	switch {
	case len(found) > 0:
		return found, nil
	case v.Exists(ownFolder), v.Exists(vendorFolder):
		return nil, &reason.Error{Code: NoData, Msg: fmt.Sprintf("%s has nothing for the serial number %q", v.Name, s.Serial),
			Fix: "put " + conveyedFile + " into one of the folders " + strings.Join(folders(s.Serial), ", ") + "; the case of letters may matter"}
	}
	return nil, &passing{&reason.Error{Code: NoData, Msg: fmt.Sprintf("%s has no folder %s", v.Name, ownFolder),
		Fix: "put " + conveyedFile + " into a folder " + folders(s.Serial)[0]}}
}

// load reads the artifacts of a folder.
func (s *Storage) load(ctx context.Context, p *place) (*artifacts.Bundle, error) {
	var bundle *artifacts.Bundle
	var failed error
	err := s.withDisk(ctx, p.disk, func() { bundle, failed = s.loadNow(p) })
	if err == nil {
		err = failed
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p, err)
	}
	return bundle, nil
}

func (s *Storage) loadNow(p *place) (*artifacts.Bundle, error) {
	v, err := s.Devices.Mount(p.partition)
	if err != nil {
		return nil, err
	}
	defer v.Close()
	b := new(artifacts.Bundle)
	if b.ConveyedInformation, err = v.ReadFile(p.folder+"/"+conveyedFile, cms.MaxSize); err != nil {
		return nil, err
	}
	// Without the other two it may be an unsigned redirect.
	if b.OwnerCertificate, err = optional(v, p.folder, ownerFile); err != nil {
		return nil, err
	}
	b.OwnershipVoucher, err = optional(v, p.folder, voucherFiles...)
	return b, err
}

// optional reads the first of several files that exists, if any does.
func optional(v *storage.Volume, folder string, names ...string) ([]byte, error) {
	for _, name := range names {
		content, err := v.ReadFile(folder+"/"+name, cms.MaxSize)
		if !errors.Is(err, fs.ErrNotExist) {
			return content, err
		}
	}
	return nil, nil
}
