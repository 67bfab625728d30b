package slot

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/xpu-sztp/ztp/pkg/durable"
)

// Boot plays the boot loader for the folder of a back end "file": it decides which slot starts, records it as running, and
// returns it with the path of its image. A slot named in next is started once; next is removed first, so that a slot that
// does not come up, or is not marked good while it runs, is left at the boot after. Otherwise, and when the slot on trial has
// no complete image, the good slot is started.
func Boot(dir string) (slot, image string, err error) {
	f := &fileLoader{fs: durable.OS{}, dir: dir}
	slot, err = f.slot(fileGood, slotA)
	if err != nil {
		return "", "", err
	}
	trial, err := f.slot(fileNext, "")
	if err != nil {
		trial = "" // a boot loader cannot ask anyone; the good slot is always right
	}
	if err := f.Disarm(context.Background(), trial); err != nil {
		return "", "", err
	}
	if trial != "" {
		complete, _, err := NewFile(Options{Dir: dir}).content(context.Background(), Slot{trial, imageFile(dir, trial)})
		if err == nil && complete != nil {
			slot = trial
		}
	}
	image = imageFile(dir, slot)
	if info, err := os.Stat(image); err != nil || !info.Mode().IsRegular() {
		if err == nil {
			err = errors.New("not a regular file")
		}
		fix := "check the storage"
		if errors.Is(err, fs.ErrNotExist) {
			fix = "put the factory image at " + image
		}
		return "", "", fail(CodeNotBootable, "slot "+slot+" cannot be started", fix, err)
	}
	return slot, image, replace(f.fs, f.path(fileRunning), slot+"\n")
}
