package signature_test

import (
	"bytes"
	"testing"

	"github.com/xpu-sztp/ztp/pkg/image/signature"
)

// fuzz holds whatever a stranger may publish beside an image to this: it is read or refused with a reason, and no signature that
// is read makes another image right than the one that was signed.
func fuzz(f *testing.F, form signature.Form) {
	w := shared()
	var policy *signature.Policy
	for _, s := range samples(f) {
		if s.form == form {
			f.Add(s.data)
		}
	}
	policy = w.policy(f, w.allow("ed25519", "")+w.allow("p256", "")+w.allow("rsa", ""), []string{"mini"}, []string{"ca", "owner"})
	f.Fuzz(func(t *testing.T, data []byte) {
		claim, err := policy.Verify(form, data)
		if err != nil {
			refusal(t, err)
			return
		}
		h := claim.New()
		h.Write([]byte("an image that nobody signed"))
		if err := claim.Check(h.Sum(nil)); refusal(t, err) != signature.CodeMismatch {
			t.Errorf("%s signed an image that nobody signed", claim.Signer)
		}
		if claim.Check(nil) == nil || claim.Check(make([]byte, h.Size())) == nil {
			t.Error("an empty digest is right")
		}
	})
}

func FuzzOpenSSH(f *testing.F)  { fuzz(f, signature.OpenSSH) }
func FuzzMinisign(f *testing.F) { fuzz(f, signature.Minisign) }
func FuzzCMS(f *testing.F)      { fuzz(f, signature.CMS) }

// FuzzAddKeys: files of signers are the operator's, but may be damaged. None is read in part.
func FuzzAddKeys(f *testing.F) {
	w := shared()
	f.Add([]byte(w.allow("ed25519", `namespaces="a,b*",valid-after="20260101Z"`) + w.allow("rsa", "")))
	f.Add([]byte(w.allow("p256", "")))
	f.Add([]byte(w.allow("p256", "") + "somebody\n"))
	f.Add(w.read("mini.pub"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s := new(signature.Signers)
		if err := s.AddKeys(data); (err == nil) == s.Empty() {
			t.Errorf("%v, but empty: %v", err, s.Empty())
		}
		again := new(signature.Signers)
		if err := s.AddKeys(bytes.Clone(data)); err == nil && again.AddKeys(data) != nil {
			t.Error("not always read alike")
		}
	})
}
