package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// do runs a command line that must go well and returns what it printed.
func do(t *testing.T, args ...string) string {
	t.Helper()
	out, err := try(args...)
	if err != nil {
		t.Fatalf("ztp-lab %s: %v", strings.Join(args, " "), err)
	}
	return out
}

func try(args ...string) (string, error) {
	var out bytes.Buffer
	c := rootCommand()
	c.SetArgs(args)
	c.SetOut(&out)
	c.SetErr(&out)
	err := c.Execute()
	return out.String(), err
}

func openssl(t *testing.T, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("openssl", args...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("openssl %v: %v\n%s", args, err, errs.String())
	}
	return out
}

// inFolder changes into a fresh folder that holds a hierarchy.
func inFolder(t *testing.T) {
	t.Helper()
	t.Chdir(t.TempDir())
	do(t, "artifacts", "pki", "pki")
	do(t, "artifacts", "certificate", "idevid", "--ca", "pki/idevid-ca.pem", "--ca-key", "pki/idevid-ca.key", "--serial", "AC-000123",
		"--key-type", "rsa2048")
}

func TestVoucher(t *testing.T) {
	inFolder(t)
	do(t, "artifacts", "voucher", "--serial", "AC-000123", "--pinned", "pki/owner-root.pem", "--signer", "pki/masa.pem",
		"--key", "pki/masa.key", "--idevid", "idevid.pem", "--revocation-checks=false", "--out", "ov.vcj")
	content := openssl(t, "cms", "-verify", "-binary", "-inform", "DER", "-in", "ov.vcj", "-CAfile", "pki/maker-root.pem", "-purpose", "any")
	var doc map[string]map[string]any
	if err := json.Unmarshal(content, &doc); err != nil {
		t.Fatal(err)
	}
	v := doc["ietf-voucher:voucher"]
	if v["serial-number"] != "AC-000123" || v["assertion"] != "verified" || v["domain-cert-revocation-checks"] != false || v["expires-on"] == nil {
		t.Errorf("%v", v)
	}
	issuer, err := base64.StdEncoding.DecodeString(v["idevid-issuer"].(string))
	aki := strings.ReplaceAll(string(openssl(t, "x509", "-in", "idevid.pem", "-noout", "-ext", "authorityKeyIdentifier")), ":", "")
	if err != nil || !strings.Contains(strings.ToLower(aki), hex.EncodeToString(issuer[len(issuer)-20:])) {
		t.Errorf("idevid-issuer %x, authority key identifier %s", issuer, aki)
	}
}

func TestSignedAndEncryptedOnboarding(t *testing.T) {
	inFolder(t)
	for name, content := range map[string]string{"conf": "hostname x\n", "os.img": "hello image\n"} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"artifacts", "conveyed-information", "--configuration", "conf", "--image", "os.img", "--image-url", "https://img1.example.net/os.img",
		"--os-version", "4.3.1", "--signer", "pki/owner.pem", "--key", "pki/owner.key"}
	do(t, append(args, "--out", "ci.cms")...)
	do(t, append(args, "--encrypt-for", "idevid.pem", "--encrypt-whole", "--out", "encrypted.cms")...)
	openssl(t, "cms", "-decrypt", "-binary", "-inform", "DER", "-in", "encrypted.cms", "-recip", "idevid.pem", "-inkey", "idevid.key", "-out", "decrypted.cms")
	for _, file := range []string{"ci.cms", "decrypted.cms"} {
		content := openssl(t, "cms", "-verify", "-binary", "-inform", "DER", "-in", file, "-CAfile", anchors(t), "-certfile", "pki/owner.pem", "-purpose", "any")
		for _, want := range []string{`"configuration":"aG9zdG5hbWUgeAo="`, `"configuration-handling":"merge"`, `"hash-value":"cd:4a:bd:b9:`} {
			if !strings.Contains(string(content), want) {
				t.Errorf("%s: no %s in %s", file, want, content)
			}
		}
	}
}

// anchors returns a file with the owner's CA certificates.
func anchors(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile("pki/owner-issuing.pem")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "anchors.pem")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestRedirectOfTheWireFormat(t *testing.T) {
	got := do(t, "artifacts", "conveyed-information", "--redirect", "bs1.example.net:8443", "--base64")
	want := "MIGCBgsqhkiG9w0BCRABK6BzBHF7ImlldGYtc3p0cC1jb252ZXllZC1pbmZvOnJlZGlyZWN0LWluZm9ybWF0aW9uIjp7ImJvb3RzdHJhcC1zZXJ2ZXIiOlt7" +
		"ImFkZHJlc3MiOiJiczEuZXhhbXBsZS5uZXQiLCJwb3J0Ijo4NDQzfV19fQ==\n"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestCertificateSets(t *testing.T) {
	inFolder(t)
	for _, c := range []struct {
		args []string
		want int
	}{
		{[]string{"owner-certificate", "pki/owner.pem"}, 3},
		{[]string{"owner-certificate", "pki/owner.pem", "--pinned", "pki/owner-root.pem"}, 2},
		{[]string{"owner-certificate", "pki/owner.pem", "--pinned", "pki/owner.pem"}, 3},
		{[]string{"trust-anchor", "pki/owner-web-ca.pem"}, 1},
	} {
		do(t, append(append([]string{"artifacts"}, c.args...), "-o", "set.der")...)
		out := openssl(t, "pkcs7", "-inform", "DER", "-in", "set.der", "-print_certs", "-noout")
		if n := bytes.Count(out, []byte("subject=")); n != c.want {
			t.Errorf("%v: %d certificates, want %d", c.args, n, c.want)
		}
	}
}

func TestDHCPOption(t *testing.T) {
	if got := do(t, "dhcp-option", "--server", "hex-dhcp4", "https://bs1.example.net"); got != "8f19001768747470733a2f2f6273312e6578616d706c652e6e6574\n" {
		t.Errorf("%s", got)
	}
	if out, err := try("dhcp-option", "https://bs1.example.net/restconf"); err == nil || !strings.Contains(err.Error(), "use https://bs1.example.net") {
		t.Errorf("a path was accepted: %s %v", out, err)
	}
}

func TestMistakesAreExplained(t *testing.T) {
	inFolder(t)
	for want, args := range map[string][]string{
		"is not empty":              {"artifacts", "pki", "pki"},
		"does not belong":           {"artifacts", "voucher", "--serial", "x", "--pinned", "pki/owner.pem", "--signer", "pki/masa.pem", "--key", "pki/owner.key"},
		"nothing to convey":         {"artifacts", "conveyed-information"},
		"holds no certificate":      {"artifacts", "trust-anchor", "pki/owner.key"},
		"unknown scenario":          {"demo", "--scenario", "x"},
		"say where it is with":      {"demo", "--ztp", "./nowhere"},
		`unknown network "ipx"`:     {"up", "--network", "ipx"},
		"at least one of the flags": {"artifacts", "certificate", "x", "--ca", "pki/masa.pem", "--ca-key", "pki/masa.key"},
	} {
		if out, err := try(args...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q\n%s", args, err, want, out)
		}
	}
}
