package cms_test

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"os"
	"testing"

	"github.com/xpu-sztp/ztp/artifacts/cms"
)

// TestDigestSignedBy: what OpenSSL signs without putting it in.
func TestDigestSignedBy(t *testing.T) {
	w := shared()
	sum256, sum512 := sha256.Sum256(content), sha512.Sum512(content)
	for name, test := range map[string]struct {
		args   []string
		hash   crypto.Hash
		digest []byte
		want   error
	}{
		"sha256":             {[]string{"-md", "sha256"}, crypto.SHA256, sum256[:], nil},
		"sha512":             {[]string{"-md", "sha512"}, crypto.SHA512, sum512[:], nil},
		"key-identifier":     {[]string{"-md", "sha256", "-keyid"}, crypto.SHA256, sum256[:], nil},
		"no-certificates":    {[]string{"-md", "sha256", "-nocerts"}, crypto.SHA256, sum256[:], nil},
		"sha1":               {[]string{"-md", "sha1"}, 0, nil, cms.ErrUnsupported},
		"without-attributes": {[]string{"-md", "sha256", "-noattr"}, 0, nil, cms.ErrUnsupported},
		"with-content":       {[]string{"-md", "sha256", "-nodetach"}, 0, nil, cms.ErrSignature},
		"other-signer":       {[]string{"-md", "sha256", "-signer", w.other.CertFile, "-inkey", w.other.KeyFile}, 0, nil, cms.ErrNotSigner},
		"two-signers": {[]string{"-md", "sha256", "-signer", w.other.CertFile, "-inkey", w.other.KeyFile, "-signer", w.signer.CertFile,
			"-inkey", w.signer.KeyFile}, crypto.SHA256, sum256[:], nil},
	} {
		t.Run(name, func(t *testing.T) {
			args := append([]string{"cms", "-sign", "-binary", "-in", w.Write(content), "-outform", "DER"}, test.args...)
			if !bytes.Contains([]byte(name), []byte("signer")) {
				args = append(args, "-signer", w.signer.CertFile, "-inkey", w.signer.KeyFile)
			}
			hash, digest, err := mustParse(t, w.Run(args...)).Signed.DigestSignedBy(w.signer.Certificate)
			if !errors.Is(err, test.want) || err == nil && (hash != test.hash || !bytes.Equal(digest, test.digest)) {
				t.Errorf("%v %x, %v; want %v %x, %v", hash, digest, err, test.hash, test.digest, test.want)
			}
		})
	}
}

// TestDigestSignedByChanged: no byte of the attributes and of the signature can be another, and OpenSSL thinks the same.
func TestDigestSignedByChanged(t *testing.T) {
	w := shared()
	der := w.Run("cms", "-sign", "-binary", "-in", w.Write(content), "-outform", "DER", "-md", "sha256", "-nocerts", "-nosmimecap",
		"-signer", w.signer.CertFile, "-inkey", w.signer.KeyFile)
	sum := sha256.Sum256(content)
	body := w.Write(content)
	accepted := 0
	for i := range der {
		changed := bytes.Clone(der)
		changed[i] ^= 1
		m, err := cms.Parse(changed)
		if err != nil || m.Signed == nil {
			continue
		}
		if _, digest, err := m.Signed.DigestSignedBy(w.signer.Certificate); err != nil || !bytes.Equal(digest, sum[:]) {
			continue
		}
		accepted++
		if _, err := w.Try("cms", "-verify", "-binary", "-inform", "DER", "-in", w.Write(changed), "-content", body, "-certfile", w.signer.CertFile,
			"-nointern", "-noverify", "-out", os.DevNull); err != nil {
			t.Errorf("byte %d: accepted here, but: %v", i, err)
		}
	}
	if accepted > 4 { // version numbers, which decide nothing, have other values that exist
		t.Errorf("%d changes of %d bytes are accepted", accepted, len(der))
	}
}
