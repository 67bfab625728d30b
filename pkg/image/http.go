package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"

	"github.com/xpu-sztp/ztp/pkg/http1"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/retryafter"
)

// download makes one request and takes what it gets.
func (f *fetch) download(ctx context.Context, m *mirror, u *url.URL) error {
	watched, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	f.progress.Requests++
	f.progress.Resumed = 0
	resp, err := f.get(watched, u, f.missing(m))
	if err != nil {
		err = explain(ctx, watched, err)
		var why *reason.Error
		if m.part && errors.As(err, &why) {
			return &broken{why} // it answered before and may do so again
		}
		return err
	}
	defer resp.Body.Close()
	if err := f.accept(m, resp); err != nil {
		return err
	}
	body := io.Reader(resp.Body)
	if f.total >= 0 { // the reply may have no length of its own
		body = io.LimitReader(body, f.total-f.offset)
	}
	return f.receive(watched, cancel, body)
}

// missing is how to ask for the bytes behind those that are there. The mirror that they are from is to send the whole image
// instead when it has another one by now; another mirror has no entity tag yet that could be held against what it has.
func (f *fetch) missing(m *mirror) http1.Header {
	if f.offset == 0 {
		return nil
	}
	fields := http1.Header{"Range": {fmt.Sprintf("bytes=%d-", f.offset)}}
	if f.source == m.key {
		fields.Set("If-Range", f.etag)
	}
	return fields
}

// accept checks the header of a reply and prepares for its body: from the offset asked for, or from the start when the
// server does not resume.
func (f *fetch) accept(m *mirror, resp *http1.Response) error {
	status := resp.Status
	switch {
	case status == 206 && f.offset > 0:
		return f.acceptPart(m, resp)
	case status == 416 && f.offset > 0:
		return f.startAgain("the mirror cannot resume the transfer")
	case status != 200:
		err := f.refused(resp)
		var why *reason.Error
		if m.part && status >= 500 && errors.As(err, &why) && why.Code == CodeHTTPError {
			return &broken{why} // whatever is behind a proxy may come back
		}
		return err
	}
	if err := checkEncoding(resp); err != nil {
		return err
	}
	return f.begin(m, resp.Length, strongTag(resp.Header.Get("ETag")))
}

// refused explains a status that says that there is nothing to be had.
func (f *fetch) refused(resp *http1.Response) error {
	status := resp.Status
	if status == 429 || status == 503 {
		return &busy{
			why: fail(CodeBusy, fmt.Sprintf("the mirror is busy (HTTP %d)", status),
				"give the file server more capacity, or name more mirrors", nil),
			wait: retryafter.Wait(resp.Header, f.request.MaxWait),
		}
	}
	return fail(CodeHTTPError, fmt.Sprintf("the mirror answered with HTTP %d", status), "check the URI and the file server", nil)
}

// acceptPart checks that a part is exactly what is missing.
func (f *fetch) acceptPart(m *mirror, resp *http1.Response) error {
	etag := resp.Header.Get("ETag")
	start, total, ok := parseContentRange(resp.Header.Get("Content-Range"))
	switch {
	case !ok || len(resp.Header["Content-Range"]) != 1 || start != f.offset || f.total >= 0 && total != f.total,
		resp.Length >= 0 && resp.Length != total-start,
		f.source == m.key && etag != "" && etag != f.etag,
		strings.HasPrefix(resp.Header.Get("Content-Type"), "multipart/"):
		return f.startAgain("the mirror resumed with something else than was asked for")
	}
	if err := checkEncoding(resp); err != nil {
		return err
	}
	return f.goOn(m, total, strongTag(etag))
}

// startAgain gives up what there is for a mirror that cannot resume.
func (f *fetch) startAgain(why string) error {
	if err := f.restart(); err != nil {
		return err
	}
	return &broken{fail(CodeTruncated, why, "check the file server", nil)}
}

// checkEncoding refuses bodies that are compressed on the way. Some servers call the compression of the file itself a content
// encoding, by the name of the file; such a body is the file.
func checkEncoding(resp *http1.Response) error {
	name := resp.Request.URL.Path
	switch resp.Header.Get("Content-Encoding") {
	case "", "identity":
		return nil
	case "gzip", "x-gzip":
		if strings.HasSuffix(name, ".gz") || strings.HasSuffix(name, ".tgz") {
			return nil
		}
	case "zstd":
		if strings.HasSuffix(name, ".zst") {
			return nil
		}
	case "xz", "x-xz":
		if strings.HasSuffix(name, ".xz") {
			return nil
		}
	}
	return fail(CodeHTTPError, "the mirror compresses the image without being asked to", "disable compression on the file server", nil)
}

// strongTag returns an entity tag that promises the same bytes (RFC 9110 §8.8.3), and "" for any other.
func strongTag(etag string) string {
	odd := func(r rune) bool { return r < ' ' || r == '"' || r > '~' }
	if len(etag) < 2 || len(etag) > 512 || etag[0] != '"' || etag[len(etag)-1] != '"' || strings.ContainsFunc(etag[1:len(etag)-1], odd) {
		return ""
	}
	return etag
}

// parseContentRange reads "bytes start-end/total" (RFC 9110 §14.4) of a range that goes up to the end.
func parseContentRange(value string) (start, total int64, ok bool) {
	span, ok := strings.CutPrefix(value, "bytes ")
	if !ok {
		return 0, 0, false
	}
	span, size, ok1 := strings.Cut(span, "/")
	first, last, ok2 := strings.Cut(span, "-")
	from, err1 := strconv.ParseUint(first, 10, 63)
	to, err2 := strconv.ParseUint(last, 10, 63)
	all, err3 := strconv.ParseUint(size, 10, 63)
	if !ok1 || !ok2 || err1 != nil || err2 != nil || err3 != nil || from > to || to+1 != all {
		return 0, 0, false
	}
	return int64(from), int64(all), true
}
