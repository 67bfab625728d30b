// Package hostile measures what decoders allocate for the worst that a megabyte can hold. Allocation does not depend on
// the speed of the machine, so that it can be a test; time is a benchmark.
package hostile

import (
	"runtime"
	"strings"
	"testing"
)

// Size is how large inputs are, and MaxAllocated how much decoding one of them may allocate in total, garbage included;
// both in bytes.
const (
	Size         = 1 << 20
	MaxAllocated = 16 << 20
)

// Fill returns an input of Size bytes that begins with prefix and goes on with repetitions of unit. A suffix closes what
// the prefix opened, as often as there are units when each has to be closed.
func Fill(prefix, unit, closing, suffix string) []byte {
	n := (Size - len(prefix) - len(suffix)) / (len(unit) + len(closing))
	return []byte(prefix + strings.Repeat(unit, n) + strings.Repeat(closing, n) + suffix)
}

// Check fails for each input for which decode allocates too much.
func Check(t *testing.T, inputs map[string][]byte, decode func([]byte)) {
	t.Helper()
	for name, input := range inputs {
		t.Run(name, func(t *testing.T) {
			// Other goroutines of the test binary allocate too, which more attempts tell apart.
			got := allocated(func() { decode(input) })
			for range 2 {
				if got > MaxAllocated {
					got = min(got, allocated(func() { decode(input) }))
				}
			}
			if got > MaxAllocated {
				t.Errorf("decoding %d bytes allocated %d, at most %d", len(input), got, MaxAllocated)
			}
		})
	}
}

// Benchmark tells how long each input takes.
func Benchmark(b *testing.B, inputs map[string][]byte, decode func([]byte)) {
	for name, input := range inputs {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				decode(input)
			}
		})
	}
}

// allocated returns the bytes that f allocates, garbage included.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}
