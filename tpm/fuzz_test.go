package tpm

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	encoding_asn1 "encoding/asn1"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// tss2Sequence is the ASN.1 of a key file as encoding/asn1 sees it.
type tss2Sequence struct {
	Type        encoding_asn1.ObjectIdentifier
	EmptyAuth   encoding_asn1.RawValue `asn1:"optional,explicit,tag:0"`
	Policy      encoding_asn1.RawValue `asn1:"optional,explicit,tag:1"`
	Secret      []byte                 `asn1:"optional,explicit,tag:2"`
	AuthPolicy  encoding_asn1.RawValue `asn1:"optional,explicit,tag:3"`
	Description encoding_asn1.RawValue `asn1:"optional,explicit,tag:4"`
	RSAParent   encoding_asn1.RawValue `asn1:"optional,explicit,tag:5"`
	Parent      int64
	Public      []byte
	Private     []byte
}

// What the reader accepts, encoding/asn1 reads alike, and the public area is in the form its name is computed over.
func FuzzParseTSS2(f *testing.F) {
	for _, boolean := range []byte{0x00, 0x01, 0xFF} {
		f.Add(seedKeyFile(boolean))
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		k, err := parseTSS2(der)
		if err != nil {
			return
		}
		var want tss2Sequence
		rest, err := encoding_asn1.Unmarshal(der, &want)
		if err != nil || len(rest) != 0 {
			t.Fatalf("encoding/asn1 refuses what was accepted: %v, %d bytes left", err, len(rest))
		}
		area := tpm2.Marshal(tpm2.New2B(*k.area))
		private := tpm2.Marshal(tpm2.TPM2BPrivate{Buffer: k.private})
		if int64(k.parent) != want.Parent || !bytes.Equal(area, want.Public) || !bytes.Equal(private, want.Private) {
			t.Fatalf("read %+v, encoding/asn1 read %+v", k, want)
		}
		_, _ = newTPMKey(nil, forIdentity, "file", k.area, nil) // refuses what crypto/rsa and crypto/ecdsa do not expect
	})
}

func seedKeyFile(boolean byte) []byte {
	area := tpm2.ECCSRKTemplate
	area.ObjectAttributes.Restricted, area.ObjectAttributes.SignEncrypt = false, true
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(encoding_asn1.ObjectIdentifier{2, 23, 133, 10, 1, 3})
		for _, tag := range []uint8{0, 5} {
			b.AddASN1(explicitTag(tag), func(b *cryptobyte.Builder) {
				b.AddASN1(asn1.BOOLEAN, func(b *cryptobyte.Builder) { b.AddUint8(boolean) })
			})
		}
		b.AddASN1Int64(0x40000001)
		b.AddASN1OctetString(tpm2.Marshal(tpm2.New2B(area)))
		b.AddASN1OctetString([]byte{0, 3, 1, 2, 3})
	})
	return b.BytesOrPanic()
}

// Whatever lies in an NV index: certificates come out in the order they are in, byte for byte.
func FuzzParseCertificates(f *testing.F) {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		f.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{}, &x509.Certificate{}, key.Public(), key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append(append(der, der...), 0xFF, 0xFF))
	f.Add([]byte{0x30, 0x03, 0x02, 0x01, 0x00, 0xFF})
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		certs, err := parseCertificates(content)
		if bytes.Contains(content, []byte("-----BEGIN ")) {
			return
		}
		for _, c := range certs {
			if !bytes.HasPrefix(content, c.Raw) {
				t.Fatal("a certificate is not what lies at its place")
			}
			content = content[len(c.Raw):]
		}
		if err == nil && len(certs) > 0 {
			if _, err := x509.ParseCertificate(content); err == nil && len(certs) < maxCertificates {
				t.Fatal("a certificate was left out")
			}
		}
	})
}
