package artifacts

import "time"

// Confidence says how far the device's clock can be believed (RFC 8572 §9.1).
type Confidence string

// The three confidences.
const (
	ClockNone          Confidence = "none"          // no clock, or one that is plainly wrong
	ClockRTC           Confidence = "rtc"           // a battery-backed clock set by the maker or operator
	ClockAuthenticated Confidence = "authenticated" // set by an authenticated time source
)

// Clock is a reading of the device's clock together with the confidence in it.
type Clock struct {
	Now        time.Time
	Confidence Confidence
}

// Accurate reports whether validity periods are checked against this clock. When false they are skipped (R5.4-02,
// R5.4-11).
func (c Clock) Accurate() bool { return c.Confidence == ClockRTC || c.Confidence == ClockAuthenticated }
