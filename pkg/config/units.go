package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// UnmarshalText reads a duration with its unit, such as "90s" or "1h30m".
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is not a duration; write a number and a unit, such as \"30s\" or \"1h30m\"", text)
	}
	*d = Duration(v)
	return nil
}

// String returns the duration as it would be written in a file.
func (d Duration) String() string { return time.Duration(d).String() }

var sizeUnits = []struct {
	suffix string
	factor int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12},
	{"B", 1},
}

// UnmarshalText reads a number of bytes, plain or with one of the suffixes B, kB, MB, GB, TB (powers of 1000) and KiB,
// MiB, GiB, TiB (powers of 1024).
func (s *Size) UnmarshalText(text []byte) error {
	number, factor := string(text), int64(1)
	for _, u := range sizeUnits {
		if rest, ok := strings.CutSuffix(number, u.suffix); ok {
			number, factor = strings.TrimSpace(rest), u.factor
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	switch {
	case errors.Is(err, strconv.ErrRange), err == nil && n > math.MaxInt64/factor:
		return fmt.Errorf("%q is more bytes than can be counted", text)
	case err != nil || n < 0:
		return fmt.Errorf("%q is not a size; write bytes, or a number and a unit, such as \"64KiB\" or \"4GiB\"", text)
	}
	*s = Size(n * factor)
	return nil
}
