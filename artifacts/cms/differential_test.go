package cms_test

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"

	"github.com/xpu-sztp/ztp/artifacts/cms"
	"github.com/xpu-sztp/ztp/artifacts/internal/opensslpki"
)

// generated is a signed message and whether our policy allows how it was made.
type generated struct {
	signer  *opensslpki.Entity
	content []byte
	der     []byte
	allowed bool
}

// generate makes messages of every kind of key with options drawn at random.
func generate(w world, random *rand.Rand) map[string]generated {
	curve := func(name string) *opensslpki.Entity {
		return w.IssueKey([]string{"ec", "-pkeyopt", "ec_paramgen_curve:" + name}, w.root, "/CN="+name, opensslpki.Signer...)
	}
	signers := map[string]*opensslpki.Entity{
		"p256": w.signer, "p384": curve("P-384"), "p521": curve("P-521"),
		"rsa2048": w.IssueKey([]string{"rsa:2048"}, w.root, "/CN=rsa", opensslpki.Signer...),
		"rsa3072": w.IssueKey([]string{"rsa:3072"}, w.root, "/CN=rsa 3072", opensslpki.Signer...),
	}
	all := make(map[string]generated)
	for name, signer := range signers {
		for i := range 4 {
			g := generated{signer: signer, content: make([]byte, 1+random.IntN(1<<(3*i+3))), allowed: true}
			for j := range g.content {
				g.content[j] = byte(random.Uint32())
			}
			kind := []string{typeData, typeJSON, typeVoucher}[random.IntN(3)]
			digest := []string{"sha256", "sha384", "sha512", "sha1"}[random.IntN(4)]
			args := []string{"-econtent_type", kind, "-md", digest}
			for _, option := range []string{"-keyid", "-noattr", "-nocerts", "-stream"} {
				if random.IntN(3) == 0 {
					args = append(args, option)
				}
			}
			joined := strings.Join(args, " ")
			if digest == "sha1" || kind != typeData && strings.Contains(joined, "-noattr") {
				g.allowed = false
			}
			if strings.HasPrefix(name, "rsa") && i%2 == 1 {
				args = append(args, "-keyopt", "rsa_padding_mode:pss")
				joined += " pss"
			}
			g.der = w.Sign(signer, g.content, args...)
			all[fmt.Sprintf("%s %d %s", name, i, joined)] = g
		}
	}
	return all
}

// TestDifferential holds this package against OpenSSL and smallstep/pkcs7: what it accepts, OpenSSL accepts, and what
// either accepts within our policy, it accepts, each time with equal content.
func TestDifferential(t *testing.T) {
	w := shared()
	random := rand.New(rand.NewPCG(8572, 8366))
	compared := 0
	for name, g := range generate(w, random) {
		t.Run(name, func(t *testing.T) {
			for what, der := range map[string][]byte{
				"as made": g.der,
				"content": flip(g.der, bytes.Index(g.der, g.content[:min(len(g.content), 64)])),
				"end":     flip(g.der, len(bytes.TrimRight(g.der, "\x00"))-1),
				"byte":    flip(g.der, random.IntN(len(g.der))),
			} {
				ours, oursErr := verify(der, g.signer.Certificate)
				openssl, opensslErr := verifyWithOpenSSL(w, der, g.signer)
				theirs, theirsErr := verifyWithPKCS7(der, g.signer.Certificate)
				if oursErr == nil && (opensslErr != nil || !bytes.Equal(ours, openssl)) {
					t.Errorf("%s: accepted %x; OpenSSL: %x, %v", what, ours, openssl, opensslErr)
				}
				if oursErr == nil && theirsErr == nil && !bytes.Equal(ours, theirs) {
					t.Errorf("%s: accepted %x, pkcs7 %x", what, ours, theirs)
				}
				if what != "as made" {
					continue
				}
				if opensslErr != nil || !bytes.Equal(openssl, g.content) {
					t.Errorf("OpenSSL does not verify what it made: %v", opensslErr)
				}
				if theirsErr == nil {
					compared++
				}
				if (oursErr == nil) != g.allowed || oursErr == nil && !bytes.Equal(ours, g.content) {
					t.Errorf("within policy %v: %v", g.allowed, oursErr)
				}
			}
		})
	}
	if compared == 0 {
		t.Error("pkcs7 accepted nothing, so nothing was compared with it")
	}
}

func flip(der []byte, at int) []byte {
	changed := bytes.Clone(der)
	changed[max(at, 0)] ^= 4
	return changed
}

func verify(der []byte, signer *x509.Certificate) ([]byte, error) {
	m, err := cms.Parse(der)
	if err != nil {
		return nil, err
	}
	if m.Signed == nil {
		return nil, cms.ErrNotSigner
	}
	return m.Signed.Content, m.Signed.SignedBy(signer)
}

func verifyWithOpenSSL(w world, der []byte, signer *opensslpki.Entity) ([]byte, error) {
	return exec.Command("openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", w.Write(der), "-certfile", signer.CertFile,
		"-CAfile", w.root.CertFile, "-no-CApath", "-no-CAstore", "-purpose", "any").Output()
}
