package signature_test

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/image/signature"
)

// TestAddKeys: a file of signers is read as a whole, or the device says what is wrong with it.
func TestAddKeys(t *testing.T) {
	w := shared()
	ed, rsa := string(w.read("ed25519.pub")), string(w.read("rsa.pub"))
	blob := strings.Fields(ed)[1]
	mini := string(w.read("mini.pub"))
	miniKey := strings.Split(mini, "\n")[1]
	w.run("ssh-keygen", "-q", "-s", w.path("rsa"), "-I", "id", w.path("p256.pub"))
	certificate := string(w.read("p256-cert.pub"))
	for name, test := range map[string]struct{ file, problem string }{
		"one":            {"a@b " + ed, ""},
		"comments":       {"# who signs\n\n  a@b " + ed + "\t# more\nc@d\t" + rsa, ""},
		"options":        {`a@b,c@d namespaces="x y,z",Valid-After="20260101",valid-before="202612312359Z" ` + ed, ""},
		"quoted":         {`"a@b" namespaces="x y" ` + ed, ""},
		"no-end-of-line": {"a@b ssh-ed25519 " + blob, ""},
		"minisign":       {mini, ""},

		"empty":                    {"", "names nobody"},
		"only-comments":            {"# nobody\n", "names nobody"},
		"without-principals":       {ed, "line 1: begins with a key"},
		"second-line":              {"a@b " + ed + "a@b ssh-ed25519 AAAA\n", "line 2: the key is damaged"},
		"authority":                {"a@b cert-authority " + ed, "cert-authority is not supported"},
		"certificate":              {"a@b " + certificate, "without certificates"},
		"security-key":             {"a@b sk-ssh-ed25519@openssh.com AAAA", `keys of type "sk-ssh-ed25519@openssh.com" are not supported`},
		"dss":                      {"a@b ssh-dss AAAA", `keys of type "ssh-dss" are not supported`},
		"weak-rsa":                 {"a@b " + string(w.read("weak.pub")), "fewer than 2048 bits"},
		"other-type":               {"a@b ssh-rsa " + blob, "damaged, or is not of type ssh-rsa"},
		"other-curve":              {"a@b " + strings.Replace(string(w.read("p256.pub")), "nistp256", "nistp384", 1), "damaged, or is not of type"},
		"no-key":                   {"a@b ssh-ed25519", "damaged"},
		"not-base64":               {"a@b ssh-ed25519 AAAA*", "illegal base64"},
		"short":                    {"a@b ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA==", "damaged"},
		"long":                     {"a@b ssh-ed25519 " + blob + "AAAA", "damaged"},
		"not-on-curve":             {"a@b " + offCurve(w), "not on curve"},
		"unknown-option":           {`a@b touch-required ` + ed, `"touch-required" is neither`},
		"twice":                    {`a@b namespaces="x",Namespaces="y" ` + ed, "there twice"},
		"without-quotes":           {`a@b valid-before=20260101 ` + ed, "in quotes"},
		"quotes-open":              {`a@b namespaces="x ` + ed, "in quotes"},
		"without-comma":            {`a@b namespaces="x"y ` + ed, "in quotes"},
		"without-value":            {`a@b namespaces ` + ed, "in quotes"},
		"empty-value":              {`a@b namespaces="" ` + ed, "in quotes"},
		"not-a-time":               {`a@b valid-before="tomorrow" ` + ed, "not a time"},
		"no-such-day":              {`a@b valid-before="20260231" ` + ed, "not a time"},
		"never":                    {`a@b valid-after="20260102",valid-before="20260101" ` + ed, "not after valid-after"},
		"private-ssh":              {string(w.read("ed25519")), "private key"},
		"private-minisign":         {string(w.read("mini.key")), "private key"},
		"private-pem":              {string(w.read("owner.key")), "private key"},
		"other-pem":                {"-----BEGIN X-----\n-----END X-----\n", "in quotes"},
		"minisign-damaged":         {strings.Replace(mini, "RW", "RX", 1), "not a public key of minisign"},
		"minisign-short":           {"untrusted comment: x\nRWAA\n", "not a public key of minisign"},
		"minisign-of-two":          {mini + miniKey, "not a public key of minisign"},
		"minisign-is-a-signature":  {string(w.mini("mini", "image")), "not a public key of minisign"},
		"too-many":                 {strings.Repeat("a@b "+ed, 257), "more than 256"},
		"text":                     {"hello\n", `keys of type "" are not supported`},
		"text-of-several-words":    {"hello wide world\n", "neither a type of key"},
		"separators-at-both-sides": {",\n", `keys of type "" are not supported`},
	} {
		t.Run(name, func(t *testing.T) {
			err := new(signature.Signers).AddKeys([]byte(test.file))
			switch {
			case test.problem == "" && err != nil:
				t.Error(err)
			case test.problem != "" && (err == nil || !strings.Contains(err.Error(), test.problem)):
				t.Errorf("%v, want %q", err, test.problem)
			}
		})
	}
	s := new(signature.Signers)
	if err := s.AddCertificates(make([]*x509.Certificate, 257)); err == nil || !strings.Contains(err.Error(), "more than 256") {
		t.Error(err)
	}
}

// offCurve is a public key whose point is on no curve.
func offCurve(w *world) string {
	fields := strings.Fields(string(w.read("p256.pub")))
	last := len(fields[1]) - 8
	return fields[0] + " " + fields[1][:last] + "AAAA" + fields[1][last+4:]
}

// TestPeriods: what the options mean, as ssh-keygen sees it too.
func TestPeriods(t *testing.T) {
	w := shared()
	sig := w.path("period.sig")
	w.write("period.sig", w.ssh("ed25519", "image"))
	for _, option := range []string{`valid-after="20300102"`, `valid-before="20300102"`, `valid-after="203001020304"`, `valid-before="20300102030405"`,
		`valid-before="20300102030405Z"`, `valid-after="20300101",valid-before="20300103"`} {
		allowed := w.write("period", []byte(w.allow("ed25519", option)))
		p := w.policy(t, w.allow("ed25519", option), nil, nil)
		for _, at := range []string{"20300101000000", "20300101235959", "20300102000000", "20300102000001", "20300102030400", "20300102030404",
			"20300102030405", "20300102030406", "20300103000000", "20300103000001"} {
			now, err := time.ParseInLocation("20060102150405", at, time.UTC)
			if err != nil {
				t.Fatal(err)
			}
			p.Clock = artifacts.Clock{Now: now, Confidence: artifacts.ClockAuthenticated}
			_, ours := judge(p, signature.OpenSSH, w.read("period.sig"), boot)
			_, theirs := w.tryInput(boot, "ssh-keygen", "-Y", "verify", "-n", namespace, "-I", "ed25519@example.com", "-f", allowed, "-s", sig,
				"-Overify-time="+at)
			if (ours == nil) != (theirs == nil) {
				t.Errorf("%s at %s: %v, but ssh-keygen: %v", option, at, ours, theirs)
			}
		}
	}
}

// TestPatterns holds pattern lists against ssh-keygen.
func TestPatterns(t *testing.T) {
	w := shared()
	w.write("pattern.sig", w.ssh("ed25519", "image"))
	for _, list := range []string{"ztp-image", "ztp", "ztp-image2", "*", "?", "???-?????", "ztp*", "*image", "*-*", "z*p*g*", "z*q*", "**", "a,*,b", "a,b",
		"!ztp-image,*", "*,!ztp*", "!a,*", "!a", "", ",", "ZTP-IMAGE", "*?image", "*????????????", "[z]tp-image"} {
		option := `namespaces="` + list + `"`
		allowed := w.write("pattern", []byte(w.allow("ed25519", option)))
		ours := new(signature.Signers).AddKeys([]byte(w.allow("ed25519", option)))
		if ours == nil {
			_, ours = judge(w.policy(t, w.allow("ed25519", option), nil, nil), signature.OpenSSH, w.read("pattern.sig"), boot)
		}
		_, theirs := w.tryInput(boot, "ssh-keygen", "-Y", "verify", "-n", namespace, "-I", "ed25519@example.com", "-f", allowed, "-s",
			w.path("pattern.sig"))
		if (ours == nil) != (theirs == nil) {
			t.Errorf("%q: %v, but ssh-keygen: %v", list, ours, theirs)
		}
	}
}
