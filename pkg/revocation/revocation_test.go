package revocation_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/artifacts/revinfo"
	"github.com/xpu-sztp/ztp/pkg/revocation"
)

// network finds every name at loopback, where the test's servers are, and remembers what was asked of it.
type network struct {
	names []string
	dials []string
}

func (n *network) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	n.names = append(n.names, host)
	if host == "nowhere.example" {
		return nil, errors.New("no such host")
	}
	return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
}

func (n *network) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	n.dials = append(n.dials, address)
	return new(net.Dialer).DialContext(ctx, network, address)
}

var der = []byte{0x30, 3, 2, 1, 1}

func answers(body []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.Write(body) }
}

func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func lists(urls ...string) artifacts.StatusRequest {
	return artifacts.StatusRequest{Subject: "CN=x", CRLURLs: urls}
}

func fetch(t *testing.T, wanted ...artifacts.StatusRequest) (artifacts.Status, []revocation.Attempt) {
	t.Helper()
	return new(revocation.Fetcher).Fetch(t.Context(), revocation.Request{Wanted: wanted, Network: &network{}})
}

// TestRequests looks at what goes over the wire: nothing about the device.
func TestRequests(t *testing.T) {
	type seen struct {
		Method, Path, Body string
		Header             http.Header
	}
	var got []seen
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = append(got, seen{r.Method, r.URL.String(), string(body), r.Header})
		http.SetCookie(w, &http.Cookie{Name: "tracked", Value: "yes"})
		w.Write(der)
	}))
	status, attempts := fetch(t,
		artifacts.StatusRequest{Subject: "CN=owner", OCSPURLs: []string{url + "/ocsp"}, OCSPRequest: []byte("request"), CRLURLs: []string{url + "/unused"}},
		lists(url+"/a.crl?x=y"), lists(url+"/a.crl?x=y"))
	identity := []string{"identity"}
	want := []seen{
		{"POST", "/ocsp", "request", http.Header{"Accept-Encoding": identity, "Content-Length": {"7"},
			"Content-Type": {"application/ocsp-request"}, "Accept": {"application/ocsp-response"}}},
		{"GET", "/a.crl?x=y", "", http.Header{"Accept-Encoding": identity}},
	}
	for i := range got {
		delete(got[i].Header, "Connection") // one request a connection
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(artifacts.Status{CRLs: [][]byte{der}, OCSPResponses: [][]byte{der}}, status); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]revocation.Attempt{
		{Subject: "CN=owner", URL: url + "/ocsp", OCSP: true, Bytes: len(der)}, {Subject: "CN=x", URL: url + "/a.crl?x=y", Bytes: len(der)},
	}, attempts); diff != "" {
		t.Error(diff)
	}
}

// TestHTTPS fetches from a server whose certificate means nothing to anyone: what it sends is signed by itself.
func TestHTTPS(t *testing.T) {
	s := httptest.NewTLSServer(answers(der))
	defer s.Close()
	if status, attempts := fetch(t, lists(s.URL)); len(status.CRLs) != 1 {
		t.Error(attempts)
	}
}

// TestNextPlace has every place fail in its way until one answers.
func TestNextPlace(t *testing.T) {
	closed := httptest.NewServer(nil)
	closed.Close()
	large := append(bytes.Clone(der), make([]byte, revinfo.MaxListBytes)...)
	good := serve(t, answers(der))
	for name, bad := range map[string]string{
		"refused":         closed.URL,
		"no-such-name":    "http://nowhere.example/x",
		"404":             serve(t, http.NotFoundHandler()),
		"html":            serve(t, answers([]byte("<html>Please log in</html>"))),
		"empty":           serve(t, answers(nil)),
		"oversized":       serve(t, answers(large)),
		"ldap":            "ldap://directory.example/cn=x",
		"credentials":     "http://user:secret@directory.example/",
		"not-a-url":       "http://[::1",
		"not-http":        strings.Replace(good, "http:", "https:", 1),
		"loop":            serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", http.StatusFound) })),
		"redirect-scheme": serve(t, http.RedirectHandler("file:///etc/shadow", http.StatusFound)),
		"redirect-secret": serve(t, http.RedirectHandler(strings.Replace(good, "http://", "http://user:secret@", 1), http.StatusFound)),
		"breaks-off": serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			w.Write(der)
		})),
	} {
		t.Run(name, func(t *testing.T) {
			status, attempts := fetch(t, lists(bad, good))
			if diff := cmp.Diff(artifacts.Status{CRLs: [][]byte{der}}, status); diff != "" {
				t.Error(diff)
			}
			if len(attempts) != 2 || attempts[0].Err == nil || attempts[0].Bytes != 0 || attempts[1].Err != nil {
				t.Fatalf("attempts %+v", attempts)
			}
			if text := attempts[0].String(); !strings.HasPrefix(text, "revocation list for CN=x from "+bad+": ") {
				t.Errorf("said %q", text)
			}
		})
	}
	t.Run("list-of-a-responder-is-no-fallback-here", func(t *testing.T) {
		status, _ := fetch(t, artifacts.StatusRequest{OCSPURLs: []string{closed.URL}, OCSPRequest: der, CRLURLs: []string{good}})
		if diff := cmp.Diff(artifacts.Status{}, status); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("response-larger-than-a-response", func(t *testing.T) {
		status, _ := fetch(t, artifacts.StatusRequest{OCSPURLs: []string{serve(t, answers(large[:revinfo.MaxResponseBytes+1]))}, OCSPRequest: der})
		if len(status.OCSPResponses) != 0 {
			t.Error("accepted")
		}
	})
}

func TestRedirect(t *testing.T) {
	good := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Referer") != "" {
			t.Error("tells where it came from")
		}
		w.Write(der)
	}))
	if status, attempts := fetch(t, lists(serve(t, http.RedirectHandler(good, http.StatusFound)))); len(status.CRLs) != 1 {
		t.Error(attempts)
	}
	endless := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", good)
		w.WriteHeader(http.StatusFound)
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	f := revocation.Fetcher{Timeout: 5 * time.Second}
	if status, attempts := f.Fetch(t.Context(), revocation.Request{Wanted: []artifacts.StatusRequest{lists(endless)}, Network: &network{}}); len(status.CRLs) != 1 {
		t.Error("a redirect without an end was read: ", attempts)
	}
	var body string
	posted := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		body = r.Method + " " + string(b)
		w.Write(der)
	}))
	ocsp := artifacts.StatusRequest{OCSPURLs: []string{serve(t, http.RedirectHandler(posted, http.StatusTemporaryRedirect))}, OCSPRequest: []byte("q")}
	if _, attempts := fetch(t, ocsp); body != "POST q" {
		t.Errorf("after a redirect %q, %+v", body, attempts)
	}
}

// TestRefusedAddresses has a name, a literal and a redirect lead to an address that must not be connected to.
func TestRefusedAddresses(t *testing.T) {
	local := serve(t, answers(der))
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(local, "http://"))
	for name, url := range map[string]string{
		"name": "http://local.example:" + port, "literal": local, "mapped": "http://[::ffff:127.0.0.1]:" + port,
	} {
		t.Run(name, func(t *testing.T) {
			n := new(network)
			status, attempts := new(revocation.Fetcher).Fetch(t.Context(), revocation.Request{Wanted: []artifacts.StatusRequest{lists(url)},
				Network: n, Refuse: func(a netip.Addr) bool { return a.Unmap().IsLoopback() }})
			if len(n.dials) != 0 || len(status.CRLs) != 0 || len(attempts) != 1 || attempts[0].Err == nil {
				t.Errorf("connected to %v, %+v", n.dials, attempts)
			}
		})
	}
	t.Run("redirect", func(t *testing.T) {
		away := serve(t, http.RedirectHandler("http://local.example:"+port, http.StatusFound))
		n := new(network)
		refused := 0
		_, attempts := new(revocation.Fetcher).Fetch(t.Context(), revocation.Request{Wanted: []artifacts.StatusRequest{lists(away)},
			Network: n, Refuse: func(netip.Addr) bool { refused++; return refused > 1 }})
		if len(n.dials) != 1 || attempts[0].Err == nil {
			t.Errorf("connected to %v, %+v", n.dials, attempts)
		}
	})
}

// TestBounds has more places than are asked, which send more than is kept.
func TestBounds(t *testing.T) {
	asked := 0
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		w.Write(append(bytes.Clone(der), make([]byte, 5<<20)...))
	}))
	var wanted []artifacts.StatusRequest
	for i := range 40 {
		wanted = append(wanted, lists(fmt.Sprintf("%s/%d", url, i)))
	}
	status, attempts := fetch(t, wanted...)
	if asked != 16 || len(attempts) != 16 || len(status.CRLs) != 3 {
		t.Errorf("%d requests, %d attempts, %d lists", asked, len(attempts), len(status.CRLs))
	}
}

// stuck is a network whose servers accept connections and then say nothing, or something every now and then.
type stuck struct {
	network
	drip bool
}

func (s *stuck) DialContext(context.Context, string, string) (net.Conn, error) {
	near, far := net.Pipe()
	go func() {
		defer far.Close()
		io.ReadAtLeast(far, make([]byte, 16), 16)
		if !s.drip {
			io.Copy(io.Discard, far)
			return
		}
		go io.Copy(io.Discard, far)
		for text := "HTTP/1.1 200 OK\r\n\r\n0"; ; text = "0" {
			if _, err := io.WriteString(far, text); err != nil {
				return
			}
			<-time.After(time.Second)
		}
	}()
	return near, nil
}

func TestSlowServers(t *testing.T) {
	for name, drip := range map[string]bool{"silent": false, "dripping": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var wanted []artifacts.StatusRequest
				for i := range 12 {
					wanted = append(wanted, lists(fmt.Sprintf("http://slow.example/%d", i)))
				}
				began := time.Now()
				f := revocation.Fetcher{Timeout: 20 * time.Second, Total: 50 * time.Second}
				_, attempts := f.Fetch(t.Context(), revocation.Request{Wanted: wanted, Network: &stuck{drip: drip}})
				if took := time.Since(began); took > time.Minute || len(attempts) != 3 {
					t.Errorf("%d attempts took %v", len(attempts), took)
				}
				for _, a := range attempts {
					if a.Err == nil || a.Err.Error() != "no whole answer in time" {
						t.Errorf("ended with %v", a.Err)
					}
				}
				<-time.After(2 * time.Second) // the servers notice
				synctest.Wait()
			})
		})
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	stopped := errors.New("stopped")
	cancel(stopped)
	n := new(network)
	if _, attempts := new(revocation.Fetcher).Fetch(ctx, revocation.Request{Wanted: []artifacts.StatusRequest{lists("http://x.example/")}, Network: n}); len(attempts)+len(n.names) != 0 {
		t.Errorf("attempts %+v", attempts)
	}
}

// TestLongErrors has servers answer with what errors quote.
func TestLongErrors(t *testing.T) {
	for name, answer := range map[string]string{
		"status":   strings.Repeat("\x1b", 60<<10) + "\r\n\r\n",
		"location": "HTTP/1.1 302 Found\r\nLocation: http://[" + strings.Repeat("x", 60<<10) + "\r\n\r\n",
		"header":   "HTTP/1.1 200 OK\r\n" + strings.Repeat("y\x01", 30<<10) + "\r\n\r\n",
		"length":   "HTTP/1.1 200 OK\r\nContent-Length: " + strings.Repeat("z", 60<<10) + "\r\n\r\n",
		"encoding": "HTTP/1.1 200 OK\r\nTransfer-Encoding: " + strings.Repeat("z", 60<<10) + "\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			_, attempts := new(revocation.Fetcher).Fetch(t.Context(), revocation.Request{
				Wanted: []artifacts.StatusRequest{lists("http://liar.example/")}, Network: liar(answer)})
			if text := attempts[0].Err.Error(); len(text) > 1000 || strings.ContainsRune(text, 0x1b) {
				t.Errorf("%d bytes: %.200q", len(text), text)
			}
		})
	}
}

// liar answers every connection with this.
type liar string

func (liar) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil
}

func (l liar) DialContext(context.Context, string, string) (net.Conn, error) {
	near, far := net.Pipe()
	go func() {
		defer far.Close()
		go io.Copy(io.Discard, far)
		io.WriteString(far, string(l))
	}()
	return near, nil
}
