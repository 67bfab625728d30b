package http1

import (
	"bytes"
	"fmt"
	"maps"
	"net"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// encode returns the request as it goes over the wire (RFC 9112 §3). Nothing in it can be taken for more than it is: what is not
// part of names, hosts and values by their grammar is refused, and in queries escaped.
func (r *Request) encode() ([]byte, error) {
	u := r.URL
	if u == nil || u.Scheme != "http" && u.Scheme != "https" || u.Opaque != "" {
		return nil, fmt.Errorf("%w: only http and https URLs with a host", ErrRequest)
	}
	host, target := hostField(u), escapeQuery(u.RequestURI())
	if target[0] != '/' { // url.URL.JoinPath makes such paths
		target = "/" + target
	}
	if !isHost(host) || !isToken(r.Method) || r.Method == "CONNECT" {
		return nil, fmt.Errorf("%w: its method or URL", ErrRequest)
	}
	fields := maps.Clone(r.Header)
	if fields == nil {
		fields = make(Header)
	}
	for _, name := range []string{"Host", "Content-Length", "Transfer-Encoding"} {
		if fields[name] != nil {
			return nil, fmt.Errorf("%w: the field %s is not the caller's", ErrRequest, name)
		}
	}
	if r.Body != nil || r.Method == "POST" {
		fields["Content-Length"] = []string{strconv.Itoa(len(r.Body))}
	}
	if r.Close {
		fields["Connection"] = []string{"close"}
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", r.Method, target, host)
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		for _, value := range fields[name] {
			if !isToken(name) || name != textproto.CanonicalMIMEHeaderKey(name) || hasControl(value) {
				return nil, fmt.Errorf("%w: the field %.60q", ErrRequest, name)
			}
			fmt.Fprintf(&b, "%s: %s\r\n", name, value)
		}
	}
	b.WriteString("\r\n")
	b.Write(r.Body)
	return b.Bytes(), nil
}

// hostField is the host and port of a URL for the header, without the zone of an address, which means nothing to a server
// (RFC 6874 §4).
func hostField(u *url.URL) string {
	host := u.Host
	if u.Port() == "" {
		host = strings.TrimSuffix(host, ":")
	}
	if end := strings.LastIndexByte(host, ']'); end > 0 && host[0] == '[' {
		address, _, _ := strings.Cut(host[:end], "%")
		host = address + host[end:]
	}
	return host
}

// isHost accepts what RFC 3986 §3.2.2 does, without escapes, and a port.
func isHost(s string) bool {
	u := url.URL{Host: s}
	return u.Hostname() != "" && !strings.ContainsFunc(s, func(c rune) bool {
		return (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && !strings.ContainsRune("-._~!$&'()*+,;=:[]", c)
	})
}

// escapeQuery escapes what URLs with carelessly written queries have unescaped. Paths have been escaped before.
func escapeQuery(target string) string {
	var b strings.Builder
	for i := range len(target) {
		if c := target[i]; c <= ' ' || c >= 0x7f {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool {
		return c <= ' ' || c >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, c)
	})
}

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f })
}

// HostPort is where the server of a URL is connected to, with the port of its scheme when it names none.
func HostPort(u *url.URL) string {
	port := u.Port()
	switch {
	case port != "":
	case u.Scheme == "https":
		port = "443"
	default:
		port = "80"
	}
	return net.JoinHostPort(u.Hostname(), port)
}
