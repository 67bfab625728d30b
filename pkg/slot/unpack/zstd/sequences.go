package zstd

// The tables of a block.
const (
	lengths = iota // of literals
	offsets
	matches // lengths of them
)

// maxOffset is the largest Offset_Code that windows allow, of those that fit into what backward.fill loads.
const maxOffset = 24

// sequences reads the Sequences_Section (RFC 8878 §3.1.1.3.2) and puts the block together.
func (r *Reader) sequences(literals, in []byte) error {
	count, in, err := sequenceCount(in)
	if err != nil {
		return err
	}
	if count == 0 {
		if len(in) > 0 {
			return corrupt("a block without an end")
		}
		r.append(literals)
		return nil
	}
	if len(in) == 0 || in[0]&3 != 0 {
		return corrupt("sequences without tables")
	}
	modes := in[0]
	in = in[1:]
	for i := range r.tables {
		if in, err = r.readTable(i, modes>>(6-2*i)&3, in); err != nil {
			return err
		}
	}
	return r.execute(count, literals, in)
}

func sequenceCount(in []byte) (count int, rest []byte, err error) {
	switch {
	case len(in) >= 1 && in[0] < 128:
		return int(in[0]), in[1:], nil
	case len(in) >= 2 && in[0] < 255:
		return int(in[0]-128)<<8 + int(in[1]), in[2:], nil
	case len(in) >= 3 && in[0] == 255:
		return int(in[1]) + int(in[2])<<8 + 0x7F00, in[3:], nil
	}
	return 0, nil, corrupt("a block without sequences")
}

// readTable makes a table in the way that mode says.
func (r *Reader) readTable(which int, mode uint8, in []byte) (rest []byte, err error) {
	t, a := &r.tables[which], &r.alphabets[which]
	switch mode {
	case 0:
		return in, t.build(a.usual, a.log, a.symbols)
	case 1:
		if len(in) == 0 || int(in[0]) >= len(a.symbols) {
			return nil, corrupt("a symbol that does not exist")
		}
		t.single(a.symbols[in[0]])
		return in[1:], nil
	case 2:
		counts, log, rest, err := r.counts.read(in, len(a.symbols), a.maxLog)
		if err != nil {
			return nil, err
		}
		return rest, t.build(counts, log, a.symbols)
	}
	if t.entries == nil {
		return nil, corrupt("a table that is not there to be repeated")
	}
	return in, nil
}

// execute decodes sequences: so many literals, then so many bytes from so far back.
func (r *Reader) execute(count int, literals, in []byte) error {
	b, err := newBackward(in)
	if err != nil {
		return err
	}
	length, offset, match := &r.tables[lengths], &r.tables[offsets], &r.tables[matches]
	b.fill()
	l, o, m := b.read(length.log), b.read(offset.log), b.read(match.log)
	room, known := r.blockMax, int(min(r.decoded, uint64(r.window)))
	for {
		el, eo, em := length.entries[l], offset.entries[o], match.entries[m]
		if eo.extra > maxOffset {
			return corrupt("an offset beyond the window")
		}
		b.fill()
		far := eo.value + uint32(b.read(eo.extra))
		matched := int(em.value) + int(b.read(em.extra))
		copied := int(el.value) + int(b.read(el.extra))
		far = r.distance(far, copied == 0)
		if b.left < 0 || copied > len(literals) || copied+matched > room {
			return corrupt("a sequence that does not fit into the block")
		}
		r.append(literals[:copied])
		literals, room, known = literals[copied:], room-copied-matched, min(known+copied, r.window)
		if far == 0 || int(far) > known {
			return corrupt("an offset beyond the beginning")
		}
		r.repeat(int(far), matched)
		known = min(known+matched, r.window)
		if count--; count == 0 {
			break
		}
		b.fill()
		l = uint64(el.next) + b.read(el.bits)
		m = uint64(em.next) + b.read(em.bits)
		o = uint64(eo.next) + b.read(eo.bits)
	}
	if !b.end() {
		return corrupt("sequences that do not end with their stream")
	}
	if len(literals) > room {
		return corrupt("more literals than a block has")
	}
	r.append(literals)
	return nil
}

// distance turns an Offset_Value into an offset and keeps the latest three (RFC 8878 §3.1.1.5). 0 is none.
func (r *Reader) distance(value uint32, noLiterals bool) uint32 {
	if value > 3 {
		r.offsets = [3]uint32{value - 3, r.offsets[0], r.offsets[1]}
		return r.offsets[0]
	}
	if noLiterals {
		value++
	}
	switch value {
	case 1:
	case 2:
		r.offsets[0], r.offsets[1] = r.offsets[1], r.offsets[0]
	case 3:
		r.offsets = [3]uint32{r.offsets[2], r.offsets[0], r.offsets[1]}
	default:
		r.offsets = [3]uint32{r.offsets[0] - 1, r.offsets[0], r.offsets[1]}
	}
	return r.offsets[0]
}
