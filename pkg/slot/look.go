package slot

import "context"

// Outlook is what an image would find, were it installed now.
type Outlook struct {
	Room    int64 // bytes of the largest image
	Running int64 // bytes of the place that the system runs from, in the same sense; 0 where it is not known
}

// Look tells what an image would find, and refuses what Open would refuse, as far as that shows without changing anything. The
// other errors are those of Describe.
func (b *AB) Look(ctx context.Context) (o Outlook, err error) {
	d, err := b.Describe(ctx)
	if err != nil {
		return o, err
	}
	if err := mayChange(d); err != nil {
		return o, err
	}
	place, err := b.place(ctx, b.slot(d.Target))
	if err != nil {
		return o, err
	}
	if err := b.apart(ctx, d, place); err != nil {
		return o, err
	}
	if o.Room, err = place.Look(); err != nil {
		return o, err
	}
	if running, err := b.place(ctx, b.slot(d.Running)); err == nil {
		o.Running, _ = running.Size()
	}
	return o, nil
}
