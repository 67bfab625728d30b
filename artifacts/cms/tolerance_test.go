package cms_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/xpu-sztp/ztp/artifacts/cms"
	"github.com/xpu-sztp/ztp/artifacts/internal/opensslpki"
)

// loosened rewrites der as Bouncy Castle streams it: indefinite lengths down to depth, and the OCTET STRINGs met on the way
// in pieces, with a length of their own or without. What is of definite length inside, such as certificates and signers, is
// left alone.
func loosened(t testing.TB, der []byte, depth int) []byte {
	t.Helper()
	const constructed = 0x20
	in := cryptobyte.String(der)
	var out []byte
	for !in.Empty() {
		var whole, contents cryptobyte.String
		var tag asn1.Tag
		if !in.ReadAnyASN1Element(&whole, &tag) {
			t.Fatal("not DER")
		}
		e := whole
		if !e.ReadAnyASN1(&contents, &tag) {
			t.Fatal("not DER")
		}
		switch {
		case depth > 0 && (tag == asn1.OCTET_STRING || tag == asn1.Tag(0).ContextSpecific()):
			var pieces []byte
			for piece := range slices.Chunk(contents, 7) {
				pieces = append(pieces, octets(piece)...)
			}
			if depth%2 == 0 && tag == asn1.OCTET_STRING {
				out = append(out, element(tag|constructed, pieces)...)
			} else {
				out = slices.Concat(out, []byte{byte(tag) | constructed, 0x80}, pieces, []byte{0, 0})
			}
		case depth > 0 && tag&constructed != 0:
			out = slices.Concat(out, []byte{byte(tag), 0x80}, loosened(t, contents, depth-1), []byte{0, 0})
		default:
			out = append(out, whole...)
		}
	}
	return out
}

// TestTolerated has a case for each exception from DER that the documentation of Parse lists, and for what lies right
// beyond it. Those of encrypted messages are in TestContentEncryption, TestOtherRecipients and TestKeyAgreementForms.
func TestTolerated(t *testing.T) {
	w := shared()
	sign := ecdsaWith(t, privateKey(t, w.signer))
	made := w.Sign(w.signer, content, "-econtent_type", typeJSON, "-certfile", w.root.CertFile)
	bare := w.Sign(w.signer, content, "-econtent_type", typeJSON, "-nocerts")
	replaced := func(der, old, replacement []byte) []byte {
		if len(old) != len(replacement) || !bytes.Contains(der, old) {
			t.Fatalf("%x cannot replace %x", replacement, old)
		}
		return bytes.Replace(der, old, replacement, 1)
	}
	version := func(v byte) []byte { return replaced(made, []byte{2, 1, 3, 0x31}, []byte{2, 1, v, 0x31}) }
	with := func(m message) []byte {
		m.signer, m.sign = w.signer, sign
		return m.build()
	}
	digest := sha256.Sum256(content)
	pieces := slices.Concat(octets(content[:9]), octets(content[9:]))
	cases := map[string]struct {
		der  []byte
		want error
	}{
		"indefinite-within-definite": {opensslpki.ContentInfo("1.2.840.113549.1.7.2", addBytes(loosened(t, made[19:], 1))), cms.ErrMalformed},
		"indefinite-more-than-32":    {loosened(t, made, 9), cms.ErrLimit},
		"indefinite-and-pieces":      {loosened(t, bare, 7), nil},
		"set-of-attributes-in-other-order": {with(message{attrs: [][]byte{attribute("1.2.840.113549.1.9.4", octets(digest[:])),
			attribute("1.2.840.113549.1.9.3", oidDER(typeJSON))}}), nil},
		"version-5":              {version(5), nil},
		"version-6":              {version(6), cms.ErrUnsupported},
		"version-0":              {version(0), cms.ErrUnsupported},
		"parameters-null":        {with(message{params: []byte{5, 0}}), nil},
		"parameters-missing":     {with(message{}), nil},
		"parameters-other":       {with(message{params: []byte{2, 1, 0}}), cms.ErrMalformed},
		"parameters-null-filled": {with(message{params: []byte{5, 1, 0}}), cms.ErrMalformed},
		"pieces-with-lengths": {with(message{element: 0x24, content: pieces, attrs: [][]byte{
			attribute("1.2.840.113549.1.9.3", oidDER(typeJSON)), attribute("1.2.840.113549.1.9.4", octets(digest[:]))}}), nil},
		"pkcs7-content":    {with(message{element: asn1.UTF8String}), nil},
		"oid-not-shortest": {replaced(with(message{}), []byte{6, 9, 0x60, 0x86}, []byte{6, 9, 0x80, 0x60}), cms.ErrMalformed},
	}
	for depth := range 6 {
		cases[fmt.Sprintf("indefinite-%d-deep", depth)] = struct {
			der  []byte
			want error
		}{loosened(t, made, depth), nil}
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			m, err := cms.Parse(test.der)
			if err == nil {
				err = m.Signed.SignedBy(w.signer.Certificate)
			}
			if !errors.Is(err, test.want) || err == nil && !bytes.Equal(m.Signed.Content, content) {
				t.Errorf("%v, want %v", err, test.want)
			}
			if err == nil && m.Signed.PKCS7 != (name == "pkcs7-content") {
				t.Errorf("PKCS7 %v", m.Signed.PKCS7)
			}
		})
	}
}

// TestToleratedEncryption reads encrypted content in pieces under indefinite lengths.
func TestToleratedEncryption(t *testing.T) {
	w := shared()
	device := w.curve("P-256")
	for _, cipher := range []string{"-aes-128-cbc", "-aes-256-gcm"} {
		der := w.Encrypt(device, content, cipher)
		for depth := range 6 {
			m, err := open(t, loosened(t, der, depth), recipient(t, device))
			if err != nil || !bytes.Equal(m.Data, content) {
				t.Errorf("%s, %d deep: %v", cipher, depth, err)
			}
		}
	}
}
