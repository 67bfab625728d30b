package http1

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
)

// TestLargeBodies looks at the buffers that bodies are read into: behind the header, those of the caller, so that an image is
// copied once.
func TestLargeBodies(t *testing.T) {
	const length, chunk, buffer = 64 << 20, 8 << 20, 1 << 20
	piece := strings.Repeat("x", chunk)
	chunks := strings.Repeat(fmt.Sprintf("%x\r\n", chunk)+piece+"\r\n", length/chunk) + "0\r\n\r\n"
	for name, tt := range map[string]struct {
		reply string
		small int // reads into the connection's own buffer
	}{
		"counted":       {fine + fmt.Sprintf("Content-Length: %d\r\n\r\n", length) + strings.Repeat(piece, length/chunk), 1},
		"until the end": {fine + "\r\n" + strings.Repeat(piece, length/chunk), 1},
		"chunked":       {chunky + chunks, 1 + 2*length/chunk},
	} {
		t.Run(name, func(t *testing.T) {
			w := playing(tt.reply)
			c := NewConn(w, Limits{})
			r := get(t, "http://a/")
			r.Close = true // nobody reads on
			resp, err := c.RoundTrip(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			p := make([]byte, buffer)
			total := 0
			for err == nil {
				var n int
				n, err = resp.Body.Read(p)
				total += n
				if bytes.Count(p[:n], []byte("x")) != n {
					t.Fatal("not the body")
				}
			}
			if err != io.EOF || total != length {
				t.Errorf("%d bytes, error %v", total, err)
			}
			small, read := 0, 0
			for _, size := range w.sizes {
				if read++; size <= 4096 {
					small++
				}
			}
			if small > tt.small || read > tt.small+2*length/buffer {
				t.Errorf("%d reads, %d of them small, at most %d", read, small, tt.small)
			}
		})
	}
}
