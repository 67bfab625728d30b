package link

import (
	"errors"
	"path/filepath"
	"slices"
	"testing"
)

// TestRecordedBeforeMade looks at the record at the moment of each change: whoever dies then leaves it to the next process.
func TestRecordedBeforeMade(t *testing.T) {
	file := filepath.Join(t.TempDir(), "network.json")
	recorded := func() []change {
		next := &changes{file: file}
		if err := next.load(); err != nil {
			t.Error(err)
		}
		return next.made
	}
	cs := &changes{file: file}
	first, second := change{Kind: "up", Index: 7}, change{Kind: "up", Index: 8}
	for i, c := range []change{first, second} {
		err := cs.do(c, func() error {
			if r := recorded(); len(r) != i+1 || r[i] != c {
				t.Errorf("when change %d is made the record holds %+v", i, r)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	failed := errors.New("failed")
	if err := cs.do(change{Kind: "up", Index: 9}, func() error { return failed }); err != failed || len(recorded()) != 2 {
		t.Errorf("%v: what failed is among %+v", err, recorded())
	}
	if err := cs.undo(first); err != nil || !slices.Equal(recorded(), []change{second}) {
		t.Errorf("%v: after the first was undone the record holds %+v", err, recorded())
	}
}
