package signature_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/cryptobyte"

	"github.com/xpu-sztp/ztp/pkg/image/signature"
)

// sample is a good signature, what believes it, and what its own program says about another one in its place.
type sample struct {
	form   signature.Form
	policy *signature.Policy
	data   []byte
	verify func(data []byte) error
}

func samples(t testing.TB) map[string]sample {
	w := shared()
	all := map[string]sample{}
	for _, key := range []string{"ed25519", "p256", "p384", "p521", "rsa"} {
		allowed := w.write("allowed-"+key, []byte(w.allow(key, "")))
		all["openssh-"+key] = sample{signature.OpenSSH, w.policy(t, w.allow(key, ""), nil, nil), w.ssh(key, "image"), func(data []byte) error {
			_, err := w.tryInput(boot, "ssh-keygen", "-Y", "verify", "-n", namespace, "-I", key+"@example.com", "-f", allowed, "-s", w.write("changed", data))
			return err
		}}
	}
	all["minisign"] = sample{signature.Minisign, w.policy(t, "", []string{"mini"}, nil), w.mini("mini", "image"), func(data []byte) error {
		_, err := w.try("minisign", "-V", "-p", w.path("mini.pub"), "-m", w.path("image"), "-x", w.write("changed", data))
		return err
	}}
	verifyCMS := func(form, trusted string) func(data []byte) error {
		return func(data []byte) error {
			_, err := w.try("openssl", "cms", "-verify", "-binary", "-inform", form, "-in", w.write("changed", data), "-content", w.path("image"),
				"-CAfile", trusted+".pem", "-certfile", "owner.pem", "-purpose", "any", "-partial_chain", "-out", w.path("null"))
			return err
		}
	}
	owner := w.policy(t, "", nil, nil)
	owner.Signers.Owner, owner.Owner = true, w.certificate("owner")
	all["cms-owner"] = sample{signature.CMS, owner, w.cms("owner", "image", "-nocerts"), verifyCMS("DER", "owner")}
	all["cms-pem"] = sample{signature.CMS, owner, w.cms("owner", "image", "-nocerts", "-outform", "PEM"), verifyCMS("PEM", "owner")}
	all["cms-path"] = sample{signature.CMS, w.policy(t, "", nil, []string{"root"}), w.cms("release", "image", "-certfile", "ca.pem"), verifyCMS("DER", "root")}
	return all
}

// decoded is what a signature in text stands for.
func decoded(data []byte) []byte {
	if block, _ := pem.Decode(data); block != nil {
		return block.Bytes
	}
	if lines := strings.Split(string(data), "\n"); len(lines) > 3 {
		a, _ := base64.StdEncoding.DecodeString(lines[1])
		b, _ := base64.StdEncoding.DecodeString(lines[3])
		return append(append(a, lines[2]...), b...)
	}
	return data
}

// TestEveryBit: no bit of a signature can be another one, unless it means nothing; and of whatever is accepted the program that
// made the signature thinks the same.
func TestEveryBit(t *testing.T) {
	for name, s := range samples(t) {
		t.Run(name, func(t *testing.T) {
			if err := s.verify(s.data); err != nil {
				t.Fatal(err)
			}
			accepted, different := 0, 0
			for i := range 8 * len(s.data) {
				changed := bytes.Clone(s.data)
				changed[i/8] ^= 1 << (i % 8)
				if _, err := judge(s.policy, s.form, changed, boot); err != nil {
					refusal(t, err)
					continue
				}
				accepted++
				if bytes.Equal(decoded(changed), decoded(s.data)) {
					continue // armor, or a comment
				}
				different++
				if err := s.verify(changed); err != nil {
					t.Errorf("bit %d of byte %d is accepted here, but: %v", i%8, i/8, err)
				}
			}
			t.Logf("%d of %d bits are not looked at, %d of them beside armor", accepted, 8*len(s.data), different)
			// Versions of CMS decide nothing; nor do the certificates of a path beside what is used of them.
			if most := map[signature.Form]int{signature.CMS: 4}[s.form]; different > most {
				t.Errorf("%d different signatures are accepted, at most %d", different, most)
			}
		})
	}
}

// TestMutated: signatures that were changed in several places are judged as by the programs that made them, or are malformed.
func TestMutated(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	all := samples(t)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		s := all[name]
		t.Run(name, func(t *testing.T) {
			for range 25 {
				changed := mutate(r, s.data)
				_, ours := judge(s.policy, s.form, changed, boot)
				theirs := s.verify(changed)
				switch code := refusal(t, ours); {
				case ours == nil && theirs != nil:
					t.Errorf("accepted here alone, %v:\n%s", theirs, changed)
				case theirs == nil && code != "" && code != signature.CodeMalformed:
					t.Errorf("refused here alone, %v:\n%s", ours, changed)
				}
			}
		})
	}
}

// mutate changes what the signature says, and then leaves its armor as it was.
func mutate(r *rand.Rand, data []byte) []byte {
	change := func(b []byte) []byte {
		b = bytes.Clone(b)
		for range 1 + r.IntN(3) {
			i := r.IntN(len(b))
			switch r.IntN(5) {
			case 0:
				b[i] = byte(r.Uint32())
			case 1:
				b = append(b[:i], b[i+1:]...)
			case 2:
				b = append(b[:i], append([]byte{0}, b[i:]...)...)
			case 3:
				b = append(b, b[i:]...)
			default:
				b[i]++
			}
		}
		return b
	}
	block, _ := pem.Decode(data)
	if block == nil || r.IntN(4) == 0 {
		return change(data)
	}
	block.Bytes = change(block.Bytes)
	return pem.EncodeToMemory(block)
}

// TestOneForm: what OpenSSH writes can be written in one way only, whatever ssh-keygen would put up with.
func TestOneForm(t *testing.T) {
	w := shared()
	s := samples(t)["openssh-p256"]
	block, _ := pem.Decode(s.data)
	in := cryptobyte.String(block.Bytes)
	var prefix, inner []byte
	if !in.ReadBytes(&prefix, len("SSHSIG")+4) {
		t.Fatal("no prefix")
	}
	for range 4 { // key, namespace, reserved, hash
		prefix = append(prefix, ssh(sshString(t, &in))...)
	}
	inner = sshString(t, &in)
	proper := cryptobyte.String(inner)
	kind, value := sshString(t, &proper), cryptobyte.String(nil)
	value = sshString(t, &proper)
	r, sum := sshString(t, &value), sshString(t, &value)
	padded := func(n []byte) []byte { return append([]byte{0}, n...) }
	for name, proper := range map[string][]byte{
		"same":               slices.Concat(ssh(kind), ssh(slices.Concat(ssh(r), ssh(sum)))),
		"behind the value":   slices.Concat(ssh(kind), ssh(slices.Concat(ssh(r), ssh(sum))), []byte{0}),
		"inside the value":   slices.Concat(ssh(kind), ssh(slices.Concat(ssh(r), ssh(sum), []byte{0}))),
		"first number":       slices.Concat(ssh(kind), ssh(slices.Concat(ssh(padded(r)), ssh(sum)))),
		"second number":      slices.Concat(ssh(kind), ssh(slices.Concat(ssh(r), ssh(padded(sum))))),
		"no second number":   slices.Concat(ssh(kind), ssh(ssh(r))),
		"kind of other hash": slices.Concat(ssh([]byte("ecdsa-sha2-nistp384")), ssh(slices.Concat(ssh(r), ssh(sum)))),
	} {
		data := pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: slices.Concat(prefix, ssh(proper))})
		if _, err := judge(s.policy, s.form, data, boot); (err == nil) != (name == "same") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A key may not say of itself that it is on another curve than its type says.
	key, err := base64.StdEncoding.DecodeString(strings.Fields(string(w.read("p256.pub")))[1])
	if err != nil {
		t.Fatal(err)
	}
	odd := base64.StdEncoding.EncodeToString(bytes.Replace(key, ssh([]byte("nistp256")), ssh([]byte("nistp384")), 1))
	if err := new(signature.Signers).AddKeys([]byte("a@b ecdsa-sha2-nistp256 " + odd)); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("a key of two curves: %v", err)
	}
}

// ssh is a string of RFC 4251 §5.
func ssh(s []byte) []byte { return append(binary.BigEndian.AppendUint32(nil, uint32(len(s))), s...) }

func sshString(t *testing.T, in *cryptobyte.String) []byte {
	t.Helper()
	var n uint32
	var s []byte
	if !in.ReadUint32(&n) || !in.ReadBytes(&s, int(n)) {
		t.Fatal("cut off")
	}
	return s
}

// TestStricter: forms that ssh-keygen and minisign would take, and that a device refuses because nobody writes them.
func TestStricter(t *testing.T) {
	all := samples(t)
	for name, change := range map[string]func([]byte) []byte{
		"openssh-ed25519": func(b []byte) []byte { return append(b, "and more\n"...) },
		"openssh-p256":    func(b []byte) []byte { return append([]byte("a word before\n"), b...) },
		"openssh-p384":    func(b []byte) []byte { return append(b, b...) },
		"minisign":        func(b []byte) []byte { return append(b, b...) },
		"cms-owner":       func(b []byte) []byte { return append(b, 0) },
		"cms-pem":         func(b []byte) []byte { return append([]byte("a word before\n"), b...) },
	} {
		s := all[name]
		if _, err := judge(s.policy, s.form, change(s.data), boot); refusal(t, err) != signature.CodeMalformed {
			t.Errorf("%s: %v", name, err)
		}
	}
}
