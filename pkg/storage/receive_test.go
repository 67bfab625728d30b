package storage

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/xpu-sztp/ztp/pkg/reason"
)

// TestForgedEvent: who is not the kernel is not believed, whatever the message says.
func TestForgedEvent(t *testing.T) {
	socket := func() int {
		fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			t.Fatal(err)
		}
		return fd
	}
	listener, forger := socket(), socket()
	to, err := unix.Getsockname(listener)
	if err != nil {
		t.Fatal(err)
	}
	message := []byte("add@/devices/x/block/sdz\x00ACTION=add\x00SUBSYSTEM=block\x00")
	if !AboutBlocks(message) {
		t.Fatal("the message is not what a forger would send")
	}
	if err := unix.Sendto(forger, message, 0, to); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, maxUevent)
	if blocks, err := receive(listener, buf); blocks || err != nil || !bytes.HasPrefix(buf, message) {
		t.Errorf("believed %t: %v", blocks, err)
	}
}

// TestUnreadable says what to do about each error of the system.
func TestUnreadable(t *testing.T) {
	for errno, want := range map[unix.Errno]struct {
		code reason.Code
		fix  string
	}{
		unix.EBUSY:  {CodeInUse, "unmount"},
		unix.EPERM:  {CodeUnreadable, "root"},
		unix.EACCES: {CodeUnreadable, "root"},
		unix.ENOSYS: {CodeUnreadable, "Linux 5.6"},
		unix.EIO:    {CodeUnreadable, "another stick"},
	} {
		err := unreadable("sda", errno)
		if err.Code != want.code || !strings.Contains(err.Fix, want.fix) || !errors.Is(err, errno) {
			t.Errorf("%v: %v, to do: %s", errno, err, err.Fix)
		}
	}
}

// TestOptions: plain ISO 9660 has names in upper case only, and Linux takes case seriously unless asked not to.
func TestOptions(t *testing.T) {
	if got := options("iso9660"); !slices.Equal(got, [][2]string{{"check", "relaxed"}}) {
		t.Errorf("iso9660 is mounted with %v", got)
	}
}

// TestMessage: what a file system says of its failure is told, within bounds and as text.
func TestMessage(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if _, err := w.WriteString("e vfat: \xff" + strings.Repeat("x", 1000)); err != nil {
		t.Fatal(err)
	}
	got := withMessage(int(r.Fd()), unix.EINVAL)
	if want := "invalid argument (e vfat: ?" + strings.Repeat("x", 191) + ")"; got.Error() != want || !errors.Is(got, unix.EINVAL) {
		t.Errorf("got %v", got)
	}
}
