package zstd

import (
	"encoding/binary"
	"math/bits"
)

// digest is XXH64 with the seed 0, as the xxHash specification 0.1.1 has it.
type digest struct {
	lanes  [4]uint64
	length uint64
	tail   [32]byte // what is not a whole stripe, of length%32 bytes
}

const (
	prime1 = 0x9E3779B185EBCA87
	prime2 = 0xC2B2AE3D27D4EB4F
	prime3 = 0x165667B19E3779F9
	prime4 = 0x85EBCA77C2B2AE63
	prime5 = 0x27D4EB2F165667C5
)

func (d *digest) reset() {
	var one, two uint64 = prime1, prime2 // constants would overflow
	d.lanes, d.length = [4]uint64{one + two, two, 0, -one}, 0
}

func (d *digest) write(p []byte) {
	if n := d.length % 32; n > 0 {
		m := copy(d.tail[n:], p)
		d.length += uint64(m)
		if p = p[m:]; d.length%32 > 0 {
			return
		}
		d.stripes(d.tail[:])
	}
	whole := len(p) &^ 31
	d.stripes(p[:whole])
	copy(d.tail[:], p[whole:])
	d.length += uint64(len(p))
}

func (d *digest) stripes(p []byte) {
	a, b, c, e := d.lanes[0], d.lanes[1], d.lanes[2], d.lanes[3]
	for ; len(p) >= 32; p = p[32:] {
		a = round(a, binary.LittleEndian.Uint64(p))
		b = round(b, binary.LittleEndian.Uint64(p[8:]))
		c = round(c, binary.LittleEndian.Uint64(p[16:]))
		e = round(e, binary.LittleEndian.Uint64(p[24:]))
	}
	d.lanes = [4]uint64{a, b, c, e}
}

func round(lane, value uint64) uint64 { return bits.RotateLeft64(lane+value*prime2, 31) * prime1 }

func (d *digest) sum() uint64 {
	var h uint64 = prime5
	if d.length >= 32 {
		l := d.lanes
		h = bits.RotateLeft64(l[0], 1) + bits.RotateLeft64(l[1], 7) + bits.RotateLeft64(l[2], 12) + bits.RotateLeft64(l[3], 18)
		for _, lane := range l {
			h = (h^round(0, lane))*prime1 + prime4
		}
	}
	h += d.length
	p := d.tail[:d.length%32]
	for ; len(p) >= 8; p = p[8:] {
		h = bits.RotateLeft64(h^round(0, binary.LittleEndian.Uint64(p)), 27)*prime1 + prime4
	}
	if len(p) >= 4 {
		h = bits.RotateLeft64(h^uint64(binary.LittleEndian.Uint32(p))*prime1, 23)*prime2 + prime3
		p = p[4:]
	}
	for _, c := range p {
		h = bits.RotateLeft64(h^uint64(c)*prime5, 11) * prime1
	}
	h = (h ^ h>>33) * prime2
	h = (h ^ h>>29) * prime3
	return h ^ h>>32
}
