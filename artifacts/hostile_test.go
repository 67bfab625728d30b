package artifacts

import (
	"strings"
	"testing"

	"github.com/xpu-sztp/ztp/artifacts/strictjson"
	"github.com/xpu-sztp/ztp/artifacts/strictxml"
	"github.com/xpu-sztp/ztp/test/hostile"
)

// hostileJSON is what JSON of a megabyte can be.
func hostileJSON() map[string][]byte {
	const script = `{"ietf-sztp-conveyed-info:onboarding-information":{"pre-configuration-script":"`
	const uris = `{"ietf-sztp-conveyed-info:onboarding-information":{"boot-image":{"download-uri":[`
	return map[string][]byte{
		"arrays":        hostile.Fill("", "[", "]", ""),
		"objects":       hostile.Fill("", `{"a":`, "}", ""),
		"zeros":         hostile.Fill("[", "0,", "", "0]"),
		"empty-strings": hostile.Fill("[", `"",`, "", "0]"),
		"empty-objects": hostile.Fill(`{"ietf-sztp-conveyed-info:redirect-information":{"bootstrap-server":[`, "{},", "", "{}]}}"),
		"members":       hostile.Fill("{", `"a":0,`, "", `"b":0}`),
		"uris":          hostile.Fill(uris, `"http://a/",`, "", `""]}}}`),
		"long-string":   hostile.Fill(script, "YWFh", "", `"}}`),
		"long-name":     hostile.Fill(`{"`, "a", "", `":0}`),
		"escapes":       hostile.Fill(script, `\u0041`, "", `"}}`),
		"lines":         hostile.Fill(script, `\n`, "", `"}}`),
		"long-number":   hostile.Fill("", "1", "", ""),
		"white-space":   hostile.Fill("", " ", "", "{}"),
		"not-utf8":      hostile.Fill(`"`, "\xff", "", `"`),
		"open":          hostile.Fill(`{"`, "a", "", ""),
	}
}

// hostileXML is what XML of a megabyte can be.
func hostileXML() map[string][]byte {
	const root, end = `<onboarding-information xmlns="urn:ietf:params:xml:ns:yang:` + conveyedModule + `">`, `</onboarding-information>`
	const script, scriptEnd = root + "<pre-configuration-script>", "</pre-configuration-script>" + end
	return map[string][]byte{
		"elements":         hostile.Fill(root, "<a/>", "", end),
		"nested":           hostile.Fill("", "<a>", "</a>", ""),
		"nested-inside":    hostile.Fill(root, "<a>", "</a>", end),
		"attributes":       hostile.Fill("<a", ` a=""`, "", "/>"),
		"attributes-dense": hostile.Fill("<a ", `a=""`, "", "/>"),
		"declarations":     hostile.Fill("<a", ` xmlns:a="b"`, "", "/>"),
		"brackets":         hostile.Fill(`<a b="`, ">", "", `"/>`),
		"few-attributes":   hostile.Fill(root, `<a b="" c="" d="" e="" f="" g="" h="" i="" j="" k="" l="" m="" n="" o="" p="" q=""/>`, "", end),
		"long-tags":        hostile.Fill(root, "<a b='"+strings.Repeat("a", strictxml.MaxMarkup-16)+"'/>", "", end),
		"long-name":        hostile.Fill("<", "a", "", "/>"),
		"long-comment":     hostile.Fill("<!--", "a", "", "-->"),
		"comments":         hostile.Fill(root, "<!---->", "", end),
		"long-text":        hostile.Fill(script, "YWFh", "", scriptEnd),
		"lines":            hostile.Fill(script, "\r\n", "", scriptEnd),
		"entities":         hostile.Fill(script, "&lt;", "", scriptEnd),
		"characters":       hostile.Fill(script, "&#x41;", "", scriptEnd),
		"long-entity":      hostile.Fill(script+"&", "a", "", ";"+scriptEnd),
		"character-data":   hostile.Fill(script, "<![CDATA[]]>", "", scriptEnd),
		"open-data":        hostile.Fill(script+"<![CDATA[", "]", "", ""),
		"document-type":    hostile.Fill("<!DOCTYPE a [", `<!ENTITY a "b">`, "", "]>"),
		"instructions":     hostile.Fill(root, "<?a?>", "", end),
		"uris":             hostile.Fill(root+"<boot-image>", "<download-uri/>", "", "</boot-image>"+end),
		"containers":       hostile.Fill(root, "<boot-image/>", "", end),
		"white-space":      hostile.Fill(root, " ", "", end),
		"not-utf8":         hostile.Fill(script, "\xff", "", scriptEnd),
		"open":             hostile.Fill(root, "a", "", ""),
	}
}

// decoding is a decoder and what it is given.
type decoding struct {
	inputs map[string][]byte
	decode func(*decoder, []byte)
}

func decodings() map[string]decoding {
	return map[string]decoding{
		"json":    {hostileJSON(), func(d *decoder, data []byte) { d.conveyed(data, strictjson.Parse) }},
		"xml":     {hostileXML(), func(d *decoder, data []byte) { d.conveyed(data, d.parseXML) }},
		"voucher": {hostileVouchers(), func(d *decoder, data []byte) { d.voucher(data) }},
	}
}

func hostileVouchers() map[string][]byte {
	all := hostileJSON()
	all["certificate"] = hostile.Fill(`{"ietf-voucher:voucher":{"pinned-domain-cert":"`, "MIIB", "", `"}}`)
	all["unknown-leaves"] = hostile.Fill(`{"ietf-voucher:voucher":{"x":[`, "[],", "", `0]}}`)
	return all
}

// TestHostileDocuments bounds the memory for a document, decoded leniently, which reads further before it gives up. What
// people are told of it is bounded too: it goes to status, record and log.
func TestHostileDocuments(t *testing.T) {
	for name, c := range decodings() {
		t.Run(name, func(t *testing.T) {
			hostile.Check(t, c.inputs, func(data []byte) {
				d := decoder{lenient: true}
				c.decode(&d, data)
				told := strings.Join(d.warnings, "\n")
				if d.err != nil {
					told += d.err.Error()
				}
				if len(told) > 8<<10 {
					t.Errorf("%d bytes of warnings and errors: %.200s", len(told), told)
				}
			})
		})
	}
}

func BenchmarkHostileDocuments(b *testing.B) {
	for name, c := range decodings() {
		b.Run(name, func(b *testing.B) {
			hostile.Benchmark(b, c.inputs, func(data []byte) { c.decode(&decoder{lenient: true}, data) })
		})
	}
}
