package signature_test

import (
	"crypto"
	"strings"
	"testing"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/image/signature"
	"github.com/xpu-sztp/ztp/pkg/reason"
)

func TestOpenSSH(t *testing.T) {
	w := shared()
	all := ""
	for _, key := range []string{"ed25519", "p256", "p384", "p521", "rsa"} {
		all += w.allow(key, "")
	}
	later := func(p *signature.Policy) { p.Clock.Now = p.Clock.Now.AddDate(20, 0, 0) }
	unsure := func(p *signature.Policy) { later(p); p.Clock.Confidence = artifacts.ClockNone }
	otherNamespace := func(p *signature.Policy) { p.Namespace = "file" }
	for name, test := range map[string]struct {
		key, image string
		args       []string
		allowed    string
		policy     func(*signature.Policy)
		hash       crypto.Hash
		code       reason.Code
	}{
		"ed25519":                  {key: "ed25519"},
		"ed25519-sha256":           {key: "ed25519", args: []string{"-O", "hashalg=sha256"}, hash: crypto.SHA256},
		"p256":                     {key: "p256"},
		"p256-sha256":              {key: "p256", args: []string{"-O", "hashalg=sha256"}, hash: crypto.SHA256},
		"p384":                     {key: "p384"},
		"p521":                     {key: "p521"},
		"rsa":                      {key: "rsa"},
		"rsa-sha256":               {key: "rsa", args: []string{"-O", "hashalg=sha256"}, hash: crypto.SHA256},
		"namespaces":               {key: "ed25519", allowed: w.allow("ed25519", `namespaces="git,ztp-*"`)},
		"in-time":                  {key: "ed25519", allowed: w.allow("ed25519", `valid-after="20200101",valid-before="20400101Z"`)},
		"second-line-is-in-time":   {key: "ed25519", allowed: w.allow("ed25519", `valid-before="20200101"`) + w.allow("ed25519", "")},
		"expired-but-no-clock":     {key: "ed25519", allowed: w.allow("ed25519", `valid-before="20400101"`), policy: unsure},
		"other-image":              {key: "ed25519", image: "other", code: signature.CodeMismatch},
		"other-image-sha256":       {key: "p256", image: "other", args: []string{"-O", "hashalg=sha256"}, hash: crypto.SHA256, code: signature.CodeMismatch},
		"other-image-rsa":          {key: "rsa", image: "other", code: signature.CodeMismatch},
		"stranger":                 {key: "stranger", code: signature.CodeUntrusted},
		"weak-stranger":            {key: "weak", code: signature.CodeUntrusted},
		"other-namespace":          {key: "ed25519", args: []string{"-n", "git"}, code: signature.CodeNamespace},
		"other-namespace-is-right": {key: "ed25519", policy: otherNamespace, code: signature.CodeNamespace},
		"key-for-other-namespaces": {key: "ed25519", allowed: w.allow("ed25519", `namespaces="git"`), code: signature.CodeUntrusted},
		"key-not-for-namespace":    {key: "ed25519", allowed: w.allow("ed25519", `namespaces="*,!ztp-*"`), code: signature.CodeUntrusted},
		"expired":                  {key: "ed25519", allowed: w.allow("ed25519", `valid-before="20400101"`), policy: later, code: signature.CodeExpired},
		"not-yet-valid":            {key: "ed25519", allowed: w.allow("ed25519", `valid-after="20400101"`), code: signature.CodeExpired},
	} {
		t.Run(name, func(t *testing.T) {
			if test.image == "" {
				test.image = "image"
			}
			if test.allowed == "" {
				test.allowed = all
			}
			if test.hash == 0 {
				test.hash = crypto.SHA512
			}
			p := w.policy(t, test.allowed, nil, nil)
			if test.policy != nil {
				test.policy(p)
			}
			sig := w.ssh(test.key, test.image, test.args...)
			claim, err := judge(p, signature.OpenSSH, sig, boot)
			if got := refusal(t, err); got != test.code {
				t.Fatalf("%q: %v, want %q", got, err, test.code)
			}
			if claim != nil && (claim.Hash != test.hash || !strings.HasPrefix(claim.Signer, test.key+"@example.com, ")) {
				t.Errorf("claim %v by %q", claim.Hash, claim.Signer)
			}
		})
	}
}

func TestMinisign(t *testing.T) {
	w := shared()
	damage := func(line int, from, to string) func(string) string {
		return func(s string) string {
			lines := strings.Split(s, "\n")
			lines[line] = strings.Replace(lines[line], from, to, 1)
			return strings.Join(lines, "\n")
		}
	}
	for name, test := range map[string]struct {
		key, image string
		args       []string
		change     func(string) string
		code       reason.Code
	}{
		"prehashed":           {key: "mini"},
		"comments":            {key: "mini", args: []string{"-c", "who knows", "-t", "version 2.1, for all DPUs"}},
		"untrusted-comment":   {key: "mini", change: damage(0, "signature", "forgery")},
		"carriage-returns":    {key: "mini", change: func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }},
		"legacy":              {key: "mini", args: []string{"-l"}, code: signature.CodeAlgorithm},
		"unknown-algorithm":   {key: "mini", change: damage(1, "RU", "RV"), code: signature.CodeAlgorithm},
		"other-image":         {key: "mini", image: "other", code: signature.CodeMismatch},
		"trusted-comment":     {key: "mini", change: damage(2, "timestamp", "Timestamp"), code: signature.CodeMismatch},
		"stranger":            {key: "mini-stranger", code: signature.CodeUntrusted},
		"comment-ends-early":  {key: "mini", change: damage(2, "timestamp", "time\rstamp"), code: signature.CodeMalformed},
		"line-missing":        {key: "mini", change: func(s string) string { return s[:strings.Index(s, "trusted comment: t")] }, code: signature.CodeMalformed},
		"line-too-many":       {key: "mini", change: func(s string) string { return s + "RU\n" }, code: signature.CodeMalformed},
		"no-comment":          {key: "mini", change: damage(0, "untrusted comment: ", ""), code: signature.CodeMalformed},
		"not-base64":          {key: "mini", change: damage(1, "RU", "R*"), code: signature.CodeMalformed},
		"short":               {key: "mini", change: damage(3, "A", ""), code: signature.CodeMalformed},
		"empty":               {key: "mini", change: func(string) string { return "" }, code: signature.CodeMalformed},
		"larger-than-allowed": {key: "mini", change: func(s string) string { return s + strings.Repeat("\n", signature.MaxSize) }, code: signature.CodeMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			if test.image == "" {
				test.image = "image"
			}
			sig := string(w.mini(test.key, test.image, test.args...))
			if name == "short" {
				test.change = func(s string) string { return strings.TrimRight(s, "\n")[:len(s)-6] + "\n" }
			}
			if test.change != nil {
				sig = test.change(sig)
			}
			claim, err := judge(w.policy(t, "", []string{"mini"}, nil), signature.Minisign, []byte(sig), boot)
			if got := refusal(t, err); got != test.code {
				t.Fatalf("%q: %v, want %q", got, err, test.code)
			}
			if claim != nil && (claim.Hash != crypto.BLAKE2b_512 || !strings.HasPrefix(claim.Signer, "minisign key ")) {
				t.Errorf("claim %v by %q", claim.Hash, claim.Signer)
			}
			if name == "comments" && !strings.HasSuffix(claim.Signer, ", version 2.1, for all DPUs") {
				t.Errorf("signed by %q", claim.Signer)
			}
		})
	}
}

func TestCMS(t *testing.T) {
	w := shared()
	owner := func(p *signature.Policy) { p.Signers.Owner, p.Owner = true, w.certificate("owner") }
	noOwner := func(p *signature.Policy) { p.Signers.Owner = true }
	ownerNotNamed := func(p *signature.Policy) { p.Owner = w.certificate("owner") }
	later := func(p *signature.Policy) { p.Clock.Now = p.Clock.Now.AddDate(20, 0, 0) }
	earlier := func(p *signature.Policy) { p.Clock.Now = p.Clock.Now.AddDate(-20, 0, 0) }
	unsure := func(p *signature.Policy) { later(p); p.Clock.Confidence = artifacts.ClockNone }
	chain := []string{"-certfile", "ca.pem"}
	for name, test := range map[string]struct {
		signer, image string
		args          []string
		certificates  []string
		policy        func(*signature.Policy)
		hash          crypto.Hash
		code          reason.Code
	}{
		"owner":                      {signer: "owner", policy: owner},
		"owner-without-certificates": {signer: "owner", policy: owner, args: []string{"-nocerts"}},
		"owner-by-key-identifier":    {signer: "owner", policy: owner, args: []string{"-keyid"}},
		"owner-in-PEM":               {signer: "owner", policy: owner, args: []string{"-outform", "PEM"}},
		"owner-sha384":               {signer: "owner", policy: owner, args: []string{"-md", "sha384"}, hash: crypto.SHA384},
		"owner-sha512":               {signer: "owner", policy: owner, args: []string{"-md", "sha512"}, hash: crypto.SHA512},
		"this-very-certificate":      {signer: "any", certificates: []string{"any"}},
		"this-very-authority":        {signer: "lone", certificates: []string{"lone"}},
		"certified-by-authority":     {signer: "release", certificates: []string{"ca"}},
		"path":                       {signer: "release", certificates: []string{"root"}, args: chain},
		"rsa":                        {signer: "rsa-cert", certificates: []string{"ca"}},
		"rsa-pss":                    {signer: "rsa-cert", certificates: []string{"ca"}, args: []string{"-keyopt", "rsa_padding_mode:pss", "-keyopt", "rsa_pss_saltlen:32"}},
		"also-by-a-stranger":         {signer: "owner", policy: owner, args: []string{"-signer", "web.pem", "-inkey", "web.key"}},
		"expired-but-no-clock":       {signer: "any", certificates: []string{"any"}, policy: unsure},
		"other-image":                {signer: "owner", policy: owner, image: "other", code: signature.CodeMismatch},
		"other-image-sha512":         {signer: "owner", policy: owner, image: "other", args: []string{"-md", "sha512"}, hash: crypto.SHA512, code: signature.CodeMismatch},
		"text-mode":                  {signer: "owner", policy: owner, args: []string{"-crlfeol"}, code: signature.CodeMismatch},
		"owner-not-named":            {signer: "owner", certificates: []string{"ca"}, policy: ownerNotNamed, code: signature.CodeUntrusted},
		"there-is-no-owner":          {signer: "owner", certificates: []string{"ca"}, policy: noOwner, code: signature.CodeUntrusted},
		"stranger":                   {signer: "lone", policy: owner, code: signature.CodeUntrusted},
		"stranger-of-owner's-name":   {signer: "forger", policy: owner, code: signature.CodeUntrusted},
		"authority's-web-server":     {signer: "web", certificates: []string{"ca"}, code: signature.CodeUntrusted},
		"authority's-other-leaf":     {signer: "any", certificates: []string{"ca"}, code: signature.CodeUntrusted},
		"authority-itself":           {signer: "ca", certificates: []string{"ca"}, code: signature.CodeUntrusted},
		"intermediate-missing":       {signer: "release", certificates: []string{"root"}, code: signature.CodeUntrusted},
		"certificate-missing":        {signer: "release", certificates: []string{"ca"}, args: []string{"-nocerts"}, code: signature.CodeUntrusted},
		"weak-key":                   {signer: "weak-cert", certificates: []string{"ca"}, code: signature.CodeUntrusted},
		"weak-key-named":             {signer: "weak-cert", certificates: []string{"weak-cert"}, code: signature.CodeAlgorithm},
		"expired":                    {signer: "any", certificates: []string{"any"}, policy: later, code: signature.CodeExpired},
		"expired-beside-a-stranger": {signer: "any", certificates: []string{"any"}, policy: later,
			args: []string{"-signer", "web.pem", "-inkey", "web.key"}, code: signature.CodeExpired},
		"not-yet-valid":               {signer: "any", certificates: []string{"any"}, policy: earlier, code: signature.CodeExpired},
		"path-expired":                {signer: "release", certificates: []string{"ca"}, policy: later, code: signature.CodeExpired},
		"sha1":                        {signer: "owner", policy: owner, args: []string{"-md", "sha1"}, code: signature.CodeAlgorithm},
		"without-attributes":          {signer: "owner", policy: owner, args: []string{"-noattr"}, code: signature.CodeAlgorithm},
		"with-content":                {signer: "owner", policy: owner, args: []string{"-nodetach"}, code: signature.CodeMalformed},
		"other-content-type":          {signer: "owner", policy: owner, args: []string{"-econtent_type", "1.2.3.4"}, code: signature.CodeMalformed},
		"mail":                        {signer: "owner", policy: owner, args: []string{"-outform", "SMIME"}, code: signature.CodeMalformed},
		"also-by-a-stranger-and-sha1": {signer: "owner", policy: owner, image: "other", args: []string{"-signer", "web.pem", "-inkey", "web.key"}, code: signature.CodeMismatch},
	} {
		t.Run(name, func(t *testing.T) {
			if test.image == "" {
				test.image = "image"
			}
			if test.hash == 0 {
				test.hash = crypto.SHA256
			}
			p := w.policy(t, "", nil, test.certificates)
			if test.policy != nil {
				test.policy(p)
			}
			claim, err := judge(p, signature.CMS, w.cms(test.signer, test.image, test.args...), boot)
			if got := refusal(t, err); got != test.code {
				t.Fatalf("%q: %v, want %q", got, err, test.code)
			}
			if claim != nil && (claim.Hash != test.hash || !strings.HasSuffix(claim.Signer, "CN="+test.signer)) {
				t.Errorf("claim %v by %q", claim.Hash, claim.Signer)
			}
		})
	}
}

// TestNotASignature: what servers send instead of a file that is not there.
func TestNotASignature(t *testing.T) {
	w := shared()
	p := w.policy(t, w.allow("ed25519", ""), []string{"mini"}, []string{"ca"})
	for _, text := range []string{"", "\n", "<html><body>Not found</body></html>\n", "-----BEGIN SSH SIGNATURE-----\n-----END SSH SIGNATURE-----\n",
		"-----BEGIN CMS-----\n-----END CMS-----\n", string(w.read("release.pem")), string(w.run("openssl", "crl2pkcs7", "-nocrl", "-certfile", "ca.pem",
			"-outform", "DER"))} {
		for _, form := range []signature.Form{signature.OpenSSH, signature.Minisign, signature.CMS} {
			_, err := p.Verify(form, []byte(text))
			if got := refusal(t, err); got != signature.CodeMalformed {
				t.Errorf("%s: %.40q: %q: %v", form.Suffix(), text, got, err)
			}
		}
	}
}

func TestForms(t *testing.T) {
	w := shared()
	for name, test := range map[string]struct {
		allowed      string
		mini         []string
		certificates []string
		owner        bool // counts
		present      bool // is there
		want         string
		code         reason.Code
	}{
		"all":                      {w.allow("rsa", ""), []string{"mini"}, []string{"ca"}, true, true, ".sig .minisig .p7s", ""},
		"openssh":                  {w.allow("rsa", ""), nil, nil, false, true, ".sig", ""},
		"minisign":                 {"", []string{"mini"}, nil, false, true, ".minisig", ""},
		"owner":                    {"", nil, nil, true, true, ".p7s", ""},
		"certificates":             {"", nil, []string{"ca"}, false, false, ".p7s", ""},
		"owner-missing":            {"", nil, nil, true, false, "", signature.CodeNoOwner},
		"owner-missing-and-others": {w.allow("rsa", ""), nil, nil, true, false, ".sig", ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := w.policy(t, test.allowed, test.mini, test.certificates)
			p.Signers.Owner = test.owner
			if test.present {
				p.Owner = w.certificate("owner")
			}
			forms, err := p.Forms()
			var got []string
			for _, f := range forms {
				got = append(got, f.Suffix())
			}
			if code := refusal(t, err); strings.Join(got, " ") != test.want || code != test.code {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}
