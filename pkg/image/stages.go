package image

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/xpu-sztp/ztp/pkg/durable"
)

// What is on its way between the network and the storage. Each piece costs changes of thread and one call of the storage, so
// large ones save processor time; three let no stage wait for another one of the same speed.
const (
	bufferSize  = 2 << 20
	bufferCount = 3
)

// Stages is how many goroutines a Fetch keeps busy. A program with fewer than one more of Go's processors (GOMAXPROCS), as on a
// device with two cores, pays for it: the runtime then takes processors away from system calls that write, looks for those
// every 20 µs, and an install needs 6 % more of their time.
const Stages = 3

// linger is how long what came from a slow network waits for more, so that a power cut costs seconds at most.
const linger = time.Second

// stages hash and store an image, each at its own pace, while the reader fills the next buffer: the slowest of the three
// sets the speed. Both are given the same memory, one piece after another.
type stages struct {
	empty  chan *buffer // all of them, when both stages have nothing to do
	hash   chan *buffer
	store  chan *buffer
	stored chan error
}

// buffer is a piece of the image. Whoever fills it owns it until both stages are given it, and again when both are done.
type buffer struct {
	memory []byte // nil until it is needed
	filled int
	users  atomic.Int32 // stages that have yet to be done with it
}

func newBuffers() []*buffer {
	buffers := make([]*buffer, bufferCount)
	for i := range buffers {
		buffers[i] = &buffer{}
	}
	return buffers
}

// next returns a buffer to be filled with so many bytes.
func (s *stages) next(size int) *buffer {
	b := <-s.empty
	if b.memory == nil {
		b.memory = durable.Buffer(bufferSize)
	}
	b.filled = size
	return b
}

// startStages starts both stages. An error of store cancels the transfer; after it store is not called again.
func startStages(buffers []*buffer, hash, store func([]byte) (int, error), cancel context.CancelCauseFunc) *stages {
	s := &stages{
		empty: make(chan *buffer, len(buffers)), hash: make(chan *buffer, len(buffers)), store: make(chan *buffer, len(buffers)),
		stored: make(chan error, 1),
	}
	for _, b := range buffers {
		s.empty <- b
	}
	go func() {
		for b := range s.hash {
			hash(b.memory[:b.filled]) // a hash.Hash has no errors
			s.release(b)
		}
	}()
	go func() {
		var err error
		for b := range s.store {
			// After an error buffers are taken nevertheless, so that the reader is never stuck.
			if err == nil {
				if _, err = store(b.memory[:b.filled]); err != nil {
					cancel(err)
				}
			}
			s.release(b)
		}
		s.stored <- err
	}()
	return s
}

// pass gives a filled buffer to both stages.
func (s *stages) pass(b *buffer) {
	b.users.Store(2)
	s.hash <- b
	s.store <- b
}

func (s *stages) release(b *buffer) {
	if b.users.Add(-1) == 0 {
		s.empty <- b
	}
}

// drain waits until both stages are done with everything they were given. The caller keeps the one buffer that it has.
func (s *stages) drain() {
	idle := make([]*buffer, cap(s.empty)-1)
	for i := range idle {
		idle[i] = <-s.empty
	}
	for _, b := range idle {
		s.empty <- b
	}
}

// finish waits until both stages are done with everything they were given, and ends them. It returns the error of store.
func (s *stages) finish() error {
	for range cap(s.empty) {
		<-s.empty
	}
	close(s.hash)
	close(s.store)
	return <-s.stored
}
