package http1

import (
	"bytes"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// encode returns the request as it goes over the wire.
func (r *Request) encode() ([]byte, error) {
	u := r.URL
	if u == nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Opaque != "" {
		return nil, fmt.Errorf("only http and https URLs with a host are requested")
	}
	host := u.Host
	if u.Port() == "" {
		host = strings.TrimSuffix(host, ":")
	}
	if name, _, zoned := strings.Cut(host, "%"); zoned { // of an IPv6 address; it means nothing to the server
		_, rest, _ := strings.Cut(host, "]")
		host = name + "]" + rest
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", r.Method, u.RequestURI(), host)
	fields := maps.Clone(r.Header)
	if fields == nil {
		fields = make(Header)
	}
	if r.Body != nil {
		fields.Set("Content-Length", strconv.Itoa(len(r.Body)))
	}
	if r.Close {
		fields.Set("Connection", "close")
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		for _, value := range fields[name] {
			if !isToken(name) || hasControl(value) {
				return nil, fmt.Errorf("the header field %q cannot be sent", name)
			}
			fmt.Fprintf(&b, "%s: %s\r\n", name, value)
		}
	}
	if !isToken(r.Method) || hasControl(host) || !isASCII(host) || strings.Contains(host, " ") || hasControl(u.RequestURI()) ||
		strings.Contains(u.RequestURI(), " ") {
		return nil, fmt.Errorf("the URL cannot be requested")
	}
	b.WriteString("\r\n")
	b.Write(r.Body)
	return b.Bytes(), nil
}

func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool {
		return c <= ' ' || c >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, c)
	})
}

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f })
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c >= 0x80 })
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
