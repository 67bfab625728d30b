package restconf_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/pkg/progress"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/restconf"
)

const (
	typeJSON = "application/yang-data+json"
	typeXML  = "application/yang-data+xml"
	inputXML = `<input xmlns="urn:ietf:params:xml:ns:yang:ietf-sztp-bootstrap-server">`
)

func outputXML(inner string) string {
	return `<output xmlns="urn:ietf:params:xml:ns:yang:ietf-sztp-bootstrap-server">` + inner + `</output>`
}

// onlyXML is a bootstrap server that knows XML alone; refuse is how it receives JSON.
func onlyXML(refuse http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPost && r.Header.Get("Content-Type") != typeXML:
			refuse(w, r)
		case r.URL.Path == pathGBD:
			w.Header().Set("Content-Type", typeXML)
			io.WriteString(w, outputXML("<reporting-level>verbose</reporting-level><conveyed-information>"+ci+"</conveyed-information>"))
		default:
			good(w, r)
		}
	}
}

// TestXMLOnly has servers that know XML alone, by every way to say so: data, and reports, arrive in XML (R7-04).
func TestXMLOnly(t *testing.T) {
	const malformed = `<errors xmlns="urn:ietf:params:xml:ns:yang:ietf-restconf"><error><error-type>protocol</error-type>` +
		`<error-tag>malformed-message</error-tag></error></errors>`
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	for name, tt := range map[string]struct {
		refuse   http.HandlerFunc
		requests int // for the first data
	}{
		"unsupported-type": {status(http.StatusUnsupportedMediaType), 2},
		"not-acceptable":   {status(http.StatusNotAcceptable), 2},
		"malformed": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", typeXML)
			w.WriteHeader(http.StatusBadRequest)
			io.WriteString(w, malformed)
		}, 2},
		"answered": {func(w http.ResponseWriter, r *http.Request) {
			r.Header.Set("Content-Type", typeXML)
			onlyXML(nil)(w, r)
		}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, onlyXML(tt.refuse))
			s := connect(t, l.authenticated())
			out, err := s.GetBootstrappingData(t.Context(), restconf.Input{HWModel: "X<1>&", Nonce: make([]byte, 16)})
			if err != nil {
				t.Fatal(err)
			}
			if string(out.Bundle.ConveyedInformation) != "conveyed information" || out.Level != progress.Verbose || len(out.Warnings) > 0 {
				t.Errorf("%+v", out)
			}
			report := progress.Report{Type: progress.BootstrapComplete, Message: "a]]>b\nc",
				SSHHostKeys:      []progress.SSHHostKey{{Algorithm: "ssh-ed25519", KeyData: []byte("k1")}, {Algorithm: "ssh-rsa", KeyData: []byte("k2")}},
				TrustAnchorCerts: [][]byte{[]byte("cms")}}
			if err := s.ReportProgress(t.Context(), report); err != nil {
				t.Fatal(err)
			}
			wantData := []string{inputXML + `<hw-model>X&lt;1&gt;&amp;</hw-model><nonce>AAAAAAAAAAAAAAAAAAAAAA==</nonce></input>`}
			got := l.bodies(pathGBD)
			if len(got) != tt.requests {
				t.Fatalf("%d requests", len(got))
			}
			if tt.requests == 1 {
				wantData = got // in JSON
			}
			if diff := cmp.Diff(wantData, got[tt.requests-1:]); diff != "" {
				t.Error(diff)
			}
			want := inputXML + `<progress-type>bootstrap-complete</progress-type><message>a]]&gt;b&#xA;c</message><ssh-host-keys>` +
				`<ssh-host-key><algorithm>ssh-ed25519</algorithm><key-data>azE=</key-data></ssh-host-key>` +
				`<ssh-host-key><algorithm>ssh-rsa</algorithm><key-data>azI=</key-data></ssh-host-key></ssh-host-keys>` +
				`<trust-anchor-certs><trust-anchor-cert>Y21z</trust-anchor-cert></trust-anchor-certs></input>`
			if diff := cmp.Diff([]string{want}, l.bodies(pathRP)); diff != "" {
				t.Error(diff)
			}
			if l.signer.n.Load() != 1 {
				t.Errorf("%d signatures", l.signer.n.Load())
			}
		})
	}
}

// TestXMLReportsFirst has a server that takes data requests in JSON and reports in XML.
func TestXMLReportsFirst(t *testing.T) {
	l := newLab(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == pathRP && r.Header.Get("Content-Type") != typeXML {
			w.WriteHeader(http.StatusUnsupportedMediaType)
			return
		}
		good(w, r)
	})
	s := connect(t, l.authenticated())
	if _, err := s.GetBootstrappingData(t.Context(), restconf.Input{}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.ReportProgress(t.Context(), progress.Report{Type: progress.BootstrapInitiated}); err != nil {
			t.Fatal(err)
		}
	}
	if got := l.bodies(pathRP); len(got) != 3 || !strings.HasPrefix(got[2], "<input") {
		t.Errorf("%q", got)
	}
}

// TestXMLToProvisionalServers: asking again must not tell more (R5.3-11, R9-06).
func TestXMLToProvisionalServers(t *testing.T) {
	l := newLab(t, onlyXML(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotAcceptable) }))
	s := connect(t, l.options)
	in := restconf.Input{HWModel: "X100", OSName: "AcmeOS", OSVersion: "4.2.0", Nonce: make([]byte, 16)}
	if _, err := s.GetBootstrappingData(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	last := l.requests[len(l.requests)-1]
	last.Header.Del("Content-Length")
	want := seen{"POST", pathGBD, http.Header{"Accept": {typeXML}, "Accept-Encoding": {"identity"}, "Content-Type": {typeXML}},
		inputXML + `<signed-data-preferred></signed-data-preferred><nonce>AAAAAAAAAAAAAAAAAAAAAA==</nonce></input>`}
	if diff := cmp.Diff(want, last); diff != "" {
		t.Error(diff)
	}
	wantCode(t, s.ReportProgress(t.Context(), progress.Report{Type: progress.BootstrapInitiated}), restconf.CodeNotAuthenticated)
}

// TestXMLOutput holds answers in XML against the rules for JSON, and against those of XML.
func TestXMLOutput(t *testing.T) {
	const hello = `<conveyed-information>aGVsbG8gd29ybGQ=</conveyed-information>`
	for _, tt := range []struct {
		name, mediaType, body string
		strict, lenient       reason.Code
		warnings              int // when accepted in strict mode, else in lenient mode
	}{
		{"plain", typeXML, outputXML(hello), "", "", 0},
		{"declared, indented", typeXML + "; charset=utf-8", "<?xml version='1.0' encoding='UTF-8'?>\n" + outputXML("\n  "+hello+"\n"), "", "", 0},
		{"prefixed", typeXML, `<s:output xmlns:s="urn:ietf:params:xml:ns:yang:ietf-sztp-bootstrap-server"><s:conveyed-information>aGVsbG8gd29ybGQ=</s:conveyed-information></s:output>`, "", "", 0},
		{"another module's element", typeXML, outputXML(hello + `<colour xmlns="urn:acme">red</colour>`), "", "", 1},
		{"dot instead of dash", "application/yang.data+xml", outputXML(hello), "bad-reply", "", 1},
		{"any XML", "text/xml", outputXML(hello), "bad-reply", "", 1},
		{"base64 folded", typeXML, outputXML("<conveyed-information>\naGVsbG8g\nd29ybGQ=</conveyed-information>"), "bad-reply", "", 1},
		{"unknown element", typeXML, outputXML(hello + "<colour/>"), "bad-reply", "", 1},
		{"unknown attribute", typeXML, outputXML(`<conveyed-information colour="red">aGVsbG8gd29ybGQ=</conveyed-information>`), "bad-reply", "", 1},
		{"no namespace", typeXML, "<output>" + hello + "</output>", "bad-reply", "bad-reply", 0},
		{"another namespace", typeXML, strings.Replace(outputXML(hello), "bootstrap-server", "conveyed-info", 1), "bad-reply", "bad-reply", 0},
		{"twice", typeXML, outputXML(hello + hello), "bad-reply", "bad-reply", 0},
		{"two roots", typeXML, outputXML(hello) + outputXML(hello), "bad-reply", "bad-reply", 0},
		{"comment inside", typeXML, outputXML("<conveyed-information>aGVs<!-- -->bG8=</conveyed-information>"), "bad-reply", "bad-reply", 0},
		{"document type", typeXML, "<!DOCTYPE output>" + outputXML(hello), "bad-reply", "bad-reply", 0},
		{"entity", typeXML, `<!DOCTYPE output [<!ENTITY e "aGVsbG8gd29ybGQ=">]>` + outputXML("<conveyed-information>&e;</conveyed-information>"), "bad-reply", "bad-reply", 0},
		{"deep", typeXML, outputXML(hello + strings.Repeat("<a>", 1000) + strings.Repeat("</a>", 1000)), "bad-reply", "bad-reply", 0},
		{"certificate without voucher", typeXML, outputXML(hello + "<owner-certificate>eA==</owner-certificate>"), "bad-reply", "bad-reply", 0},
		{"empty", typeXML, "", "bad-reply", "bad-reply", 0},
		{"JSON", typeXML, output(`"conveyed-information":"aGVsbG8gd29ybGQ="`), "bad-reply", "bad-reply", 0},
		{"XHTML", "application/xhtml+xml", outputXML(hello), "not-a-bootstrap-server", "not-a-bootstrap-server", 0},
	} {
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
				wantCode(t, err, want)
				if err == nil && (string(out.Bundle.ConveyedInformation) != "hello world" || len(out.Warnings) != tt.warnings) {
					t.Errorf("lenient %v: %q, %q", lenient, out.Bundle.ConveyedInformation, out.Warnings)
				}
			}
		})
	}
}

// TestXMLErrors: what a server says in XML is passed on, and only XML that refuses the encoding is a reason to ask again.
func TestXMLErrors(t *testing.T) {
	const body = `<errors xmlns="urn:ietf:params:xml:ns:yang:ietf-restconf"><error><error-type>application</error-type>` +
		`<error-tag>invalid-value</error-tag><error-message xml:lang="en">no data&#x9b; here</error-message>` +
		`<error-info><x xmlns="urn:acme">1</x></error-info></error></errors>`
	for status, requests := range map[int]int{http.StatusBadRequest: 2, http.StatusNotFound: 1, http.StatusInternalServerError: 1} {
		l := newLab(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != pathGBD {
				http.NotFound(w, r)
				return
			}
			w.Header().Set("Content-Type", typeXML)
			w.WriteHeader(status)
			io.WriteString(w, body)
		})
		_, err := connect(t, l.options).GetBootstrappingData(t.Context(), restconf.Input{})
		if err == nil || !strings.HasSuffix(err.Error(), "no data here (invalid-value)") {
			t.Errorf("%d: %v", status, err)
		}
		if n := len(l.bodies(pathGBD)); n != requests {
			t.Errorf("%d: %d requests", status, n)
		}
	}
}
