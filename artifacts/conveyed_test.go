package artifacts_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/artifacts/internal/opensslpki"
)

// trusted is the evidence that a server was authenticated.
func trusted(t testing.TB) *artifacts.ServerEvidence {
	t.Helper()
	w := shared()
	leaf := w.server(w.tlsRoot, "DNS:bs1.example.net")
	evidence, err := artifacts.AuthenticateServer(w.chain(leaf), "bs1.example.net", artifacts.PlainAnchors(w.chain(w.tlsRoot)),
		artifacts.Clock{Now: w.now(), Confidence: artifacts.ClockRTC})
	if err != nil {
		t.Fatal(err)
	}
	return evidence
}

// unsigned validates a document that comes unsigned from a trusted server.
func unsigned(server *artifacts.ServerEvidence, contentType, document string, lenient bool) (*artifacts.Conveyed, error) {
	conveyed, trail, err := artifacts.Validate(artifacts.Bundle{ConveyedInformation: opensslpki.Data(contentType, []byte(document))},
		server, artifacts.Device{SerialNumber: serial}, artifacts.Policy{Lenient: lenient})
	return conveyed, stopped(trail, err)
}

// stopped returns err, or what is wrong with a trail that does not end where err says.
func stopped(trail artifacts.Trail, err error) error {
	for i, v := range trail.Steps {
		if last := i == len(trail.Steps)-1; v.OK == (last && err != nil) {
			return fmt.Errorf("%v; step %q: ok %v in %+v", err, v.Step, v.OK, trail.Steps)
		}
	}
	var e *artifacts.Error
	if errors.As(err, &e) && trail.Steps[len(trail.Steps)-1].Step != e.Step {
		return fmt.Errorf("failed in %q, but the trail is %+v", e.Step, trail.Steps)
	}
	return err
}

const (
	onboardingPrefix = `{"ietf-sztp-conveyed-info:onboarding-information":`
	redirectPrefix   = `{"ietf-sztp-conveyed-info:redirect-information":`
	uri              = `"download-uri":["https://img1.example.net/a.bin"]`
	hash             = `"cd:4a:bd:b9:3d:8a:aa:ca:98:bf:3c:da:33:83:48:a8:c1:a6:90:2b:cd:ee:5e:a7:1f:1b:09:cb:60:81:02:8e"`
)

func TestOnboardingInformation(t *testing.T) {
	conveyed, err := unsigned(trusted(t), typeJSON, onboardingPrefix+`{
		"post-configuration-script":"IyEvYmluL3NoCmVjaG8gcG9zdApleGl0IDAK",
		"configuration":"eyJob3N0bmFtZSI6ImVkZ2UtNyIsInN6dHAtZW5hYmxlZCI6ZmFsc2V9",
		"configuration-handling":"replace",
		"pre-configuration-script":"IyEvYmluL3NoCmVjaG8gcHJlCmV4aXQgMAo=",
		"boot-image":{
			"os-name":"AcmeOS","os-version":"4.3.1",
			"download-uri":["https://img1.example.net/acmeos-4.3.1.bin","http://198.51.100.9/acmeos-4.3.1.bin"],
			"image-verification":[
				{"hash-algorithm":"acme-hashes:sha-512","hash-value":"00"},
				{"hash-algorithm":"ietf-sztp-conveyed-info:sha-256","hash-value":`+strings.ToUpper(hash)+`}]}}}`, false)
	if err != nil {
		t.Fatal(err)
	}
	o := conveyed.Onboarding
	if !o.Valid() || !conveyed.Trusted || conveyed.Signed || conveyed.Redirect != nil {
		t.Errorf("conveyed %+v", conveyed)
	}
	want := &artifacts.BootImage{OSName: "AcmeOS", OSVersion: "4.3.1",
		URIs: []string{"https://img1.example.net/acmeos-4.3.1.bin", "http://198.51.100.9/acmeos-4.3.1.bin"}}
	got := o.BootImage()
	if len(got.SHA256) != 32 || got.SHA256[0] != 0xcd || got.SHA256[31] != 0x8e {
		t.Errorf("fingerprint %x", got.SHA256)
	}
	got.SHA256 = nil
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(&artifacts.Configuration{Handling: artifacts.Replace,
		Data: []byte(`{"hostname":"edge-7","sztp-enabled":false}`)}, o.Configuration()); diff != "" {
		t.Error(diff)
	}
	if string(o.PreScript()) != "#!/bin/sh\necho pre\nexit 0\n" || string(o.PostScript()) != "#!/bin/sh\necho post\nexit 0\n" {
		t.Errorf("scripts %q, %q", o.PreScript(), o.PostScript())
	}
	if len(conveyed.Warnings) != 1 || !strings.Contains(conveyed.Warnings[0], "sha-512") {
		t.Errorf("warnings %q", conveyed.Warnings)
	}
}

// TestOnboardingIsACopy changes what the accessors return.
func TestOnboardingIsACopy(t *testing.T) {
	conveyed, err := unsigned(trusted(t), typeJSON, onboardingPrefix+`{"pre-configuration-script":"YQ==","boot-image":{`+uri+`},
		"configuration":"YQ==","configuration-handling":"merge"}}`, false)
	if err != nil {
		t.Fatal(err)
	}
	o := conveyed.Onboarding
	o.PreScript()[0], o.Configuration().Data[0], o.BootImage().URIs[0] = 'b', 'b', "http://evil.example/"
	if o.PreScript()[0] != 'a' || o.Configuration().Data[0] != 'a' || o.BootImage().URIs[0] != "https://img1.example.net/a.bin" {
		t.Error("validated data changed")
	}
}

func TestRedirectInformation(t *testing.T) {
	w := shared()
	anchor := b64(w.Certificates(entities{w.tlsRoot, w.tlsCA}))
	document := redirectPrefix + `{"bootstrap-server":[{"address":"bs1.example.net","port":8443,"trust-anchor":"` + anchor + `"},
		{"address":"2001:db8::7"},{"address":"198.51.100.7","port":65535}]}}`
	want := []artifacts.BootstrapServer{{Address: "bs1.example.net", Port: 8443}, {Address: "2001:db8::7", Port: 443},
		{Address: "198.51.100.7", Port: 65535}}
	for name, server := range map[string]*artifacts.ServerEvidence{"trusted": trusted(t), "untrusted": nil, "zero-evidence": {}} {
		t.Run(name, func(t *testing.T) {
			conveyed, err := unsigned(server, typeJSON, document, false)
			if err != nil {
				t.Fatal(err)
			}
			if len(conveyed.Warnings) != 0 {
				t.Errorf("warnings %q", conveyed.Warnings)
			}
			r := conveyed.Redirect
			isTrusted := name == "trusted"
			if r.Trusted != isTrusted || conveyed.Trusted != isTrusted {
				t.Errorf("trusted %v, %v", r.Trusted, conveyed.Trusted)
			}
			for i, s := range r.Servers {
				if has := len(s.Anchors) == 1; has != (isTrusted && i == 0) {
					t.Errorf("server %d: %d trust anchors", i, len(s.Anchors))
				} else if has && !s.Anchors[0].Lowest.Equal(w.tlsCA.Certificate) {
					t.Errorf("trust anchor %v", s.Anchors[0].Lowest.Subject)
				}
				r.Servers[i].Anchors = nil
			}
			if diff := cmp.Diff(want, r.Servers); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestZoneIsDropped keeps a server from choosing the interface by which the device connects.
func TestZoneIsDropped(t *testing.T) {
	conveyed, err := unsigned(nil, typeJSON, redirectPrefix+`{"bootstrap-server":[{"address":"fe80::1%eth1"}]}}`, false)
	if err != nil {
		t.Fatal(err)
	}
	if got := conveyed.Redirect.Servers[0].Address; got != "fe80::1" || len(conveyed.Warnings) != 1 {
		t.Errorf("address %q, warnings %q", got, conveyed.Warnings)
	}
}

func TestConveyedInformationRules(t *testing.T) {
	server := trusted(t)
	image := func(inner string) string { return onboardingPrefix + `{"boot-image":{` + inner + `}}}` }
	verify := func(inner string) string { return image(uri + `,"image-verification":[` + inner + `]`) }
	host := func(address string) string {
		return redirectPrefix + `{"bootstrap-server":[{"address":` + address + `}]}}`
	}
	const sha = `"hash-algorithm":"ietf-sztp-conveyed-info:sha-256"`
	for name, test := range map[string]struct {
		document    string
		strict, lax bool // accepted
	}{
		"R6-01/both": {`{"ietf-sztp-conveyed-info:onboarding-information":{},"ietf-sztp-conveyed-info:redirect-information":` +
			`{"bootstrap-server":[{"address":"a"}]}}`, false, false},
		"R6-01/neither":                     {`{}`, false, false},
		"R6-01/unqualified":                 {`{"onboarding-information":{}}`, false, false},
		"R6-01/other-module":                {`{"ietf-sztp-bootstrap-server:onboarding-information":{}}`, false, false},
		"R6-01/empty-onboarding":            {onboardingPrefix + `{}}`, true, true},
		"R6-02/both":                        {onboardingPrefix + `{"configuration":"YQ==","configuration-handling":"merge"}}`, true, true},
		"R6-02/empty-configuration":         {onboardingPrefix + `{"configuration":"","configuration-handling":"merge"}}`, true, true},
		"R6-02/configuration-alone":         {onboardingPrefix + `{"configuration":"YQ=="}}`, false, false},
		"R6-02/handling-alone":              {onboardingPrefix + `{"configuration-handling":"merge"}}`, false, false},
		"R6-02/handling-unknown":            {onboardingPrefix + `{"configuration":"YQ==","configuration-handling":"append"}}`, false, false},
		"R6-02/both-empty":                  {onboardingPrefix + `{"configuration":"","configuration-handling":""}}`, false, true},
		"R6-03/no-uri":                      {image(`"image-verification":[{` + sha + `,"hash-value":` + hash + `}]`), false, false},
		"R6-03/empty-uris":                  {image(`"download-uri":[],"image-verification":[{` + sha + `,"hash-value":` + hash + `}]`), false, false},
		"R6-03/relative-file":               {image(`"download-uri":["file:images/os.img"]`), true, true},
		"R6-03/relative-other":              {image(`"download-uri":["https:images/os.img"]`), false, false},
		"R6-03/relative":                    {image(`"download-uri":["images/os.img"]`), false, false},
		"R6-03/fine":                        {verify(`{` + sha + `,"hash-value":` + hash + `}`), true, true},
		"R6-03/bare-identity":               {verify(`{"hash-algorithm":"sha-256","hash-value":` + hash + `}`), true, true},
		"R6-03/no-value":                    {verify(`{` + sha + `}`), false, false},
		"R6-03/no-algorithm":                {verify(`{"hash-value":` + hash + `}`), false, false},
		"R6-03/twice":                       {verify(`{` + sha + `,"hash-value":` + hash + `},{"hash-algorithm":"sha-256","hash-value":` + hash + `}`), false, false},
		"R6-03/short-value":                 {verify(`{` + sha + `,"hash-value":"cd:4a"}`), false, true},
		"R6-03/no-colons":                   {verify(`{` + sha + `,"hash-value":` + strings.ReplaceAll(hash, ":", "") + `}`), false, true},
		"R6-04/handling-case":               {onboardingPrefix + `{"configuration":"YQ==","configuration-handling":"Merge"}}`, false, false},
		"R6-04/name-case":                   {onboardingPrefix + `{"Configuration":"YQ==","configuration-handling":"merge"}}`, false, false},
		"R6-04/name-case-only":              {onboardingPrefix + `{"Pre-configuration-script":"YQ=="}}`, false, false},
		"R6-04/base64url":                   {onboardingPrefix + `{"pre-configuration-script":"-_-_"}}`, false, false},
		"R6-04/base64-no-padding":           {onboardingPrefix + `{"pre-configuration-script":"YQ"}}`, false, false},
		"R6-04/base64-loose-bits":           {onboardingPrefix + `{"pre-configuration-script":"YR=="}}`, false, false},
		"R6-04/base64-newline":              {onboardingPrefix + `{"pre-configuration-script":"Y\nQ=="}}`, false, true},
		"R6-04/base64-trailing-newline":     {onboardingPrefix + `{"pre-configuration-script":"YQ==\n"}}`, false, true},
		"R6-05/only-unknown":                {verify(`{"hash-algorithm":"x:sha-512","hash-value":"00"}`), true, true},
		"R6-06/unknown-member":              {onboardingPrefix + `{"colour":"red"}}`, false, true},
		"R6-06/unknown-in-redirect":         {redirectPrefix + `{"bootstrap-server":[{"address":"a"}],"colour":"red"}}`, false, true},
		"R6-06/unknown-in-server":           {redirectPrefix + `{"bootstrap-server":[{"address":"a","colour":"red"}]}}`, false, true},
		"R6-06/unknown-in-image":            {image(`"colour":"red"`), false, true},
		"R6-06/unknown-in-verification":     {verify(`{` + sha + `,"hash-value":` + hash + `,"colour":"red"}`), false, true},
		"R6-06/unknown-top-member":          {`{"x:y":1,"ietf-sztp-conveyed-info:onboarding-information":{}}`, false, true},
		"R6-06/needlessly-qualified":        {onboardingPrefix + `{"ietf-sztp-conveyed-info:boot-image":{}}}`, false, true},
		"R6-07/duplicate-address":           {redirectPrefix + `{"bootstrap-server":[{"address":"a.example"},{"address":"A.example"}]}}`, false, true},
		"R6-07/duplicate-spelt-otherwise":   {redirectPrefix + `{"bootstrap-server":[{"address":"2001:db8::1"},{"address":"2001:0DB8:0::1"}]}}`, false, true},
		"R6-07/duplicate-mapped":            {redirectPrefix + `{"bootstrap-server":[{"address":"::ffff:192.0.2.1"},{"address":"192.0.2.1"}]}}`, false, true},
		"R6-07/duplicate-without-dot":       {redirectPrefix + `{"bootstrap-server":[{"address":"a.example."},{"address":"a.example"}]}}`, false, true},
		"R6-07/duplicate-in-another-zone":   {redirectPrefix + `{"bootstrap-server":[{"address":"fe80::1%eth0"},{"address":"fe80::1%eth1"}]}}`, false, true},
		"R6-07/several":                     {redirectPrefix + `{"bootstrap-server":[{"address":"a.example"},{"address":"b.example"},{"address":"2001:db8::1"}]}}`, true, true},
		"strict/duplicate-key":              {onboardingPrefix + `{"pre-configuration-script":"YQ==","pre-configuration-script":"Yg=="}}`, false, false},
		"strict/duplicate-escaped":          {onboardingPrefix + `{"boot-image":{},"boot\u002dimage":{}}}`, false, false},
		"strict/twice-by-qualification":     {onboardingPrefix + `{"boot-image":{},"ietf-sztp-conveyed-info:boot-image":{}}}`, false, false},
		"strict/trailing-data":              {onboardingPrefix + `{}} {}`, false, false},
		"strict/trailing-space":             {onboardingPrefix + "{}}\n\n", true, true},
		"strict/trailing-comma":             {onboardingPrefix + `{},}`, false, false},
		"strict/truncated":                  {onboardingPrefix + `{}`, false, false},
		"strict/not-utf8":                   {onboardingPrefix + "{\"boot-image\":{\"os-name\":\"\xff\"}}}", false, false},
		"strict/array":                      {`[]`, false, false},
		"strict/deep":                       {strings.Repeat(`{"a":`, 100) + "1" + strings.Repeat("}", 100), false, false},
		"strict/many":                       {onboardingPrefix + `{"boot-image":{"download-uri":[` + strings.Repeat(`"http://a/",`, 20000) + `"http://a/"]}}}`, false, false},
		"type/script-number":                {onboardingPrefix + `{"pre-configuration-script":1}}`, false, false},
		"type/script-null":                  {onboardingPrefix + `{"pre-configuration-script":null}}`, false, false},
		"type/image-array":                  {onboardingPrefix + `{"boot-image":[]}}`, false, false},
		"type/uri-string":                   {image(`"download-uri":"http://a/"`), false, false},
		"type/uri-number":                   {image(`"download-uri":[1]`), false, false},
		"type/onboarding-null":              {onboardingPrefix + `null}`, false, false},
		"uri/relative":                      {image(`"download-uri":["a.bin"]`), false, false},
		"uri/no-host":                       {image(`"download-uri":["http:"]`), false, false},
		"uri/space":                         {image(`"download-uri":["http://a/ b"]`), false, false},
		"uri/control":                       {image(`"download-uri":["http://a/\u0000"]`), false, false},
		"uri/65":                            {image(`"download-uri":[` + strings.Repeat(`"http://a/",`, 64) + `"http://a/"]`), false, false},
		"uri/64":                            {image(`"download-uri":[` + strings.Repeat(`"http://a/",`, 63) + `"http://a/"]`), true, true},
		"redirect/empty-list":               {redirectPrefix + `{"bootstrap-server":[]}}`, false, false},
		"redirect/no-list":                  {redirectPrefix + `{}}`, false, false},
		"redirect/no-address":               {redirectPrefix + `{"bootstrap-server":[{"port":1}]}}`, false, false},
		"redirect/port-string":              {redirectPrefix + `{"bootstrap-server":[{"address":"a","port":"8443"}]}}`, false, false},
		"redirect/port-70000":               {redirectPrefix + `{"bootstrap-server":[{"address":"a","port":70000}]}}`, false, false},
		"redirect/port-0":                   {redirectPrefix + `{"bootstrap-server":[{"address":"a","port":0}]}}`, false, false},
		"redirect/port-negative":            {redirectPrefix + `{"bootstrap-server":[{"address":"a","port":-1}]}}`, false, false},
		"redirect/port-fraction":            {redirectPrefix + `{"bootstrap-server":[{"address":"a","port":443.0}]}}`, false, false},
		"redirect/port-exponent":            {redirectPrefix + `{"bootstrap-server":[{"address":"a","port":1e3}]}}`, false, false},
		"redirect/65-servers":               {redirectPrefix + `{"bootstrap-server":[` + strings.Repeat(`{"address":"a"},`, 64) + `{"address":"a"}]}}`, false, false},
		"redirect/anchor-not-base64":        {redirectPrefix + `{"bootstrap-server":[{"address":"a","trust-anchor":"*"}]}}`, false, false},
		"redirect/anchor-not-cms":           {redirectPrefix + `{"bootstrap-server":[{"address":"a","trust-anchor":"YQ=="}]}}`, false, false},
		"address/name":                      {host(`"bs1.example.net"`), true, true},
		"address/name-with-final-dot":       {host(`"bs1.example.net."`), true, true},
		"address/ipv4":                      {host(`"192.0.2.1"`), true, true},
		"address/ipv6":                      {host(`"2001:db8::1"`), true, true},
		"address/ipv6-zone":                 {host(`"fe80::1%eth0"`), true, true},
		"address/ipv6-zone-with-escape":     {host(`"fe80::1%\u001b[2J"`), false, false},
		"address/ipv6-zone-of-kilobytes":    {host(`"fe80::1%` + strings.Repeat("a", 5000) + `"`), false, false},
		"address/brackets":                  {host(`"[2001:db8::1]"`), false, false},
		"address/with-port":                 {host(`"bs1.example.net:443"`), false, false},
		"address/url":                       {host(`"https://bs1.example.net"`), false, false},
		"address/empty":                     {host(`""`), false, false},
		"address/dot":                       {host(`"."`), false, false},
		"address/empty-label":               {host(`"a..b"`), false, false},
		"address/ipv4-out-of-range":         {host(`"192.0.2.256"`), false, false},
		"address/ipv4-short":                {host(`"127.1"`), false, false},
		"address/space":                     {host(`"a b"`), false, false},
		"address/control":                   {host(`"a\u000a"`), false, false},
		"address/user":                      {host(`"user@a"`), false, false},
		"address/label-of-64":               {host(`"` + strings.Repeat("a", 64) + `"`), false, false},
		"address/name-of-254":               {host(`"` + strings.Repeat("a.", 127) + `"`), true, true},
		"address/name-of-255":               {host(`"` + strings.Repeat("a.", 127) + `aa"`), false, false},
		"address/not-ascii":                 {host(`"bücher.example"`), false, false},
		"interop/all-empty-strings-in-boot": {image(`"os-name":"","os-version":""`), true, true},
	} {
		t.Run(name, func(t *testing.T) {
			for _, lenient := range []bool{false, true} {
				want := artifacts.CodeConveyedInvalid
				if test.strict && !lenient || test.lax && lenient {
					want = ""
				}
				_, err := unsigned(server, typeJSON, test.document, lenient)
				if name == "redirect/anchor-not-cms" {
					refused(t, err, artifacts.CodeAnchorMalformed, artifacts.StepTrustAnchor)
					continue
				}
				refused(t, err, want, artifacts.StepContents)
			}
		})
	}
}

// TestLenientWarns makes sure that what lenient decoding tolerates is told.
func TestLenientWarns(t *testing.T) {
	server := trusted(t)
	for name, document := range map[string]string{
		"unknown":         onboardingPrefix + `{"colour":"red"}}`,
		"newline":         onboardingPrefix + `{"pre-configuration-script":"YQ==\n"}}`,
		"short-hash":      onboardingPrefix + `{"boot-image":{` + uri + `,"image-verification":[{"hash-algorithm":"sha-256","hash-value":"cd"}]}}}`,
		"empty-script":    onboardingPrefix + `{"pre-configuration-script":""}}`,
		"double-address":  redirectPrefix + `{"bootstrap-server":[{"address":"a"},{"address":"a"}]}}`,
		"empty-configure": onboardingPrefix + `{"configuration":"","configuration-handling":""}}`,
	} {
		t.Run(name, func(t *testing.T) {
			conveyed, err := unsigned(server, typeJSON, document, true)
			if err != nil {
				t.Fatal(err)
			}
			if len(conveyed.Warnings) != 1 {
				t.Errorf("warnings %q", conveyed.Warnings)
			}
			if o := conveyed.Onboarding; o != nil {
				if image := o.BootImage(); image != nil && image.SHA256 != nil || name == "empty-script" && o.PreScript() != nil {
					t.Error("what is not usable was used")
				}
			}
		})
	}
}

func TestUnsignedForms(t *testing.T) {
	server := trusted(t)
	document := string(redirectDocument)
	for name, test := range map[string]struct {
		contentType, document string
		code                  artifacts.Code
		step                  artifacts.Step
	}{
		"json":               {typeJSON, document, "", ""},
		"id-data":            {typeData, document, "", ""},
		"id-data-space":      {typeData, " \r\n\t" + document, "", ""},
		"xml":                {typeXML, xmlRedirect(xmlServer), "", ""},
		"xml-malformed":      {typeXML, "<redirect-information/>", artifacts.CodeConveyedInvalid, artifacts.StepContents},
		"id-data-xml":        {typeData, "\n " + xmlRedirect(xmlServer), "", ""},
		"id-data-xml-broken": {typeData, "\n <redirect-information/>", artifacts.CodeConveyedInvalid, artifacts.StepContents},
		"id-data-other":      {typeData, "redirect", artifacts.CodeConveyedInvalid, artifacts.StepContents},
		"id-data-empty":      {typeData, "", artifacts.CodeConveyedInvalid, artifacts.StepContents},
		"json-with-xml":      {typeJSON, xmlRedirect(xmlServer), artifacts.CodeConveyedInvalid, artifacts.StepContents},
		"xml-with-json":      {typeXML, document, artifacts.CodeConveyedInvalid, artifacts.StepContents},
		"voucher":            {typeVoucher, document, artifacts.CodeConveyedMalformed, artifacts.StepConveyed},
		"unknown-type":       {"1.2.3", document, artifacts.CodeAlgorithmRefused, artifacts.StepConveyed},
		"nested-in-id-data":  {typeData, string(opensslpki.Data(typeJSON, redirectDocument)), artifacts.CodeConveyedInvalid, artifacts.StepContents},
		"byte-order-mark":    {typeJSON, "\ufeff" + document, artifacts.CodeConveyedInvalid, artifacts.StepContents},
		"sixteen-bit-values": {typeJSON, "\x00{", artifacts.CodeConveyedInvalid, artifacts.StepContents},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := unsigned(server, test.contentType, test.document, false)
			refused(t, err, test.code, test.step)
		})
	}
}
