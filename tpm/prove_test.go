package tpm_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/xpu-sztp/ztp/tpm"
)

func TestProve(t *testing.T) {
	for _, template := range []tpm.Template{tpm.P256, tpm.P384, tpm.RSA2048} {
		t.Run(string(template), func(t *testing.T) {
			sim, ca := startSimulator(t), newAuthority(t)
			provision(t, sim.path, template, ca)
			id, x, err := tpm.OpenExamined(t.Context(), tpm.Options{TPM: sim.path}, time.Now())
			if err != nil || !x.Key.Sign || x.Locked {
				t.Fatalf("%+v, %v", x, err)
			}
			defer id.Close()
			if err := id.Prove(t.Context()); err != nil || id.Signatures() != 1 {
				t.Errorf("%v, after %d signatures", err, id.Signatures())
			}
		})
	}
}

// A TPM that computes wrongly is found out before a server does.
func TestProveFindsWrongSignatures(t *testing.T) {
	sim, ca := startSimulator(t), newAuthority(t)
	provision(t, sim.path, tpm.RSA2048, ca)
	id := mustOpen(t, tpm.Options{TPM: sim.path})
	sim.intercept(func(code tpm2.TPMCC) []byte {
		if code != tpm2.TPMCCSign {
			return nil
		}
		return signatureResponse(tpm2.TPMAlgRSASSA, bytes.Repeat([]byte{1}, 256))
	})
	wantCode(t, id.Prove(t.Context()), tpm.CodeFailure, "does not verify")
}
