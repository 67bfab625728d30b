package zstd

// alphabet is a kind of codes in sequences, with a distribution for when a block brings none (RFC 8878 §3.1.1.3.2).
type alphabet struct {
	symbols []symbol
	maxLog  uint8
	usual   []int16
	log     uint8 // of usual
}

// alphabets are those of the tables of a block, in their order.
func alphabets() [3]alphabet {
	var far []symbol
	for code := range uint8(32) {
		far = append(far, symbol{value: 1 << code, extra: code})
	}
	return [3]alphabet{
		lengths: {
			symbols: ranges(0, 16, 1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16), maxLog: 9, log: 6, usual: []int16{
				4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1, -1, -1, -1, -1,
			}},
		offsets: {
			symbols: far, maxLog: 8, log: 5, usual: []int16{
				1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1,
			}},
		matches: {
			symbols: ranges(3, 32, 1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16), maxLog: 9, log: 6, usual: []int16{
				1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
				1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1,
			}},
	}
}

// ranges are codes whose values follow one another from first on: several of one value each, then of 1<<extra.
func ranges(first uint32, single int, extras ...uint8) []symbol {
	var list []symbol
	for _, extra := range append(make([]uint8, single), extras...) {
		list = append(list, symbol{value: first, extra: extra})
		first += 1 << extra
	}
	return list
}
