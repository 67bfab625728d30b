package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/xpu-sztp/ztp/pkg/reason"
)

// mirror is one of the URIs.
type mirror struct {
	uri    string
	key    [sha256.Size]byte // SHA-256 of uri
	part   bool              // the sink has bytes of it
	busy   int               // how often it asked to come back later,
	after  time.Time         // the last time not before
	failed bool              // it is not asked any more
	err    error             // why it failed the last time
}

// mirror fetches from m what sink and hash do not have yet.
func (f *fetch) mirror(ctx context.Context, m *mirror) (Result, error) {
	started := time.Now()
	f.taken = 0
	f.progress = Progress{URI: display(m.uri), Started: started}
	f.shown, f.shownAt = started, f.offset
	f.report(f.offset, 0)
	f.request.Logger.InfoContext(ctx, "downloading the image", "uri", f.progress.URI, "from", f.offset)
	err := f.signedTransfer(ctx, m)

	p := &f.progress
	p.Done, p.Err = true, err
	f.report(f.offset, rate(f.taken, time.Since(started)))
	if err != nil {
		return Result{}, err
	}
	f.request.Logger.InfoContext(ctx, "image downloaded and verified", "uri", p.URI, "bytes", f.offset,
		"took", time.Since(started).Round(time.Millisecond).String())
	result := Result{URI: p.URI, Server: p.Server, Protocol: p.Protocol, Bytes: f.offset, Duration: time.Since(started), Resumed: f.resumed}
	if f.claim != nil {
		result.Signer = f.claim.Signer
	}
	return result, nil
}

// transfer takes what comes from m until it is the whole image, as long as that is worth the time.
func (f *fetch) transfer(ctx context.Context, m *mirror, u *url.URL) error {
	patience := newPatience(f.request, f.offset)
	for again := false; ; {
		err := f.take(ctx, m, u)
		if err == nil {
			why := f.verify()
			switch {
			case why == nil:
				return nil
			case f.mixed:
				return &mixed{why}
			}
			// What one mirror sent under one entity tag may still be parts of two images, and the whole be right.
			once := f.resumed > 0 && !again
			if err := f.restart(); err != nil {
				return err
			}
			if !once {
				return why
			}
			again, err = true, &broken{why}
		}
		var b *broken
		if !errors.As(err, &b) {
			return err
		}
		if f.offset > 0 && f.verify() == nil {
			return nil // it is all there, whatever the mirror says
		}
		if !patience.broke(f.offset, f.offset-f.from) || ctx.Err() != nil {
			return b.why
		}
		f.report(f.offset, 0)
		f.request.Logger.InfoContext(ctx, "transfer broken; trying again", "uri", f.progress.URI, "bytes", f.offset, "error", b.why)
		if err := pause(ctx, backoff(f.request.RetryWait, patience.futile)); err != nil {
			return b.why
		}
	}
}

// checkURI refuses what is not fetched at all.
func (f *fetch) checkURI(uri string) (*url.URL, error) {
	u, err := url.Parse(uri)
	switch {
	case err != nil:
		return nil, fail(CodeURIRefused, "the download URI is malformed", "correct the onboarding information", nil)
	case u.User != nil:
		return nil, fail(CodeURIRefused, "the download URI holds credentials, which would go to a server that is not authenticated",
			"publish the image without a password; its digest protects it", nil)
	case u.Scheme == "file" && f.request.Files != nil && u.Host == "":
	case u.Scheme == "file":
		return nil, fail(CodeURIRefused, "file URIs are only followed on removable storage", "use http or https", nil)
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fail(CodeURIRefused, fmt.Sprintf("download URIs of scheme %.16q are not supported", u.Scheme), "use http or https", nil)
	case u.Hostname() == "":
		return nil, fail(CodeURIRefused, "the download URI has no host", "correct the onboarding information", nil)
	}
	return u, nil
}

// take makes one attempt to get the rest of the image, behind what there is when m can go on there.
func (f *fetch) take(ctx context.Context, m *mirror, u *url.URL) error {
	f.from = f.offset
	if f.offset > 0 && f.offset == f.total {
		return nil // an interrupted process had it all
	}
	if !f.continues(m, u) {
		if err := f.restart(); err != nil {
			return err
		}
	}
	if u.Scheme == "file" {
		return f.readFile(ctx, m, u)
	}
	return f.download(ctx, m, u)
}

// continues tells whether m may be asked for what comes behind the bytes that are there. The mirror that sent them must be
// able to prove that it still has the same image. Another one only needs to have an image of the same size: the digest will
// tell.
func (f *fetch) continues(m *mirror, u *url.URL) bool {
	if f.source == m.key && u.Scheme != "file" {
		return f.etag != ""
	}
	return f.total > 0 && (f.source == m.key || !f.alone)
}

// begin prepares for an image of so many bytes, from the first one; size is -1 when the mirror does not tell.
func (f *fetch) begin(m *mirror, size int64, etag string) error {
	if err := f.restart(); err != nil {
		return err
	}
	f.source, f.total, f.etag, m.part = m.key, size, etag, true
	return f.expect(size)
}

// goOn prepares for the rest of an image of total bytes.
func (f *fetch) goOn(m *mirror, total int64, etag string) error {
	if f.source != m.key {
		f.source, f.etag, f.mixed = m.key, etag, true
	}
	m.part = true
	f.resumed++
	f.progress.Resumed = f.offset
	if f.total == total {
		return nil
	}
	f.total = total
	return f.expect(total)
}

// expect refuses images that are too large, if size tells.
func (f *fetch) expect(size int64) error {
	if err := f.checkSize(size); err != nil || size < 0 {
		return err
	}
	if sink, ok := f.sink.(Sizer); ok {
		return sink.Expect(size)
	}
	return nil
}

func (f *fetch) checkSize(size int64) error {
	if size <= f.request.MaxSize {
		return nil
	}
	return fail(CodeTooLarge, fmt.Sprintf("the image has more than the %d bytes that are allowed", f.request.MaxSize),
		"raise image.max-size if the image is right", nil)
}

// verify compares the digest of everything received with the one demanded.
func (f *fetch) verify() *reason.Error {
	sum := f.hash.Sum(nil)
	if bytes.Equal(sum, f.request.SHA256) {
		return nil
	}
	what := fmt.Sprintf("the %d bytes received have SHA-256 %x, not %x", f.offset, sum, f.request.SHA256)
	if f.mixed {
		return fail(CodeHashMismatch, what+"; they came in parts from several mirrors, or before an interruption",
			"check that all mirrors have the image that the onboarding information names", nil)
	}
	return fail(CodeHashMismatch, what, "publish the image that the onboarding information names, or correct its hash-value", nil)
}
