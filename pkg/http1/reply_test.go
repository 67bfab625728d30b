package http1

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

const (
	fine    = "HTTP/1.1 200 OK\r\n"
	chunky  = fine + "Transfer-Encoding: chunked\r\n\r\n"
	kept    = true
	dropped = false
)

var (
	zeros = strings.Repeat("0", 40)
	blank = strings.Repeat(" ", 3000)
)

// replies are what RFC 9112 says of replies, and what is made of them: the body or the error, and whether the connection is
// used for another request.
var replies = []struct {
	name, method, reply string
	status              int
	body                string
	err                 error
	reused              bool
}{
	// §4: status lines.
	{"status line", "GET", fine + "Content-Length: 2\r\n\r\nhi", 200, "hi", nil, kept},
	{"no reason", "GET", "HTTP/1.1 404 \r\nContent-Length: 0\r\n\r\n", 404, "", nil, kept},
	{"no space behind the code", "GET", "HTTP/1.1 404\r\nContent-Length: 0\r\n\r\n", 404, "", nil, kept},
	{"reason in another language", "GET", "HTTP/1.1 404 nicht gefundén \xff\r\nContent-Length: 0\r\n\r\n", 404, "", nil, kept},
	{"code beyond those defined", "GET", "HTTP/1.1 999 x\r\nContent-Length: 0\r\n\r\n", 999, "", nil, kept},
	{"two spaces", "GET", "HTTP/1.1  200 OK\r\n\r\n", 0, "", ErrMalformed, dropped},
	{"tab", "GET", "HTTP/1.1\t200 OK\r\n\r\n", 0, "", ErrMalformed, dropped},
	{"lower case", "GET", "http/1.1 200 OK\r\n\r\n", 0, "", ErrMalformed, dropped},
	{"HTTP/2", "GET", "HTTP/2 200\r\n\r\n", 0, "", ErrMalformed, dropped},
	{"HTTP/1.2", "GET", "HTTP/1.2 200 OK\r\n\r\n", 0, "", ErrMalformed, dropped},
	{"HTTP/0.9", "GET", "<html>hello</html>\n", 0, "", ErrMalformed, dropped},
	{"two digits", "GET", "HTTP/1.1 20 OK\r\n\r\n", 0, "", ErrMalformed, dropped},
	{"four digits", "GET", "HTTP/1.1 2000 OK\r\n\r\n", 0, "", ErrMalformed, dropped},
	{"signed code", "GET", "HTTP/1.1 +20 OK\r\n\r\n", 0, "", ErrMalformed, dropped},
	{"code below 100", "GET", "HTTP/1.1 099 OK\r\n\r\n", 0, "", ErrMalformed, dropped},
	{"another protocol", "GET", "SSH-2.0-OpenSSH_9.6\r\n", 0, "", ErrMalformed, dropped},
	{"empty line first", "GET", "\r\n" + fine + "\r\n", 0, "", ErrMalformed, dropped},
	{"nothing", "GET", "", 0, "", ErrNoReply, dropped},

	// §5: header fields.
	{"bare LF", "GET", "HTTP/1.1 200 OK\nContent-Length: 2\n\nhi", 200, "hi", nil, kept},
	{"folded", "GET", fine + "Content-Length:\r\n \t2\r\n\r\nhi", 200, "hi", nil, kept},
	{"folded first", "GET", fine + " Content-Length: 2\r\n\r\nhi", 0, "", ErrMalformed, dropped},
	{"spaces around the value", "GET", fine + "Content-Length: \t 2 \t\r\n\r\nhi", 200, "hi", nil, kept},
	{"space before the colon", "GET", fine + "Content-Length : 2\r\n\r\nhi", 0, "", ErrMalformed, dropped},
	{"tab before the colon", "GET", fine + "Content-Length\t: 2\r\n\r\nhi", 0, "", ErrMalformed, dropped},
	{"space in a name", "GET", fine + "Content Length: 2\r\n\r\nhi", 0, "", ErrMalformed, dropped},
	{"no name", "GET", fine + ": 2\r\n\r\n", 0, "", ErrMalformed, dropped},
	{"no colon", "GET", fine + "Content-Length\r\n\r\n", 0, "", ErrMalformed, dropped},
	{"CR in a value", "GET", fine + "A: b\rc\r\n\r\n", 0, "", ErrMalformed, dropped},
	{"NUL in a value", "GET", fine + "A: b\x00c\r\n\r\n", 0, "", ErrMalformed, dropped},
	{"not a token", "GET", fine + "A(b): c\r\n\r\n", 0, "", ErrMalformed, dropped},
	{"name beyond ASCII", "GET", fine + "Ä: c\r\n\r\n", 0, "", ErrMalformed, dropped},

	// §6.1, §6.3: where the body ends.
	{"both framings", "GET", fine + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 0, "", ErrMalformed, dropped},
	{"both framings, HEAD", "HEAD", fine + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n", 0, "", ErrMalformed, dropped},
	{"the same length twice", "GET", fine + "Content-Length: 2\r\ncontent-length: 2\r\n\r\nhi", 200, "hi", nil, kept},
	{"two lengths", "GET", fine + "Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi", 0, "", ErrMalformed, dropped},
	{"list of lengths", "GET", fine + "Content-Length: 2, 2\r\n\r\nhi", 0, "", ErrMalformed, dropped},
	{"signed length", "GET", fine + "Content-Length: +2\r\n\r\nhi", 0, "", ErrMalformed, dropped},
	{"negative length", "GET", fine + "Content-Length: -2\r\n\r\nhi", 0, "", ErrMalformed, dropped},
	{"hexadecimal length", "GET", fine + "Content-Length: 0x2\r\n\r\nhi", 0, "", ErrMalformed, dropped},
	{"empty length", "GET", fine + "Content-Length:\r\n\r\nhi", 0, "", ErrMalformed, dropped},
	{"length beyond 63 bits", "GET", fine + "Content-Length: 9223372036854775808\r\n\r\nhi", 0, "", ErrMalformed, dropped},
	{"length with zeros", "GET", fine + "Content-Length: " + zeros + "2\r\n\r\nhi", 200, "hi", nil, kept},
	{"chunked", "GET", fine + "transfer-encoding: Chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", 200, "hi", nil, kept},
	{"another coding", "GET", fine + "Transfer-Encoding: gzip\r\n\r\nhi", 0, "", ErrUnsupported, dropped},
	{"two codings", "GET", fine + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 0, "", ErrUnsupported, dropped},
	{"chunked twice", "GET", fine + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 0, "", ErrUnsupported, dropped},
	{"empty coding", "GET", fine + "Transfer-Encoding:\r\n\r\nhi", 0, "", ErrUnsupported, dropped},
	{"empty list of codings", "GET", fine + "Transfer-Encoding: ,\r\n\r\nhi", 0, "", ErrUnsupported, dropped},
	{"empty coding and a length", "GET", fine + "Transfer-Encoding:\r\nContent-Length: 2\r\n\r\nhi", 0, "", ErrMalformed, dropped},
	{"identity", "GET", fine + "Transfer-Encoding: identity\r\n\r\nhi", 0, "", ErrUnsupported, dropped},
	{"Kelvin", "GET", fine + "Transfer-Encoding: chun\u212aed\r\n\r\n0\r\n\r\n", 0, "", ErrUnsupported, dropped},
	{"chunked in HTTP/1.0", "GET", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 0, "", ErrMalformed, dropped},
	{"204", "GET", "HTTP/1.1 204 No Content\r\n\r\n", 204, "", nil, kept},
	{"204 with a length", "GET", "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n", 204, "", nil, kept},
	{"204 with a body", "GET", "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nhi", 204, "", nil, dropped},
	{"304", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n", 304, "", nil, kept},
	{"304, chunked", "GET", "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", 304, "", nil, kept},
	{"HEAD", "HEAD", fine + "Content-Length: 2\r\n\r\n", 200, "", nil, kept},
	{"HEAD, chunked", "HEAD", chunky, 200, "", nil, kept},
	{"HEAD without a length", "HEAD", fine + "\r\n", 200, "", nil, kept},
	{"until the end", "GET", fine + "\r\nhi", 200, "hi", nil, dropped},
	{"205 until the end", "GET", "HTTP/1.1 205 Reset Content\r\n\r\nhi", 205, "hi", nil, dropped},
	{"more than the length", "GET", fine + "Content-Length: 2\r\n\r\nhi!", 200, "hi", nil, dropped},
	{"the next reply", "GET", fine + "Content-Length: 2\r\n\r\nhi" + fine + "\r\n", 200, "hi", nil, dropped},

	// §9.3, §9.6: connections.
	{"close", "GET", fine + "Connection: close\r\nContent-Length: 2\r\n\r\nhi", 200, "hi", nil, dropped},
	{"close among others", "GET", fine + "Connection: foo\r\nConnection: bar ,\tCLOSE\r\nContent-Length: 2\r\n\r\nhi", 200, "hi", nil, dropped},
	{"not close", "GET", fine + "Connection: closed, \"close\"\r\nContent-Length: 2\r\n\r\nhi", 200, "hi", nil, kept},
	{"HTTP/1.0", "GET", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, "hi", nil, dropped},
	{"HTTP/1.0 keep-alive", "GET", "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nhi", 200, "hi", nil, kept},
	{"HTTP/1.0 undecided", "GET", "HTTP/1.0 200 OK\r\nConnection: keep-alive, close\r\nContent-Length: 0\r\n\r\n", 200, "", nil, dropped},

	// RFC 9110 §15.2: interim replies.
	{"100", "GET", "HTTP/1.1 100 Continue\r\n\r\n" + fine + "Content-Length: 2\r\n\r\nhi", 200, "hi", nil, kept},
	{"hints", "GET", strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n", 5) + fine + "Content-Length: 2\r\n\r\nhi", 200, "hi", nil, kept},
	{"more hints", "GET", strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n", 6) + fine + "\r\n", 0, "", ErrMalformed, dropped},
	{"100 that closes", "GET", "HTTP/1.1 100 Continue\r\nConnection: close\r\n\r\n" + fine + "Content-Length: 0\r\n\r\n", 200, "", nil, kept},
	{"100 with a body", "GET", "HTTP/1.1 100 Continue\r\nContent-Length: 2\r\n\r\nhi" + fine + "\r\n", 0, "", ErrMalformed, dropped},
	{"100 alone", "GET", "HTTP/1.1 100 Continue\r\n\r\n", 0, "", io.ErrUnexpectedEOF, dropped},
	{"101", "GET", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n", 0, "", ErrUnsupported, dropped},

	// §7.1: chunks.
	{"chunks", "GET", chunky + "2\r\nhi\r\n00B\r\n everybody.\r\n0\r\n\r\n", 200, "hi everybody.", nil, kept},
	{"no chunks", "GET", chunky + "000\r\n\r\n", 200, "", nil, kept},
	{"extensions", "GET", chunky + "2;a;b=\"c;d\"\r\nhi\r\n0;last\r\n\r\n", 200, "hi", nil, kept},
	{"space behind the size", "GET", chunky + "2 \t\r\nhi\r\n0\r\n\r\n", 200, "hi", nil, kept},
	{"space before an extension", "GET", chunky + "2 ;a\r\nhi\r\n0\r\n\r\n", 0, "", ErrMalformed, dropped},
	{"space before the size", "GET", chunky + " 2\r\nhi\r\n0\r\n\r\n", 0, "", ErrMalformed, dropped},
	{"signed size", "GET", chunky + "+2\r\nhi\r\n0\r\n\r\n", 0, "", ErrMalformed, dropped},
	{"negative size", "GET", chunky + "-2\r\nhi\r\n0\r\n\r\n", 0, "", ErrMalformed, dropped},
	{"size with a prefix", "GET", chunky + "0x2\r\nhi\r\n0\r\n\r\n", 0, "", ErrMalformed, dropped},
	{"size with an underscore", "GET", chunky + "0_2\r\nhi\r\n0\r\n\r\n", 0, "", ErrMalformed, dropped},
	{"size that is none", "GET", chunky + "two\r\nhi\r\n0\r\n\r\n", 0, "", ErrMalformed, dropped},
	{"no size", "GET", chunky + ";a\r\n\r\n", 0, "", ErrMalformed, dropped},
	{"size beyond 63 bits", "GET", chunky + "8000000000000000\r\nhi", 0, "", ErrMalformed, dropped},
	{"size beyond 64 bits", "GET", chunky + "10000000000000002\r\nhi\r\n0\r\n\r\n", 0, "", ErrMalformed, dropped},
	{"size with many zeros", "GET", chunky + zeros + "2\r\nhi\r\n0\r\n\r\n", 0, "", ErrMalformed, dropped},
	{"size without CR", "GET", chunky + "2\nhi\r\n0\r\n\r\n", 0, "", ErrMalformed, dropped},
	{"CR in an extension", "GET", chunky + "2;a\rb\r\nhi\r\n0\r\n\r\n", 0, "", ErrMalformed, dropped},
	{"data longer than the size", "GET", chunky + "2\r\nhi!\r\n0\r\n\r\n", 0, "", ErrMalformed, dropped},
	{"data that ends with LF", "GET", chunky + "2\r\nhi\n0\r\n\r\n", 0, "", ErrMalformed, dropped},
	{"long extension", "GET", chunky + "2;" + strings.Repeat("a", 5000) + "\r\nhi\r\n0\r\n\r\n", 0, "", ErrHeaderSize, dropped},
	{"many extensions", "GET", chunky + strings.Repeat("1;"+blank+"a\r\nx\r\n", 10) + "0\r\n\r\n", 0, "", ErrMalformed, dropped},
	{"much space", "GET", chunky + strings.Repeat("1"+blank+"\r\nx\r\n", 10) + "0\r\n\r\n", 0, "", ErrMalformed, dropped},

	// §7.1.2: trailers.
	{"trailers", "GET", chunky + "2\r\nhi\r\n0\r\nA: b\r\nContent-Length: 7\r\n\r\n", 200, "hi", nil, kept},
	{"behind the trailers", "GET", chunky + "0\r\nA: b\r\n\r\nhi", 200, "", nil, dropped},
	{"trailer without CR", "GET", chunky + "0\r\nA: b\n\r\n", 0, "", ErrMalformed, dropped},
	{"end without CR", "GET", chunky + "0\r\n\n", 0, "", ErrMalformed, dropped},
	{"folded trailer", "GET", chunky + "0\r\nA: b\r\n c\r\n\r\n", 0, "", ErrMalformed, dropped},
	{"trailer with a space", "GET", chunky + "0\r\nA : b\r\n\r\n", 0, "", ErrMalformed, dropped},
	{"trailer without a colon", "GET", chunky + "0\r\nA\r\n\r\n", 0, "", ErrMalformed, dropped},
	{"trailer with NUL", "GET", chunky + "0\r\nA: \x00\r\n\r\n", 0, "", ErrMalformed, dropped},
	{"many trailers", "GET", chunky + "0\r\n" + strings.Repeat("A: b\r\n", 1000) + "\r\n", 0, "", ErrHeaderSize, dropped},
}

// TestReplies has the bytes of each reply arrive together, one by one, and together with the end of the connection.
func TestReplies(t *testing.T) {
	for _, tt := range replies {
		for how, arriving := range map[string]func(io.Reader) io.Reader{
			"together":   func(r io.Reader) io.Reader { return r },
			"one by one": iotest.OneByteReader,
			"last":       iotest.DataErrReader,
		} {
			t.Run(tt.name+"/"+how, func(t *testing.T) {
				w := &wire{from: arriving(strings.NewReader(tt.reply))}
				if tt.reused && how != "last" {
					w.from = io.MultiReader(w.from, silence(t))
				}
				c := NewConn(w, Limits{})
				r := get(t, "http://example.net/")
				r.Method = tt.method
				resp, body, err := ask(c, r)
				switch {
				case !errors.Is(err, tt.err):
					t.Fatalf("error %v, want %v", err, tt.err)
				case err == nil && (resp.Status != tt.status || body != tt.body):
					t.Errorf("%d %q, want %d %q", resp.Status, body, tt.status, tt.body)
				case err == nil && resp.Length >= 0 && resp.Length != int64(len(body)):
					t.Errorf("length %d of %d bytes", resp.Length, len(body))
				}
				if reused := tt.reused && how != "last"; how == "together" || reused {
					if got := c.Reusable(); got != reused {
						t.Errorf("reusable: %v", got)
					}
					if got := w.closed.Load() == 0; got != reused {
						t.Errorf("left open: %v", got)
					}
				}
				c.Close()
				if n := w.closed.Load(); n != 1 {
					t.Errorf("closed %d times", n)
				}
			})
		}
	}
}

// TestTruncation cuts every good reply everywhere: what is not whole is never taken for something else.
func TestTruncation(t *testing.T) {
	for _, tt := range replies {
		if tt.err != nil || !tt.reused {
			continue
		}
		for cut := range len(tt.reply) {
			r := get(t, "http://example.net/")
			r.Method = tt.method
			c := NewConn(playing(tt.reply[:cut]), Limits{})
			if _, body, err := ask(c, r); !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, ErrNoReply) != (cut == 0) {
				t.Errorf("%s, cut at %d: %q, error %v", tt.name, cut, body, err)
			}
			if c.Reusable() {
				t.Errorf("%s, cut at %d: reusable", tt.name, cut)
			}
		}
	}
}
