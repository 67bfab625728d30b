package efi

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/xpu-sztp/ztp/pkg/slot"
)

// maxEntry is the size of the largest description of an entry that is looked at, in bytes.
const maxEntry = 64 << 10

// describes reports whether a text is a complete description of something to start.
func describes(text []byte) bool {
	return len(text) <= maxEntry && utf8.Valid(text) && bytes.IndexByte(text, 0) < 0 && len(starts(text)) > 0
}

// starts returns what a description would have started: the values of those of its keys, without what is from elsewhere, which
// is "".
func starts(text []byte) (paths []string) {
	for _, line := range strings.FieldsFunc(string(text), func(r rune) bool { return r == '\n' || r == '\r' }) {
		line = strings.TrimSpace(line)
		at := strings.IndexAny(line, " \t")
		if at < 0 {
			continue
		}
		switch line[:at] {
		case "linux", "efi", "uki":
			paths = append(paths, strings.TrimSpace(line[at:]))
		case "uki-url":
			paths = append(paths, "")
		}
	}
	return paths
}

// startable refuses an entry that names nothing on the partition: systemd-boot passes over it, and would start another one.
func (l *Loader) startable(s *scene, of *files) error {
	if of.suffix == suffixUKI {
		return nil
	}
	text, err := l.original(s, of)
	if err != nil {
		return err
	}
	partition := filepath.Dir(filepath.Dir(s.dir))
	var missing error
	for _, path := range starts(text) {
		path = strings.ReplaceAll(path, `\`, "/")
		if _, missing = os.Stat(filepath.Join(partition, filepath.Clean("/"+path))); missing == nil {
			return nil
		}
	}
	return fail(CodeEntry, "the boot entry of slot "+of.slot+" names what is not on the partition",
		"put the kernel there, or correct its path in "+filepath.Join(s.dir, of.plain()), missing)
}

// whole reports whether a text is a description, and not what a power cut has left of the one that was to be written.
func whole(text, intended []byte) bool {
	return describes(text) && (len(text) >= len(intended) || !bytes.HasPrefix(intended, text))
}

// copyEntry gives a slot's entry one name that systemd-boot finds, or none when that is the hidden one. The copy under the hidden
// name stays.
func (l *Loader) copyEntry(s *scene, of *files, want string) error {
	text, err := l.original(s, of)
	if err != nil {
		return err
	}
	var others []*file
	for _, f := range of.visible {
		if strings.EqualFold(f.file, want) {
			want = f.file
		} else {
			others = append(others, f)
		}
	}
	if err := l.writeEntry(s, want, text); err != nil {
		return err
	}
	return l.remove(s, want, others)
}

// original returns the description of a slot's entry, of which there is a copy with a hidden name. What the vendor or an
// administrator has put in its place since is copied anew.
func (l *Loader) original(s *scene, of *files) ([]byte, error) {
	saved, err := readEntry(s.dir, of.hidden())
	if err != nil {
		return nil, err
	}
	var best []byte
	var from *file
	for _, f := range of.visible {
		text, err := readEntry(s.dir, f.file)
		if err != nil {
			return nil, err
		}
		// With a counter it is a copy, unless there is nothing that it could be a copy of.
		if whole(text, saved) && (!f.counted || !describes(saved)) && (from == nil || f.before(from)) {
			best, from = text, f
		}
	}
	if from != nil {
		return best, l.writeEntry(s, of.hidden(), best)
	}
	if !describes(saved) {
		return nil, fail(CodeEntry, "slot "+of.slot+" has no boot entry",
			"put its description at "+filepath.Join(s.dir, of.plain())+" again", nil)
	}
	return saved, nil
}

// readEntry reads a description; one that does not exist is empty, and one that is too large has a byte too much.
func readEntry(dir, name string) ([]byte, error) {
	f, err := os.Open(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, unreadable(err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxEntry+1))
	if err != nil {
		return nil, unreadable(err)
	}
	return text, nil
}

// writeEntry writes a description, durably, unless it is there. It is not written under another name first, as a rename is no
// less risky: what matters lies elsewhere as well, and nothing asks for this name yet.
func (l *Loader) writeEntry(s *scene, file string, text []byte) error {
	have, err := readEntry(s.dir, file)
	if err != nil {
		return err
	}
	if bytes.Equal(have, text) {
		return l.sync(s, file)
	}
	path := filepath.Join(s.dir, file)
	if err = l.overwrite(path, text); err == nil {
		if err = sameEntry(s.dir, file, text); err == nil {
			err = l.sync(s, file)
		}
	}
	if err != nil {
		// What could not be forced to the storage is shown all the same, until the power fails.
		_ = l.opts.FS.Remove(path)
	}
	return err
}

func (l *Loader) overwrite(path string, text []byte) error {
	f, err := l.opts.FS.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return unwritten(err)
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Close()); err != nil {
		return unwritten(err)
	}
	return nil
}

func sameEntry(dir, file string, text []byte) error {
	have, err := readEntry(dir, file)
	if err == nil && !bytes.Equal(have, text) {
		err = fail(slot.CodeReadBack, fmt.Sprintf("%s holds %d bytes, not the %d that were written", file, len(have), len(text)),
			"check the EFI system partition; its storage may be failing", nil)
	}
	return err
}

// shareContent reports whether two names are of the same content: of one file, or of two that FAT, damaged by a power cut, has
// begin in the same cluster. Asking for that takes CAP_SYS_RAWIO; without it the answer is that they do not. A name that does
// not exist shares nothing.
func shareContent(one, other string) (bool, error) {
	a, err := os.Open(one)
	if err == nil {
		defer a.Close()
		var b *os.File
		if b, err = os.Open(other); err == nil {
			defer b.Close()
			return sameStart(a, b)
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return false, err
}

func sameStart(a, b *os.File) (bool, error) {
	infoA, err := a.Stat()
	if err != nil {
		return false, err
	}
	infoB, err := b.Stat()
	if err != nil || infoA.IsDir() || infoB.IsDir() {
		return false, err
	}
	const fibmap = 1 // FIBMAP of linux/fs.h: block 0 of the file in, its place on the device out
	startA, errA := unix.IoctlGetUint32(int(a.Fd()), fibmap)
	startB, errB := unix.IoctlGetUint32(int(b.Fd()), fibmap)
	return os.SameFile(infoA, infoB) || (errA == nil && errB == nil && startA == startB && startA != 0), nil
}
