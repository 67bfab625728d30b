// Package image fetches a boot image from the first of its mirrors that delivers the right bytes (RFC 8572 §5.6). The
// bytes go from the socket through SHA-256 into the slot in one pass, in memory that does not grow with the image. Nothing
// is believed about mirrors: servers are not authenticated, because the digest, which came with verified onboarding
// information, decides alone; an image without a digest is refused. A broken transfer is resumed where the server can
// prove that it still has the same bytes, and started again where it cannot.
package image

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// Network reaches the mirrors; every source.Network is one.
type Network interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// Request says what to fetch. Zero limits take their defaults.
type Request struct {
	URIs    []string // mirrors of the same bytes, in the order to try
	SHA256  []byte   // 32 bytes
	Network Network
	Files   fs.FS // what file URIs are looked up in; nil refuses them. Only for leads from removable storage.

	MaxSize   int64         // bytes; default 16 GiB
	Timeout   time.Duration // for all mirrors together, of which each takes half of what is left at most; default 1 h
	MinRate   int64         // bytes per second; a transfer slower than that over Stall is given up; default 1 KiB/s
	Stall     time.Duration // default 30 s; also the longest wait for a reply's header
	Dial      time.Duration // for one address; default 10 s
	RetryWait time.Duration // before a broken transfer is taken up again, doubled each time; default 500 ms

	// CrossOrigin allows redirects from https to https on another host. Others are only followed on the same scheme,
	// host and port.
	CrossOrigin bool
	// Checkpoints lets a download go on in another process, after a power cut too, when the sink is a Checkpointer. nil:
	// every process starts at the first byte.
	Checkpoints Checkpoints
	Progress    func(Progress) // called at most twice a second, and when a mirror begins, breaks off and ends; may be nil
	Logger      *slog.Logger   // nil discards
}

// Progress is how far the transfer from one mirror is.
type Progress struct {
	URI      string // without its query, which may hold a secret
	Server   string // IP address and port; empty while there is no connection and for files
	Protocol string // "http", "https" or "file"
	Bytes    int64  // of the image, received
	Total    int64  // of the image; 0 while unknown
	Rate     int64  // bytes per second since the last call; with Done, over the whole transfer
	Started  time.Time
	Done     bool  // the last call for this mirror
	Err      error // with Done: why the mirror failed; nil when the image is complete and has the right digest
}

// Result says where the image came from.
type Result struct {
	URI      string // without its query
	Server   string
	Protocol string
	Bytes    int64
	Duration time.Duration // of the successful transfer
	Resumed  int           // how often it was taken up again
}

func (r Request) withDefaults() Request {
	if r.MaxSize <= 0 {
		r.MaxSize = 16 << 30
	}
	if r.MinRate <= 0 {
		r.MinRate = 1 << 10
	}
	if r.Logger == nil {
		r.Logger = slog.New(slog.DiscardHandler)
	}
	if r.Progress == nil {
		r.Progress = func(Progress) {}
	}
	for d, v := range map[*time.Duration]time.Duration{
		&r.Timeout: time.Hour, &r.Stall: 30 * time.Second, &r.Dial: 10 * time.Second, &r.RetryWait: 500 * time.Millisecond,
	} {
		if *d <= 0 {
			*d = v
		}
	}
	return r
}

// Fetch writes the image to sink and returns nil only when everything that was written has the digest demanded. After an
// error sink holds nothing of use. Errors are *reason.Error, wrap ctx's, or are sink's own, which end the fetch at once.
func Fetch(ctx context.Context, r Request, sink Sink) (Result, error) {
	if len(r.SHA256) != sha256.Size {
		return Result{}, fail(CodeNoVerification, "the image has no SHA-256 digest to verify it by",
			"add image-verification with sha-256 to the onboarding information", nil)
	}
	if len(r.URIs) == 0 {
		return Result{}, fail(CodeUnreachable, "the image has no download URI", "add download-uri to the onboarding information", nil)
	}
	r = r.withDefaults()
	limited, cancel := context.WithTimeoutCause(ctx, r.Timeout, errTooLong)
	defer cancel()
	f := &fetch{request: r, sink: sink, hash: sha256.New()}
	f.client = f.newClient()
	defer f.client.CloseIdleConnections()

	var failures []error
	for i, uri := range r.URIs {
		// One that drips or never ends must leave time for the next.
		share, cancel := limited, func() {}
		if end, ok := limited.Deadline(); ok && i < len(r.URIs)-1 {
			share, cancel = context.WithTimeoutCause(limited, time.Until(end)/2, errTooLong)
		}
		result, err := f.mirror(share, uri)
		cancel()
		if err == nil {
			return result, nil
		}
		if ctx.Err() != nil {
			return Result{}, fmt.Errorf("fetching the image: %w", context.Cause(ctx))
		}
		var local *sinkError
		if errors.As(err, &local) {
			return Result{}, local.err
		}
		r.Logger.WarnContext(ctx, "mirror failed", "uri", display(uri), "error", err)
		failures = append(failures, fmt.Errorf("%s: %w", display(uri), err))
		if limited.Err() != nil {
			break
		}
	}
	return Result{}, summarize(failures, len(r.URIs))
}

// fetch is the state of one call of Fetch.
type fetch struct {
	request Request
	sink    Sink
	client  *http.Client
	hash    hash.Hash
	buffers [][]byte

	// The transfer from the current mirror.
	offset   int64  // bytes in sink and hash
	total    int64  // size of the image; -1 while unknown
	etag     string // strong entity tag of what was received; "" when it cannot be resumed
	resumed  int
	progress Progress
	shown    time.Time // when progress was last called, at shownAt bytes
	shownAt  int64
}

// restart forgets what was received.
func (f *fetch) restart() error {
	if f.offset > 0 {
		if err := f.sink.Reset(); err != nil {
			return &sinkError{err}
		}
	}
	f.hash.Reset()
	f.offset, f.total, f.etag, f.resumed, f.shownAt = 0, -1, "", 0, 0
	return nil
}

// show calls the progress callback when it is time to.
func (f *fetch) show(received int64) {
	now := time.Now()
	elapsed := now.Sub(f.shown)
	if elapsed < progressInterval {
		return
	}
	f.progress.Rate = rate(received-f.shownAt, elapsed)
	f.progress.Bytes, f.progress.Total = received, max(f.total, 0)
	f.shown, f.shownAt = now, received
	f.request.Progress(f.progress)
}

const progressInterval = 500 * time.Millisecond

func rate(bytes int64, d time.Duration) int64 {
	if d <= 0 || bytes <= 0 {
		return 0
	}
	return int64(float64(bytes) / d.Seconds())
}
