package image

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"

	"github.com/xpu-sztp/ztp/pkg/image/signature"
	"github.com/xpu-sztp/ztp/pkg/reason"
)

// signedTransfer takes from m what makes the image whole and, where that is asked for, signed.
func (f *fetch) signedTransfer(ctx context.Context, m *mirror) error {
	u, err := f.checkURI(m.uri)
	if err != nil {
		return err
	}
	f.progress.Protocol = u.Scheme
	for {
		if err := f.findSignature(ctx, m, u); err != nil {
			return err
		}
		if err := f.transfer(ctx, m, u); err != nil {
			return err
		}
		// When another mirror's signature turned out to be wrong, the image is here, and all that m is asked for is its own.
		if err := f.checkSignature(); err == nil || f.claimed == m {
			return err
		}
	}
}

// findSignature looks for a signature beside the image at u, before anything of that is asked for, unless another mirror gave
// one that is not known to be wrong. One over the SHA-256 digest that was demanded is verified here. For another the image must be
// hashed in one more way.
func (f *fetch) findSignature(ctx context.Context, m *mirror, u *url.URL) error {
	if f.request.Signature == nil || f.claim != nil {
		return nil
	}
	f.claimed = m
	forms, failure := f.request.Signature.Forms()
	for _, form := range forms {
		place := beside(u, form.Suffix())
		data, err := f.small(ctx, place)
		code, _ := reason.Of(err)
		gone := err != nil && code != signature.CodeMissing
		var claim *signature.Claim
		if err == nil {
			claim, err = f.request.Signature.Verify(form, data)
		}
		settled := err == nil && claim.Hash == crypto.SHA256
		if settled {
			err = claim.Check(f.request.SHA256)
		}
		if err == nil && (f.claim == nil || settled) {
			f.claim = claim
		}
		if err != nil && (failure == nil || tells(err) < tells(failure)) {
			failure = fmt.Errorf("%s: %w", display(place.String()), err)
		}
		if gone || settled && err == nil {
			break // nor will there be an answer about another form; or none is needed
		}
	}
	if f.claim == nil {
		return failure
	}
	return f.hashFor()
}

// beside is where the signature of the image at u is.
func beside(u *url.URL, suffix string) *url.URL {
	place := *u
	if place.Opaque != "" {
		place.Opaque += suffix
		return &place
	}
	place.Path += suffix
	if place.RawPath != "" {
		place.RawPath += suffix
	}
	return &place
}

// small fetches a signature whole, by the rules for images.
func (f *fetch) small(ctx context.Context, u *url.URL) ([]byte, error) {
	limited, cancel := context.WithTimeout(ctx, f.request.Stall)
	defer cancel()
	var body io.ReadCloser
	if u.Scheme == "file" {
		file, _, err := f.openFile(u)
		if errors.Is(err, fs.ErrNotExist) {
			err = signature.Missing()
		}
		if err != nil {
			return nil, err
		}
		body = file
	} else {
		resp, err := f.get(limited, u, nil)
		if err != nil {
			return nil, explain(ctx, limited, err)
		}
		body = resp.Body
		switch resp.Status {
		case 200:
			err = checkEncoding(resp)
		case 404, 410, 403: // the last is what stores of objects say
			err = signature.Missing()
		default:
			err = f.refused(resp)
		}
		if err != nil {
			body.Close()
			return nil, err
		}
	}
	defer body.Close()
	data, err := io.ReadAll(io.LimitReader(body, signature.MaxSize+1)) // what is larger is refused where it is judged
	if err != nil {
		err = &busy{why: fail(CodeTruncated, "the signature did not come whole", "check the network and the file server", err)}
	}
	return data, err
}

// hashFor has the image hashed as the claim needs it, from the first byte if it was not so far. Only now it is known whether
// what an interrupted process left is of use.
func (f *fetch) hashFor() error {
	old, _ := f.hash.(*digests)
	other := f.claim.Hash != crypto.SHA256 && (old == nil || old.kind != f.claim.Hash)
	if other {
		f.hash = newDigests(f.claim)
	}
	if !f.restored {
		return f.restore()
	}
	if other {
		return f.restart()
	}
	return nil
}

// checkSignature tells who signed the image that has come whole. A claim that it does not fulfil is given up.
func (f *fetch) checkSignature() error {
	claim := f.claim
	if claim == nil {
		return nil
	}
	digest := f.request.SHA256
	if d, ok := f.hash.(*digests); ok && claim.Hash == d.kind {
		digest = d.other.Sum(nil)
	}
	if err := claim.Check(digest); err != nil {
		f.claim = nil
		return err
	}
	f.request.Logger.Info("the image is signed", "by", claim.Signer)
	return nil
}
