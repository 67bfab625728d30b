package image_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/pkg/image"
	"github.com/xpu-sztp/ztp/pkg/reason"
)

// once serves with h and is gone after that.
func once(h http.HandlerFunc) http.HandlerFunc {
	left := 1
	return func(w http.ResponseWriter, r *http.Request) {
		if left == 0 {
			http.NotFound(w, r)
			return
		}
		left--
		h(w, r)
	}
}

// The next mirror goes on where the one before it stopped, when it has an image of the same size.
func TestNextMirrorGoesOn(t *testing.T) {
	b := content(1 << 20)
	const half = 1 << 19
	lie := append([]byte("wrong from the start"), b[20:]...)
	cut := func(b []byte, etag string) http.HandlerFunc { return once(cutting(file(b, etag), half)) }
	chunked := once(cutting(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"v1"`)
		w.Write(b) // in chunks, without a length
	}, half))
	tests := []struct {
		name    string
		mirrors []http.HandlerFunc
		want    []string // requests, as MIRROR RANGE IF-RANGE
		resumed int
	}{
		{"same bytes", []http.HandlerFunc{cut(b, `"v1"`), file(b, `"other"`)},
			[]string{`0  `, `0 bytes=524288- "v1"`, `1 bytes=524288- `}, 1},
		{"first has no tag", []http.HandlerFunc{cut(b, ""), file(b, "")}, []string{`0  `, `0  `, `1  `}, 0},
		{"second breaks off too", []http.HandlerFunc{cut(b, `"v1"`), cutting(file(b, `"v2"`), 1000)},
			[]string{`0  `, `0 bytes=524288- "v1"`, `1 bytes=524288- `, `1 bytes=525288- "v2"`}, 2},
		{"size unknown", []http.HandlerFunc{chunked, file(b, `"v1"`)}, []string{`0  `, `0 bytes=524288- "v1"`, `1  `}, 0},
		{"other size", []http.HandlerFunc{cut(b[1:], `"v1"`), file(b, `"v1"`)},
			[]string{`0  `, `0 bytes=524288- "v1"`, `1 bytes=524288- `, `1  `}, 0},
		{"no ranges", []http.HandlerFunc{cut(b, `"v1"`), func(w http.ResponseWriter, r *http.Request) { w.Write(b) }},
			[]string{`0  `, `0 bytes=524288- "v1"`, `1 bytes=524288- `}, 0},
		{"first lies and is gone", []http.HandlerFunc{cut(lie, `"v1"`), file(b, `"v1"`)},
			[]string{`0  `, `0 bytes=524288- "v1"`, `1 bytes=524288- `, `0  `, `1  `}, 0},
		{"first lies and breaks off again", []http.HandlerFunc{cutting(file(lie, `"v1"`), half, 0, 0, 0, half, 0, 0, 0), file(b, `"v1"`)},
			[]string{`0  `, `0 bytes=524288- "v1"`, `0 bytes=524288- "v1"`, `0 bytes=524288- "v1"`, `1 bytes=524288- `,
				`0  `, `0 bytes=524288- "v1"`, `0 bytes=524288- "v1"`, `0 bytes=524288- "v1"`, `1  `}, 0},
		{"second lies", []http.HandlerFunc{cutting(file(b, `"v1"`), half, 0, 0, 0), file(lie[:len(b)-1:len(b)-1], ""), file(lie, `"v2"`)},
			[]string{`0  `, `0 bytes=524288- "v1"`, `0 bytes=524288- "v1"`, `0 bytes=524288- "v1"`, // three without a byte
				`1 bytes=524288- `, `1  `, // another size: from the start, wrong
				`2  `}, -1},
		{"end of the second is a lie", []http.HandlerFunc{cutting(file(b, `"v1"`), half, 0, 0, 0), file(append(b[:len(b)-1:len(b)-1], 0), `"v2"`)},
			[]string{`0  `, `0 bytes=524288- "v1"`, `0 bytes=524288- "v1"`, `0 bytes=524288- "v1"`, `1 bytes=524288- `, `0  `}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			var uris []string
			for i, h := range tt.mirrors {
				uris = append(uris, serve(t, func(w http.ResponseWriter, r *http.Request) {
					got = append(got, fmt.Sprintf("%d %s %s", i, r.Header.Get("Range"), r.Header.Get("If-Range")))
					h(w, r)
				}))
			}
			var sink memory
			result, err := image.Fetch(t.Context(), request(b, uris...), &sink)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			if tt.resumed < 0 {
				wantCode(t, err, image.CodeHashMismatch)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			wantImage(t, &sink, b)
			if result.Resumed != tt.resumed {
				t.Errorf("resumed %d times, want %d", result.Resumed, tt.resumed)
			}
		})
	}
}

// When bytes of two mirrors are wrong together and none is right alone, each is blamed for what it did itself.
func TestBlame(t *testing.T) {
	b := content(1 << 20)
	lie := append(b[:len(b)-20:len(b)-20], "wrong after the half"...)
	honest := serve(t, cutting(file(b, `"v1"`), 1<<19, 0, 0, 0, 1<<19, 0, 0, 0)) // but never whole
	liar := serve(t, file(lie, `"v1"`))
	_, err := image.Fetch(t.Context(), request(b, honest, liar), &memory{})
	wantCode(t, err, image.CodeHashMismatch)
	for _, want := range []string{
		honest + ": the transfer broke off after 524288 of 1048576 bytes",
		fmt.Sprintf("%s: the %d bytes received have SHA-256 %x", liar, len(b), digest(lie)),
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
}

// A device may be too small for what a mirror says, or sends; the next mirror may know better.
func TestTooSmall(t *testing.T) {
	b := content(1 << 20)
	small := &reason.Error{Code: "slot-too-small", Msg: "the image does not fit", Fix: "use a larger device"}
	t.Run("by its header", func(t *testing.T) {
		liar := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "60000000")
			w.Write(b)
		})
		d := &disk{}
		d.expect = func(total int64) error {
			if total > 2<<20 {
				return small
			}
			return nil
		}
		_, err := image.Fetch(t.Context(), request(b, liar), d)
		wantCode(t, err, "slot-too-small")
		if len(d.content) > 0 {
			t.Errorf("%d bytes of it were written", len(d.content))
		}
		missing := serve(t, http.NotFound)
		_, err = image.Fetch(t.Context(), request(b, missing, liar), d)
		wantCode(t, err, "slot-too-small") // says more than HTTP 404
		d.told = nil
		if _, err := image.Fetch(t.Context(), request(b, liar, serve(t, file(b, ""))), d); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff([]int64{60000000, 1 << 20}, d.told); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("by its bytes", func(t *testing.T) {
		endless := serve(t, func(w http.ResponseWriter, r *http.Request) {
			for {
				if _, err := w.Write(b); err != nil {
					return
				}
			}
		})
		sink := &smallDisk{size: 2 << 20}
		_, err := image.Fetch(t.Context(), request(b, endless), sink)
		if !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("got %v", err)
		}
		if _, err := image.Fetch(t.Context(), request(b, endless, serve(t, file(b, `"v1"`))), sink); err != nil {
			t.Error(err)
		}
		wantImage(t, &sink.memory, b)
	})
}

// smallDisk is a sink with little room.
type smallDisk struct {
	memory
	size int
}

func (s *smallDisk) Write(p []byte) (int, error) {
	room := s.size - s.Len()
	if len(p) <= room {
		return s.memory.Write(p)
	}
	n, _ := s.memory.Write(p[:room])
	return n, fmt.Errorf("slot b: %w", syscall.ENOSPC)
}

// pickySink takes no more than the beginning of an image that begins with an x.
type pickySink struct{ memory }

func (p *pickySink) Write(b []byte) (int, error) {
	if p.Len() > 0 && p.Bytes()[0] == 'x' {
		return 0, fmt.Errorf("slot b: %w", syscall.EPROTO)
	}
	return p.memory.Write(b)
}

// What a sink refused is not gone on with, also where the next mirror has as much.
func TestUnfitIsForgotten(t *testing.T) {
	b := content(3 << 20)
	lie := serve(t, file(append([]byte("x"), b[1:]...), ""))
	var got []string
	good := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = append(got, r.Header.Get("Range"))
		file(b, "")(w, r)
	})
	var sink pickySink
	if _, err := image.Fetch(t.Context(), request(b, lie, good), &sink); err != nil {
		t.Fatal(err)
	}
	wantImage(t, &sink.memory, b)
	if diff := cmp.Diff([]string{""}, got); diff != "" {
		t.Error(diff)
	}
}
