package config

import (
	"time"

	"github.com/xpu-sztp/ztp/artifacts"
)

// released is a day on which this source code existed. No device that runs it can truthfully live before that.
const released = "2026-11-01"

// ClockAt reads now with the confidence the configuration gives it (RFC 8572 §9.1). "auto" believes the clock like a
// battery-backed one unless it is plainly wrong: before this program was written, or before any of the certificates the
// device was made with became valid, which are those of Anchors and of certificates.
func (c *Config) ClockAt(now time.Time, notBefore ...time.Time) artifacts.Clock {
	if c.Trust.Clock != "auto" {
		return artifacts.Clock{Now: now, Confidence: artifacts.Confidence(c.Trust.Clock)}
	}
	floor, _ := time.Parse(time.DateOnly, released)
	for _, anchors := range [][]Anchor{c.Anchors.BootstrapServers, c.Anchors.Vouchers, c.Anchors.Images} {
		for _, a := range anchors {
			notBefore = append(notBefore, a.Certificate.NotBefore)
		}
	}
	for _, t := range notBefore {
		if t.After(floor) {
			floor = t
		}
	}
	if now.Before(floor) {
		return artifacts.Clock{Now: now, Confidence: artifacts.ClockNone}
	}
	return artifacts.Clock{Now: now, Confidence: artifacts.ClockRTC}
}
