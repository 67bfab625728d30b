package restconf

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/url"
	"time"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/http1"
	"github.com/xpu-sztp/ztp/pkg/retryafter"
)

const (
	maxErrorReply = 64 << 10 // of the body of a reply that is not successful, in bytes; the rest is not read
	maxRetryAfter = 24 * time.Hour
)

// request is one HTTP request of a session.
type request struct {
	method string
	url    *url.URL
	accept string // the media type of the reply, and of the body
	body   []byte // nil when there is none
	limit  int64  // of the body of a successful reply, in bytes
}

// reply is a complete reply with its body.
type reply struct {
	status    int
	header    http1.Header
	mediaType string // lowercase, without parameters; "" when absent or malformed
	body      []byte
	encoded   bool // the body is compressed, which was not asked for; it was not read
	tooLarge  bool // the body is larger than the request's limit; it is not whole
}

var (
	errHeaderSlow = errors.New("header too slow")
	errBodySlow   = errors.New("body too slow")
)

// exchange sends r and reads the whole reply, following no redirect. An error means that there was no complete reply; it
// is *Error, *artifacts.Error (the server did not authenticate when it was connected to again), or wraps ctx's.
func (s *Session) exchange(ctx context.Context, r request) (*reply, error) {
	limited, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	t := s.options.Timeouts
	slow := time.AfterFunc(t.Dial+t.Handshake+t.Header, func() { cancel(errHeaderSlow) })
	defer slow.Stop()

	select {
	case <-s.turn:
		defer func() { s.turn <- struct{}{} }()
	case <-limited.Done():
		return nil, s.explainExchange(ctx, limited, limited.Err())
	}
	started := time.Now()
	resp, err := s.send(limited, httpRequest(r))
	if err != nil {
		return nil, s.explainExchange(ctx, limited, err)
	}
	defer resp.Body.Close()
	if slow.Stop() {
		slow = time.AfterFunc(t.Body, func() { cancel(errBodySlow) })
		defer slow.Stop()
	}
	rep := &reply{status: resp.Status, header: resp.Header}
	rep.mediaType, _, _ = mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if e := resp.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		rep.encoded = true
	} else if err := rep.readBody(resp, r.limit); err != nil {
		return nil, s.explainExchange(ctx, limited, err)
	}
	s.log.DebugContext(ctx, "HTTP exchange", "method", r.method, "path", r.url.EscapedPath(), "status", rep.status,
		"bytes", len(rep.body), "duration", time.Since(started))
	return rep, nil
}

// httpRequest says neither what program this is nor its version, which are not a provisional server's business (R9-06).
func httpRequest(r request) *http1.Request {
	req := &http1.Request{Method: r.method, URL: r.url, Body: r.body, Header: http1.Header{
		"Accept":          {r.accept},
		"Accept-Encoding": {"identity"},
	}}
	if r.body != nil {
		req.Header.Set("Content-Type", r.accept)
	}
	return req
}

// readBody reads the body of a successful reply up to limit, and as much of any other as a person would want to see.
func (r *reply) readBody(resp *http1.Response, limit int64) error {
	if r.status/100 != 2 {
		// The status is all that matters; a body that breaks off is as good as a short one.
		r.body, _ = io.ReadAll(io.LimitReader(resp.Body, maxErrorReply))
		return nil
	}
	if resp.Length > limit {
		r.tooLarge = true
		return nil
	}
	var err error
	r.body, err = io.ReadAll(io.LimitReader(resp.Body, limit+1))
	r.tooLarge = int64(len(r.body)) > limit
	return err
}

func (s *Session) explainExchange(ctx, limited context.Context, err error) error {
	var own *Error
	var refused *artifacts.Error
	var timeout net.Error
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("request to %s: %w", s.origin.Host, context.Cause(ctx))
	case context.Cause(limited) == errBodySlow:
		return fail(CodeServerTimeout, fmt.Sprintf("the server did not finish its reply within %v", s.options.Timeouts.Body),
			"check the server's load and the network's speed", nil)
	case errors.As(err, &own):
		return own
	case errors.As(err, &refused):
		return refused
	case limited.Err() != nil || errors.As(err, &timeout) && timeout.Timeout():
		return fail(CodeServerTimeout, fmt.Sprintf("the server did not reply within %v", s.options.Timeouts.Header),
			"check that the server answers other clients", nil)
	}
	s.mu.Lock()
	alert := s.live.remoteAlert()
	s.mu.Unlock()
	if alert != nil {
		return explainAlert(alert)
	}
	return fail(CodeConnectionLost, "the server closed the connection before its reply was complete",
		"look at the server's log; it may not accept the device's certificate", err)
}

// retryAfter is how long the server asks to be left alone. With a redirect by HTTP it is about that redirect, which is not
// followed.
func (r *reply) retryAfter() time.Duration {
	if r.status < 400 {
		return 0
	}
	return retryafter.Wait(r.header, maxRetryAfter)
}
