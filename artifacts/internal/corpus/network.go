package main

import (
	"bytes"
	"encoding/binary"
	"strings"
)

// option4 is a DHCPv4 option (RFC 2132 §2).
func option4(code byte, value ...byte) []byte {
	return append([]byte{code, byte(len(value))}, value...)
}

// offers is DHCPv4: what servers answer (RFC 2131 §2), with the options of RFC 8572 §8.1.
func offers() corpus {
	packet := func(name, file []byte, options ...[]byte) []any {
		head := make([]byte, 236)
		copy(head, []byte{2, 1, 6, 0, 1, 0, 0, 0})
		copy(head[16:], []byte{192, 0, 2, 7})
		copy(head[44:108], name)
		copy(head[108:], file)
		return []any{joined(head, []byte{0x63, 0x82, 0x53, 0x63}, bytes.Join(options, nil), []byte{255})}
	}
	ack := joined(option4(53, 5), option4(54, 192, 0, 2, 1), option4(51, 0, 0, 14, 16), option4(1, 255, 255, 255, 0), option4(3, 192, 0, 2, 1))
	list := uriList("https://sztp.example.com")
	redirect := option4(143, list...)
	return corpus{
		"ack":                   packet(nil, nil, ack, option4(6, 192, 0, 2, 1, 192, 0, 2, 2), redirect),
		"list-in-two-options":   packet(nil, nil, ack, option4(143, list[:5]...), option4(143, list[5:]...)),
		"list-truncated":        packet(nil, nil, ack, option4(143, list[:5]...)),
		"options-in-both-names": packet(append(redirect, 255), append(option4(6, 192, 0, 2, 1), 255), ack, option4(52, 3)),
		"routes":                packet(nil, nil, ack, option4(121, 24, 10, 0, 0, 192, 0, 2, 1, 0, 192, 0, 2, 1)),
		"routes-malformed":      packet(nil, nil, ack, option4(121, 33, 10, 0, 0)),
		"times-out-of-order":    packet(nil, nil, ack, option4(58, 255, 255, 255, 255), option4(59, 0, 0, 0, 1)),
		"mask-with-holes":       packet(nil, nil, ack, option4(1, 255, 0, 255, 0)),
		"option-overruns":       packet(nil, nil, ack, []byte{143, 200, 1}),
		"no-options":            packet(nil, nil),
		"nak":                   packet(nil, nil, option4(53, 6)),
		"short":                 {make([]byte, 235)},
	}
}

// option6 is a DHCPv6 option (RFC 8415 §21.1).
func option6(code uint16, parts ...[]byte) []byte {
	value := bytes.Join(parts, nil)
	head := binary.BigEndian.AppendUint16(nil, code)
	return append(binary.BigEndian.AppendUint16(head, uint16(len(value))), value...)
}

// replies is DHCPv6: what servers answer, with the option of RFC 8572 §8.2.
func replies() corpus {
	number := func(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
	address := joined([]byte{0x20, 1, 0x0d, 0xb8}, make([]byte, 11), []byte{7})
	lease := func(preferred, valid uint32) []byte { return option6(5, address, number(preferred), number(valid)) }
	reply := func(options ...[]byte) []any {
		head := []byte{7, 1, 2, 3}
		ids := joined(option6(1, []byte{0, 3, 0, 1, 2, 0, 0, 0, 0, 1}), option6(2, []byte{0, 3, 0, 1, 2, 0, 0, 0, 0, 2}))
		return []any{joined(head, ids, bytes.Join(options, nil))}
	}
	association := option6(3, number(1), number(100), number(200), lease(300, 400))
	redirect := option6(136, uriList("https://sztp.example.com", "https://[2001:db8::7]:8443"))
	return corpus{
		"reply":                 reply(association, option6(23, address), redirect),
		"two-associations":      reply(association, association, redirect),
		"list-twice":            reply(association, redirect, redirect),
		"list-empty":            reply(association, option6(136)),
		"no-address-available":  reply(option6(3, number(1), number(0), number(0), option6(13, []byte{0, 2}, []byte("none")))),
		"times-out-of-order":    reply(option6(3, number(1), number(300), number(200), lease(400, 300))),
		"times-endless":         reply(option6(3, number(1), number(^uint32(0)), number(^uint32(0)), lease(^uint32(0), ^uint32(0)))),
		"domain-names-looping":  reply(association, option6(24, []byte{0xc0, 0x00})),
		"domain-names":          reply(association, option6(24, []byte("\x07example\x03com\x00"))),
		"option-overruns":       reply(association, []byte{0, 136, 0, 200, 1}),
		"status-of-whole-reply": reply(option6(13, []byte{0, 5})),
		"header-only":           {[]byte{7, 1, 2, 3}},
	}
}

// uriList is the encoding of RFC 8572 §8.3.
func uriList(uris ...string) []byte {
	var list []byte
	for _, u := range uris {
		list = append(binary.BigEndian.AppendUint16(list, uint16(len(u))), u...)
	}
	return list
}

func serverLists() corpus {
	list := func(uris ...string) []any { return []any{uriList(uris...)} }
	return corpus{
		"names-and-addresses": list("https://sztp1.example.com", "https://192.0.2.7:8443", "https://[2001:db8::7]:8443"),
		"with-path":           list("https://sztp1.example.com/restconf?x#y"),
		"plain-http":          list("http://sztp1.example.com"),
		"user-information":    list("https://u:p@sztp1.example.com"),
		"zone":                list("https://[fe80::1%25eth0]"),
		"not-ascii":           list("https://exämple.com"),
		"control-characters":  list("https://a\r\nb\x00"),
		"port-out-of-range":   list("https://a:65536", "https://a:0", "https://a:"),
		"empty-entry":         list("", "https://a"),
		"text-without-length": {[]byte("https://sztp1.example.com")},
		"length-too-long":     {[]byte("\x00\x20https://a")},
		"length-alone":        {[]byte{0}},
		"many":                list(strings.Split(strings.Repeat("https://a ", 40)+"https://b", " ")...),
	}
}

// hostMeta is RFC 6415 as RFC 8040 §3.1 uses it.
func hostMeta() map[string]string {
	xrd := func(inside string) string {
		return `<?xml version="1.0" encoding="UTF-8"?><XRD xmlns="http://docs.oasis-open.org/ns/xri/xrd-1.0">` + inside + "</XRD>"
	}
	link := func(href string) string { return xrd(`<Link rel="restconf" href="` + href + `"/>`) }
	return map[string]string{
		"restconf":           link("/restconf"),
		"restconf-slash":     link("/top/rc/"),
		"absolute":           link("https://bs1.example.net:8443/rc"),
		"absolute-elsewhere": link("https://evil.example/rc"),
		"scheme-relative":    link("//evil.example/rc"),
		"relative":           link("rc"),
		"upwards":            link("/../../rc"),
		"escaped":            link("/%2e%2e/%00/a%2fb"),
		"control-character":  link("/a&#10;b"),
		"query":              link("/rc?x"),
		"script":             link("javascript:x"),
		"two-links":          xrd(`<Link rel="x" href="/x"/><Link rel="restconf" href="/a"/><Link rel="restconf" href="/b"/>`),
		"template":           xrd(`<Link rel="restconf" template="/{uri}"/>`),
		"link-in-link":       xrd(`<Link rel="x"><Link rel="restconf" href="/x"/></Link>`),
		"other-root":         `<x xmlns="http://docs.oasis-open.org/ns/xri/xrd-1.0"><Link rel="restconf" href="/x"/></x>`,
		"entity":             `<!DOCTYPE XRD [<!ENTITY e "/x">]>` + link("&e;"),
		"html":               "<html><body>404</body></html>",
		"nested":             strings.Repeat("<a>", 40),
	}
}

// restconfErrors is RFC 8040 §7.1, in both encodings.
func restconfErrors() map[string]string {
	list := func(entries string) string { return `{"ietf-restconf:errors":{"error":[` + entries + `]}}` }
	const all = `{"error-type":"application","error-tag":"invalid-value","error-app-tag":"x","error-path":"/a/b","error-message":"no data"}`
	const space = ` xmlns="urn:ietf:params:xml:ns:yang:ietf-restconf"`
	return map[string]string{
		"json":                    list(all),
		"json-several":            list(all + "," + all),
		"json-many":               list(strings.Repeat("{},", 40) + "{}"),
		"json-without-module":     `{"errors":{"error":[` + all + `]}}`,
		"json-terminal-escapes":   list(`{"error-tag":"\u001b[31m","error-message":"\u202e\r\n"}`),
		"json-message-long":       list(`{"error-message":"` + strings.Repeat("ä", 400) + `"}`),
		"json-other-types":        list(`{"error-tag":1,"error-message":{}},[],null,"x"`),
		"json-entry-not-in-array": `{"ietf-restconf:errors":{"error":` + all + `}}`,
		"xml": "<errors" + space + `><error><error-type>application</error-type><error-tag>invalid-value</error-tag>` +
			`<error-path xmlns:a="urn:a">/a:b</error-path><error-message xml:lang="en">no data</error-message></error></errors>`,
		"xml-several":      "<errors" + space + ">" + strings.Repeat("<error/>", 40) + "</errors>",
		"xml-entity":       `<!DOCTYPE errors [<!ENTITY e "x">]><errors` + space + "><error><error-tag>&e;</error-tag></error></errors>",
		"xml-other-space":  "<errors><error><error-tag>x</error-tag></error></errors>",
		"xml-not-closed":   "<errors" + space + "><error><error-message>",
		"html":             "<html><body><h1>502 Bad Gateway</h1></body></html>",
		"text-of-a-server": "internal error\n",
	}
}

// outputs is the answer to get-bootstrapping-data (RFC 8572 §7.1).
func outputs() map[string]string {
	output := func(inside string) string { return `{"ietf-sztp-bootstrap-server:output":{` + inside + `}}` }
	const conveyed = `"conveyed-information":"MAA="`
	return map[string]string{
		"unsigned":               output(conveyed),
		"signed":                 output(`"reporting-level":"verbose",` + conveyed + `,"owner-certificate":"MAA=","ownership-voucher":"MAA="`),
		"without-information":    output(`"reporting-level":"minimal"`),
		"level-unknown":          output(`"reporting-level":"loud",` + conveyed),
		"conveyed-twice":         output(conveyed + "," + conveyed),
		"name-escaped":           output(`"conveyed\u002dinformation":"MAA="`),
		"null":                   output(`"conveyed-information":null`),
		"lenient-base64-lines":   output(`"conveyed-information":"MA\nA="`),
		"lenient-without-module": `{"output":{` + conveyed + `}}`,
		"lenient-unknown-leaf":   output(conveyed + `,"vendor:x":[{"a":1e400}]`),
		"input-instead":          `{"ietf-sztp-bootstrap-server:input":{}}`,
		"errors-instead":         `{"ietf-restconf:errors":{"error":[]}}`,
		"trailing":               output(conveyed) + "x",
		"empty":                  "",
	}
}
