// Package inspect shows what SZTP artifacts hold and why a device refuses them: conveyed information, owner certificates,
// ownership vouchers and trust anchors (RFC 8572 §3, RFC 8366), in whatever encoding tools write them. It does no I/O: bytes
// go in, a Report comes out, which is printed as text or JSON. Scripts and configuration are shown by size and digest only.
// Decoding believes nobody; whether a device would is told by the same artifacts.Validate that devices run.
package inspect

import (
	"crypto/x509"
	"time"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/artifacts/cms"
	"github.com/xpu-sztp/ztp/artifacts/revinfo"
)

// Limits of what is read.
const (
	MaxSize  = 32 << 20 // bytes of one input, which may hold all three artifacts in base64
	MaxFiles = 64       // inputs, and PEM blocks in one of them
)

// Version is that of the JSON form of a Report. It grows when a member goes away or changes its meaning; others may be added.
const Version = 1

// Input is one file.
type Input struct {
	Name  string
	Data  []byte
	Found bool // it was not asked for by name: what is no artifact is only mentioned
}

// Options says what artifacts are held against. With the zero value they are only decoded, unless conveyed information
// comes together with an owner certificate or a voucher.
type Options struct {
	VoucherAnchors []*x509.Certificate // whom to believe about ownership
	// ServerAnchors has data judged as if it came from the server whose certificates, leaf first, are among the inputs. Each
	// is an anchor of its own.
	ServerAnchors []*x509.Certificate
	// Device is what is known of it. Artifacts are decrypted with its keys, if there are any.
	Device  artifacts.Device
	Clock   artifacts.Clock // without confidence nothing expires
	Nonce   []byte          // what the device sent; nil for none
	Lenient bool            // tolerate what artifacts.Policy.Lenient does
}

// wanted reports whether somebody asked for a verdict.
func (o *Options) wanted() bool {
	return len(o.VoucherAnchors) > 0 || len(o.ServerAnchors) > 0 || o.Device.SerialNumber != "" || o.Device.AuthorityKeyID != nil ||
		o.Nonce != nil
}

// Report is what was found.
type Report struct {
	Version    int         `json:"version"`
	Artifacts  []*Artifact `json:"artifacts"`
	Validation *Validation `json:"validation,omitempty"` // nil when only decoding was asked for
}

// OK reports whether everything could be decoded, and was accepted where a verdict was asked for.
func (r *Report) OK() bool {
	for _, a := range r.Artifacts {
		if a.Problem != nil {
			return false
		}
	}
	return r.Validation == nil || r.Validation.Verdict == Accepted
}

// Kind says which artifact something is.
type Kind string

// The kinds. Owner certificates and trust anchors have one form; they are told apart by their lowest certificate.
const (
	KindConveyed     Kind = "conveyed information"
	KindOwner        Kind = "owner certificate"
	KindVoucher      Kind = "ownership voucher"
	KindAnchor       Kind = "trust anchor"
	KindCertificates Kind = "certificates" // not in a CMS
	KindServerList   Kind = "bootstrap server list"
	KindEncrypted    Kind = "encrypted artifact"
	KindPrivateKey   Kind = "private key" // which nobody should give away, and which is not shown
	KindUnknown      Kind = "unknown"
)

// Form says how an artifact is wrapped.
type Form string

// The forms.
const (
	FormSigned       Form = "signed"
	FormUnsigned     Form = "unsigned"
	FormEncrypted    Form = "encrypted"
	FormCertificates Form = "certificates only"
	FormBare         Form = "not in a CMS"
)

// Artifact is one decoded artifact. Nothing in it was verified.
type Artifact struct {
	Name         string                      `json:"name"` // of the file, with what part of it
	Kind         Kind                        `json:"kind"`
	Form         Form                        `json:"form,omitempty"`
	Inside       Form                        `json:"inside,omitempty"`  // of what was encrypted and could be decrypted
	Problem      *Problem                    `json:"problem,omitempty"` // why it could not be decoded, or not in full
	Warnings     []string                    `json:"warnings,omitempty"`
	Encoding     string                      `json:"encoding,omitempty"` // of the file, such as DER, PEM or RESTCONF
	Bytes        int                         `json:"bytes,omitempty"`    // of the artifact itself
	SHA256       string                      `json:"sha256,omitempty"`   // of the artifact itself, hexadecimal
	ContentType  string                      `json:"content_type,omitempty"`
	Signers      []Signer                    `json:"unverified_signers,omitempty"`
	Recipients   []string                    `json:"recipients,omitempty"`
	Servers      []string                    `json:"bootstrap_servers,omitempty"` // of a DHCP option
	Conveyed     *artifacts.ConveyedView     `json:"conveyed_information,omitempty"`
	Voucher      *artifacts.VoucherView      `json:"voucher,omitempty"`
	Certificates []artifacts.CertificateView `json:"certificates,omitempty"`
	Revocations  []Revocation                `json:"revocation_lists,omitempty"`
	OCSP         []OCSPAnswer                `json:"ocsp_answers,omitempty"`

	der       []byte              // what devices would get; nil when it is not a CMS
	x509      []*x509.Certificate // Certificates
	enveloped *cms.EnvelopedData  // nil when it is not encrypted, or was decrypted
	found     bool                // of its Input
}

// Problem is a refusal with its stable reason code.
type Problem struct {
	Message string `json:"message"`
	Code    string `json:"code"`
	Hint    string `json:"hint,omitempty"`
}

// Signer is a signature, which was not verified.
type Signer struct {
	ID        string `json:"id"`
	Algorithm string `json:"algorithm"`
}

// Revocation is a certificate revocation list.
type Revocation struct {
	Issuer     string    `json:"issuer"`
	ThisUpdate time.Time `json:"this_update,omitzero"`
	NextUpdate time.Time `json:"next_update,omitzero"`
	Revoked    int       `json:"revoked"` // certificates in it
	Unreadable string    `json:"unreadable,omitempty"`
}

// OCSPAnswer is what an OCSP response says about one certificate.
type OCSPAnswer struct {
	SerialNumber string         `json:"serial_number"` // hexadecimal
	Status       revinfo.Status `json:"status,omitempty"`
	ThisUpdate   time.Time      `json:"this_update,omitzero"`
	NextUpdate   time.Time      `json:"next_update,omitzero"`
	Unreadable   string         `json:"unreadable,omitempty"`
}

// Verdict is what a device would come to.
type Verdict string

// The verdicts.
const (
	Accepted  Verdict = "accepted"
	Refused   Verdict = "refused"
	Undecided Verdict = "undecided" // nothing was refused, but not everything could be checked
)

// Result is that of one check.
type Result string

// The results.
const (
	Passed Result = "passed"
	Failed Result = "failed"
	NotRun Result = "not run"
)

// Check is one step of a validation.
type Check struct {
	Step   artifacts.Step `json:"step"`
	Result Result         `json:"result"`
	Detail string         `json:"detail"` // one fact, or why the check did not run
}

// Validation is the verdict that a device would come to. Its checks are in the order in which devices run them; the first that
// fails is the last that runs, and Problem is about it.
type Validation struct {
	Verdict  Verdict  `json:"verdict"`
	Checks   []Check  `json:"checks"`
	Problem  *Problem `json:"problem,omitempty"`
	Missing  []string `json:"missing,omitempty"` // what to give, so that more can be checked
	Warnings []string `json:"warnings,omitempty"`
	Outcome  string   `json:"outcome,omitempty"` // what the device would do with it
}

// Inspect decodes every input and, where it is asked for, comes to a verdict about them together.
func Inspect(inputs []Input, o Options) *Report {
	r := &Report{Version: Version}
	for _, in := range inputs {
		for _, p := range unwrap(in.Name, in.Data) {
			a := p.decode(&o)
			a.found = in.Found
			a.mention()
			r.Artifacts = append(r.Artifacts, a)
		}
	}
	r.Validation = validate(r.Artifacts, o)
	return r
}

// mention makes a warning of the problem of a file that nobody called an artifact.
func (a *Artifact) mention() {
	if a.found && a.Problem != nil && (a.Kind == KindUnknown || a.Kind == KindPrivateKey) {
		a.warn(a.Problem.Message + "; passed over")
		a.Problem = nil
	}
}
