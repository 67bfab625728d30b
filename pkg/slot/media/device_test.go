package media_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/xpu-sztp/ztp/pkg/durable"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/slot/media"
	"github.com/xpu-sztp/ztp/test/sticks"
)

const partitionSize = 16 << 20

// disk is a loop device with a GUID partition table and two partitions, root-a and root-b, each full of old content.
type disk struct {
	*sticks.Disk
	image  string
	labels string // what /dev/disk/by-partlabel is elsewhere
}

func newDisk(t *testing.T) disk {
	t.Helper()
	d := disk{image: filepath.Join(t.TempDir(), "disk"), labels: t.TempDir()}
	if err := os.WriteFile(d.image, bytes.Repeat([]byte("old content.... "), 3*partitionSize/16), 0o600); err != nil {
		t.Fatal(err)
	}
	command(t, "sgdisk", "--clear", "--new=1:1MiB:+16MiB", "--change-name=1:root-a", "--new=2:17MiB:+16MiB", "--change-name=2:root-b", d.image)
	d.Disk = sticks.Insert(t, d.image)
	command(t, "partx", "--add", d.Node())
	t.Cleanup(func() { command(t, "partx", "--delete", d.Node()) })
	for i, label := range []string{"root-a", "root-b"} {
		number, err := os.ReadFile(fmt.Sprintf("/sys/block/%[1]s/%[1]sp%[2]d/dev", filepath.Base(d.Node()), i+1))
		if err != nil {
			t.Fatal(err)
		}
		var major, minor uint32
		if _, err := fmt.Sscanf(string(number), "%d:%d", &major, &minor); err != nil {
			t.Fatal(err)
		}
		node := filepath.Join(d.labels, fmt.Sprint("part", i+1))
		if err := unix.Mknod(node, unix.S_IFBLK|0o600, int(unix.Mkdev(major, minor))); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Base(node), filepath.Join(d.labels, label)); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

func (d disk) place(label string) media.Place {
	return media.Place{Path: filepath.Join(d.labels, label), FS: durable.OS{}}
}

// used is how much of the disk's image is stored.
func (d disk) used(t *testing.T) int64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(d.image, &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

func wantCode(t *testing.T, err error, want reason.Code) {
	t.Helper()
	if code, fix := reason.Of(err); code != want || want != "" && fix == "" {
		t.Fatalf("got %q (%v), to do %q; want code %q", code, err, fix, want)
	}
}

// wantNoDevices is for those who may not use block devices: they are told so.
func wantNoDevices(t *testing.T) {
	t.Helper()
	_, err := media.Place{Path: "/dev/loop0", FS: durable.OS{}}.Open()
	if code, fix := reason.Of(err); !strings.HasPrefix(string(code), "slot-") || fix == "" {
		t.Errorf("got %v, to do %q", err, fix)
	}
}

// TestPartition writes an image over old content: zeros are zeros afterwards, and neither the neighbour nor what is behind the
// image holds any of it.
func TestPartition(t *testing.T) {
	if !sticks.Allowed() {
		wantNoDevices(t)
		return
	}
	for _, keep := range []bool{false, true} {
		t.Run(fmt.Sprint("keep blocks ", keep), func(t *testing.T) {
			d := newDisk(t)
			before := d.used(t)
			neighbour := read(t, filepath.Join(d.labels, "root-a"))
			place := d.place("root-b")
			place.KeepBlocks = keep
			content := sparse(12<<20+700, 3<<20, 2<<20) // data, a hole of two mebibytes, data
			w, err := place.Open()
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			if err := w.Expect(int64(len(content))); err != nil {
				t.Fatal(err)
			}
			write(t, w, content, 300<<10)
			if err := w.Verify(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := read(t, place.Path)[:len(content)]; !bytes.Equal(got, content) {
				t.Error("the partition holds something else")
			}
			if !bytes.Equal(read(t, filepath.Join(d.labels, "root-a")), neighbour) {
				t.Error("the other partition was changed")
			}
			want := int64(2<<20 - 1<<16) // the file system of the disk's image needs some for what it is told
			if !keep {
				want += int64(partitionSize - len(content) - 1<<14)
			}
			if saved := before - d.used(t); saved < want {
				t.Errorf("only %d bytes became holes, want %d", saved, want)
			}
			wantIdentity(t, d, place)
		})
	}
}

func wantIdentity(t *testing.T, d disk, place media.Place) {
	t.Helper()
	mine, err := place.Identity()
	if err != nil {
		t.Fatal(err)
	}
	other, err := d.place("root-a").Identity()
	if err != nil || mine == other || mine == "" {
		t.Errorf("both partitions are %q: %v", mine, err)
	}
}

func TestDeviceRefusals(t *testing.T) {
	if !sticks.Allowed() {
		wantNoDevices(t)
		return
	}
	d := newDisk(t)
	a, b, whole := d.place("root-a"), d.place("root-b"), media.Place{Path: d.Node(), FS: durable.OS{}}
	free := func(t *testing.T) {
		t.Helper()
		w, err := b.Open()
		if err != nil {
			t.Fatal(err)
		}
		w.Close()
	}
	t.Run("mounted", func(t *testing.T) {
		command(t, "mke2fs", "-q", "-F", "-t", "ext4", a.Path)
		point := t.TempDir()
		if err := unix.Mount(a.Path, point, "ext4", 0, ""); err != nil {
			t.Fatal(err)
		}
		defer unix.Unmount(point, 0)
		for name, p := range map[string]media.Place{"itself": a, "its disk": whole} {
			_, err := p.Open()
			wantCode(t, err, media.CodeInUse)
			_, err = p.Look()
			wantCode(t, err, media.CodeInUse)
			if !strings.Contains(err.Error(), "mounted on "+point) {
				t.Errorf("%s: %v", name, err)
			}
		}
		free(t)
	})
	t.Run("whole disk mounted", func(t *testing.T) {
		other := sticks.Insert(t, sticks.Image(t, t.TempDir()))
		point := t.TempDir()
		if err := unix.Mount(other.Node(), point, "ext4", unix.MS_RDONLY, ""); err != nil {
			t.Fatal(err)
		}
		defer unix.Unmount(point, 0)
		_, err := media.Place{Path: other.Node(), FS: durable.OS{}}.Open()
		wantCode(t, err, media.CodeInUse)
	})
	t.Run("swap", func(t *testing.T) {
		command(t, "mkswap", b.Path)
		command(t, "swapon", b.Path)
		defer command(t, "swapoff", b.Path)
		_, err := b.Open()
		wantCode(t, err, media.CodeInUse)
		if !strings.Contains(err.Error(), "swap") {
			t.Error(err)
		}
	})
	t.Run("read by a loop device", func(t *testing.T) {
		real, err := filepath.EvalSymlinks(b.Path)
		if err != nil {
			t.Fatal(err)
		}
		loop := sticks.Insert(t, real)
		_, err = b.Open()
		wantCode(t, err, media.CodeInUse)
		if !strings.Contains(err.Error(), filepath.Base(loop.Node())) {
			t.Error(err)
		}
	})
	t.Run("held by somebody unknown", func(t *testing.T) {
		held, err := unix.Open(b.Path, unix.O_RDONLY|unix.O_EXCL|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(held)
		_, err = b.Open()
		wantCode(t, err, media.CodeInUse)
	})
	t.Run("held by us", func(t *testing.T) {
		w, err := b.Open()
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		if err := unix.Mount(b.Path, t.TempDir(), "ext4", 0, ""); !errors.Is(err, unix.EBUSY) {
			t.Errorf("mounted while it is written: %v", err)
		}
	})
	t.Run("read-only", func(t *testing.T) {
		command(t, "blockdev", "--setro", b.Path)
		defer command(t, "blockdev", "--setrw", b.Path)
		_, err := b.Open()
		wantCode(t, err, media.CodeReadOnly)
		_, err = b.Look()
		wantCode(t, err, media.CodeReadOnly)
	})
	t.Run("too small", func(t *testing.T) {
		w, err := b.Open()
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		if err := w.Expect(partitionSize); err != nil {
			t.Error(err)
		}
		if size, err := b.Look(); err != nil || size != partitionSize {
			t.Errorf("room for %d, %v", size, err)
		}
		err = w.Expect(partitionSize + 1)
		wantCode(t, err, media.CodeTooSmall)
		if !errors.Is(err, unix.ENOSPC) {
			t.Error("the mirror is not to blame")
		}
		write(t, w, make([]byte, partitionSize), partitionSize)
		_, err = w.Write([]byte("x"))
		wantCode(t, err, media.CodeTooSmall)
		wantCode(t, w.Verify(t.Context()), media.CodeTooSmall)
	})
	t.Run("one device twice", func(t *testing.T) {
		for _, tt := range []struct {
			a, b media.Place
			want bool
		}{{a, a, true}, {a, b, false}, {a, whole, true}, {whole, b, true}} {
			if got, err := media.Same(tt.a, tt.b); err != nil || got != tt.want {
				t.Errorf("%s and %s: %t, %v", tt.a.Path, tt.b.Path, got, err)
			}
		}
	})
	free(t)
}

// TestChangedBehindTheDevice: a disk that lies is found out, and where.
func TestChangedBehindTheDevice(t *testing.T) {
	if !sticks.Allowed() {
		wantNoDevices(t)
		return
	}
	d := newDisk(t)
	w, err := d.place("root-b").Open()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	write(t, w, sparse(8<<20), 1<<20)
	if err := w.Sync(); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(d.image, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte{1}, 17<<20+5<<20+4711); err != nil {
		t.Fatal(err)
	}
	err = w.Verify(t.Context())
	wantCode(t, err, media.CodeReadBack)
	if !strings.Contains(err.Error(), fmt.Sprintf("between byte %d and byte %d", 5<<20, 6<<20)) {
		t.Error(err)
	}
}
