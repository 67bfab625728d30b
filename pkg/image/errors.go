package image

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"syscall"

	"github.com/xpu-sztp/ztp/pkg/image/signature"
	"github.com/xpu-sztp/ztp/pkg/reason"
)

// Reasons why an image could not be fetched.
const (
	CodeUnreachable    reason.Code = "image-unreachable"     // no address of the mirror could be connected to
	CodeHTTPError      reason.Code = "image-http-error"      // the mirror answered with something else than the image
	CodeTooLarge       reason.Code = "image-too-large"       // larger than image.max-size
	CodeTruncated      reason.Code = "image-truncated"       // the transfer broke off for good
	CodeHashMismatch   reason.Code = "image-hash-mismatch"   // the bytes are not the ones that were demanded
	CodeTimeout        reason.Code = "image-timeout"         // too slow, or not done in time
	CodeNoVerification reason.Code = "image-no-verification" // nothing to verify the image by (R5.6-11)
	CodeURIRefused     reason.Code = "image-uri-refused"     // a URI or a redirect that is not followed
	CodeTLS            reason.Code = "image-tls"             // no TLS connection, or the server could not be authenticated
	CodeBusy           reason.Code = "image-busy"            // the mirror asks to come back later than there is time
	CodeCheckpoint     reason.Code = "image-checkpoint"      // that of an earlier download cannot be removed
)

// telling orders the codes by how much they tell an operator when every mirror failed differently.
var telling = []reason.Code{CodeHashMismatch, signature.CodeMismatch, signature.CodeExpired, signature.CodeNamespace, signature.CodeUntrusted,
	signature.CodeAlgorithm, signature.CodeMalformed, CodeTooLarge, CodeTruncated, CodeTimeout, CodeTLS, CodeBusy, CodeHTTPError,
	CodeURIRefused, signature.CodeMissing, CodeUnreachable}

// Causes with which a transfer is cancelled.
var (
	errTooLong = errors.New("the time limit is over")
	errStalled = errors.New("the transfer is too slow")
)

// sinkError is a failure on this side, which no other mirror would mend.
type sinkError struct{ err error }

func (e *sinkError) Error() string { return e.err.Error() }
func (e *sinkError) Unwrap() error { return e.err }

// unfit reports whether an error of a sink is about what it was given, so that another mirror may do better: a mirror may send
// more than there is room for, or what cannot be unpacked.
func unfit(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EPROTO) }

func fail(code reason.Code, msg, fix string, err error) *reason.Error {
	return &reason.Error{Code: code, Msg: msg, Fix: fix, Err: err}
}

// summarize makes one error of the failures of all mirrors that were tried, under the most telling of their codes.
func (f *fetch) summarize() error {
	var failures []error
	for _, m := range f.mirrors {
		if m.err != nil {
			failures = append(failures, fmt.Errorf("%s: %w", display(m.uri), m.err))
		}
	}
	if len(failures) == 0 {
		return fail(CodeTimeout, "there was no time to ask a mirror", "raise image.timeout", nil)
	}
	worst := slices.MinFunc(failures, func(a, b error) int { return tells(a) - tells(b) })
	if len(f.mirrors) == 1 {
		return worst
	}
	code, hint := reason.Of(worst)
	list := make([]string, len(failures))
	for i, err := range failures {
		list[i] = err.Error()
	}
	return fail(code, fmt.Sprintf("none of the %d mirrors gave the image: %s", len(f.mirrors), strings.Join(list, "; ")), hint, nil)
}

// tells is the place of an error's code among those that tell something; what the sink said about an image is not among them,
// and comes first.
func tells(err error) int {
	code, _ := reason.Of(err)
	return slices.Index(telling, code)
}

// display returns uri fit for people and logs: without its query and userinfo, which may hold secrets, and not too long.
func display(uri string) string {
	u, err := url.Parse(uri)
	if err != nil || u.Host == "" && strings.HasPrefix(u.Path, "//") { // a path that would read as a host
		return "malformed URI"
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	text := u.String() // escapes everything that is not printable
	if len(text) > 200 {
		text = strings.ToValidUTF8(text[:200], "") + "…"
	}
	return text
}
