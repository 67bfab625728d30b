package inspect_test

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/inspect"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// The fixtures are OpenSSL's; see testdata/make.
func read(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func inputs(t testing.TB, names ...string) []inspect.Input {
	t.Helper()
	var list []inspect.Input
	for _, name := range names {
		list = append(list, inspect.Input{Name: name, Data: read(t, name)})
	}
	return list
}

// options are those of the device that the fixtures were made for.
func options(t testing.TB) inspect.Options {
	t.Helper()
	anchors, err := inspect.Certificates(read(t, "maker.pem"))
	if err != nil {
		t.Fatal(err)
	}
	device, err := inspect.Certificates(read(t, "device.pem"))
	if err != nil {
		t.Fatal(err)
	}
	return inspect.Options{
		VoucherAnchors: anchors,
		Device:         artifacts.Device{SerialNumber: "AC-000123", Certificate: device[0], AuthorityKeyID: device[0].AuthorityKeyId},
		Clock:          artifacts.Clock{Now: time.Date(2027, 6, 1, 0, 0, 0, 0, time.UTC), Confidence: artifacts.ClockRTC},
	}
}

// TestText compares what people see with golden files.
func TestText(t *testing.T) {
	judged := options(t)
	for _, tt := range []struct {
		name    string
		files   []string
		options inspect.Options
	}{
		{"conveyed-information", []string{"ci.cms"}, inspect.Options{}},
		{"redirect", []string{"redirect.cms"}, inspect.Options{}},
		{"owner-certificate", []string{"oc.cms"}, inspect.Options{}},
		{"voucher", []string{"ov.vcj"}, inspect.Options{}},
		{"trust-anchor", []string{"anchor.cms"}, inspect.Options{}},
		{"encrypted", []string{"encrypted.cms"}, inspect.Options{}},
		{"bare", []string{"onboarding.json"}, inspect.Options{}},
		{"certificate", []string{"server.pem"}, inspect.Options{}},
		{"answer-in-xml", []string{"answer.xml"}, inspect.Options{}},
		{"parts", []string{"parts.pem"}, inspect.Options{}},
		{"signed-owner-certificate", []string{"oc-signed.cms"}, inspect.Options{}},
		{"signed-owner-certificate-lenient", []string{"oc-signed.cms"}, inspect.Options{Lenient: true}},
		{"odd-anchor", []string{"redirect-odd.cms"}, inspect.Options{}},
		{"voucher-alone", []string{"ov.vcj"}, judged},
		{"option", []string{"option.hex"}, inspect.Options{}},
		{"accepted", []string{"answer.json"}, judged},
		{"refused", []string{"ov-other.vcj", "oc.cms", "ci.cms"}, judged},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := inspect.Inspect(inputs(t, tt.files...), tt.options).Text()
			golden(t, tt.name+".golden", got)
		})
	}
}

// TestEncodings wants the same artifact out of every encoding it comes in.
func TestEncodings(t *testing.T) {
	want := inspect.Inspect(inputs(t, "ci.cms"), inspect.Options{}).Artifacts[0]
	for name, encoding := range map[string]string{"ci.pem": "PEM", "ci.eml": "S/MIME", "ci.b64": "base64"} {
		r := inspect.Inspect(inputs(t, name), inspect.Options{})
		if len(r.Artifacts) != 1 || !r.OK() {
			t.Fatalf("%s: %s", name, r.Text())
		}
		got := r.Artifacts[0]
		if got.Encoding != encoding || got.Kind != inspect.KindConveyed || got.Form != inspect.FormSigned {
			t.Errorf("%s: %s, %s, %s", name, got.Encoding, got.Kind, got.Form)
		}
		// Signatures with ECDSA differ each time.
		if diff := cmp.Diff(want.Conveyed, got.Conveyed); diff != "" {
			t.Errorf("%s: (-DER +%s)\n%s", name, encoding, diff)
		}
	}
}

// verdicts are artifacts held against a device, in any order.
func verdicts(t *testing.T) []verdict {
	other := artifacts.Device{Certificate: certificate(t, "other.pem")}
	return []verdict{
		{name: "accepted", files: "ci.cms oc.cms ov.vcj"},
		{name: "any-order", files: "ov.vcj ci.pem oc.cms"},
		{name: "answer", files: "answer.json"},
		{name: "answer-in-xml", files: "answer.xml"},
		{name: "twice-the-same", files: "ci.cms answer.json"},
		{name: "no-clock", files: "ci.cms oc.cms ov.vcj", change: func(o *inspect.Options) { o.Clock = artifacts.Clock{} }},
		{name: "redirect", files: "redirect.cms"},
		{name: "voucher-alone", files: "ov.vcj"},
		{name: "voucher-and-owner", files: "oc.cms ov.vcj"},
		{name: "authenticated-server", files: "unsigned.cms server.pem", change: withServer},
		{name: "signed-owner-lenient", files: "ci.cms oc-signed.cms ov.vcj", change: func(o *inspect.Options) { o.Lenient = true }},

		{name: "no-device", files: "ci.cms oc.cms ov.vcj", code: inspect.CodeInputMissing, missing: "--serial",
			change: func(o *inspect.Options) { o.Device = artifacts.Device{} }},
		{name: "no-issuer", files: "ov-issuer.vcj", code: inspect.CodeInputMissing, missing: "--issuer",
			change: func(o *inspect.Options) { o.Device.AuthorityKeyID = nil }},
		{name: "no-nonce", files: "ov-nonce.vcj", code: inspect.CodeInputMissing, missing: "--nonce"},

		{name: "no-voucher", files: "ci.cms oc.cms", code: artifacts.CodeVoucherMissing, step: artifacts.StepVoucher},
		{name: "no-owner", files: "ci.cms ov.vcj", code: artifacts.CodeOwnerMissing, step: artifacts.StepOwner},
		{name: "signed-owner", files: "ci.cms oc-signed.cms ov.vcj", code: artifacts.CodeOwnerMalformed, step: artifacts.StepOwner},
		{name: "no-anchor", files: "ci.cms oc.cms ov.vcj", code: artifacts.CodeVoucherUntrusted,
			step: artifacts.StepVoucherSignature, hint: "--voucher-anchor", change: func(o *inspect.Options) { *o = inspect.Options{} }},
		{name: "odd-voucher", files: "ov-odd.vcj", code: artifacts.CodeVoucherMalformed, step: artifacts.StepVoucherContents},
		{name: "expired", files: "ci.cms oc.cms ov.vcj", code: artifacts.CodeVoucherExpired, step: artifacts.StepVoucherDates,
			change: func(o *inspect.Options) { o.Clock.Now = o.Clock.Now.AddDate(1, 0, 0) }},
		{name: "guessed", files: "ov-guessed.vcj", code: artifacts.CodeVoucherAssertion, step: artifacts.StepVoucherAssertion},
		{name: "other-device", files: "ci.cms oc.cms ov-other.vcj", code: artifacts.CodeVoucherSerial,
			step: artifacts.StepVoucherSerial, hint: "get a voucher for this device"},
		{name: "other-issuer", files: "ov-issuer.vcj", code: artifacts.CodeVoucherIssuer, step: artifacts.StepVoucherIssuer},
		{name: "other-nonce", files: "ov-nonce.vcj", code: artifacts.CodeVoucherNonce, step: artifacts.StepVoucherNonce,
			change: func(o *inspect.Options) { o.Nonce = make([]byte, 16) }},
		{name: "other-certificates", files: "ci.cms anchor.cms ov.vcj", code: artifacts.CodeOwnerKeyUsage,
			step: artifacts.StepOwnerPath},
		{name: "no-status", files: "ci.cms oc-no-crl.cms ov-checks.vcj", code: artifacts.CodeRevocationUnknown,
			step: artifacts.StepOwnerRevocation},
		{name: "tampered", files: "ci-tampered.cms oc.cms ov.vcj", code: artifacts.CodeSignatureInvalid,
			step: artifacts.StepOwnerSignature},
		{name: "odd", files: "ci-odd.cms oc.cms ov.vcj", code: artifacts.CodeConveyedInvalid, step: artifacts.StepContents},
		{name: "unsigned", files: "unsigned.cms", code: artifacts.CodeUnsigned, step: artifacts.StepTrust},
		{name: "odd-anchor", files: "redirect-odd.cms server.pem", code: artifacts.CodeAnchorMalformed, step: artifacts.StepTrustAnchor,
			change: withServer},
		{name: "other-server", files: "unsigned.cms device.pem", code: artifacts.CodeServerUntrusted,
			step: artifacts.StepServerCertificate, change: withServer},

		{name: "no-server", files: "unsigned.cms", code: artifacts.CodeServerUntrusted, change: withServer},
		{name: "nothing", files: "oc.cms", code: artifacts.CodeConveyedMissing},
		{name: "encrypted", files: "encrypted.cms", code: inspect.CodeInputMissing},
		{name: "encrypted-for-another", files: "encrypted.cms", code: artifacts.CodeNotForDevice,
			change: func(o *inspect.Options) { o.Device.Certificate = other.Certificate }},
		{name: "two", files: "ov.vcj ci.cms ov-other.vcj", code: inspect.CodeAmbiguous},
		{name: "bare", files: "onboarding.json", code: artifacts.CodeConveyedMalformed},
		{name: "unreadable", files: "ci.cms oc.cms make", code: inspect.CodeNotArtifact},
	}
}

type verdict struct {
	name, files string
	change      func(*inspect.Options)
	code        artifacts.Code // "" is accepted
	step        artifacts.Step // that failed
	hint        string
	missing     string // what to give, when it is undecided
}

func (v verdict) report(t *testing.T) *inspect.Report {
	o := options(t)
	if v.change != nil {
		v.change(&o)
	}
	return inspect.Inspect(inputs(t, strings.Fields(v.files)...), o)
}

func TestVerdict(t *testing.T) {
	for _, tt := range verdicts(t) {
		t.Run(tt.name, func(t *testing.T) {
			r := tt.report(t)
			want := inspect.Refused
			switch {
			case tt.code == inspect.CodeInputMissing:
				want = inspect.Undecided
			case tt.code == "":
				want = inspect.Accepted
			}
			v := r.Validation
			if v == nil || v.Verdict != want || r.OK() != (want == inspect.Accepted) {
				t.Fatalf("%s", r.Text())
			}
			var failed artifacts.Step
			for i, c := range v.Checks {
				if c.Result == inspect.Failed {
					failed = c.Step
				}
				if failed != "" && c.Step != failed && c.Result != inspect.NotRun || c.Detail == "" {
					t.Errorf("check %d of %d: %+v", i, len(v.Checks), c)
				}
			}
			if failed != tt.step {
				t.Errorf("failed at %q, want %q", failed, tt.step)
			}
			if tt.code == "" {
				if v.Problem != nil || v.Outcome == "" {
					t.Errorf("%s", r.Text())
				}
				return
			}
			if v.Problem.Code != string(tt.code) || v.Problem.Hint == "" || !strings.Contains(v.Problem.Hint, tt.hint) ||
				!strings.Contains(strings.Join(v.Missing, "\n"), tt.missing) {
				t.Errorf("%+v, missing %q, want %s", v.Problem, v.Missing, tt.code)
			}
		})
	}
}

// TestVerdictText compares what people see of each verdict, every step that can fail among them, with a golden file.
func TestVerdictText(t *testing.T) {
	var got strings.Builder
	seen := map[string]string{}
	for _, tt := range verdicts(t) {
		_, text, _ := strings.Cut(tt.report(t).Text(), "\nverdict ")
		text = "verdict " + text
		if first := seen[text]; first != "" {
			text = "as " + first + "\n"
		} else {
			seen[text] = tt.name
		}
		fmt.Fprintf(&got, "== %s: %s\n%s", tt.name, tt.files, text)
	}
	golden(t, "verdicts.golden", got.String())
}

// TestJSON compares the schema of version 1 with a golden file.
func TestJSON(t *testing.T) {
	r := inspect.Inspect(inputs(t, "ov-other.vcj", "ci.cms", "oc.cms"), options(t))
	document, err := r.JSON()
	if err != nil {
		t.Fatal(err)
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, document, "", " "); err != nil {
		t.Fatal(err)
	}
	golden(t, "json.golden", indented.String())
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(filepath.Join("testdata", name), []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(string(read(t, name)), got); diff != "" {
		t.Errorf("(-golden +got)\n%s", diff)
	}
}

func withServer(o *inspect.Options) {
	data, err := os.ReadFile(filepath.Join("testdata", "tls-root.pem"))
	if err != nil {
		panic(err)
	}
	if o.ServerAnchors, err = inspect.Certificates(data); err != nil {
		panic(err)
	}
}

func certificate(t *testing.T, name string) *x509.Certificate {
	t.Helper()
	certs, err := inspect.Certificates(read(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return certs[0]
}

func TestNoVerdictUnlessAskedFor(t *testing.T) {
	for _, files := range []string{"ci.cms", "unsigned.cms", "oc.cms ov.vcj", "parts.pem", "redirect.cms anchor.cms", "option.hex", "server.pem"} {
		if r := inspect.Inspect(inputs(t, strings.Fields(files)...), inspect.Options{}); r.Validation != nil || !r.OK() {
			t.Errorf("%s: %s", files, r.Text())
		}
	}
}

// TestUnreadable tells what is no artifact, in words that do not stand for the data.
func TestUnreadable(t *testing.T) {
	const hidden = "topsecretkeymaterial"
	for name, data := range map[string][]byte{
		"empty":      nil,
		"blank":      []byte(" \n"),
		"prose":      []byte("what is this?"),
		"key":        []byte("-----BEGIN PRIVATE KEY-----\n" + hidden + "\n-----END PRIVATE KEY-----\n"),
		"damaged":    []byte("-----BEGIN CMS-----\nMIIB\n"),
		"truncated":  read(t, "ci.cms")[:200],
		"trailing":   append(read(t, "ci.cms"), 0),
		"other-json": []byte(`{"a":1}`),
		"no-json":    []byte(`{"a":`),
		"no-output":  []byte(`{"ietf-sztp-bootstrap-server:output":{}}`),
		"detached":   []byte("MIME-Version: 1.0\nContent-Type: multipart/signed\n\nx"),
		"odd-hex":    []byte("abc"),
		"other-type": bytes.Replace(read(t, "ci.cms"), []byte{0x10, 1, 43}, []byte{0x10, 1, 44}, 1),
		"large":      bytes.Repeat([]byte("a"), inspect.MaxSize+1),
	} {
		r := inspect.Inspect([]inspect.Input{{Name: "f", Data: data}}, inspect.Options{})
		p := r.Artifacts[0].Problem
		if r.OK() || p == nil || p.Code == "" || p.Message == "" || p.Hint == "" || strings.Contains(r.Text(), hidden) {
			t.Errorf("%s: %s", name, r.Text())
		}
	}
}

// TestScriptsStayHidden looks for what the script and the configuration of the fixtures hold.
func TestScriptsStayHidden(t *testing.T) {
	for _, file := range []string{"answer.json", "unsigned.cms", "onboarding.json"} {
		r := inspect.Inspect(inputs(t, file), options(t))
		document, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{r.Text(), string(document)} {
			if !strings.Contains(text, "dpuos") || strings.Contains(text, "SECRET") || strings.Contains(text, "aG9zdG5hbWUgeAo") ||
				strings.Contains(text, "hostname x") {
				t.Errorf("%s: %s", file, text)
			}
		}
	}
}

// FuzzInspect: any bytes give a report that explains itself, in text that a terminal can show.
func FuzzInspect(f *testing.F) {
	for _, name := range []string{"ci.cms", "ci.pem", "ci.eml", "ci.b64", "oc.cms", "ov.vcj", "redirect.cms", "encrypted.cms", "answer.json", "answer.xml", "parts.pem",
		"onboarding.json", "option.hex", "server.pem"} {
		f.Add(read(f, name), true)
	}
	o := options(f)
	f.Fuzz(func(t *testing.T, data []byte, lenient bool) {
		o.Lenient = lenient
		r := inspect.Inspect([]inspect.Input{{Name: "a", Data: data}}, o)
		if len(r.Artifacts) == 0 || r.Validation == nil {
			t.Fatal("nothing found")
		}
		for _, a := range r.Artifacts {
			if a.Problem != nil && (a.Problem.Code == "" || a.Problem.Message == "") || a.Problem == nil && a.Kind == inspect.KindUnknown {
				t.Errorf("%s: %+v", a.Kind, a.Problem)
			}
		}
		if v := r.Validation; (v.Verdict == inspect.Accepted) != (v.Problem == nil) {
			t.Errorf("%+v", v)
		}
		for line := range strings.Lines(r.Text()) {
			if strings.ContainsFunc(strings.TrimSuffix(line, "\n"), func(c rune) bool { return !unicode.IsPrint(c) }) {
				t.Errorf("%q", line)
			}
		}
		document, err := r.JSON()
		if err != nil || strings.ContainsFunc(strings.TrimSuffix(string(document), "\n"), func(c rune) bool { return !unicode.IsPrint(c) }) {
			t.Errorf("%v, %q", err, document)
		}
		var back, plain any
		expected, _ := json.Marshal(r)
		if json.Unmarshal(document, &back) != nil || json.Unmarshal(expected, &plain) != nil || !cmp.Equal(back, plain) {
			t.Errorf("the escaped form says something else: %s", document)
		}
	})
}
