package tpm_test

import (
	"bytes"
	"crypto/x509"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/xpu-sztp/ztp/tpm"
)

// Wherever the power fails while certificates are written: afterwards there are all of them, or the device says what is
// wrong, and --force repairs it.
func TestPowerCutDuringInstall(t *testing.T) {
	sim, ca := startSimulator(t), newAuthority(t)
	pub, err := tpm.Factory{TPM: sim.path}.CreateIDevID(t.Context(), tpm.P256, tpm.IDevIDHandle)
	if err != nil {
		t.Fatal(err)
	}
	o, factory := tpm.Options{Certificate: "0x01C90000"}, tpm.Factory{TPM: sim.path, Overwrite: true}
	leaves := []*x509.Certificate{ca.device(pub, "SN1"), ca.device(pub, "SN1")}
	// More than one index and than one NV buffer hold.
	wide := ca.sign(&x509.Certificate{Subject: ca.root.Subject, IsCA: true, BasicConstraintsValid: true,
		DNSNames: []string{strings.Repeat("x", 1900)}}, ca.root, ca.root.PublicKey, ca.rootKey)
	chains := [][]*x509.Certificate{{ca.issuer, ca.root}, {ca.issuer, wide}}
	install := func(which int) error {
		all := pemOf("CERTIFICATE", leaves[which].Raw, chains[which][0].Raw, chains[which][1].Raw)
		id, err := factory.Install(t.Context(), o, writeFile(t, all))
		if err == nil {
			err = id.Close()
		}
		return err
	}
	cut, told := 0, map[string]int{}
	for at := 0; ; at++ {
		if at > 0 { // the first time nothing is there yet
			if err := install(0); err != nil {
				t.Fatal(err)
			}
		}
		n := 0
		sim.intercept(func(tpm2.TPMCC) []byte {
			if n++; n > at {
				return refusal(tpm2.TPMRCFailure)
			}
			return nil
		})
		failed := install(1)
		sim.intercept(nil)
		if err := sim.sim.Reset(); err != nil {
			t.Fatal(err)
		}
		id, err := tpm.Open(t.Context(), tpm.Options{TPM: sim.path})
		switch {
		case err != nil:
			wantCode(t, err, tpm.CodeCertificateMissing, "--force")
			told["missing"]++
		case len(id.Warnings) > 0:
			if !strings.Contains(id.Warnings[0], "--force") {
				t.Errorf("warnings %q", id.Warnings)
			}
			told["damaged"]++
		default:
			which := slices.IndexFunc(leaves, id.Chain[0].Equal)
			if len(id.Chain) != 3 || !slices.ContainsFunc(chains, func(c []*x509.Certificate) bool { return c[1].Equal(id.Chain[2]) }) {
				t.Errorf("cut at command %d: leaf %d with the chain %q, and no warning", at, which, names(id.Chain))
			}
			told["complete"]++
		}
		if err == nil {
			id.Close()
		}
		if failed == nil {
			break
		}
		cut++
		wantCode(t, failed, tpm.CodeFailure)
		if err := install(1); err != nil {
			t.Fatalf("cut at command %d, and not repaired: %v", at, err)
		}
	}
	if cut < 10 || told["missing"] == 0 || told["complete"] == 0 {
		t.Errorf("%d cuts, %v", cut, told)
	}
}

// A chain that something else damaged is a warning: what is left of the identity still works with servers that know the
// maker's certificates.
func TestDamagedChain(t *testing.T) {
	for name, content := range map[string][]byte{"unwritten": bytes.Repeat([]byte{0xFF}, 100), "truncated": nil, "text": []byte("hello")} {
		t.Run(name, func(t *testing.T) {
			sim, ca := startSimulator(t), newAuthority(t)
			pub := provision(t, sim.path, tpm.P256, ca)
			if content == nil {
				content = ca.issuer.Raw[:200]
			}
			sim.undefine(t, 0x01C90100)
			sim.writeNV(t, 0x01C90100, readable, "", content)
			for _, where := range []string{"auto", "0x01C90000"} {
				id := mustOpen(t, tpm.Options{TPM: sim.path, Certificate: where})
				if len(id.Chain) != 1 || len(id.Warnings) != 1 || !strings.Contains(id.Warnings[0], "0x01C90100") {
					t.Errorf("%s: chain %q, warnings %q", where, names(id.Chain), id.Warnings)
				}
			}
			sim.undefine(t, 0x01C90000)
			sim.writeNV(t, 0x01C90000, readable, "", content)
			_, err := tpm.Open(t.Context(), tpm.Options{TPM: sim.path})
			wantCode(t, err, tpm.CodeCertificateMissing, "0x01C90000", "--force")
			o := tpm.Options{Certificate: "0x01C90000"}
			files := writeFile(t, pemOf("CERTIFICATE", ca.device(pub, "SN1").Raw, ca.issuer.Raw))
			_, err = tpm.Factory{TPM: sim.path}.Install(t.Context(), o, files)
			wantCode(t, err, tpm.CodeOccupied, "--force")
			id, err := tpm.Factory{TPM: sim.path, Overwrite: true}.Install(t.Context(), o, files)
			if err != nil {
				t.Fatal(err)
			}
			defer id.Close()
			if len(id.Chain) != 2 || len(id.Warnings) != 0 {
				t.Errorf("chain %q, warnings %q", names(id.Chain), id.Warnings)
			}
		})
	}
}
