package source_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/pkg/source"
	"github.com/xpu-sztp/ztp/pkg/state"
	"github.com/xpu-sztp/ztp/test/nettest"
)

// TestSpread: who has waited for a carrier lets others on the same switch go first; who finds one there does not.
func TestSpread(t *testing.T) {
	n := nettest.NewNetwork(t, nil, "198.18.9.1/24")
	n.Unplug(t)
	r := newRig(t, 10*time.Second, n)
	asked := make(chan struct{}, 8)
	r.Spread = func() time.Duration {
		asked <- struct{}{}
		return time.Hour
	}
	stopped := errors.New("stopped")
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- r.Discover(ctx, func(context.Context, source.Lead) error { t.Error("visited"); return nil })
	}()
	r.board.await(t, func(s state.Status) bool { return s.Phase == state.PhaseWaitingForLink })
	if len(asked) > 0 {
		t.Error("spreads before there is a carrier")
	}
	n.Plug(t)
	<-asked
	cancel(stopped)
	if err := <-ended; !errors.Is(err, stopped) {
		t.Errorf("got %v", err)
	}

	for len(asked) > 0 {
		<-asked
	}
	short, cancel2 := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel2()
	r.Discover(short, func(context.Context, source.Lead) error { return nil })
	if len(asked) > 0 {
		t.Error("spreads although there was a carrier")
	}
}
