// Package bootmodel has devices with two slots and a boot loader that is played, for tests of what installs images: they
// start what a real one would start. What a boot loader and firmware write themselves is durable.
package bootmodel

import (
	"os"
	"path/filepath"
	"time"

	"github.com/xpu-sztp/ztp/pkg/durable"
	"github.com/xpu-sztp/ztp/pkg/slot"
)

// Machine is a device below a folder: its folder "disk" is what a power cut may change, the rest is firmware.
type Machine interface {
	// Factory puts an image into the slot that a new device starts.
	Factory(image []byte) error
	// Backend is what installs images while the device runs.
	Backend(on durable.FS) (slot.Backend, error)
	// Start plays the boot loader and returns the image that it starts.
	Start() ([]byte, error)
	// Content is what a slot, "a" or "b", holds; nil is nothing.
	Content(slot string) []byte
	// FAT tells whether the boot loader's files are on a file system without a journal.
	FAT() bool
}

// New returns the machine of a kind below dir; the kinds are the keys of Kinds.
func New(kind, dir string) Machine { return Kinds()[kind](dir) }

// Kinds are all machines, by the name of their back end.
func Kinds() map[string]func(dir string) Machine {
	return map[string]func(dir string) Machine{
		"file":    func(dir string) Machine { return file{filepath.Join(dir, "disk", "slots")} },
		"grub":    func(dir string) Machine { return grubMachine{dir} },
		"efi":     func(dir string) Machine { return efiMachine{dir} },
		"command": func(dir string) Machine { return commandMachine{dir} },
	}
}

// then is when everything happens, so that records of two runs are equal.
func then() time.Time { return time.Unix(1, 0) }

// file is the back end "file", whose boot loader is its own.
type file struct{ dir string }

func (m file) FAT() bool { return false }

func (m file) Factory(image []byte) error { return put(filepath.Join(m.dir, "a.img"), image) }

func (m file) Backend(on durable.FS) (slot.Backend, error) {
	return slot.NewFile(slot.Options{FS: on, Dir: m.dir, Now: then}), nil
}

func (m file) Start() ([]byte, error) {
	_, image, err := slot.Boot(m.dir)
	if err != nil {
		return nil, err
	}
	return os.ReadFile(image)
}

func (m file) Content(slot string) []byte { return content(filepath.Join(m.dir, slot+".img")) }

func content(path string) []byte {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	return b
}

func put(path string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, content, 0o600)
}
