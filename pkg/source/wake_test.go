package source

import (
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/pkg/link"
)

// TestWake follows what the kernel says and what rounds do, in the order of each story. A wake that is about what a round has
// tried would cut the back-off after that round short.
func TestWake(t *testing.T) {
	up := func(index, life int) link.Link { return link.Link{Index: index, Life: life, Up: true, Carrier: true} }
	down := func(index, life int) link.Link { return link.Link{Index: index, Life: life, Up: true} }
	type step func(*Networks)
	now := time.Now()
	see := func(links ...link.Link) step { return func(d *Networks) { d.tell(links, now) } }
	later := func(links ...link.Link) step { return func(d *Networks) { d.tell(links, now.Add(wakeSpacing)) } }
	try := func(l link.Link) step { return func(d *Networks) { d.trying(l) } }
	received := func(d *Networks) { <-d.wake }
	tests := map[string]struct {
		steps []step
		wake  bool
	}{
		"carrier":                             {[]step{see(up(1, 1))}, true},
		"no carrier":                          {[]step{see(down(1, 1))}, false},
		"tried before anybody was told":       {[]step{try(up(1, 1)), see(up(1, 1))}, false},
		"tried after that":                    {[]step{see(up(1, 1)), try(up(1, 1))}, false},
		"seen again later":                    {[]step{see(up(1, 1)), received, later(up(1, 1), down(2, 2))}, false},
		"another one too early":               {[]step{see(up(1, 1)), received, try(up(1, 1)), see(up(1, 1), up(2, 2))}, false},
		"another one that the round tried":    {[]step{see(up(1, 1)), received, try(up(1, 1)), see(up(1, 1), up(2, 2)), try(up(2, 2)), later(up(1, 1), up(2, 2))}, false},
		"another one that it did not try":     {[]step{see(up(1, 1)), received, try(up(1, 1)), see(up(1, 1), up(2, 2)), later(up(1, 1), up(2, 2))}, true},
		"an older list than that of a round":  {[]step{try(up(1, 3)), see(up(1, 1))}, false},
		"flapped after it was tried":          {[]step{try(up(1, 1)), see(down(1, 1)), see(up(1, 2))}, true},
		"flapped soon after nobody was woken": {[]step{see(up(1, 1)), try(up(1, 1)), see(down(1, 1)), see(up(1, 2))}, true},
		"flapped soon after somebody was":     {[]step{see(up(1, 1)), received, try(up(1, 1)), see(down(1, 1)), see(up(1, 2))}, false},
		"flapped unseen":                      {[]step{try(up(1, 1)), see(up(1, 2))}, true},
		"lost again before anybody was woken": {[]step{see(up(1, 1)), see(down(1, 1))}, false},
		"one of two is tried":                 {[]step{see(up(1, 1), up(2, 2)), try(up(1, 1))}, true},
		"both are":                            {[]step{see(up(1, 1), up(2, 2)), try(up(1, 1)), try(up(2, 2))}, false},
		"gone":                                {[]step{see(up(1, 1)), see()}, false},
		"index of one that is gone":           {[]step{try(up(1, 1)), see(), see(up(1, 2))}, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			d := &Networks{wake: make(chan struct{}, 1), tried: map[int]int{}, told: map[int]int{}}
			for _, s := range tt.steps {
				s(d)
			}
			select {
			case <-d.wake:
				if !tt.wake {
					t.Error("woke for nothing")
				}
			default:
				if tt.wake {
					t.Error("did not wake")
				}
			}
		})
	}
}
