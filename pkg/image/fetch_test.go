package image_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/xpu-sztp/ztp/pkg/image"
	"github.com/xpu-sztp/ztp/pkg/reason"
)

func TestFetch(t *testing.T) {
	b := content(3<<20 + 17)
	tls := httptest.NewTLSServer(file(b, `"v1"`)) // its certificate means nothing to anyone
	defer tls.Close()
	for name, base := range map[string]string{"http": serve(t, file(b, `"v1"`)), "https": tls.URL} {
		t.Run(name, func(t *testing.T) {
			var events []image.Progress
			r := request(b, base+"/os.bin?token=secret")
			r.Progress = func(p image.Progress) { events = append(events, p) }
			var sink memory
			result, err := image.Fetch(t.Context(), r, &sink)
			if err != nil {
				t.Fatal(err)
			}
			wantImage(t, &sink, b)
			if first := events[0]; first.URI != base+"/os.bin" || first.Bytes != 0 || first.Done {
				t.Errorf("begins with %+v", first)
			}
			last := events[len(events)-1]
			got := []any{last.URI, last.Server, last.Protocol, last.Bytes, last.Total, last.Done, last.Err, result.URI, result.Bytes, result.Resumed}
			address := strings.TrimPrefix(base, name+"://")
			want := []any{base + "/os.bin", address, name, int64(len(b)), int64(len(b)), true, nil, base + "/os.bin", int64(len(b)), 0}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRequestSaysNothingOfTheDevice(t *testing.T) {
	b := content(10)
	var got []http.Header
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = append(got, r.Header)
		if r.URL.Path == "/" {
			http.Redirect(w, r, "/os.bin", http.StatusFound)
			return
		}
		w.Write(b)
	})
	if _, err := image.Fetch(t.Context(), request(b, url), &memory{}); err != nil {
		t.Fatal(err)
	}
	identity := http.Header{"Accept-Encoding": {"identity"}, "Connection": {"close"}}
	if diff := cmp.Diff([]http.Header{identity, identity}, got); diff != "" {
		t.Error(diff)
	}
}

// Mirrors are tried in order until one has the right bytes (R5.6-10, R5.6-11).
func TestMirrors(t *testing.T) {
	b := content(1 << 20)
	good := serve(t, file(b, `"v1"`))
	closed := httptest.NewServer(nil)
	closed.Close()
	status := func(code int) string {
		return serve(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(code) })
	}
	other := serve(t, func(w http.ResponseWriter, r *http.Request) { t.Error("another server was asked"); w.Write(b) })
	secure := httptest.NewTLSServer(file(b, ""))
	defer secure.Close()
	redirect := func(target string) string {
		return serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, target, http.StatusFound) })
	}
	truncated := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(b)))
		w.Write(b[:1000])
	})
	slowed := make(chan struct{})
	t.Cleanup(func() { close(slowed) })
	tests := []struct {
		name string
		uri  string
		code reason.Code
	}{
		{"refused", closed.URL, image.CodeUnreachable},
		{"unknown name", "http://unknown.example/", image.CodeUnreachable},
		{"not found", status(404), image.CodeHTTPError},
		{"forbidden", status(403), image.CodeHTTPError},
		{"server error", status(500), image.CodeHTTPError},
		{"no content", status(204), image.CodeHTTPError},
		{"part of it without being asked", serve(t, func(w http.ResponseWriter, r *http.Request) {
			r.Header.Set("Range", "bytes=5-")
			file(b, `"v1"`)(w, r)
		}), image.CodeHTTPError},
		{"wrong bytes", serve(t, file(content(1<<20 - 1)[1:], `"v1"`)), image.CodeHashMismatch},
		{"empty", serve(t, func(w http.ResponseWriter, r *http.Request) {}), image.CodeHashMismatch},
		{"captive portal", serve(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "<html>") }), image.CodeHashMismatch},
		{"truncated", truncated, image.CodeTruncated},
		{"too large by its header", serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "1099511627776")
			w.Write(b)
		}), image.CodeTooLarge},
		{"endless", serve(t, func(w http.ResponseWriter, r *http.Request) {
			for {
				if _, err := w.Write(b); err != nil {
					return
				}
			}
		}), image.CodeTooLarge},
		{"compressed", serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			w.Write(b)
		}), image.CodeHTTPError},
		{"redirect to another server", redirect(other), image.CodeURIRefused},
		{"redirect to TLS elsewhere", redirect(secure.URL), image.CodeURIRefused},
		{"redirect for ever", serve(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path+"x", http.StatusFound)
		}), image.CodeURIRefused},
		{"redirect to nowhere", serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "::::")
			w.WriteHeader(302)
		}), image.CodeUnreachable},
		{"no reply", serve(t, func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-slowed:
			case <-r.Context().Done():
			}
		}), image.CodeTimeout},
		{"hangs in the middle", serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Write(b[:1000])
			w.(http.Flusher).Flush()
			select {
			case <-slowed:
			case <-r.Context().Done():
			}
		}), image.CodeTimeout},
		{"ftp", "ftp://192.0.2.1/os.bin", image.CodeURIRefused},
		{"file", "file:///etc/hostname", image.CodeURIRefused},
		{"no host", "http:///os.bin", image.CodeURIRefused},
		{"malformed", "http://[::1", image.CodeURIRefused},
		{"credentials", "https://user:pass@127.0.0.1/", image.CodeURIRefused},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := request(b, tt.uri)
			r.MaxSize, r.Stall = 8<<20, 300*time.Millisecond
			var sink memory
			_, err := image.Fetch(t.Context(), r, &sink)
			wantCode(t, err, tt.code)
			if tt.code == image.CodeHashMismatch && sink.Len() > 0 {
				t.Errorf("%d wrong bytes were left", sink.Len())
			}
			r.URIs = append(r.URIs, good)
			result, err := image.Fetch(t.Context(), r, &sink)
			if err != nil || result.URI != good {
				t.Fatalf("the next mirror was not used: %v, %v", result, err)
			}
			wantImage(t, &sink, b)
		})
	}
}

func TestOnlyTheURIsSuppliedInOrder(t *testing.T) {
	b := content(100)
	var asked []string
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.Path)
		if r.URL.Path != "/3" {
			http.NotFound(w, r)
			return
		}
		w.Write(b)
	})
	if _, err := image.Fetch(t.Context(), request(b, url+"/1", url+"/2", url+"/3", url+"/4"), &memory{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"/1", "/2", "/3"}, asked); diff != "" {
		t.Error(diff)
	}
}

// When mirrors fail differently the code is that of the failure that matters most, and all of them are named.
func TestAllMirrorsFail(t *testing.T) {
	b := content(100)
	wrong := serve(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "something else") })
	missing := serve(t, http.NotFound)
	_, err := image.Fetch(t.Context(), request(b, missing+"/?key=s3cret", wrong, missing), &memory{})
	wantCode(t, err, image.CodeHashMismatch)
	for _, want := range []string{missing, wrong, "HTTP 404"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not mention %q", err, want)
		}
	}
	if strings.Contains(err.Error(), "s3cret") {
		t.Errorf("%q gives a secret away", err)
	}
}

func TestNoVerification(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) { t.Error("asked without a digest to verify by") })
	for _, sum := range [][]byte{nil, {1, 2, 3}} {
		r := request(nil, url)
		r.SHA256 = sum
		_, err := image.Fetch(t.Context(), r, &memory{})
		wantCode(t, err, image.CodeNoVerification)
	}
}

func TestEveryAddressIsTried(t *testing.T) {
	b := content(100)
	url := serve(t, file(b, ""))
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(url, "http://"))
	r := request(b, "http://mirror.example:"+port)
	n := &network{addresses: []string{"::1", "127.0.0.2", "127.0.0.1", "127.0.0.3"}}
	r.Network = n
	if _, err := image.Fetch(t.Context(), r, &memory{}); err != nil {
		t.Fatal(err)
	}
	want := []string{"[::1]:" + port, "127.0.0.2:" + port, "127.0.0.1:" + port}
	if diff := cmp.Diff(want, n.dialled); diff != "" {
		t.Error(diff)
	}
}

func TestRedirect(t *testing.T) {
	b := content(100)
	moved := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/old" {
			http.Redirect(w, r, "/new", http.StatusMovedPermanently)
			return
		}
		w.Write(b)
	}
	if _, err := image.Fetch(t.Context(), request(b, serve(t, moved)+"/old"), &memory{}); err != nil {
		t.Errorf("same origin: %v", err)
	}
	referer := "unset"
	target := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		referer = r.Header.Get("Referer")
		w.Write(b)
	}))
	defer target.Close()
	from := httptest.NewTLSServer(http.RedirectHandler(target.URL, http.StatusFound))
	defer from.Close()
	r := request(b, from.URL+"/?key=s3cret")
	_, err := image.Fetch(t.Context(), r, &memory{})
	wantCode(t, err, image.CodeURIRefused)
	r.CrossOrigin = true
	if _, err := image.Fetch(t.Context(), r, &memory{}); err != nil || referer != "" {
		t.Errorf("allowed by configuration: %v, Referer %q", err, referer)
	}
}

type fullDisk struct{ memory }

var errFull = errors.New("no space left")

func (*fullDisk) Write([]byte) (int, error) { return 0, errFull }

func TestSinkErrorEndsTheFetch(t *testing.T) {
	b := content(4 << 20)
	asked := 0
	url := serve(t, func(w http.ResponseWriter, r *http.Request) { asked++; w.Write(b) })
	_, err := image.Fetch(t.Context(), request(b, url, url), &fullDisk{})
	if !errors.Is(err, errFull) || asked != 1 {
		t.Errorf("got %v after %d requests", err, asked)
	}
}

// choosy refuses what begins with an x, and then everything until it is reset.
type choosy struct {
	memory
	refused bool
}

func (c *choosy) Write(p []byte) (int, error) {
	if c.refused = c.refused || c.Len() == 0 && p[0] == 'x'; c.refused {
		return 0, fmt.Errorf("slot b: %w", syscall.EPROTO)
	}
	return c.memory.Write(p)
}

func (c *choosy) Reset() error {
	c.refused = false
	return c.memory.Reset()
}

// What a sink cannot take from one mirror may be right at the next.
func TestUnfitImage(t *testing.T) {
	b := content(100)
	wrong := serve(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "xxx") })
	var sink choosy
	_, err := image.Fetch(t.Context(), request(b, wrong, serve(t, func(w http.ResponseWriter, r *http.Request) { w.Write(b) })), &sink)
	if err != nil || !bytes.Equal(sink.Bytes(), b) {
		t.Errorf("received %d bytes: %v", sink.Len(), err)
	}
	if _, err := image.Fetch(t.Context(), request(b, wrong), &choosy{}); !errors.Is(err, syscall.EPROTO) {
		t.Errorf("got %v", err)
	}
}

func TestTimeLimit(t *testing.T) {
	b := content(100)
	hanging := serve(t, func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	r := request(b, hanging, hanging)
	r.Timeout = 50 * time.Millisecond
	started := time.Now()
	_, err := image.Fetch(t.Context(), r, &memory{})
	wantCode(t, err, image.CodeTimeout)
	if took := time.Since(started); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestCancelled(t *testing.T) {
	b := content(100)
	ctx, cancel := context.WithCancel(t.Context())
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Write(b[:50])
		w.(http.Flusher).Flush()
		cancel()
		<-r.Context().Done()
	})
	_, err := image.Fetch(ctx, request(b, url, url), &memory{})
	wantCode(t, err, reason.Cancelled)
}

func TestRemovableStorage(t *testing.T) {
	b := content(1<<20 + 1)
	stick := t.TempDir()
	if err := os.WriteFile(filepath.Join(stick, "os.bin"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(stick, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(stick, "os.bin"), filepath.Join(stick, "sub/os.bin")); err != nil {
		t.Fatal(err)
	}
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(stick, "link")); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(stick)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	tests := []struct {
		uri  string
		code reason.Code
	}{
		{"file:///os.bin", ""},
		{"file:os.bin", ""},
		{"file:os%2Ebin", ""},
		{"file:sub/os.bin", ""},
		{"file:../" + filepath.Base(stick) + "/os.bin", image.CodeUnreachable},
		{"file:%zz", image.CodeUnreachable},
		{"file:link", image.CodeUnreachable},
		{"file:///missing", image.CodeUnreachable},
		{"file:///", image.CodeUnreachable},
		{"file:///../" + filepath.Base(stick) + "/os.bin", image.CodeUnreachable},
		{"file:///link", image.CodeUnreachable},
		{"file://server/os.bin", image.CodeURIRefused},
	}
	for _, tt := range tests {
		t.Run(tt.uri, func(t *testing.T) {
			r := request(b, tt.uri)
			r.Files = root.FS()
			var sink memory
			_, err := image.Fetch(t.Context(), r, &sink)
			wantCode(t, err, tt.code)
			if tt.code == "" {
				wantImage(t, &sink, b)
			}
		})
	}
}

// counter is a sink that keeps nothing.
type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) { c.n += int64(len(p)); return len(p), nil }
func (c *counter) Reset() error                { c.n = 0; return nil }

func TestMemoryDoesNotGrowWithTheImage(t *testing.T) {
	b := content(1 << 20)
	const times = 48
	hash := sha256.New()
	for range times {
		hash.Write(b)
	}
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		for range times {
			w.Write(b)
		}
	})
	r := request(b, url)
	r.SHA256 = hash.Sum(nil)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := image.Fetch(t.Context(), r, &counter{}); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 8<<20 { // six of them are buffers
		t.Errorf("allocated %d bytes for an image of %d", got, times<<20)
	}
}

// A mirror that breaks off, honours Range or not, and changes its image now and then never gets wrong bytes accepted,
// and the right ones are received when there is a way to.
func TestUnreliableMirror(t *testing.T) {
	b := content(10000)
	rapid.Check(t, func(t *rapid.T) {
		cuts := rapid.SliceOfN(rapid.IntRange(1, len(b)), 0, 5).Draw(t, "cuts")
		etag := rapid.SampledFrom([]string{"", `"v1"`, `W/"v1"`}).Draw(t, "etag")
		s := httptest.NewServer(cutting(file(b, etag), cuts...))
		defer s.Close()
		var sink memory
		result, err := image.Fetch(context.Background(), request(b, s.URL), &sink)
		if err == nil && !bytes.Equal(sink.Bytes(), b) {
			t.Fatalf("accepted %d wrong bytes", sink.Len())
		}
		if etag == `"v1"` && err != nil {
			t.Fatalf("not received: %v", err)
		}
		if etag != `"v1"` && result.Resumed > 0 {
			t.Fatal("resumed without a strong entity tag")
		}
	})
}
