package main

import (
	"bytes"
	"encoding/pem"
	"time"

	"github.com/xpu-sztp/ztp/artifacts/internal/opensslpki"
)

// pki is the keys and certificates of the corpora.
type pki struct {
	*opensslpki.Workspace
	root, signer, rsa, device *opensslpki.Entity
}

func newPKI(w *opensslpki.Workspace) *pki {
	root := w.Issue(nil, "/CN=r", opensslpki.Authority...)
	return &pki{
		Workspace: w,
		root:      root,
		signer:    w.Issue(root, "/CN=s", opensslpki.Signer...),
		rsa:       w.IssueKey([]string{"rsa:2048"}, root, "/CN=t", opensslpki.Signer...),
		device:    w.Issue(root, "/CN=d"),
	}
}

const (
	typeJSON    = "1.2.840.113549.1.9.16.1.43"
	typeXML     = "1.2.840.113549.1.9.16.1.42"
	typeVoucher = "1.2.840.113549.1.9.16.1.40"
)

var document = []byte(`{"ietf-sztp-conveyed-info:redirect-information":{"bootstrap-server":[{"address":"a"}]}}`)

// messages is CMS.
func (p *pki) messages() corpus {
	sign := func(signer *opensslpki.Entity, args ...string) []any {
		return []any{p.Sign(signer, document, args...)}
	}
	encrypt := func(to *opensslpki.Entity, args ...string) []any {
		return []any{p.Encrypt(to, document, args...)}
	}
	now := p.root.Certificate.NotBefore
	lists := p.CRL(p.root, now, now.AddDate(0, 1, 0), p.device)
	made := corpus{
		"data-json":                       {opensslpki.Data(typeJSON, document)},
		"data-xml-empty":                  {opensslpki.Data(typeXML, nil)},
		"data-created":                    {p.Run("cms", "-data_create", "-in", p.Write(document), "-outform", "DER")},
		"signed":                          sign(p.signer, "-econtent_type", typeJSON),
		"signed-without-certificates":     sign(p.signer, "-nocerts", "-econtent_type", typeVoucher),
		"signed-by-key-identifier":        sign(p.signer, "-nocerts", "-keyid"),
		"signed-without-attributes":       sign(p.signer, "-noattr"),
		"signed-with-sha512":              sign(p.signer, "-nocerts", "-md", "sha512"),
		"signed-with-sha1":                sign(p.signer, "-md", "sha1"),
		"signed-rsa":                      sign(p.rsa, "-nocerts"),
		"signed-rsa-pss":                  sign(p.rsa, "-nocerts", "-keyopt", "rsa_padding_mode:pss"),
		"signed-cades":                    sign(p.signer, "-cades"),
		"signed-by-two":                   sign(p.signer, "-nocerts", "-signer", p.rsa.CertFile, "-inkey", p.rsa.KeyFile),
		"signed-detached":                 {p.Run("cms", "-sign", "-in", p.Write(document), "-outform", "DER", "-nocerts", "-signer", p.signer.CertFile, "-inkey", p.signer.KeyFile)},
		"signed-streamed":                 sign(p.signer, "-stream"),
		"signed-streamed-without-all":     sign(p.signer, "-stream", "-nocerts", "-noattr"),
		"signed-with-revocation-list":     {opensslpki.AddCRLs(p.Sign(p.signer, document), lists)},
		"certificates":                    {p.Certificates([]*opensslpki.Entity{p.signer, p.root})},
		"certificates-and-list":           {p.Certificates([]*opensslpki.Entity{p.signer}, lists)},
		"encrypted-rsa":                   encrypt(p.rsa, "-aes-128-cbc"),
		"encrypted-rsa-oaep-label":        encrypt(p.rsa, "-aes-256-cbc", "-recip", p.rsa.CertFile, "-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha256", "-keyopt", "rsa_oaep_label:61"),
		"encrypted-ec":                    encrypt(p.device, "-aes-256-cbc"),
		"encrypted-ec-sha256-cofactor":    {p.Run("cms", "-encrypt", "-aes-128-cbc", "-in", p.Write(document), "-outform", "DER", "-recip", p.device.CertFile, "-keyopt", "ecdh_kdf_md:sha256", "-keyopt", "ecdh_cofactor_mode:1", "-keyid")},
		"encrypted-gcm":                   encrypt(p.device, "-aes-256-gcm"),
		"encrypted-streamed":              encrypt(p.device, "-aes-128-cbc", "-stream"),
		"encrypted-to-all-kinds":          encrypt(p.device, "-aes-128-cbc", "-pwri_password", "x", "-secretkey", "000102030405060708090a0b0c0d0e0f", "-secretkeyid", "01", p.rsa.CertFile),
		"encrypted-3des":                  encrypt(p.device, "-des3"),
		"encrypted-signed":                {p.Encrypt(p.device, p.Sign(p.signer, document, "-nocerts"), "-aes-128-cbc")},
		"other-digested":                  {p.Run("cms", "-digest_create", "-in", p.Write(document), "-outform", "DER")},
		"other-encrypted-with-shared-key": {p.Run("cms", "-EncryptedData_encrypt", "-aes-128-cbc", "-secretkey", "000102030405060708090a0b0c0d0e0f", "-in", p.Write(document), "-outform", "DER")},
		"other-smime":                     {p.Run("smime", "-sign", "-nodetach", "-nocerts", "-in", p.Write(document), "-outform", "DER", "-signer", p.signer.CertFile, "-inkey", p.signer.KeyFile)},
	}
	for name, der := range hostileMessages() {
		made["hostile-"+name] = []any{der}
	}
	return made
}

// hostileMessages is small kin of what package hostile makes a megabyte of.
func hostileMessages() map[string][]byte {
	const data = "\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01"
	return map[string][]byte{
		"indefinite-nested":         bytes.Repeat([]byte{0x30, 0x80}, 40),
		"indefinite-wide":           joined([]byte{0x30, 0x80}, bytes.Repeat([]byte{0x30, 0x80, 0, 0}, 40), []byte{0, 0}),
		"indefinite-without-end":    []byte("\x30\x80" + data + "\xa0\x80\x24\x80\x04\x01a"),
		"indefinite-primitive":      []byte("\x30\x80" + data + "\xa0\x80\x04\x80a\x00\x00\x00\x00\x00\x00"),
		"indefinite-pieces":         []byte("\x30\x80" + data + "\xa0\x80\x24\x80\x04\x01a\x04\x00\x04\x01b\x00\x00\x00\x00\x00\x00"),
		"indefinite-pieces-overrun": []byte("\x30\x80" + data + "\xa0\x80\x24\x03\x04\x04abcd\x00\x00\x00\x00"),
		"length-huge":               {0x30, 0x84, 0xff, 0xff, 0xff, 0xff},
		"length-of-nine-bytes":      {0x30, 0x89, 1, 1, 1, 1, 1, 1, 1, 1, 1},
		"length-not-shortest":       {0x30, 0x81, 0x02, 0x05, 0x00},
		"tag-in-more-bytes":         {0x1f, 0x81, 0x01, 0x00},
		"oid-endless":               joined([]byte{0x30, 0x42, 0x06, 0x40}, bytes.Repeat([]byte{0x81}, 64)),
		"pem":                       []byte("-----BEGIN CMS-----\n"),
		"empty":                     {},
	}
}

// bundles is the artifacts of one bootstrapping: conveyed information, owner certificate, voucher.
func (p *pki) bundles() corpus {
	voucher := p.vouchers()["verified"]
	return corpus{
		"signed": {p.Sign(p.signer, document, "-nocerts", "-econtent_type", typeJSON), p.Certificates([]*opensslpki.Entity{p.signer}),
			p.Sign(p.signer, []byte(voucher), "-econtent_type", typeVoucher)},
		"unsigned":            {opensslpki.Data(typeJSON, document), []byte(nil), []byte(nil)},
		"signed-alone":        {p.Sign(p.signer, document, "-nocerts"), []byte(nil), []byte(nil)},
		"artifacts-permuted":  {p.Certificates([]*opensslpki.Entity{p.signer}), opensslpki.Data(typeJSON, document), p.Sign(p.signer, document)},
		"encrypted-unsigned":  {p.Encrypt(p.device, document, "-aes-128-cbc"), []byte(nil), []byte(nil)},
		"signed-around-other": {p.Sign(p.signer, p.Encrypt(p.device, document, "-aes-128-cbc"), "-nocerts"), []byte(nil), []byte(nil)},
	}
}

func (p *pki) anchors() corpus {
	return corpus{
		"root":             {p.Certificates([]*opensslpki.Entity{p.root})},
		"chain":            {p.Certificates([]*opensslpki.Entity{p.signer, p.root})},
		"unrelated":        {p.Certificates([]*opensslpki.Entity{p.root, p.rsa})},
		"signed-uselessly": {p.Sign(p.signer, document)},
		"twice":            {p.Certificates([]*opensslpki.Entity{p.root, p.root})},
	}
}

// certificateFiles is what lies in a TPM's NV memory.
func (p *pki) certificateFiles() corpus {
	root, signer := p.root.Certificate.Raw, p.signer.Certificate.Raw
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root})
	return corpus{
		"chain-and-unwritten-memory": {joined(signer, root, bytes.Repeat([]byte{0xff}, 16))},
		"one-and-zeros":              {joined(root, make([]byte, 16))},
		"text":                       {text},
		"text-after-binary":          {joined(signer, text)},
		"cut":                        {signer[:len(signer)-1]},
		"never-written":              {bytes.Repeat([]byte{0xff}, 32)},
	}
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
