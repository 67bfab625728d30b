// Package retryafter reads how long a server asks to be left alone (RFC 9110 §10.2.3).
package retryafter

import (
	"errors"
	"strconv"
	"time"

	"github.com/xpu-sztp/ztp/pkg/http1"
)

// Wait reads Retry-After, in seconds or as a date, which is held against the server's own clock in Date because the device's
// may be wrong. It returns at most limit, and 0 when the header is absent, malformed or in the past.
func Wait(header interface{ Get(name string) string }, limit time.Duration) time.Duration {
	value := header.Get("Retry-After")
	seconds, err := strconv.ParseUint(value, 10, 31)
	switch {
	case err == nil:
		return min(time.Duration(seconds)*time.Second, limit)
	case errors.Is(err, strconv.ErrRange): // digits alone
		return limit
	}
	at, err := http1.ParseTime(value)
	if err != nil {
		return 0
	}
	now, err := http1.ParseTime(header.Get("Date"))
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), limit)
}
