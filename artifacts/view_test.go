package artifacts_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/artifacts/cms"
	"github.com/xpu-sztp/ztp/artifacts/internal/opensslpki"
)

// TestViewShowsNothingToExecute views a document with every member: what could be executed is there by size and digest.
func TestViewShowsNothingToExecute(t *testing.T) {
	document := encode(object{"ietf-sztp-conveyed-info:onboarding-information": object{
		"boot-image":               object{"os-name": "os", "os-version": "1", "download-uri": []string{"https://a/b"}},
		"pre-configuration-script": b64([]byte("before")), "post-configuration-script": b64([]byte("after")),
		"configuration": b64([]byte("config")), "configuration-handling": "replace",
	}})
	view, warnings, err := artifacts.ViewConveyedInformation(cms.TypeConveyedJSON, document, false)
	if err != nil || warnings != nil {
		t.Fatal(err, warnings)
	}
	extent := func(s string) *artifacts.Extent {
		sum := sha256.Sum256([]byte(s))
		return &artifacts.Extent{Bytes: len(s), SHA256: hex.EncodeToString(sum[:])}
	}
	want := &artifacts.ConveyedView{Onboarding: &artifacts.OnboardingView{
		OSName: "os", OSVersion: "1", URIs: []string{"https://a/b"}, PreScript: extent("before"), PostScript: extent("after"),
		Handling: artifacts.Replace, Configuration: extent("config"),
	}}
	if diff := cmp.Diff(want, view); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestViewRedirect(t *testing.T) {
	w := shared()
	document := encode(object{"ietf-sztp-conveyed-info:redirect-information": object{"bootstrap-server": []object{
		{"address": "a", "port": 8443, "trust-anchor": b64(w.Certificates(entities{w.tlsCA, w.tlsRoot}))},
		{"address": "b", "trust-anchor": b64(w.Certificates(entities{w.tlsCA}))},
	}}})
	view, _, err := artifacts.ViewConveyedInformation(cms.TypeData, document, false)
	if err != nil {
		t.Fatal(err)
	}
	a, b := view.Redirect[0], view.Redirect[1]
	if len(a.Anchor) != 2 || a.Anchor[0].Subject != "CN=TLS CA,O=TLS" || !a.Anchor[1].Authority || a.AnchorErr != nil || a.Port != 8443 {
		t.Errorf("%+v", a)
	}
	if e, ok := b.AnchorErr.(*artifacts.Error); !ok || e.Code != artifacts.CodeAnchorMalformed || b.Anchor != nil || b.Port != 443 {
		t.Errorf("%+v", b)
	}
}

func TestViewVoucher(t *testing.T) {
	w := shared()
	view, _, err := artifacts.ViewVoucher(w.voucherDocument(object{"nonce": "AAECAwQFBgc=", "domain-cert-revocation-checks": true}), false)
	if err != nil {
		t.Fatal(err)
	}
	if view.SerialNumber != serial || view.Nonce != "0001020304050607" || view.RevocationChecks != "true" ||
		view.Assertion != artifacts.Verified || view.ExpiresOn.IsZero() || view.Pinned.Subject != "CN=Owner root,O=Owner" {
		t.Errorf("%+v", view)
	}
	for document, code := range map[string]artifacts.Code{`{}`: artifacts.CodeVoucherMalformed, `[`: artifacts.CodeVoucherMalformed} {
		if _, _, err := artifacts.ViewVoucher([]byte(document), true); !hasCode(err, code) {
			t.Errorf("%s: %v", document, err)
		}
	}
}

func TestViewRefusesLikeValidate(t *testing.T) {
	for document, code := range map[string]artifacts.Code{
		`{"ietf-sztp-conveyed-info:onboarding-information":{"colour":1}}`: artifacts.CodeConveyedInvalid,
		`<redirect-information/>`: artifacts.CodeConveyedInvalid,
	} {
		if _, _, err := artifacts.ViewConveyedInformation(cms.TypeData, []byte(document), false); !hasCode(err, code) {
			t.Errorf("%s: %v", document, err)
		}
	}
}

func hasCode(err error, code artifacts.Code) bool {
	e, ok := err.(*artifacts.Error)
	return ok && e.Code == code
}

// TestSteps holds the order that people are told against the order in which Validate runs.
func TestSteps(t *testing.T) {
	b, d, p := signedCase{w: shared()}.build()
	_, trail, err := artifacts.Validate(b, nil, d, p)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(artifacts.Steps(true), steps(trail)); diff != "" {
		t.Errorf("signed (-told +ran)\n%s", diff)
	}
	_, trail, err = artifacts.Validate(artifacts.Bundle{ConveyedInformation: opensslpki.Data(typeJSON, redirectDocument)}, nil, d, p)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(artifacts.Steps(false), steps(trail)); diff != "" {
		t.Errorf("unsigned (-told +ran)\n%s", diff)
	}
}

func steps(trail artifacts.Trail) []artifacts.Step {
	var list []artifacts.Step
	for _, v := range trail.Steps {
		list = append(list, v.Step)
	}
	return list
}

// FuzzView: a document that a device would read can be viewed, and the view holds no bytes of a script.
func FuzzView(f *testing.F) {
	f.Add(string(redirectDocument), true)
	f.Add(string(onboardingDocument), false)
	f.Add(string(shared().voucherDocument(nil)), false)
	server := trusted(f)
	f.Fuzz(func(t *testing.T, document string, lenient bool) {
		_, readErr := unsigned(server, typeJSON, document, lenient)
		view, _, err := artifacts.ViewConveyedInformation(cms.TypeConveyedJSON, []byte(document), lenient)
		if readErr == nil && err != nil {
			t.Fatalf("read, but not viewed: %v", err)
		}
		if err == nil {
			if shown, err := json.Marshal(view); err != nil || strings.Contains(string(shown), "IyEvYmluL3No") {
				t.Fatalf("%s, %v", shown, err)
			}
		}
		artifacts.ViewVoucher([]byte(document), lenient)
	})
}
