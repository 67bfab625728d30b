package main

import (
	"encoding/base64"
	"strings"
	"time"

	"github.com/xpu-sztp/ztp/artifacts/internal/opensslpki"
)

const (
	redirect   = `{"ietf-sztp-conveyed-info:redirect-information":`
	onboarding = `{"ietf-sztp-conveyed-info:onboarding-information":`
	sha256     = "ba:ec:cf:a5:67:82:b4:10:77:c6:67:a6:22:ab:7d:50:04:a7:8b:8f:0e:db:02:8b:f4:75:55:fb:c1:13:b2:33"
)

func (p *pki) anchor() string {
	return base64.StdEncoding.EncodeToString(p.Certificates([]*opensslpki.Entity{p.root}))
}

// conveyedJSON follows RFC 8572 §6.2 and the ways to break RFC 7951.
func (p *pki) conveyedJSON() map[string]string {
	return map[string]string{
		"redirect": redirect + `{"bootstrap-server":[{"address":"sztp1.example.com","port":8443,"trust-anchor":"` + p.anchor() +
			`"},{"address":"2001:db8::7"},{"address":"192.0.2.1","port":1}]}}`,
		"onboarding": onboarding + `{"boot-image":{"os-name":"VendorOS","os-version":"17.2R1.6","download-uri":["https://a.example/i","ftp://b/i"],` +
			`"image-verification":[{"hash-algorithm":"ietf-sztp-conveyed-info:sha-256","hash-value":"` + sha256 + `"}]},` +
			`"pre-configuration-script":"YQ==","configuration-handling":"merge","configuration":"PGEvPg==","post-configuration-script":"Yg=="}}`,
		"onboarding-empty":         onboarding + `{}}`,
		"redirect-without-servers": redirect + `{"bootstrap-server":[]}}`,
		"redirect-port-zero":       redirect + `{"bootstrap-server":[{"address":"a","port":0}]}}`,
		"redirect-port-text":       redirect + `{"bootstrap-server":[{"address":"a","port":"443"}]}}`,
		"redirect-port-exponent":   redirect + `{"bootstrap-server":[{"address":"a","port":4.43e2}]}}`,
		"redirect-address-twice":   redirect + `{"bootstrap-server":[{"address":"a"},{"address":"a"}]}}`,
		"redirect-address-zone":    redirect + `{"bootstrap-server":[{"address":"fe80::1%eth0"}]}}`,
		"both":                     redirect[:len(redirect)-1] + `:{},` + onboarding[1:] + `{}}`,
		"member-twice":             onboarding + `{"configuration":"YQ==","configuration":"Yg==","configuration-handling":"merge"}}`,
		"member-twice-escaped":     onboarding + `{"configuration":"YQ==","configur\u0061tion":"Yg=="}}`,
		"member-in-capitals":       onboarding + `{"Configuration":"YQ=="}}`,
		"member-unknown":           onboarding + `{"x":[]}}`,
		"lenient-unknown":          onboarding + `{"x":[{}],"configuration":"YQ==","configuration-handling":"replace"}}`,
		"lenient-qualified":        onboarding + `{"ietf-sztp-conveyed-info:configuration":"YQ==","configuration-handling":"merge"}}`,
		"lenient-base64-lines":     onboarding + `{"pre-configuration-script":"YWFh\r\nYQ=="}}`,
		"handling-without":         onboarding + `{"configuration-handling":"merge"}}`,
		"base64-unpadded":          onboarding + `{"pre-configuration-script":"YQ"}}`,
		"base64-loose-bits":        onboarding + `{"pre-configuration-script":"YR=="}}`,
		"base64-url":               onboarding + `{"pre-configuration-script":"_-8="}}`,
		"trailing":                 onboarding + `{}}{}`,
		"byte-order-mark":          "\ufeff" + onboarding + `{}}`,
		"surrogate-alone":          onboarding + `{"configuration-handling":"\ud800"}}`,
		"not-utf8":                 onboarding + "{\"configuration\":\"\xff\"}}",
		"control-character":        onboarding + "{\"configuration\":\"\x00\"}}",
		"nested":                   strings.Repeat(`{"a":[`, 40),
		"number-long":              redirect + strings.Repeat("1", 400) + `}`,
		"null":                     onboarding + `null}`,
		"empty":                    "",
	}
}

// conveyedXML is the same in XML.
func (p *pki) conveyedXML() map[string]string {
	const space = ` xmlns="urn:ietf:params:xml:ns:yang:ietf-sztp-conveyed-info"`
	onboarding := func(inside string) string {
		return "<onboarding-information" + space + ">" + inside + "</onboarding-information>"
	}
	redirect := func(inside string) string {
		return "<redirect-information" + space + ">" + inside + "</redirect-information>"
	}
	return map[string]string{
		"redirect": `<?xml version="1.0" encoding="UTF-8"?>` + redirect("<bootstrap-server><address>sztp1.example.com</address><port>8443</port><trust-anchor>"+
			p.anchor()+"</trust-anchor></bootstrap-server><bootstrap-server><address>2001:db8::7</address></bootstrap-server>"),
		"onboarding": onboarding("<boot-image><os-name>VendorOS</os-name><os-version>17.2R1.6</os-version><download-uri>https://a.example/i</download-uri>" +
			`<image-verification><hash-algorithm xmlns:x="urn:ietf:params:xml:ns:yang:ietf-sztp-conveyed-info">x:sha-256</hash-algorithm><hash-value>` +
			sha256 + "</hash-value></image-verification></boot-image><pre-configuration-script>YQ==</pre-configuration-script>" +
			"<configuration-handling>merge</configuration-handling><configuration>YQ==</configuration>"),
		"prefixed":            `<c:onboarding-information xmlns:c="urn:ietf:params:xml:ns:yang:ietf-sztp-conveyed-info"><c:configuration/></c:onboarding-information>`,
		"namespace-missing":   "<onboarding-information/>",
		"namespace-other":     `<onboarding-information xmlns="urn:x"/>`,
		"entity-declared":     `<!DOCTYPE a [<!ENTITY e "x">]>` + onboarding("<configuration>&e;</configuration>"),
		"entity-external":     `<!DOCTYPE a SYSTEM "file:///etc/passwd">` + onboarding(""),
		"entity-unknown":      onboarding("<configuration>&nbsp;</configuration>"),
		"entity-character":    onboarding("<configuration>&#x59;&#81;==</configuration>"),
		"character-data":      onboarding("<configuration><![CDATA[YQ==]]></configuration>"),
		"comment-inside-leaf": onboarding("<configuration>YQ<!-- -->==</configuration>"),
		"leaf-twice":          onboarding("<configuration>YQ==</configuration><configuration>Yg==</configuration>"),
		"leaf-with-element":   onboarding("<configuration><a/></configuration>"),
		"text-in-container":   onboarding("text"),
		"attributes":          onboarding(`<configuration a="b">YQ==</configuration>`),
		"lenient-unknown":     onboarding(`<x a="b"><y/></x><post-configuration-script>YQ==</post-configuration-script>`),
		"other-encoding":      `<?xml version="1.0" encoding="ISO-8859-1"?>` + onboarding(""),
		"instruction":         onboarding("<?php x?>"),
		"nested":              strings.Repeat("<a>", 40),
		"two-roots":           redirect("") + redirect(""),
		"not-closed":          "<onboarding-information" + space,
	}
}

// vouchers follows RFC 8366 §5.1, with what others send.
func (p *pki) vouchers() map[string]string {
	now := p.root.Certificate.NotBefore
	pinned := base64.StdEncoding.EncodeToString(p.root.Certificate.Raw)
	with := func(created time.Time, more string) string {
		return `{"ietf-voucher:voucher":{"created-on":"` + stamp(created) + `","serial-number":"AC-000123","pinned-domain-cert":"` + pinned + `"` + more + `}}`
	}
	const verified = `,"assertion":"verified"`
	return map[string]string{
		"verified":                     with(now, verified+`,"expires-on":"9999-12-31T23:59:59Z"`),
		"logged-with-nonce":            with(now, `,"assertion":"logged","nonce":"MTIzNDU2Nzg="`),
		"nonce-short":                  with(now, verified+`,"nonce":"MQ=="`),
		"nonce-and-expiry":             with(now, verified+`,"nonce":"MTIzNDU2Nzg=","expires-on":"2030-01-01T00:00:00Z"`),
		"issuer-key-identifier":        with(now, verified+`,"idevid-issuer":"AQIDBAUGBwgJCgsMDQ4PEBESExQ="`),
		"issuer-octet-string":          with(now, verified+`,"idevid-issuer":"BBQBAgMEBQYHCAkKCwwNDg8QERITFA=="`),
		"issuer-extension":             with(now, verified+`,"idevid-issuer":"MBaAFAECAwQFBgcICQoLDA0ODxAREhMU"`),
		"revocation-true":              with(now, verified+`,"domain-cert-revocation-checks":true,"last-renewal-date":"2030-01-01T00:00:00Z"`),
		"revocation-false-as-text":     with(now, verified+`,"domain-cert-revocation-checks":"false"`),
		"lenient-leaves-of-successors": with(now, verified+`,"est-domain":"https://e","additional-configuration":"https://a","x":{}`),
		"lenient-without-assertion":    with(now, ""),
		"assertion-unknown":            with(now, `,"assertion":"certain"`),
		"expires-before-created":       with(now, verified+`,"expires-on":"2000-01-01T00:00:00Z"`),
		"date-with-offset":             `{"ietf-voucher:voucher":{"created-on":"2025-01-01T00:00:00.123456789+14:00"}}`,
		"date-leap-second":             `{"ietf-voucher:voucher":{"created-on":"2016-12-31T23:59:60Z"}}`,
		"pinned-not-a-certificate":     `{"ietf-voucher:voucher":{"created-on":"2025-01-01T00:00:00Z","assertion":"verified","serial-number":"x","pinned-domain-cert":"MAA="}}`,
		"request":                      `{"ietf-voucher-request:voucher":{"created-on":"2025-01-01T00:00:00Z"}}`,
	}
}
