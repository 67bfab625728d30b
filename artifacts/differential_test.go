package artifacts_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/artifacts/internal/opensslpki"
)

// opensslVerdicts remembers what `openssl cms -verify` said, since most tampered bundles differ in one artifact only.
type opensslVerdicts map[string]opensslVerdict

type opensslVerdict struct {
	content []byte
	err     error
}

// verify has OpenSSL verify der with a path to anchor, a root. Paths may go through others, which are no roots and therefore
// trusted for nothing else, although OpenSSL wants them in the same file.
func (v opensslVerdicts) verify(w world, der []byte, anchor *opensslpki.Entity, others entities, now time.Time) ([]byte, error) {
	key := fmt.Sprintf("%x %s %v %v", sha256.Sum256(der), anchor.CertFile, others, now.Unix())
	verdict, known := v[key]
	if !known {
		args := []string{"cms", "-verify", "-binary", "-inform", "DER", "-in", w.Write(der),
			"-CAfile", w.pemOnce(append(entities{anchor}, others...)), "-no-CApath", "-no-CAstore", "-purpose", "any",
			"-attime", strconv.FormatInt(now.Unix(), 10)}
		if others != nil {
			args = append(args, "-certfile", w.pemOnce(others))
		}
		verdict.content, verdict.err = exec.Command("openssl", args...).Output()
		v[key] = verdict
	}
	return verdict.content, verdict.err
}

// TestDifferentialBundles holds whole validations against OpenSSL. What is accepted, OpenSSL accepts with equal content;
// and when OpenSSL accepts both signatures and their paths, no other refusal comes than one that OpenSSL knows nothing of.
func TestDifferentialBundles(t *testing.T) {
	w := shared()
	verdicts := opensslVerdicts{}
	signatureSteps := []artifacts.Step{artifacts.StepVoucherSignature, artifacts.StepOwnerPath, artifacts.StepOwnerSignature}
	tamperings := w.tamperings()
	tamperings["untouched"] = tampering{change: func(*signedCase) {}}
	accepted, refusals := 0, 0
	for form, c := range w.forms() {
		for name, tampered := range tamperings {
			t.Run(form+"/"+name, func(t *testing.T) {
				c := c
				c.w = w
				tampered.change(&c)
				b, d, p := c.build()
				_, _, err := artifacts.Validate(b, nil, d, p)
				var refusal *artifacts.Error
				errors.As(err, &refusal)
				if len(b.OwnershipVoucher) == 0 || len(b.OwnerCertificate) == 0 || c.voucher["pinned-domain-cert"] != nil || len(p.VoucherAnchors) != 1 {
					return // what OpenSSL would be asked is no longer what was asked of us
				}
				anchor := w.makerRoot
				if !p.VoucherAnchors[0].Equal(anchor.Certificate) {
					anchor = w.ownerRoot
				}
				owners := c.owners
				if owners == nil {
					owners = entities{w.owner, w.ownerCA}
				}
				_, voucherErr := verdicts.verify(w, b.OwnershipVoucher, anchor, nil, p.Clock.Now)
				content, conveyedErr := verdicts.verify(w, b.ConveyedInformation, w.ownerRoot, owners, p.Clock.Now)
				document := c.document
				if document == nil {
					document = onboardingDocument
				}
				switch {
				case err == nil:
					accepted++
					if voucherErr != nil || conveyedErr != nil || !bytes.Equal(content, document) {
						t.Errorf("accepted; OpenSSL: voucher %v, conveyed information %v, content %q", voucherErr, conveyedErr, content)
					}
				case voucherErr == nil && conveyedErr == nil && slices.Contains(signatureSteps, refusal.Step):
					// OpenSSL takes any certificate below the anchor for the owner's.
					if refusal.Code != artifacts.CodeSignedByOther {
						t.Errorf("refused, OpenSSL accepts: %v", err)
					}
				case voucherErr != nil || conveyedErr != nil:
					refusals++
				}
			})
		}
	}
	if accepted < 8 || refusals < 20 {
		t.Errorf("%d accepted, %d refused by both: too few to compare", accepted, refusals)
	}
}
