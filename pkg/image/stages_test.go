package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding"
	"errors"
	"hash"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// slowHash and slowSink remember what they are given, and take their time with each piece.
type slowHash struct {
	hash.Hash
	got   []byte
	pause func() time.Duration
}

func (h *slowHash) Write(p []byte) (int, error) {
	time.Sleep(h.pause())
	h.got = append(h.got, p...)
	return len(p), nil
}

var errDisk = errors.New("the disk is broken")

type slowSink struct {
	got    []byte
	pause  func() time.Duration
	broken int // fails at that byte; -1 never
	failed bool
	after  int // writes after a failure
}

func (s *slowSink) Write(p []byte) (int, error) {
	time.Sleep(s.pause())
	if s.failed {
		s.after++
	}
	if s.broken >= 0 && len(s.got)+len(p) > s.broken {
		n := s.broken - len(s.got)
		s.got, s.failed = append(s.got, p[:n]...), true
		return n, errDisk
	}
	s.got = append(s.got, p...)
	return len(p), nil
}

func (s *slowSink) Reset() error { return errors.New("not in this test") }

// body delivers an image in pieces, and then its error; without one it hangs until the transfer is cancelled.
type body struct {
	ctx   context.Context
	left  []byte
	err   error
	piece func() int
	pause func() time.Duration
}

func (b *body) Read(p []byte) (int, error) {
	time.Sleep(b.pause())
	if b.ctx.Err() != nil {
		return 0, b.ctx.Err()
	}
	if len(b.left) == 0 {
		if b.err == nil {
			<-b.ctx.Done()
			return 0, b.ctx.Err()
		}
		return 0, b.err
	}
	n := copy(p[:min(len(p), b.piece())], b.left)
	b.left = b.left[n:]
	return n, nil
}

// Hash and sink are given the same bytes in the same order, however fast each of them and the network are. The error of any
// of them, and a cancellation, end all; nothing is left running, or else the bubble would not end.
func TestStages(t *testing.T) {
	image := bytes.Repeat([]byte("0123456789abcdef-"), 3*bufferSize/17)
	rapid.Check(t, func(rt *rapid.T) {
		offset := rapid.IntRange(0, bufferSize+1).Draw(rt, "resumed at")
		size := rapid.IntRange(0, len(image)).Draw(rt, "size")
		broken := rapid.OneOf(rapid.Just(-1), rapid.IntRange(0, size)).Draw(rt, "sink fails at")
		ending := rapid.SampledFrom([]error{io.EOF, io.EOF, io.ErrUnexpectedEOF}).Draw(rt, "ending")
		cancelled := rapid.SampledFrom([]time.Duration{0, 0, time.Millisecond, 20 * time.Millisecond}).Draw(rt, "cancelled after")
		passed := (offset+size)/bufferSize*bufferSize - offset // before a body that hangs
		if cancelled > 0 || broken >= 0 && broken < passed {
			ending = rapid.SampledFrom([]error{ending, nil}).Draw(rt, "hangs")
		}
		pieces := rapid.SliceOfN(rapid.IntRange(1000, 2*bufferSize), 1, 5).Draw(rt, "pieces")
		pauses := func(label string) func() time.Duration {
			list := rapid.SliceOfN(rapid.IntRange(0, 5), 1, 7).Draw(rt, label)
			return func() time.Duration {
				d := list[0]
				list = append(list[1:], d)
				return time.Duration(d) * time.Millisecond
			}
		}
		sink := &slowSink{pause: pauses("sink"), broken: broken}
		digest := &slowHash{pause: pauses("hash")}
		var err error
		var took time.Duration
		f := &fetch{
			request: Request{MinRate: 1, Stall: time.Hour, MaxSize: 1 << 40, Progress: func(Progress) {}},
			sink:    sink, hash: digest, offset: int64(offset), total: -1,
		}
		reading := pauses("network")
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			if cancelled > 0 {
				stop := time.AfterFunc(cancelled, func() { cancel(context.Canceled) })
				defer stop.Stop()
			}
			began := time.Now()
			defer func() { took = time.Since(began) }()
			err = f.receive(ctx, cancel, &body{ctx: ctx, left: image[:size], err: ending, pause: reading, piece: func() int {
				n := pieces[0]
				pieces = append(pieces[1:], n)
				return n
			}})
		})
		if !bytes.HasPrefix(image[:size], sink.got) || !bytes.HasPrefix(image[:size], digest.got) {
			rt.Fatal("the sink or the hash was given other bytes, or in another order")
		}
		if f.offset-int64(offset) != int64(len(sink.got)) {
			rt.Fatalf("counted %d bytes, the sink has %d", f.offset-int64(offset), len(sink.got))
		}
		var local *sinkError
		switch {
		case took > f.request.Stall/2:
			rt.Fatalf("ended after %v", took)
		case sink.failed != errors.As(err, &local) || sink.failed && !errors.Is(err, errDisk):
			rt.Fatalf("the sink failed: %v; error %v", sink.failed, err)
		case sink.after > 0:
			rt.Fatalf("written to %d times after its failure", sink.after)
		case !sink.failed && len(digest.got) != len(sink.got):
			rt.Fatalf("the hash has %d bytes, the sink %d", len(digest.got), len(sink.got))
		case err == nil && (len(sink.got) != size || ending != io.EOF):
			rt.Fatalf("no error with %d of %d bytes, when the body ended with %v", len(sink.got), size, ending)
		case err != nil && !sink.failed && ending == io.EOF && cancelled == 0:
			rt.Fatalf("unexpected error: %v", err)
		}
	})
}

// Storage is given whole buffers at multiples of their size, wherever a transfer was taken up.
func TestStagesKeepPiecesAligned(t *testing.T) {
	const offset, size = 300_000, 3*bufferSize + 12345
	var at []int64
	position := int64(offset)
	f := &fetch{
		request: Request{MinRate: 1, Stall: time.Hour, MaxSize: 1 << 40, Progress: func(Progress) {}},
		hash:    &slowHash{pause: func() time.Duration { return 0 }}, offset: offset, total: offset + size,
		sink: sinkFunc(func(p []byte) (int, error) {
			at = append(at, position)
			position += int64(len(p))
			return len(p), nil
		}),
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	if err := f.receive(ctx, cancel, io.LimitReader(zeros{}, size)); err != nil {
		t.Fatal(err)
	}
	for i, p := range at {
		if i > 0 && p%bufferSize != 0 {
			t.Errorf("piece %d begins at %d", i, p)
		}
	}
	if len(at) != 4 || position != offset+size {
		t.Errorf("%d pieces up to %d", len(at), position)
	}
}

type sinkFunc func([]byte) (int, error)

func (w sinkFunc) Write(p []byte) (int, error) { return w(p) }
func (w sinkFunc) Reset() error                { return nil }

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// A broken sink ends a transfer that would hang.
func TestStagesEndATransferThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		none := func() time.Duration { return 0 }
		f := &fetch{
			request: Request{MinRate: 1, Stall: time.Hour, MaxSize: 1 << 40, Progress: func(Progress) {}},
			sink:    &slowSink{pause: none, broken: 5}, hash: &slowHash{pause: none}, total: -1,
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		began := time.Now()
		err := f.receive(ctx, cancel, &body{ctx: ctx, left: make([]byte, bufferSize+1), pause: none, piece: func() int { return bufferSize }})
		if !errors.Is(err, errDisk) || time.Since(began) > time.Second {
			t.Errorf("ended after %v with %v", time.Since(began), err)
		}
	})
}

// What came from a slow network is stored before a buffer is full.
func TestStagesPassOnWhatComesSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var stored atomic.Int64
		f := &fetch{
			request: Request{MinRate: 1, Stall: time.Hour, MaxSize: 1 << 40, Progress: func(Progress) {}},
			hash:    &slowHash{pause: func() time.Duration { return 0 }}, total: -1,
			sink: sinkFunc(func(p []byte) (int, error) { stored.Add(int64(len(p))); return len(p), nil }),
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		received := make(chan error)
		go func() {
			received <- f.receive(ctx, cancel, &body{ctx: ctx, left: make([]byte, 100), err: io.EOF, piece: func() int { return 1 },
				pause: func() time.Duration { return 300 * time.Millisecond }})
		}()
		time.Sleep(10 * time.Second) // of the bubble
		if n := stored.Load(); n < 25 {
			t.Errorf("after 10 s the sink has %d of about 33 bytes", n)
		}
		if err := <-received; err != nil || stored.Load() != 100 {
			t.Errorf("%d bytes, %v", stored.Load(), err)
		}
	})
}

// hashAndSink takes its time with either, and gives marks that say how much was written.
type hashAndSink struct {
	slowHash
	slowSink
	marks []checkpointMark
}

type checkpointMark struct{ hashed, written int }

func (h *hashAndSink) Write(p []byte) (int, error) { return h.slowSink.Write(p) }
func (h *hashAndSink) Reset() error                { return h.slowSink.Reset() }
func (h *hashAndSink) Restore([]byte) error        { return errors.New("not in this test") }
func (h *hashAndSink) Sync() error                 { return nil }
func (h *hashAndSink) Checkpoint() ([]byte, error) {
	h.marks = append(h.marks, checkpointMark{len(h.slowHash.got), len(h.slowSink.got)})
	return []byte("mark"), nil
}

// Checkpoints are made when hash and sink have the same, whichever is slower.
func TestStagesWaitForEachOtherAtCheckpoints(t *testing.T) {
	const pieces = 6
	for name, slow := range map[string][2]time.Duration{"hash": {time.Second, 0}, "sink": {0, time.Second}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				both := &hashAndSink{
					slowHash: slowHash{Hash: sha256.New(), pause: func() time.Duration { return slow[0] }},
					slowSink: slowSink{pause: func() time.Duration { return slow[1] }, broken: -1},
				}
				f := &fetch{
					request: Request{MinRate: 1, Stall: time.Hour, MaxSize: 1 << 40, Progress: func(Progress) {}},
					sink:    both, hash: &both.slowHash, total: pieces * bufferSize,
				}
				f.keeper = &keeper{sink: both, store: nowhere{}, bytes: 2 * bufferSize, every: time.Hour, when: time.Now()}
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				if err := f.receive(ctx, cancel, io.LimitReader(zeros{}, pieces*bufferSize)); err != nil {
					t.Fatal(err)
				}
				if err := f.keeper.join(); err != nil {
					t.Fatal(err)
				}
				if len(both.marks) < 2 {
					t.Errorf("%d checkpoints", len(both.marks))
				}
				for _, m := range both.marks {
					if m.hashed != m.written {
						t.Errorf("checkpoint with %d bytes in the hash and %d in the sink", m.hashed, m.written)
					}
				}
			})
		})
	}
}

func (h *slowHash) MarshalBinary() ([]byte, error) {
	return h.Hash.(encoding.BinaryMarshaler).MarshalBinary()
}

// nowhere keeps no checkpoint.
type nowhere struct{}

func (nowhere) Load() (*Checkpoint, error) { return nil, nil }
func (nowhere) Save(Checkpoint) error      { return nil }
func (nowhere) Clear() error               { return nil }
