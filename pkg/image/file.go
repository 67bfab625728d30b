package image

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/url"
	"strings"
)

// readFile takes the image from removable storage, whose root is what both "file:images/os.img" and "file:///images/os.img"
// begin at.
func (f *fetch) readFile(ctx context.Context, m *mirror, u *url.URL) error {
	file, size, err := f.openFile(u)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := f.position(m, file, size); err != nil {
		return err
	}
	watched, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	err = f.receive(watched, cancel, contextReader{watched, file})
	var b *broken
	if errors.As(err, &b) { // storage that fails once fails again
		b.why.Fix = "leave the storage plugged in until the image is installed, or use another stick"
		return b.why
	}
	return err
}

// openFile opens a file of removable storage, and tells its size.
func (f *fetch) openFile(u *url.URL) (fs.File, int64, error) {
	unreadable := func(err error) error {
		return fail(CodeUnreachable, "the image cannot be read from removable storage", "check the path in the onboarding information", err)
	}
	path, err := url.PathUnescape(u.Opaque)
	if u.Opaque == "" {
		path = strings.TrimPrefix(u.Path, "/")
	}
	if err != nil {
		return nil, 0, unreadable(err)
	}
	file, err := f.request.Files.Open(path)
	if err != nil {
		return nil, 0, unreadable(err)
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "read", Path: u.Path, Err: errors.New("not a regular file")}
	}
	if err != nil {
		file.Close()
		return nil, 0, unreadable(err)
	}
	return file, info.Size(), nil
}

// position goes on behind what there is, if the file has as many bytes as the image.
func (f *fetch) position(m *mirror, file fs.File, size int64) error {
	if seeker, ok := file.(io.Seeker); ok && f.offset > 0 && size == f.total {
		if _, err := seeker.Seek(f.offset, io.SeekStart); err == nil {
			return f.goOn(m, size, "")
		}
	}
	return f.begin(m, size, "")
}

// contextReader makes reading a file cancellable between reads.
type contextReader struct {
	ctx context.Context
	io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.Reader.Read(p)
}
