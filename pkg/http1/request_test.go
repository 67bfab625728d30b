package http1

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// TestTargets compares what is written of a URL with what net/http writes, except where that would not be a request at all.
func TestTargets(t *testing.T) {
	for _, tt := range []struct{ url, line, host string }{
		{"http://example.net", "GET / HTTP/1.1", "example.net"},
		{"https://example.net/", "GET / HTTP/1.1", "example.net"},
		{"http://example.net:80/a", "GET /a HTTP/1.1", "example.net:80"},
		{"http://example.net:/a", "GET /a HTTP/1.1", "example.net"},
		{"http://Example.NET:8080/a?b=c&d#e", "GET /a?b=c&d HTTP/1.1", "Example.NET:8080"},
		{"http://example.net?", "GET /? HTTP/1.1", "example.net"},
		{"http://user:secret@example.net/a", "GET /a HTTP/1.1", "example.net"},
		{"http://192.0.2.1:8080/", "GET / HTTP/1.1", "192.0.2.1:8080"},
		{"http://[2001:db8::1]/", "GET / HTTP/1.1", "[2001:db8::1]"},
		{"http://[2001:db8::1]:8080/", "GET / HTTP/1.1", "[2001:db8::1]:8080"},
		{"http://[2001:db8::1]:/", "GET / HTTP/1.1", "[2001:db8::1]"},
		{"http://[fe80::1%25eth0]/", "GET / HTTP/1.1", "[fe80::1]"},
		{"http://[fe80::1%25eth0]:8080/a", "GET /a HTTP/1.1", "[fe80::1]:8080"},
		{"http://example.net/a b/ä", "GET /a%20b/%C3%A4 HTTP/1.1", "example.net"},
		{"http://example.net/a%2fb%0d%0a", "GET /a%2fb%0d%0a HTTP/1.1", "example.net"},
		{"http://example.net//other.example/a", "GET //other.example/a HTTP/1.1", "example.net"},
		{"http://example.net/../a/./b", "GET /../a/./b HTTP/1.1", "example.net"},
	} {
		t.Run(tt.url, func(t *testing.T) {
			r := get(t, tt.url)
			got, err := r.encode()
			if err != nil {
				t.Fatal(err)
			}
			if want := tt.line + "\r\nHost: " + tt.host + "\r\n\r\n"; string(got) != want {
				t.Errorf("got %q, want %q", got, want)
			}
			var b bytes.Buffer
			theirs, err := http.NewRequest("GET", tt.url, nil)
			if err != nil {
				t.Fatal(err)
			}
			theirs.Header["User-Agent"] = nil
			if err := theirs.Write(&b); err != nil {
				t.Fatal(err)
			}
			if b.String() != string(got) {
				t.Errorf("got %q, net/http writes %q", got, b.String())
			}
		})
	}
}

// TestCarelessURLs are written by net/http in a way that is not a request.
func TestCarelessURLs(t *testing.T) {
	for target, u := range map[string]*url.URL{
		"/a?b=c%20d&e=%C3%A4": get(t, "http://example.net/a?b=c d&e=ä").URL,
		"/a":                  get(t, "http://example.net").URL.JoinPath("a"),
		"/*":                  {Scheme: "http", Host: "example.net", Path: "*"},
	} {
		got, err := (&Request{Method: "GET", URL: u}).encode()
		if want := "GET " + target + " HTTP/1.1\r\nHost: example.net\r\n\r\n"; err != nil || string(got) != want {
			t.Errorf("got %q, want %q, error %v", got, want, err)
		}
	}
}

func TestUnsendable(t *testing.T) {
	const evil = "a\r\nX-Evil: 1\r\n\r\n"
	good := func() *Request {
		return &Request{Method: "GET", URL: &url.URL{Scheme: "http", Host: "example.net", Path: "/"}}
	}
	for name, spoil := range map[string]func(r *Request){
		"no URL":            func(r *Request) { r.URL = nil },
		"no host":           func(r *Request) { r.URL.Host = "" },
		"only a port":       func(r *Request) { r.URL.Host = ":80" },
		"scheme":            func(r *Request) { r.URL.Scheme = "ftp" },
		"opaque":            func(r *Request) { r.URL = &url.URL{Scheme: "http", Opaque: "//example.net/"} },
		"host in Unicode":   func(r *Request) { r.URL.Host = "exämple.net" },
		"host with space":   func(r *Request) { r.URL.Host = "a b" },
		"host with lines":   func(r *Request) { r.URL.Host = evil },
		"host with NUL":     func(r *Request) { r.URL.Host = "a\x00" },
		"host with path":    func(r *Request) { r.URL.Host = "a/b" },
		"host with user":    func(r *Request) { r.URL.Host = "a@b" },
		"port with lines":   func(r *Request) { r.URL.Host = "example.net:80\r\nX-Evil: 1" },
		"lines behind it":   func(r *Request) { r.URL.Host = "[fe80::1%eth0]\r\nX-Evil: 1" },
		"unbracketed zone":  func(r *Request) { r.URL.Host = "fe80::1%eth0" },
		"no method":         func(r *Request) { r.Method = "" },
		"method with space": func(r *Request) { r.Method = "GET /a" },
		"method with lines": func(r *Request) { r.Method = evil },
		"tunnel":            func(r *Request) { r.Method = "CONNECT" },
		"no name":           func(r *Request) { r.Header = Header{"": {"a"}} },
		"name with lines":   func(r *Request) { r.Header = Header{evil: {"a"}} },
		"name with space":   func(r *Request) { r.Header = Header{"Content-Length ": {"a"}} },
		"name with colon":   func(r *Request) { r.Header = Header{"A:B": {"a"}} },
		"name in Unicode":   func(r *Request) { r.Header = Header{"Ä": {"a"}} },
		"another Host":      func(r *Request) { r.Header = Header{"Host": {"a"}} },
		"another host":      func(r *Request) { r.Header = Header{"host": {"a"}} },
		"another length":    func(r *Request) { r.Header = Header{"Content-Length": {"7"}} },
		"a coding":          func(r *Request) { r.Header = Header{"Transfer-Encoding": {"chunked"}} },
		"value with lines":  func(r *Request) { r.Header = Header{"A": {evil}} },
		"value with LF":     func(r *Request) { r.Header = Header{"A": {"b\nc"}} },
		"value with CR":     func(r *Request) { r.Header = Header{"A": {"b\rc"}} },
		"value with NUL":    func(r *Request) { r.Header = Header{"A": {"b\x00c"}} },
	} {
		t.Run(name, func(t *testing.T) {
			r := good()
			if _, err := r.encode(); err != nil {
				t.Fatal("the test is wrong:", err)
			}
			spoil(r)
			if got, err := r.encode(); !errors.Is(err, ErrRequest) {
				t.Errorf("sends %q, error %v", got, err)
			}
			w := playing(fine + "\r\n")
			c := NewConn(w, Limits{})
			if _, err := c.RoundTrip(context.Background(), r); err == nil || w.closed.Load() != 1 {
				t.Errorf("error %v, closed %d times", err, w.closed.Load())
			}
		})
	}
}

// TestRequestIsReadAsMeant has net/http read requests of all kinds.
func TestRequestIsReadAsMeant(t *testing.T) {
	value := rapid.Map(rapid.StringMatching(`[\t -~ä€]{0,30}`), func(s string) string { return strings.Trim(s, " \t") })
	rapid.Check(t, func(t *rapid.T) {
		r := &Request{
			Method: rapid.SampledFrom([]string{"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "M-SEARCH"}).Draw(t, "method"),
			URL: &url.URL{
				Scheme:   rapid.SampledFrom([]string{"http", "https"}).Draw(t, "scheme"),
				User:     url.UserPassword(rapid.String().Draw(t, "user"), rapid.String().Draw(t, "password")),
				Host:     rapid.SampledFrom([]string{"example.net", "a:1", "[::1]", "[::1]:8443", "192.0.2.1"}).Draw(t, "host"),
				Path:     "/" + rapid.String().Draw(t, "path"),
				RawPath:  "/" + rapid.String().Draw(t, "raw path"),
				RawQuery: rapid.String().Draw(t, "query"),
				Fragment: rapid.String().Draw(t, "fragment"),
			},
			Header: Header{},
			Close:  rapid.Bool().Draw(t, "close"),
		}
		if rapid.Bool().Draw(t, "has a body") {
			r.Body = rapid.SliceOf(rapid.Byte()).Draw(t, "body")
		}
		for _, name := range rapid.SliceOf(rapid.SampledFrom([]string{"Accept", "Range", "X-Odd"})).Draw(t, "names") {
			r.Header.Add(name, value.Draw(t, "value"))
		}
		wire, err := r.encode()
		if err != nil {
			t.Fatal(err)
		}
		from := bufio.NewReader(bytes.NewReader(wire))
		got, err := http.ReadRequest(from)
		if err != nil {
			t.Fatalf("%q: %v", wire, err)
		}
		body, err := io.ReadAll(got.Body)
		if err != nil || !bytes.Equal(body, r.Body) {
			t.Errorf("body %q, want %q, error %v", body, r.Body, err)
		}
		if left, _ := io.ReadAll(from); len(left) > 0 {
			t.Errorf("%q is left behind the request", left)
		}
		if got.Method != r.Method || got.Host != r.URL.Host || got.URL.Path != r.URL.Path || got.Close != r.Close || got.URL.Fragment != "" {
			t.Errorf("%q is read as %+v", wire, got)
		}
		if query, err := url.PathUnescape(got.URL.RawQuery); err == nil {
			if want, err := url.PathUnescape(r.URL.RawQuery); err == nil && query != want {
				t.Errorf("query %q, want %q", query, want)
			}
		}
		for _, name := range []string{"Connection", "Content-Length"} {
			got.Header.Del(name)
		}
		if diff := cmp.Diff(http.Header(r.Header), got.Header); diff != "" {
			t.Errorf("header (-want +got):\n%s", diff)
		}
	})
}

// FuzzRequest lets what a request is made of be anything: it is refused, or read as one request to that host with one field.
func FuzzRequest(f *testing.F) {
	f.Add("GET", "example.net", "/a", "", "b=c", "Accept", "text/plain")
	f.Add("GET\r\n", "a\r\nb: c", "/\r\n", "/%0d\r", "\r\n\r\n", "A\r\nB", "c\r\nd: e")
	f.Add("GET", "[fe80::1%eth0]:80", "/ ", "/%20", " ", "A", "\x00")
	f.Fuzz(func(t *testing.T, method, host, path, rawPath, query, name, value string) {
		r := &Request{
			Method: method,
			URL:    &url.URL{Scheme: "http", Host: host, Path: path, RawPath: rawPath, RawQuery: query},
			Header: Header{name: {value}},
			Body:   []byte("hi"),
		}
		wire, err := r.encode()
		if err != nil {
			return
		}
		from := bufio.NewReader(bytes.NewReader(wire))
		got, err := http.ReadRequest(from)
		if err != nil {
			t.Fatalf("%q: %v", wire, err)
		}
		body, _ := io.ReadAll(got.Body)
		left, _ := io.ReadAll(from)
		if got.Method != method || got.Host != hostField(r.URL) || string(body) != "hi" || len(left) > 0 || len(got.Header) != 2 {
			t.Errorf("%q is read as %+v, then %q", wire, got, left)
		}
		if got.URL.Path != "/"+strings.TrimPrefix(path, "/") {
			t.Errorf("path %q, want %q", got.URL.Path, path)
		}
	})
}

func TestBodyOfPost(t *testing.T) {
	for name, tt := range map[string]struct {
		method string
		body   []byte
		want   string
	}{
		"none":          {"POST", nil, "Content-Length: 0\r\n\r\n"},
		"empty":         {"POST", []byte{}, "Content-Length: 0\r\n\r\n"},
		"some":          {"POST", []byte("hi"), "Content-Length: 2\r\n\r\nhi"},
		"none of a GET": {"GET", nil, "\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			r := get(t, "http://a/")
			r.Method, r.Body = tt.method, tt.body
			got, err := r.encode()
			if want := tt.method + " / HTTP/1.1\r\nHost: a\r\n" + tt.want; err != nil || string(got) != want {
				t.Errorf("got %q, want %q, error %v", got, want, err)
			}
			if r.Header != nil {
				t.Errorf("the caller's header is %v now", r.Header)
			}
		})
	}
}

func TestHostPort(t *testing.T) {
	for target, want := range map[string]string{
		"http://a":                   "a:80",
		"https://a":                  "a:443",
		"https://a:":                 "a:443",
		"http://a:443":               "a:443",
		"http://[::1]":               "[::1]:80",
		"https://[fe80::1%25eth0]:1": "[fe80::1%eth0]:1",
	} {
		if got := HostPort(get(t, target).URL); got != want {
			t.Errorf("%s: %s, want %s", target, got, want)
		}
	}
}
