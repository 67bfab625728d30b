// Package sticks makes removable storage for tests: ext4 images, loop devices as disks, and what /sys and /dev below a device's
// own root say of them. Only root outside of user namespaces may mount them; Allowed tells, so that a test can want the
// agent's explanation instead.
package sticks

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Allowed reports whether this process may mount block devices.
func Allowed() bool {
	ids, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && os.Geteuid() == 0 && strings.Join(strings.Fields(string(ids)), " ") == "0 0 4294967295"
}

// Write writes files, by their path below folder.
func Write(t testing.TB, folder string, files map[string][]byte) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// Image makes an ext4 file system of a folder's content and returns its file.
func Image(t testing.TB, folder string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "stick.img")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 64<<20); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("mke2fs", "-q", "-t", "ext4", "-F", "-d", folder, file)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("sticks: mke2fs: %v\n%s", err, out)
	}
	return file
}

// Disk is a loop device.
type Disk struct {
	Number int // of /dev/loopNUMBER
	minor  uint32
	loop   *os.File
}

// Insert makes a disk of an image. It lasts until the test ends.
func Insert(t testing.TB, image string) *Disk {
	t.Helper()
	back, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		t.Fatal("sticks:", err)
	}
	defer control.Close()
	for { // somebody else may take the number meanwhile
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			t.Fatal("sticks: get a loop device:", err)
		}
		loop, err := os.OpenFile("/dev/loop"+strconv.Itoa(n), os.O_RDWR, 0)
		if err != nil {
			t.Fatal("sticks:", err)
		}
		config := &unix.LoopConfig{Fd: uint32(back.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}}
		if err = unix.IoctlLoopConfigure(int(loop.Fd()), config); err == unix.EBUSY {
			loop.Close()
			continue
		}
		if err != nil {
			t.Fatal("sticks: configure a loop device:", err)
		}
		var st unix.Stat_t
		if err := unix.Fstat(int(loop.Fd()), &st); err != nil {
			t.Fatal(err)
		}
		d := &Disk{Number: n, minor: unix.Minor(st.Rdev), loop: loop}
		t.Cleanup(func() { loop.Close() })
		return d
	}
}

// Node is the disk's device node.
func (d *Disk) Node() string { return d.loop.Name() }

// Device is its number as /sys writes it.
func (d *Disk) Device() string { return fmt.Sprintf("7:%d", d.minor) }

// PlugInto has the machine below root see the disk as the removable disk called name, and returns how to pull it out.
func (d *Disk) PlugInto(t testing.TB, root, name string) (pull func()) {
	t.Helper()
	folder := filepath.Join(root, "sys/block", name)
	Write(t, folder, map[string][]byte{"removable": []byte("1\n"), "size": []byte("131072\n"), "dev": []byte(d.Device() + "\n")})
	node := filepath.Join(root, "dev", name)
	if err := os.MkdirAll(filepath.Dir(node), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(d.Node(), node); err != nil {
		t.Fatal(err)
	}
	d.announce(t)
	return func() {
		if err := os.RemoveAll(folder); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(node); err != nil {
			t.Fatal(err)
		}
		d.announce(t)
	}
}

// announce has the kernel say that something is new about the disk.
func (d *Disk) announce(t testing.TB) {
	t.Helper()
	if err := os.WriteFile(fmt.Sprintf("/sys/block/loop%d/uevent", d.Number), []byte("change"), 0); err != nil {
		t.Fatal(err)
	}
}
