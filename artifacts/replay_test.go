package artifacts_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/artifacts"
)

// TestReplay sends what was signed once again and again: it is good until the voucher ends, however old, and at once no longer
// where a nonce is required (RFC 8572 §9.11).
func TestReplay(t *testing.T) {
	w := shared()
	at := func(later time.Duration) func(*artifacts.Policy) {
		return func(p *artifacts.Policy) { p.Clock.Now = p.Clock.Now.Add(later) }
	}
	voucher := object{"expires-on": w.now().Add(5000 * time.Hour).UTC().Format(time.RFC3339)}
	t.Run("soon", func(t *testing.T) { signedCase{w: w, voucher: voucher}.check(t, "", "") })
	t.Run("under-a-live-voucher", func(t *testing.T) {
		signedCase{w: w, voucher: voucher, policy: at(4999 * time.Hour)}.check(t, "", "")
	})
	t.Run("after-the-voucher", func(t *testing.T) {
		signedCase{w: w, voucher: voucher, policy: at(5001 * time.Hour)}.check(t, artifacts.CodeVoucherExpired, artifacts.StepVoucherDates)
	})
	t.Run("nonce-required", func(t *testing.T) {
		signedCase{w: w, voucher: voucher, policy: func(p *artifacts.Policy) {
			p.Nonce, p.RequireNonce = bytes.Repeat([]byte{1}, 32), true
		}}.check(t, artifacts.CodeVoucherNoNonce, artifacts.StepVoucherNonce)
	})
}
