package artifacts_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/artifacts/cms"
	"github.com/xpu-sztp/ztp/artifacts/internal/opensslpki"
)

// TestConveyedBounds stands on both sides of each bound and of each set of characters.
func TestConveyedBounds(t *testing.T) {
	server := trusted(t)
	host := func(address string) string {
		return redirectPrefix + `{"bootstrap-server":[{"address":"` + address + `"}]}}`
	}
	servers := func(n int) string {
		var list []string
		for i := range n {
			list = append(list, fmt.Sprintf(`{"address":"a%d"}`, i))
		}
		return redirectPrefix + `{"bootstrap-server":[` + strings.Join(list, ",") + `]}}`
	}
	download := func(uri string) string {
		return onboardingPrefix + `{"boot-image":{"download-uri":["` + uri + `"]}}}`
	}
	for name, test := range map[string]struct {
		document string
		good     bool
	}{
		"servers/64":              {servers(64), true},
		"servers/65":              {servers(65), false},
		"port/1":                  {redirectPrefix + `{"bootstrap-server":[{"address":"a","port":1}]}}`, true},
		"port/65535":              {redirectPrefix + `{"bootstrap-server":[{"address":"a","port":65535}]}}`, true},
		"port/65536":              {redirectPrefix + `{"bootstrap-server":[{"address":"a","port":65536}]}}`, false},
		"zone/15":                 {host("fe80::1%" + strings.Repeat("a", 15)), true},
		"zone/16":                 {host("fe80::1%" + strings.Repeat("a", 16)), false},
		"label/63":                {host(strings.Repeat("a", 63)), true},
		"label/64":                {host(strings.Repeat("a", 64)), false},
		"label/every-character":   {host("azAZ-_09.example"), true},
		"label/only-digits-first": {host("192.example"), true},
		"label/backquote":         {host("`.example"), false},
		"label/brace":             {host("{.example"), false},
		"label/at":                {host("@.example"), false},
		"label/bracket":           {host("[.example"), false},
		"label/slash":             {host("/.example"), false},
		"label/colon":             {host("a:.example"), false},
		"label/hyphen-first":      {host("-a.example"), false},
		"label/hyphen-last":       {host("a-.example"), false},
		"uri/4096":                {download("https://a/" + strings.Repeat("a", 4096-10)), true},
		"uri/4097":                {download("https://a/" + strings.Repeat("a", 4096-9)), false},
		"uri/host-alone":          {download("https://a"), true},
		"uri/path-alone":          {download("file:/a"), true},
		"uri/not-ascii":           {download("https://a/é"), false},
		"uri/tilde":               {download("https://a/~"), true},
		"uri/delete":              {download(`https://a/\u007f`), false},
		"uri/bracket-open":        {download("https://[::1/"), false},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := unsigned(server, typeJSON, test.document, false)
			code := artifacts.CodeConveyedInvalid
			if test.good {
				code = ""
			}
			refused(t, err, code, artifacts.StepContents)
		})
	}
}

// TestImageParts has each part of a boot image alone.
func TestImageParts(t *testing.T) {
	plain := strings.ReplaceAll(hash, ":", "")
	const entry = `,"image-verification":[{"hash-algorithm":"sha-256","hash-value":`
	for name, test := range map[string]struct {
		members   string
		want      string
		lenient   bool
		digest    bool
		noWarning bool
	}{
		"nothing":         {members: "", want: "none", noWarning: true},
		"name":            {members: `"os-name":"AcmeOS"`, want: "AcmeOS//[]", noWarning: true},
		"version":         {members: `"os-version":"2"`, want: "/2/[]", noWarning: true},
		"address":         {members: `"download-uri":["https://a/"]`, want: "//[https://a/]", noWarning: true},
		"fingerprint":     {members: `"download-uri":["https://a/"]` + entry + hash + `}]`, want: "//[https://a/]", digest: true, noWarning: true},
		"without-colons":  {members: `"download-uri":["https://a/"]` + entry + plain + `}]`, want: "//[https://a/]", lenient: true, digest: true},
		"colons-anywhere": {members: `"download-uri":["https://a/"]` + entry + `"c:` + plain[2:] + `}]`, want: "//[https://a/]", lenient: true},
		"too-long":        {members: `"download-uri":["https://a/"]` + entry + `"00:` + hash[1:] + `}]`, want: "//[https://a/]", lenient: true},
	} {
		t.Run(name, func(t *testing.T) {
			conveyed, err := unsigned(trusted(t), typeJSON, onboardingPrefix+`{"boot-image":{`+test.members+`}}}`, test.lenient)
			if err != nil {
				t.Fatal(err)
			}
			got, digest := "none", false
			if i := conveyed.Onboarding.BootImage(); i != nil {
				got, digest = fmt.Sprintf("%s/%s/%v", i.OSName, i.OSVersion, i.URIs), len(i.SHA256) == 32
			}
			if got != test.want || digest != test.digest || (len(conveyed.Warnings) == 0) != test.noWarning {
				t.Errorf("image %s, fingerprint %v, warnings %q", got, digest, conveyed.Warnings)
			}
		})
	}
}

// TestContentsInWords reads what the trail says of contents: of scripts and configuration no more than that they are there.
func TestContentsInWords(t *testing.T) {
	for document, want := range map[string]string{
		`{}`:                                   "onboarding information: nothing to do",
		`{"boot-image":{"os-name":"A"}}`:       "onboarding information: boot image A",
		`{"pre-configuration-script":"YQ=="}`:  "onboarding information: pre-configuration script",
		`{"post-configuration-script":"YQ=="}`: "onboarding information: post-configuration script",
		`{"configuration":"YQ==","configuration-handling":"merge"}`: "onboarding information: configuration",
		`{"bootstrap-server":[{"address":"a"}]}`:                    "redirect information, 1 server",
		`{"bootstrap-server":[{"address":"a"},{"address":"b"}]}`:    "redirect information, 2 servers",
	} {
		prefix := onboardingPrefix
		if strings.HasPrefix(want, "redirect") {
			prefix = redirectPrefix
		}
		_, trail, err := artifacts.Validate(artifacts.Bundle{ConveyedInformation: opensslpki.Data(typeJSON, []byte(prefix+document+"}"))}, trusted(t),
			artifacts.Device{}, artifacts.Policy{})
		if err != nil {
			t.Fatal(err)
		}
		if got := trail.Steps[1]; got.Step != artifacts.StepContents || got.Detail != want {
			t.Errorf("%s: %q, want %q", document, got.Detail, want)
		}
	}
}

// TestWarningsAreBounded has a document deviate a thousand times.
func TestWarningsAreBounded(t *testing.T) {
	var members []string
	for i := range 1000 {
		members = append(members, fmt.Sprintf(`"x%d":1`, i))
	}
	conveyed, err := unsigned(trusted(t), typeJSON, onboardingPrefix+"{"+strings.Join(members, ",")+"}}", true)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(conveyed.Warnings); n != 16 {
		t.Errorf("%d warnings", n)
	}
}

// TestErrorsNameTheirCause, in words and for errors.Is.
func TestErrorsNameTheirCause(t *testing.T) {
	_, err := unsigned(trusted(t), "1.2.3", "{}", false)
	if !errors.Is(err, cms.ErrUnsupported) || !strings.HasSuffix(err.Error(), ": "+errors.Unwrap(err).Error()) {
		t.Errorf("got %v", err)
	}
}
