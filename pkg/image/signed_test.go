package image_test

import (
	"context"
	"crypto/sha512"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/pkg/image"
	"github.com/xpu-sztp/ztp/pkg/image/signature"
	"github.com/xpu-sztp/ztp/pkg/reason"
)

// release is somebody who signs images with the usual programs.
type release struct {
	folder string
	policy *signature.Policy
}

func newRelease(t testing.TB) *release {
	r := &release{folder: t.TempDir()}
	r.run(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", r.path("key"))
	r.run(t, "minisign", "-G", "-W", "-p", r.path("mini.pub"), "-s", r.path("mini.key"))
	signers := new(signature.Signers)
	if err := errors.Join(signers.AddKeys(append([]byte("release@example.com "), r.read(t, "key.pub")...)), signers.AddKeys(r.read(t, "mini.pub"))); err != nil {
		t.Fatal(err)
	}
	r.policy = &signature.Policy{Signers: signers, Namespace: "ztp-image"}
	return r
}

func (r *release) path(name string) string { return filepath.Join(r.folder, name) }

func (r *release) read(t testing.TB, name string) []byte {
	data, err := os.ReadFile(r.path(name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func (r *release) run(t testing.TB, program string, args ...string) {
	t.Helper()
	if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", program, args, err, out)
	}
}

// sign returns the signatures over b: by OpenSSH with SHA-256 and with SHA-512, and by minisign.
func (r *release) sign(t testing.TB, b []byte) (sha256, sha512, mini string) {
	t.Helper()
	file := r.path("image")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, hash := range []string{"sha256", "sha512"} {
		r.run(t, "ssh-keygen", "-q", "-Y", "sign", "-n", "ztp-image", "-O", "hashalg="+hash, "-f", r.path("key"), file)
		if err := os.Rename(file+".sig", file+"."+hash); err != nil {
			t.Fatal(err)
		}
	}
	r.run(t, "minisign", "-S", "-s", r.path("mini.key"), "-m", file)
	return string(r.read(t, "image.sha256")), string(r.read(t, "image.sha512")), string(r.read(t, "image.minisig"))
}

// site serves files by their path, and notes what was asked for.
type site struct {
	mu    sync.Mutex
	files map[string]string
	asked []string
}

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, r.URL.RequestURI())
	data, ok := s.files[r.URL.EscapedPath()]
	if !ok {
		http.NotFound(w, r)
		return
	}
	file([]byte(data), `"v1"`)(w, r)
}

func TestSigned(t *testing.T) {
	r := newRelease(t)
	b, other := content(1<<20+5), content(1<<20+4)
	sha256, sha512, mini := r.sign(t, b)
	wrong256, wrong512, wrongMini := r.sign(t, other)
	elsewhere := serve(t, func(w http.ResponseWriter, r *http.Request) {
		t.Error("another server was asked")
		fmt.Fprint(w, sha256)
	})
	for name, test := range map[string]struct {
		uri   string // below the server
		files map[string]string
		asked []string
		code  reason.Code
		by    string
	}{
		"sha256":               {"/a.img", map[string]string{"/a.img.sig": sha256}, []string{"/a.img.sig", "/a.img"}, "", "release@"},
		"sha512":               {"/a.img", map[string]string{"/a.img.sig": sha512}, []string{"/a.img.sig", "/a.img.minisig", "/a.img"}, "", "release@"},
		"minisign":             {"/a.img", map[string]string{"/a.img.minisig": mini}, []string{"/a.img.sig", "/a.img.minisig", "/a.img"}, "", "minisign key"},
		"one-of-two":           {"/a.img", map[string]string{"/a.img.sig": wrong256, "/a.img.minisig": mini}, []string{"/a.img.sig", "/a.img.minisig", "/a.img"}, "", "minisign key"},
		"one-of-two-afterward": {"/a.img", map[string]string{"/a.img.sig": wrong512, "/a.img.minisig": mini}, []string{"/a.img.sig", "/a.img.minisig", "/a.img"}, signature.CodeMismatch, ""},
		"query": {"/a.img?token=secret", map[string]string{"/a.img.sig": sha256},
			[]string{"/a.img.sig?token=secret", "/a.img?token=secret"}, "", "release@"},
		"escaped": {"/a%2Fb%20c.img", map[string]string{"/a%2Fb%20c.img": string(b), "/a%2Fb%20c.img.sig": sha256},
			[]string{"/a%2Fb%20c.img.sig", "/a%2Fb%20c.img"}, "", "release@"},
		// Not a byte of the image is asked for.
		"missing":         {"/a.img", nil, []string{"/a.img.sig", "/a.img.minisig"}, signature.CodeMissing, ""},
		"of-other-image":  {"/a.img", map[string]string{"/a.img.sig": wrong256}, []string{"/a.img.sig", "/a.img.minisig"}, signature.CodeMismatch, ""},
		"malformed":       {"/a.img", map[string]string{"/a.img.sig": "<html>"}, []string{"/a.img.sig", "/a.img.minisig"}, signature.CodeMalformed, ""},
		"image-instead":   {"/a.img", map[string]string{"/a.img.sig": string(b)}, []string{"/a.img.sig", "/a.img.minisig"}, signature.CodeMalformed, ""},
		"moved-elsewhere": {"/moved.img", nil, []string{"/moved.img.sig"}, image.CodeURIRefused, ""},
		// Only the image itself shows that the signature is not over it.
		"of-other-image-sha512": {"/a.img", map[string]string{"/a.img.sig": wrong512}, []string{"/a.img.sig", "/a.img.minisig", "/a.img"}, signature.CodeMismatch, ""},
		"of-other-image-minisign": {"/a.img", map[string]string{"/a.img.minisig": wrongMini},
			[]string{"/a.img.sig", "/a.img.minisig", "/a.img"}, signature.CodeMismatch, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := &site{files: map[string]string{"/a.img": string(b)}}
			for path, data := range test.files {
				s.files[path] = data
			}
			mux := http.NewServeMux()
			mux.Handle("/", s)
			mux.HandleFunc("/moved.img.sig", func(w http.ResponseWriter, r *http.Request) {
				s.asked = append(s.asked, r.URL.Path)
				http.Redirect(w, r, elsewhere, http.StatusFound)
			})
			server := httptest.NewServer(mux)
			defer server.Close()
			q := request(b, server.URL+test.uri)
			q.Signature = r.policy
			var sink memory
			result, err := image.Fetch(t.Context(), q, &sink)
			wantCode(t, err, test.code)
			if diff := cmp.Diff(test.asked, s.asked); diff != "" {
				t.Errorf("asked for (-want +got):\n%s", diff)
			}
			if test.code != "" {
				if text := err.Error(); strings.Contains(text, "secret") {
					t.Error(text)
				}
				return
			}
			wantImage(t, &sink, b)
			if !strings.HasPrefix(result.Signer, test.by) {
				t.Errorf("signed by %q", result.Signer)
			}
		})
	}
}

// TestSignedMirrors: a mirror whose signature is no good cannot spoil what another one has, nor can one that has none.
func TestSignedMirrors(t *testing.T) {
	r := newRelease(t)
	b := content(100_000)
	sha256, sha512, mini := r.sign(t, b)
	_, wrong512, wrongMini := r.sign(t, content(99_999))
	closed := httptest.NewServer(nil)
	closed.Close()
	for name, test := range map[string]struct {
		first map[string]string // nil: cannot be reached
		asked []string          // of the second mirror
	}{
		"unreachable":    {nil, []string{"/a.img.sig", "/a.img.minisig", "/a.img"}},
		"unsigned":       {map[string]string{"/a.img": string(b)}, []string{"/a.img.sig", "/a.img.minisig", "/a.img"}},
		"same":           {map[string]string{"/a.img": string(b), "/a.img.sig": sha512, "/a.img.minisig": mini}, nil},
		"of-other-image": {map[string]string{"/a.img": string(b), "/a.img.sig": wrong512}, []string{"/a.img.sig", "/a.img.minisig"}},
		"of-other-image-in-other-form": {map[string]string{"/a.img": string(b), "/a.img.minisig": wrongMini},
			[]string{"/a.img.sig", "/a.img.minisig", "/a.img"}},
		"signature-but-other-image": {map[string]string{"/a.img": "not this", "/a.img.sig": sha256}, []string{"/a.img"}},
	} {
		t.Run(name, func(t *testing.T) {
			first, second := closed.URL, &site{files: map[string]string{"/a.img": string(b), "/a.img.sig": sha512}}
			if test.first != nil {
				first = serve(t, (&site{files: test.first}).ServeHTTP)
			}
			q := request(b, first+"/a.img", serve(t, second.ServeHTTP)+"/a.img")
			q.Signature = r.policy
			var sink memory
			result, err := image.Fetch(t.Context(), q, &sink)
			wantCode(t, err, "")
			wantImage(t, &sink, b)
			if diff := cmp.Diff(test.asked, second.asked); diff != "" {
				t.Errorf("the second mirror was asked for (-want +got):\n%s", diff)
			}
			if !strings.HasPrefix(result.Signer, "release@example.com, ssh-ed25519 key SHA256:") {
				t.Errorf("signed by %q", result.Signer)
			}
		})
	}
	q := request(b, closed.URL+"/a.img", serve(t, (&site{files: map[string]string{"/a.img": string(b)}}).ServeHTTP)+"/a.img")
	q.Signature = r.policy
	_, err := image.Fetch(t.Context(), q, &memory{})
	wantCode(t, err, signature.CodeMissing)
	if text := err.Error(); !strings.Contains(text, "/a.img.sig: there is no signature") || !strings.Contains(text, "connected") {
		t.Error(text)
	}
}

// TestSignedTwice: a signature that can be verified at once settles it, whatever the one before it may turn out to be.
func TestSignedTwice(t *testing.T) {
	r := newRelease(t)
	b := content(1000)
	_, wrong512, _ := r.sign(t, b[1:])
	if err := os.WriteFile(r.path("image"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	key, cert := r.path("cms.key"), r.path("cms.pem")
	r.run(t, "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=release", "-keyout", key, "-out", cert)
	r.run(t, "openssl", "cms", "-sign", "-binary", "-md", "sha256", "-signer", cert, "-inkey", key, "-in", r.path("image"), "-outform", "DER",
		"-out", r.path("image.p7s"))
	block, _ := pem.Decode(r.read(t, "cms.pem"))
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.policy.Signers.AddCertificates([]*x509.Certificate{certificate}); err != nil {
		t.Fatal(err)
	}
	q := request(b, serve(t, (&site{files: map[string]string{
		"/a.img": string(b), "/a.img.sig": wrong512, "/a.img.p7s": string(r.read(t, "image.p7s")),
	}}).ServeHTTP)+"/a.img")
	q.Signature = r.policy
	result, err := image.Fetch(t.Context(), q, &memory{})
	wantCode(t, err, "")
	if result.Signer != "CN=release" {
		t.Errorf("signed by %q", result.Signer)
	}
}

// TestSignedBusyMirror: what may be asked again later is.
func TestSignedBusyMirror(t *testing.T) {
	r := newRelease(t)
	b := content(1000)
	_, sha512, _ := r.sign(t, b)
	s := &site{files: map[string]string{"/a.img": string(b), "/a.img.sig": sha512}}
	refused := 0
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if refused < 3 {
			refused++
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		s.ServeHTTP(w, r)
	})
	q := request(b, url+"/a.img")
	q.Signature = r.policy
	if _, err := image.Fetch(t.Context(), q, &memory{}); err != nil {
		t.Fatal(err)
	}
	always := serve(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusTooManyRequests) })
	q = request(b, always+"/a.img")
	q.Signature, q.RetryWait = r.policy, time.Nanosecond
	_, err := image.Fetch(t.Context(), q, &memory{})
	wantCode(t, err, image.CodeBusy)
}

// TestSignedHostileMirror: what a mirror can do to hold the device costs it little time.
func TestSignedHostileMirror(t *testing.T) {
	r := newRelease(t)
	b := content(1000)
	sha256, sha512, _ := r.sign(t, b)
	drip := func(w http.ResponseWriter, r *http.Request) {
		for {
			if _, err := w.Write([]byte{'-'}); err != nil {
				return
			}
			w.(http.Flusher).Flush()
			time.Sleep(time.Second)
		}
	}
	for name, test := range map[string]struct {
		signature string
		bad       http.HandlerFunc
		most      time.Duration
	}{
		"drips":               {sha256, drip, time.Minute},
		"drips-after-another": {sha512, drip, 6 * time.Second},
		"endless": {sha256, func(w http.ResponseWriter, r *http.Request) {
			for n := 0; ; n += 64 << 10 {
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					return
				}
				if n > 4<<20 {
					t.Error("megabytes were read")
					return
				}
			}
		}, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				network := &pipes{server: make(chan net.Conn), closed: make(chan struct{})}
				mux := http.NewServeMux()
				mux.HandleFunc("/bad.img.sig", test.bad)
				mux.Handle("/", &site{files: map[string]string{"/good.img": string(b), "/good.img.sig": test.signature}})
				server := &http.Server{Handler: mux}
				go server.Serve(network)
				defer server.Shutdown(context.Background())
				q := request(b, "http://mirror.example/bad.img", "http://mirror.example/good.img")
				if test.signature == sha512 {
					q.URIs[0], q.URIs[1] = q.URIs[1], q.URIs[0]
				}
				q.Network, q.Signature = network, r.policy
				started := time.Now()
				_, err := image.Fetch(t.Context(), q, &memory{})
				wantCode(t, err, "")
				if took := time.Since(started); took > test.most {
					t.Errorf("took %v, want at most %v", took, test.most)
				}
			})
		})
	}
}

// TestSignedNextProcess: another process goes on with the hash that the signature is over, and only with that.
func TestSignedNextProcess(t *testing.T) {
	r := newRelease(t)
	b := content(1 << 20)
	sha256, sha512, mini := r.sign(t, b)
	_, wrong512, _ := r.sign(t, b[1:])
	const goesOn = "bytes=524288-"
	for name, test := range map[string]struct {
		before, after map[string]string // signatures
		asked         string            // range of the second process
		code          reason.Code
	}{
		"sha512":                {map[string]string{".sig": sha512}, map[string]string{".sig": sha512}, goesOn, ""},
		"minisign":              {map[string]string{".minisig": mini}, map[string]string{".minisig": mini}, goesOn, ""},
		"both":                  {map[string]string{".sig": sha512, ".minisig": mini}, map[string]string{".sig": sha512, ".minisig": mini}, goesOn, ""},
		"sha256":                {map[string]string{".sig": sha256}, map[string]string{".sig": sha256}, goesOn, ""},
		"another-hash":          {map[string]string{".sig": sha512}, map[string]string{".minisig": mini}, "", ""},
		"one-more":              {map[string]string{".sig": sha512}, map[string]string{".sig": sha512, ".minisig": mini}, goesOn, ""},
		"one-less":              {map[string]string{".sig": sha512, ".minisig": mini}, map[string]string{".minisig": mini}, "", ""},
		"none-before":           {nil, map[string]string{".sig": sha512}, "", ""},
		"settled-by-sha256-now": {map[string]string{".sig": sha512}, map[string]string{".sig": sha256}, "", ""},
		"wrong-now":             {map[string]string{".sig": sha512}, map[string]string{".sig": wrong512}, goesOn, signature.CodeMismatch},
	} {
		t.Run(name, func(t *testing.T) {
			store, d, second := checkpoints(t), new(disk), false
			var ranges []string
			mux := http.NewServeMux()
			mux.HandleFunc("/a.img", func(w http.ResponseWriter, r *http.Request) {
				if !second {
					cutting(file(b, `"v1"`), 1<<19)(w, r)
					return
				}
				ranges = append(ranges, r.Header.Get("Range"))
				file(b, `"v1"`)(w, r)
			})
			mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
				files := test.before
				if second {
					files = test.after
				}
				if data, ok := files[strings.TrimPrefix(r.URL.Path, "/a.img")]; ok {
					fmt.Fprint(w, data)
					return
				}
				http.NotFound(w, r)
			})
			q := request(b, serve(t, mux.ServeHTTP)+"/a.img")
			q.Checkpoints = store
			if test.before != nil {
				q.Signature = r.policy
			}
			interruptAtBreak(t, q, d)
			d.reopen()
			second, q.Signature = true, r.policy
			_, err := image.Fetch(t.Context(), q, d)
			wantCode(t, err, test.code)
			if diff := cmp.Diff([]string{test.asked}, ranges); diff != "" {
				t.Error(diff)
			}
			if test.code == "" && string(d.content) != string(b) {
				t.Error("wrong bytes")
			}
		})
	}
}

// interruptAtBreak fetches until the connection breaks, and is stopped in an orderly way then.
func interruptAtBreak(t *testing.T, q image.Request, d *disk) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	q.Progress = func(p image.Progress) {
		if p.Bytes > 0 {
			cancel()
		}
	}
	_, err := image.Fetch(ctx, q, d)
	wantCode(t, err, reason.Cancelled)
}

func TestSignedRemovableStorage(t *testing.T) {
	r := newRelease(t)
	b := content(1000)
	_, sha512, _ := r.sign(t, b)
	stick := t.TempDir()
	if err := errors.Join(os.WriteFile(filepath.Join(stick, "a b.img"), b, 0o600), os.WriteFile(filepath.Join(stick, "bare.img"), b, 0o600),
		os.WriteFile(filepath.Join(stick, "a b.img.sig"), []byte(sha512), 0o600), os.Mkdir(filepath.Join(stick, "odd.img.sig"), 0o700)); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(stick)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for uri, code := range map[string]reason.Code{
		"file:a%20b.img":    "",
		"file:///a%20b.img": "",
		"file:bare.img":     signature.CodeMissing,
		"file:odd.img":      image.CodeUnreachable,
	} {
		q := request(b, uri)
		q.Files, q.Signature = root.FS(), r.policy
		_, err := image.Fetch(t.Context(), q, &memory{})
		if got, _ := reason.Of(err); got != code {
			t.Errorf("%s: %v, want %q", uri, err, code)
		}
	}
}

// TestSignedCostsNothingOtherwise: nobody is asked for signatures when none is wanted.
func TestSignedCostsNothingOtherwise(t *testing.T) {
	b := content(sha512.Size)
	s := &site{files: map[string]string{"/a.img": string(b)}}
	if _, err := image.Fetch(t.Context(), request(b, serve(t, s.ServeHTTP)+"/a.img"), &memory{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"/a.img"}, s.asked); diff != "" {
		t.Error(diff)
	}
}
