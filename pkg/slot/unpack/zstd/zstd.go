// Package zstd decompresses Zstandard frames (RFC 8878) in bounded memory: the window that a frame asks for is allocated only when
// it is not larger than allowed, and there is one buffer of it. Frames may follow one another, with skippable frames between them;
// anything else behind the last one is an error. Dictionaries are not supported.
package zstd

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
)

var (
	// ErrWindow says that a frame wants a larger window than is allowed.
	ErrWindow = errors.New("zstd: the window is too large")
	// ErrCorrupt says that the input is not what RFC 8878 allows.
	ErrCorrupt = errors.New("zstd: corrupt input")
)

const (
	frameMagic    = 0xFD2FB528
	skippableMask = 0xFFFFFFF0
	skippable     = 0x184D2A50

	maxBlock = 128 << 10 // bytes, RFC 8878 §3.1.1.2.4
)

// Reader decompresses. Its memory is the largest window of all frames so far and 400 KiB.
type Reader struct {
	in        *bufio.Reader
	maxWindow int
	err       error // what is returned once ready is empty

	// The frame.
	inFrame  bool
	window   int    // bytes
	blockMax int    // bytes
	size     uint64 // Frame_Content_Size
	sized    bool
	checked  bool // a Content_Checksum follows
	decoded  uint64
	sum      digest

	// ring holds the window and the block that is being decoded, which ends before at.
	ring  []byte
	at    int
	ready int // bytes before at that Read has not returned yet

	block     []byte // compressed
	literals  []byte
	huffman   huffman
	offsets   [3]uint32 // Repeated_Offsets
	counts    distribution
	tables    [3]table
	alphabets [3]alphabet
}

// NewReader returns a Reader. A frame with a window of more than maxWindow bytes is refused.
func NewReader(in *bufio.Reader, maxWindow int) *Reader {
	return &Reader{in: in, maxWindow: maxWindow, alphabets: alphabets()}
}

// Read returns io.EOF only at the end of a frame.
func (r *Reader) Read(p []byte) (n int, err error) {
	for n < len(p) {
		if r.ready == 0 {
			if r.err == nil {
				r.err = r.next()
			}
			if r.ready == 0 && r.err != nil {
				return n, r.err
			}
			continue
		}
		part := r.unread()
		m := copy(p[n:], part)
		n += m
		r.ready -= m
	}
	return n, nil
}

// unread is what Read has not returned yet, as far as it is in one piece.
func (r *Reader) unread() []byte {
	from := r.at - r.ready
	if from < 0 {
		return r.ring[from+len(r.ring):]
	}
	return r.ring[from:r.at]
}

// next decodes a block, or the header of a frame.
func (r *Reader) next() error {
	if !r.inFrame {
		return r.header()
	}
	var b [3]byte
	if _, err := io.ReadFull(r.in, b[:]); err != nil {
		return noEOF(err)
	}
	header := uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16
	last, kind, size := header&1 == 1, header>>1&3, int(header>>3)
	if size > r.blockMax {
		return corrupt("a block of %d bytes", size)
	}
	var err error
	switch kind {
	case 0:
		err = r.raw(size)
	case 1:
		err = r.repeated(size)
	case 2:
		err = r.compressed(size)
	default:
		err = corrupt("a reserved type of block")
	}
	if err != nil {
		return err
	}
	r.account()
	if r.sized && r.decoded > r.size {
		return corrupt("more than the %d bytes of the frame", r.size)
	}
	if last {
		return r.trailer()
	}
	return nil
}

// account adds the block to what is known of the frame.
func (r *Reader) account() {
	r.decoded += uint64(r.ready)
	if !r.checked {
		return
	}
	part := r.unread()
	r.sum.write(part)
	if rest := r.ready - len(part); rest > 0 {
		r.sum.write(r.ring[:rest])
	}
}

// trailer ends a frame.
func (r *Reader) trailer() error {
	r.inFrame = false
	if r.sized && r.decoded != r.size {
		return corrupt("%d bytes instead of the %d of the frame", r.decoded, r.size)
	}
	if !r.checked {
		return nil
	}
	var b [4]byte
	if _, err := io.ReadFull(r.in, b[:]); err != nil {
		return noEOF(err)
	}
	if binary.LittleEndian.Uint32(b[:]) != uint32(r.sum.sum()) {
		return corrupt("another checksum")
	}
	return nil
}

// header begins a frame (RFC 8878 §3.1.1), or skips one.
func (r *Reader) header() error {
	var b [14]byte
	if _, err := io.ReadFull(r.in, b[:4]); err != nil {
		if err == io.ErrUnexpectedEOF {
			return corrupt("a few bytes behind the last frame")
		}
		return err
	}
	magic := binary.LittleEndian.Uint32(b[:])
	if magic&skippableMask == skippable {
		return r.skip()
	}
	if magic != frameMagic {
		return corrupt("no frame")
	}
	descriptor, err := r.in.ReadByte()
	if err != nil {
		return noEOF(err)
	}
	single := descriptor>>5&1 == 1
	windowSize := 1
	if single {
		windowSize = 0
	}
	dictionary := int([4]uint8{0, 1, 2, 4}[descriptor&3])
	content := int([4]uint8{0, 2, 4, 8}[descriptor>>6])
	if content == 0 && single {
		content = 1
	}
	rest := b[:windowSize+dictionary+content]
	if _, err := io.ReadFull(r.in, rest); err != nil {
		return noEOF(err)
	}
	if descriptor>>3&1 == 1 {
		return corrupt("a reserved bit")
	}
	for _, b := range rest[windowSize : windowSize+dictionary] {
		if b != 0 {
			return corrupt("a dictionary is needed")
		}
	}
	r.sized, r.size = content > 0, littleEndian(rest[windowSize+dictionary:])
	if content == 2 {
		r.size += 256
	}
	window := r.size
	if !single {
		base := uint64(1) << (10 + rest[0]>>3)
		window = base + base/8*uint64(rest[0]&7)
	}
	if window > uint64(r.maxWindow) {
		return fmt.Errorf("%w: %d bytes", ErrWindow, window)
	}
	r.checked = descriptor>>2&1 == 1
	r.begin(int(window))
	return nil
}

func (r *Reader) begin(window int) {
	r.inFrame, r.window, r.blockMax, r.decoded = true, window, min(window, maxBlock), 0
	if window+maxBlock > len(r.ring) {
		// A sequence of frames with ever larger windows takes the memory of two at most.
		r.ring = nil
		r.ring = make([]byte, min(1<<bits.Len(uint(window)), r.maxWindow)+maxBlock)
		r.at = 0
	}
	r.sum.reset()
	r.offsets = [3]uint32{1, 4, 8}
	r.huffman.bits = 0
	for i := range r.tables {
		r.tables[i].entries = nil
	}
}

func (r *Reader) skip() error {
	var b [4]byte
	if _, err := io.ReadFull(r.in, b[:]); err != nil {
		return noEOF(err)
	}
	if _, err := io.CopyN(io.Discard, r.in, int64(binary.LittleEndian.Uint32(b[:]))); err != nil {
		return noEOF(err)
	}
	return nil
}

func (r *Reader) raw(size int) error {
	for size > 0 {
		n, err := io.ReadFull(r.in, r.ring[r.at:min(r.at+size, len(r.ring))])
		if err != nil {
			return noEOF(err)
		}
		r.advance(n)
		size -= n
	}
	return nil
}

func (r *Reader) repeated(size int) error {
	b, err := r.in.ReadByte()
	if err != nil {
		return noEOF(err)
	}
	for size > 0 {
		part := r.ring[r.at:min(r.at+size, len(r.ring))]
		for i := range part {
			part[i] = b
		}
		r.advance(len(part))
		size -= len(part)
	}
	return nil
}

// compressed decodes a block of literals and of sequences that say how to put them together.
func (r *Reader) compressed(size int) error {
	if r.block == nil {
		r.block, r.literals = make([]byte, maxBlock), make([]byte, maxBlock)
	}
	block := r.block[:size]
	if _, err := io.ReadFull(r.in, block); err != nil {
		return noEOF(err)
	}
	literals, rest, err := r.readLiterals(block)
	if err != nil {
		return err
	}
	return r.sequences(literals, rest)
}

// advance is called when n bytes were put into the ring without a gap.
func (r *Reader) advance(n int) {
	r.ready += n
	if r.at += n; r.at == len(r.ring) {
		r.at = 0
	}
}

// append puts literals into the ring.
func (r *Reader) append(p []byte) {
	for len(p) > 0 {
		n := copy(r.ring[r.at:], p)
		r.advance(n)
		p = p[n:]
	}
}

// repeat puts bytes into the ring that it holds already, offset bytes back.
func (r *Reader) repeat(offset, length int) {
	from := r.at - offset
	if from < 0 {
		from += len(r.ring)
	}
	if from+length > len(r.ring) || r.at+length > len(r.ring) {
		for range length { // over the end of the ring
			r.ring[r.at] = r.ring[from]
			r.advance(1)
			if from++; from == len(r.ring) {
				from = 0
			}
		}
		return
	}
	to := r.ring[r.at : r.at+length]
	if from > r.at {
		copy(to, r.ring[from:from+length])
	} else {
		for done := 0; done < length; { // what was copied may be copied on
			done += copy(to[done:], r.ring[from:r.at+done])
		}
	}
	r.advance(length)
}

func littleEndian(b []byte) (n uint64) {
	for i, c := range b {
		n |= uint64(c) << (8 * i)
	}
	return n
}

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
}

// noEOF is for an end of the input where there must be more.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
