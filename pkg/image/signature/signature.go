// Package signature judges detached signatures over boot images: who signed, whether the device's configuration believes
// them, and which digest the image must have for the signature to hold. Three forms are read, each from at most MaxSize bytes
// that a stranger may have made: OpenSSH's ("ssh-keygen -Y sign"), minisign's, and CMS SignedData (RFC 5652 §5.2). Nothing here
// does I/O and nothing needs the image: a Claim says which hash to compute in the pass in which the image is written, and
// judges the digest afterwards, or before the first byte where it is the digest that was demanded anyway. A signature comes
// on top of that digest (RFC 8572 §5.6) and never replaces it.
package signature

import (
	"crypto"
	_ "crypto/sha256" // the hashes that Claim.New makes
	_ "crypto/sha512"
	"crypto/x509"
	"hash"
	"time"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/reason"
)

// MaxSize is the size of the largest signature that is read, in bytes.
const MaxSize = 64 << 10

// Form is one of the forms of a signature.
type Form int

// The forms, in the order in which they are looked for.
const (
	OpenSSH Form = iota
	Minisign
	CMS
)

// Suffix is what a signature of this form is named by, beside the image's own name.
func (f Form) Suffix() string {
	switch f {
	case OpenSSH:
		return ".sig"
	case Minisign:
		return ".minisig"
	}
	return ".p7s"
}

// Policy is whom to believe about images.
type Policy struct {
	Signers   *Signers
	Namespace string // what OpenSSH signatures must be made for
	// Owner is the owner certificate that signed the onboarding information (RFC 8572 §3.2). It counts where Signers.Owner
	// says so; nil when nobody signed it.
	Owner *x509.Certificate
	Clock artifacts.Clock // for periods of validity, which count when it is accurate (RFC 8572 §9.1)
}

// Forms lists the forms in which somebody who is believed could have signed. The error is a *reason.Error that says why
// there is none.
func (p *Policy) Forms() ([]Form, error) {
	var forms []Form
	if len(p.Signers.ssh) > 0 {
		forms = append(forms, OpenSSH)
	}
	if len(p.Signers.minisign) > 0 {
		forms = append(forms, Minisign)
	}
	if len(p.Signers.certificates) > 0 || p.owner() != nil {
		forms = append(forms, CMS)
	}
	if forms == nil {
		return nil, refuse(noOwner, "the image must be signed by the owner certificate"+ownerless, nil)
	}
	return forms, nil
}

// owner is the owner certificate where that counts.
func (p *Policy) owner() *x509.Certificate {
	if !p.Signers.Owner {
		return nil
	}
	return p.Owner
}

const ownerless = "; there is none, since the onboarding information came unsigned from a trusted server"

// Claim is what a signature says that names somebody who is believed: the image has a certain digest. For some forms only
// that digest shows whether they ever said so.
type Claim struct {
	Signer string      // for people
	Hash   crypto.Hash // how the digest is made: SHA-256, SHA-384, SHA-512 or BLAKE2b-512
	holds  func(digest []byte) bool
}

// New returns the hash that makes the digest. It can be marshalled.
func (c *Claim) New() hash.Hash {
	if c.Hash == crypto.BLAKE2b_512 {
		return newBLAKE2b()
	}
	return c.Hash.New()
}

// Check returns nil if the signer signed an image with this digest.
func (c *Claim) Check(digest []byte) error {
	if c.holds(digest) {
		return nil
	}
	return refuse(mismatch, "the signature is not one of "+c.Signer+" over this image", nil)
}

// Verify judges a signature of the given form. Errors are *reason.Error.
func (p *Policy) Verify(f Form, data []byte) (*Claim, error) {
	if len(data) > MaxSize {
		return nil, refuse(malformed, "the signature is larger than any", nil)
	}
	switch f {
	case OpenSSH:
		return p.verifySSH(data)
	case Minisign:
		return p.verifyMinisign(data)
	}
	return p.verifyCMS(data)
}

// Reasons why an image's signature is not believed.
const (
	CodeMissing   reason.Code = "image-signature-missing"   // there is none beside the image
	CodeMalformed reason.Code = "image-signature-malformed" // it cannot be read
	CodeAlgorithm reason.Code = "image-signature-algorithm" // made in a way that is not accepted
	CodeNamespace reason.Code = "image-signature-namespace" // made for another purpose
	CodeUntrusted reason.Code = "image-signature-untrusted" // by nobody who is believed
	CodeExpired   reason.Code = "image-signature-expired"   // by somebody who is not believed any more, or not yet
	CodeMismatch  reason.Code = "image-signature-mismatch"  // it does not verify for this image
	CodeNoOwner   reason.Code = "image-signature-no-owner"  // only the owner could have signed, and there is no owner certificate
)

// refusal is a code with what a person can do about it.
type refusal struct {
	code reason.Code
	fix  string
}

var (
	missing   = refusal{CodeMissing, "publish the signature of the image beside it, under this name"}
	malformed = refusal{CodeMalformed, "publish the detached signature as the signing program wrote it"}
	algorithm = refusal{CodeAlgorithm, "sign as the commented default file ztp.toml shows for image.signers"}
	purpose   = refusal{CodeNamespace, "sign with this namespace (`ssh-keygen -n`), or correct image.signature-namespace"}
	untrusted = refusal{CodeUntrusted, "have somebody sign the image whom image.signers names, or add there who signed it"}
	expired   = refusal{CodeExpired, "have somebody sign the image who is believed now, or correct the device's clock"}
	mismatch  = refusal{CodeMismatch, "sign the very file that is published as the image, and publish its signature beside it"}
	noOwner   = refusal{CodeNoOwner, "have the owner sign the onboarding information, or add other signers to image.signers"}
)

func refuse(r refusal, msg string, err error) *reason.Error {
	return &reason.Error{Code: r.code, Msg: msg, Fix: r.fix, Err: err}
}

// Missing is the refusal of an image that has no signature beside it.
func Missing() error { return refuse(missing, "there is no signature", nil) }

// untrustedSigner and untimely refuse what names somebody who is not believed.
func untrustedSigner(who, why string) *reason.Error {
	return refuse(untrusted, "the image is signed by "+who+", "+why, nil)
}

func (p *Policy) untimely(who string, from, until time.Time) *reason.Error {
	if !p.Clock.Accurate() || !p.Clock.Now.Before(from) && (until.IsZero() || !p.Clock.Now.After(until)) {
		return nil
	}
	return refuse(expired, "the image is signed by "+who+", who is believed at another time than now, "+p.Clock.Now.UTC().Format(time.RFC3339), nil)
}
