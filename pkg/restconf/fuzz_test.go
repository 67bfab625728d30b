package restconf

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/xpu-sztp/ztp/pkg/http1"
)

// Whatever a host-meta document says, the RESTCONF root stays on the origin, and it is what a second, unbounded reader
// of the same document finds.
func FuzzRoot(f *testing.F) {
	for _, seed := range []string{
		`<XRD xmlns='http://docs.oasis-open.org/ns/xri/xrd-1.0'><Link rel='restconf' href='/top/rc'/></XRD>`,
		`<XRD><Link rel='restconf' href='//evil.example/x'/></XRD>`,
		`<XRD><Link rel='restconf' href='https://bs1.example.net:8443/../a b'/></XRD>`,
		`<XRD><Link rel="restconf" href="?q"/></XRD>`,
		`<XRD><!-- c --><Link rel='x'><Link rel='restconf' href='/x'/></Link></XRD>`,
	} {
		f.Add([]byte(seed))
	}
	base := &url.URL{Scheme: "https", Host: "bs1.example.net:8443", Path: "/.well-known/host-meta"}
	f.Fuzz(func(t *testing.T, document []byte) {
		rep := &reply{status: http.StatusOK, header: http1.Header{}, mediaType: mediaXRD, body: document}
		root, err := rootFrom(rep, base)
		if err != nil {
			return
		}
		if root.Scheme != base.Scheme || root.Host != base.Host || root.User != nil || root.RawQuery != "" || !strings.HasPrefix(root.Path, "/") {
			t.Fatalf("root %q leaves the origin", root)
		}
		target := root.JoinPath("operations", module+":report-progress")
		if !strings.HasPrefix(target.RequestURI(), "/") || strings.ContainsFunc(target.RequestURI(), func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			t.Fatalf("request target %q", target.RequestURI())
		}
		var xrd struct {
			XMLName xml.Name
			Link    []struct {
				Rel  string `xml:"rel,attr"`
				Href string `xml:"href,attr"`
			}
		}
		if err := xml.Unmarshal(document, &xrd); err != nil || xrd.XMLName.Local != "XRD" {
			t.Fatalf("accepted what encoding/xml reads as %v, %v", xrd.XMLName, err)
		}
	})
}

// What is accepted is also what encoding/json reads, without the duplicates and case folding that it tolerates, and it
// survives encoding.
func FuzzOutput(f *testing.F) {
	for _, seed := range []string{
		`{"ietf-sztp-bootstrap-server:output":{"conveyed-information":"aGVsbG8="}}`,
		`{"ietf-sztp-bootstrap-server:output":{"reporting-level":"verbose","conveyed-information":"aGVs\nbG8=","owner-certificate":"eA==","ownership-voucher":"eA=="}}`,
		`{"ietf-sztp-bootstrap-server:output":{"conveyed\u002dinformation":"a\/++","x:y":[{"}":"\\\""},1e9,null]}}`,
		` { "output" : [ ] , "b":"\"" } `,
	} {
		f.Add([]byte(seed), true)
		f.Add([]byte(seed), false)
	}
	f.Fuzz(func(t *testing.T, document []byte, lenient bool) {
		out, err := decodeOutput(document, inJSON, lenient)
		if err != nil {
			return
		}
		var oracle map[string]map[string]any
		decoder := json.NewDecoder(bytes.NewReader(document))
		decoder.UseNumber() // some are too large for a float64
		if err := decoder.Decode(&oracle); err != nil {
			t.Fatalf("accepted what encoding/json refuses: %v", err)
		}
		b := out.Bundle
		for name, got := range map[string][]byte{"conveyed-information": b.ConveyedInformation,
			"owner-certificate": b.OwnerCertificate, "ownership-voucher": b.OwnershipVoucher} {
			encoded, present := oracle[module+":output"][name].(string)
			if present != (got != nil) {
				t.Fatalf("%s: present %v, decoded %v", name, present, got != nil)
			}
			want, err := base64.StdEncoding.DecodeString(strings.NewReplacer(" ", "", "\t", "").Replace(encoded))
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%s: %x, want %x (%v)", name, got, want, err)
			}
		}
	})
}

// RESTCONF errors are never more than a few printable lines.
func FuzzErrors(f *testing.F) {
	f.Add([]byte(`{"ietf-restconf:errors":{"error":[{"error-type":"application","error-tag":"invalid-value","error-message":"no \u0007 data"}]}}`))
	f.Add([]byte(`{"ietf-restconf:errors":{"error":[{},{"error-tag":1},[],{"error-path":"/x","error-message":"m"}]}}`))
	f.Add([]byte(`<errors xmlns="urn:ietf:params:xml:ns:yang:ietf-restconf"><error><error-tag>invalid-value</error-tag><error-message xml:lang="en">no data</error-message></error></errors>`))
	f.Fuzz(func(t *testing.T, document []byte) {
		list := append(decodeErrors(document, inJSON), decodeErrors(document, inXML)...)
		if len(list) > maxErrorEntries {
			t.Fatalf("%d entries", len(list))
		}
		for _, r := range list {
			for _, s := range []string{r.Type, r.Tag, r.AppTag, r.Path, r.Message} {
				if !utf8.ValidString(s) || utf8.RuneCountInString(s) > maxErrorText+1 ||
					strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
					t.Fatalf("unprintable or overlong %q", s)
				}
			}
		}
	})
}

// The two encodings of one answer are decoded alike, and neither says what the other cannot.
func FuzzEncodings(f *testing.F) {
	f.Add("verbose", []byte("ci"), []byte("oc"), []byte("ov"), "x", uint8(15), false)
	f.Add("min<imal> ", []byte{}, []byte(nil), []byte{0}, " \t", uint8(3), true)
	f.Fuzz(func(t *testing.T, level string, ci, oc, ov []byte, tail string, present uint8, lenient bool) {
		leaves := map[string]any{}
		for i, leaf := range []struct {
			name  string
			value any
		}{{"reporting-level", level}, {"conveyed-information", ci}, {"owner-certificate", oc}, {"ownership-voucher", ov},
			{"unknown", tail}, {"conveyed-information", base64.StdEncoding.EncodeToString(ci) + tail}} {
			if present&(1<<i) != 0 {
				leaves[leaf.name] = leaf.value
			}
		}
		document, err := json.Marshal(map[string]any{module + ":output": leaves})
		if err != nil {
			t.Fatal(err)
		}
		encoded, err := inXML.encode(document)
		if err != nil {
			t.Fatal(err)
		}
		fromJSON, errJSON := decodeOutput(document, inJSON, lenient)
		fromXML, errXML := decodeOutput(encoded, inXML, lenient)
		// XML has no control characters, and no such thing as null.
		if unequal := strings.ContainsFunc(level+tail, func(r rune) bool { return r < ' ' || r == 0xfffe || r == 0xffff }); unequal {
			return
		}
		if ci == nil || oc == nil || ov == nil {
			return
		}
		if strings.TrimSpace(level) != level {
			return // judged by the rules of XML: white space around an enumeration is not part of it
		}
		if (errJSON == nil) != (errXML == nil) {
			t.Fatalf("JSON: %v, XML: %v\n%s\n%s", errJSON, errXML, document, encoded)
		}
		if errJSON == nil && !reflect.DeepEqual(fromJSON, fromXML) {
			t.Fatalf("%+v\n%+v", fromJSON, fromXML)
		}
	})
}

// What is accepted in XML names each artifact once, and has it as base64.
func FuzzOutputXML(f *testing.F) {
	for _, seed := range []string{
		`<output xmlns="urn:ietf:params:xml:ns:yang:ietf-sztp-bootstrap-server"><conveyed-information>aGVsbG8=</conveyed-information></output>`,
		`<s:output xmlns:s="urn:ietf:params:xml:ns:yang:ietf-sztp-bootstrap-server"><s:conveyed-information> aGVs<![CDATA[bG8=]]></s:conveyed-information><x/></s:output>`,
		`<!DOCTYPE output [<!ENTITY e "x">]><output>&e;</output>`,
	} {
		f.Add([]byte(seed), true)
		f.Add([]byte(seed), false)
	}
	f.Fuzz(func(t *testing.T, document []byte, lenient bool) {
		out, err := decodeOutput(document, inXML, lenient)
		if err != nil {
			return
		}
		var oracle struct {
			XMLName xml.Name
			CI      []string `xml:"urn:ietf:params:xml:ns:yang:ietf-sztp-bootstrap-server conveyed-information"`
		}
		if err := xml.Unmarshal(bytes.TrimPrefix(document, []byte("\ufeff")), &oracle); err != nil || oracle.XMLName.Local != "output" {
			t.Fatalf("accepted what encoding/xml reads as %v, %v", oracle.XMLName, err)
		}
		if len(oracle.CI) != 1 {
			t.Fatalf("%d elements conveyed-information", len(oracle.CI))
		}
		want, err := base64.StdEncoding.DecodeString(strings.NewReplacer(" ", "", "\t", "").Replace(oracle.CI[0]))
		if err != nil || !bytes.Equal(out.Bundle.ConveyedInformation, want) {
			t.Fatalf("%x, want %x (%v)", out.Bundle.ConveyedInformation, want, err)
		}
	})
}
