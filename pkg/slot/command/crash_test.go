package command

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/xpu-sztp/ztp/pkg/slot"
	"github.com/xpu-sztp/ztp/test/faultfs"
)

// TestCuts installs an image while everything goes wrong, at each change of a file. The tool, which keeps its state elsewhere
// and makes it durable, watches that it is never asked to touch a slot that somebody needs. Whatever starts then is complete
// and, if it is new, on trial; and doing it again comes to the end.
func TestCuts(t *testing.T) {
	d := odd(t, `
read running <running; read next <next
case $1 in
status) echo "$running"; echo "next=$next" ;;
install)
	[ "running=$next" = "$running" ] || echo "installed while $next was next" >>violations
	[ "$4" = "$(sha256sum <"$2" | cut -d ' ' -f 1)" ] || echo "installed what was not verified" >>violations
	rm -f held
	cp "$2" held
	put next "$3" ;; # as RAUC does
activate) put next "$2" ;;
deactivate) put next "${running#running=}" ;;
good) ;;
esac
`)
	d.reboot = func() { d.put("running", "running="+d.get("next")) }
	d.opts.Tool.Answer.Tries, d.opts.Tool.Answer.Good = "", ""
	const image = "an image"
	place := func(root string) {
		d.opts.Dir, d.opts.Image = filepath.Join(root, "slots"), filepath.Join(root, "download", "image")
	}
	old := "an image from before, which was activated"
	var fresh bool
	sweep := faultfs.Sweep{
		Setup: func(root string) error {
			place(root)
			d.put("running", "running=a")
			d.put("boot_id", "1")
			if d.put("next", "a"); fresh {
				return nil
			}
			d.put("next", other)
			d.put("held", old)
			return d.installer(t, nil).write(&record{
				Images:  map[string]*known{other: {SHA256: make([]byte, 32)}},
				Attempt: &attempt{Slot: other, From: "a", Boot: "1", Armed: true},
			})
		},
		Task: func(on *faultfs.FS, root string) error {
			place(root)
			i := d.installer(t, unsynced{on})
			if err := install(t, i, image); err != nil {
				return err
			}
			return i.Activate(t.Context())
		},
	}
	checks := 0
	again := func() error {
		i := d.installer(t, nil)
		if err := errors.Join(install(t, i, image), i.Activate(t.Context())); err != nil {
			return fmt.Errorf("again: %w", err)
		}
		n, err := i.Describe(t.Context())
		if err != nil || n.Next != other || n.Trial() {
			return fmt.Errorf("in the end: %+v, %w", n, err)
		}
		return nil
	}
	sweep.Check = func(root string, _ error) error {
		if v := d.get("violations"); v != "" {
			return errors.New(v)
		}
		// The device goes on, or starts anew where the tool says.
		if checks++; checks%2 == 0 {
			return again()
		}
		next := d.get("next")
		held := d.get("held")
		if next != "a" && held != image && held != old {
			return fmt.Errorf("%s starts with %q", next, held)
		}
		d.put("boot_id", "2")
		d.reboot()
		i := d.installer(t, nil)
		n, err := i.Describe(t.Context())
		if err != nil || n.Running != next || n.Trial() != (next != "a") {
			return fmt.Errorf("after a reboot into %s: %+v, %w", next, n, err)
		}
		if n.Trial() {
			if _, err := i.Open(t.Context()); err == nil {
				return fmt.Errorf("%s was not said", slot.CodeInTrial)
			}
			d.put("next", "a")
			d.put("boot_id", "3")
			d.reboot()
		}
		return again()
	}
	for _, fresh = range []bool{false, true} {
		if sweep.Faults = []faultfs.Fault{faultfs.CutLost}; fresh {
			sweep.Faults[0] = faultfs.CutKept
		}
		n, err := sweep.Run(t.TempDir())
		if err != nil {
			t.Error(err)
		}
		if n < 20 {
			t.Errorf("only %d faults", n)
		}
	}
}

// unsynced leaves sync(2) out, which is called by a goroutine of its own, where nothing can die.
type unsynced struct{ *faultfs.FS }

func (unsynced) SyncAll() error { return nil }
