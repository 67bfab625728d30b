package source_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/source"
	"github.com/xpu-sztp/ztp/pkg/storage"
	"github.com/xpu-sztp/ztp/test/sticks"
)

// shelf is removable disks that are folders.
type shelf struct {
	mu      sync.Mutex
	folders map[string]string // by name
	count   int
	numbers map[string]int
	hang    chan struct{} // mounting takes until this is closed
	stuck   int           // of those who mount
}

// insert plugs in a disk with files and returns its folder.
func (s *shelf) insert(t *testing.T, name string, files map[string]string) string {
	t.Helper()
	folder := t.TempDir()
	for path, content := range files {
		sticks.Write(t, folder, map[string][]byte{path: []byte(content)})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.folders == nil {
		s.folders, s.numbers = map[string]string{}, map[string]int{}
	}
	s.count++
	s.folders[name], s.numbers[name] = folder, s.count
	return folder
}

func (s *shelf) pull(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.folders, name)
}

func (s *shelf) Disks() (list []*storage.Disk) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.folders {
		part := storage.Partition{Name: name + "1"}
		list = append(list, &storage.Disk{Partition: storage.Partition{Name: name, Sectors: 1 + int64(s.numbers[name])}, Partitions: []storage.Partition{part}})
	}
	slices.SortFunc(list, func(a, b *storage.Disk) int { return strings.Compare(a.Name, b.Name) })
	return list
}

func (s *shelf) Partitions(d *storage.Disk) ([]storage.Partition, error) { return d.Partitions, nil }

func (s *shelf) Mount(p storage.Partition) (*storage.Volume, error) {
	s.mu.Lock()
	s.stuck++
	s.mu.Unlock()
	if s.hang != nil {
		<-s.hang
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stuck--
	folder, plugged := s.folders[strings.TrimSuffix(p.Name, "1")]
	if !plugged {
		return nil, &reason.Error{Code: storage.CodeUnreadable, Msg: "pulled out"}
	}
	v, err := storage.Folder(folder)
	if err == nil {
		v.Name = p.Name
	}
	return v, err
}

func (s *shelf) Files(p storage.Partition) fs.FS {
	s.mu.Lock()
	defer s.mu.Unlock()
	return os.DirFS(s.folders[strings.TrimSuffix(p.Name, "1")])
}

const (
	conveyed = "conveyed-information.cms"
	owner    = "owner-certificate.cms"
	voucher  = "ownership-voucher.vcj"
)

// told is a lead in one line.
func told(l source.Lead) string {
	b := l.Bundle
	return l.Place + " " + string(b.ConveyedInformation) + "," + string(b.OwnerCertificate) + "," + string(b.OwnershipVoucher)
}

var errRefused = errors.New("refused")

// TestStick covers where the data is on a stick, for one device of several, and why there is none.
func TestStick(t *testing.T) { // R4.1-02, R4.1-03
	for name, test := range map[string]struct {
		serial string
		files  map[string]string
		want   []string // leads, all of which are refused
		code   reason.Code
		quiet  bool // nobody's fault
	}{
		"for this device": {"SN1", map[string]string{"sztp/SN1/" + conveyed: "ci", "sztp/SN1/" + owner: "oc", "sztp/SN1/" + voucher: "ov"},
			[]string{"sda1: sztp/SN1 ci,oc,ov"}, "internal", false},
		"for all": {"SN1", map[string]string{"sztp/" + conveyed: "redirect"}, []string{"sda1: sztp redirect,,"}, "internal", false},
		"the closest first": {"SN1", map[string]string{"sztp/" + conveyed: "all", "sztp/SN1/" + conveyed: "one", "EN9/SN1/bootstrapping-data/" + conveyed: "vendor"},
			[]string{"sda1: sztp/SN1 one,,", "sda1: sztp all,,", "sda1: EN9/SN1/bootstrapping-data vendor,,"}, "internal", false},
		"vendor's tool": {"SN1", map[string]string{"EN9/SN1/bootstrapping-data/" + conveyed: "ci", "EN9/SN1/bootstrapping-data/" + owner: "oc",
			"EN9/SN1/bootstrapping-data/" + voucher: "ov", "EN9/SN1/bootstrapping-data/ztp_actions.cms": "other", "images/image.iso": "image"},
			[]string{"sda1: EN9/SN1/bootstrapping-data ci,oc,ov"}, "internal", false},
		"two devices, the first":  {"SN1", twoSerials, []string{"sda1: sztp/SN1 first,,"}, "internal", false},
		"two devices, the second": {"SN2", twoSerials, []string{"sda1: sztp/SN2 second,,"}, "internal", false},
		"two devices, a third":    {"SN3", twoSerials, nil, source.NoData, false},
		"voucher .cms before .vcj": {"SN1", map[string]string{"sztp/SN1/" + conveyed: "ci", "sztp/SN1/ownership-voucher.cms": "cms", "sztp/SN1/" + voucher: "vcj"},
			[]string{"sda1: sztp/SN1 ci,,cms"}, "internal", false},
		"nothing of ours":            {"SN1", map[string]string{"DCIM/holiday.jpg": "sea"}, nil, source.NoData, true},
		"folder without the file":    {"SN1", map[string]string{"sztp/SN1/" + owner: "oc"}, nil, source.NoData, false},
		"other case":                 {"SN1", map[string]string{"sztp/sn1/" + conveyed: "ci"}, nil, source.NoData, false},
		"serial that leads up":       {"..", map[string]string{conveyed: "outside", "sztp/x": ""}, nil, source.NoData, false},
		"serial that leads up twice": {"../..", map[string]string{conveyed: "outside", "sztp/x": ""}, nil, source.NoData, false},
		"serial that stays":          {".", map[string]string{"sztp/" + conveyed: "all"}, []string{"sda1: sztp all,,"}, "internal", false},
		"serial with a slash":        {"a/b", map[string]string{"sztp/a/b/" + conveyed: "ci"}, nil, source.NoData, false},
		"serial with a zero byte":    {"a\x00b", map[string]string{"sztp/a/" + conveyed: "ci"}, nil, source.NoData, false},
		"no serial":                  {"", map[string]string{"sztp/" + conveyed: "all"}, []string{"sda1: sztp all,,"}, "internal", false},
		"long serial":                {strings.Repeat("9", 300), map[string]string{"sztp/x": ""}, nil, source.NoData, false},
	} {
		t.Run(name, func(t *testing.T) {
			var s shelf
			s.insert(t, "sda", test.files)
			var got []string
			err := source.NewStorage(source.StorageOptions{Devices: &s, Serial: test.serial}).Discover(t.Context(), func(_ context.Context, l source.Lead) error {
				if l.Trusted || l.Source != "removable-storage" {
					t.Errorf("lead %+v", l)
				}
				got = append(got, told(l))
				return errRefused
			})
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			if code, _ := reason.Of(err); code != test.code || errors.Is(err, source.ErrNothing) != test.quiet {
				t.Errorf("ended with %q: %v", code, err)
			}
		})
	}
}

var twoSerials = map[string]string{"sztp/SN1/" + conveyed: "first", "sztp/SN2/" + conveyed: "second"}

// TestHostileStick: whatever is not a plain small file is refused with its own reason, and a sound stick still gets its turn.
func TestHostileStick(t *testing.T) { // R4.1-04
	secret := filepath.Join(t.TempDir(), "shadow")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		spoil func(folder string) error
		code  reason.Code
	}{
		"artifact is a link": {func(dir string) error { return os.Symlink(secret, dir+"/sztp/SN1/"+conveyed) }, storage.CodeLink},
		"voucher is a link": {func(dir string) error {
			return errors.Join(os.WriteFile(dir+"/sztp/SN1/"+conveyed, nil, 0o600), os.Symlink(secret, dir+"/sztp/SN1/"+voucher))
		}, storage.CodeLink},
		"folder is a link": {func(dir string) error {
			return errors.Join(os.Remove(dir+"/sztp/SN1"), os.WriteFile(filepath.Dir(secret)+"/"+conveyed, nil, 0o600), os.Symlink(filepath.Dir(secret), dir+"/sztp/SN1"))
		}, storage.CodeLink},
		"folder": {func(dir string) error { return os.Mkdir(dir+"/sztp/SN1/"+conveyed, 0o700) }, storage.CodeNoFile},
		"too large": {func(dir string) error {
			return errors.Join(os.WriteFile(dir+"/sztp/SN1/"+conveyed, nil, 0o600), os.Truncate(dir+"/sztp/SN1/"+conveyed, 16<<20+1))
		}, storage.CodeTooLarge},
		"certificate is too large": {func(dir string) error {
			return errors.Join(os.WriteFile(dir+"/sztp/SN1/"+conveyed, nil, 0o600), os.WriteFile(dir+"/sztp/SN1/"+owner, nil, 0o600),
				os.Truncate(dir+"/sztp/SN1/"+owner, 16<<20+1))
		}, storage.CodeTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			var s shelf
			dir := s.insert(t, "sda", nil)
			if err := os.MkdirAll(dir+"/sztp/SN1", 0o700); err != nil {
				t.Fatal(err)
			}
			if err := test.spoil(dir); err != nil {
				t.Fatal(err)
			}
			s.insert(t, "sdb", map[string]string{"sztp/SN1/" + conveyed: "good"})
			var got []string
			err := source.NewStorage(source.StorageOptions{Devices: &s, Serial: "SN1"}).Discover(t.Context(), func(_ context.Context, l source.Lead) error {
				got = append(got, told(l))
				return errRefused
			})
			if diff := cmp.Diff([]string{"sdb1: sztp/SN1 good,,"}, got); diff != "" {
				t.Error(diff)
			}
			if code, fix := reason.Of(err); code != test.code || fix == "" {
				t.Errorf("ended with %q, %v", code, err)
			}
		})
	}
}

func TestNoStick(t *testing.T) {
	err := source.NewStorage(source.StorageOptions{Devices: &shelf{}}).Discover(t.Context(), nil)
	if code, _ := reason.Of(err); code != source.NoStorage || !errors.Is(err, source.ErrNothing) {
		t.Error(err)
	}
}

// TestBrokenStick has a stick that never answers: the device goes on without it, also in the next round, and the stick is
// left alone until it does.
func TestBrokenStick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := shelf{hang: make(chan struct{})}
		s.insert(t, "sda", map[string]string{"sztp/" + conveyed: "late"})
		sticks := source.NewStorage(source.StorageOptions{Devices: &s})
		var got []string
		visit := func(_ context.Context, l source.Lead) error { got = append(got, told(l)); return nil }
		began := time.Now()
		for range 2 {
			err := sticks.Discover(t.Context(), visit)
			if code, _ := reason.Of(err); code != source.SlowStorage {
				t.Error(err)
			}
		}
		if took := time.Since(began); took != time.Minute || s.stuck != 1 {
			t.Errorf("took %v, and %d are stuck", took, s.stuck)
		}
		close(s.hang)
		if err := sticks.Discover(t.Context(), visit); err != nil || len(got) != 1 {
			t.Errorf("got %q, %v", got, err)
		}
	})
}

// TestStickNeedsNetwork: what turned out to need a network is visited again on each; the rest is not.
func TestStickNeedsNetwork(t *testing.T) {
	var s shelf
	s.insert(t, "sda", map[string]string{"sztp/SN1/" + conveyed: "bad", "sztp/" + conveyed: "redirect"})
	storage := source.NewStorage(source.StorageOptions{Devices: &s, Serial: "SN1"})
	uplink := &source.Uplink{Interface: "eth0", Network: source.System{}}
	if err := storage.Find(t.Context(), uplink, nil); !errors.Is(err, source.ErrNothing) {
		t.Error(err)
	}
	var got []string
	offline := func(_ context.Context, l source.Lead) error {
		if string(l.Bundle.ConveyedInformation) == "bad" {
			return errRefused
		}
		_, err := l.Network.LookupNetIP(t.Context(), "ip", "bs.example")
		return err
	}
	if err := storage.Discover(t.Context(), offline); !errors.Is(err, source.ErrNothing) && !errors.Is(err, errRefused) {
		t.Error(err)
	}
	online := func(l source.Lead) error {
		got = append(got, l.Interface+" "+told(l))
		if l.Network != source.Network(source.System{}) {
			t.Error("another network")
		}
		return errRefused
	}
	for range 2 {
		if err := storage.Find(t.Context(), uplink, online); !errors.Is(err, errRefused) {
			t.Error(err)
		}
	}
	want := []string{"eth0 sda1: sztp redirect,,", "eth0 sda1: sztp redirect,,"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	s.pull("sda")
	if err := storage.Find(t.Context(), uplink, online); !strings.Contains(err.Error(), "pulled out") {
		t.Error(err)
	}
	storage.Changed()
	if err := storage.Find(t.Context(), uplink, online); !errors.Is(err, source.ErrNothing) {
		t.Errorf("what is gone is still tried: %v", err)
	}
}
