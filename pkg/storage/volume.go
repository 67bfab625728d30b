package storage

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/xpu-sztp/ztp/pkg/reason"
)

// Partitions returns those parts of the disk that may hold a file system: the whole disk when it begins with one, or else what
// it is divided into. There are none on a disk of which the system itself uses anything, or in an empty drive.
func (s *System) Partitions(d *Disk) ([]Partition, error) {
	// A disk whose partition is mounted, or is swap space, or belongs to a RAID, cannot be had exclusively.
	fd, err := s.open(d.Partition, unix.O_EXCL)
	if errors.Is(err, unix.ENOMEDIUM) {
		return nil, nil
	}
	if err != nil {
		return nil, unreadable(d.Name, err)
	}
	filesystem, err := probe(fd)
	unix.Close(fd)
	switch {
	case err != nil:
		return nil, unreadable(d.Name, err)
	case filesystem != "":
		return []Partition{d.Partition}, nil
	case len(d.Partitions) == 0:
		return nil, unknown(d.Name)
	}
	return d.Partitions, nil
}

// open opens the node of a block device, if it is the one that /sys speaks of.
func (s *System) open(p Partition, flags int) (fd int, err error) {
	fd, err = unix.Open(s.node(p), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC|flags, 0)
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil {
		number := fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
		if st.Mode&unix.S_IFMT == unix.S_IFBLK && number == p.Device {
			return fd, nil
		}
		err = unix.ENOTBLK
	}
	unix.Close(fd)
	return -1, err
}

func (s *System) node(p Partition) string { return filepath.Join(s.Dev, p.Name) }

// probe names the file system on an open device, or nothing.
func probe(fd int) (string, error) {
	start, n := make([]byte, probed), 0
	for n < len(start) {
		m, err := unix.Pread(fd, start[n:], int64(n))
		if err != nil && err != unix.EINTR {
			return "", err
		}
		if m == 0 && err == nil {
			break
		}
		n += max(m, 0)
	}
	return FileSystem(start[:n]), nil
}

// Volume is a mounted file system that nobody else sees: it has no place in any tree of files, and goes with its last open
// file. Nothing on it is executed, no device node on it works, and it is not written to.
type Volume struct {
	Name string // of its partition
	root int
	open func(path string) (*os.File, error) // instead, where it is mounted elsewhere
}

// Elsewhere returns a volume that another process has mounted, which opens its files.
func Elsewhere(name string, open func(path string) (*os.File, error)) *Volume {
	return &Volume{Name: name, root: -1, open: open}
}

// Mount mounts the file system on a partition. The caller closes it.
func (s *System) Mount(p Partition) (*Volume, error) {
	fd, err := s.open(p, 0)
	if err != nil {
		return nil, unreadable(p.Name, err)
	}
	filesystem, err := probe(fd)
	unix.Close(fd)
	if err != nil {
		return nil, unreadable(p.Name, err)
	}
	if filesystem == "" {
		return nil, unknown(p.Name)
	}
	root, err := attach(s.node(p), filesystem)
	if errors.Is(err, unix.ENODEV) {
		return nil, &reason.Error{Code: CodeFileSystem, Msg: fmt.Sprintf("%s: this kernel cannot read %s", p.Name, filesystem),
			Fix: "use a stick with another file system, or load the kernel's module for it", Err: err}
	}
	if err != nil {
		return nil, unreadable(p.Name+", "+filesystem+",", err)
	}
	return &Volume{Name: p.Name, root: root}, nil
}

// attach returns a descriptor of the root of the file system.
func attach(node, filesystem string) (root int, err error) {
	fsfd, err := unix.Fsopen(filesystem, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fsfd)
	set := func(key, value string) {
		if err == nil && value == "" {
			err = unix.FsconfigSetFlag(fsfd, key)
		} else if err == nil {
			err = unix.FsconfigSetString(fsfd, key, value)
		}
	}
	set("source", node)
	set("ro", "")
	for _, o := range options(filesystem) {
		set(o[0], o[1])
	}
	if err == nil {
		err = unix.FsconfigCreate(fsfd)
	}
	if err != nil {
		return -1, withMessage(fsfd, err)
	}
	return unix.Fsmount(fsfd, unix.FSMOUNT_CLOEXEC,
		unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
}

// withMessage adds what the file system says of its failure.
func withMessage(fsfd int, err error) error {
	buf := make([]byte, 200)
	if n, _ := unix.Read(fsfd, buf); n > 0 {
		return fmt.Errorf("%w (%s)", err, strings.ToValidUTF8(strings.TrimSpace(string(buf[:n])), "?"))
	}
	return err
}

// Close gives the file system up. Files that are open stay readable.
func (v *Volume) Close() error {
	if v.open != nil {
		return nil
	}
	return unix.Close(v.root)
}

var errNoFile = errors.New("no regular file")

// Open opens a regular file by its path below the root. No symbolic link is followed, not even to a place on the volume. The
// error is fs.ErrNotExist when there is no such file.
func (v *Volume) Open(path string) (*os.File, error) {
	if v.open != nil {
		return v.open(path)
	}
	fd, err := v.openat(path, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = errNoFile
	}
	if err != nil {
		unix.Close(fd)
		return nil, refused(path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// Exists reports whether there is anything at path.
func (v *Volume) Exists(path string) bool {
	if v.open != nil {
		f, err := v.open(path)
		if err == nil {
			f.Close()
		}
		return !errors.Is(err, fs.ErrNotExist)
	}
	fd, err := v.openat(path, unix.O_PATH)
	if err == nil {
		unix.Close(fd)
	}
	return !errors.Is(err, fs.ErrNotExist)
}

func (v *Volume) openat(path string, flags uint64) (fd int, err error) {
	if !fs.ValidPath(path) || strings.ContainsRune(path, 0) {
		return -1, refused(path, unix.EXDEV)
	}
	how := unix.OpenHow{
		Flags:   flags | unix.O_CLOEXEC | unix.O_NOFOLLOW,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	}
	fd, err = unix.Openat2(v.root, path, &how)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ENAMETOOLONG):
		return -1, fs.ErrNotExist
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.ENXIO): // a device node or a socket: no file system here has permissions for root
		return -1, refused(path, errNoFile)
	case err != nil:
		return -1, refused(path, err)
	}
	return fd, nil
}

// ReadFile returns the content of a file of at most limit bytes.
func (v *Volume) ReadFile(path string, limit int64) ([]byte, error) {
	f, err := v.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > limit {
		return nil, tooLarge(path, limit)
	}
	content, err := io.ReadAll(io.LimitReader(f, limit+1))
	switch {
	case err != nil:
		return nil, unreadable(path, err)
	case int64(len(content)) > limit:
		return nil, tooLarge(path, limit)
	}
	return content, nil
}

// Folder returns a folder of a file system that is mounted already as a volume. Only what its methods see to is as safe there.
func Folder(path string) (*Volume, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return &Volume{Name: filepath.Base(path), root: fd}, nil
}
