package image

import (
	"testing"
	"time"
)

// Who brings the image forward may break off as often as it likes, and nobody else.
func TestPatience(t *testing.T) {
	type step struct{ offset, got int64 }
	same := func(s step, n int) (list []step) {
		for range n {
			list = append(list, s)
		}
		return list
	}
	climb := func(by int64, n int) (list []step) {
		for i := range int64(n) {
			list = append(list, step{(i + 1) * by, by})
		}
		return list
	}
	tests := []struct {
		name    string
		minRate int64 // bytes per second, over half a minute
		steps   []step
		want    int // how often it is asked again
	}{
		{"large pieces", 1 << 10, climb(100_000, 5000), 5000},
		{"pieces that add up", 1 << 10, climb(5000, 5000), 5000},
		{"pieces that do not", 1 << 10, climb(1000, 5000), 8},
		{"a byte each", 1 << 10, climb(1, 5000), 8},
		{"nothing", 1 << 10, same(step{}, 10), 2},
		{"nothing any more", 1 << 10, append(climb(100_000, 3), same(step{300_000, 0}, 10)...), 5},
		{"the first half for ever", 1 << 10, same(step{500_000, 500_000}, 5000), 9}, // from the start each time
		{"slower than configured", 1 << 20, climb(1<<20, 5000), 8},
		{"as fast as configured", 1 << 20, climb(32<<20, 5000), 5000},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newPatience(Request{MinRate: tt.minRate, Stall: 30 * time.Second}, 0)
			n := 0
			for _, s := range tt.steps {
				if !p.broke(s.offset, s.got) {
					break
				}
				n++
			}
			if n != tt.want {
				t.Errorf("asked again %d times, want %d", n, tt.want)
			}
		})
	}
}

func TestBackoff(t *testing.T) {
	for n, want := range map[int]time.Duration{0: time.Second, 1: time.Second, 2: 2 * time.Second, 4: 8 * time.Second, 8: 30 * time.Second, 1 << 30: 30 * time.Second} {
		if got := backoff(time.Second, n); got < want || got > want+want/2 {
			t.Errorf("after %d futile tries: %v, want %v to half more", n, got, want)
		}
	}
}

func TestRates(t *testing.T) {
	r := smooth(0, 1000, time.Second)
	if r != 1000 {
		t.Errorf("began with %d", r)
	}
	for range 60 { // half a minute
		if next := smooth(r, 100, time.Second/2); next >= r && r > 110 {
			t.Fatalf("%d after %d", next, r)
		} else {
			r = next
		}
	}
	if r < 100 || r > 110 {
		t.Errorf("fell to %d", r)
	}
	for _, tt := range []struct {
		missing, rate int64
		want          time.Duration
	}{{0, 10, 0}, {10, 0, 0}, {-5, 10, 0}, {100, 10, 11 * time.Second}, {1, 1000, time.Second}, {1 << 62, 1, 1 << 31 * time.Second}} {
		if got := left(tt.missing, tt.rate); got != tt.want {
			t.Errorf("%d bytes at %d/s: %v, want %v", tt.missing, tt.rate, got, tt.want)
		}
	}
}
