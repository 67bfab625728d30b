package lab

import (
	"cmp"
	"context"
	"crypto/x509"
	"strings"
	"time"

	"github.com/xpu-sztp/ztp/test/lab/artifact"
	"github.com/xpu-sztp/ztp/test/lab/bootstrap"
	"github.com/xpu-sztp/ztp/test/lab/cms"
	"github.com/xpu-sztp/ztp/test/lab/device"
)

const voucherTimeout = 30 * time.Second

// Onboard sets what the owner wants devices to become, and how closely devices report.
func (l *Lab) Onboard(o artifact.Onboarding, reportingLevel string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.onboarding, l.reportingLevel = o, reportingLevel
}

// AnswerRedirect replaces what the maker's redirect server gives to devices; nil restores it.
func (l *Lab) AnswerRedirect(f func(bootstrap.Request) (bootstrap.Answer, error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.redirectAnswer = f
}

// AnswerOwner replaces what the owner's bootstrap server gives to devices; nil restores it.
func (l *Lab) AnswerOwner(f func(bootstrap.Request) (bootstrap.Answer, error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ownerAnswer = f
}

func (l *Lab) answerRedirect(r bootstrap.Request) (bootstrap.Answer, error) {
	l.mu.Lock()
	f := l.redirectAnswer
	l.mu.Unlock()
	if f != nil {
		return f(r)
	}
	return l.UnsignedRedirect(l.BootstrapAt)
}

func (l *Lab) answerOwner(r bootstrap.Request) (bootstrap.Answer, error) {
	l.mu.Lock()
	f := l.ownerAnswer
	l.mu.Unlock()
	if f != nil {
		return f(r)
	}
	if r.Input.SignedDataPreferred {
		return l.Promotion(r)
	}
	return l.SignedOnboarding(r)
}

// UnsignedRedirect sends a device to other servers, without proof and therefore without trust anchors.
func (l *Lab) UnsignedRedirect(to ...Endpoint) (bootstrap.Answer, error) {
	var r artifact.Redirect
	var hosts []string
	for _, e := range to {
		r.Servers = append(r.Servers, artifact.BootstrapServer{Address: e.Host, Port: e.Port})
		hosts = append(hosts, e.String())
	}
	doc, err := r.JSON()
	if err != nil {
		return bootstrap.Answer{}, err
	}
	return unsigned(doc, "unsigned redirect to "+strings.Join(hosts, ", "))
}

// Promotion is a signed redirect that brings a device back to the same server, with the trust anchor to authenticate it by
// (RFC 8572 appendix B).
func (l *Lab) Promotion(r bootstrap.Request) (bootstrap.Answer, error) {
	anchor, err := artifact.TrustAnchor(l.OwnerWeb)
	if err != nil {
		return bootstrap.Answer{}, err
	}
	to := artifact.BootstrapServer{Address: l.BootstrapAt.Host, Port: l.BootstrapAt.Port, TrustAnchor: anchor}
	doc, err := artifact.Redirect{Servers: []artifact.BootstrapServer{to}}.JSON()
	if err != nil {
		return bootstrap.Answer{}, err
	}
	answer, err := l.Sign(r, doc)
	answer.Summary = "redirect back here with the trust anchor for this server, signed by the owner"
	return answer, err
}

// SignedOnboarding is the onboarding information of Onboard, signed by the owner.
func (l *Lab) SignedOnboarding(r bootstrap.Request) (bootstrap.Answer, error) {
	doc, level, err := l.onboardingDocument()
	if err != nil {
		return bootstrap.Answer{}, err
	}
	answer, err := l.Sign(r, doc)
	answer.ReportingLevel, answer.Summary = level, "onboarding information, signed by the owner"
	return answer, err
}

// UnsignedOnboarding is the onboarding information of Onboard, without signature.
func (l *Lab) UnsignedOnboarding() (bootstrap.Answer, error) {
	doc, level, err := l.onboardingDocument()
	if err != nil {
		return bootstrap.Answer{}, err
	}
	answer, err := unsigned(doc, "unsigned onboarding information")
	answer.ReportingLevel = level
	return answer, err
}

func (l *Lab) onboardingDocument() ([]byte, string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	doc, err := l.onboarding.JSON()
	return doc, l.reportingLevel, err
}

func unsigned(doc []byte, summary string) (bootstrap.Answer, error) {
	ci, err := artifact.Unsigned(doc)
	return bootstrap.Answer{Summary: summary, Bundle: artifact.Bundle{ConveyedInformation: ci}}, err
}

// Sign puts the owner's signature on a conveyed-information document and adds the owner certificate and a voucher for the
// device, from the voucher service that its IDevID names.
func (l *Lab) Sign(r bootstrap.Request, doc []byte) (bootstrap.Answer, error) {
	var b artifact.Bundle
	var err error
	if b.ConveyedInformation, err = artifact.Signed(doc, l.Owner.Signer); err != nil {
		return bootstrap.Answer{}, err
	}
	if b.OwnerCertificate, err = artifact.OwnerCertificate(l.Owner.Signer, l.Owner.Root.Certificate); err != nil {
		return bootstrap.Answer{}, err
	}
	if b.OwnershipVoucher, err = l.Voucher(r.Chain[0], r.Input.Nonce); err != nil {
		return bootstrap.Answer{}, err
	}
	return bootstrap.Answer{Bundle: b}, nil
}

// Encrypt has the owner's server encrypt all three artifacts (RFC 8572 §3.4) for a certificate, which is the device's identity
// certificate when it is nil.
func (l *Lab) Encrypt(recipient *x509.Certificate) {
	l.AnswerOwner(func(r bootstrap.Request) (bootstrap.Answer, error) {
		answer, err := l.Promotion(r)
		if !r.Input.SignedDataPreferred {
			answer, err = l.SignedOnboarding(r)
		}
		for _, der := range []*[]byte{&answer.Bundle.ConveyedInformation, &answer.Bundle.OwnerCertificate, &answer.Bundle.OwnershipVoucher} {
			if err == nil {
				*der, err = cms.Encrypt(*der, cmp.Or(recipient, r.Chain[0]), cms.Whole)
			}
		}
		return answer, err
	})
}

// Voucher asks the manufacturer's voucher service for a voucher.
func (l *Lab) Voucher(idevid *x509.Certificate, nonce []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), voucherTimeout)
	defer cancel()
	return l.voucher.Voucher(ctx, idevid, nonce)
}

// ServeImage puts an image on the file server and returns what onboarding information says about it.
func (l *Lab) ServeImage(image device.Image) *artifact.BootImage {
	name := image.OSName + "-" + image.OSVersion + ".img"
	sum := l.Files.Put(name, image.Bytes())
	return &artifact.BootImage{
		OSName: image.OSName, OSVersion: image.OSVersion,
		URIs:         []string{"https://" + l.FilesAt.String() + "/" + name},
		Verification: artifact.SHA256(sum[:]),
	}
}
