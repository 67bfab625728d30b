package image

import "time"

const (
	progressInterval = 500 * time.Millisecond
	rateWindow       = 5 * time.Second
)

// Progress is how far the transfer from one mirror is.
type Progress struct {
	URI      string        // without its query, which may hold a secret
	Server   string        // IP address and port; empty while there is no connection and for files
	Protocol string        // "http", "https" or "file"
	Bytes    int64         // of the image, received, from whomever
	Total    int64         // of the image; 0 while unknown
	Rate     int64         // bytes per second over the last seconds; with Done, over the whole transfer
	Left     time.Duration // until the last byte, at that rate; 0 while unknown
	Requests int           // that were sent to this mirror
	Resumed  int64         // the byte at which the latest of them went on; 0 when it began at the first one
	Started  time.Time
	Done     bool  // the last call for this mirror
	Err      error // with Done: why the mirror failed; nil when the image is complete and has the right digest
}

// show calls the progress callback when it is time to.
func (f *fetch) show(received int64) {
	now := time.Now()
	elapsed := now.Sub(f.shown)
	if elapsed < progressInterval {
		return
	}
	f.report(received, smooth(f.progress.Rate, rate(received-f.shownAt, elapsed), elapsed))
	f.shown, f.shownAt = now, received
}

// report calls the progress callback.
func (f *fetch) report(received, rate int64) {
	p := &f.progress
	p.Bytes, p.Total, p.Rate = received, max(f.total, 0), rate
	p.Left = 0
	if !p.Done {
		p.Left = left(p.Total-p.Bytes, rate)
	}
	f.request.Progress(*p)
}

func rate(bytes int64, d time.Duration) int64 {
	if d <= 0 || bytes <= 0 {
		return 0
	}
	return int64(float64(bytes) / d.Seconds())
}

// smooth is the average of a rate and the latest one, which counts the more the longer it was measured.
func smooth(old, latest int64, over time.Duration) int64 {
	if old == 0 {
		return latest
	}
	return old + int64(float64(latest-old)*float64(over)/float64(over+rateWindow))
}

// left is how long the missing bytes take, in whole seconds.
func left(missing, rate int64) time.Duration {
	if missing <= 0 || rate <= 0 {
		return 0
	}
	const most = 1 << 31 // seconds: what is more is not known
	return time.Duration(min(missing/rate+1, most)) * time.Second
}
