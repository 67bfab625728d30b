package statusview

import (
	"time"

	"github.com/xpu-sztp/ztp/tpm"
)

// Identity returns what was found of the device's identity. now is the time to measure validity against.
func Identity(x *tpm.Examination, now time.Time) string {
	p := page{now: now}
	kind := "in the TPM at " + x.TPM
	if x.Kind == tpm.KindFile {
		kind = "in a file, not in a TPM"
	}
	p.fact("identity", kind)
	p.fact("serial number", x.SerialNumber)
	if x.Key != nil {
		p.section("key", x.Key.Where, func() { p.keyFacts(x.Key) })
	}
	for i := range x.Chain {
		name, where := "certificate", x.Certificate
		if i > 0 {
			name, where = "issuer", x.Chain[i].Subject
		}
		p.section(name, where, func() { p.certificateFacts(&x.Chain[i]) })
	}
	switch {
	case x.DecryptKey != nil && x.DecryptKey != x.Key:
		p.section("decrypt key", x.DecryptKey.Where, func() {
			p.keyFacts(x.DecryptKey)
			p.certificateFacts(x.DecryptCertificate)
		})
	case x.Key != nil && x.DecryptKey == nil:
		p.fact("encrypted", undecipherable)
	}
	for _, w := range x.Warnings {
		p.fact("warning", w)
	}
	return p.String()
}

// undecipherable is said of devices without a key that decrypts.
const undecipherable = "data cannot be read: the identity key only signs and no other is at hand, see identity.decrypt-key"

func (p *page) keyFacts(k *tpm.KeyFacts) {
	template := ""
	if k.Template != "" {
		template = "template " + string(k.Template)
	}
	p.fact("algorithm", join(", ", k.Algorithm, template))
	p.fact("public key", k.PublicKey)
	var can, pss, decrypts string
	if k.Sign {
		can = "sign for " + k.TLS
	}
	if k.PSS {
		pss = "sign with PSS"
	}
	if k.Decrypt {
		decrypts = "decrypt"
	}
	p.fact("can", join(", ", can, pss, decrypts))
}

func (p *page) certificateFacts(c *tpm.CertificateFacts) {
	p.fact("subject", c.Subject)
	p.fact("issuer", c.Issuer)
	p.fact("number", c.Number)
	p.fact("valid from", p.moment(c.NotBefore))
	p.validUntil(c.NotAfter)
	p.fact("sha256", c.SHA256)
}

// validUntil knows how certificates say "never" (RFC 5280 §4.1.2.5).
func (p *page) validUntil(t time.Time) {
	if t.Year() == 9999 {
		p.fact("valid until", "does not expire")
	} else {
		p.fact("valid until", p.moment(t))
	}
}
