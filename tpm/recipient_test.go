package tpm_test

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/xpu-sztp/ztp/tpm"
)

// T-14: beside an IDevID that only signs, a second key decrypts. It may lie wherever an IDevID may, and in a plain file.
func TestDecryptKey(t *testing.T) {
	sim, ca := startSimulator(t), newAuthority(t)
	provision(t, sim.path, tpm.P256, ca)
	plain := newP256(t)
	der, err := x509.MarshalPKCS8PrivateKey(plain)
	if err != nil {
		t.Fatal(err)
	}
	bound := decryptKey(signingKey())
	bound.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: tpm2.TPMECCNistP256,
		Scheme: tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDH,
			Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDH, &tpm2.TPMSKeySchemeECDH{HashAlg: tpm2.TPMAlgSHA256})}})
	persist(t, sim, decryptKey(signingKey()), 0x81020002)
	persist(t, sim, bound, 0x81020003)
	_, parent, _, _ := storageKeys()
	wrapped := wrap(t, sim, parent, decryptKey(signingKey()), 0)
	wrappedPublic, err := tpm2.Pub(*wrapped.area(t))
	if err != nil {
		t.Fatal(err)
	}

	for name, test := range map[string]struct {
		key      string
		public   crypto.PublicKey
		warnings int
	}{
		"persistent":      {"0x81020002", publicAt(t, sim, 0x81020002), 0},
		"bound-to-ECDH":   {"0x81020003", publicAt(t, sim, 0x81020003), 0},
		"wrapped":         {writeFile(t, wrapped.pem(t)), wrappedPublic, 0},
		"file-beside-TPM": {writeFile(t, pemOf("PRIVATE KEY", der)), plain.Public(), 1},
	} {
		cert := ca.device(test.public, "")
		sim.writeNV(t, 0x01C90005, readable, "", cert.Raw)
		for form, certificate := range map[string]string{
			"auto": "auto", "default": "", "index": "0x01C90005", "file": writeFile(t, cert.Raw),
		} {
			t.Run(name+"/"+form, func(t *testing.T) {
				id := mustOpen(t, tpm.Options{TPM: sim.path, DecryptKey: test.key, DecryptCertificate: certificate})
				if id.SerialNumber != "SN1" || id.Chain[0].Equal(cert) || !id.Recipient.Equal(cert) || len(id.Warnings) != test.warnings {
					t.Errorf("serial number %q, recipient %v, warnings %q", id.SerialNumber, id.Recipient.Subject, id.Warnings)
				}
				if where, err := id.DecryptionKey(); err != nil || where == id.Key {
					t.Errorf("decrypts with %q, %v", where, err)
				}
				peer, err := ecdh.P256().GenerateKey(rand.Reader)
				if err != nil {
					t.Fatal(err)
				}
				own, err := test.public.(*ecdsa.PublicKey).ECDH()
				if err != nil {
					t.Fatal(err)
				}
				want, err := peer.ECDH(own)
				if err != nil {
					t.Fatal(err)
				}
				if z, err := id.ECDH(peer.PublicKey()); err != nil || string(z) != string(want) {
					t.Errorf("agreed on %x, %v, want %x", z, err, want)
				}
				if _, err := handshake(t, id, ca, &tls.Config{}); err != nil || id.Signatures() != 1 {
					t.Errorf("handshake: %v, %d signatures", err, id.Signatures())
				}
			})
		}
		sim.undefine(t, 0x01C90005)
	}

	t.Run("none", func(t *testing.T) {
		id := mustOpen(t, tpm.Options{TPM: sim.path})
		_, err := id.DecryptionKey()
		wantCode(t, err, tpm.CodeKeyUnusable, "may not decrypt")
		if !id.Recipient.Equal(id.Chain[0]) {
			t.Error("others would encrypt for a certificate that is not the identity's")
		}
	})
}

// Hints about the decrypt key name its own settings.
func TestDecryptKeyUnusable(t *testing.T) {
	sim, ca := startSimulator(t), newAuthority(t)
	provision(t, sim.path, tpm.P256, ca)
	persist(t, sim, decryptKey(signingKey()), 0x81020002)
	signs := rsaKey(tpm2.TPMTRSAScheme{Scheme: tpm2.TPMAlgRSASSA,
		Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSASSA, &tpm2.TPMSSigSchemeRSASSA{HashAlg: tpm2.TPMAlgSHA256})})
	persist(t, sim, signs, 0x81020003)
	persist(t, sim, tpm2.ECCSRKTemplate, 0x81020004)
	_, signer, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(signer)
	if err != nil {
		t.Fatal(err)
	}
	other := writeFile(t, ca.device(newP256(t).Public(), "").Raw)
	for name, test := range map[string]struct {
		key, certificate string
		code             tpm.Code
		mentions         string
	}{
		"missing":          {"0x81020009", "auto", tpm.CodeKeyMissing, "set identity.decrypt-key to the handle the maker used, or make the key: one that decrypts"},
		"no-file":          {"/nowhere", "auto", tpm.CodeKeyMissing, "identity.decrypt-key"},
		"IDevID":           {"0x81020000", "auto", tpm.CodeKeyUnusable, "may not decrypt"},
		"signs":            {"0x81020003", "auto", tpm.CodeKeyUnusable, "may not decrypt"},
		"storage-key":      {"0x81020004", "auto", tpm.CodeKeyUnusable, "restricted"},
		"Ed25519":          {writeFile(t, pemOf("PRIVATE KEY", der)), "auto", tpm.CodeKeyUnusable, "can only sign"},
		"no-certificate":   {"0x81020002", "/nowhere", tpm.CodeCertificateMissing, "identity.decrypt-certificate"},
		"no-index":         {"0x81020002", "0x01C90007", tpm.CodeCertificateMissing, "identity.decrypt-certificate"},
		"other":            {"0x81020002", other, tpm.CodeMismatch, "identity.decrypt-key and identity.decrypt-certificate"},
		"identity-is-auto": {"0x81020002", "auto", tpm.CodeMismatch, "identity.decrypt-key and identity.decrypt-certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := tpm.Open(t.Context(), tpm.Options{TPM: sim.path, DecryptKey: test.key, DecryptCertificate: test.certificate})
			wantCode(t, err, test.code, test.mentions)
		})
	}
	nothingLeft(t, sim)
}
