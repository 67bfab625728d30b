// Package artifact makes the three artifacts of RFC 8572 §3 the way an owner and a manufacturer's voucher service make them:
// conveyed information in JSON (unsigned, signed or encrypted), owner certificates and ownership vouchers. Members that must
// not stand alone are not forced together, so that a device can be shown invalid artifacts too.
package artifact

import (
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"

	"github.com/xpu-sztp/ztp/test/lab/cms"
	"github.com/xpu-sztp/ztp/test/lab/pki"
)

// Bundle is what a bootstrap server hands out: DER, with the last two absent for unsigned data.
type Bundle struct {
	ConveyedInformation []byte
	OwnerCertificate    []byte
	OwnershipVoucher    []byte
}

// Redirect is redirect information (RFC 8572 §6.1).
type Redirect struct {
	Servers []BootstrapServer `json:"bootstrap-server"`
}

// BootstrapServer is one entry of redirect information.
type BootstrapServer struct {
	Address     string `json:"address"`
	Port        uint16 `json:"port,omitempty"`
	TrustAnchor []byte `json:"trust-anchor,omitempty"` // a degenerate CMS
}

// Onboarding is onboarding information (RFC 8572 §6.2).
type Onboarding struct {
	BootImage     *BootImage `json:"boot-image,omitempty"`
	PreScript     []byte     `json:"pre-configuration-script,omitempty"`
	Handling      string     `json:"configuration-handling,omitempty"`
	Configuration []byte     `json:"configuration,omitempty"`
	PostScript    []byte     `json:"post-configuration-script,omitempty"`
}

// BootImage names the image the device must run.
type BootImage struct {
	OSName       string         `json:"os-name,omitempty"`
	OSVersion    string         `json:"os-version,omitempty"`
	URIs         []string       `json:"download-uri,omitempty"`
	Verification []Verification `json:"image-verification,omitempty"`
}

// Verification is one fingerprint of an image.
type Verification struct {
	Algorithm string `json:"hash-algorithm"`
	Value     string `json:"hash-value"`
}

// SHA256 returns a fingerprint entry: colon-separated hexadecimal, as the YANG type wants it.
func SHA256(sum []byte) []Verification {
	var parts []string
	for _, b := range sum {
		parts = append(parts, hex.EncodeToString([]byte{b}))
	}
	return []Verification{{Algorithm: "ietf-sztp-conveyed-info:sha-256", Value: strings.Join(parts, ":")}}
}

// JSON returns r as an ietf-sztp-conveyed-info document.
func (r Redirect) JSON() ([]byte, error) {
	return json.Marshal(map[string]any{"ietf-sztp-conveyed-info:redirect-information": r})
}

// JSON returns o as an ietf-sztp-conveyed-info document.
func (o Onboarding) JSON() ([]byte, error) {
	return json.Marshal(map[string]any{"ietf-sztp-conveyed-info:onboarding-information": o})
}

// Unsigned wraps a conveyed-information document without a signature.
func Unsigned(document []byte) ([]byte, error) { return cms.Unsigned(cms.ConveyedJSON, document) }

// Signed wraps a conveyed-information document with the owner's signature. It carries no certificates: those are in the
// owner certificate artifact.
func Signed(document []byte, owner *pki.Entity) ([]byte, error) {
	return cms.Sign(cms.ConveyedJSON, document, cms.Signer{Certificate: owner.Certificate, Key: owner.Key})
}

// OwnerCertificate returns the owner certificate artifact: the owner's certificate and every certificate between it and the
// pinned domain certificate, which is left out.
func OwnerCertificate(owner *pki.Entity, pinned *x509.Certificate) ([]byte, error) {
	chain := owner.Chain()
	for i, c := range chain {
		if c.Equal(pinned) && i > 0 {
			chain = chain[:i]
			break
		}
	}
	return cms.Certificates(chain...)
}

// TrustAnchor returns a trust anchor of redirect information: ca and its issuers up to the root.
func TrustAnchor(ca *pki.Entity) ([]byte, error) { return cms.Certificates(ca.Chain()...) }

// Voucher is an ownership voucher (RFC 8366 §5.3).
type Voucher struct {
	CreatedOn    time.Time
	ExpiresOn    time.Time // zero: absent
	Assertion    string    // "verified", "logged" or "proximity"
	SerialNumber string
	IDevIDIssuer []byte // the authority key identifier extension's value; nil: absent
	Pinned       *x509.Certificate
	// RevocationChecks is domain-cert-revocation-checks; nil: absent.
	RevocationChecks *bool
	Nonce            []byte // nil: absent
}

type voucherJSON struct {
	CreatedOn        string `json:"created-on,omitempty"`
	ExpiresOn        string `json:"expires-on,omitempty"`
	Assertion        string `json:"assertion,omitempty"`
	SerialNumber     string `json:"serial-number"`
	IDevIDIssuer     []byte `json:"idevid-issuer,omitempty"`
	Pinned           []byte `json:"pinned-domain-cert,omitempty"`
	RevocationChecks *bool  `json:"domain-cert-revocation-checks,omitempty"`
	Nonce            []byte `json:"nonce,omitempty"`
}

// JSON returns v as an ietf-voucher document.
func (v Voucher) JSON() ([]byte, error) {
	doc := voucherJSON{
		CreatedOn: date(v.CreatedOn), ExpiresOn: date(v.ExpiresOn), Assertion: v.Assertion, SerialNumber: v.SerialNumber,
		IDevIDIssuer: v.IDevIDIssuer, RevocationChecks: v.RevocationChecks, Nonce: v.Nonce,
	}
	if v.Pinned != nil {
		doc.Pinned = v.Pinned.Raw
	}
	return json.Marshal(map[string]any{"ietf-voucher:voucher": doc})
}

func date(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// Sign returns v signed by a MASA, with the signer's certificates up to the root.
func (v Voucher) Sign(masa *pki.Entity) ([]byte, error) {
	doc, err := v.JSON()
	if err != nil {
		return nil, err
	}
	return cms.Sign(cms.VoucherJSON, doc, cms.Signer{Certificate: masa.Certificate, Key: masa.Key, Include: masa.Chain()})
}

// AuthorityKeyID returns the value of the authority key identifier extension of an IDevID certificate, as it belongs into a
// voucher's idevid-issuer: the extension's OCTET STRING with its header. It is nil when the certificate has none.
func AuthorityKeyID(idevid *x509.Certificate) []byte {
	for _, e := range idevid.Extensions {
		if e.Id.String() == "2.5.29.35" {
			return append([]byte{0x04, byte(len(e.Value))}, e.Value...)
		}
	}
	return nil
}
