package artifacts_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/artifacts/internal/opensslpki"
)

const (
	xmlNamespace = `xmlns="urn:ietf:params:xml:ns:yang:ietf-sztp-conveyed-info"`
	xmlURI       = `<download-uri>https://img1.example.net/a.bin</download-uri>`
	xmlServer    = `<bootstrap-server><address>a</address></bootstrap-server>`
	xmlSHA       = `<hash-algorithm>sha-256</hash-algorithm>`
)

var xmlValue = `<hash-value>` + strings.Trim(hash, `"`) + `</hash-value>`

func xmlOnboarding(inner string) string {
	return `<onboarding-information ` + xmlNamespace + `>` + inner + `</onboarding-information>`
}

func xmlRedirect(inner string) string {
	return `<redirect-information ` + xmlNamespace + `>` + inner + `</redirect-information>`
}

// TestXMLTwins has documents in both encodings, which must be understood alike.
func TestXMLTwins(t *testing.T) {
	w := shared()
	anchor := b64(w.Certificates(entities{w.tlsCA, w.tlsRoot}))
	server := trusted(t)
	for name, twin := range map[string]struct{ json, xml string }{
		"redirect": {
			redirectPrefix + `{"bootstrap-server":[{"address":"bs1.example.net","port":8443,"trust-anchor":"` + anchor + `"},
				{"address":"2001:db8::7"},{"address":"198.51.100.7","port":65535}]}}`,
			`<?xml version="1.0" encoding="UTF-8"?>
<!-- who to ask next -->
` + xmlRedirect(`
  <bootstrap-server>
    <address>bs1.example.net</address>
    <port>8443</port>
    <trust-anchor>`+anchor+`</trust-anchor>
  </bootstrap-server>
  <bootstrap-server><address>2001:db8::7</address></bootstrap-server>
  <bootstrap-server><port>+065535</port><address><![CDATA[198.51.100.7]]></address></bootstrap-server>
`) + "\n<!-- end -->\n",
		},
		"onboarding": {
			onboardingPrefix + `{"boot-image":{"os-name":"Acme & <sons>","os-version":" 4.3.1 ",
				"download-uri":["https://img1.example.net/a.bin?x=1&y=2","http://198.51.100.9/a.bin"],
				"image-verification":[{"hash-algorithm":"acme:sha-512","hash-value":"00"},
					{"hash-algorithm":"ietf-sztp-conveyed-info:sha-256","hash-value":` + hash + `}]},
				"configuration-handling":"merge","configuration":"YQ==","pre-configuration-script":"Yg==","post-configuration-script":"Yw=="}}`,
			// The lists are mixed with each other, which XML allows.
			`<z:onboarding-information ` + strings.Replace(xmlNamespace, "xmlns", "xmlns:z", 1) + ` xmlns:a="urn:acme:hashes">
				<z:post-configuration-script>Yw==</z:post-configuration-script>
				<z:boot-image>
					<z:download-uri>https://img1.example.net/a.bin?x=1&amp;y=2</z:download-uri>
					<z:image-verification><z:hash-algorithm>a:sha-512</z:hash-algorithm><z:hash-value>00</z:hash-value></z:image-verification>
					<z:os-name>Acme &#38; &lt;sons&gt;</z:os-name>
					<z:download-uri>http://198.51.100.9/a.bin</z:download-uri>
					<z:image-verification><z:hash-value>` + strings.Trim(hash, `"`) + `</z:hash-value><z:hash-algorithm>z:sha-256</z:hash-algorithm></z:image-verification>
					<z:os-version> 4.3.1 </z:os-version>
				</z:boot-image>
				<z:configuration>YQ==</z:configuration><z:configuration-handling>merge</z:configuration-handling>
				<z:pre-configuration-script>Yg==</z:pre-configuration-script>
			</z:onboarding-information >`,
		},
		"nothing":              {onboardingPrefix + `{}}`, `<onboarding-information ` + xmlNamespace + `/>`},
		"nothing-in-two-tags":  {onboardingPrefix + `{}}`, xmlOnboarding("")},
		"empty-image":          {onboardingPrefix + `{"boot-image":{}}}`, xmlOnboarding("<boot-image/>")},
		"empty-configuration":  {onboardingPrefix + `{"configuration":"","configuration-handling":"merge"}}`, xmlOnboarding("<configuration/><configuration-handling>merge</configuration-handling>")},
		"empty-script":         {onboardingPrefix + `{"pre-configuration-script":""}}`, xmlOnboarding("<pre-configuration-script></pre-configuration-script>")},
		"inner-declaration":    {onboardingPrefix + `{"boot-image":{` + uri + `}}}`, `<a:onboarding-information ` + strings.Replace(xmlNamespace, "xmlns", "xmlns:a", 1) + `><boot-image ` + xmlNamespace + `>` + xmlURI + `</boot-image></a:onboarding-information>`},
		"hash-of-inner-prefix": {onboardingPrefix + `{"boot-image":{` + uri + `,"image-verification":[{"hash-algorithm":"sha-256","hash-value":` + hash + `}]}}}`, xmlOnboarding(`<boot-image>` + xmlURI + `<image-verification><hash-algorithm ` + strings.Replace(xmlNamespace, "xmlns", "xmlns:q", 1) + `>q:sha-256</hash-algorithm>` + xmlValue + `</image-verification></boot-image>`)},
		"byte-order-mark":      {onboardingPrefix + `{}}`, "\ufeff" + xmlOnboarding("")},
		"lines-of-dos":         {onboardingPrefix + `{"boot-image":{` + uri + `}}}`, strings.ReplaceAll(xmlOnboarding("\n<boot-image>\n"+xmlURI+"\n</boot-image>\n"), "\n", "\r\n")},
	} {
		t.Run(name, func(t *testing.T) {
			for _, lenient := range []bool{false, true} {
				j, err := unsigned(server, typeJSON, twin.json, lenient)
				if err != nil {
					t.Fatal(err)
				}
				x, err := unsigned(server, typeXML, twin.xml, lenient)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(write(j), write(x)); diff != "" {
					t.Errorf("JSON against XML (-json +xml):\n%s", diff)
				}
				if len(j.Warnings) != len(x.Warnings) || x.Signed || !x.Trusted {
					t.Errorf("warnings %q, %q; %+v", j.Warnings, x.Warnings, x)
				}
			}
		})
	}
}

// TestXMLRules holds XML against the rules that TestConveyedInformationRules has for JSON, and against its own.
func TestXMLRules(t *testing.T) {
	server := trusted(t)
	image := func(inner string) string { return xmlOnboarding("<boot-image>" + inner + "</boot-image>") }
	verify := func(inner string) string {
		return image(xmlURI + "<image-verification>" + inner + "</image-verification>")
	}
	host := func(address string) string {
		return xmlRedirect("<bootstrap-server><address>" + address + "</address></bootstrap-server>")
	}
	port := func(port string) string {
		return xmlRedirect("<bootstrap-server><address>a</address><port>" + port + "</port></bootstrap-server>")
	}
	pre := func(text string) string {
		return xmlOnboarding("<pre-configuration-script>" + text + "</pre-configuration-script>")
	}
	for name, test := range map[string]struct {
		document    string
		strict, lax bool // accepted
	}{
		"R6-01/both":                    {xmlOnboarding("") + xmlRedirect(xmlServer), false, false},
		"R6-01/one-in-the-other":        {xmlOnboarding(xmlRedirect(xmlServer)), false, true},
		"R6-01/neither":                 {`<conveyed-information ` + xmlNamespace + `/>`, false, false},
		"R6-01/wrapped":                 {`<conveyed-information ` + xmlNamespace + `>` + xmlOnboarding("") + `</conveyed-information>`, false, false},
		"R6-01/no-namespace":            {`<onboarding-information/>`, false, false},
		"R6-01/other-namespace":         {`<onboarding-information xmlns="urn:ietf:params:xml:ns:yang:ietf-sztp-bootstrap-server"/>`, false, false},
		"R6-01/namespace-case":          {`<onboarding-information ` + strings.Replace(xmlNamespace, "urn:ietf", "URN:ietf", 1) + `/>`, false, false},
		"R6-01/namespace-prefix":        {`<onboarding-information ` + strings.TrimSuffix(xmlNamespace, `fo"`) + `"/>`, false, false},
		"R6-01/undeclared-prefix":       {`<x:onboarding-information ` + xmlNamespace + `/>`, false, false},
		"R6-02/both":                    {xmlOnboarding("<configuration>YQ==</configuration><configuration-handling>merge</configuration-handling>"), true, true},
		"R6-02/configuration-alone":     {xmlOnboarding("<configuration>YQ==</configuration>"), false, false},
		"R6-02/handling-alone":          {xmlOnboarding("<configuration-handling>merge</configuration-handling>"), false, false},
		"R6-02/handling-unknown":        {xmlOnboarding("<configuration>YQ==</configuration><configuration-handling>append</configuration-handling>"), false, false},
		"R6-02/both-empty":              {xmlOnboarding("<configuration/><configuration-handling/>"), false, true},
		"R6-03/no-uri":                  {image("<image-verification>" + xmlSHA + xmlValue + "</image-verification>"), false, false},
		"R6-03/fine":                    {verify(xmlSHA + xmlValue), true, true},
		"R6-03/empty":                   {verify(""), false, false},
		"R6-03/no-value":                {verify(xmlSHA), false, false},
		"R6-03/no-algorithm":            {verify(xmlValue), false, false},
		"R6-03/twice":                   {image(xmlURI + strings.Repeat("<image-verification>"+xmlSHA+xmlValue+"</image-verification>", 2)), false, false},
		"R6-03/short-value":             {verify(xmlSHA + "<hash-value>cd:4a</hash-value>"), false, true},
		"R6-03/undeclared-identity":     {verify("<hash-algorithm>x:sha-256</hash-algorithm>" + xmlValue), false, true},
		"R6-03/json-identity":           {verify("<hash-algorithm>ietf-sztp-conveyed-info:sha-256</hash-algorithm>" + xmlValue), false, true},
		"R6-04/handling-case":           {xmlOnboarding("<configuration>YQ==</configuration><configuration-handling>Merge</configuration-handling>"), false, false},
		"R6-04/name-case":               {xmlOnboarding("<Pre-configuration-script>YQ==</Pre-configuration-script>"), false, false},
		"R6-04/base64url":               {pre("-_-_"), false, false},
		"R6-04/base64-no-padding":       {pre("YQ"), false, false},
		"R6-04/base64-loose-bits":       {pre("YR=="), false, false},
		"R6-04/base64-newline":          {pre("Y\nQ=="), false, true},
		"R6-04/base64-indented":         {pre("\n    YQ==\n  "), false, true},
		"R6-05/only-unknown":            {verify(`<hash-algorithm xmlns:a="urn:a">a:sha-512</hash-algorithm><hash-value>00</hash-value>`), true, true},
		"R6-06/unknown-element":         {xmlOnboarding("<colour>red</colour>"), false, true},
		"R6-06/unknown-list":            {xmlOnboarding("<colour>red</colour><colour><r>1</r><!-- x --></colour>"), false, true},
		"R6-06/unknown-foreign":         {xmlOnboarding(`<boot-image xmlns="urn:acme"/>`), false, true},
		"R6-06/unknown-attribute":       {xmlOnboarding(`<boot-image colour="red"/>`), false, true},
		"R6-06/unknown-with-type":       {xmlOnboarding(`<x><!DOCTYPE a></x>`), false, false},
		"R6-07/duplicate-address":       {xmlRedirect(xmlServer + strings.Replace(xmlServer, ">a<", ">A<", 1)), false, true},
		"strict/duplicate-element":      {pre("YQ==</pre-configuration-script><pre-configuration-script>Yg=="), false, false},
		"strict/duplicate-container":    {xmlOnboarding("<boot-image/><boot-image/>"), false, false},
		"strict/duplicate-port":         {port("1</port><port>1"), false, false},
		"strict/duplicate-attribute":    {`<onboarding-information ` + xmlNamespace + ` ` + xmlNamespace + `/>`, false, false},
		"strict/empty-prefix":           {xmlOnboarding(`<boot-image xmlns:x=""/>`), false, false},
		"strict/trailing-text":          {xmlOnboarding("") + "x", false, false},
		"strict/leading-text":           {"x" + xmlOnboarding(""), false, false},
		"strict/second-root":            {xmlOnboarding("") + xmlOnboarding(""), false, false},
		"strict/text-between":           {xmlOnboarding("x<boot-image/>"), false, false},
		"strict/no-break-space":         {xmlOnboarding("\u00a0<boot-image/>"), false, false},
		"strict/text-for-container":     {xmlOnboarding("<boot-image>YQ==</boot-image>"), false, false},
		"strict/element-for-text":       {pre("<a/>"), false, false},
		"strict/comment-in-value":       {pre("YQ<!-- -->=="), false, false},
		"strict/comment-between":        {xmlOnboarding("<!-- <boot-image> --><boot-image/>"), true, true},
		"strict/doctype":                {"<!DOCTYPE onboarding-information>" + xmlOnboarding(""), false, false},
		"strict/entity":                 {`<!DOCTYPE x [<!ENTITY e "YQ==">]>` + pre("&e;"), false, false},
		"strict/external-entity":        {`<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>` + pre("&e;"), false, false},
		"strict/undefined-entity":       {pre("&nbsp;"), false, false},
		"strict/instruction":            {"<?xml-stylesheet href='x'?>" + xmlOnboarding(""), false, false},
		"strict/instruction-inside":     {xmlOnboarding("<?php x?>"), false, false},
		"strict/instruction-in-value":   {pre("<?x?>YQ=="), false, false},
		"strict/declaration-twice":      {`<?xml version="1.0"?><?xml version="1.0"?>` + xmlOnboarding(""), false, false},
		"strict/declaration-late":       {"\n" + `<?xml version="1.0"?>` + xmlOnboarding(""), false, false},
		"strict/declaration-after":      {xmlOnboarding("") + `<?xml version="1.0"?>`, false, false},
		"strict/version-1.1":            {`<?xml version="1.1"?>` + xmlOnboarding(""), false, false},
		"strict/latin-1":                {`<?xml version="1.0" encoding="ISO-8859-1"?>` + xmlOnboarding(""), false, false},
		"strict/not-utf8":               {image("<os-name>\xff</os-name>"), false, false},
		"strict/control":                {image("<os-name>\x01</os-name>"), false, false},
		"strict/control-escaped":        {image("<os-name>&#1;</os-name>"), false, false},
		"strict/truncated":              {strings.TrimSuffix(xmlOnboarding(""), ">"), false, false},
		"strict/not-closed":             {`<onboarding-information ` + xmlNamespace + `>`, false, false},
		"strict/closed-by-another":      {xmlOnboarding("<boot-image></boot-images>"), false, false},
		"strict/attribute-not-quoted":   {`<onboarding-information ` + strings.ReplaceAll(xmlNamespace, `"`, "") + `/>`, false, false},
		"strict/empty":                  {"", false, false},
		"strict/only-declaration":       {`<?xml version="1.0"?>`, false, false},
		"strict/json":                   {string(redirectDocument), false, false},
		"limit/deep":                    {xmlOnboarding(strings.Repeat("<a>", 100) + strings.Repeat("</a>", 100)), false, false},
		"limit/deep-but-known":          {xmlOnboarding(strings.Repeat("<a>", 15) + strings.Repeat("</a>", 15)), false, true},
		"limit/many":                    {xmlOnboarding(strings.Repeat("<a/>", 20000)), false, false},
		"limit/attributes":              {xmlOnboarding("<boot-image" + attributes(17) + "/>"), false, false},
		"limit/attributes-16":           {xmlOnboarding("<boot-image" + attributes(16) + "/>"), true, true},
		"limit/long-tag":                {xmlOnboarding("<boot-image " + strings.Repeat(" ", 5000) + "/>"), false, false},
		"limit/long-tag-with-brackets":  {xmlOnboarding(`<boot-image a=">" b='` + strings.Repeat(">", 5000) + `'/>`), false, false},
		"limit/long-comment":            {xmlOnboarding("<!--" + strings.Repeat(" ", 5000) + "-->"), false, false},
		"limit/long-name":               {xmlOnboarding("<" + strings.Repeat("a", 5000) + "/>"), false, false},
		"limit/long-text":               {pre(strings.Repeat("YWFh", 100000)), true, true},
		"limit/long-cdata":              {pre("<![CDATA[" + strings.Repeat("YWFh", 100000) + "]]>"), true, true},
		"uri/relative":                  {image("<download-uri>a.bin</download-uri>"), false, false},
		"uri/empty":                     {image("<download-uri/>"), false, false},
		"uri/space":                     {image("<download-uri>http://a/ b</download-uri>"), false, false},
		"uri/space-around":              {image("<download-uri> http://a/b\n</download-uri>"), false, true},
		"uri/65":                        {image(strings.Repeat("<download-uri>http://a/</download-uri>", 65)), false, false},
		"uri/64":                        {image(strings.Repeat("<download-uri>http://a/</download-uri>", 64)), true, true},
		"redirect/empty-list":           {xmlRedirect(""), false, false},
		"redirect/empty-xmlServer":      {xmlRedirect("<bootstrap-server/>"), false, false},
		"redirect/no-address":           {xmlRedirect("<bootstrap-server><port>1</port></bootstrap-server>"), false, false},
		"redirect/65-servers":           {xmlRedirect(strings.Repeat(xmlServer, 65)), false, false},
		"redirect/port-0":               {port("0"), false, false},
		"redirect/port-70000":           {port("70000"), false, false},
		"redirect/port-empty":           {port(""), false, false},
		"redirect/port-space":           {port(" 1 "), false, true},
		"redirect/port-hexadecimal":     {port("0x10"), false, false},
		"redirect/port-negative":        {port("-1"), false, false},
		"redirect/port-two-signs":       {port("++1"), false, false},
		"redirect/port-with-underscore": {port("1_0"), false, false},
		"redirect/anchor-not-base64":    {xmlRedirect("<bootstrap-server><address>a</address><trust-anchor>*</trust-anchor></bootstrap-server>"), false, false},
		"address/space-around":          {host("\n a\n "), false, true},
		"address/control":               {host("a&#10;b"), false, false},
		"address/url":                   {host("https://bs1.example.net"), false, false},
		"address/zone-with-space":       {host("fe80::1%a&#32;b"), false, false},
	} {
		t.Run(name, func(t *testing.T) {
			for _, lenient := range []bool{false, true} {
				want := artifacts.CodeConveyedInvalid
				if test.strict && !lenient || test.lax && lenient {
					want = ""
				}
				conveyed, err := unsigned(server, typeXML, test.document, lenient)
				refused(t, err, want, artifacts.StepContents)
				if err == nil && !test.strict && len(conveyed.Warnings) == 0 {
					t.Error("tolerated without a word")
				}
			}
		})
	}
	t.Run("redirect/anchor-not-cms", func(t *testing.T) {
		_, err := unsigned(server, typeXML, xmlRedirect("<bootstrap-server><address>a</address><trust-anchor>YQ==</trust-anchor></bootstrap-server>"), false)
		refused(t, err, artifacts.CodeAnchorMalformed, artifacts.StepTrustAnchor)
	})
}

// attributes returns n namespace declarations.
func attributes(n int) string {
	var all strings.Builder
	for i := range n {
		all.WriteString(` xmlns:p` + string(rune('a'+i)) + `="urn:x"`)
	}
	return all.String()
}

// TestXMLForms has XML in each envelope: as it is, signed and encrypted.
func TestXMLForms(t *testing.T) {
	w := shared()
	onboarding := []byte(xmlOnboarding("<pre-configuration-script>" + b64([]byte("#!/bin/sh\nexit 0\n")) + "</pre-configuration-script>"))
	redirect := []byte(xmlRedirect("<bootstrap-server><address>a</address></bootstrap-server>"))
	for name, c := range map[string]signedCase{
		"signed":          {document: onboarding, ciType: typeXML},
		"signed-id-data":  {document: onboarding, ciType: typeData},
		"signed-redirect": {document: redirect, ciType: typeXML},
		"signed-encrypted": {document: onboarding, ciType: typeXML, bundle: func(b *artifacts.Bundle) {
			b.ConveyedInformation = w.Encrypt(w.device, b.ConveyedInformation, "-aes-256-cbc")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			c.w = w
			c.device = func(d *artifacts.Device) {
				d.Certificate, d.KeyAgreement = w.device.Certificate, agreementKey(t, w.device)
			}
			conveyed := c.check(t, "", "")
			if conveyed == nil || !conveyed.Signed || conveyed.Redirect == nil && string(conveyed.Onboarding.PreScript()) != "#!/bin/sh\nexit 0\n" {
				t.Errorf("conveyed %+v", conveyed)
			}
		})
	}
	t.Run("unsigned-encrypted", func(t *testing.T) {
		b := artifacts.Bundle{ConveyedInformation: w.Encrypt(w.device, opensslpki.Data(typeXML, redirect), "-aes-256-cbc")}
		d := artifacts.Device{Certificate: w.device.Certificate, KeyAgreement: agreementKey(t, w.device)}
		conveyed, _, err := artifacts.Validate(b, nil, d, artifacts.Policy{})
		if refused(t, err, "", ""); err == nil && conveyed.Redirect == nil {
			t.Errorf("conveyed %+v", conveyed)
		}
	})
	t.Run("unsigned-onboarding-untrusted", func(t *testing.T) {
		_, err := unsigned(nil, typeXML, string(onboarding), false)
		refused(t, err, artifacts.CodeUnsigned, artifacts.StepTrust)
	})
	t.Run("labelled-json", func(t *testing.T) {
		signedCase{w: w, document: onboarding, ciType: typeJSON}.check(t, artifacts.CodeConveyedInvalid, artifacts.StepContents)
	})
	t.Run("json-labelled-xml", func(t *testing.T) {
		signedCase{w: w, ciType: typeXML}.check(t, artifacts.CodeConveyedInvalid, artifacts.StepContents)
	})
}

// FuzzConveyedInformationXML: what is accepted in XML means the same when it is written in JSON.
func FuzzConveyedInformationXML(f *testing.F) {
	w := shared()
	for _, seed := range []string{
		xmlRedirect("<bootstrap-server><address>a</address><port>1</port><trust-anchor>" + b64(w.Certificates(entities{w.tlsRoot})) + "</trust-anchor></bootstrap-server>"),
		`<?xml version="1.0"?>` + xmlOnboarding("<!-- a --><boot-image><os-name>&lt;a</os-name>"+xmlURI+"<image-verification>"+xmlSHA+xmlValue+
			"</image-verification></boot-image><configuration/><configuration-handling>merge</configuration-handling>"),
		xmlOnboarding(`<x a="b"><y/></x><post-configuration-script><![CDATA[YQ==]]></post-configuration-script>`),
	} {
		f.Add(seed, true)
		f.Add(seed, false)
	}
	server := trusted(f)
	f.Fuzz(func(t *testing.T, document string, lenient bool) {
		first, err := unsigned(server, typeXML, document, lenient)
		if err != nil {
			refusedWithCode(t, err)
			return
		}
		written := write(first)
		second, err := unsigned(server, typeJSON, written, lenient)
		if err != nil {
			t.Fatalf("written in JSON: %v\n%s", err, written)
		}
		if write(second) != written {
			t.Fatalf("%s\nbecame\n%s", written, write(second))
		}
	})
}
