package signature

import (
	"encoding/binary"
	"errors"
	"hash"
	"math/bits"
)

// blake2b is BLAKE2b-512 without a key (RFC 7693). The library's costs 53 KB of the device binary, most of them code for vector
// units; ours is as fast as storage and costs two.
type blake2b struct {
	state  [8]uint64
	block  [blake2bBlock]byte // what is not compressed yet; full before it is known whether it is the last
	filled int
	size   uint64 // bytes that were compressed
}

const (
	blake2bSize  = 64
	blake2bBlock = 128
)

// blake2bIV is what states begin with (RFC 7693 §2.6).
var blake2bIV = [8]uint64{
	0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1,
	0x510e527fade682d1, 0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179,
}

// blake2bSigma has the order of a message's words in each of ten rounds, four bits a word, the first lowest (RFC 7693 §2.7).
var blake2bSigma = [10]uint64{
	0xfedcba9876543210, 0x357b20c16df984ae, 0x491763eadf250c8b, 0x8f04a562ebcd1397, 0xd386cb1efa427509,
	0x91ef57d438b0a6c2, 0xb8293670a4def15c, 0xa2684f05931ce7bd, 0x5a417d2c803b9ef6, 0x0dc3e9bf5167482a,
}

func newBLAKE2b() hash.Hash {
	d := new(blake2b)
	d.Reset()
	return d
}

func (d *blake2b) Reset() {
	*d = blake2b{state: blake2bIV}
	d.state[0] ^= 1<<24 | 1<<16 | blake2bSize // no key, fan-out and depth of 1
}

func (d *blake2b) Size() int      { return blake2bSize }
func (d *blake2b) BlockSize() int { return blake2bBlock }

func (d *blake2b) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if d.filled == blake2bBlock {
			d.compress(d.block[:], 0)
			d.filled = 0
		}
		if d.filled == 0 {
			for len(p) > blake2bBlock {
				d.compress(p[:blake2bBlock], 0)
				p = p[blake2bBlock:]
			}
		}
		taken := copy(d.block[d.filled:], p)
		d.filled += taken
		p = p[taken:]
	}
	return n, nil
}

// Sum appends the digest of what was written so far.
func (d *blake2b) Sum(to []byte) []byte {
	last := *d
	clear(last.block[last.filled:])
	last.size -= uint64(blake2bBlock - last.filled) // compress counts a whole block
	last.compress(last.block[:], ^uint64(0))
	for _, word := range last.state {
		to = binary.LittleEndian.AppendUint64(to, word)
	}
	return to
}

// compress is the function F of RFC 7693 §3.2; final has all bits set for the last block.
func (d *blake2b) compress(block []byte, final uint64) {
	d.size += blake2bBlock
	var m [16]uint64
	for i := range m {
		m[i] = binary.LittleEndian.Uint64(block[8*i:])
	}
	h, iv := &d.state, &blake2bIV
	v0, v1, v2, v3, v4, v5, v6, v7 := h[0], h[1], h[2], h[3], h[4], h[5], h[6], h[7]
	v8, v9, v10, v11, v12, v13, v14, v15 := iv[0], iv[1], iv[2], iv[3], iv[4]^d.size, iv[5], iv[6]^final, iv[7]
	for round := range 12 {
		s := blake2bSigma[round%len(blake2bSigma)]
		v0 += v4 + m[s&15]
		v12 = bits.RotateLeft64(v12^v0, -32)
		v8 += v12
		v4 = bits.RotateLeft64(v4^v8, -24)
		v0 += v4 + m[s>>4&15]
		v12 = bits.RotateLeft64(v12^v0, -16)
		v8 += v12
		v4 = bits.RotateLeft64(v4^v8, -63)
		v1 += v5 + m[s>>8&15]
		v13 = bits.RotateLeft64(v13^v1, -32)
		v9 += v13
		v5 = bits.RotateLeft64(v5^v9, -24)
		v1 += v5 + m[s>>12&15]
		v13 = bits.RotateLeft64(v13^v1, -16)
		v9 += v13
		v5 = bits.RotateLeft64(v5^v9, -63)
		v2 += v6 + m[s>>16&15]
		v14 = bits.RotateLeft64(v14^v2, -32)
		v10 += v14
		v6 = bits.RotateLeft64(v6^v10, -24)
		v2 += v6 + m[s>>20&15]
		v14 = bits.RotateLeft64(v14^v2, -16)
		v10 += v14
		v6 = bits.RotateLeft64(v6^v10, -63)
		v3 += v7 + m[s>>24&15]
		v15 = bits.RotateLeft64(v15^v3, -32)
		v11 += v15
		v7 = bits.RotateLeft64(v7^v11, -24)
		v3 += v7 + m[s>>28&15]
		v15 = bits.RotateLeft64(v15^v3, -16)
		v11 += v15
		v7 = bits.RotateLeft64(v7^v11, -63)
		v0 += v5 + m[s>>32&15]
		v15 = bits.RotateLeft64(v15^v0, -32)
		v10 += v15
		v5 = bits.RotateLeft64(v5^v10, -24)
		v0 += v5 + m[s>>36&15]
		v15 = bits.RotateLeft64(v15^v0, -16)
		v10 += v15
		v5 = bits.RotateLeft64(v5^v10, -63)
		v1 += v6 + m[s>>40&15]
		v12 = bits.RotateLeft64(v12^v1, -32)
		v11 += v12
		v6 = bits.RotateLeft64(v6^v11, -24)
		v1 += v6 + m[s>>44&15]
		v12 = bits.RotateLeft64(v12^v1, -16)
		v11 += v12
		v6 = bits.RotateLeft64(v6^v11, -63)
		v2 += v7 + m[s>>48&15]
		v13 = bits.RotateLeft64(v13^v2, -32)
		v8 += v13
		v7 = bits.RotateLeft64(v7^v8, -24)
		v2 += v7 + m[s>>52&15]
		v13 = bits.RotateLeft64(v13^v2, -16)
		v8 += v13
		v7 = bits.RotateLeft64(v7^v8, -63)
		v3 += v4 + m[s>>56&15]
		v14 = bits.RotateLeft64(v14^v3, -32)
		v9 += v14
		v4 = bits.RotateLeft64(v4^v9, -24)
		v3 += v4 + m[s>>60]
		v14 = bits.RotateLeft64(v14^v3, -16)
		v9 += v14
		v4 = bits.RotateLeft64(v4^v9, -63)
	}
	for i, word := range [8]uint64{v0 ^ v8, v1 ^ v9, v2 ^ v10, v3 ^ v11, v4 ^ v12, v5 ^ v13, v6 ^ v14, v7 ^ v15} {
		h[i] ^= word
	}
}

// MarshalBinary returns what UnmarshalBinary goes on from.
func (d *blake2b) MarshalBinary() ([]byte, error) {
	to := []byte(blake2bMark)
	for _, word := range d.state {
		to = binary.BigEndian.AppendUint64(to, word)
	}
	to = binary.BigEndian.AppendUint64(to, d.size)
	to = append(to, byte(d.filled))
	return append(to, d.block[:]...), nil
}

const blake2bMark = "blake2b-512\x01"

// UnmarshalBinary goes on where MarshalBinary was called.
func (d *blake2b) UnmarshalBinary(from []byte) error {
	const fixed = len(blake2bMark) + 8*8 + 8 + 1
	if len(from) != fixed+blake2bBlock || string(from[:len(blake2bMark)]) != blake2bMark || from[fixed-1] > blake2bBlock {
		return errors.New("not the state of BLAKE2b-512")
	}
	from = from[len(blake2bMark):]
	for i := range d.state {
		d.state[i] = binary.BigEndian.Uint64(from[8*i:])
	}
	d.size = binary.BigEndian.Uint64(from[64:])
	d.filled = int(from[72])
	copy(d.block[:], from[73:])
	return nil
}
