// Package image fetches a boot image from the first of its mirrors that delivers the right bytes (RFC 8572 §5.6). The
// bytes go from the socket through SHA-256 into the slot in one pass, in memory that does not grow with the image. Nothing
// is believed about mirrors: servers need not be authenticated, because the digest, which came with verified onboarding
// information, decides alone; an image without a digest is refused. A broken transfer goes on where it stopped: at the same
// mirror where that can prove that it still has the same bytes, at the next one when sizes agree, and in another process
// from a checkpoint. When the bytes are wrong in the end and several mirrors had a part in them, each is tried alone, so
// that one that lies cannot spoil what others would deliver.
package image

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/xpu-sztp/ztp/pkg/image/signature"
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

	// Authenticate judges the certificates of an https mirror, leaf first, for the host of its URI. nil: https mirrors are
	// not authenticated, as RFC 8572 §5.6 allows.
	Authenticate func(chain []*x509.Certificate, host string) error

	// Signature says whom to believe about the image besides. A signature by one of them must then be beside a mirror's
	// image, under its name with a suffix; it is looked for, and verified as far as that goes, before the image is fetched.
	// nil: none is asked for.
	Signature *signature.Policy

	MaxSize   int64         // bytes; default 16 GiB
	Timeout   time.Duration // for all mirrors together, of which each takes half of what is left at most; default 1 h
	MinRate   int64         // bytes per second; a transfer slower than that over Stall is broken off; default 1 KiB/s
	Stall     time.Duration // default 30 s; also the longest wait for the header of a reply
	Dial      time.Duration // for one address; default 10 s
	RetryWait time.Duration // before a broken transfer is taken up again, doubled while that leads to nothing; default 500 ms
	MaxWait   time.Duration // the longest wait that a mirror may ask for (Retry-After); default 10 min

	// CrossOrigin allows redirects from https to https on another host. Others are only followed on the same scheme,
	// host and port.
	CrossOrigin bool

	// Checkpoints lets a download go on in another process, after a power cut too, when the sink is a Checkpointer. nil:
	// every process starts at the first byte. A checkpoint is saved when either bound is reached, and when Fetch fails.
	Checkpoints     Checkpoints
	CheckpointBytes int64         // default 256 MiB
	CheckpointTime  time.Duration // default 10 s

	Progress func(Progress) // called at most twice a second, and when a mirror begins, breaks off and ends; may be nil
	Logger   *slog.Logger   // nil discards
}

// Result says where the image came from.
type Result struct {
	URI      string // without its query; of the last byte
	Server   string
	Protocol string
	Bytes    int64
	Duration time.Duration // of the transfer from that mirror
	Resumed  int           // how often it was taken up again
	Signer   string        // who signed the image, for people; empty when no signature was asked for
}

func (r Request) withDefaults() Request {
	if r.MaxSize <= 0 {
		r.MaxSize = 16 << 30
	}
	if r.MinRate <= 0 {
		r.MinRate = 1 << 10
	}
	if r.CheckpointBytes <= 0 {
		r.CheckpointBytes = 256 << 20
	}
	if r.Logger == nil {
		r.Logger = slog.New(slog.DiscardHandler)
	}
	if r.Progress == nil {
		r.Progress = func(Progress) {}
	}
	orElse := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	orElse(&r.Timeout, time.Hour)
	orElse(&r.Stall, 30*time.Second)
	orElse(&r.Dial, 10*time.Second)
	orElse(&r.RetryWait, 500*time.Millisecond)
	orElse(&r.MaxWait, 10*time.Minute)
	orElse(&r.CheckpointTime, 10*time.Second)
	return r
}

// Fetch writes the image to sink and returns nil only when everything that was written has the digest demanded and, where
// that is asked for, somebody who is believed signed it. After an error sink holds nothing of use, except to a later Fetch
// with the same Checkpoints. Errors have the code of a *reason.Error, wrap ctx's, or are sink's own, which end the fetch at
// once.
func Fetch(ctx context.Context, r Request, sink Sink) (Result, error) {
	if len(r.SHA256) != sha256.Size {
		return Result{}, fail(CodeNoVerification, "the image has no SHA-256 digest to verify it by",
			"add image-verification with sha-256 to the onboarding information", nil)
	}
	if len(r.URIs) == 0 {
		return Result{}, fail(CodeUnreachable, "the image has no download URI", "add download-uri to the onboarding information", nil)
	}
	r = r.withDefaults()
	f := &fetch{request: r, sink: sink, hash: sha256.New(), total: -1}
	for _, uri := range r.URIs {
		f.mirrors = append(f.mirrors, &mirror{uri: uri, key: sha256.Sum256([]byte(uri))})
	}

	var err error
	if r.Signature == nil { // otherwise it is not known yet how the image is hashed
		err = f.restore()
	}
	var result Result
	if err == nil {
		result, err = f.any(ctx)
	}
	if err == nil {
		err = f.keeper.clear()
	} else if keepErr := f.keep(); keepErr != nil {
		err = keepErr
	}
	var local *sinkError
	switch {
	case errors.As(err, &local):
		return Result{}, local.err
	case err != nil && ctx.Err() != nil:
		return Result{}, fmt.Errorf("fetching the image: %w", context.Cause(ctx))
	}
	return result, err
}

// fetch is the state of one call of Fetch.
type fetch struct {
	request Request
	sink    Sink
	hash    hash.Hash
	buffers []*buffer
	mirrors []*mirror

	// Of the signature, where one is asked for.
	claim    *signature.Claim // the image must fulfil it
	claimed  *mirror          // where it is from
	restored bool             // restore was called
	keeper   *keeper          // nil: no checkpoints
	alone    bool             // no mirror goes on behind another one

	// What sink and hash have.
	offset  int64             // bytes
	total   int64             // size of the image; -1 while unknown
	source  [sha256.Size]byte // key of the mirror that the latest bytes are from
	etag    string            // strong entity tag of what that mirror has; "" when it has none
	mixed   bool              // other mirrors, or another process, had a part in it
	torn    bool              // hash and sink do not have the same
	resumed int               // how often the transfer was taken up again

	// The transfer from the current mirror.
	from     int64 // where the latest reply began
	taken    int64 // bytes received
	progress Progress
	shown    time.Time // when progress was last called, at shownAt bytes
	shownAt  int64
}

// any fetches the image from whichever mirror has it: in their order, those that asked to come back later then.
func (f *fetch) any(ctx context.Context) (Result, error) {
	limited, cancel := context.WithTimeoutCause(ctx, f.request.Timeout, errTooLong)
	defer cancel()
	for {
		m, others := f.next(time.Now())
		if m == nil || limited.Err() != nil {
			return Result{}, f.summarize()
		}
		result, err := f.try(limited, m, others)
		var local *sinkError
		switch {
		case err == nil, ctx.Err() != nil, errors.As(err, &local):
			return result, err
		}
		if err := f.failed(limited, m, err); err != nil {
			return Result{}, err
		}
	}
}

// next chooses the first mirror that may be asked now, or else the one that may be asked soonest, and tells whether there
// are others.
func (f *fetch) next(now time.Time) (best *mirror, others bool) {
	for _, m := range f.mirrors {
		if m.failed {
			continue
		}
		others = best != nil
		if best == nil || best.after.After(now) && m.after.Before(best.after) {
			best = m
		}
	}
	return best, others
}

// try fetches from one mirror, as soon as it wants to be asked. One that drips or never ends must leave time for the others.
func (f *fetch) try(ctx context.Context, m *mirror, others bool) (Result, error) {
	if err := pause(ctx, time.Until(m.after)); err != nil {
		return Result{}, m.err
	}
	if end, ok := ctx.Deadline(); ok && others {
		share, cancel := context.WithTimeoutCause(ctx, time.Until(end)/2, errTooLong)
		defer cancel()
		ctx = share
	}
	return f.mirror(ctx, m)
}

// failed decides whether a mirror that failed is asked again. Its own error is one of the sink.
func (f *fetch) failed(ctx context.Context, m *mirror, err error) error {
	m.failed, m.err = true, err
	var later *busy
	var together *mixed
	switch {
	case errors.As(err, &together):
		f.alone, m.part = true, true // it may not have sent any of it, but was not asked alone either
		for _, m := range f.mirrors {
			m.failed = m.failed && !m.part
		}
		err = f.restart()
	case errors.As(err, &later):
		m.busy++
		wait := spread(later.wait)
		if later.wait == 0 {
			wait = backoff(f.request.RetryWait, m.busy)
		}
		m.after = time.Now().Add(wait)
		end, _ := ctx.Deadline()
		m.failed = m.busy > maxBusy || m.after.After(end)
		err = nil
	case unfit(err):
		err = f.restart()
	default:
		err = nil
	}
	f.request.Logger.WarnContext(ctx, "mirror failed", "uri", display(m.uri), "again", !m.failed, "error", m.err)
	return err
}

// restart forgets what was received.
func (f *fetch) restart() error {
	if err := f.keeper.clear(); err != nil {
		return err
	}
	if f.offset > 0 || f.torn {
		if err := f.sink.Reset(); err != nil {
			return &sinkError{err}
		}
	}
	f.hash.Reset()
	f.offset, f.total, f.etag, f.mixed, f.torn, f.resumed, f.from, f.shownAt = 0, -1, "", false, false, 0, 0, 0
	for _, m := range f.mirrors {
		m.part = false
	}
	return nil
}
