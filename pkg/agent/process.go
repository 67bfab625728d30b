package agent

import (
	"context"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/onboard"
	"github.com/xpu-sztp/ztp/pkg/source"
)

// process judges bootstrapping data and acts on it: a redirect leads to more servers, onboarding information is executed
// (RFC 8572 §5.3).
func (v *visit) process(ctx context.Context, got reply) error {
	var evidence *artifacts.ServerEvidence
	if got.session != nil {
		evidence = got.session.Evidence()
	}
	conveyed, proof, err := v.judge(ctx, got, evidence)
	if err != nil {
		return v.refuse(ctx, got, evidence, err)
	}
	for _, w := range conveyed.Warnings {
		v.showWarning(w)
	}
	if conveyed.Redirect != nil {
		if got.session != nil {
			got.session.Close()
		}
		if offline, ok := v.lead.Network.(*source.Offline); ok {
			return offline.Fail() // no failure of this visit: another one follows on each network
		}
		if v.redirect = proof; !conveyed.Redirect.Trusted {
			v.redirect = nil
		}
		return v.tryServers(ctx, conveyed.Redirect.Servers, conveyed.Redirect.Trusted, "redirect")
	}
	return v.onboard(ctx, got, evidence, conveyed, proof)
}

// refuse ends the attempt with data that cannot be believed or understood. A trusted server is told. Onboarding
// information that nobody vouched for, or a failure at a trusted server, ends the lead (R5.3-09, R5.6-07); anything else
// leaves the next server its chance, since whoever can spoil one answer must not be able to spoil the list.
func (v *visit) refuse(ctx context.Context, got reply, evidence *artifacts.ServerEvidence, err error) error {
	v.failHere(StageValidate, err)
	if evidence.Valid() {
		v.Onboarder.ReportParsingError(ctx, got.session, got.output.Level, err)
		return finalError{err}
	}
	if reasonOf(err) == string(artifacts.CodeUnsigned) {
		return finalError{err}
	}
	return err
}

// onboard executes onboarding information. Progress goes to the server only when it was authenticated (R5.6-04).
// Whatever comes of it, the lead ends here (R5.3-08).
func (v *visit) onboard(ctx context.Context, got reply, evidence *artifacts.ServerEvidence, conveyed *artifacts.Conveyed, proof *artifacts.Proof) error {
	request := onboard.Request{Info: conveyed.Onboarding, Proof: proof, Warnings: conveyed.Warnings, Network: v.lead.Network, Where: v.lead.Where}
	if evidence.Valid() {
		request.Reporter, request.Level = got.session, got.output.Level
	}
	if got.session == nil { // a server must not make the device read files
		request.Files = v.lead.Files
	}
	v.showOnboarding()
	outcome, err := v.Onboarder.Execute(ctx, request)
	if err != nil {
		if got.session != nil { // it may be too busy to take a report
			v.heed(v.server(), evidence.Valid(), err)
		}
		return finalError{v.fail(StageOnboard, err)}
	}
	v.outcome = outcome
	return nil
}
