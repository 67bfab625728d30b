package slot

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/xpu-sztp/ztp/pkg/durable"
)

// The slots and the text files of the back end "file".
const (
	slotA = "a"
	slotB = "b"

	fileRunning = "running"
	fileGood    = "good"
	fileNext    = "next"
)

// File is the back end "file". Its folder holds:
//
//	a.img, b.img        the contents of the slots
//	a.sha256, b.sha256  the digest of a complete, verified image, as sha256sum writes it; absent while a slot is written
//	running             the slot that the boot loader started, "a" or "b"
//	good                the slot that is started unless next says otherwise
//	next                the slot to try once at the next boot; absent when there is none
//
// A text file holds one line and is replaced as a whole. Where running or good is absent it reads as "a": a folder that
// holds only a.img is a device fresh from the factory. The slot that good names is never written to, so that at every
// instant one complete image is bootable. The boot loader (Boot) removes next before it starts the slot that it names.
type File struct{ dir string }

var _ Backend = (*File)(nil)

// NewFile returns the back end for the slots in dir, which is created when it is first written to.
func NewFile(dir string) *File { return &File{dir} }

// Describe reads the folder.
func (f *File) Describe(context.Context) (Description, error) {
	var d Description
	var err error
	if d.Running, err = f.slot(fileRunning, slotA); err != nil {
		return d, err
	}
	if d.Good, err = f.slot(fileGood, slotA); err != nil {
		return d, err
	}
	if d.Next, err = f.slot(fileNext, ""); err != nil {
		return d, err
	}
	d.Target = other(d.Running)
	d.Contents = map[string]Image{}
	for _, name := range []string{slotA, slotB} {
		image, err := f.content(name)
		if err != nil {
			return d, err
		}
		if image != nil {
			d.Contents[name] = *image
		}
	}
	return d, nil
}

// Open opens the slot that neither runs nor is the good one.
func (f *File) Open(ctx context.Context) (Writer, error) {
	d, err := f.Describe(ctx)
	if err != nil {
		return nil, err
	}
	if d.Target == d.Good {
		return nil, fail(CodeInTrial, fmt.Sprintf("slot %s is on trial and slot %s is the only one to fall back to", d.Running, d.Good),
			"reboot the device: it returns to slot "+d.Good+" and can install from there", nil)
	}
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return nil, unavailable(err)
	}
	// In this order, so that at no instant an incomplete slot is the next one or claims to be complete.
	for _, name := range []string{fileNext, digestFile(d.Target)} {
		if err := f.remove(name); err != nil {
			return nil, err
		}
	}
	out, err := os.OpenFile(f.path(imageFile(d.Target)), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, unavailable(err)
	}
	return &fileWriter{backend: f, slot: d.Target, file: out}, nil
}

// Activate names the inactive slot in the file next.
func (f *File) Activate(ctx context.Context) error {
	d, err := f.Describe(ctx)
	if err != nil {
		return err
	}
	if _, ok := d.Contents[d.Target]; !ok {
		return fail(CodeNotReady, "slot "+d.Target+" holds no verified image", "install an image first", nil)
	}
	return f.write(fileNext, d.Target)
}

// Deactivate removes the file next.
func (f *File) Deactivate(context.Context) error { return f.remove(fileNext) }

// MarkGood names the running slot in the file good.
func (f *File) MarkGood(ctx context.Context) error {
	d, err := f.Describe(ctx)
	if err != nil || !d.Trial() {
		return err
	}
	return f.write(fileGood, d.Running)
}

// content returns the committed image in a slot, or nil. A factory image has no digest beside it and is not known here.
func (f *File) content(name string) (*Image, error) {
	line, err := f.read(digestFile(name))
	if err != nil || line == "" {
		return nil, err
	}
	digest, _, _ := strings.Cut(line, " ")
	sum, err := hex.DecodeString(digest)
	if err != nil || len(sum) != 32 {
		return nil, nil // whatever it is, it does not say that the image is complete
	}
	info, err := os.Stat(f.path(imageFile(name)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, unavailable(err)
	}
	return &Image{SHA256: sum, Size: info.Size()}, nil
}

// slot reads a text file that names a slot.
func (f *File) slot(file, absent string) (string, error) {
	name, err := f.read(file)
	switch {
	case err != nil:
		return "", err
	case name == "":
		return absent, nil
	case name != slotA && name != slotB:
		return "", fail(CodeUnavailable, fmt.Sprintf("%s names the slot %.16q", f.path(file), name), `it must say "a" or "b"`, nil)
	}
	return name, nil
}

// read returns the line in a text file, or "" when there is none.
func (f *File) read(name string) (string, error) {
	b, err := os.ReadFile(f.path(name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", unavailable(err)
	}
	return string(bytes.TrimSpace(b)), nil
}

// write replaces a text file so that a power cut leaves the old line or the new one.
func (f *File) write(name, line string) error {
	if err := durable.WriteFile(durable.OS{}, f.path(name), []byte(line+"\n"), 0o600, nil); err != nil {
		return fail(CodeWriteFailed, "cannot record the state of the slots", "check the storage", err)
	}
	return nil
}

// remove removes a text file for good; it may be absent.
func (f *File) remove(name string) error {
	if err := durable.Remove(durable.OS{}, f.path(name)); err != nil {
		return fail(CodeWriteFailed, "cannot record the state of the slots", "check the storage", err)
	}
	return nil
}

func (f *File) path(name string) string { return filepath.Join(f.dir, name) }

func imageFile(slot string) string  { return slot + ".img" }
func digestFile(slot string) string { return slot + ".sha256" }

func other(slot string) string {
	if slot == slotA {
		return slotB
	}
	return slotA
}

func unavailable(err error) error {
	return fail(CodeUnavailable, "the image slots cannot be used", "check image.slots in the configuration and the storage", err)
}
