// Package artifacts turns bytes that arrived from an untrusted network into values the device may act upon. It reads the
// three artifacts of RFC 8572 §3 (conveyed information, owner certificate, ownership voucher), decides what may be
// believed about them by the rules of RFC 8572 §5.3–5.5 and RFC 8366, and authenticates bootstrap servers to trust
// anchors. It does no I/O and keeps no state. There are exactly two ways to an Onboarding that a device may execute: from
// a server that AuthenticateServer vouched for, or signed by the owner that a voucher names; the zero value is refused,
// and nothing outside this package can make another one. Signed data is as fresh as what vouches for it and no fresher:
// conveyed information has no period of validity (RFC 8572 §9.11), so that what an owner once signed is accepted, from
// whoever sends it, until the voucher or the owner certificate ends or is revoked; only a nonce, which Policy.RequireNonce
// demands, binds it to one session.
package artifacts

import (
	"crypto"
	"crypto/x509"

	"github.com/xpu-sztp/ztp/artifacts/cms"
)

// Bundle is what a bootstrap server, a removable storage device or a DNS record delivered: DER bytes, nothing verified.
// OwnerCertificate and OwnershipVoucher are nil when absent.
type Bundle struct {
	ConveyedInformation []byte // RFC 8572 §3.1
	OwnerCertificate    []byte // RFC 8572 §3.2
	OwnershipVoucher    []byte // RFC 8572 §3.3, RFC 8366
	Status              Status // what the caller fetched when a StatusNeeded asked for it; empty otherwise
}

// Device is what the artifacts are held against: the identity of the device that received them.
type Device struct {
	SerialNumber   string            // as it must appear in vouchers, compared exactly
	AuthorityKeyID []byte            // the keyIdentifier of the IDevID certificate's authority key identifier; nil when it has none
	Certificate    *x509.Certificate // recipient of encrypted artifacts; may be nil
	Decrypter      crypto.Decrypter  // RSA key for encrypted artifacts; nil when the device cannot decrypt
	KeyAgreement   KeyAgreement      // elliptic-curve key for encrypted artifacts; nil when the device has none
}

// KeyAgreement derives a secret with an elliptic-curve key; *ecdh.PrivateKey implements it.
type KeyAgreement = cms.KeyAgreement

// Policy is what the device's maker and operator decided, and what this session sent.
type Policy struct {
	VoucherAnchors []*x509.Certificate // whom to believe about ownership (RFC 8572 §5.1)
	Assertions     []Assertion         // acceptable voucher assertions; empty means all known ones
	Clock          Clock
	// UncheckedRevocation accepts carried revocation lists of unknown age when the voucher demands revocation checks and
	// the clock is not accurate; without it such vouchers are refused. What is listed as revoked is refused either way.
	UncheckedRevocation bool
	Nonce               []byte // the nonce sent to this server in this session; nil when none was sent
	RequireNonce        bool   // refuse vouchers without a nonce when one was sent
	// RequireSigned refuses onboarding information that the owner did not sign, whoever sent it. Redirects are as without it.
	RequireSigned bool
	LongLived     bool // where a nonce was sent, accept even a voucher with neither nonce nor expires-on
	Lenient       bool // tolerate what peers in the field get wrong, with a warning (never anything about trust)
}

// Conveyed is the outcome of Validate: exactly one of Redirect and Onboarding is set.
type Conveyed struct {
	Redirect   *Redirect
	Onboarding *Onboarding
	Signed     bool     // the owner's signature was present and valid
	Trusted    bool     // RFC 8572 trust-state after validation: may the data be believed
	Warnings   []string // tolerated deviations, for people
}

// Redirect is redirect information (RFC 8572 §6.1), in the order of its list.
type Redirect struct {
	Servers []BootstrapServer
	// Trusted tells whether trust anchors in Servers may be used. When it is false they have been removed.
	Trusted bool
}

// BootstrapServer is where to ask next: a host name or IP literal without brackets, a port, and optionally the trust
// anchors its TLS certificate must chain to.
type BootstrapServer struct {
	Address string
	Port    uint16 // never 0; 443 when the source gave none
	Anchors []TrustAnchor
}

// Trail is the record of a validation for people: every step that ran, in order, with its verdict.
type Trail struct {
	Steps []Verdict `json:"steps"`
}

// Verdict is one step of a validation.
type Verdict struct {
	Step   Step   `json:"step"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"` // one fact, such as the subject of the certificate that was found
}

// Validate applies RFC 8572 §5.3 and §5.4 to b. server is the evidence that the server that sent b was authenticated, or
// nil for every other source. On success exactly one kind of conveyed information is returned; unsigned onboarding
// information from an unauthenticated source is an error. The trail is returned in both cases. Errors are *Error.
//
// What bounds a replay is told in the comment of the package.
func Validate(b Bundle, server *ServerEvidence, d Device, p Policy) (*Conveyed, Trail, error) {
	v := &validation{device: d, policy: p}
	conveyed, err := v.validate(b, server.Valid())
	if err != nil {
		return nil, v.trail, err
	}
	conveyed.Warnings = v.warnings
	return conveyed, v.trail, nil
}
