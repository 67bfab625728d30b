package tpm_test

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-tpm/tpm2"

	"github.com/xpu-sztp/ztp/tpm"
)

// T-01, T-03, T-04, T-08…T-12: what a maker does in the factory. OpenSSL is the certification authority.
func TestFactoryRoundTrip(t *testing.T) {
	for kind, templates := range map[string][]tpm.Template{
		"simulator": {tpm.RSA2048, tpm.P256, tpm.P384, tpm.P521}, // it has no RSA 3072
		"swtpm":     {tpm.RSA2048, tpm.P256, tpm.P384, tpm.P521, tpm.RSA3072},
	} {
		for _, template := range templates {
			t.Run(kind+"/"+string(template), func(t *testing.T) {
				path, dir := softTPMs[kind](t), t.TempDir()
				file := func(name string) string { return filepath.Join(dir, name) }
				factory := tpm.Factory{TPM: path}
				public, err := factory.CreateIDevID(t.Context(), template, tpm.IDevIDHandle)
				if err != nil {
					t.Fatal(err)
				}
				request, err := factory.Request(t.Context(), tpm.IDevIDHandle,
					pkix.Name{Organization: []string{"Maker, Inc."}, CommonName: "Model X", SerialNumber: "SN-7"})
				if err != nil {
					t.Fatal(err)
				}
				parsed, err := x509.ParseCertificateRequest(request)
				if err != nil || parsed.CheckSignature() != nil || parsed.Subject.SerialNumber != "SN-7" ||
					!public.(interface{ Equal(crypto.PublicKey) bool }).Equal(parsed.PublicKey) {
					t.Fatalf("request %+v: %v, %v", parsed, err, parsed.CheckSignature())
				}
				leaf := opensslCA(t, dir, request)
				if leaf.Subject.String() != parsed.Subject.String() {
					t.Errorf("certificate for %s, requested %s", leaf.Subject, parsed.Subject)
				}

				o := tpm.Options{Certificate: "0x01C90000"}
				id, err := factory.Install(t.Context(), o, file("ca.pem"), file("dev.pem"))
				if err != nil {
					t.Fatal(err)
				}
				id.Close()
				id = mustOpen(t, tpm.Options{TPM: path, SerialNumber: "SN-7"})
				root := readAll(t, file("ca.pem"))
				if diff := cmp.Diff(string(root), string(pemOf("CERTIFICATE", id.Chain[1].Raw))); diff != "" {
					t.Errorf("chain (-want +got):\n%s", diff)
				}
				if n := id.Signatures(); n != 0 {
					t.Errorf("%d signatures by opening", n)
				}
				maker := newAuthority(t)
				maker.trusted = id.Chain[1]
				if peer, err := handshake(t, id, maker, &tls.Config{}); err != nil || len(peer) != 2 || id.Signatures() != 1 {
					t.Errorf("handshake: %v, %q, %d signatures", err, names(peer), id.Signatures())
				}
				nothingLeft(t, tap(t, path))

				// Once more is once.
				if again, err := factory.CreateIDevID(t.Context(), template, tpm.IDevIDHandle); err != nil ||
					!again.(interface{ Equal(crypto.PublicKey) bool }).Equal(public) {
					t.Errorf("the key again: %v", err)
				}
				if id, err = factory.Install(t.Context(), o, file("dev.pem"), file("ca.pem")); err != nil {
					t.Errorf("the certificates again: %v", err)
				} else {
					id.Close()
				}
				x, err := tpm.Examine(t.Context(), tpm.Options{TPM: path}, time.Now())
				if err != nil || x.Key.Template != template || x.SerialNumber != "SN-7" || len(x.Chain) != 2 || !x.Key.Sign ||
					x.Key.Decrypt || x.DecryptKey != nil || x.Key.TLS != "TLS 1.3" ||
					x.Key.PSS != strings.HasPrefix(x.Key.Algorithm, "RSA") || len(x.Warnings) != 0 {
					t.Errorf("examined as %+v, key %+v: %v", x, x.Key, err)
				}
			})
		}
	}
}

// opensslCA has a new authority of OpenSSL in dir answer a request: ca.pem and dev.pem.
func opensslCA(t *testing.T, dir string, request []byte) *x509.Certificate {
	t.Helper()
	file := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(file("dev.csr"), pemOf("CERTIFICATE REQUEST", request), 0o600); err != nil {
		t.Fatal(err)
	}
	openssl(t, "req", "-in", file("dev.csr"), "-verify", "-noout")
	openssl(t, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=Maker CA",
		"-days", "30", "-keyout", file("ca.key"), "-out", file("ca.pem"))
	openssl(t, "x509", "-req", "-in", file("dev.csr"), "-CA", file("ca.pem"), "-CAkey", file("ca.key"), "-CAcreateserial",
		"-days", "30", "-out", file("dev.der"), "-outform", "DER")
	der := readAll(t, file("dev.der"))
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file("dev.pem"), pemOf("CERTIFICATE", der), 0o600); err != nil {
		t.Fatal(err)
	}
	return cert
}

// Whatever is not the device's certificate and the chain above it is refused, and nothing is written.
func TestInstallRefuses(t *testing.T) {
	sim, ca, foreign := startSimulator(t), newAuthority(t), newAuthority(t)
	factory := tpm.Factory{TPM: sim.path}
	pub, err := factory.CreateIDevID(t.Context(), tpm.P256, tpm.IDevIDHandle)
	if err != nil {
		t.Fatal(err)
	}
	leaf := ca.device(pub, "SN1")
	write := func(certs ...*x509.Certificate) string {
		var ders [][]byte
		for _, c := range certs {
			ders = append(ders, c.Raw)
		}
		return writeFile(t, pemOf("CERTIFICATE", ders...))
	}
	noCAKey := newP256(t)
	noCA := ca.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "No CA"}}, ca.issuer, noCAKey.Public(), ca.key)
	byNoCA := ca.sign(&x509.Certificate{Subject: leaf.Subject}, noCA, pub, noCAKey)
	for name, test := range map[string]struct {
		o        tpm.Options
		files    []string
		code     tpm.Code
		mentions string
	}{
		"other-key":       {tpm.Options{}, []string{write(ca.device(newP256(t).Public(), "SN1"))}, tpm.CodeMismatch, "Model X"},
		"no-leaf":         {tpm.Options{}, []string{write(ca.issuer, ca.root)}, tpm.CodeCertificateMissing, "0x81020000"},
		"no-serial":       {tpm.Options{}, []string{write(ca.device(pub, ""))}, tpm.CodeNoSerial, "serial number"},
		"other-serial":    {tpm.Options{SerialNumber: "SN2"}, []string{write(leaf)}, tpm.CodeSerialMismatch, "SN2"},
		"foreign-chain":   {tpm.Options{}, []string{write(leaf, foreign.issuer)}, tpm.CodeChainInvalid, "Maker Device CA"},
		"gap":             {tpm.Options{}, []string{write(leaf, ca.root)}, tpm.CodeChainInvalid, "Maker Root CA"},
		"no-CA":           {tpm.Options{}, []string{write(byNoCA, noCA)}, tpm.CodeChainInvalid, "certification authority"},
		"two-leaves":      {tpm.Options{}, []string{write(leaf, ca.device(pub, "SN2"))}, tpm.CodeChainInvalid, "not in the chain"},
		"no-file":         {tpm.Options{}, []string{"/nowhere"}, tpm.CodeCertificateMissing, "/nowhere"},
		"no-files":        {tpm.Options{}, nil, tpm.CodeCertificateMissing, "the files"},
		"garbage":         {tpm.Options{}, []string{write(leaf), writeFile(t, []byte("x"))}, tpm.CodeCertificateMissing, "does not hold"},
		"key":             {tpm.Options{}, []string{write(leaf), writeFile(t, pemOf("PRIVATE KEY", []byte("x")))}, tpm.CodeCertificateMissing, "holds no certificate"},
		"truncated":       {tpm.Options{}, []string{writeFile(t, leaf.Raw[:100])}, tpm.CodeCertificateMissing, "middle"},
		"persistent":      {tpm.Options{Certificate: "0x81020000"}, []string{write(leaf)}, tpm.CodeFailure, "0x81020000"},
		"index-of-chain":  {tpm.Options{Certificate: "0x01C90100"}, []string{write(leaf)}, tpm.CodeFailure, "0x01C90100"},
		"index-of-policy": {tpm.Options{Certificate: "0x01C90010"}, []string{write(leaf)}, tpm.CodeFailure, "0x01C90010"},
		"auto":            {tpm.Options{Certificate: "auto"}, []string{write(leaf)}, tpm.CodeFailure, "auto"},
		"no-key":          {tpm.Options{Key: "0x81020009"}, []string{write(leaf)}, tpm.CodeKeyMissing, "0x81020009"},
	} {
		t.Run(name, func(t *testing.T) {
			if test.o.Certificate == "" {
				test.o.Certificate = "0x01C90000"
			}
			_, err := factory.Install(t.Context(), test.o, test.files...)
			wantCode(t, err, test.code, test.mentions)
			if n := sim.count(tpm2.TPMCCNVDefineSpace); n != 0 {
				t.Errorf("%d NV indices were defined", n)
			}
		})
	}

	o := tpm.Options{Certificate: "0x01C90000"}
	install := func(f tpm.Factory, certs ...*x509.Certificate) error {
		id, err := f.Install(t.Context(), o, write(certs...))
		if err == nil {
			id.Close()
		}
		return err
	}
	if err := install(factory, leaf, ca.issuer); err != nil {
		t.Fatal(err)
	}
	renewed, defined := ca.device(pub, "SN1"), sim.count(tpm2.TPMCCNVDefineSpace)
	wantCode(t, install(factory, renewed), tpm.CodeOccupied, "0x01C90000", "--force")
	wantCode(t, install(factory, leaf, ca.issuer, ca.root), tpm.CodeOccupied, "0x01C90100", "--force")
	if n := sim.count(tpm2.TPMCCNVDefineSpace); n != defined {
		t.Error("something was written")
	}
	factory.Overwrite = true
	if err := install(factory, renewed, ca.issuer, ca.root); err != nil {
		t.Fatal(err)
	}
	if id := mustOpen(t, tpm.Options{TPM: sim.path}); !id.Chain[0].Equal(renewed) || len(id.Chain) != 3 {
		t.Errorf("the chain is %q", names(id.Chain))
	}
}

func TestRequestNeedsSerialNumber(t *testing.T) {
	sim := startSimulator(t)
	factory := tpm.Factory{TPM: sim.path}
	if _, err := factory.CreateIDevID(t.Context(), tpm.P256, tpm.IDevIDHandle); err != nil {
		t.Fatal(err)
	}
	for _, serial := range []string{"", " SN", "SN\n", "a\xff", strings.Repeat("x", 65)} {
		_, err := factory.Request(t.Context(), tpm.IDevIDHandle, pkix.Name{SerialNumber: serial})
		wantCode(t, err, tpm.CodeNoSerial)
	}
	_, err := tpm.Factory{TPM: "none"}.Request(t.Context(), tpm.IDevIDHandle, pkix.Name{SerialNumber: "SN"})
	wantCode(t, err, tpm.CodeUnreachable, "no TPM is configured", "--tpm")
	_, err = factory.Request(t.Context(), 0x81020001, pkix.Name{SerialNumber: "SN"})
	wantCode(t, err, tpm.CodeKeyMissing, "0x81020001")
}

// An examination tells what was found also when something is wrong.
func TestExamine(t *testing.T) {
	sim, ca := startSimulator(t), newAuthority(t)
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	x, err := tpm.Examine(t.Context(), tpm.Options{TPM: sim.path}, now)
	wantCode(t, err, tpm.CodeKeyMissing)
	if x.Kind != tpm.KindTPM || x.Key != nil {
		t.Errorf("%+v", x)
	}
	pub, err := tpm.Factory{TPM: sim.path}.CreateIDevID(t.Context(), tpm.P256, tpm.IDevIDHandle)
	if err != nil {
		t.Fatal(err)
	}
	x, err = tpm.Examine(t.Context(), tpm.Options{TPM: sim.path}, now)
	wantCode(t, err, tpm.CodeCertificateMissing)
	if x.Key == nil || x.Key.Template != tpm.P256 || x.Key.PublicKey != fingerprint(t, pub) {
		t.Errorf("%+v", x.Key)
	}
	doubtful := ca.sign(&x509.Certificate{Subject: pkix.Name{SerialNumber: "SN1"}, NotBefore: now.AddDate(1, 0, 0), IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, ca.issuer, pub, ca.key)
	o := tpm.Options{TPM: sim.path, Certificate: writeFile(t, doubtful.Raw), SerialNumber: "SN2"}
	x, err = tpm.Examine(t.Context(), o, now)
	wantCode(t, err, tpm.CodeSerialMismatch)
	if x.SerialNumber != "SN1" || len(x.Chain) != 1 || len(x.Warnings) != 3 {
		t.Errorf("%+v", x)
	}
	persist(t, sim, decryptKey(rsaKey(tpm2.TPMTRSAScheme{})), 0x81020002)
	o = tpm.Options{TPM: sim.path, Certificate: o.Certificate, DecryptKey: "0x81020002",
		DecryptCertificate: writeFile(t, ca.device(publicAt(t, sim, 0x81020002), "").Raw)}
	x, err = tpm.Examine(t.Context(), o, now)
	if err != nil || x.DecryptKey == nil || !x.DecryptKey.Decrypt || x.DecryptKey.Algorithm != "RSA 2048" ||
		x.DecryptCertificate.Subject != "CN=Model X,O=Maker" {
		t.Errorf("%+v, %v", x.DecryptKey, err)
	}
	nothingLeft(t, sim)
}

// T-08, T-10, T-11, T-12: the keys have the policies that the TCG published.
func TestTemplates(t *testing.T) {
	sim := startSimulator(t)
	for template, policy := range map[tpm.Template]string{
		tpm.RSA2048: "ad6b3a2284fd698a0710bf5cc1b9bdf15e2532e3f601fa4b93a6a8fa8de579ea",
		tpm.P256:    "ad6b3a2284fd698a0710bf5cc1b9bdf15e2532e3f601fa4b93a6a8fa8de579ea",
		tpm.P384: "4db1aa836d0b5615df6ee53a40ef70c61c217f4303d44695925972bc927006cf" +
			"a5cbdf6dc18c4dbe329b2f1542c3dd33",
		tpm.P521: policySHA512,
	} {
		t.Run(string(template), func(t *testing.T) {
			if _, err := (tpm.Factory{TPM: sim.path, Overwrite: true}).CreateIDevID(t.Context(), template, tpm.IDevIDHandle); err != nil {
				t.Fatal(err)
			}
			rsp, err := tpm2.ReadPublic{ObjectHandle: tpm2.TPMHandle(tpm.IDevIDHandle)}.Execute(sim)
			if err != nil {
				t.Fatal(err)
			}
			area, err := rsp.OutPublic.Contents()
			if err != nil {
				t.Fatal(err)
			}
			if got := hex.EncodeToString(area.AuthPolicy.Buffer); got != policy {
				t.Errorf("policy %s, want %s", got, policy)
			}
		})
	}
}
