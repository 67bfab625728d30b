package cms_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"strings"
	"testing"

	"github.com/smallstep/pkcs7"
	"pgregory.net/rapid"

	"github.com/xpu-sztp/ztp/artifacts/cms"
	"github.com/xpu-sztp/ztp/artifacts/internal/opensslpki"
	"github.com/xpu-sztp/ztp/test/libcrypto"
)

// comparison holds this package against OpenSSL and smallstep/pkcs7 for messages of one signer.
type comparison struct {
	signer             *opensslpki.Entity
	key                crypto.Signer
	openssl            *libcrypto.Verifier
	accepted, byOthers int // messages that this package accepted, and that it and pkcs7 accepted
}

func newComparison(t *testing.T, signer *opensslpki.Entity) *comparison {
	t.Helper()
	v, err := libcrypto.New(libcrypto.Options{Certificates: []*x509.Certificate{signer.Certificate}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return &comparison{signer: signer, key: privateKey(t, signer), openssl: v}
}

// check fails unless what this package accepts is what OpenSSL accepts, and unless the content is that of every other that
// accepts the message. made is nil, or the content of a message that is as it was made and allowed by our policy: then
// what another accepts must be accepted.
func (c *comparison) check(t interface{ Fatalf(string, ...any) }, der, made []byte) {
	ours, oursErr := verify(der, c.signer.Certificate)
	if oursErr != nil && made == nil {
		return
	}
	openssl, opensslErr := c.openssl.Verify(der, nil)
	theirs, theirsErr := verifyWithPKCS7(der, c.signer.Certificate)
	switch {
	case oursErr == nil && (opensslErr != nil || !bytes.Equal(ours, openssl)):
		t.Fatalf("accepted %x; OpenSSL: %x, %v\n%x", ours, openssl, opensslErr, der)
	case oursErr == nil && theirsErr == nil && !bytes.Equal(ours, theirs):
		t.Fatalf("accepted %x; pkcs7: %x\n%x", ours, theirs, der)
	case made != nil && oursErr != nil && (opensslErr == nil || theirsErr == nil):
		t.Fatalf("%v; OpenSSL: %v; pkcs7: %v\n%x", oursErr, opensslErr, theirsErr, der)
	case made != nil && !bytes.Equal(ours, made):
		t.Fatalf("content %x, was %x", ours, made)
	}
	c.accepted++
	if theirsErr == nil {
		c.byOthers++
	}
}

// differentialSigners are a signer for each kind of key.
func differentialSigners(t *testing.T, w world) map[string]*comparison {
	all := make(map[string]*comparison)
	for name, e := range map[string]*opensslpki.Entity{
		"p256": w.signer, "p384": w.curve("P-384"), "p521": w.curve("P-521"),
		"rsa2048": w.IssueKey([]string{"rsa:2048"}, w.root, "/CN=rsa", opensslpki.Signer...),
		"rsa3072": w.IssueKey([]string{"rsa:3072"}, w.root, "/CN=rsa 3072", opensslpki.Signer...),
	} {
		all[name] = newComparison(t, e)
	}
	return all
}

const mutationsEach = 30

var signerNames = []string{"p256", "p384", "p521", "rsa2048", "rsa3072"}

// TestDifferential compares what `openssl cms -sign` makes with options drawn at random, and mutations of it.
func TestDifferential(t *testing.T) {
	w := shared()
	signers := differentialSigners(t, w)
	for _, c := range signers { // each kind of key once with what all three read, whatever is drawn below
		data := []byte("content")
		c.check(t, w.Sign(c.signer, data, "-md", "sha256"), data)
		if c.accepted != 1 || c.byOthers != 1 {
			t.Fatalf("%s: not compared", c.signer.Certificate.Subject)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom(signerNames).Draw(t, "signer")
		c := signers[name]
		data := rapid.SliceOfN(rapid.Byte(), 1, 1<<rapid.IntRange(3, 14).Draw(t, "magnitude")).Draw(t, "content")
		kind := rapid.SampledFrom([]string{typeData, typeJSON, typeVoucher}).Draw(t, "type")
		digest := rapid.SampledFrom([]string{"sha256", "sha384", "sha512", "sha1"}).Draw(t, "digest")
		args := []string{"-econtent_type", kind, "-md", digest}
		for _, option := range []string{"-keyid", "-noattr", "-nocerts", "-stream", "-cades"} {
			if rapid.IntRange(0, 2).Draw(t, option) == 0 {
				args = append(args, option)
			}
		}
		if strings.HasPrefix(name, "rsa") && rapid.Bool().Draw(t, "pss") {
			args = append(args, "-keyopt", "rsa_padding_mode:pss")
		}
		der, err := w.TrySign(c.signer, data, args...)
		if err != nil {
			return // OpenSSL has no such combination
		}
		bare := strings.Contains(strings.Join(args, " "), "-noattr")
		switch {
		case digest == "sha1", bare && kind != typeData, bare && data[0] == 0x31:
			if _, err := verify(der, c.signer.Certificate); err == nil {
				t.Fatalf("accepted what the policy does not allow: %x", der)
			}
		default:
			c.check(t, der, data)
		}
		for range mutationsEach {
			c.check(t, mutated(t, der, c.signer.Certificate.Raw), nil)
		}
	})
	for name, c := range signers {
		t.Logf("%s: %d accepted, %d of them by pkcs7 too", name, c.accepted, c.byOthers)
	}
}

// TestDifferentialPKCS7 compares what smallstep/pkcs7 makes with options drawn at random, and mutations of it. Making them
// costs little, so there are thousands.
func TestDifferentialPKCS7(t *testing.T) {
	w := shared()
	signers := differentialSigners(t, w)
	hashes := []asn1.ObjectIdentifier{pkcs7.OIDDigestAlgorithmSHA256, pkcs7.OIDDigestAlgorithmSHA384, pkcs7.OIDDigestAlgorithmSHA512}
	rapid.Check(t, func(t *rapid.T) {
		for range 20 {
			c := signers[rapid.SampledFrom([]string{"p256", "p384", "p521", "rsa2048"}).Draw(t, "signer")]
			data := rapid.SliceOfN(rapid.Byte(), 1, 200).Draw(t, "content")
			s, err := pkcs7.NewSignedData(data)
			if err != nil {
				t.Fatal(err)
			}
			s.SetDigestAlgorithm(rapid.SampledFrom(hashes).Draw(t, "digest"))
			var o pkcs7.SignerInfoConfig
			attributes := func(name string) (list []pkcs7.Attribute) {
				for i := range rapid.IntRange(0, 3).Draw(t, name) {
					list = append(list, pkcs7.Attribute{Type: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, i}, Value: rapid.String().Draw(t, "value")})
				}
				return list
			}
			o.ExtraSignedAttributes, o.ExtraUnsignedAttributes = attributes("signed"), attributes("unsigned")
			if rapid.Bool().Draw(t, "with attributes") {
				err = s.AddSigner(c.signer.Certificate, c.key, o)
			} else if err = s.SignWithoutAttr(c.signer.Certificate, c.key, o); data[0] == 0x31 {
				continue // what could be attributes is not taken for content
			}
			if err != nil {
				t.Fatal(err)
			}
			if rapid.Bool().Draw(t, "another certificate") {
				s.AddCertificate(w.root.Certificate)
			}
			der, err := s.Finish()
			if err != nil {
				t.Fatal(err)
			}
			c.check(t, der, data)
			if len(o.ExtraUnsignedAttributes) > 0 {
				continue // the values of unsigned attributes are not looked at, but OpenSSL does
			}
			for range mutationsEach / 10 {
				c.check(t, mutated(t, der, c.signer.Certificate.Raw, w.root.Certificate.Raw), nil)
			}
		}
	})
}

// TestEveryByte changes each bit of signed messages, one at a time.
func TestEveryByte(t *testing.T) {
	w := shared()
	c := newComparison(t, w.signer)
	for name, der := range map[string][]byte{
		"openssl": w.Sign(w.signer, content, "-econtent_type", typeJSON, "-nocerts"),
		"keyid":   w.Sign(w.signer, content, "-econtent_type", typeJSON, "-nocerts", "-keyid"),
		"stream":  w.Sign(w.signer, content, "-stream", "-nocerts"),
		"noattr":  w.Sign(w.signer, content, "-noattr", "-nocerts"),
		"pkcs7":   signWithPKCS7(t, w.signer),
	} {
		t.Run(name, func(t *testing.T) {
			c.accepted = 0
			certificate := bytes.Index(der, w.signer.Certificate.Raw)
			for i := range der {
				if certificate >= 0 && i >= certificate && i < certificate+len(w.signer.Certificate.Raw) {
					continue // no signature covers it
				}
				for bit := range 8 {
					changed := bytes.Clone(der)
					changed[i] ^= 1 << bit
					c.check(t, changed, nil)
				}
			}
			if c.accepted > 60 {
				t.Errorf("%d changes of %d bytes were accepted", c.accepted, len(der))
			}
		})
	}
}

func verify(der []byte, signer *x509.Certificate) ([]byte, error) {
	m, err := cms.Parse(der)
	if err != nil {
		return nil, err
	}
	if m.Signed == nil {
		return nil, cms.ErrNotSigner
	}
	if m.Signed.PKCS7 {
		return nil, cms.ErrUnsupported // which callers refuse, if they are strict
	}
	return m.Signed.Content, m.Signed.SignedBy(signer)
}

func verifyWithPKCS7(der []byte, signer *x509.Certificate) ([]byte, error) {
	p, err := pkcs7.Parse(der)
	if err != nil {
		return nil, err
	}
	p.Certificates = []*x509.Certificate{signer}
	return p.Content, p.Verify()
}
