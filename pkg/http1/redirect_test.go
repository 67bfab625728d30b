package http1

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// follow has each request answered with the next of the replies, each on a connection of its own, and tells what was sent.
func follow(t *testing.T, r *Request, check func(next *url.URL, before []*url.URL) error, replies ...string) (sent []string, resp *Response, err error) {
	t.Helper()
	var wires []*wire
	resp, err = Follow(r, func(r *Request) (*Response, error) {
		fields := ""
		for _, name := range []string{"Accept", "Content-Type"} {
			if value := r.Header.Get(name); value != "" {
				fields += " " + name
			}
		}
		sent = append(sent, fmt.Sprintf("%s %s %q%s", r.Method, r.URL, r.Body, fields))
		if len(wires) == len(replies) {
			return nil, errors.New("no more replies")
		}
		w := playing(replies[len(wires)])
		wires = append(wires, w)
		return NewConn(w, Limits{}).RoundTrip(t.Context(), r)
	}, check)
	if resp != nil {
		resp.Body.Close()
	}
	for i, w := range wires {
		if n := w.closed.Load(); n != 1 {
			t.Errorf("connection %d was closed %d times", i, n)
		}
	}
	return sent, resp, err
}

func anywhere(*url.URL, []*url.URL) error { return nil }

func redirect(status int, location string) string {
	return fmt.Sprintf("HTTP/1.1 %d x\r\nLocation: %s\r\nConnection: close\r\nContent-Length: 100000000\r\n\r\nmore", status, location)
}

const done = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhi"

func TestFollow(t *testing.T) {
	const at = "http://a.example/b/c?d#e"
	for _, tt := range []struct {
		name, method string
		replies      []string
		sent         []string
		status       int
	}{
		{"no redirect", "POST", []string{done}, []string{`POST ` + at + ` "hi" Accept Content-Type`}, 200},
		{"GET stays", "GET", []string{redirect(301, "/f"), done}, []string{`GET ` + at + ` "" Accept`, `GET http://a.example/f "" Accept`}, 200},
		{"HEAD stays", "HEAD", []string{redirect(303, "/f"), done}, []string{`HEAD ` + at + ` "" Accept`, `HEAD http://a.example/f "" Accept`}, 200},
		{"301", "POST", []string{redirect(301, "/f"), done}, []string{`POST ` + at + ` "hi" Accept Content-Type`, `GET http://a.example/f "" Accept`}, 200},
		{"302", "POST", []string{redirect(302, "/f"), done}, []string{`POST ` + at + ` "hi" Accept Content-Type`, `GET http://a.example/f "" Accept`}, 200},
		{"303", "PUT", []string{redirect(303, "/f"), done}, []string{`PUT ` + at + ` "hi" Accept Content-Type`, `GET http://a.example/f "" Accept`}, 200},
		{"307", "POST", []string{redirect(307, "/f"), done}, []string{`POST ` + at + ` "hi" Accept Content-Type`, `POST http://a.example/f "hi" Accept Content-Type`}, 200},
		{"308", "POST", []string{redirect(308, "/f"), done}, []string{`POST ` + at + ` "hi" Accept Content-Type`, `POST http://a.example/f "hi" Accept Content-Type`}, 200},
		{"to a GET that stays one", "POST", []string{redirect(303, "/f"), redirect(307, "/g"), done},
			[]string{`POST ` + at + ` "hi" Accept Content-Type`, `GET http://a.example/f "" Accept`, `GET http://a.example/g "" Accept`}, 200},
		{"relative to the last one", "GET", []string{redirect(302, "x/y"), redirect(302, "../z?q"), redirect(302, "//b.example:8080"), done},
			[]string{`GET ` + at + ` "" Accept`, `GET http://a.example/b/x/y "" Accept`, `GET http://a.example/b/z?q "" Accept`, `GET http://b.example:8080 "" Accept`}, 200},
		{"300", "GET", []string{redirect(300, "/f")}, []string{`GET ` + at + ` "" Accept`}, 300},
		{"304", "GET", []string{redirect(304, "/f")}, []string{`GET ` + at + ` "" Accept`}, 304},
		{"305", "GET", []string{redirect(305, "http://proxy.example")}, []string{`GET ` + at + ` "" Accept`}, 305},
		{"no Location", "GET", []string{"HTTP/1.1 302 x\r\nConnection: close\r\n\r\n"}, []string{`GET ` + at + ` "" Accept`}, 302},
		{"empty Location", "GET", []string{redirect(302, "")}, []string{`GET ` + at + ` "" Accept`}, 302},
		{"Location of a success", "GET", []string{redirect(201, "/f")}, []string{`GET ` + at + ` "" Accept`}, 201},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := get(t, at)
			r.Method, r.Header = tt.method, Header{"Accept": {"a"}}
			if tt.method == "POST" || tt.method == "PUT" {
				r.Body = []byte("hi")
				r.Header.Set("Content-Type", "b")
			}
			sent, resp, err := follow(t, r, anywhere, tt.replies...)
			if err != nil {
				t.Fatal(err)
			}
			if resp.Status != tt.status {
				t.Errorf("status %d, want %d", resp.Status, tt.status)
			}
			if diff := cmp.Diff(tt.sent, sent); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
		})
	}
}

func TestFollowNoFurther(t *testing.T) {
	refused := errors.New("refused")
	for name, tt := range map[string]struct {
		reply string
		check func(*url.URL, []*url.URL) error
		want  error
	}{
		"check":           {redirect(302, "/f"), func(*url.URL, []*url.URL) error { return refused }, refused},
		"user":            {redirect(302, "http://u:p@a.example/"), func(next *url.URL, _ []*url.URL) error { return map[bool]error{true: refused}[next.User != nil] }, refused},
		"two Locations":   {redirect(302, "/f\r\nLocation: /f"), anywhere, ErrMalformed},
		"not a URL":       {redirect(302, "http://[::1"), anywhere, ErrMalformed},
		"broken escape":   {redirect(302, "/%zz"), anywhere, ErrMalformed},
		"broken reply":    {"HTTP/1.1 3x2\r\n", anywhere, ErrMalformed},
		"another scheme":  {redirect(302, "file:///etc/passwd"), anywhere, ErrRequest},
		"without a host":  {redirect(302, "http:///f"), anywhere, ErrRequest},
		"opaque":          {redirect(302, "http:f"), anywhere, ErrRequest},
		"host in Unicode": {redirect(302, "http://ä.example/"), anywhere, ErrRequest},
	} {
		t.Run(name, func(t *testing.T) {
			if _, resp, err := follow(t, get(t, "http://a.example/"), tt.check, tt.reply, done); resp != nil || !errors.Is(err, tt.want) {
				t.Errorf("%v, error %v", resp, err)
			}
		})
	}
}

// TestFollowLoop shows check all URLs there were, so that it can end a loop.
func TestFollowLoop(t *testing.T) {
	tooOften := errors.New("too often")
	var seen []string
	_, _, err := follow(t, get(t, "http://a/1"), func(next *url.URL, before []*url.URL) error {
		if seen = append(seen, next.Path); len(before) > 2 {
			return tooOften
		}
		return nil
	}, slices.Repeat([]string{redirect(302, "/2")}, 10)...)
	if err != tooOften || !slices.Equal(seen, []string{"/2", "/2", "/2"}) {
		t.Errorf("seen %q, error %v", seen, err)
	}
}
