package artifacts

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/xpu-sztp/ztp/artifacts/cms"
)

// ConveyedView is what conveyed information says, to be shown to people: exactly one of Redirect and Onboarding is set.
// Nobody vouched for any of it, and nothing in it can be executed.
type ConveyedView struct {
	Redirect   []ServerView    `json:"redirect,omitempty"`
	Onboarding *OnboardingView `json:"onboarding,omitempty"`
}

// ServerView is an entry of redirect information.
type ServerView struct {
	Address string            `json:"address"`
	Port    uint16            `json:"port"`                       // never 0; 443 when the document has none
	Anchor  []CertificateView `json:"trust_anchor,omitempty"`     // from the lowest to the root
	Through string            `json:"servers_chain_to,omitempty"` // subject of the lowest, when the trust anchor is one sound chain
	// AnchorErr is an *Error when the trust anchor is malformed, which matters only to devices that trust the list.
	AnchorErr error `json:"-"`
}

// OnboardingView is onboarding information without what could be executed.
type OnboardingView struct {
	OSName        string   `json:"os_name,omitempty"`
	OSVersion     string   `json:"os_version,omitempty"`
	URIs          []string `json:"download_uris,omitempty"`
	ImageSHA256   string   `json:"image_sha256,omitempty"` // hexadecimal
	PreScript     *Extent  `json:"pre_script,omitempty"`
	Handling      Handling `json:"handling,omitempty"`
	Configuration *Extent  `json:"configuration,omitempty"`
	PostScript    *Extent  `json:"post_script,omitempty"`
}

// Extent stands for bytes that are not shown. A nil one stands for none.
type Extent struct {
	Bytes  int    `json:"bytes"`
	SHA256 string `json:"sha256"` // hexadecimal
}

// VoucherView is what a voucher says (RFC 8366 §5.3), to be shown to people. Nobody vouched for any of it.
type VoucherView struct {
	SerialNumber     string          `json:"serial_number"`
	CreatedOn        time.Time       `json:"created_on"`
	ExpiresOn        time.Time       `json:"expires_on,omitzero"`
	Assertion        Assertion       `json:"assertion,omitempty"`     // may be one that is not known
	IDevIDIssuer     string          `json:"idevid_issuer,omitempty"` // hexadecimal
	Nonce            string          `json:"nonce,omitempty"`         // hexadecimal
	RevocationChecks string          `json:"revocation_checks,omitempty"`
	Pinned           CertificateView `json:"pinned_domain_cert"`
}

// CertificateView is what a certificate says.
type CertificateView struct {
	Subject        string    `json:"subject"`
	Issuer         string    `json:"issuer"`
	SerialNumber   string    `json:"serial_number"` // hexadecimal
	NotBefore      time.Time `json:"not_before"`
	NotAfter       time.Time `json:"not_after"`
	Key            string    `json:"key"`                 // algorithm and size
	Authority      bool      `json:"authority,omitempty"` // may issue certificates
	Names          []string  `json:"names,omitempty"`     // DNS names and IP addresses
	SubjectKeyID   string    `json:"subject_key_id,omitempty"`
	AuthorityKeyID string    `json:"authority_key_id,omitempty"`
	SHA256         string    `json:"sha256"` // of its DER, hexadecimal
}

// ViewConveyedInformation reads the document of RFC 8572 §6.3 out of a container with that content type, as Validate does
// but without asking who signed it. Errors are *Error.
func ViewConveyedInformation(contentType asn1.ObjectIdentifier, content []byte, lenient bool) (*ConveyedView, []string, error) {
	v := &validation{policy: Policy{Lenient: lenient}}
	c, err := v.decodeConveyed(document{contentType, content})
	if err != nil {
		return nil, nil, err
	}
	view := new(ConveyedView)
	for i := range c.servers {
		view.Redirect = append(view.Redirect, c.servers[i].view(lenient))
	}
	if c.onboarding != nil {
		view.Onboarding = c.onboarding.view()
	}
	return view, v.warnings, nil
}

func (s *listedServer) view(lenient bool) ServerView {
	view := ServerView{Address: s.address, Port: s.port}
	if s.anchor != nil {
		anchor, _, refusal := parseTrustAnchor(s.anchor, lenient)
		if view.Anchor = ViewCertificates(anchor.Chain); refusal != nil {
			refusal.Step = StepTrustAnchor
			view.AnchorErr = refusal
		} else {
			view.Through = subject(anchor.Lowest)
		}
	}
	return view
}

func (o *Onboarding) view() *OnboardingView {
	view := &OnboardingView{PreScript: extent(o.pre), PostScript: extent(o.post)}
	if image := o.BootImage(); image != nil {
		view.OSName, view.OSVersion, view.URIs = image.OSName, image.OSVersion, image.URIs
		view.ImageSHA256 = hex.EncodeToString(image.SHA256)
	}
	if o.config != nil {
		view.Handling, view.Configuration = o.config.Handling, extent(o.config.Data)
	}
	return view
}

// ViewVoucher reads a voucher document, as Validate does but without asking who signed it. Errors are *Error.
func ViewVoucher(content []byte, lenient bool) (*VoucherView, []string, error) {
	v := &validation{policy: Policy{Lenient: lenient}}
	c, err := v.voucherContents(content)
	if err != nil {
		return nil, nil, err
	}
	return &VoucherView{
		SerialNumber: c.serial, CreatedOn: c.createdOn, ExpiresOn: c.expiresOn, Assertion: c.assertion,
		IDevIDIssuer: hex.EncodeToString(c.issuer), Nonce: hex.EncodeToString(c.nonce), RevocationChecks: string(c.revocation),
		Pinned: viewCertificate(c.pinned),
	}, v.warnings, nil
}

// ViewCertificates describes certificates.
func ViewCertificates(certs []*x509.Certificate) []CertificateView {
	var views []CertificateView
	for _, c := range certs {
		views = append(views, viewCertificate(c))
	}
	return views
}

func viewCertificate(c *x509.Certificate) CertificateView {
	view := CertificateView{
		Subject: subject(c), Issuer: cms.NameOf(c.RawIssuer), SerialNumber: c.SerialNumber.Text(16), NotBefore: c.NotBefore,
		NotAfter: c.NotAfter, Key: c.PublicKeyAlgorithm.String(), Authority: c.IsCA, Names: certificateNames(c),
		SubjectKeyID: hex.EncodeToString(c.SubjectKeyId), AuthorityKeyID: hex.EncodeToString(c.AuthorityKeyId),
		SHA256: extent(c.Raw).SHA256,
	}
	switch key := c.PublicKey.(type) {
	case *ecdsa.PublicKey:
		view.Key += " " + key.Curve.Params().Name
	case *rsa.PublicKey:
		view.Key += fmt.Sprintf(" %d", key.N.BitLen())
	}
	return view
}

func extent(data []byte) *Extent {
	if data == nil {
		return nil
	}
	sum := sha256.Sum256(data)
	return &Extent{Bytes: len(data), SHA256: hex.EncodeToString(sum[:])}
}

// Steps lists the steps of Validate for signed or unsigned data in their order, except StepTrustAnchor, which runs at the end
// for each trust anchor of trusted redirect information.
func Steps(signed bool) []Step {
	if !signed {
		return []Step{StepConveyed, StepContents, StepTrust}
	}
	return []Step{
		StepConveyed, StepVoucher, StepOwner, StepVoucherSignature, StepVoucherContents, StepVoucherDates, StepVoucherAssertion,
		StepVoucherSerial, StepVoucherIssuer, StepVoucherNonce, StepOwnerPath, StepOwnerRevocation, StepOwnerSignature,
		StepContents, StepTrust,
	}
}
