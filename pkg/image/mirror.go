package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/xpu-sztp/ztp/pkg/reason"
)

const (
	maxBreaks  = 8 // how often one transfer is taken up again
	maxFutile  = 2 // how often without having received anything since
	maxBackoff = 30 * time.Second
)

// broken is a transfer that ended before the image did and may be taken up again.
type broken struct{ why *reason.Error }

func (b *broken) Error() string { return b.why.Error() }
func (b *broken) Unwrap() error { return b.why }

// mirror fetches the image from one URI.
func (f *fetch) mirror(ctx context.Context, uri string) (Result, error) {
	if err := f.restart(); err != nil {
		return Result{}, err
	}
	started := time.Now()
	f.progress = Progress{URI: display(uri), Started: started}
	f.shown = started
	f.request.Progress(f.progress)
	f.request.Logger.InfoContext(ctx, "downloading the image", "uri", f.progress.URI)
	err := f.transfer(ctx, uri)

	f.progress.Bytes, f.progress.Total = f.offset, max(f.total, 0)
	f.progress.Rate, f.progress.Done, f.progress.Err = rate(f.offset, time.Since(started)), true, err
	f.request.Progress(f.progress)
	if err != nil {
		return Result{}, err
	}
	p := f.progress
	f.request.Logger.InfoContext(ctx, "image downloaded and verified", "uri", p.URI, "bytes", f.offset,
		"took", time.Since(started).Round(time.Millisecond).String())
	return Result{p.URI, p.Server, p.Protocol, f.offset, time.Since(started), f.resumed}, nil
}

func (f *fetch) transfer(ctx context.Context, uri string) error {
	u, err := f.checkURI(uri)
	if err != nil {
		return err
	}
	f.progress.Protocol = u.Scheme
	if u.Scheme == "file" {
		if err := f.readFile(ctx, u); err != nil {
			return err
		}
		return f.verify()
	}
	for breaks, futile := 0, 0; ; breaks++ {
		before := f.offset
		err := f.download(ctx, u)
		if err == nil {
			spliced := f.resumed > 0
			err = f.verify()
			var wrong *reason.Error
			if !spliced || !errors.As(err, &wrong) || wrong.Code != CodeHashMismatch {
				return err
			}
			// The parts may be of different images; the whole may still be right.
			err = &broken{wrong}
		}
		var b *broken
		if !errors.As(err, &b) {
			return err
		}
		if futile++; f.offset > before {
			futile = 0
		}
		if breaks == maxBreaks || futile > maxFutile || ctx.Err() != nil {
			return b.why
		}
		f.progress.Bytes, f.progress.Total, f.progress.Rate = f.offset, max(f.total, 0), 0
		f.request.Progress(f.progress)
		f.request.Logger.InfoContext(ctx, "transfer broken; trying again", "uri", f.progress.URI, "bytes", f.offset, "error", b.why)
		if err := pause(ctx, min(f.request.RetryWait<<breaks, maxBackoff)); err != nil {
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

// download makes one request and takes what it gets, going on where the last one ended when that is possible.
func (f *fetch) download(ctx context.Context, u *url.URL) error {
	if f.etag == "" {
		if err := f.restart(); err != nil {
			return err
		}
	}
	watched, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	resp, err := f.client.Do(f.newRequest(watched, u))
	if err != nil {
		err = explain(ctx, watched, err)
		var why *reason.Error
		if f.offset > 0 && errors.As(err, &why) {
			return &broken{why} // it answered before and may do so again
		}
		return err
	}
	defer resp.Body.Close()
	if err := f.accept(resp); err != nil {
		return err
	}
	return f.receive(watched, cancel, resp.Body)
}

func (f *fetch) newRequest(ctx context.Context, u *url.URL) *http.Request {
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(got httptrace.GotConnInfo) {
		f.progress.Server = got.Conn.RemoteAddr().String()
	}})
	r := (&http.Request{Method: http.MethodGet, URL: u, Header: http.Header{
		"Accept-Encoding": {"identity"},
		"User-Agent":      nil,
	}}).WithContext(ctx)
	if f.offset > 0 {
		r.Header.Set("Range", fmt.Sprintf("bytes=%d-", f.offset))
		r.Header.Set("If-Range", f.etag)
	}
	return r
}

// accept checks the header of a reply and prepares for its body: from the offset asked for, or from the start when the
// server does not resume.
func (f *fetch) accept(resp *http.Response) error {
	if e := resp.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return fail(CodeHTTPError, "the mirror compresses the image without being asked to", "disable compression on the file server", nil)
	}
	etag := resp.Header.Get("ETag")
	switch {
	case resp.StatusCode == http.StatusPartialContent && f.offset > 0:
		start, total, ok := parseContentRange(resp.Header.Get("Content-Range"))
		if !ok || start != f.offset || f.total >= 0 && total != f.total || etag != "" && etag != f.etag {
			f.etag = ""
			return &broken{fail(CodeTruncated, "the mirror resumed with something else than was asked for", "check the file server", nil)}
		}
		f.resumed++
		return nil
	case resp.StatusCode == http.StatusRequestedRangeNotSatisfiable && f.offset > 0:
		f.etag = ""
		return &broken{fail(CodeTruncated, "the mirror cannot resume the transfer", "check the file server", nil)}
	case resp.StatusCode != http.StatusOK:
		return fail(CodeHTTPError, fmt.Sprintf("the mirror answered with HTTP %d", resp.StatusCode),
			"check the URI and the file server", nil)
	}
	if err := f.restart(); err != nil {
		return err
	}
	f.total = resp.ContentLength
	if strings.HasPrefix(etag, `"`) { // weak tags do not promise the same bytes
		f.etag = etag
	}
	return f.checkSize(f.total)
}

func (f *fetch) checkSize(size int64) error {
	if size <= f.request.MaxSize {
		return nil
	}
	return fail(CodeTooLarge, fmt.Sprintf("the image has more than the %d bytes that are allowed", f.request.MaxSize),
		"raise image.max-size if the image is right", nil)
}

// parseContentRange reads "bytes start-end/total" (RFC 9110 §14.4) of a range that goes up to the end.
func parseContentRange(value string) (start, total int64, ok bool) {
	span, ok := strings.CutPrefix(value, "bytes ")
	if !ok {
		return 0, 0, false
	}
	span, size, ok1 := strings.Cut(span, "/")
	first, last, ok2 := strings.Cut(span, "-")
	start, err1 := strconv.ParseInt(first, 10, 64)
	end, err2 := strconv.ParseInt(last, 10, 64)
	total, err3 := strconv.ParseInt(size, 10, 64)
	if !ok1 || !ok2 || err1 != nil || err2 != nil || err3 != nil || start < 0 || start > end || end != total-1 {
		return 0, 0, false
	}
	return start, total, true
}

// readFile fetches the image from removable storage, whose root is what both "file:images/os.img" and "file:///images/os.img"
// begin at.
func (f *fetch) readFile(ctx context.Context, u *url.URL) error {
	unreadable := func(err error) error {
		return fail(CodeUnreachable, "the image cannot be read from removable storage", "check the path in the onboarding information", err)
	}
	path, err := url.PathUnescape(u.Opaque)
	if u.Opaque == "" {
		path = strings.TrimPrefix(u.Path, "/")
	}
	if err != nil {
		return unreadable(err)
	}
	file, err := f.request.Files.Open(path)
	if err != nil {
		return unreadable(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "read", Path: u.Path, Err: errors.New("not a regular file")}
	}
	if err != nil {
		return unreadable(err)
	}
	if err := f.checkSize(info.Size()); err != nil {
		return err
	}
	f.total = info.Size()
	watched, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	err = f.receive(watched, cancel, contextReader{watched, file})
	var b *broken
	if errors.As(err, &b) { // storage that fails once fails again
		b.why.Fix = "leave the storage plugged in until the image is installed, or use another stick"
		return b.why
	}
	return err
}

// contextReader makes reading a file cancellable between reads.
type contextReader struct {
	ctx context.Context
	io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.Reader.Read(p)
}

// verify compares the digest of everything received with the one demanded, and discards what is wrong.
func (f *fetch) verify() error {
	sum := f.hash.Sum(nil)
	if bytes.Equal(sum, f.request.SHA256) {
		return nil
	}
	size := f.offset
	if err := f.restart(); err != nil {
		return err
	}
	return fail(CodeHashMismatch, fmt.Sprintf("the %d bytes received have SHA-256 %x, not %x", size, sum, f.request.SHA256),
		"publish the image that the onboarding information names, or correct its hash-value", nil)
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
