package http1

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"testing"
	"time"
)

// newServer starts the server of net/http, which answers with what it was sent, and returns a connection to it.
func newServer(t *testing.T, secured bool, handler http.HandlerFunc) (*Conn, *url.URL) {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	start := server.Start
	if secured {
		start = server.StartTLS
	}
	start()
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", HostPort(u))
	if err != nil {
		t.Fatal(err)
	}
	if secured {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	}
	c := NewConn(conn, Limits{})
	t.Cleanup(func() { c.Close() })
	return c, u
}

// TestServer has many exchanges of all kinds on one connection, plain and by TLS.
func TestServer(t *testing.T) {
	for _, secured := range []bool{false, true} {
		t.Run(fmt.Sprintf("TLS %v", secured), func(t *testing.T) {
			connections := map[string]bool{}
			c, base := newServer(t, secured, func(w http.ResponseWriter, r *http.Request) {
				connections[r.RemoteAddr] = true
				body, _ := io.ReadAll(r.Body)
				size, _ := strconv.Atoi(r.URL.Query().Get("size"))
				w.Header().Set("X-Got", r.Method+" "+r.Host+r.URL.Path+" "+strconv.Itoa(len(body)))
				status, _ := strconv.Atoi(r.URL.Query().Get("status"))
				if r.URL.Query().Has("hints") {
					w.WriteHeader(http.StatusEarlyHints)
				}
				if r.URL.Query().Has("length") {
					w.Header().Set("Content-Length", strconv.Itoa(size))
				} else {
					w.Header().Set("Trailer", "X-Trailer")
				}
				w.WriteHeader(status)
				for size > 0 {
					n, err := w.Write(bytes.Repeat([]byte("x"), min(size, 10000)))
					if size -= n; err != nil {
						return
					}
					_ = http.NewResponseController(w).Flush()
				}
				w.Header().Set("X-Trailer", "hi")
			})
			for _, method := range []string{"GET", "HEAD", "POST"} {
				for _, query := range []string{"status=200&size=0", "status=200&size=1&length", "status=404&size=100000", "status=200&size=100000&length",
					"status=204&size=0", "status=304&size=0", "status=200&hints&size=100000"} {
					r := &Request{Method: method, URL: base.JoinPath("/a b")}
					r.URL.RawQuery = query
					if method == "POST" {
						r.Body = make([]byte, 100000)
					}
					resp, body, err := ask(c, r)
					if err != nil {
						t.Fatalf("%s %s: %v", method, query, err)
					}
					want, _ := strconv.Atoi(r.URL.Query().Get("size"))
					if method == "HEAD" {
						want = 0
					}
					got := fmt.Sprintf("%s %s/a b %d", method, base.Host, len(r.Body))
					if len(body) != want || strconv.Itoa(resp.Status) != r.URL.Query().Get("status") || resp.Header.Get("X-Got") != got {
						t.Errorf("%s %s: %d %q, %d bytes", method, query, resp.Status, resp.Header, len(body))
					}
				}
			}
			if len(connections) != 1 || !c.Reusable() {
				t.Errorf("%d connections, reusable: %v", len(connections), c.Reusable())
			}
			r := &Request{Method: "GET", URL: base.JoinPath("/"), Close: true}
			r.URL.RawQuery = "status=200&size=5"
			if resp, body, err := ask(c, r); err != nil || len(body) != 5 || resp.Header.Get("Connection") != "close" || c.Reusable() {
				t.Errorf("%q, error %v", body, err)
			}
		})
	}
}

// TestServerThatRefusesToRead sends a body that is larger than all buffers on the way to a server that does not want it.
func TestServerThatRefusesToRead(t *testing.T) {
	for _, secured := range []bool{false, true} {
		c, base := newServer(t, secured, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Connection", "close")
			http.Error(w, "too large", http.StatusRequestEntityTooLarge)
		})
		resp, body, err := ask(c, &Request{Method: "POST", URL: base, Body: make([]byte, 64<<20)})
		if err != nil || resp.Status != 413 || body != "too large\n" || c.Reusable() {
			t.Errorf("TLS %v: %q, error %v", secured, body, err)
		}
	}
}

// TestServerThatBreaksOff ends connections in bodies without the alert that ends TLS.
func TestServerThatBreaksOff(t *testing.T) {
	for name, reply := range map[string]string{
		"counted": fine + "Content-Length: 10\r\n\r\nhi",
		"chunked": chunky + "2\r\nhi\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			c, base := newServer(t, true, func(w http.ResponseWriter, _ *http.Request) {
				conn, _, err := http.NewResponseController(w).Hijack()
				if err != nil {
					panic(err)
				}
				_, _ = io.WriteString(conn, reply)
				conn.(*tls.Conn).NetConn().Close()
			})
			_, body, err := ask(c, &Request{Method: "GET", URL: base})
			if !errors.Is(err, io.ErrUnexpectedEOF) || body != "hi" {
				t.Errorf("%q, error %v", body, err)
			}
		})
	}
}

// TestParseTime compares with net/http.
func TestParseTime(t *testing.T) {
	for _, text := range []string{
		"Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994", "Sun, 06 Nov 1994 08:49:37 CET",
		"", "0", "Sun, 6 Nov 1994 08:49:37 GMT", "1994-11-06T08:49:37Z", time.Now().UTC().Format(http.TimeFormat),
	} {
		got, err := ParseTime(text)
		want, wantErr := http.ParseTime(text)
		if !got.Equal(want) || (err == nil) != (wantErr == nil) {
			t.Errorf("%q: %v, error %v; want %v, error %v", text, got, err, want, wantErr)
		}
	}
}
