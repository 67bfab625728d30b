package cms_test

import (
	"testing"

	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/xpu-sztp/ztp/artifacts/cms"
	"github.com/xpu-sztp/ztp/artifacts/internal/opensslpki"
)

// TestNothingMore adds an element at the end of each element of messages in turn, with all lengths made to fit: what the
// structures do not have is refused wherever it is, before the message counts as signed or decrypted.
func TestNothingMore(t *testing.T) {
	w := shared()
	signer := w.IssueKey([]string{"rsa:2048"}, w.root, "/CN=rsa", opensslpki.Signer...)
	device, rsa := w.curve("P-256"), w.IssueKey([]string{"rsa:2048"}, w.root, "/CN=RSA device")
	now := w.signer.Certificate.NotBefore
	crl := w.CRL(w.root, now, now.AddDate(0, 1, 0), w.other)
	ocsp := w.Respond(opensslpki.OCSP{Issuer: w.root, Subjects: []*opensslpki.Entity{w.signer}})
	oaep := []string{"cms", "-encrypt", "-binary", "-aes-256-cbc", "-in", w.Write(content), "-outform", "DER", "-recip", rsa.CertFile}
	for _, option := range []string{"rsa_padding_mode:oaep", "rsa_oaep_label:616263", "rsa_oaep_md:sha256", "rsa_mgf1_md:sha256"} {
		oaep = append(oaep, "-keyopt", option)
	}
	wrapKey := element(0xa0, octets(device.Certificate.SubjectKeyId))
	for name, test := range map[string]struct {
		der       []byte
		who       *opensslpki.Entity
		tolerated int
	}{
		// The parameters of an announced digest algorithm decide nothing, those of the signer's own do.
		"signed":       {w.Sign(w.signer, content, "-econtent_type", typeJSON), w.signer, 1},
		"signed-pss":   {w.Sign(signer, content, "-keyopt", "rsa_padding_mode:pss"), signer, 1},
		"degenerate":   {w.Certificates([]*opensslpki.Entity{w.signer}, crl, ocsp), nil, 1}, // other revocation information
		"transport":    {w.Encrypt(rsa, content, "-aes-128-cbc"), rsa, 0},
		"oaep":         {w.Run(oaep...), rsa, 0},
		"agreement":    {agreed{device: device, ukm: []byte("u"), curve: oidDER("1.2.840.10045.3.1.7")}.build(t), device, 0},
		"agreement-by": {agreed{device: device, recipient: wrapKey}.build(t), device, 0},
		"gcm":          {w.Encrypt(device, content, "-aes-128-gcm"), device, 0},
	} {
		t.Run(name, func(t *testing.T) {
			whole := [][]byte{opensslpki.Contents(crl), opensslpki.Contents(ocsp)}
			if s := mustParse(t, test.der).Signed; s != nil {
				for _, c := range s.Certificates {
					whole = append(whole, c.Raw)
				}
			}
			root, _ := readNodes(test.der, whole)
			use := func() error {
				m, err := cms.Parse(root[0].build())
				switch {
				case err == nil && m.Enveloped != nil:
					_, err = m.Enveloped.Open(recipient(t, test.who))
				case err == nil && test.who != nil:
					err = m.Signed.SignedBy(test.who.Certificate)
				}
				return err
			}
			if err := use(); err != nil {
				t.Fatalf("without a fault: %v", err)
			}
			var tolerated []byte
			for _, n := range root[0].all() {
				if children := n.children; children != nil {
					n.children = append(children[:len(children):len(children)], &node{tag: asn1.BOOLEAN, value: []byte{0xff}})
					if use() == nil {
						tolerated = append(tolerated, byte(n.tag))
					}
					n.children = children
				}
			}
			if len(tolerated) != test.tolerated {
				t.Errorf("more is tolerated in elements of the tags %x", tolerated)
			}
		})
	}
}
