package storage_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/storage"
	"github.com/xpu-sztp/ztp/test/sticks"
)

const limit = 1000

// hostile fills a folder with what nobody needs on a stick, around one file that is right.
func hostile(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	sticks.Write(t, dir, map[string][]byte{
		"sztp/good":    []byte("content"),
		"sztp/full":    bytes.Repeat([]byte("x"), limit),
		"sztp/large":   bytes.Repeat([]byte("x"), limit+1),
		"sztp/setuid":  []byte("#!/bin/sh\n"),
		"sztp/dir/f":   nil,
		"real/content": []byte("behind a link"),
	})
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	must(os.Chmod(filepath.Join(dir, "sztp/setuid"), 0o4755))
	must(os.Symlink("/etc/shadow", filepath.Join(dir, "sztp/absolute")))
	must(os.Symlink("good", filepath.Join(dir, "sztp/relative")))
	must(os.Symlink("/proc/self/fd/0", filepath.Join(dir, "sztp/magic")))
	must(os.Symlink("real", filepath.Join(dir, "folder")))
	must(os.Symlink("loop", filepath.Join(dir, "loop")))
	must(unix.Mkfifo(filepath.Join(dir, "sztp/fifo"), 0o666))
	must(os.Truncate(filepath.Join(dir, "sztp/large"), 1<<40)) // sparse
	return dir
}

var hostileFiles = map[string]reason.Code{
	"sztp/good":       "",
	"sztp/full":       "",
	"sztp/setuid":     "",
	"sztp/large":      storage.CodeTooLarge,
	"sztp/absolute":   storage.CodeLink,
	"sztp/relative":   storage.CodeLink,
	"sztp/magic":      storage.CodeLink,
	"folder/content":  storage.CodeLink,
	"loop":            storage.CodeLink,
	"loop/x":          storage.CodeLink,
	"sztp/fifo":       storage.CodeNoFile,
	"sztp/dir":        storage.CodeNoFile,
	"sztp":            storage.CodeNoFile,
	"../etc/shadow":   storage.CodeLink,
	"sztp/../../good": storage.CodeLink,
	"/etc/shadow":     storage.CodeLink,
	"sztp/good\x00":   storage.CodeLink,
	"":                storage.CodeLink,
	"sztp/Good":       missing,
	"sztp/good/":      storage.CodeLink,
	"sztp/good/x":     missing,
	"nothing":         missing,
}

const missing reason.Code = "missing"

// wantRefused reads every file and wants it refused for the right reason.
func wantRefused(t *testing.T, v *storage.Volume) {
	t.Helper()
	before := descriptors(t)
	long := strings.Repeat("n", 300)
	if _, err := v.ReadFile(long+"/x", limit); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a name of %d bytes: %v", len(long), err)
	}
	for path, want := range hostileFiles {
		_, err := v.ReadFile(path, limit)
		got, fix := reason.Of(err)
		if errors.Is(err, fs.ErrNotExist) {
			got = missing
		}
		if got != want {
			t.Errorf("%q: got %q (%v), want %q", path, got, err, want)
		}
		if err != nil && want != missing && fix == "" {
			t.Errorf("%q: nothing to do about %v", path, err)
		}
		if got := v.Exists(path); got != (want != missing) {
			t.Errorf("Exists(%q) = %t", path, got)
		}
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors are open, before %d", after, before)
	}
}

// descriptors counts those that are open.
func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func TestHostileFiles(t *testing.T) { // R4.1-04
	v, err := storage.Folder(hostile(t))
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	wantRefused(t, v)
}

// TestOtherFileSystem: what is mounted below a folder is not part of it.
func TestOtherFileSystem(t *testing.T) {
	v, err := storage.Folder("/")
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	_, err = v.ReadFile("proc/version", limit)
	if code, _ := reason.Of(err); code != storage.CodeLink {
		t.Errorf("got %v", err)
	}
}

// TestUnknownSize: a file that is longer than the system says is still not read beyond the limit.
func TestUnknownSize(t *testing.T) {
	v, err := storage.Folder("/proc") // whose files have no size
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	_, err = v.ReadFile("version", 10)
	if code, _ := reason.Of(err); code != storage.CodeTooLarge {
		t.Errorf("got %v", err)
	}
}

// TestCharacterDevice: a node with the right number that is no block device is not read.
func TestCharacterDevice(t *testing.T) {
	system := &storage.System{Dev: "/dev"}
	if _, err := system.Mount(storage.Partition{Name: "null", Device: "1:3"}); !errors.Is(err, unix.ENOTBLK) {
		t.Errorf("got %v", err)
	}
}

// TestMount has the kernel mount an image with the same files, with device nodes and a crowded folder besides. Who may not
// mount is told what to do.
func TestMount(t *testing.T) { // R4.1-04
	if !sticks.Allowed() {
		wantNotAllowed(t)
		return
	}
	dir := hostile(t)
	if err := os.Truncate(filepath.Join(dir, "sztp/large"), limit+1); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]uint32{"null": unix.S_IFCHR, "disk": unix.S_IFBLK} {
		if err := unix.Mknod(filepath.Join(dir, "sztp", name), mode|0o666, int(unix.Mkdev(1, 3))); err != nil {
			t.Fatal(err)
		}
	}
	sticks.Write(t, dir, map[string][]byte{"crowd/0": nil})
	for i := range 1000 {
		if err := os.WriteFile(filepath.Join(dir, "crowd", strconv.Itoa(i)), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	disk := sticks.Insert(t, sticks.Image(t, dir))
	root := t.TempDir()
	disk.PlugInto(t, root, "sda")
	system := &storage.System{Sys: filepath.Join(root, "sys"), Dev: filepath.Join(root, "dev")}
	parts, err := system.Partitions(system.Disks()[0])
	if err != nil || len(parts) != 1 {
		t.Fatal(parts, err)
	}
	v, err := system.Mount(parts[0])
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	wantRefused(t, v)
	for _, node := range []string{"sztp/null", "sztp/disk"} {
		_, err := v.ReadFile(node, limit)
		if code, _ := reason.Of(err); code != storage.CodeNoFile {
			t.Errorf("%s: %v", node, err)
		}
	}
	if _, err := v.ReadFile("crowd/999", limit); err != nil {
		t.Error(err)
	}

	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), " "+disk.Device()+" ") {
		t.Errorf("it is mounted where others see it: %v", err)
	}
	f, err := v.Open("sztp/setuid")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	const want = unix.ST_RDONLY | unix.ST_NOSUID | unix.ST_NODEV | unix.ST_NOEXEC
	if st.Flags&want != want {
		t.Errorf("mounted with flags %#x", st.Flags)
	}
}

func wantNotAllowed(t *testing.T) {
	t.Helper()
	system := &storage.System{Dev: "/dev"}
	_, err := system.Partitions(&storage.Disk{Partition: storage.Partition{Name: "loop0", Device: "7:0"}})
	if code, fix := reason.Of(err); !strings.HasPrefix(string(code), "storage-") || fix == "" { // what the node lets one see differs
		t.Errorf("got %v, to do %q", err, fix)
	}
}

// TestUse covers what happens to a disk while it is in use: that of others is left alone; a file stays readable when the
// volume is closed; and the disk is free when the file is closed too.
func TestUse(t *testing.T) {
	if !sticks.Allowed() {
		wantNotAllowed(t)
		return
	}
	dir := t.TempDir()
	sticks.Write(t, dir, map[string][]byte{"images/os.img": bytes.Repeat([]byte("0123456789abcdef"), 1<<16)})
	image := sticks.Image(t, dir)
	disk := sticks.Insert(t, image)
	root := t.TempDir()
	disk.PlugInto(t, root, "sda")
	system := &storage.System{Sys: filepath.Join(root, "sys"), Dev: filepath.Join(root, "dev")}
	sda := system.Disks()[0]

	f, err := system.Files(sda.Partition).Open("images/os.img")
	if err != nil {
		t.Fatal(err)
	}
	_, err = system.Partitions(sda)
	if code, _ := reason.Of(err); code != storage.CodeInUse {
		t.Errorf("a disk that is mounted: %v", err)
	}
	if _, err := io.CopyN(io.Discard, f, 1000); err != nil {
		t.Error(err)
	}
	if err := os.Truncate(image, 4096); err != nil { // the stick is pulled out
		t.Fatal(err)
	}
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, f); !errors.Is(err, unix.EIO) {
		t.Errorf("read %d bytes of a stick that is gone: %v", n, err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	_, err = system.Partitions(sda)
	if code, _ := reason.Of(err); code != storage.CodeUnreadable {
		t.Errorf("the file system of a stick that is gone: %v", err)
	}
	if f, err := system.Files(sda.Partition).Open("images/other.img"); f != nil || err == nil {
		t.Errorf("opened %v of a stick that is gone: %v", f, err)
	}
	held, err := unix.Open(disk.Node(), unix.O_RDONLY|unix.O_EXCL|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("the disk is not free: %v", err)
	}
	defer unix.Close(held)
}

// TestNotWritten: a file system that was not unmounted, and wants the kernel to panic at its first error, is neither repaired
// nor obeyed.
func TestNotWritten(t *testing.T) {
	if !sticks.Allowed() {
		wantNotAllowed(t)
		return
	}
	image := sticks.Image(t, t.TempDir())
	if out, err := exec.Command("tune2fs", "-e", "panic", image).CombinedOutput(); err != nil {
		t.Fatalf("tune2fs: %v\n%s", err, out)
	}
	disk := sticks.Insert(t, image)
	root := t.TempDir()
	disk.PlugInto(t, root, "sda")
	system := &storage.System{Sys: filepath.Join(root, "sys"), Dev: filepath.Join(root, "dev")}
	v, err := system.Mount(system.Disks()[0].Partition)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	options, err := os.ReadFile(filepath.Join("/proc/fs/ext4", filepath.Base(disk.Node()), "options"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"ro", "norecovery", "errors=continue"} {
		if !slices.Contains(strings.Split(string(options), "\n"), want) {
			t.Errorf("mounted without %s:\n%s", want, options)
		}
	}
}

// TestNoFileSystem covers media that hold none, and nodes that are not what /sys says.
func TestNoFileSystem(t *testing.T) {
	if !sticks.Allowed() {
		wantNotAllowed(t)
		return
	}
	blank := filepath.Join(t.TempDir(), "blank")
	if err := os.WriteFile(blank, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	broken := filepath.Join(t.TempDir(), "broken") // nothing but the magic number
	if err := os.WriteFile(broken, append(append(make([]byte, 0x438), 0x53, 0xef), make([]byte, 1<<20)...), 0o600); err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	blankDisk, brokenDisk := sticks.Insert(t, blank), sticks.Insert(t, broken)
	blankDisk.PlugInto(t, root, "sda")
	brokenDisk.PlugInto(t, root, "sdb")
	system := &storage.System{Sys: filepath.Join(root, "sys"), Dev: filepath.Join(root, "dev")}
	disks := system.Disks()
	before := descriptors(t)

	_, err := system.Partitions(disks[0])
	if code, _ := reason.Of(err); code != storage.CodeFileSystem {
		t.Errorf("blank: %v", err)
	}
	_, err = system.Mount(disks[0].Partition)
	if code, _ := reason.Of(err); code != storage.CodeFileSystem {
		t.Errorf("blank, mounted: %v", err)
	}
	disks[0].Partitions = []storage.Partition{disks[1].Partition}
	if parts, err := system.Partitions(disks[0]); err != nil || !slices.Equal(parts, disks[0].Partitions) {
		t.Errorf("divided: %v, %v", parts, err)
	}
	parts, err := system.Partitions(disks[1])
	if err != nil || len(parts) != 1 {
		t.Fatal(parts, err)
	}
	_, err = system.Mount(parts[0])
	if code, _ := reason.Of(err); code != storage.CodeUnreadable {
		t.Errorf("broken: %v", err)
	}
	other := storage.Partition{Name: "sda", Device: disks[1].Device}
	if _, err = system.Mount(other); !errors.Is(err, unix.ENOTBLK) {
		t.Errorf("a node of another device: %v", err)
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors are open, before %d", after, before)
	}
}

// TestWatch: the kernel says that something has changed.
func TestWatch(t *testing.T) {
	changed := make(chan struct{}, 100)
	stop, err := storage.Watch(func() { changed <- struct{}{} }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	if !sticks.Allowed() {
		return // who cannot plug anything in is not told of others'; stopping must work all the same
	}
	sticks.Insert(t, sticks.Image(t, t.TempDir())).PlugInto(t, t.TempDir(), "sda")
	<-changed
}
