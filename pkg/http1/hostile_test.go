package http1

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/xpu-sztp/ztp/test/hostile"
)

func hostileReplies() map[string][]byte {
	return map[string][]byte{
		"status line":      hostile.Fill("HTTP/1.1 200 ", "x", "", ""),
		"field":            hostile.Fill(fine+"A: ", "x", "", ""),
		"fields":           hostile.Fill(fine, "A:b\r\n", "", "\r\n"),
		"empty fields":     hostile.Fill(fine, "a:\n", "", "\n"),
		"folds":            hostile.Fill(fine+"A: b\r\n", " \n", "", "\n"),
		"field unfinished": hostile.Fill(fine, "x", "", ""),
		"interim replies":  hostile.Fill("", "HTTP/1.1 100 Continue\r\n\r\n", "", ""),
		"quoted":           hostile.Fill("HTTP/1.1 ", "\x01", "", "\r\n"),
		"chunks":           hostile.Fill(chunky, "1\r\nx\r\n", "", "0\r\n\r\n"),
		"extension":        hostile.Fill(chunky+"1;", "x", "", "\r\nx\r\n0\r\n\r\n"),
		"extensions":       hostile.Fill(chunky, "1;a=b\r\nx\r\n", "", "0\r\n\r\n"),
		"space":            hostile.Fill(chunky+"1", " ", "", "\r\nx\r\n0\r\n\r\n"),
		"zeros":            hostile.Fill(chunky, "0", "", "1\r\nx\r\n0\r\n\r\n"),
		"trailers":         hostile.Fill(chunky+"0\r\n", "A:b\r\n", "", "\r\n"),
		"trailer":          hostile.Fill(chunky+"0\r\nA: ", "b", "", "\r\n\r\n"),
		"length":           hostile.Fill(fine+"Content-Length: ", "0", "", "\r\n\r\n"),
		"lengths":          hostile.Fill(fine, "Content-Length: 0\r\n", "", "\r\n"),
		"huge promise":     hostile.Fill(fine+"Content-Length: 9223372036854775807\r\n\r\n", "x", "", ""),
		"huge chunk":       hostile.Fill(chunky+"7fffffffffffffff\r\n", "x", "", ""),
	}
}

func TestHostileReplies(t *testing.T) {
	hostile.Check(t, hostileReplies(), func(reply []byte) {
		w := &wire{from: bytes.NewReader(reply)}
		resp, err := NewConn(w, Limits{}).RoundTrip(t.Context(), get(t, "http://a/"))
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	})
}

func BenchmarkHostileReplies(b *testing.B) {
	hostile.Benchmark(b, hostileReplies(), func(reply []byte) {
		w := &wire{from: bytes.NewReader(reply)}
		resp, err := NewConn(w, Limits{}).RoundTrip(b.Context(), get(b, "http://a/"))
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	})
}

// forever repeats what it is, and counts what was taken of it.
type forever struct {
	unit  string
	taken int
}

func (f *forever) Read(p []byte) (n int, err error) {
	for n < len(p) {
		n += copy(p[n:], f.unit[(f.taken+n)%len(f.unit):])
	}
	f.taken += n
	return n, nil
}

// TestEndless has servers never come to an end, and counts what is read of them before that is enough.
func TestEndless(t *testing.T) {
	const limit = 20_000
	for name, tt := range map[string]struct {
		prefix, unit string
		limit        int
		want         error
	}{
		"status line":     {"HTTP/1.1 200 ", "x", limit, ErrHeaderSize},
		"no line":         {"", "x", limit, ErrHeaderSize},
		"field":           {fine + "A: ", "x", limit, ErrHeaderSize},
		"fields":          {fine, "A: b\r\n", limit, ErrHeaderSize},
		"folds":           {fine + "A: b\r\n", " c\r\n", limit, ErrHeaderSize},
		"blank folds":     {fine + "A: b\r\n", " \r\n", limit, ErrHeaderSize},
		"spaces":          {fine + "A: b\r\n", " ", limit, ErrHeaderSize},
		"interim replies": {"", "HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n", limit, ErrMalformed},
		"interim fields":  {"HTTP/1.1 103 Early Hints\r\n", "Link: <a>\r\n", limit, ErrHeaderSize},
		"size":            {chunky, "0", 8192, ErrHeaderSize},
		"extension":       {chunky + "1;", "x", 8192, ErrHeaderSize},
		"space":           {chunky + "1", " ", 8192, ErrHeaderSize},
		"extensions":      {chunky, "1;" + strings.Repeat("x", 1000) + "\r\nx\r\n", 2 * maxOverhead, ErrMalformed},
		"spaces behind":   {chunky, "1" + strings.Repeat(" ", 1000) + "\r\nx\r\n", 2 * maxOverhead, ErrMalformed},
		"trailer":         {chunky + "0\r\nA: ", "x", 2 * maxTrailer, ErrHeaderSize},
		"trailers":        {chunky + "0\r\n", "A: b\r\n", 3 * maxTrailer, ErrHeaderSize},
	} {
		t.Run(name, func(t *testing.T) {
			endless := &forever{unit: tt.unit}
			w := &wire{from: io.MultiReader(strings.NewReader(tt.prefix), endless)}
			_, body, err := ask(NewConn(w, Limits{Header: limit}), get(t, "http://a/"))
			if !errors.Is(err, tt.want) || len(body) > 100 || len(err.Error()) > 2000 {
				t.Errorf("%d bytes, error %v", len(body), err)
			}
			if endless.taken > tt.limit {
				t.Errorf("took %d bytes, at most %d", endless.taken, tt.limit)
			}
			if n := w.closed.Load(); n != 1 {
				t.Errorf("closed %d times", n)
			}
		})
	}
}

// TestHeaderLimit is exact: headers of that size are taken, and one byte more is not. Bodies do not count, nor does what was
// exchanged before.
func TestHeaderLimit(t *testing.T) {
	header := func(size int) string {
		const rest = fine + "Content-Length: 10000\r\nA: \r\n\r\n"
		return fine + "Content-Length: 10000\r\nA: " + strings.Repeat("x", size-len(rest)) + "\r\n\r\n"
	}
	body := strings.Repeat("y", 10000)
	for _, limit := range []int{100, 4096, 5000, 70000} {
		c, _ := pipe(t, Limits{Header: int64(limit)}, func(server net.Conn) {
			from := bufio.NewReader(server)
			for _, size := range []int{limit, limit, limit + 1} {
				_, _ = http.ReadRequest(from)
				_, _ = io.WriteString(server, header(size)+body)
			}
		})
		for range 2 {
			if _, got, err := ask(c, get(t, "http://a/")); err != nil || got != body {
				t.Errorf("%d bytes: %d bytes of body, error %v", limit, len(got), err)
			}
		}
		if _, _, err := ask(c, get(t, "http://a/")); !errors.Is(err, ErrHeaderSize) {
			t.Errorf("%d bytes and one: error %v", limit, err)
		}
	}
}
