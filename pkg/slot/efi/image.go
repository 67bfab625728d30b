package efi

import (
	"context"
	"path/filepath"
	"strings"

	"github.com/xpu-sztp/ztp/pkg/slot"
)

// Place returns the file of a slot's image, wherever it is. Disarm gives it a name that nothing starts and keeps the content,
// so that a file that was opened before stays the right one.
func (i Images) Place(ctx context.Context, target string) (string, error) {
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	found, err := i.find()
	if err != nil {
		return "", err
	}
	of := found.of(target)
	if of == nil {
		return "", unknown(target)
	}
	file := of.hidden()
	if image, _ := pick(of); image != nil {
		file = image.file
	}
	return filepath.Join(found.dir, file), nil
}

// pick tells which of a slot's files is its image, nil when none is, and which others there are: what a power cut amid a rename
// has left, by systemd-boot or by us. One that has a name that systemd-boot finds was complete.
func pick(of *files) (image *file, others []*file) {
	for _, f := range of.all() {
		if image == nil || f.before(image) {
			image = f
		}
	}
	for _, f := range of.all() {
		if f != image {
			others = append(others, f)
		}
	}
	return image, others
}

// before reports whether a file of a slot is more likely what it was meant to be: one with content, with a name that
// systemd-boot finds, without a counter, or with more tries left.
func (f *file) before(other *file) bool {
	if a, b := f.doubt(), other.doubt(); a != b {
		return a < b
	}
	return f.left > other.left || f.left == other.left && f.file < other.file
}

func (f *file) doubt() int {
	switch {
	case f.size == 0:
		return 3
	case f.suffix == "": // the hidden one
		return 2
	case f.counted:
		return 1
	}
	return 0
}

// moveImage gives the image of a slot a name, and no other one. A slot without an image may have no name, but a hidden one.
func (l *Loader) moveImage(s *scene, of *files, want string) error {
	image, others := pick(of)
	hide := want == of.hidden()
	if image == nil && hide {
		return nil
	}
	if image == nil || (image.size == 0 && !hide) {
		return fail(slot.CodeNotReady, "slot "+of.slot+" has no image that could start: no "+of.plain()+", or an empty one",
			"have an image installed once more; what removed it may be in the journal", nil)
	}
	// What is in the way of the new name goes as well.
	if err := l.remove(s, image.file, others); err != nil {
		return err
	}
	if !strings.EqualFold(image.file, want) {
		if err := l.opts.FS.Rename(filepath.Join(s.dir, image.file), filepath.Join(s.dir, want)); err != nil {
			return unwritten(err)
		}
	} else {
		want = image.file
	}
	// Also what an interrupted earlier call has renamed.
	return l.sync(s, want)
}
