package zstd

import (
	"encoding/binary"
	"math/bits"
)

// backward reads a bit stream from its end to its beginning (RFC 8878 §4.1). Reading beyond the beginning gives zeros and makes
// left negative.
type backward struct {
	in   []byte // what was not loaded yet
	next uint64 // the next bits, from the highest on
	left int    // how many of them are valid
}

// newBackward skips the padding: zeros, and the highest bit that is set.
func newBackward(in []byte) (backward, error) {
	if len(in) == 0 || in[len(in)-1] == 0 {
		return backward{}, corrupt("a bit stream without an end")
	}
	last := in[len(in)-1]
	n := bits.Len8(last) - 1
	b := backward{in: in[:len(in)-1], next: uint64(last) << (64 - n), left: n}
	return b, nil
}

// fill loads so many bits that at least 56 can be read, or all there are.
func (b *backward) fill() {
	if len(b.in) >= 8 && b.left >= 0 {
		// The bits behind the last whole byte are there already when they are loaded again.
		b.next |= binary.LittleEndian.Uint64(b.in[len(b.in)-8:]) >> uint(b.left)
		n := (64 - b.left) >> 3
		b.in = b.in[:len(b.in)-n]
		b.left += n << 3
		return
	}
	for b.left >= 0 && b.left <= 56 && len(b.in) > 0 {
		b.next |= uint64(b.in[len(b.in)-1]) << (56 - uint(b.left))
		b.in = b.in[:len(b.in)-1]
		b.left += 8
	}
}

// read returns n bits, 56 at most after fill.
func (b *backward) read(n uint8) uint64 {
	v := b.next >> (64 - uint(n))
	b.next <<= n
	b.left -= int(n)
	return v
}

// end reports whether everything was read, and nothing more.
func (b *backward) end() bool { return b.left == 0 && len(b.in) == 0 }

// forward reads a bit stream from its beginning.
type forward struct {
	in   []byte
	next uint32
	left uint
	over bool // read beyond the end
}

// peek returns the next n bits, 16 at most.
func (f *forward) peek(n uint) uint32 {
	for f.left < n {
		if len(f.in) > 0 {
			f.next |= uint32(f.in[0]) << f.left
			f.in = f.in[1:]
		} else {
			f.over = true
		}
		f.left += 8
	}
	return f.next & (1<<n - 1)
}

func (f *forward) skip(n uint) {
	f.next >>= n
	f.left -= n
}
