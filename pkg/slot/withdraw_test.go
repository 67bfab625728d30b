package slot_test

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/pkg/slot"
)

// told is a boot loader that notes which slot it is to forget.
type told struct {
	slot.Loader
	state  slot.State
	disarm []string
}

func (l *told) State(context.Context) (slot.State, error) { return l.state, nil }

func (l *told) Disarm(_ context.Context, name string) error {
	l.disarm = append(l.disarm, name)
	return nil
}

// TestNotTriedAgain: what is tried next is not tried, and what runs on trial not once more. The good slot stays what it is.
func TestNotTriedAgain(t *testing.T) {
	for name, tt := range map[string]struct {
		state slot.State
		want  []string
	}{
		"nothing is armed":                   {slot.State{Running: "a", Good: "a"}, []string{"b"}},
		"armed":                              {slot.State{Running: "a", Good: "a", Next: "b", Tries: 3}, []string{"b"}},
		"on trial":                           {slot.State{Running: "b", Good: "a"}, nil},
		"on trial, and tried again":          {slot.State{Running: "b", Good: "a", Next: "b", Tries: 2}, []string{"b"}},
		"good, and somebody tries the other": {slot.State{Running: "b", Good: "b", Next: "a", Tries: 1}, []string{"a"}},
	} {
		t.Run(name, func(t *testing.T) {
			loader := &told{state: tt.state}
			b := slot.NewAB(loader, [2]slot.Slot{{Name: "a"}, {Name: "b"}}, slot.Options{Dir: t.TempDir()})
			if err := b.Deactivate(t.Context()); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, loader.disarm); diff != "" {
				t.Error(diff)
			}
		})
	}
}
