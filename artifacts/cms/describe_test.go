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
