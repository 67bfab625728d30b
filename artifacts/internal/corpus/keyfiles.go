package main

import (
	"encoding/asn1"

	"github.com/google/go-tpm/tpm2"
	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// keyFile is TPMKey of the TSS 2.0 key file format. The zero values are those of a loadable key that needs no password.
type keyFile struct {
	kind    asn1.ObjectIdentifier
	boolean []byte // emptyAuth; nil is true
	parent  int64
	public  []byte
	private []byte
	extra   []byte // after the private part
}

func (k keyFile) build() []any {
	if k.kind == nil {
		k.kind = asn1.ObjectIdentifier{2, 23, 133, 10, 1, 3}
	}
	if k.boolean == nil {
		k.boolean = []byte{0xff}
	}
	if k.parent == 0 {
		k.parent = 0x40000001
	}
	if k.private == nil {
		k.private = []byte{0, 3, 1, 2, 3}
	}
	var b cryptobyte.Builder
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(k.kind)
		b.AddASN1(casn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
			b.AddASN1(casn1.BOOLEAN, func(b *cryptobyte.Builder) { b.AddBytes(k.boolean) })
		})
		b.AddASN1Int64(k.parent)
		b.AddASN1OctetString(k.public)
		b.AddASN1OctetString(k.private)
		b.AddBytes(k.extra)
	})
	return []any{b.BytesOrPanic()}
}

// keyFiles is keys that TPM tools write into files.
func keyFiles() corpus {
	signing := func(area tpm2.TPMTPublic) []byte {
		area.ObjectAttributes.Restricted, area.ObjectAttributes.Decrypt, area.ObjectAttributes.SignEncrypt = false, false, true
		return tpm2.Marshal(tpm2.New2B(area))
	}
	ecc, rsa := signing(tpm2.ECCSRKTemplate), signing(tpm2.RSASRKTemplate)
	return corpus{
		"ecc":                   keyFile{public: ecc}.build(),
		"rsa":                   keyFile{public: rsa}.build(),
		"ecc-storage":           keyFile{public: tpm2.Marshal(tpm2.New2B(tpm2.ECCSRKTemplate))}.build(),
		"with-password":         keyFile{public: ecc, boolean: []byte{0}}.build(),
		"boolean-of-old-tools":  keyFile{public: ecc, boolean: []byte{1}}.build(),
		"boolean-of-two-bytes":  keyFile{public: ecc, boolean: []byte{0xff, 0xff}}.build(),
		"parent-persistent":     keyFile{public: ecc, parent: 0x81000001}.build(),
		"parent-negative":       keyFile{public: ecc, parent: -1}.build(),
		"importable":            keyFile{kind: asn1.ObjectIdentifier{2, 23, 133, 10, 1, 4}, public: ecc}.build(),
		"sealed":                keyFile{kind: asn1.ObjectIdentifier{2, 23, 133, 10, 1, 5}, public: ecc}.build(),
		"public-empty":          keyFile{public: []byte{}}.build(),
		"public-cut":            keyFile{public: ecc[:len(ecc)-4]}.build(),
		"public-size-wrong":     keyFile{public: joined([]byte{0xff, 0xff}, ecc[2:])}.build(),
		"private-size-wrong":    keyFile{public: ecc, private: []byte{0, 9, 1}}.build(),
		"trailing-in-sequence":  keyFile{public: ecc, extra: []byte{5, 0}}.build(),
		"der-of-something-else": {[]byte{0x30, 0x03, 0x02, 0x01, 0x00}},
	}
}
