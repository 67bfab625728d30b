package image

import "io"

// Sink takes the image, front to back. What else it can do it says by being a Sizer or a Checkpointer as well. Its methods
// are called one after another, with the one exception of Checkpointer.Sync. An error of Write that is syscall.ENOSPC or
// syscall.EPROTO fails the mirror, which may have sent too much, or what cannot be an image; any other ends the fetch.
type Sink interface {
	io.Writer
	// Reset discards everything written so far; the next Write is the start of the image.
	Reset() error
}

// Sizer is a Sink that wants to know the size of what comes before it comes.
type Sizer interface {
	Sink
	// Expect is told how many bytes will be written in all, before each start at the first of them and before Restore, or as
	// soon as a mirror tells. An error means that they would not fit; it makes the mirror a failed
	// one, since its size may be a lie.
	Expect(total int64) error
}

// MaxMark is the size of the largest mark of a Checkpointer, in bytes.
const MaxMark = 64 << 10

// Checkpointer is a Sink that can go on in another process, after a power cut too.
type Checkpointer interface {
	Sink
	// Checkpoint returns what Restore needs to go on behind everything written so far: opaque, at most MaxMark bytes. It
	// must be quick, since no image is taken meanwhile; what takes time is up to Sync. nil, nil: the sink cannot go on from
	// here, but perhaps from a later byte.
	Checkpoint() (mark []byte, err error)
	// Sync makes durable what was written before it was called. Write and Checkpoint may be called while it runs, and
	// nothing else. A mark is only saved after a Sync that began after its Checkpoint.
	Sync() error
	// Restore goes on behind the bytes of a mark, perhaps one of another process, and forgets what was written behind them.
	// After an error the sink is as after Reset.
	Restore(mark []byte) error
}

// Checkpoint is how far a download is, with everything that is needed to go on from there.
type Checkpoint struct {
	SHA256 []byte `json:"sha256"`          // the digest that was demanded
	Offset int64  `json:"offset"`          // bytes of the image that the sink has
	Total  int64  `json:"total,omitempty"` // of the image; 0 while unknown
	Hash   []byte `json:"hash"`            // state of SHA-256 after Offset bytes, as crypto/sha256 marshals it
	// Source is the SHA-256 of the URI of the latest bytes, whose query may hold a secret.
	Source []byte `json:"source"`
	ETag   string `json:"etag,omitempty"` // strong entity tag of what Source has; "" when it has none
	Mark   []byte `json:"mark"`           // of the sink
}

// Checkpoints keeps one Checkpoint durably. CheckpointFile is one.
type Checkpoints interface {
	// Load returns what Save was last given, and nil when there is nothing or Clear was called since.
	Load() (*Checkpoint, error)
	// Save replaces what there is. After a power cut there is either the old one or the new one.
	Save(Checkpoint) error
	// Clear removes what there is, durably.
	Clear() error
}
