package image_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/pkg/image"
	"github.com/xpu-sztp/ztp/pkg/reason"
)

// talk answers the nth request, from 1, on one connection, byte by byte as no library would. The connection ends with it.
type talk func(c net.Conn, r *http.Request, n int32)

// badServer answers with talk and counts the requests.
func badServer(t *testing.T, answer talk) (url string, requests *atomic.Int32) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	requests = new(atomic.Int32)
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				if r, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
					answer(c, r, requests.Add(1))
				}
			}()
		}
	}()
	return "http://" + listener.Addr().String(), requests
}

// say writes a header, lines joined as HTTP wants them, and a body.
func say(c net.Conn, body []byte, header ...string) {
	io.WriteString(c, strings.Join(header, "\r\n")+"\r\n\r\n")
	c.Write(body)
}

// hold leaves the connection open until the client gives up.
func hold(c net.Conn) { io.Copy(io.Discard, c) }

// pour writes the same for as long as the client takes it.
func pour(c net.Conn, piece string, every time.Duration) {
	tick := time.NewTicker(max(every, 1))
	defer tick.Stop()
	for {
		if _, err := io.WriteString(c, piece); err != nil {
			return
		}
		if every > 0 {
			<-tick.C
		}
	}
}

// Every bad habit of a server has its outcome, and never keeps the next mirror from delivering the image.
func TestBadHabits(t *testing.T) {
	b := content(300_000)
	const half = 150_000
	length := fmt.Sprint("Content-Length: ", len(b))
	const ok, part, tag = "HTTP/1.1 200 OK", "HTTP/1.1 206 Partial Content", `ETag: "v1"`
	good := serve(t, file(b, `"v1"`))

	// resumes breaks off the first transfer in the middle and answers the second request with then; further ones well.
	resumes := func(then talk) talk {
		return func(c net.Conn, r *http.Request, n int32) {
			switch n {
			case 1:
				say(c, b[:half], ok, length, tag)
			case 2:
				then(c, r, n)
			default:
				say(c, b, ok, length, tag)
			}
		}
	}
	says := func(body []byte, header ...string) talk {
		return func(c net.Conn, _ *http.Request, _ int32) { say(c, body, header...) }
	}
	rest := func(contentRange ...string) talk {
		return resumes(says(b[half:], append([]string{part}, contentRange...)...))
	}
	chunks := func(size int, end string) string {
		var text strings.Builder
		for i := 0; i < len(b); i += size {
			piece := b[i:min(i+size, len(b))]
			fmt.Fprintf(&text, "%x\r\n%s\r\n", len(piece), piece)
		}
		return text.String() + end
	}
	const chunked = "Transfer-Encoding: chunked"
	tests := []struct {
		name     string
		answer   talk
		code     reason.Code // "" when the image arrives all the same
		requests int32
	}{
		{"resumed well", rest("Content-Range: bytes 150000-299999/300000", tag), "", 2},
		{"resumed at another byte", rest("Content-Range: bytes 149999-299999/300000", tag), "", 3},
		{"resumed with another size", rest("Content-Range: bytes 150000-300000/300001", tag), "", 3},
		{"resumed without a size", rest("Content-Range: bytes 150000-299999/*", tag), "", 3},
		{"resumed in another unit", rest("Content-Range: items 150000-299999/300000", tag), "", 3},
		{"resumed with less", rest("Content-Range: bytes 150000-200000/300000", tag), "", 3},
		{"resumed with numbers that overflow", rest("Content-Range: bytes 150000-18446744073709551615/18446744073709551616", tag), "", 3},
		{"resumed with signs", rest("Content-Range: bytes +150000-299999/300000", tag), "", 3},
		{"resumed with two ranges", rest("Content-Range: bytes 150000-299999/300000", "Content-Range: bytes 0-299999/300000", tag), "", 3},
		{"resumed without a range", rest(tag), "", 3},
		{"resumed with another length", rest("Content-Range: bytes 150000-299999/300000", "Content-Length: 150001"), "", 3},
		{"resumed under another tag", rest("Content-Range: bytes 150000-299999/300000", `ETag: "v2"`), "", 3},
		{"resumed, compressed", rest("Content-Range: bytes 150000-299999/300000", "Content-Encoding: gzip"), image.CodeHTTPError, 2},
		{"several parts", resumes(says([]byte("--x\r\nContent-Range: bytes 150000-299999/300000\r\n\r\n"),
			part, "Content-Type: multipart/byteranges; boundary=x")), "", 3},
		{"several parts with a range", rest("Content-Range: bytes 150000-299999/300000", "Content-Type: multipart/byteranges; boundary=x"), "", 3},
		{"range ignored", resumes(says(b, ok, length, tag)), "", 2},
		{"range ignored, another image", resumes(says(b[1:], ok, `ETag: "v2"`)), image.CodeHashMismatch, 2},
		{"range not satisfiable", resumes(says(nil, "HTTP/1.1 416 Range Not Satisfiable", "Content-Range: bytes */300000", "Content-Length: 0")), "", 3},
		{"more than the range", resumes(says(append(b[half:len(b):len(b)], "trailing"...), part, "Content-Range: bytes 150000-299999/300000")), "", 2},
		{"resumed and cut again", func(c net.Conn, r *http.Request, n int32) {
			switch n {
			case 1:
				say(c, b[:half], ok, length, tag)
			case 2:
				say(c, b[half:half+1000], part, "Content-Range: bytes 150000-299999/300000", "Content-Length: 150000")
			default:
				say(c, b[half+1000:], part, "Content-Range: bytes 151000-299999/300000")
			}
		}, "", 3},
		{"part that nobody asked for", says(b, part, "Content-Range: bytes 0-299999/300000"), image.CodeHTTPError, 1},
		{"range refused that nobody asked for", says(nil, "HTTP/1.1 416 Range Not Satisfiable"), image.CodeHTTPError, 1},

		{"cut off", says(b[:half], ok, length), image.CodeTruncated, 10},
		{"cut off before the body", says(nil, ok, length), image.CodeTruncated, 3},
		{"reset in the middle", func(c net.Conn, r *http.Request, n int32) {
			if n > 1 {
				say(c, b, ok, length)
				return
			}
			say(c, b[:half], ok, length)
			c.(*net.TCPConn).SetLinger(0)
		}, "", 2},
		{"longer than its length", says(append(b[:len(b):len(b)], "trailing"...), ok, length), "", 1},
		{"shorter length than it should have", says(b, ok, "Content-Length: 299999"), image.CodeHashMismatch, 1},
		{"no length", says(b, ok), "", 1},
		{"no length, cut off", says(b[:half], ok), image.CodeHashMismatch, 1},
		{"no length, endless", func(c net.Conn, r *http.Request, n int32) {
			say(c, nil, ok)
			pour(c, strings.Repeat("x", 32<<10), 0)
		}, image.CodeTooLarge, 1},
		{"length of words", says(b, ok, "Content-Length: many"), image.CodeUnreachable, 1},
		{"negative length", says(b, ok, "Content-Length: -1"), image.CodeUnreachable, 1},
		{"two lengths", says(b, ok, length, "Content-Length: 1"), image.CodeUnreachable, 1},
		{"in chunks", says([]byte(chunks(1000, "0\r\n\r\n")), ok, chunked), "", 1},
		{"in chunks of a byte", says([]byte(chunks(1, "0\r\n\r\n")), ok, chunked), "", 1},
		{"in chunks, with a length that is wrong", says([]byte(chunks(1000, "0\r\n\r\n")), ok, chunked, "Content-Length: 5"), image.CodeUnreachable, 1},
		{"in chunks, without an end", says([]byte(chunks(1000, "")), ok, chunked), "", 1},
		{"longer length than it should have", says(b, ok, "Content-Length: 300001"), "", 1},
		{"in chunks of an impossible size", says([]byte("ffffffffffffffff1\r\nx"), ok, chunked), image.CodeTruncated, 3},
		{"in chunks of negative size", says([]byte("-1\r\nx"), ok, chunked), image.CodeTruncated, 3},
		{"in another transfer coding", says(b, ok, "Transfer-Encoding: gzip, chunked"), image.CodeUnreachable, 1},
		{"compressed without being asked to", says(b, ok, length, "Content-Encoding: gzip"), image.CodeHTTPError, 1},

		{"HTTP/1.0", says(b, "HTTP/1.0 200 OK", length), "", 1},
		{"HTTP/1.0 without a length", says(b, "HTTP/1.0 200 OK"), "", 1},
		{"HTTP/1.0, resumed", resumes(says(b[half:], "HTTP/1.0 206 Partial", "Content-Range: bytes 150000-299999/300000")), "", 2},
		{"HTTP/0.9", says(b), image.CodeUnreachable, 1},
		{"HTTP/2", says(nil, "HTTP/2 200"), image.CodeUnreachable, 1},
		{"no HTTP at all", says(nil, "SSH-2.0-OpenSSH_9.6"), image.CodeUnreachable, 1},
		{"hangs up", func(net.Conn, *http.Request, int32) {}, image.CodeUnreachable, 1},
		{"says nothing", func(c net.Conn, _ *http.Request, _ int32) { hold(c) }, image.CodeTimeout, 1},
		{"status of words", says(b, "HTTP/1.1 OK"), image.CodeUnreachable, 1},
		{"header that is too long", says(b, ok, "X: "+strings.Repeat("x", 80<<10)), image.CodeUnreachable, 1},
		{"header that never ends", func(c net.Conn, _ *http.Request, _ int32) {
			io.WriteString(c, ok+"\r\n")
			pour(c, "X: y\r\n", 10*time.Millisecond)
		}, image.CodeTimeout, 1},
		{"header line that never ends", func(c net.Conn, _ *http.Request, _ int32) {
			io.WriteString(c, ok+"\r\nX: ")
			pour(c, "y", 10*time.Millisecond)
		}, image.CodeTimeout, 1},
		{"provisional replies without end", func(c net.Conn, _ *http.Request, _ int32) {
			pour(c, "HTTP/1.1 103 Early Hints\r\n\r\n", 10*time.Millisecond)
		}, image.CodeUnreachable, 1},
		{"hangs in the middle", func(c net.Conn, r *http.Request, n int32) {
			say(c, b[:half], ok, length)
			hold(c)
		}, image.CodeTimeout, 10},
		{"drips", func(c net.Conn, r *http.Request, n int32) {
			say(c, nil, ok, length)
			pour(c, "x", 10*time.Millisecond)
		}, image.CodeTimeout, 9},

		{"moved to a file", says(nil, "HTTP/1.1 302 Found", "Location: file:///etc/shadow"), image.CodeURIRefused, 1},
		{"moved to another server", says(nil, "HTTP/1.1 302 Found", "Location: http://192.0.2.1/"), image.CodeURIRefused, 1},
		{"moved to another port", says(nil, "HTTP/1.1 302 Found", "Location: http://127.0.0.1:1/"), image.CodeURIRefused, 1},
		{"moved to a password", func(c net.Conn, r *http.Request, _ int32) {
			say(c, nil, "HTTP/1.1 302 Found", "Location: http://a:b@"+r.Host+"/")
		}, image.CodeURIRefused, 1},
		{"moved in a circle", says(nil, "HTTP/1.1 307 Temporary Redirect", "Location: /os.img", "Content-Length: 0"), image.CodeURIRefused, 6},
		{"moved without saying where", says(nil, "HTTP/1.1 302 Found", "Content-Length: 0"), image.CodeHTTPError, 1},
		{"moved, with a range", func(c net.Conn, r *http.Request, n int32) {
			switch {
			case n == 1:
				say(c, b[:half], ok, length, tag)
			case r.URL.Path != "/new":
				say(c, nil, "HTTP/1.1 302 Found", "Location: /new", "Content-Length: 0")
			case r.Header.Get("Range") == "bytes=150000-" && r.Header.Get("If-Range") == `"v1"`:
				say(c, b[half:], part, "Content-Range: bytes 150000-299999/300000", tag)
			}
		}, "", 3},
		{"not modified", says(nil, "HTTP/1.1 304 Not Modified"), image.CodeHTTPError, 1},
		{"several choices", says(nil, "HTTP/1.1 300 Multiple Choices", "Content-Length: 0"), image.CodeHTTPError, 1},
		{"login page", says([]byte("<html>"), ok, "Content-Length: 6"), image.CodeHashMismatch, 1},
		{"gateway fails in between", resumes(says(nil, "HTTP/1.1 502 Bad Gateway", "Content-Length: 0")), "", 3},
		{"gone in between", resumes(says(nil, "HTTP/1.1 404 Not Found", "Content-Length: 0")), image.CodeHTTPError, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			url, requests := badServer(t, tt.answer)
			r := request(b, url+"/os.img")
			r.MaxSize = 8 << 20
			if tt.code == image.CodeTimeout {
				r.Stall = 300 * time.Millisecond
			}
			var sink memory
			_, err := image.Fetch(t.Context(), r, &sink)
			wantCode(t, err, tt.code)
			if n := requests.Load(); n != tt.requests {
				t.Errorf("asked %d times, want %d", n, tt.requests)
			}
			if err == nil {
				wantImage(t, &sink, b)
				return
			}
			if _, hint := reason.Of(err); hint == "" {
				t.Errorf("%q does not say what to do", err)
			}
			again, _ := badServer(t, tt.answer)
			r.URIs = []string{again + "/os.img", good}
			sink = memory{}
			if _, err := image.Fetch(t.Context(), r, &sink); err != nil {
				t.Fatalf("the next mirror was not used: %v", err)
			}
			wantImage(t, &sink, b)
		})
	}
}

// Web servers that name the compression of a file after its name send the file as it is.
func TestCompressedFile(t *testing.T) {
	b := content(1000)
	tests := []struct {
		name, encoding string
		code           reason.Code
	}{
		{"os.img.gz", "x-gzip", ""},
		{"os.tgz", "gzip", ""},
		{"os.img.xz", "x-xz", ""},
		{"os.img.zst", "zstd", ""},
		{"os.img.zst", "gzip", image.CodeHTTPError},
		{"gz", "gzip", image.CodeHTTPError},
		{"os.img", "br", image.CodeHTTPError},
	}
	for _, tt := range tests {
		url := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", tt.encoding)
			w.Write(b)
		})
		_, err := image.Fetch(t.Context(), request(b, url+"/"+tt.name), &memory{})
		if code, _ := reason.Of(err); code != tt.code {
			t.Errorf("%s as %s: got %v, want code %q", tt.name, tt.encoding, err, tt.code)
		}
	}
}
