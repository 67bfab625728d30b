package image

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/xpu-sztp/ztp/pkg/image/signature"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/retryafter"
)

// otherSignature is how long a mirror may take for a signature when another one gave one that may be right.
const otherSignature = 5 * time.Second

// tellingSignature orders the codes of signatures that are not believed by how much they tell, those of mirrors that gave
// none last.
var tellingSignature = append([]reason.Code{
	signature.CodeMismatch, signature.CodeExpired, signature.CodeNamespace, signature.CodeUntrusted, signature.CodeAlgorithm,
	signature.CodeMalformed, signature.CodeMissing,
}, telling...)

// findSignature looks for signatures beside the mirrors before anything of the image is asked for. One over the SHA-256 digest
// that was demanded is verified here and settles it. For others the image must be hashed in one more way, so they are
// collected from all mirrors: one that is no good must not stand in for one that is.
func (f *fetch) findSignature(ctx context.Context) error {
	if f.request.Signature == nil {
		return nil
	}
	forms, err := f.request.Signature.Forms()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, f.request.Timeout, errTooLong)
	defer cancel()
	var failures []error
	ask := f.mirrors
	for again := 1; ; again++ {
		var later []*mirror
		var wait time.Duration
		for _, m := range ask {
			settled, failed := f.signaturesOf(ctx, m, forms)
			if settled {
				return nil
			}
			var b *busy
			if errors.As(errors.Join(failed...), &b) && again <= maxBusy {
				later, wait = append(later, m), max(wait, b.wait)
				continue
			}
			failures = append(failures, failed...)
		}
		if len(f.claims) > 0 {
			f.hash = newDigests(f.claims)
			return nil
		}
		if later == nil {
			return worstOf(failures, tellingSignature, "no signature of the image is believed", len(failures) == 1)
		}
		if err := pause(ctx, max(spread(wait), backoff(f.request.RetryWait, again))); err != nil {
			return fail(CodeTimeout, "the mirrors are busy, and no signature came within the time limit", "raise image.timeout, or use another mirror", nil)
		}
		ask = later
	}
}

// signaturesOf collects the claims of the signatures that one mirror has. The first that holds for the demanded digest settles
// it. Without that the errors say what is wrong with each.
func (f *fetch) signaturesOf(ctx context.Context, m *mirror, forms []signature.Form) (settled bool, failures []error) {
	u, err := f.checkURI(m.uri)
	if err != nil {
		return false, []error{err}
	}
	for _, form := range forms {
		place := beside(u, form)
		data, err := f.small(ctx, place)
		gone := err != nil
		if err == nil {
			var claim *signature.Claim
			if claim, err = f.request.Signature.Verify(form, data); err == nil && claim.Hash == crypto.SHA256 {
				if err = claim.Check(f.request.SHA256); err == nil {
					f.claims = []*signature.Claim{claim}
					f.request.Logger.InfoContext(ctx, "the image is signed", "by", claim.Signer, "uri", display(place.String()))
					return true, nil
				}
			}
			if err == nil {
				f.claims = append(f.claims, claim)
				continue
			}
		}
		failures = append(failures, fmt.Errorf("%s: %w", display(place.String()), err))
		if code, _ := reason.Of(err); gone && code != signature.CodeMissing {
			break // nor will there be one of another form
		}
	}
	return false, failures
}

// beside is where the signature of the image at u is.
func beside(u *url.URL, form signature.Form) *url.URL {
	place := *u
	switch {
	case u.Opaque != "":
		place.Opaque += form.Suffix()
	case u.RawPath != "":
		place.RawPath += form.Suffix()
		fallthrough
	default:
		place.Path += form.Suffix()
	}
	return &place
}

// small fetches a signature whole, by the rules for images.
func (f *fetch) small(ctx context.Context, u *url.URL) ([]byte, error) {
	limit := f.request.Stall
	if len(f.claims) > 0 {
		limit = min(limit, otherSignature)
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	body, err := f.openSmall(ctx, limited, u)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	data, err := io.ReadAll(io.LimitReader(body, signature.MaxSize+1)) // one byte more is refused where it is judged
	if err != nil {
		return nil, fail(CodeTruncated, "the signature did not come whole", "check the network and the file server", err)
	}
	return data, nil
}

func (f *fetch) openSmall(parent, ctx context.Context, u *url.URL) (io.ReadCloser, error) {
	missing := fail(signature.CodeMissing, "there is no signature", "publish the signature of the image beside it, under this name", nil)
	if u.Scheme == "file" {
		file, _, err := f.openFile(u)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, missing
		}
		return file, err
	}
	resp, err := f.client.Do((&http.Request{Method: http.MethodGet, URL: u, Header: http.Header{
		"Accept-Encoding": {"identity"},
		"User-Agent":      nil,
	}}).WithContext(ctx))
	if err != nil {
		return nil, explain(parent, ctx, err)
	}
	switch status := resp.StatusCode; {
	case status == http.StatusOK:
		if err = checkEncoding(resp); err == nil {
			return resp.Body, nil
		}
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable:
		err = tooBusy(status, retryafter.Wait(resp.Header, f.request.MaxWait))
	case status == http.StatusNotFound, status == http.StatusGone, status == http.StatusForbidden: // which stores of objects say instead
		err = missing
	default:
		err = fail(CodeHTTPError, fmt.Sprintf("the mirror answered with HTTP %d when asked for the signature", status), "check the file server", nil)
	}
	resp.Body.Close()
	return nil, err
}

// checkSignature tells who signed the image that has come whole.
func (f *fetch) checkSignature() (signer string, err error) {
	if f.request.Signature == nil {
		return "", nil
	}
	for _, claim := range f.claims {
		digest := f.request.SHA256
		if claim.Hash != crypto.SHA256 {
			digest = f.hash.(*digests).sum(claim.Hash)
		}
		claimErr := claim.Check(digest)
		if claimErr == nil {
			f.request.Logger.Info("the image is signed", "by", claim.Signer)
			return claim.Signer, nil
		}
		if err == nil {
			err = claimErr
		}
	}
	return "", err
}

// byHash puts claims in the order of their hashes, each once.
func byHash(claims []*signature.Claim) []*signature.Claim {
	order := func(a, b *signature.Claim) int { return int(a.Hash) - int(b.Hash) }
	claims = slices.SortedFunc(slices.Values(claims), order)
	return slices.CompactFunc(claims, func(a, b *signature.Claim) bool { return a.Hash == b.Hash })
}
