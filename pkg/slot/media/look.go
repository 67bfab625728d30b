package media

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Look returns how large an image may be, in bytes, and refuses what Open would refuse, as far as that shows without opening the
// place for writing. It changes nothing.
func (p Place) Look() (capacity int64, err error) {
	s, err := p.System.subject(p.Path)
	if err != nil {
		return 0, err
	}
	if err := p.System.free(s); err != nil {
		return 0, err
	}
	if s.info == nil {
		_, all, err := room(existing(filepath.Dir(s.path)))
		return p.limited(all), err
	}
	return p.size(s)
}

// Size returns how large an image in the place could be, in bytes, whoever uses it.
func (p Place) Size() (int64, error) {
	s, err := p.System.subject(p.Path)
	if err != nil || s.info == nil {
		return 0, err
	}
	return p.size(s)
}

func (p Place) size(s subject) (int64, error) {
	if !s.device {
		_, all, err := room(filepath.Dir(s.path))
		return p.limited(all), err
	}
	f, err := os.OpenFile(s.path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return 0, openError(p.Path, err)
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, unavailable(p.Path, err)
	}
	return p.limited(size), nil
}

// limited is a size within what the configuration allows.
func (p Place) limited(size int64) int64 {
	if p.MaxSize > 0 {
		return min(size, p.MaxSize)
	}
	return size
}

// existing is a folder, or the closest one above it that there is.
func existing(folder string) string {
	for {
		if _, err := os.Stat(folder); !errors.Is(err, fs.ErrNotExist) || folder == filepath.Dir(folder) {
			return folder
		}
		folder = filepath.Dir(folder)
	}
}
