package restconf_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/pkg/progress"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/restconf"
)

var nonce = []byte{16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47}

const nonce64 = `EBESExQVFhcYGRobHB0eHyAhIiMkJSYnKCkqKywtLi8=`

// What a server is told depends on whether it was authenticated, not on what the caller would like to say (R5.3-11,
// R9-06, R7-06).
func TestInput(t *testing.T) {
	everything := restconf.Input{SignedDataPreferred: true, HWModel: "X100", OSName: "AcmeOS", OSVersion: "4.2.0", Nonce: nonce}
	withoutNonce := everything
	withoutNonce.Nonce = nil
	tests := []struct {
		name          string
		authenticated bool
		in            restconf.Input
		want          string
	}{
		{"provisional", false, withoutNonce, `{"signed-data-preferred":[null]}`},
		{"provisional with nonce", false, everything, `{"signed-data-preferred":[null],"nonce":"` + nonce64 + `"}`},
		{"provisional, nothing wanted", false, restconf.Input{}, `{"signed-data-preferred":[null]}`},
		{"authenticated", true, restconf.Input{HWModel: "X100", OSName: "AcmeOS", OSVersion: "4.2.0", Nonce: nonce},
			`{"hw-model":"X100","os-name":"AcmeOS","os-version":"4.2.0","nonce":"` + nonce64 + `"}`},
		{"authenticated, signed data preferred", true, restconf.Input{SignedDataPreferred: true}, `{"signed-data-preferred":[null]}`},
		{"shortest nonce", true, restconf.Input{Nonce: nonce[:16]}, `{"nonce":"EBESExQVFhcYGRobHB0eHw=="}`},
		{"authenticated, nothing to say", true, restconf.Input{}, `{}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab(t, good)
			o := l.options
			if tt.authenticated {
				o = l.authenticated()
			}
			if _, err := connect(t, o).GetBootstrappingData(t.Context(), tt.in); err != nil {
				t.Fatal(err)
			}
			want := []seen{
				{"GET", "/.well-known/host-meta", http.Header{"Accept": {"application/xrd+xml"}, "Accept-Encoding": {"identity"}}, ""},
				{"POST", pathGBD, http.Header{"Accept": {"application/yang-data+json"}, "Accept-Encoding": {"identity"},
					"Content-Type": {"application/yang-data+json"}}, `{"ietf-sztp-bootstrap-server:input":` + tt.want + `}`},
			}
			for i := range l.requests {
				l.requests[i].Header.Del("Content-Length")
			}
			if diff := cmp.Diff(want, l.requests); diff != "" {
				t.Error(diff)
			}
		})
	}
	t.Run("nonce of a wrong length", func(t *testing.T) {
		l := newLab(t, good)
		for _, n := range []int{1, 15, 33} {
			_, err := connect(t, l.options).GetBootstrappingData(t.Context(), restconf.Input{Nonce: make([]byte, n)})
			wantCode(t, err, reason.Internal)
		}
		if len(l.paths()) > 0 {
			t.Errorf("requests %v", l.paths())
		}
	})
}

func TestRootDiscovery(t *testing.T) {
	xrd := func(link string) string {
		return `<XRD xmlns='http://docs.oasis-open.org/ns/xri/xrd-1.0'>` + link + `</XRD>`
	}
	const top, fallback = "/top/rc", "/restconf"
	tests := []struct {
		name, body string
		root       string
		warned     bool
	}{
		{"relative", xrd(`<Link rel='restconf' href='/top/rc'/>`), top, false},
		{"trailing slash", xrd(`<Link rel="restconf" href="/top/rc/"></Link>`), top, false},
		{"other links before", `<?xml version="1.0" encoding="UTF-8"?>` + xrd(`<Subject>x</Subject><Link rel='lrdd' href='/no'/><Link rel='restconf' href=' /top/rc '/>`), top, false},
		{"absolute on the same origin", xrd(`<Link rel='restconf' href='https://ORIGIN/top/rc'/>`), top, false},
		{"at the origin", xrd(`<Link rel='restconf' href='/'/>`), "", false},
		{"escaped", xrd(`<Link rel='restconf' href='/top%2Frc'/>`), "/top%2Frc", false},
		{"another host", xrd(`<Link rel='restconf' href='https://evil.example/top/rc'/>`), fallback, true},
		{"another host by network path", xrd(`<Link rel='restconf' href='//evil.example/top/rc'/>`), fallback, true},
		{"another port", xrd(`<Link rel='restconf' href='https://bs1.example.net:1/top/rc'/>`), fallback, true},
		{"without TLS", xrd(`<Link rel='restconf' href='http://ORIGIN/top/rc'/>`), fallback, true},
		{"credentials", xrd(`<Link rel='restconf' href='https://a:b@ORIGIN/top/rc'/>`), fallback, true},
		{"query", xrd(`<Link rel='restconf' href='/top?rc'/>`), fallback, true},
		{"no href", xrd(`<Link rel='restconf'/>`), fallback, true},
		{"overlong", xrd(`<Link rel='restconf' href='/` + strings.Repeat("x", 2000) + `'/>`), fallback, true},
		{"no link", xrd(``), fallback, true},
		{"link too deep", xrd(`<a><Link rel='restconf' href='/top/rc'/></a>`), fallback, true},
		{"another document", `<html><Link rel='restconf' href='/top/rc'/></html>`, fallback, true},
		{"broken off", `<XRD><Link rel='restconf' href='/top/rc'/>`, fallback, true},
		{"nested without end", strings.Repeat("<XRD>", 10000), fallback, true},
		{"entity", `<!DOCTYPE XRD [<!ENTITY e "/top/rc">]>` + xrd(`<Link rel='restconf' href='&e;'/>`), fallback, true},
		{"JSON", `{"links":[]}`, fallback, true},
		{"empty", "", fallback, true},
		{"endless", xrd(strings.Repeat("<Link/>", 1<<20)), fallback, true},
		{"huge", xrd(`<Link rel='restconf' href='/top/rc'/>` + strings.Repeat(" ", 100<<10)), fallback, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/.well-known/host-meta" {
					w.Header().Set("Content-Type", "application/xrd+xml")
					io.WriteString(w, strings.ReplaceAll(tt.body, "ORIGIN", r.Host))
					return
				}
				r.URL.Path = pathGBD
				good(w, r)
			})
			out, err := connect(t, l.options).GetBootstrappingData(t.Context(), restconf.Input{})
			if err != nil {
				t.Fatal(err)
			}
			want := tt.root + "/operations/ietf-sztp-bootstrap-server:get-bootstrapping-data"
			if got := l.requests[1].Path; got != want {
				t.Errorf("asked %s, want %s", got, want)
			}
			if warned := len(out.Warnings) > 0; warned != tt.warned {
				t.Errorf("warnings %q", out.Warnings)
			}
		})
	}
}

func TestRootDiscoveryReplies(t *testing.T) {
	redirect := func(to string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/moved" {
				http.Redirect(w, r, to, http.StatusMovedPermanently)
				return
			}
			w.Header().Set("Content-Type", "application/xrd+xml; charset=utf-8")
			io.WriteString(w, `<XRD><Link rel="restconf" href="/top/rc"/></XRD>`)
		}
	}
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(code); io.WriteString(w, "<html>") }
	}
	const link = `<XRD><Link rel="restconf" href="/top/rc"/></XRD>`
	serve := func(code int, mediaType, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", mediaType)
			w.WriteHeader(code)
			io.WriteString(w, body)
		}
	}
	tests := []struct {
		name   string
		meta   http.HandlerFunc
		root   string
		warned bool
	}{
		{"404", status(404), "/restconf", false},
		{"403", status(403), "/restconf", true},
		{"500", status(500), "/restconf", true},
		{"HTML", status(200), "/restconf", true},
		{"a link in an error", serve(500, "application/xrd+xml", link), "/restconf", true},
		{"a link in what is not there", serve(404, "application/xrd+xml", link), "/restconf", false},
		{"a link in HTML", serve(200, "text/html", link), "/restconf", true},
		{"a link", serve(200, "application/xrd+xml", link), "/top/rc", false},
		{"two links", serve(200, "text/xml", strings.Replace(link, "<Link", `<Link rel="restconf" href="/first"/><Link`, 1)), "/first", false},
		{"no link but what looks like one", serve(200, "text/xml", strings.Replace(link, "Link", "Lynx", 1)), "/restconf", true},
		{"compressed", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			redirect("")(w, r)
		}, "/restconf", true},
		{"redirect on the same origin", redirect("/moved"), "/top/rc", false},
		{"redirect to another origin", redirect("https://evil.example/moved"), "/restconf", true},
		{"redirect for ever", redirect("/.well-known/host-meta"), "/restconf", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodGet {
					tt.meta(w, r)
					return
				}
				r.URL.Path = pathGBD
				good(w, r)
			})
			out, err := connect(t, l.options).GetBootstrappingData(t.Context(), restconf.Input{})
			if err != nil {
				t.Fatal(err)
			}
			paths := l.paths()
			if got, want := paths[len(paths)-1], "POST "+tt.root+strings.TrimPrefix(pathGBD, "/restconf"); got != want {
				t.Errorf("asked %s, want %s", got, want)
			}
			if warned := len(out.Warnings) > 0; warned != tt.warned {
				t.Errorf("warnings %q", out.Warnings)
			}
			if len(paths) > 5 {
				t.Errorf("%d requests", len(paths))
			}
		})
	}
}

// answer serves body as the reply to get-bootstrapping-data.
func answer(mediaType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != pathGBD {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", mediaType)
		io.WriteString(w, body)
	}
}

func output(members string) string { return `{"ietf-sztp-bootstrap-server:output":{` + members + `}}` }

func TestOutput(t *testing.T) {
	const json = "application/yang-data+json"
	const aGVsbG8 = `"conveyed-information":"aGVsbG8gd29ybGQ="`
	tests := []struct {
		name            string
		mediaType, body string
		strict          string // "" or the reason code
		lenient         string
		level           progress.Level
		warnings        int // when accepted in strict mode, else in lenient mode
	}{
		{"minimal by default", json, output(aGVsbG8), "", "", progress.Minimal, 0},
		{"minimal", json, output(`"reporting-level":"minimal",` + aGVsbG8), "", "", progress.Minimal, 0},
		{"verbose", json + "; charset=utf-8", output(`"reporting-level":"verbose",` + aGVsbG8), "", "", progress.Verbose, 0},
		{"white space", json, " \n" + `{ "ietf-sztp-bootstrap-server:output" : { ` + aGVsbG8 + "\t}\r\n} ", "", "", progress.Minimal, 0},
		{"escapes", json, output(`"conveyed\u002dinformation":"aGVsbG8\u0067d29ybGQ="`), "", "", progress.Minimal, 0},
		{"unknown level", json, output(`"reporting-level":"chatty",` + aGVsbG8), "", "", progress.Minimal, 1},
		{"another module's member", json, output(`"acme:colour":{"a":["}",1,{}]},` + aGVsbG8), "", "", progress.Minimal, 1},

		{"no module name", json, `{"output":{` + aGVsbG8 + `}}`, "bad-reply", "bad-reply", 0, 0},
		{"another module's output", json, `{"acme:output":{` + aGVsbG8 + `}}`, "bad-reply", "bad-reply", 0, 0},
		{"two outputs", json, `{"ietf-sztp-bootstrap-server:output":{` + aGVsbG8 + `},"x":1}`, "bad-reply", "bad-reply", 0, 0},
		{"no conveyed information", json, output(`"reporting-level":"minimal"`), "bad-reply", "bad-reply", 0, 0},
		{"empty conveyed information", json, output(`"conveyed-information":""`), "bad-reply", "bad-reply", 0, 0},
		{"conveyed information is null", json, output(`"conveyed-information":null`), "bad-reply", "bad-reply", 0, 0},
		{"conveyed information is a list", json, output(`"conveyed-information":["aGVsbG8gd29ybGQ="]`), "bad-reply", "bad-reply", 0, 0},
		{"certificate without voucher", json, output(aGVsbG8 + `,"owner-certificate":"eA=="`), "bad-reply", "bad-reply", 0, 0},
		{"voucher without certificate", json, output(aGVsbG8 + `,"ownership-voucher":"eA=="`), "bad-reply", "bad-reply", 0, 0},
		{"twice the same member", json, output(aGVsbG8 + "," + aGVsbG8), "bad-reply", "bad-reply", 0, 0},
		{"twice, once escaped", json, output(aGVsbG8 + `,"conveyed\u002dinformation":"eA=="`), "bad-reply", "bad-reply", 0, 0},
		{"other case", json, output(`"Conveyed-Information":"eA=="`), "bad-reply", "bad-reply", 0, 0},
		{"level is a number", json, output(`"reporting-level":1,` + aGVsbG8), "bad-reply", "bad-reply", 0, 0},
		{"base64url", json, output(`"conveyed-information":"_-8="`), "bad-reply", "bad-reply", 0, 0},
		{"base64 without padding", json, output(`"conveyed-information":"aGVsbG8gd29ybGQ"`), "bad-reply", "bad-reply", 0, 0},
		{"base64 with loose bits", json, output(`"conveyed-information":"eB=="`), "bad-reply", "bad-reply", 0, 0},
		{"base64 folded", json, output(`"conveyed-information":"aGVsbG8g\nd29ybGQ=\n"`), "bad-reply", "", 0, 1},
		{"base64 with blanks", json, output(`"conveyed-information":"aGVs bG8g\td29ybGQ="`), "bad-reply", "", 0, 1},
		{"unknown member", json, output(aGVsbG8 + `,"colour":"red"`), "bad-reply", "", 0, 1},
		{"unknown member of this module", json, output(aGVsbG8 + `,"ietf-sztp-bootstrap-server:colour":"red"`), "bad-reply", "", 0, 1},
		{"many of other modules", json, output(aGVsbG8 + members(40)), "", "", progress.Minimal, 16},
		{"members without end", json, output(aGVsbG8 + members(100)), "bad-reply", "bad-reply", 0, 0},
		{"trailing data", json, output(aGVsbG8) + "{}", "bad-reply", "bad-reply", 0, 0},
		{"broken off", json, output(aGVsbG8)[:60], "bad-reply", "bad-reply", 0, 0},
		{"a list", json, "[]", "bad-reply", "bad-reply", 0, 0},
		{"a list inside", json, `{"ietf-sztp-bootstrap-server:output":[]}`, "bad-reply", "bad-reply", 0, 0},
		{"deeply nested", json, strings.Repeat("[", 100000), "bad-reply", "bad-reply", 0, 0},
		{"not UTF-8", json, output(aGVsbG8 + ",\"a:\xff\":1"), "bad-reply", "bad-reply", 0, 0},
		{"empty", json, "", "bad-reply", "bad-reply", 0, 0},

		{"plain JSON type", "application/json", output(aGVsbG8), "bad-reply", "", 0, 1},
		{"no type", "", output(aGVsbG8), "bad-reply", "", 0, 1},
		{"XML", "application/yang-data+xml", "<output/>", "bad-reply", "bad-reply", 0, 0},
		{"no type, sniffed as text", "text/plain; charset=utf-8", output(aGVsbG8), "not-a-bootstrap-server", "", 0, 1},
		{"XML, sniffed as text", "text/plain; charset=utf-8", outputXML("<conveyed-information>aGVsbG8gd29ybGQ=</conveyed-information>"),
			"not-a-bootstrap-server", "", 0, 1},
		{"text", "text/plain", "hello", "not-a-bootstrap-server", "not-a-bootstrap-server", 0, 0},
		{"captive portal", "text/html; charset=utf-8", "<html>", "not-a-bootstrap-server", "not-a-bootstrap-server", 0, 0},
		{"some other type", "application/octet-stream", output(aGVsbG8), "not-a-bootstrap-server", "not-a-bootstrap-server", 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab(t, answer(tt.mediaType, tt.body))
			for _, lenient := range []bool{false, true} {
				want := tt.strict
				if lenient {
					want = tt.lenient
				}
				o := l.options
				o.Lenient = lenient
				out, err := connect(t, o).GetBootstrappingData(t.Context(), restconf.Input{})
				wantCode(t, err, reason.Code(want))
				if err != nil {
					continue
				}
				if string(out.Bundle.ConveyedInformation) != "hello world" || out.Level != tt.level || len(out.Warnings) != tt.warnings {
					t.Errorf("lenient %v: %q, %v, %q", lenient, out.Bundle.ConveyedInformation, out.Level, out.Warnings)
				}
			}
		})
	}
}

// members are n members that another module may have added.
func members(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"acme:m%d":%d`, i, i)
	}
	return b.String()
}

func TestOutputArtifacts(t *testing.T) {
	big := bytes.Repeat([]byte("information "), 1<<20)
	l := newLab(t, answer("application/yang-data+json", output(`"ownership-voucher":"b3Y=","owner-certificate":"b2M=","conveyed-information":"`+
		base64.StdEncoding.EncodeToString(big)+`"`)))
	out, err := connect(t, l.options).GetBootstrappingData(t.Context(), restconf.Input{})
	if err != nil {
		t.Fatal(err)
	}
	b := out.Bundle
	if !bytes.Equal(b.ConveyedInformation, big) || string(b.OwnerCertificate) != "oc" || string(b.OwnershipVoucher) != "ov" {
		t.Errorf("%d bytes, %q, %q", len(b.ConveyedInformation), b.OwnerCertificate, b.OwnershipVoucher)
	}
}

// Everything a server can answer instead of data has a code, the session survives, and what the server says is passed on
// (R7-15, R7-16, R7-17, R7-18).
func TestErrorReplies(t *testing.T) {
	const json = "application/yang-data+json"
	entry := func(members string) string { return `{"ietf-restconf:errors":{"error":[{` + members + `}]}}` }
	header := func(pairs ...string) http.Header {
		h := http.Header{}
		for i := 0; i < len(pairs); i += 2 {
			h.Set(pairs[i], pairs[i+1])
		}
		return h
	}
	tests := []struct {
		name   string
		status int
		header http.Header
		body   string
		code   reason.Code
		says   string
		after  time.Duration
	}{
		{"access denied", 401, header("Content-Type", json), entry(`"error-type":"protocol","error-tag":"access-denied"`), "http-unauthorized", "access-denied", 0},
		{"forbidden without body", 403, nil, "", "http-unauthorized", "HTTP 403", 0},
		{"no data", 404, header("Content-Type", json), entry(`"error-type":"application","error-tag":"invalid-value","error-message":"no data for this device"`),
			"no-data-for-device", "no data for this device (invalid-value)", 0},
		{"not found in HTML", 404, header("Content-Type", "text/html"), "<html>", "no-data-for-device", "an HTML page", 0},
		{"malformed message", 400, header("Content-Type", json), entry(`"error-type":"protocol","error-tag":"malformed-message"`), "request-refused", "malformed-message", 0},
		{"nginx does not accept the certificate", 400, header("Content-Type", "text/html"),
			"<html><head><title>400 The SSL certificate error</title></head></html>", "client-certificate-refused", "HTTP 400", 0},
		{"nginx, its own code 495", 495, nil, "", "client-certificate-refused", "HTTP 495", 0},
		{"nginx, its own code 496", 496, nil, "", "client-certificate-refused", "HTTP 496", 0},
		{"words about certificates in text", 400, header("Content-Type", "text/plain"), "SSL certificate", "request-refused", "HTTP 400", 0},
		{"a page about certificates", 404, header("Content-Type", "text/html"), "SSL certificate", "no-data-for-device", "HTTP 404", 0},
		{"multiple choices", 300, nil, "", "not-a-bootstrap-server", "HTTP 300", 0},
		{"some other page", 400, header("Content-Type", "text/html"), "<html>", "request-refused", "an HTML page", 0},
		{"not allowed", 405, nil, "", "request-refused", "HTTP 405", 0},
		{"not acceptable", 406, nil, "", "request-refused", "HTTP 406", 0},
		{"conflict", 409, nil, "", "request-refused", "HTTP 409", 0},
		{"too large", 413, nil, "", "request-refused", "HTTP 413", 0},
		{"unsupported type", 415, nil, "", "request-refused", "HTTP 415", 0},
		{"teapot", 418, nil, "", "request-refused", "HTTP 418", 0},
		{"failed, text", 500, header("Content-Type", "text/plain"), "database\x1b[31m is\n down", "server-error", "database [31m is down", 0},
		{"failed, empty", 500, nil, "", "server-error", "HTTP 500", 0},
		{"failed, HTML", 502, header("Content-Type", "text/html"), "<html>" + strings.Repeat("x", 1<<20), "server-error", "an HTML page", 0},
		{"failed, malformed JSON", 500, header("Content-Type", json), `{"ietf-restconf:errors":{"error":[{"error-tag":"a","error-tag":"b"},3]}`, "server-error", "HTTP 500", 0},
		{"failed, JSON of another kind", 500, header("Content-Type", "application/json"), `{"detail":"x"}`, "server-error", "HTTP 500", 0},
		{"busy, seconds", 503, header("Retry-After", "30"), "", "server-error", "HTTP 503, come back in 30s", 30 * time.Second},
		{"busy, date", 503, header("Retry-After", "Sun, 22 Nov 2026 10:02:00 GMT", "Date", "Sun, 22 Nov 2026 10:00:30 GMT"), "", "server-error", "HTTP 503", 90 * time.Second},
		{"busy, past date", 503, header("Retry-After", "Sun, 22 Nov 2026 10:00:00 GMT", "Date", "Sun, 22 Nov 2026 10:00:30 GMT"), "", "server-error", "HTTP 503", 0},
		{"busy for ever", 503, header("Retry-After", "999999999"), "", "server-error", "HTTP 503", 24 * time.Hour},
		{"busy for longer than anybody can count", 503, header("Retry-After", strings.Repeat("9", 1000)), "", "server-error", "HTTP 503", 24 * time.Hour},
		{"busy until the end of days", 503, header("Retry-After", "Fri, 31 Dec 9999 23:59:59 GMT", "Date", "Sun, 22 Nov 2026 10:00:30 GMT"), "", "server-error", "HTTP 503", 24 * time.Hour},
		{"busy, a date of an unknown clock", 503, header("Retry-After", "Sun, 22 Nov 2026 10:02:00 GMT", "Date", "noon"), "", "server-error", "HTTP 503", 0},
		{"too many requests", 429, header("Retry-After", "45"), "", "request-refused", "HTTP 429, come back in 45s", 45 * time.Second},
		{"not registered yet", 404, header("Retry-After", "600"), "", "no-data-for-device", "HTTP 404, come back in 10m0s", 10 * time.Minute},
		{"redirect with a wait", 307, header("Location", "/elsewhere", "Retry-After", "600"), "", "not-a-bootstrap-server", "HTTP 307)", 0},
		{"busy, nonsense", 503, header("Retry-After", "-5"), "", "server-error", "HTTP 503", 0},
		{"compressed error", 500, header("Content-Encoding", "gzip", "Content-Type", json), "\x1f\x8b", "server-error", "HTTP 500", 0},
		{"created", 201, nil, "", "bad-reply", "HTTP 201", 0},
		{"no content", 204, nil, "", "bad-reply", "HTTP 204", 0},
		{"redirect, same origin", 307, header("Location", "/elsewhere"), "", "not-a-bootstrap-server", "HTTP 307", 0},
		{"redirect, another origin", 302, header("Location", "https://portal.example/login?x"), "", "not-a-bootstrap-server", "to https://portal.example by HTTP", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != pathGBD {
					http.NotFound(w, r)
					return
				}
				for k, v := range tt.header {
					w.Header()[k] = v
				}
				w.WriteHeader(tt.status)
				io.WriteString(w, tt.body)
			})
			s := connect(t, l.options)
			for range 2 {
				_, err := s.GetBootstrappingData(t.Context(), restconf.Input{})
				wantCode(t, err, tt.code)
				e, ok := err.(*restconf.Error)
				if !ok || e.Status != tt.status || e.RetryAfter != tt.after {
					t.Errorf("got %#v", err)
				}
				if !strings.Contains(err.Error(), tt.says) || e.Hint() == "" {
					t.Errorf("%q (%s) does not say %q", err, e.Hint(), tt.says)
				}
			}
			want := 3
			if tt.status == http.StatusNotAcceptable || tt.status == http.StatusUnsupportedMediaType {
				want = 4 // one of them in XML
			}
			if len(l.paths()) != want || l.signer.n.Load() != 1 {
				t.Errorf("requests %v, %d signatures", l.paths(), l.signer.n.Load())
			}
		})
	}
}

func TestReplyTooLarge(t *testing.T) {
	chunk := bytes.Repeat([]byte("A"), 1<<20)
	tests := map[string]http.HandlerFunc{
		"by its header": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(33<<20))
			w.Write(chunk)
		},
		"endless": func(w http.ResponseWriter, r *http.Request) {
			for {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		},
	}
	for name, h := range tests {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/yang-data+json")
				if r.Method == http.MethodGet {
					http.NotFound(w, r)
					return
				}
				h(w, r)
			})
			_, err := connect(t, l.options).GetBootstrappingData(t.Context(), restconf.Input{})
			wantCode(t, err, restconf.CodeBadReply)
		})
	}
	t.Run("header", func(t *testing.T) {
		l := newLab(t, func(w http.ResponseWriter, r *http.Request) { w.Header().Set("X", strings.Repeat("x", 100<<10)) })
		_, err := connect(t, l.options).GetBootstrappingData(t.Context(), restconf.Input{})
		wantCode(t, err, restconf.CodeConnectionLost)
	})
	t.Run("compressed", func(t *testing.T) {
		l := newLab(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			good(w, r)
		})
		_, err := connect(t, l.options).GetBootstrappingData(t.Context(), restconf.Input{})
		wantCode(t, err, restconf.CodeBadReply)
	})
	t.Run("broken off", func(t *testing.T) {
		l := newLab(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/yang-data+json")
			w.Header().Set("Content-Length", "1000")
			io.WriteString(w, "{")
		})
		_, err := connect(t, l.options).GetBootstrappingData(t.Context(), restconf.Input{})
		wantCode(t, err, restconf.CodeConnectionLost)
	})
}
