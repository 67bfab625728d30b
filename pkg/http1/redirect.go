package http1

import (
	"fmt"
	"net/url"
)

// Follow sends a request by do, and then what its replies redirect to, as often as check returns nil. check gets the next URL
// and all before it, the first one first. Bodies of redirects are not read. A POST becomes a GET where RFC 9110 §15.4 lets it.
func Follow(r *Request, do func(*Request) (*Response, error), check func(next *url.URL, before []*url.URL) error) (*Response, error) {
	before := []*url.URL{r.URL}
	for {
		resp, err := do(r)
		if err != nil {
			return nil, err
		}
		next, err := resp.Location()
		if next == nil && err == nil {
			return resp, nil
		}
		resp.Body.Close()
		if err == nil {
			err = check(next, before)
		}
		if err != nil {
			return nil, err
		}
		before = append(before, next)
		r = r.redirected(resp.Status, next)
	}
}

func (r *Request) redirected(status int, to *url.URL) *Request {
	next := *r
	next.URL = to
	if status != 307 && status != 308 && r.Method != "GET" && r.Method != "HEAD" {
		next.Method, next.Body = "GET", nil
		next.Header = make(Header)
		for name, values := range r.Header {
			if name != "Content-Type" {
				next.Header[name] = values
			}
		}
	}
	return &next
}

// Location is where a reply redirects to, or nil when it does not.
func (r *Response) Location() (*url.URL, error) {
	switch r.Status {
	case 301, 302, 303, 307, 308:
	default:
		return nil, nil
	}
	values := r.Header["Location"]
	if len(values) == 0 || values[0] == "" {
		return nil, nil
	}
	to, err := r.Request.URL.Parse(values[0])
	if err != nil || len(values) > 1 {
		return nil, fmt.Errorf("%w: Location", ErrMalformed)
	}
	return to, nil
}
