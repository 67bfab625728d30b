package media

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// subject is what a path was found to be.
type subject struct {
	path   string // without symbolic links
	device bool
	number string      // of a device, as /sys writes it: "8:1"
	info   fs.FileInfo // nil for a file that does not exist yet
}

// subject follows the path once. Whatever is done afterwards is done to what was found.
func (y System) subject(path string) (subject, error) {
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		return newFile(path, err)
	}
	if err != nil {
		return subject{}, unavailable(path, err)
	}
	info, err := os.Lstat(real)
	if err != nil {
		return subject{}, unavailable(path, err)
	}
	s := subject{path: real, info: info}
	s.number, s.device = deviceNumber(info)
	if !s.device && !info.Mode().IsRegular() {
		return subject{}, unavailable(path, errors.New("it is neither a block device nor a regular file"))
	}
	return s, nil
}

// newFile accepts a file that is yet to be made, but not in place of a device or of what a link is to lead to.
func newFile(path string, err error) (subject, error) {
	_, dangling := os.Lstat(path)
	if dangling == nil || strings.HasPrefix(filepath.Clean(path), "/dev/") {
		return subject{}, unavailable(path, err)
	}
	return subject{path: filepath.Clean(path)}, nil
}

func deviceNumber(info fs.FileInfo) (number string, device bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || info.Mode()&(fs.ModeDevice|fs.ModeCharDevice) != fs.ModeDevice {
		return "", false
	}
	return fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev)), true
}

// free refuses what something else uses.
func (y System) free(s subject) error {
	if s.device {
		folder, err := y.folder(s.number)
		if err != nil {
			return unavailable(s.path, err)
		}
		if attribute(folder, "ro") == "1" {
			return fail(CodeReadOnly, s.path+" is read-only", "check for write protection", nil)
		}
	}
	use, err := y.use(s)
	if err != nil {
		return fail(CodeUnavailable, "cannot tell whether "+s.path+" is in use", "mount /proc and /sys", err)
	}
	if use != "" {
		return fail(CodeInUse, fmt.Sprintf("%s must not be overwritten: %s", s.path, use),
			"check the configuration of the slots, or free the device", nil)
	}
	return nil
}

// use says what uses the place, or a device with which it has blocks in common. It returns "" when nothing is known to.
func (y System) use(s subject) (string, error) {
	mounts, err := y.lines("self/mountinfo")
	if err != nil {
		return "", err
	}
	for _, line := range mounts {
		m, ok := parseMount(line)
		if ok && s.device && (y.overlaps(s, m.device) || y.touches(s, m.source)) {
			return "it is mounted on " + m.point, nil
		}
	}
	swaps, err := y.lines("swaps")
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // a kernel without swapping
		return "", err
	}
	for _, line := range swaps[min(1, len(swaps)):] {
		if name, _, _ := strings.Cut(line, " "); y.touches(s, unescape(name)) {
			return "it is used as swap", nil
		}
	}
	loops, _ := filepath.Glob(filepath.Join(y.sys(), "block/loop*/loop/backing_file"))
	for _, file := range loops {
		if y.touches(s, attribute(filepath.Dir(file), "backing_file")) {
			return "it is what the device " + filepath.Base(filepath.Dir(filepath.Dir(file))) + " reads and writes", nil
		}
	}
	for _, number := range y.family(s) {
		if folder, err := y.folder(number); err == nil {
			holders, _ := os.ReadDir(filepath.Join(folder, "holders"))
			for _, h := range holders {
				return "it is part of the device " + h.Name(), nil
			}
		}
	}
	return "", nil
}

// mount is a line of mountinfo (proc_pid_mountinfo(5)).
type mount struct{ device, point, source string }

func parseMount(line string) (mount, bool) {
	before, after, found := strings.Cut(line, " - ")
	fields, more := strings.Fields(before), strings.Fields(after)
	if !found || len(fields) < 5 || len(more) < 2 {
		return mount{}, false
	}
	return mount{device: fields[2], point: unescape(fields[4]), source: unescape(more[1])}, true
}

// unescape undoes how the kernel writes white space in names.
func unescape(name string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(name)
}

// touches reports whether a path that the kernel names is the place, or a device with which it has blocks in common. Some
// file systems, such as btrfs, are mounted with a number that is no device's.
func (y System) touches(s subject, path string) bool {
	if !filepath.IsAbs(path) {
		return false
	}
	info, err := os.Stat(path)
	if err != nil {
		return false
	}
	number, device := deviceNumber(info)
	return y.common(s, subject{path: path, device: device, number: number, info: info})
}

func (y System) common(a, b subject) bool {
	switch {
	case a.device != b.device:
		return false
	case a.device:
		return y.overlaps(a, b.number)
	case a.info == nil || b.info == nil:
		return a.path == b.path
	}
	return os.SameFile(a.info, b.info)
}

// overlaps reports whether a device, by its number as /sys writes it, has blocks in common with the place.
func (y System) overlaps(s subject, number string) bool {
	return s.device && slices.Contains(y.family(s), number)
}

// family is the device itself, the disk that it is a partition of, and its own partitions.
func (y System) family(s subject) []string {
	if !s.device {
		return nil
	}
	numbers := []string{s.number}
	folder, err := y.folder(s.number)
	if err != nil {
		return numbers
	}
	related := []string{filepath.Dir(folder)}
	if attribute(folder, "partition") == "" {
		partitions, _ := filepath.Glob(filepath.Join(folder, "*/partition"))
		related = related[:0]
		for _, p := range partitions {
			related = append(related, filepath.Dir(p))
		}
	}
	for _, r := range related {
		if number := attribute(r, "dev"); number != "" {
			numbers = append(numbers, number)
		}
	}
	return numbers
}

// identities are attributes of a disk that stay the same over reboots, relative to its folder.
var identities = []string{"wwid", "device/wwid", "device/cid", "serial", "device/serial", "dm/uuid", "md/uuid", "loop/backing_file"}

// identity is made of what is known of a device. Its number is part of it only where nothing better is: numbers are given in
// the order in which disks are found.
func (y System) identity(s subject) string {
	folder, err := y.folder(s.number)
	if err != nil {
		return s.number
	}
	disk, known := folder, "device "+s.number
	if attribute(folder, "partition") != "" {
		disk = filepath.Dir(folder)
	}
	for _, name := range identities {
		if value := attribute(disk, name); value != "" {
			known = value
			break
		}
	}
	uuid := ""
	for line := range strings.Lines(attribute(folder, "uevent")) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "PARTUUID="); ok {
			uuid = value
		}
	}
	return fmt.Sprintf("%.200s, %s sectors from %s %s", known, attribute(folder, "size"), attribute(folder, "start"), uuid)
}

// folder is what /sys says of a device.
func (y System) folder(number string) (string, error) {
	return filepath.EvalSymlinks(filepath.Join(y.sys(), "dev/block", number))
}

func (y System) lines(file string) ([]string, error) {
	f, err := os.Open(filepath.Join(y.proc(), file))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var list []string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		list = append(list, lines.Text())
	}
	return list, lines.Err()
}

func (y System) proc() string {
	if y.Proc == "" {
		return "/proc"
	}
	return y.Proc
}

func (y System) sys() string {
	if y.Sys == "" {
		return "/sys"
	}
	return y.Sys
}

// attribute returns what a file of /sys says, or "".
func attribute(folder, name string) string {
	f, err := os.Open(filepath.Join(folder, name))
	if err != nil {
		return ""
	}
	defer f.Close()
	b, _ := io.ReadAll(io.LimitReader(f, 4096))
	return strings.TrimSpace(string(b))
}
