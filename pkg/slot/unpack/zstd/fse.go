package zstd

import "math/bits"

// entry is a state of a table of finite state entropy coding (RFC 8878 §4.1).
type entry struct {
	value uint32 // of the symbol: itself, or what extra bits are added to
	next  uint16 // the next state, to which bits are added
	bits  uint8  // how many
	extra uint8
}

// table decodes symbols. It has no entries until it was made.
type table struct {
	entries []entry
	log     uint8 // Accuracy_Log: there are 1<<log entries
	memory  [512]entry
}

// symbol is what a state stands for.
type symbol struct {
	value uint32
	extra uint8
}

// distribution says how many states each symbol has; -1 is less than one.
type distribution [64]int16

// read reads the distribution of the symbols 0 to limit-1 (RFC 8878 §4.1.1).
func (d *distribution) read(in []byte, limit int, maxLog uint8) (counts []int16, log uint8, rest []byte, err error) {
	*d = distribution{}
	f := forward{in: in}
	log = uint8(f.peek(4)) + 5
	f.skip(4)
	if log > maxLog {
		return nil, 0, nil, corrupt("a table of 2^%d states", log)
	}
	n := 0
	for remaining := 1 << log; remaining > 0; {
		if n >= limit || f.over {
			return nil, 0, nil, corrupt("a distribution of too many symbols")
		}
		width := uint(bits.Len(uint(remaining + 1)))
		value := int(f.peek(width))
		short, low := 1<<width-1-(remaining+1), 1<<(width-1)-1
		if value&low < short {
			value &= low
			f.skip(width - 1)
		} else {
			f.skip(width)
			if value > low {
				value -= short
			}
		}
		count := int16(value - 1)
		d[n] = count
		n++
		if count < 0 {
			remaining--
			continue
		}
		if remaining -= int(count); remaining < 0 {
			return nil, 0, nil, corrupt("a distribution that does not add up")
		}
		for more := count == 0; more; {
			zeros := int(f.peek(2))
			f.skip(2)
			if n += zeros; n > limit || f.over {
				return nil, 0, nil, corrupt("a distribution of too many symbols")
			}
			more = zeros == 3
		}
	}
	if f.over {
		return nil, 0, nil, corrupt("a distribution without an end")
	}
	// Whole bytes that were looked at but not used belong to what follows.
	return d[:n], log, in[len(in)-len(f.in)-int(f.left/8):], nil
}

// build makes the table of a distribution. symbols says what each symbol stands for; nil is itself.
func (t *table) build(counts []int16, log uint8, symbols []symbol) error {
	if len(counts) > len(symbols) {
		return corrupt("a symbol that does not exist")
	}
	size := 1 << log
	t.log, t.entries = log, t.memory[:size]
	var of [512]uint8
	var next [len(distribution{})]uint16
	high := size - 1
	for s, count := range counts {
		next[s] = uint16(count)
		if count == -1 {
			of[high] = uint8(s)
			high--
			next[s] = 1
		}
	}
	step, position := size>>1+size>>3+3, 0
	for s, count := range counts {
		for range count {
			of[position] = uint8(s)
			for position = (position + step) & (size - 1); position > high; {
				position = (position + step) & (size - 1)
			}
		}
	}
	for i := range t.entries {
		s := of[i]
		n := next[s]
		next[s]++
		width := log - uint8(bits.Len16(n)-1)
		t.entries[i] = entry{value: symbols[s].value, extra: symbols[s].extra, bits: width, next: n<<width - uint16(size)}
	}
	return nil
}

// single makes a table that has one symbol only.
func (t *table) single(s symbol) {
	t.log, t.entries = 0, t.memory[:1]
	t.entries[0] = entry{value: s.value, extra: s.extra}
}
