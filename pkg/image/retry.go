package image

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/xpu-sztp/ztp/pkg/reason"
)

const (
	maxFutile  = 8 // how often in a row a transfer may break off without progress
	maxSilent  = 2 // how often in a row without a single byte
	maxBusy    = 8 // how often a mirror may ask to come back later
	maxBackoff = 30 * time.Second
	progress   = 16 << 10 // bytes: what any connection carries that is worth being taken up again
)

// broken is a transfer that ended before the image did and may be taken up again.
type broken struct{ why *reason.Error }

func (b *broken) Error() string { return b.why.Error() }
func (b *broken) Unwrap() error { return b.why }

// busy is a mirror that asked to come back later.
type busy struct {
	why  *reason.Error
	wait time.Duration // 0 when it did not say how long
}

func (b *busy) Error() string { return b.why.Error() }
func (b *busy) Unwrap() error { return b.why }

// mixed means that bytes of several mirrors, or of another process, are wrong together. Nobody knows whose fault it is.
type mixed struct{ why *reason.Error }

func (m *mixed) Error() string { return m.why.Error() }
func (m *mixed) Unwrap() error { return m.why }

// patience decides how long to bear with a mirror that breaks off. As long as it brings the image forward there is no limit
// to how often that happens: a thousand cuts are a bad network, not a bad mirror. Forward means by more than what the rate
// floor lets through in one window, so that a mirror cannot use breaks to be slower than that; beyond this the time limit
// keeps mirrors from occupying the device.
type patience struct {
	least   int64 // bytes that count as progress
	reached int64 // the offset at the latest progress; what comes before it was there already
	futile  int
	silent  int
}

func newPatience(r Request, offset int64) patience {
	return patience{least: max(progress, int64(float64(r.MinRate)*r.Stall.Seconds())), reached: offset}
}

// broke takes note of a break at offset, after which got bytes had come since the one before, and tells whether to try again.
func (p *patience) broke(offset, got int64) bool {
	p.silent++
	if got > 0 {
		p.silent = 0
	}
	p.futile++
	if offset >= p.reached+p.least {
		p.reached, p.futile = offset, 0
	}
	return p.futile <= maxFutile && p.silent <= maxSilent
}

// backoff is how long to wait after n futile tries. Devices that a server left at the same moment do not come back at one.
func backoff(first time.Duration, n int) time.Duration {
	d := first
	for ; n > 1 && d < maxBackoff; n-- {
		d *= 2
	}
	return spread(min(d, maxBackoff))
}

// spread lengthens a wait by up to a half.
func spread(d time.Duration) time.Duration { return d + rand.N(d/2+1) }

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
