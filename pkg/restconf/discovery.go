package restconf

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
)

const (
	defaultRoot  = "/restconf" // where most servers have it; used when discovery gives nothing usable
	maxXRD       = 64 << 10
	maxXRDDepth  = 16
	maxHref      = 1024
	maxRedirects = 3 // of host-meta, all on the same origin
)

// discover returns the root of the RESTCONF API and remembers it (RFC 8040 §3.1). Whatever is wrong with the answer, the
// default root is used instead and a warning says why; only a server that gives no answer at all is an error.
func (s *Session) discover(ctx context.Context) (root *url.URL, warning string, err error) {
	s.mu.Lock()
	root = s.root
	s.mu.Unlock()
	if root != nil {
		return root, "", nil
	}
	rep, at, err := s.hostMeta(ctx)
	if err != nil {
		return nil, "", err
	}
	root = s.origin.JoinPath(defaultRoot)
	switch found, err := rootFrom(rep, at); {
	case err == nil:
		root = found
	case rep.status != 404: // having no host-meta is common and means the default root
		warning = fmt.Sprintf("host-meta is unusable (%v); %s is used as the RESTCONF root", err, defaultRoot)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.root = root
	return root, warning, nil
}

// hostMeta fetches the host-meta document, following redirects on the same origin (RFC 6415 §2), and returns the last
// reply and where it came from.
func (s *Session) hostMeta(ctx context.Context) (*reply, *url.URL, error) {
	at := s.origin.JoinPath("/.well-known/host-meta")
	for hops := 0; ; hops++ {
		rep, err := s.exchange(ctx, request{method: "GET", url: at, accept: mediaXRD, limit: maxXRD})
		if err != nil || rep.status/100 != 3 || hops == maxRedirects {
			return rep, at, err
		}
		next, err := sameOrigin(at, rep.header.Get("Location"))
		if err != nil {
			return rep, at, nil
		}
		at = next
	}
}

// rootFrom reads the RESTCONF root out of the reply to a request for host-meta.
func rootFrom(rep *reply, at *url.URL) (*url.URL, error) {
	switch {
	case rep.status != 200:
		return nil, fmt.Errorf("HTTP status %d", rep.status)
	case rep.encoded:
		return nil, errors.New("compressed without being asked to")
	case rep.tooLarge:
		return nil, fmt.Errorf("larger than %d KiB", maxXRD>>10)
	case !slices.Contains([]string{mediaXRD, "application/xml", "text/xml", ""}, rep.mediaType):
		return nil, fmt.Errorf("media type %s", printable(rep.mediaType, 64))
	}
	href, err := parseXRD(rep.body)
	if err != nil {
		return nil, err
	}
	root, err := sameOrigin(at, href)
	if err != nil {
		return nil, err
	}
	if root.RawQuery != "" {
		return nil, errors.New("the link has a query")
	}
	return root, nil
}

// parseXRD returns the href of the first Link with the relation "restconf" directly below the root of an XRD document.
// Namespaces are not compared: some servers leave them out, and the link cannot lead anywhere else than to this server.
func parseXRD(document []byte) (href string, err error) {
	decoder := xml.NewDecoder(bytes.NewReader(document))
	found := false
	for depth := 0; ; {
		token, err := decoder.Token()
		if err == io.EOF && found {
			return href, nil
		}
		if err == io.EOF {
			return "", errors.New("no link to a RESTCONF API")
		}
		if err != nil {
			return "", errors.New("not well-formed XML")
		}
		switch element := token.(type) {
		case xml.StartElement:
			if depth == 0 && element.Name.Local != "XRD" {
				return "", errors.New("not an XRD document")
			}
			if depth == 1 && !found && element.Name.Local == "Link" && attribute(element, "rel") == "restconf" {
				href, found = attribute(element, "href"), true
			}
			if depth++; depth > maxXRDDepth {
				return "", errors.New("nested too deeply")
			}
		case xml.EndElement:
			depth--
		}
	}
}

func attribute(element xml.StartElement, name string) string {
	for _, a := range element.Attr {
		if a.Name.Local == name && a.Name.Space == "" {
			return strings.TrimSpace(a.Value)
		}
	}
	return ""
}

// sameOrigin resolves a reference found at base and refuses to leave base's scheme, host and port.
func sameOrigin(base *url.URL, reference string) (*url.URL, error) {
	if reference == "" || len(reference) > maxHref {
		return nil, errors.New("empty or overlong link")
	}
	ref, err := url.Parse(reference)
	if err != nil {
		return nil, errors.New("malformed link")
	}
	target := base.ResolveReference(ref)
	if target.Scheme != base.Scheme || !strings.EqualFold(explicitPort(target), explicitPort(base)) || target.User != nil || target.Opaque != "" {
		return nil, fmt.Errorf("the link leads to another origin, %s", printable(target.Host, 64))
	}
	target.Host, target.Fragment, target.RawFragment = base.Host, "", ""
	return target, nil
}

func explicitPort(u *url.URL) string {
	if u.Port() == "" {
		return u.Hostname() + " 443"
	}
	return u.Hostname() + " " + u.Port()
}
