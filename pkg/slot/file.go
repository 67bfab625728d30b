package slot

import (
	"context"
	"fmt"
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

// NewFile returns the back end "file". Its folder, o.Dir, is made when it is first written to. It holds:
//
//	a.img, b.img        the contents of the slots
//	a.sha256, b.sha256  the records of complete, verified images, absent while a slot is written
//	running             the slot that the boot loader started, "a" or "b"
//	good                the slot that is started unless next says otherwise
//	next                the slot to try once at the next boot; absent when there is none
//
// The last three hold one line and are replaced as a whole. Where running or good is absent it reads as "a": a folder that
// holds only a.img is a device fresh from the factory. The boot loader (Boot) removes next before it starts the slot that it
// names.
func NewFile(o Options) *AB {
	b := NewAB(nil, [2]Slot{{slotA, imageFile(o.Dir, slotA)}, {slotB, imageFile(o.Dir, slotB)}}, o)
	b.loader = &fileLoader{fs: b.opts.FS, dir: o.Dir}
	return b
}

// fileLoader is the side of the agent of the boot loader that Boot plays.
type fileLoader struct {
	fs  durable.FS
	dir string
}

func (f *fileLoader) State(context.Context) (s State, err error) {
	if s.Running, err = f.slot(fileRunning, slotA); err != nil {
		return s, err
	}
	if s.Good, err = f.slot(fileGood, slotA); err != nil {
		return s, err
	}
	s.Next, err = f.slot(fileNext, "")
	if s.Next != "" {
		s.Tries = 1
	}
	return s, err
}

func (f *fileLoader) Disarm(context.Context, string) error { return remove(f.fs, f.path(fileNext)) }

func (f *fileLoader) Arm(_ context.Context, slot string) error {
	return replace(f.fs, f.path(fileNext), slot+"\n")
}

func (f *fileLoader) Bless(_ context.Context, slot string) error {
	return replace(f.fs, f.path(fileGood), slot+"\n")
}

// slot reads a text file that names a slot.
func (f *fileLoader) slot(file, absent string) (string, error) {
	text, err := readSmall(f.path(file))
	name := strings.TrimSpace(text)
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

func (f *fileLoader) path(name string) string { return filepath.Join(f.dir, name) }

func imageFile(dir, slot string) string { return filepath.Join(dir, slot+".img") }

// replace replaces a text file so that a power cut leaves the old text or the new one. Its folder is made where there is none.
func replace(on durable.FS, path, text string) error {
	err := durable.MkdirAll(on, filepath.Dir(path), 0o700)
	if err == nil {
		err = durable.WriteFile(on, path, []byte(text), 0o600, nil)
	}
	return noted(err)
}

// remove removes a text file for good; it may be absent.
func remove(on durable.FS, path string) error { return noted(durable.Remove(on, path)) }

func noted(err error) error {
	if err != nil {
		return fail(CodeWriteFailed, "cannot record the state of the slots", "check the storage", err)
	}
	return nil
}

func unavailable(err error) error {
	return fail(CodeUnavailable, "the image slots cannot be used", "check image.slots in the configuration and the storage", err)
}
