package slot

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/xpu-sztp/ztp/pkg/durable"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/slot/media"
	"github.com/xpu-sztp/ztp/pkg/slot/unpack"
)

// AB is a Backend of a boot loader and two slots that the device writes itself. It keeps a durable record of what each slot
// holds: removed before the first byte of the slot is destroyed, written when the new image was read back. Only a slot with
// a record is ever armed.
type AB struct {
	loader  Loader
	slots   [2]Slot
	records records
	opts    Options
	proven  string // the slot that was read back since this process began
}

var _ Backend = (*AB)(nil)

// Slot is one of two.
type Slot struct {
	Name string // as the Loader calls it
	Path string // of the block device or file that holds the image; not used when the Loader is a Placer
}

// Options is what is common to all pairs of slots.
type Options struct {
	FS         durable.FS    // every change of a file goes through it; nil is durable.OS
	Dir        string        // folder of the records. Both systems must see the same one.
	MaxSize    int64         // of an image as it is written, in bytes; 0 is what there is room for
	Format     unpack.Format // of images; empty when each shows it by how it begins
	KeepBlocks bool          // do not discard the blocks of a device before it is written
	Spool      string        // folder for what is downloaded of a compressed image, so that another process can go on; may be empty
	System     media.System
	Now        func() time.Time
}

// NewAB returns the back end of a boot loader and its slots. Nothing is read or changed yet.
func NewAB(loader Loader, slots [2]Slot, o Options) *AB {
	if o.FS == nil {
		o.FS = durable.OS{}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &AB{loader: loader, slots: slots, records: records{fs: o.FS, dir: o.Dir}, opts: o}
}

// Describe asks the boot loader and reads the records.
func (b *AB) Describe(ctx context.Context) (Description, error) {
	st, err := b.loader.State(ctx)
	if err != nil {
		return Description{}, err
	}
	d := Description{Running: st.Running, Good: st.Good, Next: st.Next, Tries: st.Tries, Contents: map[string]Image{}}
	switch st.Running {
	case b.slots[0].Name:
		d.Target = b.slots[1].Name
	case b.slots[1].Name:
		d.Target = b.slots[0].Name
	default:
		return d, fail(CodeUnavailable, fmt.Sprintf("the device runs from %.64q, which is neither slot %s nor slot %s",
			st.Running, b.slots[0].Name, b.slots[1].Name), "start the device from one of its slots", nil)
	}
	for _, s := range b.slots {
		known, _, err := b.content(ctx, s)
		if err != nil {
			return d, err
		}
		if known != nil {
			d.Contents[s.Name] = known.image()
		}
	}
	return d, nil
}

// content returns the record of a slot, and its place, or nil when it holds no committed image. One that the factory put there
// has no record and is not known.
func (b *AB) content(ctx context.Context, s Slot) (*record, media.Place, error) {
	known, err := b.records.read(s.Name)
	if err != nil || known == nil {
		return nil, media.Place{}, err
	}
	place, err := b.place(ctx, s)
	if err != nil {
		return nil, place, err
	}
	if held, err := known.held(place); err != nil || !held {
		return nil, place, err
	}
	return known, place, nil
}

// Open opens the slot that neither runs nor is the good one, and has the boot loader forget it. What it held stays until the
// first byte of the image comes.
func (b *AB) Open(ctx context.Context) (Writer, error) {
	d, err := b.Describe(ctx)
	if err != nil {
		return nil, err
	}
	if err := mayChange(d); err != nil {
		return nil, err
	}
	place, err := b.place(ctx, b.slot(d.Target))
	if err != nil {
		return nil, err
	}
	if err := b.apart(ctx, d, place); err != nil {
		return nil, err
	}
	out, err := place.Open()
	if err != nil {
		return nil, err
	}
	if err := b.loader.Disarm(ctx, d.Target); err != nil {
		out.Close()
		return nil, err
	}
	b.proven = ""
	w := &writer{ctx: ctx, slot: d.Target, place: place, out: out, records: &b.records, now: b.opts.Now, format: b.opts.Format}
	w.proven = func() { b.proven = d.Target }
	if w.spool.fs = b.opts.FS; b.opts.Spool != "" {
		w.spool.path = filepath.Join(b.opts.Spool, d.Target+".spool")
	}
	return w, nil
}

// apart refuses a target that has blocks in common with the system that runs.
func (b *AB) apart(ctx context.Context, d Description, target media.Place) error {
	running, err := b.place(ctx, b.slot(d.Running))
	if err != nil {
		return err
	}
	same, err := media.Same(running, target)
	if err != nil || !same {
		return err
	}
	return fail(CodeInUse, fmt.Sprintf("slots %s and %s are the same device or file", d.Running, d.Target),
		"check the configuration of the slots", nil)
}

// mayChange refuses to touch the only slot to fall back to, and one of which it is not known that it is not that.
func mayChange(d Description) error {
	switch d.Good {
	case d.Running:
		return nil
	case d.Target:
	default:
		return fail(CodeUnavailable, fmt.Sprintf("the boot loader falls back to %.64q, which is neither slot %s nor slot %s",
			d.Good, d.Running, d.Target), "have it fall back to one of the slots, or correct their names in the configuration", nil)
	}
	return fail(CodeInTrial, fmt.Sprintf("slot %s is on trial and slot %s is the only one to fall back to", d.Running, d.Good),
		"reboot the device: it returns to slot "+d.Good+" and can install from there", nil)
}

// Activate has the boot loader try the inactive slot. What another process put there is read once more: whoever used the
// slot since, by hand or as a system that could write to itself, has changed it.
func (b *AB) Activate(ctx context.Context) error {
	d, err := b.Describe(ctx)
	if err != nil {
		return err
	}
	known, place, err := b.content(ctx, b.slot(d.Target))
	if err != nil {
		return err
	}
	if known == nil {
		return fail(CodeNotReady, "slot "+d.Target+" holds no verified image", "install an image first", nil)
	}
	if err := mayChange(d); err != nil {
		return err
	}
	if b.proven != d.Target {
		if err := place.Check(ctx, known.Proof); err != nil {
			if code, _ := reason.Of(err); code == CodeReadBack {
				err = errors.Join(err, b.records.remove(d.Target))
			}
			return err
		}
		if err := b.records.sync(); err != nil {
			return err
		}
		b.proven = d.Target
	}
	return b.loader.Arm(ctx, d.Target)
}

// Deactivate has the boot loader forget the inactive slot, unless that is the one to fall back to; or the running one, which is
// on trial then, as far as it is to be started again.
func (b *AB) Deactivate(ctx context.Context) error {
	d, err := b.Describe(ctx)
	switch {
	case err != nil:
		return err
	case d.Trial() && d.Next == d.Running:
		return b.loader.Disarm(ctx, d.Running)
	case d.Target == d.Good:
		return nil
	}
	return b.loader.Disarm(ctx, d.Target)
}

// MarkGood makes the running slot the good one.
func (b *AB) MarkGood(ctx context.Context) error {
	d, err := b.Describe(ctx)
	if err != nil || !d.Trial() {
		return err
	}
	return b.loader.Bless(ctx, d.Running)
}

func (b *AB) slot(name string) Slot {
	if b.slots[0].Name == name {
		return b.slots[0]
	}
	return b.slots[1]
}

func (b *AB) place(ctx context.Context, s Slot) (media.Place, error) {
	path := s.Path
	if placer, ok := b.loader.(Placer); ok {
		var err error
		if path, err = placer.Place(ctx, s.Name); err != nil {
			return media.Place{}, err
		}
	}
	return media.Place{
		Path: path, FS: b.opts.FS, MaxSize: b.opts.MaxSize, KeepBlocks: b.opts.KeepBlocks, System: b.opts.System,
	}, nil
}
