package restconf

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
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
		rep := &reply{status: http.StatusOK, header: http.Header{}, mediaType: mediaXRD, body: document}
		root, err := rootFrom(rep, base)
		if err != nil {
			return
		}
		if root.Scheme != base.Scheme || root.Host != base.Host || root.User != nil || root.RawQuery != "" || !strings.HasPrefix(root.Path, "/") {
			t.Fatalf("root %q leaves the origin", root)
		}
		target := rpc(root, "report-progress", nil).url
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
		out, err := decodeOutput(document, lenient)
		if err != nil {
			return
		}
		var oracle map[string]map[string]any
		if err := json.Unmarshal(document, &oracle); err != nil {
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
	f.Fuzz(func(t *testing.T, document []byte) {
		list := decodeErrors(document)
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

// members agrees with encoding/json about every object without duplicates.
func FuzzMembers(f *testing.F) {
	for _, seed := range []string{`{}`, `{"a":1,"b":[{"c":"}]"}],"d":"\\"}`, ` {"a" :true , "\"":{} } `, `{"a":"\\\"x"}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, document []byte) {
		if checkDocument(document) != nil {
			return
		}
		list, err := members(document)
		if err != nil {
			return
		}
		var want map[string]json.RawMessage
		if err := json.Unmarshal(document, &want); err != nil || len(want) != len(list) {
			t.Fatalf("%d members, want %d (%v)", len(list), len(want), err)
		}
		for _, m := range list {
			if !bytes.Equal(m.value, want[m.name]) {
				t.Fatalf("%q: %q, want %q", m.name, m.value, want[m.name])
			}
		}
	})
}
