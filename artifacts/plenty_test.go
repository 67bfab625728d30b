package artifacts_test

import (
	"slices"
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/artifacts/internal/opensslpki"
)

// TestPlentyOfEvidence has whoever relays the artifacts add what takes long to find wrong: OCSP responses and revocation
// lists with broken signatures, and certificates that have nothing of the pinned one's issuer but name and key.
func TestPlentyOfEvidence(t *testing.T) {
	r := newResponder(shared())
	slow := []string{"ec", "-pkeyopt", "ec_paramgen_curve:P-521"}
	root := r.IssueKey(slow, nil, "/O=Owner/CN=Slow root", opensslpki.Authority...)
	issuing := r.Issue(root, "/O=Owner/CN=Owner issuing CA", opensslpki.Authority...)
	owner := r.ownedBy(issuing)
	start, end := r.now().Add(-time.Hour), r.now().Add(time.Hour)
	broken := func(o opensslpki.OCSP) string {
		o.Args = append(o.Args, "-badsig", "-ndays", day)
		return r.Respond(o)
	}
	plenty := slices.Repeat([]string{broken(opensslpki.OCSP{Issuer: root, Subjects: entities{issuing}})}, 16)
	about := r.Respond(opensslpki.OCSP{Issuer: issuing, Subjects: entities{owner}, Args: []string{"-ndays", day}})
	good := r.CRL(root, start, end)
	owners := entities{owner}
	for len(owners) < 32 {
		owners = append(owners, r.Recertify(root, r.strayRoot, "/O=Owner/CN=Slow root", opensslpki.Authority...))
	}
	for name, test := range map[string]struct {
		fetched []string
		code    artifacts.Code
	}{
		"none-good":    {nil, artifacts.CodeRevocationUnknown},
		"good-fetched": {[]string{good, about}, ""},
		"revoked":      {[]string{r.CRL(root, start, end, issuing), about}, artifacts.CodeOwnerRevoked},
	} {
		t.Run(name, func(t *testing.T) {
			b, d, p := signedCase{w: r.world, ciSigner: owner, voucher: object{"domain-cert-revocation-checks": true,
				"pinned-domain-cert": b64(issuing.Certificate.Raw)}}.build()
			b.OwnerCertificate = opensslpki.Degenerate(owners, plenty...)
			b.OwnershipVoucher = opensslpki.AddCRLs(b.OwnershipVoucher, plenty...)
			b.Status = fetched(test.fetched...)
			begin := time.Now()
			_, trail, err := artifacts.Validate(b, nil, d, p)
			if took := time.Since(begin); took > 2*time.Second {
				t.Errorf("took %v", took)
			}
			expect(t, trail, err, test.code, artifacts.StepOwnerRevocation)
		})
	}
}
