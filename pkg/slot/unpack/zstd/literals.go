package zstd

import "math/bits"

const maxCode = 11 // bits of a Huffman code

// huffman decodes literals: by the next bits of the stream, it says which literal they begin with and how many bits that has.
type huffman struct {
	bits  uint8 // of the longest code; 0 while there is none
	codes [1 << maxCode]struct{ literal, bits uint8 }

	counts  distribution // of the weights
	weights table
}

// readLiterals reads the Literals_Section (RFC 8878 §3.1.1.3.1).
func (r *Reader) readLiterals(in []byte) (literals, rest []byte, err error) {
	if len(in) == 0 {
		return nil, nil, corrupt("an empty block")
	}
	kind, format := in[0]&3, in[0]>>2&3
	if kind < 2 {
		return r.plainLiterals(in, kind == 1, format)
	}
	header, width, streams := int([4]uint8{3, 3, 4, 5}[format]), [4]uint8{10, 10, 14, 18}[format], 4
	if format == 0 {
		streams = 1
	}
	if len(in) < header {
		return nil, nil, corrupt("literals without an end")
	}
	sizes := littleEndian(in[:header]) >> 4
	size, packed := int(sizes&(1<<width-1)), int(sizes>>width)
	if size > r.blockMax || packed > len(in)-header {
		return nil, nil, corrupt("more literals than a block has")
	}
	in, rest = in[header:header+packed], in[header+packed:]
	if kind == 2 {
		if in, err = r.huffman.readTree(in); err != nil {
			return nil, nil, err
		}
	}
	if r.huffman.bits == 0 {
		return nil, nil, corrupt("literals without a tree")
	}
	literals = r.literals[:size]
	if streams == 1 {
		return literals, rest, r.huffman.decode(literals, in)
	}
	return literals, rest, r.huffman.decodeFour(literals, in)
}

func (r *Reader) plainLiterals(in []byte, repeated bool, format uint8) (literals, rest []byte, err error) {
	header, shift := int([4]uint8{1, 2, 1, 3}[format]), [4]uint8{3, 4, 3, 4}[format]
	if len(in) < header {
		return nil, nil, corrupt("literals without an end")
	}
	size := int(littleEndian(in[:header]) >> shift)
	in = in[header:]
	stored := size
	if repeated {
		stored = 1
	}
	if size > r.blockMax || stored > len(in) {
		return nil, nil, corrupt("more literals than a block has")
	}
	if !repeated {
		return in[:size], in[size:], nil
	}
	literals = r.literals[:size]
	for i := range literals {
		literals[i] = in[0]
	}
	return literals, in[1:], nil
}

// readTree reads a Huffman_Tree_Description (RFC 8878 §4.2.1).
func (h *huffman) readTree(in []byte) (rest []byte, err error) {
	if len(in) == 0 {
		return nil, corrupt("a tree without an end")
	}
	var weights [256]uint8
	n := int(in[0])
	in = in[1:]
	if n >= 128 {
		n -= 127
		if len(in) < (n+1)/2 {
			return nil, corrupt("a tree without an end")
		}
		for i := range n {
			weights[i] = in[i/2] >> (4 - i%2*4) & 15
		}
		rest = in[(n+1)/2:]
	} else {
		if len(in) < n {
			return nil, corrupt("a tree without an end")
		}
		rest = in[n:]
		if n, err = h.readWeights(weights[:255], in[:n]); err != nil {
			return nil, err
		}
	}
	return rest, h.build(&weights, n)
}

// readWeights reads the weights of a tree that are compressed by two states in turns (RFC 8878 §4.2.1.2).
func (h *huffman) readWeights(weights []uint8, in []byte) (n int, err error) {
	counts, log, in, err := h.counts.read(in, maxCode+1, 6)
	if err != nil {
		return 0, err
	}
	t := &h.weights
	var symbols [maxCode + 1]symbol
	for i := range symbols {
		symbols[i].value = uint32(i)
	}
	if err := t.build(counts, log, symbols[:]); err != nil {
		return 0, err
	}
	b, err := newBackward(in)
	if err != nil {
		return 0, err
	}
	b.fill()
	state, other := b.read(log), b.read(log)
	if b.left < 0 {
		return 0, corrupt("weights without a beginning")
	}
	for {
		if n+2 > len(weights) {
			return 0, corrupt("too many weights")
		}
		e := t.entries[state]
		weights[n] = uint8(e.value)
		n++
		b.fill()
		if b.left < int(e.bits) { // the stream is over: the other state is the last
			weights[n] = uint8(t.entries[other].value)
			return n + 1, nil
		}
		state, other = other, uint64(e.next)+b.read(e.bits)
	}
}

// build makes the codes of n weights and of the last one, which follows from them.
func (h *huffman) build(weights *[256]uint8, n int) error {
	h.bits = 0
	total := 0
	for _, w := range weights[:n] {
		if w > maxCode {
			return corrupt("a code that is too long")
		}
		total += 1 << w >> 1
	}
	if total == 0 {
		return corrupt("a tree without codes")
	}
	longest := bits.Len(uint(total))
	left := 1<<longest - total
	if longest > maxCode || left&(left-1) != 0 {
		return corrupt("a tree that does not add up")
	}
	weights[n] = uint8(bits.Len(uint(left)))
	at := 0
	for w := 1; w <= longest; w++ {
		for literal, weight := range weights[:n+1] {
			if int(weight) != w {
				continue
			}
			for range 1 << (w - 1) {
				h.codes[at].literal, h.codes[at].bits = uint8(literal), uint8(longest+1-w)
				at++
			}
		}
	}
	h.bits = uint8(longest)
	return nil
}

// decode fills to with what the stream says, which must be all of it.
func (h *huffman) decode(to, in []byte) error {
	b, err := newBackward(in)
	if err != nil {
		return err
	}
	shift := 64 - uint(h.bits)
	for len(to) >= 5 {
		b.fill()
		for i := range 5 { // 55 bits at most
			c := h.codes[b.next>>shift&(1<<maxCode-1)]
			to[i] = c.literal
			b.next <<= c.bits
			b.left -= int(c.bits)
		}
		if b.left < 0 {
			return corrupt("literals without an end")
		}
		to = to[5:]
	}
	b.fill()
	for i := range to {
		c := h.codes[b.next>>shift&(1<<maxCode-1)]
		to[i] = c.literal
		b.next <<= c.bits
		b.left -= int(c.bits)
	}
	if !b.end() {
		return corrupt("literals that do not end with their stream")
	}
	return nil
}

// decodeFour decodes four streams, each of which has a quarter of the literals.
func (h *huffman) decodeFour(to, in []byte) error {
	if len(in) < 6 {
		return corrupt("literals without an end")
	}
	quarter := (len(to) + 3) / 4
	if len(to) < 3*quarter {
		return corrupt("too few literals for four streams")
	}
	sizes, in := in[:6], in[6:]
	for i := range 4 {
		size, part := len(in), to
		if i < 3 {
			size, part = int(littleEndian(sizes[2*i:2*i+2])), to[:quarter]
		}
		if size > len(in) {
			return corrupt("literals without an end")
		}
		if err := h.decode(part, in[:size]); err != nil {
			return err
		}
		to, in = to[len(part):], in[size:]
	}
	return nil
}
