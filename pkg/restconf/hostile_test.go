package restconf

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/xpu-sztp/ztp/pkg/http1"
	"github.com/xpu-sztp/ztp/test/hostile"
)

// hostileXRD is what a host-meta document of a megabyte can be, of which no more than maxXRD bytes are read.
func hostileXRD() map[string][]byte {
	all := map[string][]byte{
		"links":      hostile.Fill("<XRD>", "<Link/>", "", "</XRD>"),
		"nested":     hostile.Fill("", "<XRD>", "</XRD>", ""),
		"attributes": hostile.Fill("<XRD", ` a=""`, "", "/>"),
		"comments":   hostile.Fill("<XRD>", "<!---->", "", "</XRD>"),
		"entities":   hostile.Fill("<XRD>", "&lt;", "", "</XRD>"),
		"types":      hostile.Fill("", "<!DOCTYPE a>", "", "<XRD/>"),
		"long-link":  hostile.Fill("<XRD><Link rel='restconf' href='/", "a/../", "", "'/></XRD>"),
		"text":       hostile.Fill("<XRD>", "a", "", "</XRD>"),
	}
	for name, document := range all {
		all[name] = document[:maxXRD]
	}
	return all
}

func hostileReplies() map[string][]byte {
	const errors, output = `{"ietf-restconf:errors":{"error":[`, `{"ietf-sztp-bootstrap-server:output":{`
	return map[string][]byte{
		"arrays":        hostile.Fill("", "[", "]", ""),
		"objects":       hostile.Fill("", `{"a":`, "}", ""),
		"errors":        hostile.Fill(errors, "{},", "", "{}]}}"),
		"error-tags":    hostile.Fill(errors, `{"error-tag":"a","error-message":"b"},`, "", "{}]}}"),
		"long-message":  hostile.Fill(errors+`{"error-message":"`, `\u0041`, "", `"}]}}`),
		"members":       hostile.Fill(output, `"a":0,`, "", `"b":0}}`),
		"long-artifact": hostile.Fill(output+`"conveyed-information":"`, "AAAA", "", `"}}`),
		"lines":         hostile.Fill(output+`"conveyed-information":"`, `\n`, "", `"}}`),
		"long-name":     hostile.Fill(`{"`, "a", "", `":0}`),
		"white-space":   hostile.Fill("", " ", "", "{}"),
		"zeros":         hostile.Fill("[", "0,", "", "0]"),
	}
}

func decodeXRD(document []byte) {
	base := &url.URL{Scheme: "https", Host: "bs1.example.net", Path: "/.well-known/host-meta"}
	_, _ = rootFrom(&reply{status: http.StatusOK, header: http1.Header{}, mediaType: mediaXRD, body: document}, base)
}

func decodeReply(document []byte) { _, _ = decodeOutput(document, inJSON, true) }

func hostileXML() map[string][]byte {
	const root, end = `<output xmlns="` + namespaces + module + `">`, `</output>`
	return map[string][]byte{
		"elements":      hostile.Fill(root, "<a/>", "", end),
		"nested":        hostile.Fill(root, "<a>", "</a>", end),
		"attributes":    hostile.Fill("<output", ` a=""`, "", "/>"),
		"types":         hostile.Fill("", "<!DOCTYPE a>", "", root+end),
		"entities":      hostile.Fill(root+"<conveyed-information>", "&lt;", "", "</conveyed-information>"+end),
		"sections":      hostile.Fill(root+"<conveyed-information>", "<![CDATA[A]]>", "", "</conveyed-information>"+end),
		"long-artifact": hostile.Fill(root+"<conveyed-information>", "AAAA", "", "</conveyed-information>"+end),
		"levels":        hostile.Fill(root, "<reporting-level>x</reporting-level>", "", end),
	}
}

func decodeReplyXML(document []byte) { _, _ = decodeOutput(document, inXML, true) }

func decodeRefusalXML(document []byte) { _ = decodeErrors(document[:maxErrorReply], inXML) }

// decodeRefusal sees no more than what is read of a reply that is not successful.
func decodeRefusal(document []byte) { _ = decodeErrors(document[:maxErrorReply], inJSON) }

// TestHostileReplies bounds the memory for what servers reply.
func TestHostileReplies(t *testing.T) {
	t.Run("xrd", func(t *testing.T) { hostile.Check(t, hostileXRD(), decodeXRD) })
	t.Run("output", func(t *testing.T) { hostile.Check(t, hostileReplies(), decodeReply) })
	t.Run("errors", func(t *testing.T) { hostile.Check(t, hostileReplies(), decodeRefusal) })
	t.Run("output-xml", func(t *testing.T) { hostile.Check(t, hostileXML(), decodeReplyXML) })
	t.Run("errors-xml", func(t *testing.T) { hostile.Check(t, hostileXML(), decodeRefusalXML) })
}

func BenchmarkHostileReplies(b *testing.B) {
	b.Run("xrd", func(b *testing.B) { hostile.Benchmark(b, hostileXRD(), decodeXRD) })
	b.Run("output", func(b *testing.B) { hostile.Benchmark(b, hostileReplies(), decodeReply) })
	b.Run("errors", func(b *testing.B) { hostile.Benchmark(b, hostileReplies(), decodeRefusal) })
	b.Run("output-xml", func(b *testing.B) { hostile.Benchmark(b, hostileXML(), decodeReplyXML) })
}
