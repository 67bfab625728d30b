package inspect

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/artifacts/cms"
)

// Reason codes of what cannot be judged.
const (
	CodeAmbiguous    artifacts.Code = "ambiguous"     // several artifacts where a device gets one
	CodeInputMissing artifacts.Code = "input-missing" // nothing was refused, but something about the device is not known
)

// roles is which artifact is handed to Validate as what; nil for none. server holds the certificates of a server.
type roles struct {
	conveyed, owner, voucher, anchor, server *Artifact
}

// validate comes to a device's verdict about all artifacts together. It returns nil when nobody asked for one: no anchors and
// no device were given, and there is no owner certificate or voucher with the conveyed information.
func validate(all []*Artifact, o Options) *Validation {
	var r roles
	v := &Validation{Verdict: Refused, Problem: r.assign(all)}
	together := r.conveyed != nil && (r.voucher != nil || r.owner != nil)
	if !o.wanted() && !together && v.Problem == nil {
		return nil
	}
	steps := artifacts.Steps(r.conveyed == nil || r.conveyed.Form != FormUnsigned && r.conveyed.Inside != FormUnsigned)
	if v.Problem == nil {
		v.Problem = r.cannotTell(all, o)
	}
	why := "an earlier check failed"
	switch {
	case v.Problem != nil:
		why = "not all artifacts can be judged"
		if v.Problem.Code == string(CodeInputMissing) {
			v.Verdict = Undecided
		}
	case r.conveyed == nil:
		why = v.voucherAlone(&r, o)
	default:
		if err := v.run(&r, o); err != nil {
			v.refuse(err, o)
		}
	}
	for _, step := range steps {
		ran := func(c Check) bool { return c.Step == step }
		if !slices.ContainsFunc(v.Checks, ran) {
			v.Checks = append(v.Checks, Check{step, NotRun, why})
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
	assumed := o.assume(r.voucher)
	conveyed, trail, err := artifacts.Validate(artifacts.Bundle{
		ConveyedInformation: r.conveyed.bytes(), OwnerCertificate: r.owner.bytes(), OwnershipVoucher: r.voucher.bytes(),
	}, evidence, o.Device, o.policy())
	v.ran(trail, assumed)
	if err != nil {
		return err
	}
	v.Warnings = conveyed.Warnings
	v.accept(outcome(conveyed))
	return nil
}

// voucherAlone judges a voucher without what it is to vouch for. It returns why the rest is not judged.
func (v *Validation) voucherAlone(r *roles, o Options) string {
	assumed := o.assume(r.voucher)
	trail, warnings, err := artifacts.ValidateVoucher(r.voucher.bytes(), o.Device, o.policy())
	v.ran(trail, assumed)
	if err != nil {
		v.refuse(err, o)
		return "an earlier check failed"
	}
	v.Warnings = warnings
	v.accept("the device believes whom the voucher names")
	v.Missing = append(v.Missing, "conveyed information and its owner certificate, for the other checks")
	return "there is no conveyed information"
}

// accept accepts what was checked, if everything was.
func (v *Validation) accept(outcome string) {
	v.Verdict, v.Outcome = Accepted, outcome
	if len(v.Missing) > 0 {
		v.Verdict, v.Outcome = Undecided, "if what is missing is right, "+outcome
		v.Problem = problem(CodeInputMissing, "nothing was refused, but not everything could be checked", "give what is missing")
	}
}

func (o *Options) policy() artifacts.Policy {
	return artifacts.Policy{VoucherAnchors: o.VoucherAnchors, Clock: o.Clock, Nonce: o.Nonce, Lenient: o.Lenient}
}

// assume takes what nobody told of the device from the voucher itself, so that the checks after it can run, and returns what to
// give, by the check that has no meaning now.
func (o *Options) assume(a *Artifact) map[artifacts.Step]string {
	assumed := map[artifacts.Step]string{}
	if a == nil || a.Voucher == nil {
		return assumed
	}
	if o.Device.SerialNumber == "" {
		o.Device.SerialNumber = a.Voucher.SerialNumber
		assumed[artifacts.StepVoucherSerial] = "the device's serial number, with --serial or --device-cert"
	}
	// A view is hexadecimal when it is there.
	if issuer, _ := hex.DecodeString(a.Voucher.IDevIDIssuer); o.Device.AuthorityKeyID == nil && len(issuer) > 0 {
		o.Device.AuthorityKeyID = issuer
		assumed[artifacts.StepVoucherIssuer] = "the device's authority key identifier, with --issuer or --device-cert"
	}
	if nonce, _ := hex.DecodeString(a.Voucher.Nonce); o.Nonce == nil && len(nonce) > 0 {
		o.Nonce = nonce
		assumed[artifacts.StepVoucherNonce] = "the nonce that the device sent, with --nonce"
	}
	return assumed
}

// bytes is what a device would get of a, which may be nil.
func (a *Artifact) bytes() []byte {
	if a == nil {
		return nil
	}
	return a.der
}

// ran takes down checks that ran. Those that passed because of an assumption did not.
func (v *Validation) ran(trail artifacts.Trail, assumed map[artifacts.Step]string) {
	for _, s := range trail.Steps {
		check := Check{s.Step, Passed, s.Detail}
		missing := assumed[s.Step]
		switch {
		case !s.OK:
			check.Result = Failed
		case missing != "":
			check = Check{s.Step, NotRun, "nothing to compare it with is known"}
			v.Missing = append(v.Missing, missing)
		}
		v.Checks = append(v.Checks, check)
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
		if *role != nil && bytes.Equal((*role).der, a.der) && role != &r.server {
			continue // the same in another encoding
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
func (r *roles) cannotTell(all []*Artifact, o Options) *Problem {
	device := o.Device.Certificate
	for _, a := range all {
		switch {
		case a.Kind == KindUnknown && !a.found:
			return problem(CodeNotArtifact, a.Name+" could not be read", "correct that file, or leave it out")
		case a.Kind == KindPrivateKey && !a.found:
			return problem(CodePrivateKey, a.Name+" is a private key", "leave it out")
		case a.enveloped != nil && device != nil && !a.enveloped.For(device):
			return problem(artifacts.CodeNotForDevice, a.Name+" is encrypted, but not for this device",
				"encrypt for the identity certificate that the device presents, or for that of its decrypt key where it has one")
		case a.enveloped != nil && a.Problem != nil:
			return a.Problem
		case a.enveloped != nil:
			return problem(CodeInputMissing, a.Name+" is encrypted, and its recipient's key is not at hand",
				"name the key with --decrypt-key, inspect it on the device with --identity, or inspect it as it was before it was encrypted")
		case a.Kind == KindConveyed && a.der == nil:
			return problem(artifacts.CodeConveyedMalformed, a.Name+" is a document that is not in a CMS", "wrap it as in RFC 8572 §3.1")
		}
	}
	if r.conveyed == nil && r.voucher == nil {
		return problem(artifacts.CodeConveyedMissing, "there is neither conveyed information nor a voucher",
			"inspect all that the server sends together")
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
	check := Check{Step: artifacts.StepServerCertificate, Result: Failed}
	if err != nil {
		check.Detail = err.Error()
	} else {
		check.Result, check.Detail = Passed, leaf.Subject+", anchored in "+cms.NameOf(evidence.Anchor().RawSubject)
	}
	v.Checks = append(v.Checks, check)
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
		v.Verdict = Undecided
		v.Missing = append(v.Missing, "the revocation status, which is not fetched here")
		v.Problem.Hint = "a device asks there. To make sure, " + e.Fix
	case e.Code == artifacts.CodeVoucherUntrusted && len(o.VoucherAnchors) == 0:
		v.Problem.Hint = "name the certificate of the maker's voucher service with --voucher-anchor"
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
