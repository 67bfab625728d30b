package image

import (
	"bytes"
	"crypto/sha256"
	"encoding"
	"errors"
	"log/slog"
	"time"
)

// keeper saves checkpoints. What takes time runs beside the download: one checkpoint at a time is made durable and saved.
type keeper struct {
	sink  Checkpointer
	store Checkpoints
	log   *slog.Logger

	bytes int64 // a checkpoint is due after so many, or
	every time.Duration

	at     int64 // where the latest checkpoint is
	when   time.Time
	saving chan error // holds the result of the one that is being saved; nil when none is
	stored bool       // the store may hold something
	failed bool       // the latest Save failed; only read after join or by the next save
}

// restore takes up what an interrupted process left, and starts at the first byte when that does not fit: whatever is wrong
// with a checkpoint costs time, never the image, unless it cannot be removed.
func (f *fetch) restore() error {
	f.restored = true
	sink, ok := f.sink.(Checkpointer)
	if !ok || f.request.Checkpoints == nil {
		return nil
	}
	f.keeper = &keeper{
		sink: sink, store: f.request.Checkpoints, log: f.request.Logger,
		bytes: f.request.CheckpointBytes, every: f.request.CheckpointTime, when: time.Now(), stored: true,
	}
	at, err := f.keeper.store.Load()
	if err == nil && at != nil {
		if err = at.fits(f.request); err == nil {
			err = f.resumeAt(at)
		}
	}
	if err == nil {
		f.keeper.stored = at != nil
		return nil
	}
	f.request.Logger.Info("the interrupted download is not taken up again", "error", err)
	return f.restart()
}

// resumeAt takes up the state of a download.
func (f *fetch) resumeAt(at *Checkpoint) error {
	if err := f.hash.(encoding.BinaryUnmarshaler).UnmarshalBinary(at.Hash); err != nil {
		return err
	}
	if at.Total > 0 {
		if err := f.expect(at.Total); err != nil {
			return err
		}
	}
	if err := f.keeper.sink.Restore(at.Mark); err != nil {
		return err
	}
	f.offset, f.total, f.etag = at.Offset, at.Total, at.ETag
	if f.total == 0 {
		f.total = -1
	}
	f.source = [sha256.Size]byte(at.Source)
	f.mixed = true // for what another process left this one cannot blame anyone
	f.keeper.at = at.Offset
	f.request.Logger.Info("taking up an interrupted download", "bytes", f.offset)
	return nil
}

// fits tells why a checkpoint is of no use for r.
func (c *Checkpoint) fits(r Request) error {
	switch {
	case !bytes.Equal(c.SHA256, r.SHA256):
		return errors.New("it was another image")
	case c.Offset <= 0 || c.Total < 0 || c.Total > 0 && c.Offset > c.Total || max(c.Offset, c.Total) > r.MaxSize:
		return errors.New("its checkpoint has impossible sizes")
	case len(c.Source) != sha256.Size || len(c.Mark) == 0 || len(c.Mark) > MaxMark || c.ETag != strongTag(c.ETag):
		return errors.New("its checkpoint has impossible values")
	}
	return nil
}

// due tells whether a checkpoint at offset shall be saved, or the result of saving the one before is there.
func (k *keeper) due(offset int64) bool {
	switch {
	case k == nil:
		return false
	case k.saving != nil:
		return len(k.saving) > 0
	}
	return offset-k.at >= k.bytes || time.Since(k.when) >= k.every
}

// checkpoint begins to save how far the download is. It is called when one is due, between two writes, when hash and sink
// have the same bytes. Its error is one of the sink.
func (f *fetch) checkpoint() error {
	k := f.keeper
	if err := k.join(); err != nil || !k.due(f.offset) {
		return err
	}
	at, err := f.here()
	if at == nil || err != nil {
		return err
	}
	k.at, k.when, k.stored = f.offset, time.Now(), true
	saving := make(chan error, 1)
	k.saving = saving
	go func() { saving <- k.save(*at) }()
	return nil
}

// here is a checkpoint of what sink and hash have, or nil when nobody could go on from there.
func (f *fetch) here() (*Checkpoint, error) {
	if f.offset == 0 || f.torn || f.etag == "" && f.total <= 0 {
		return nil, nil
	}
	mark, err := f.keeper.sink.Checkpoint()
	if err != nil {
		return nil, &sinkError{err}
	}
	hash, err := f.hash.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil || len(mark) == 0 || len(mark) > MaxMark {
		return nil, nil
	}
	return &Checkpoint{
		SHA256: f.request.SHA256, Offset: f.offset, Total: max(f.total, 0), Hash: hash,
		Source: bytes.Clone(f.source[:]), ETag: f.etag, Mark: mark,
	}, nil
}

// save makes a checkpoint durable. A store that fails costs time after the next power cut; a sink that fails has perhaps
// lost bytes.
func (k *keeper) save(at Checkpoint) error {
	if err := k.sink.Sync(); err != nil {
		return &sinkError{err}
	}
	err := k.store.Save(at)
	if err != nil && !k.failed {
		k.log.Warn("an interrupted download will have to start again: its checkpoint cannot be saved", "error", err)
	}
	k.failed = err != nil
	return nil
}

// join waits until nothing is being saved.
func (k *keeper) join() error {
	if k == nil || k.saving == nil {
		return nil
	}
	err := <-k.saving
	k.saving = nil
	return err
}

// clear forgets what was saved. A checkpoint that stays would vouch, after a power cut, for what a mirror may have put in the
// place of its bytes since: a sink may compare them only by checksums that can be forged. So nothing is written then.
func (k *keeper) clear() error {
	if k == nil {
		return nil
	}
	if err := k.join(); err != nil {
		return err
	}
	if k.stored {
		if err := k.store.Clear(); err != nil {
			return &sinkError{fail(CodeCheckpoint, "the checkpoint of an earlier download cannot be removed, so no other one is begun",
				"check the storage that the state of the device is on", err)}
		}
		k.stored = false
	}
	k.at, k.when = 0, time.Now()
	return nil
}

// keep saves how far the download came before the process stops working at it.
func (f *fetch) keep() error {
	k := f.keeper
	if k == nil {
		return nil
	}
	if err := k.join(); err != nil {
		return err
	}
	if f.offset == k.at && !k.failed {
		return nil
	}
	at, err := f.here()
	if at == nil || err != nil {
		return err
	}
	return k.save(*at)
}
