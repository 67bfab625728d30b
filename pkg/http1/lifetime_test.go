package http1

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// end is one end of a pipe that counts how often it is closed.
type end struct {
	net.Conn
	closed atomic.Int32
}

func (e *end) Close() error {
	e.closed.Add(1)
	return e.Conn.Close()
}

// pipe connects a client with a server, which has to be over before the test is.
func pipe(t *testing.T, l Limits, serve func(server net.Conn)) (*Conn, *end) {
	here, there := net.Pipe()
	over := make(chan struct{})
	go func() {
		defer close(over)
		defer there.Close()
		serve(there)
	}()
	t.Cleanup(func() { <-over })
	e := &end{Conn: here}
	return NewConn(e, l), e
}

// untilClosed waits for the client to close the connection.
func untilClosed(server net.Conn) { _, _ = io.Copy(io.Discard, server) }

// stalls are all the points at which a server can leave a client waiting.
var stalls = map[string]func(server net.Conn){
	"before it reads": func(net.Conn) { time.Sleep(2 * time.Hour) },
	"within the request": func(server net.Conn) {
		_, _ = io.ReadFull(server, make([]byte, 10))
		time.Sleep(2 * time.Hour)
	},
	"before the reply":       stallBehind(""),
	"in the status line":     stallBehind("HTTP/1.1 2"),
	"in the header":          stallBehind(fine + "Content-Le"),
	"behind an interim":      stallBehind("HTTP/1.1 100 Continue\r\n\r\n"),
	"behind the header":      stallBehind(fine + "Content-Length: 2\r\n\r\n"),
	"in the body":            stallBehind(fine + "Content-Length: 2\r\n\r\nh"),
	"in an endless body":     stallBehind(fine + "\r\nh"),
	"in the size of a chunk": stallBehind(chunky + "2"),
	"in a chunk":             stallBehind(chunky + "2\r\nh"),
	"behind a chunk":         stallBehind(chunky + "2\r\nhi"),
	"in the trailers":        stallBehind(chunky + "0\r\nA: "),
}

func stallBehind(reply string) func(net.Conn) {
	return func(server net.Conn) {
		_, _ = http.ReadRequest(bufio.NewReader(server))
		_, _ = io.WriteString(server, reply)
		untilClosed(server)
	}
}

func TestContextEndsEverything(t *testing.T) {
	cause := errors.New("enough")
	for name, serve := range stalls {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, e := pipe(t, Limits{}, serve)
				ctx, cancel := context.WithCancelCause(t.Context())
				time.AfterFunc(time.Minute, func() { cancel(cause) })
				begun := time.Now()
				resp, err := c.RoundTrip(ctx, get(t, "http://a/"))
				if err == nil {
					_, err = io.ReadAll(resp.Body)
					if _, again := resp.Body.Read(make([]byte, 1)); again != err {
						t.Errorf("then error %v", again)
					}
					resp.Body.Close()
				}
				if err != cause || time.Since(begun) != time.Minute || c.Reusable() {
					t.Errorf("error %v after %v", err, time.Since(begun))
				}
				c.Close()
				if n := e.closed.Load(); n != 1 {
					t.Errorf("closed %d times", n)
				}
			})
		})
	}
}

func TestSlowHeader(t *testing.T) {
	for name, serve := range stalls {
		if strings.Contains(name, "body") || strings.Contains(name, "chunk") || strings.Contains(name, "trailers") || name == "behind the header" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, e := pipe(t, Limits{Wait: time.Minute}, serve)
				begun := time.Now()
				_, err := c.RoundTrip(t.Context(), get(t, "http://a/"))
				var timeout net.Error
				if !errors.As(err, &timeout) || !timeout.Timeout() || errors.Is(err, ErrNoReply) || time.Since(begun) != time.Minute {
					t.Errorf("error %v after %v", err, time.Since(begun))
				}
				if n := e.closed.Load(); n != 1 {
					t.Errorf("closed %d times", n)
				}
			})
		})
	}
}

// TestDrippingHeader has something come all the time, which does not count.
func TestDrippingHeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := pipe(t, Limits{Wait: time.Minute}, func(server net.Conn) {
			go untilClosed(server)
			_, err := io.WriteString(server, fine)
			for ; err == nil; _, err = io.WriteString(server, "A: b\r\n") {
				time.Sleep(time.Second)
			}
		})
		begun := time.Now()
		if _, err := c.RoundTrip(t.Context(), get(t, "http://a/")); err != errTooLate || time.Since(begun) != time.Minute {
			t.Errorf("error %v after %v", err, time.Since(begun))
		}
	})
}

// TestPatienceIsForTheHeader lets a body take longer.
func TestPatienceIsForTheHeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := pipe(t, Limits{Wait: time.Minute}, func(server net.Conn) {
			for range 2 {
				_, _ = http.ReadRequest(bufio.NewReader(server))
				time.Sleep(59 * time.Second)
				_, _ = io.WriteString(server, fine+"Content-Length: 2\r\n\r\n")
				time.Sleep(time.Hour)
				_, _ = io.WriteString(server, "hi")
			}
			untilClosed(server)
		})
		for range 2 {
			if _, body, err := ask(c, get(t, "http://a/")); err != nil || body != "hi" {
				t.Errorf("%q, error %v", body, err)
			}
			time.Sleep(time.Hour)
		}
		c.Close()
	})
}

// TestContextIsForOneExchange ends the context of an exchange that is over.
func TestContextIsForOneExchange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, e := pipe(t, Limits{}, func(server net.Conn) {
			from := bufio.NewReader(server)
			for range 2 {
				_, _ = http.ReadRequest(from)
				_, _ = io.WriteString(server, fine+"Content-Length: 2\r\n\r\nhi")
			}
			untilClosed(server)
		})
		ctx, cancel := context.WithCancel(t.Context())
		resp, err := c.RoundTrip(ctx, get(t, "http://a/"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(resp.Body); err != nil {
			t.Fatal(err)
		}
		cancel()
		resp.Body.Close()
		synctest.Wait()
		if _, body, err := ask(c, get(t, "http://a/")); err != nil || body != "hi" {
			t.Errorf("%q, error %v", body, err)
		}
		c.Close()
		if n := e.closed.Load(); n != 1 {
			t.Errorf("closed %d times", n)
		}
	})
}

// TestEndedContext sends nothing that comes to anything.
func TestEndedContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, e := pipe(t, Limits{}, untilClosed)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := c.RoundTrip(ctx, get(t, "http://a/")); err != context.Canceled || e.closed.Load() != 1 {
			t.Errorf("error %v, closed %d times", err, e.closed.Load())
		}
	})
}

// TestEarlyReply has the server reply before it has read the request, of which it reads nothing, a part, or all but late.
func TestEarlyReply(t *testing.T) {
	const length = 1 << 20
	for name, tt := range map[string]struct {
		reply  string
		after  func(server net.Conn)
		reused bool
	}{
		"reads nothing":              {fine + "Content-Length: 2\r\n\r\nhi", func(net.Conn) { time.Sleep(time.Hour) }, false},
		"reads nothing and closes":   {fine + "Content-Length: 2\r\n\r\nhi", func(net.Conn) {}, false},
		"reads a part and closes":    {fine + "Content-Length: 2\r\n\r\nhi", func(s net.Conn) { _, _ = io.CopyN(io.Discard, s, length/2) }, false},
		"reads all":                  {fine + "Content-Length: 2\r\n\r\nhi", untilClosed, true},
		"reads all within patience":  {fine + "Content-Length: 2\r\n\r\nhi", func(s net.Conn) { time.Sleep(sendPatience / 2); untilClosed(s) }, true},
		"closes when it has replied": {"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\n\r\nhi", func(net.Conn) {}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, e := pipe(t, Limits{Wait: time.Minute}, func(server net.Conn) {
					_, _ = io.WriteString(server, tt.reply)
					tt.after(server)
				})
				r := get(t, "http://a/")
				r.Method, r.Body = "POST", make([]byte, length)
				_, body, err := ask(c, r)
				if err != nil || body != "hi" {
					t.Errorf("%q, error %v", body, err)
				}
				if got := c.Reusable(); got != tt.reused || (e.closed.Load() == 0) != tt.reused {
					t.Errorf("reusable: %v, closed %d times", got, e.closed.Load())
				}
				c.Close()
				if n := e.closed.Load(); n != 1 {
					t.Errorf("closed %d times", n)
				}
			})
		})
	}
}

// TestRefusedRequest has the server close the connection without reading or saying anything.
func TestRefusedRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, e := pipe(t, Limits{}, func(net.Conn) {})
		r := get(t, "http://a/")
		r.Method, r.Body = "POST", make([]byte, 1<<20)
		_, err := c.RoundTrip(t.Context(), r)
		if !errors.Is(err, ErrNoReply) || !errors.Is(err, io.ErrUnexpectedEOF) || !errors.Is(err, io.ErrClosedPipe) || e.closed.Load() != 1 {
			t.Errorf("error %v, closed %d times", err, e.closed.Load())
		}
	})
}

// TestBetweenRequests has the server say something, or close, when nothing was asked.
func TestBetweenRequests(t *testing.T) {
	for name, after := range map[string]func(server net.Conn){
		"closes": func(net.Conn) {},
		"speaks": func(server net.Conn) {
			_, _ = io.WriteString(server, "HTTP/1.1 408 Request Timeout\r\n\r\n")
			untilClosed(server)
		},
		"one byte": func(server net.Conn) { _, _ = io.WriteString(server, "\n"); untilClosed(server) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, e := pipe(t, Limits{}, func(server net.Conn) {
					_, _ = http.ReadRequest(bufio.NewReader(server))
					_, _ = io.WriteString(server, fine+"Content-Length: 2\r\n\r\nhi")
					time.Sleep(time.Minute)
					after(server)
				})
				if _, body, err := ask(c, get(t, "http://a/")); err != nil || body != "hi" {
					t.Fatalf("%q, error %v", body, err)
				}
				if !c.Reusable() {
					t.Error("not reusable before")
				}
				time.Sleep(2 * time.Minute)
				if c.Reusable() || e.closed.Load() != 1 {
					t.Errorf("reusable, or closed %d times", e.closed.Load())
				}
				if _, err := c.RoundTrip(t.Context(), get(t, "http://a/")); !errors.Is(err, ErrNoReply) {
					t.Errorf("another request: error %v", err)
				}
			})
		})
	}
}

// TestInUse refuses a second request while the body of the first reply has not been read, and leaves that alone.
func TestInUse(t *testing.T) {
	w := playing(fine + "Content-Length: 2\r\n\r\nhi")
	c := NewConn(w, Limits{})
	resp, err := c.RoundTrip(t.Context(), get(t, "http://a/"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.RoundTrip(t.Context(), get(t, "http://a/")); err == nil || w.closed.Load() != 0 {
		t.Errorf("error %v, closed %d times", err, w.closed.Load())
	}
	if body, err := io.ReadAll(resp.Body); string(body) != "hi" || err != nil {
		t.Errorf("%q, error %v", body, err)
	}
	c.Close()
}

func TestUseAfterClose(t *testing.T) {
	for name, close := range map[string]func(c *Conn, r *Response){
		"body":                 func(_ *Conn, r *Response) { r.Body.Close(); r.Body.Close() },
		"connection":           func(c *Conn, _ *Response) { c.Close(); c.Close() },
		"body, then the other": func(c *Conn, r *Response) { r.Body.Close(); c.Close() },
		"the other, then body": func(c *Conn, r *Response) { c.Close(); r.Body.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, e := pipe(t, Limits{}, stallBehind(fine+"Content-Length: 100000\r\n\r\nhi"))
				resp, err := c.RoundTrip(t.Context(), get(t, "http://a/"))
				if err != nil {
					t.Fatal(err)
				}
				close(c, resp)
				if _, err := io.ReadAll(resp.Body); err == nil {
					t.Error("reading on gives no error")
				}
				if _, err := c.RoundTrip(t.Context(), get(t, "http://a/")); err == nil || c.Reusable() {
					t.Errorf("error %v", err)
				}
				resp.Body.Close()
				if n := e.closed.Load(); n != 1 {
					t.Errorf("closed %d times", n)
				}
			})
		})
	}
}
