package command

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/xpu-sztp/ztp/pkg/durable"
	"github.com/xpu-sztp/ztp/pkg/slot"
)

// record is what the Installer remembers, in the file installer.json.
type record struct {
	Images  map[string]*known `json:"images,omitempty"` // by slot: what was installed there
	Attempt *attempt          `json:"attempt,omitempty"`
}

type known struct {
	SHA256 []byte    `json:"sha256"`
	Size   int64     `json:"size"`
	At     time.Time `json:"at"`
}

// attempt is an image that was not marked good yet. It begins before the tool does.
type attempt struct {
	Slot  string `json:"slot"`  // where it is
	From  string `json:"from"`  // the slot that ran, and is good
	Boot  string `json:"boot"`  // the boot in which it was installed or activated
	Armed bool   `json:"armed"` // Slot starts at the next boot
}

const (
	recordName = "installer.json"
	maxRecord  = 64 << 10 // bytes
)

// read reads the record. One that makes no sense is taken for none: then nothing counts as installed.
func (i *Installer) read(r *record) error {
	f, err := os.Open(filepath.Join(i.o.Dir, recordName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var data []byte
	if err == nil {
		defer f.Close()
		data, err = io.ReadAll(io.LimitReader(f, maxRecord))
	}
	if err != nil {
		return fail(slot.CodeUnavailable, "the record of what was installed cannot be read", fixFolder(i.o.Dir), err)
	}
	if json.Unmarshal(data, r) != nil {
		*r = record{}
	}
	for name, k := range r.Images {
		if k == nil {
			delete(r.Images, name)
		}
	}
	return nil
}

func (i *Installer) write(r *record) error {
	data, err := json.Marshal(r)
	if err == nil {
		err = durable.MkdirAll(i.o.FS, i.o.Dir, 0o700)
	}
	if err == nil {
		err = durable.WriteFile(i.o.FS, filepath.Join(i.o.Dir, recordName), append(data, '\n'), 0o600, nil)
	}
	if err != nil {
		return fail(slot.CodeWriteFailed, "what is installed cannot be recorded", fixFolder(i.o.Dir), err)
	}
	return nil
}
