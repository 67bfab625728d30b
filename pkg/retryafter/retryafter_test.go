package retryafter_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/pkg/retryafter"
)

const date = "Sun, 22 Nov 2026 10:00:30 GMT"

func header(after, date string) http.Header {
	h := http.Header{}
	if after != "" {
		h.Set("Retry-After", after)
	}
	if date != "" {
		h.Set("Date", date)
	}
	return h
}

func TestWait(t *testing.T) {
	const limit = time.Hour
	tests := []struct {
		name, after, date string
		want              time.Duration
	}{
		{"absent", "", date, 0},
		{"seconds", "30", "", 30 * time.Second},
		{"none", "0", "", 0},
		{"negative", "-30", "", 0},
		{"more than the limit", "3601", "", limit},
		{"longer than anybody can count", strings.Repeat("9", 1000), "", limit},
		{"date", "Sun, 22 Nov 2026 10:02:00 GMT", date, 90 * time.Second},
		{"date in another of the three formats", "Sunday, 22-Nov-26 10:02:00 GMT", date, 90 * time.Second},
		{"date in the past", "Sun, 22 Nov 2026 10:00:00 GMT", date, 0},
		{"end of days", "Fri, 31 Dec 9999 23:59:59 GMT", date, limit},
		{"date of a server without a clock", "Sun, 22 Nov 2026 10:02:00 GMT", "", 0},
		{"date of a server with a broken clock", "Sun, 22 Nov 2026 10:02:00 GMT", "noon", 0},
		{"words", "later", date, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := retryafter.Wait(header(tt.after, tt.date), limit); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// Nobody makes a device wait longer than the limit, or travel back in time.
func FuzzWait(f *testing.F) {
	for _, seed := range []string{"30", "99999999999", "-1", "Sun, 22 Nov 2026 10:02:00 GMT", "Sun, 22 Nov 0000 10:02:00 GMT", ""} {
		f.Add(seed, date)
	}
	f.Fuzz(func(t *testing.T, after, date string) {
		if got := retryafter.Wait(http.Header{"Retry-After": {after}, "Date": {date}}, time.Minute); got < 0 || got > time.Minute {
			t.Fatalf("wait %v", got)
		}
	})
}
