package inspect_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"strings"
	"testing"
	"unicode"

	"github.com/xpu-sztp/ztp/pkg/inspect"
)

// TestPrivateKeys: a key that was given by mistake is named as such and not shown, in whatever encoding.
func TestPrivateKeys(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, other, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []any{key, other} {
		der, err := x509.MarshalPKCS8PrivateKey(k)
		if err != nil {
			t.Fatal(err)
		}
		text := base64.StdEncoding.EncodeToString(der)
		for name, data := range map[string][]byte{
			"DER":       der,
			"base64":    []byte(text),
			"PEM":       pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
			"encrypted": pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: der}),
			"TSS2":      pem.EncodeToMemory(&pem.Block{Type: "TSS2 PRIVATE KEY", Bytes: der}),
			"mixed":     append(read(t, "ci.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})...),
		} {
			r := inspect.Inspect([]inspect.Input{{Name: "f", Data: data}}, inspect.Options{})
			a := r.Artifacts[len(r.Artifacts)-1]
			if r.OK() || a.Kind != inspect.KindPrivateKey || a.Problem == nil || a.Problem.Code != string(inspect.CodePrivateKey) ||
				a.SHA256 != "" || strings.Contains(r.Text(), text[:20]) {
				t.Errorf("%s: %s", name, r.Text())
			}
			r = inspect.Inspect([]inspect.Input{{Name: "f", Data: data, Found: true}, {Name: "g", Data: []byte("notes"), Found: true}}, inspect.Options{})
			if !r.OK() || !strings.Contains(r.Text(), "private key") {
				t.Errorf("%s, found in a folder: %s", name, r.Text())
			}
		}
	}
}

// TestHostileText: what artifacts say neither commands the terminal nor fills it.
func TestHostileText(t *testing.T) {
	long := strings.Repeat("x", 4000)
	for _, document := range []string{
		`{"ietf-sztp-conveyed-info:onboarding-information":{"boot-image":{"os-name":"\u001b[2J\u009b1mX\r\nfile forged","os-version":"\u202e` + long + `"}}}`,
		`{"ietf-sztp-conveyed-info:onboarding-information":{"boot-image":{"download-uri":["https://a/` + long + `"]}}}`,
		`{"ietf-sztp-conveyed-info:\u001b[2J` + long + `":1}`,
	} {
		r := inspect.Inspect([]inspect.Input{{Name: "a\x1b[2J\u009b", Data: []byte(document)}}, inspect.Options{})
		asJSON, err := r.JSON()
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(r.Text()) {
			if len([]rune(line)) > 600 {
				t.Errorf("a line of %d characters", len(line))
			}
		}
		for _, text := range []string{strings.ReplaceAll(r.Text(), "\n", ""), string(bytes.TrimSuffix(asJSON, []byte("\n")))} {
			if strings.ContainsFunc(text, func(c rune) bool { return !unicode.IsPrint(c) }) {
				t.Errorf("%q", text)
			}
		}
	}
}
