package process

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestCapped compares what is kept with the ends of everything that was written.
func TestCapped(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 40).Draw(t, "limit")
		c := &capped{limit: limit}
		var all strings.Builder
		for _, piece := range rapid.SliceOfN(rapid.StringMatching(`[a-z]{0,30}`), 0, 8).Draw(t, "pieces") {
			all.WriteString(piece)
			if n, err := c.Write([]byte(piece)); n != len(piece) || err != nil {
				t.Fatalf("wrote %d, %v", n, err)
			}
		}
		whole, got := all.String(), c.String()
		if len(whole) <= limit {
			if got != whole {
				t.Fatalf("got %q, want %q", got, whole)
			}
			return
		}
		head, tail := whole[:limit/2], whole[len(whole)-(limit-limit/2):]
		want := fmt.Sprintf("%s\n[… %d bytes left out …]\n%s", head, len(whole)-limit, tail)
		if got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	})
}
