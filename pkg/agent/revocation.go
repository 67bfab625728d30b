package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/reason"
	"github.com/xpu-sztp/ztp/pkg/revocation"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// StatusFetcher fetches revocation status; *revocation.Fetcher is one.
type StatusFetcher interface {
	Fetch(context.Context, revocation.Request) (artifacts.Status, []revocation.Attempt)
}

// judge validates bootstrapping data. Where a voucher demands revocation status that did not come along, that is fetched by
// the network of the lead, from OCSP responders first and then, where that was not enough, as revocation lists; each time
// everything is judged anew. Whoever issues for the owner names the places, so they are never on this machine, whatever the lead.
//
// The proof is what the verdict rests on.
func (v *visit) judge(ctx context.Context, got reply, evidence *artifacts.ServerEvidence) (*artifacts.Conveyed, *artifacts.Proof, error) {
	policy := v.Policy
	var attempts []revocation.Attempt
	for fetched := 0; ; fetched++ {
		policy.Clock, policy.Nonce = v.Clock(), got.input.Nonce
		conveyed, trail, err := artifacts.Validate(got.bundle, evidence, v.Device.Device, policy)
		var needed *artifacts.StatusNeeded
		if !errors.As(err, &needed) {
			v.showValidated(conveyed, trail, err, attempts)
			return conveyed, v.proof(got, evidence), err
		}
		wanted := needed.Requests
		if fetched > 0 {
			wanted = listsOnly(wanted)
		}
		if v.Revocation == nil || v.lead.Network == nil || fetched == 2 || len(wanted) == 0 || ctx.Err() != nil {
			err = v.unfetched(err, attempts)
			v.showValidated(conveyed, trail, err, attempts)
			return nil, nil, err
		}
		status, asked := v.Revocation.Fetch(ctx, revocation.Request{Wanted: wanted, Network: v.lead.Network, Refuse: noServer})
		attempts = append(attempts, asked...)
		got.bundle.Status.CRLs = append(got.bundle.Status.CRLs, status.CRLs...)
		got.bundle.Status.OCSPResponses = append(got.bundle.Status.OCSPResponses, status.OCSPResponses...)
	}
}

// proof is what whoever executes the data may judge it by again.
func (v *visit) proof(got reply, evidence *artifacts.ServerEvidence) *artifacts.Proof {
	p := &artifacts.Proof{Bundle: got.bundle, Nonce: got.input.Nonce}
	if evidence.Valid() {
		p.Server = evidence.Proof()
		p.Server.Port, p.Server.Redirect = v.hops[len(v.hops)-1].port, v.redirect
	}
	return p
}

// listsOnly leaves of requests what was not asked for yet after OCSP responders had been asked.
func listsOnly(requests []artifacts.StatusRequest) []artifacts.StatusRequest {
	lists := slices.DeleteFunc(slices.Clone(requests), func(r artifacts.StatusRequest) bool {
		return len(r.OCSPURLs) == 0 || len(r.CRLURLs) == 0
	})
	for i := range lists {
		lists[i].OCSPURLs, lists[i].OCSPRequest = nil, nil
	}
	return lists
}

// unfetched completes a refusal for want of status with what became of fetching it.
func (v *visit) unfetched(err error, attempts []revocation.Attempt) error {
	code, fix := reason.Of(err)
	why := &reason.Error{Code: code, Fix: fix, Err: err}
	if v.Revocation == nil {
		why.Fix = "put fresh revocation lists or OCSP responses for all certificates into the owner certificate artifact, " +
			"or let the device fetch them: [trust] revocation = \"fetch\""
	}
	var failures []string
	for i := range attempts {
		if attempts[i].Err != nil {
			failures = append(failures, attempts[i].String())
		}
	}
	if len(failures) > 0 {
		why.Err = fmt.Errorf("%w; it could not be fetched: %s", err, strings.Join(failures, "; "))
	}
	return why
}

// fetchedInWords tells the status what was fetched.
func fetchedInWords(attempts []revocation.Attempt) (list []state.StatusFetch) {
	for i := range attempts {
		a := &attempts[i]
		list = append(list, state.StatusFetch{URL: a.URL, OK: a.Err == nil, Detail: a.String()})
	}
	return list
}
