package image_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/pkg/image"
)

func TestResume(t *testing.T) {
	b := content(1 << 20)
	old := append([]byte("another version"), b[15:]...)

	// first breaks off after 300000 bytes; then serves what follows.
	first := func(etag string, first []byte, then http.HandlerFunc) http.HandlerFunc {
		var n atomic.Int32
		return func(w http.ResponseWriter, r *http.Request) {
			if n.Add(1) == 1 {
				cutting(file(first, etag), 300000)(w, r)
				return
			}
			then(w, r)
		}
	}
	part := func(contentRange string, body []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") == "" {
				file(b, `"v1"`)(w, r)
				return
			}
			w.Header().Set("Content-Range", contentRange)
			w.WriteHeader(http.StatusPartialContent)
			w.Write(body)
		}
	}
	resumed := []asked{{}, {"bytes=300000-", `"v1"`}}
	again := append(resumed[:2:2], asked{})
	tests := []struct {
		name    string
		handler http.HandlerFunc
		want    []asked
		resumed int
	}{
		{"same strong tag", first(`"v1"`, b, file(b, `"v1"`)), resumed, 1},
		{"no tag in the second reply", first(`"v1"`, b, part(fmt.Sprintf("bytes 300000-%d/%d", len(b)-1, len(b)), b[300000:])), resumed, 1},
		{"tag changed", first(`"v1"`, old, file(b, `"v2"`)), resumed, 0},
		{"no tag", first("", b, file(b, "")), []asked{{}, {}}, 0},
		{"weak tag", first(`W/"v1"`, b, file(b, `W/"v1"`)), []asked{{}, {}}, 0},
		{"range ignored", first(`"v1"`, b, func(w http.ResponseWriter, r *http.Request) { w.Write(b) }), resumed, 0},
		{"other start", first(`"v1"`, b, part(fmt.Sprintf("bytes 299999-%d/%d", len(b)-1, len(b)), b[299999:])), again, 0},
		{"other size", first(`"v1"`, b, part(fmt.Sprintf("bytes 300000-%d/%d", len(b), len(b)+1), append(b[300000:], 0))), again, 0},
		{"no Content-Range", first(`"v1"`, b, part("", b[300000:])), again, 0},
		{"malformed Content-Range", first(`"v1"`, b, part("bytes 300000-/", b[300000:])), again, 0},
		{"not satisfiable", first(`"v1"`, b, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") != "" {
				w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
				return
			}
			file(b, `"v1"`)(w, r)
		}), again, 0},
		{"parts of two images under one tag", first(`"v1"`, old, file(b, `"v1"`)), again, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []asked
			url := serve(t, func(w http.ResponseWriter, r *http.Request) {
				got = append(got, asked{r.Header.Get("Range"), r.Header.Get("If-Range")})
				tt.handler(w, r)
			})
			var sink memory
			result, err := image.Fetch(t.Context(), request(b, url), &sink)
			if err != nil {
				t.Fatal(err)
			}
			wantImage(t, &sink, b)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			if result.Resumed != tt.resumed {
				t.Errorf("resumed %d times, want %d", result.Resumed, tt.resumed)
			}
		})
	}
}

// A mirror that can never finish is given up after a bounded number of requests.
func TestResumeIsBounded(t *testing.T) {
	b := content(1 << 20)
	tests := []struct {
		name    string
		handler http.HandlerFunc
		most    int32
	}{
		{"a byte each time", func(w http.ResponseWriter, r *http.Request) { cutting(file(b, `"v1"`), 1)(w, r) }, 9},
		{"nothing each time", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", `"v1"`)
			w.Header().Set("Content-Length", strconv.Itoa(len(b)))
		}, 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var n atomic.Int32
			url := serve(t, func(w http.ResponseWriter, r *http.Request) { n.Add(1); tt.handler(w, r) })
			_, err := image.Fetch(t.Context(), request(b, url), &memory{})
			wantCode(t, err, image.CodeTruncated)
			if n.Load() > tt.most {
				t.Errorf("asked %d times, want at most %d", n.Load(), tt.most)
			}
		})
	}
}

// A stalled transfer is taken up where it stopped.
func TestResumeAfterStall(t *testing.T) {
	b := content(1 << 20)
	var n atomic.Int32
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) > 1 {
			file(b, `"v1"`)(w, r)
			return
		}
		w.Header().Set("ETag", `"v1"`)
		w.Header().Set("Content-Length", strconv.Itoa(len(b)))
		w.Write(b[:1000])
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	r := request(b, url)
	r.Stall = 100 * time.Millisecond
	var sink memory
	result, err := image.Fetch(t.Context(), r, &sink)
	if err != nil || result.Resumed != 1 {
		t.Fatalf("%+v, %v", result, err)
	}
	if !bytes.Equal(sink.Bytes(), b) || sink.resets != 0 {
		t.Errorf("%d bytes after %d resets", sink.Len(), sink.resets)
	}
}
