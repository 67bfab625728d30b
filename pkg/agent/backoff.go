package agent

import (
	"errors"
	"time"

	"github.com/xpu-sztp/ztp/pkg/restconf"
)

// Backoff bounds the waits between rounds.
type Backoff struct {
	Initial time.Duration // the longest wait after the first failure
	Max     time.Duration // the longest wait after any failure
}

// maxRetryAfter bounds what a server may ask for, so that a hostile one cannot park a device for ever.
const maxRetryAfter = time.Hour

// Delay is exponential back-off with full jitter: uniform between zero and a bound that doubles with each attempt
// (counted from 1) up to Max, so that devices powered on in the same second spread out. A server's Retry-After is a lower
// bound, to which the jitter is added for the same reason. random is in [0,1).
func (b Backoff) Delay(attempt int, retryAfter time.Duration, random float64) time.Duration {
	bound := b.Initial
	for i := 1; i < attempt && bound < b.Max; i++ {
		bound *= 2
	}
	bound = min(bound, b.Max)
	return min(max(retryAfter, 0), maxRetryAfter) + time.Duration(random*float64(bound))
}

// retryAfter returns the longest Retry-After that any server of the failed round sent.
func retryAfter(err error) time.Duration {
	var failed *RoundError
	if !errors.As(err, &failed) {
		return 0
	}
	longest := time.Duration(0)
	for _, f := range failed.Failures {
		var refused *restconf.Error
		if errors.As(f.Err, &refused) {
			longest = max(longest, refused.RetryAfter)
		}
	}
	return longest
}
