package cms_test

import (
	"strings"
	"testing"

	"github.com/xpu-sztp/ztp/artifacts/cms"
)

func TestRecipientsAreNamed(t *testing.T) {
	w := shared()
	rsa := w.IssueKey([]string{"rsa:2048"}, w.root, "/CN=RSA device")
	ec := w.Issue(w.root, "/CN=P-256 device")
	other := w.Issue(w.root, "/CN=another device")
	m, err := cms.Parse(w.Encrypt(rsa, content, "-aes-256-cbc", "-keyid", ec.CertFile))
	if err != nil {
		t.Fatal(err)
	}
	e := m.Enveloped
	if !e.For(rsa.Certificate) || !e.For(ec.Certificate) || e.For(other.Certificate) {
		t.Errorf("recipients %q", e.Recipients())
	}
	if got := e.Recipients(); len(got) != 2 || !strings.HasPrefix(got[0], "key identifier ") {
		t.Errorf("recipients %q", got)
	}
}

func TestAlgorithmIsNamed(t *testing.T) {
	w := shared()
	for want, args := range map[string][]string{
		"ECDSA with SHA-256": nil,
		"ECDSA with SHA-512": {"-md", "sha512"},
		"digest algorithm":   {"-md", "sha224"},
	} {
		m, err := cms.Parse(w.Sign(w.signer, content, args...))
		if err != nil {
			t.Fatal(err)
		}
		if got := m.Signed.Signers[0].Algorithm(); !strings.Contains(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
	der := message{signer: w.signer, scheme: typeVoucher, sign: func([]byte) []byte { return nil }}.build()
	if got := mustParse(t, der).Signed.Signers[0].Algorithm(); !strings.Contains(got, "signature algorithm "+typeVoucher) {
		t.Errorf("%q", got)
	}
}

func TestNameOf(t *testing.T) {
	name := shared().root.Certificate.RawSubject
	for in, want := range map[string]string{
		string(name):          "CN=root",
		string(name) + "\x00": "an unreadable name",
		string(name[:9]):      "an unreadable name",
		"":                    "an unreadable name",
		"\x30\x00":            "an empty name",
		"\x04\x04name":        "an unreadable name",
	} {
		if got := cms.NameOf([]byte(in)); got != want {
			t.Errorf("NameOf(%x) = %q, want %q", in, got, want)
		}
	}
}

func TestVisible(t *testing.T) {
	long := strings.Repeat("ä", 250)
	for in, want := range map[string]string{
		"plain ä":         "plain ä",
		"\x1b[31m\u202er": "\ufffd[31m\ufffdr",
		"a\nb\xff":        "a\ufffdb\ufffd",
		long:              long[:400] + "…",
		long[:400]:        long[:400],
	} {
		if got := cms.Printable(in); got != want {
			t.Errorf("Printable(%q) = %q", in, got)
		}
	}
	if got := cms.Visible(long + "\t"); got != long+"\ufffd" {
		t.Errorf("Visible = %q", got)
	}
}
