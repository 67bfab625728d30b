package inspect

import (
	"errors"
	"fmt"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/artifacts/cms"
)

// CodeAmbiguous is the reason code of several artifacts where a device gets one.
const CodeAmbiguous artifacts.Code = "ambiguous"

// roles is which artifact is handed to Validate as what; nil for none. server holds the certificates of a server.
type roles struct {
	conveyed, owner, voucher, anchor, server *Artifact
}

// validate comes to a device's verdict about all artifacts together. It returns nil when nobody asked for one: no anchors and
// no device were given, and there is no owner certificate or voucher with the conveyed information.
func validate(all []*Artifact, o Options) *Validation {
	var r roles
	v := &Validation{Problem: r.assign(all)}
	together := r.conveyed != nil && (r.voucher != nil || r.owner != nil)
	if !o.wanted() && !together && v.Problem == nil {
		return nil
	}
	v.NotRun = artifacts.Steps(r.conveyed == nil || r.conveyed.Form != FormUnsigned)
	if v.Problem == nil {
		v.Problem = cannotTell(all, o)
	}
	if v.Problem == nil {
		if err := v.run(&r, o); err != nil {
			v.refuse(err, o)
		}
	}
	return v
}

// run has the artifacts validated.
func (v *Validation) run(r *roles, o Options) error {
	evidence, err := v.authenticate(r.server, o)
	if err != nil {
		return err
	}
	if r.owner == nil {
		r.owner = r.anchor // the two have one form
	}
	device := artifacts.Device{SerialNumber: o.SerialNumber, Certificate: o.Device}
	if o.Device != nil {
		device.AuthorityKeyID = o.Device.AuthorityKeyId
	}
	conveyed, trail, err := artifacts.Validate(artifacts.Bundle{
		ConveyedInformation: r.conveyed.bytes(), OwnerCertificate: r.owner.bytes(), OwnershipVoucher: r.voucher.bytes(),
	}, evidence, device, artifacts.Policy{
		VoucherAnchors: o.VoucherAnchors, Clock: o.Clock, Nonce: o.Nonce, Lenient: o.Lenient,
	})
	v.ran(trail.Steps)
	if err != nil {
		return err
	}
	v.OK, v.Outcome, v.Warnings = true, outcome(conveyed), conveyed.Warnings
	return nil
}

// bytes is what a device would get of a, which may be nil.
func (a *Artifact) bytes() []byte {
	if a == nil {
		return nil
	}
	return a.der
}

// ran takes down steps that ran.
func (v *Validation) ran(steps []artifacts.Verdict) {
	v.Steps = append(v.Steps, steps...)
	for i := range steps {
		if len(v.NotRun) > 0 && steps[i].Step == v.NotRun[0] {
			v.NotRun = v.NotRun[1:]
		}
	}
}

// assign finds out which artifact is which.
func (r *roles) assign(all []*Artifact) *Problem {
	for _, a := range all {
		var role **Artifact
		switch {
		case a.Kind == KindCertificates:
			role = &r.server
		case a.der == nil:
			continue
		case a.Kind == KindConveyed:
			role = &r.conveyed
		case a.Kind == KindVoucher:
			role = &r.voucher
		case a.Kind == KindOwner:
			role = &r.owner
		case a.Kind == KindAnchor && r.anchor == nil:
			role = &r.anchor
		default:
			continue
		}
		if *role != nil && role != &r.server {
			return problem(CodeAmbiguous, fmt.Sprintf("both %s and %s hold %s", (*role).Name, a.Name, a.Kind),
				"inspect what one device gets from one server")
		}
		*role = a
	}
	return nil
}

// cannotTell explains why there can be no verdict here.
func cannotTell(all []*Artifact, o Options) *Problem {
	var found bool
	for _, a := range all {
		found = found || a.Kind == KindConveyed
		switch {
		case a.Kind == KindUnknown:
			return problem(CodeNotArtifact, a.Name+" could not be read", "correct that file, or leave it out")
		case a.enveloped != nil && o.Device != nil && !a.enveloped.For(o.Device):
			return problem(artifacts.CodeNotForDevice, a.Name+" is encrypted, but not for this device",
				"encrypt for the identity certificate that the device presents")
		case a.enveloped != nil:
			return problem(artifacts.CodeCannotDecrypt, a.Name+" is encrypted, and can be read on the device only",
				"inspect it as it was before it was encrypted")
		case a.Kind == KindConveyed && a.der == nil:
			return problem(artifacts.CodeConveyedMalformed, a.Name+" is a document that is not in a CMS", "wrap it as in RFC 8572 §3.1")
		}
	}
	if !found {
		return problem(artifacts.CodeConveyedMissing, "there is no conveyed information", "inspect all that the server sends together")
	}
	return nil
}

// authenticate authenticates the server that has these certificates, under a name of its own. Without trust anchors for
// servers there is no evidence.
func (v *Validation) authenticate(server *Artifact, o Options) (*artifacts.ServerEvidence, error) {
	if len(o.ServerAnchors) == 0 {
		return nil, nil
	}
	if server == nil {
		return nil, &artifacts.Error{
			Code: artifacts.CodeServerUntrusted,
			Msg:  "there is no server certificate to hold against the server's trust anchor",
			Fix:  "inspect a PEM file with the certificates that the server presents, its own first, together with the artifacts",
		}
	}
	leaf := &server.Certificates[0]
	host := ""
	if len(leaf.Names) > 0 {
		host = leaf.Names[0]
	}
	evidence, err := artifacts.AuthenticateServer(server.x509, host, artifacts.PlainAnchors(o.ServerAnchors), o.Clock)
	verdict := artifacts.Verdict{Step: artifacts.StepServerCertificate, OK: err == nil}
	if err != nil {
		verdict.Detail = err.Error()
	} else {
		verdict.Detail = leaf.Subject + ", anchored in " + cms.NameOf(evidence.Anchor().RawSubject)
	}
	v.Steps = append(v.Steps, verdict)
	return evidence, err
}

// refuse keeps why, with what to do here where something was left out.
func (v *Validation) refuse(err error, o Options) {
	v.Problem = problemOf(err)
	var e *artifacts.Error
	var needed *artifacts.StatusNeeded
	if !errors.As(err, &e) {
		return
	}
	switch {
	case errors.As(err, &needed):
		v.Problem.Hint = "nothing is fetched here; a device asks there. To make sure, " + e.Fix
	case e.Code == artifacts.CodeVoucherUntrusted && len(o.VoucherAnchors) == 0:
		v.Problem.Hint = "name the certificate of the maker's voucher service with --anchor"
	case e.Code == artifacts.CodeVoucherSerial && o.SerialNumber == "":
		v.Problem.Hint = "name the device with --serial or --device-cert"
	case e.Code == artifacts.CodeVoucherIssuer && o.Device == nil:
		v.Problem.Hint = "name the device's identity certificate with --device-cert"
	case e.Code == artifacts.CodeVoucherNonce && o.Nonce == nil:
		v.Problem.Hint = "name the nonce that the device sent with --nonce; without one, get a voucher without a nonce"
	}
}

// outcome says what a device would do next.
func outcome(c *artifacts.Conveyed) string {
	switch {
	case c.Onboarding != nil:
		return "the device executes it"
	case c.Trusted:
		return "the device goes to these servers, and authenticates them where there is a trust anchor"
	}
	return "the device goes to these servers without trusting them; trust anchors are ignored"
}
