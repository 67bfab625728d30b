package tpm_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"github.com/xpu-sztp/ztp/tpm"
)

// R5.1-02, R5.1-05, R5.3-04, T-01, T-03, T-04, T-07…T-12, T-15, T-16: a factory-provisioned software TPM of another make
// than the simulator, and a TLS server that wants a client certificate.
func TestIdentityInTPM(t *testing.T) {
	for name, template := range map[string]tpm.Template{
		"RSA-2048": tpm.RSA2048, "RSA-3072": tpm.RSA3072, "P-256": tpm.P256, "P-384": tpm.P384,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path, ca := startSwtpm(t, "not-need-init,startup-clear"), newAuthority(t)
			pub := provision(t, path, template, ca)
			id := mustOpen(t, tpm.Options{TPM: path})

			if id.Kind != tpm.KindTPM || id.SerialNumber != "SN1" || len(id.Warnings) != 0 {
				t.Errorf("kind %q, serial number %q, warnings %q", id.Kind, id.SerialNumber, id.Warnings)
			}
			if !id.Signer().Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(pub) {
				t.Error("the identity's key is not the one the factory made")
			}
			for version, label := range map[uint16]string{tls.VersionTLS12: "TLS 1.2", tls.VersionTLS13: "TLS 1.3"} {
				before := id.Signatures()
				peer, err := handshake(t, id, ca, &tls.Config{MinVersion: version, MaxVersion: version})
				if err != nil {
					t.Fatalf("%s: %v", label, err)
				}
				if diff := cmp.Diff([]string{"Model X", "Maker Device CA"}, names(peer)); diff != "" {
					t.Errorf("%s: chain presented (-want +got):\n%s", label, diff)
				}
				if n := id.Signatures() - before; n != 1 {
					t.Errorf("%s took %d signatures", label, n)
				}
			}
			wantProbes := int64(0)
			if _, ok := pub.(*rsa.PublicKey); ok {
				wantProbes = 1
			}
			if id.Probes() != wantProbes {
				t.Errorf("%d probes, want %d", id.Probes(), wantProbes)
			}
			checkAttributes(t, path)
		})
	}
}

func names(certs []*x509.Certificate) (cns []string) {
	for _, c := range certs {
		cns = append(cns, c.Subject.CommonName)
	}
	return cns
}

// handshake connects to a TLS server that demands a certificate of ca and returns what the server saw.
func handshake(t *testing.T, id *tpm.Identity, ca *authority, server *tls.Config) ([]*x509.Certificate, error) {
	t.Helper()
	cert, maxVersion, err := id.TLSCertificate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	serverKey := newP256(t)
	roots := x509.NewCertPool()
	roots.AddCert(ca.root)
	server = server.Clone()
	server.Certificates = []tls.Certificate{{
		Certificate: [][]byte{ca.sign(&x509.Certificate{DNSNames: []string{"server"}}, ca.issuer, serverKey.Public(), ca.key).Raw,
			ca.issuer.Raw},
		PrivateKey: serverKey,
	}}
	clients := roots.Clone()
	if ca.trusted != nil {
		clients.AddCert(ca.trusted)
	}
	server.ClientAuth, server.ClientCAs = tls.RequireAndVerifyClientCert, clients

	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	result := make(chan error, 1)
	go func() {
		client := tls.Client(near, &tls.Config{
			RootCAs: roots, ServerName: "server", Certificates: []tls.Certificate{cert}, MaxVersion: maxVersion})
		err := client.Handshake()
		if err == nil {
			_, err = client.Read(make([]byte, 1)) // what the server thinks of our certificate arrives after a TLS 1.3 handshake
		}
		result <- err
	}()
	s := tls.Server(far, server)
	if err := s.Handshake(); err != nil {
		near.Close()
		<-result
		return nil, err
	}
	if _, err := s.Write([]byte("x")); err != nil {
		return nil, err
	}
	return s.ConnectionState().PeerCertificates, <-result
}

// checkAttributes asks the TPM itself whether the key can leave it (R5.1-05, T-09).
func checkAttributes(t *testing.T, path string) {
	t.Helper()
	direct, err := linuxudstpm.Open(path[len("unix:"):])
	if err != nil {
		t.Fatal(err)
	}
	rsp, err := tpm2.ReadPublic{ObjectHandle: tpm2.TPMHandle(tpm.IDevIDHandle)}.Execute(direct)
	if err != nil {
		t.Fatal(err)
	}
	area, err := rsp.OutPublic.Contents()
	if err != nil {
		t.Fatal(err)
	}
	want := tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true,
		AdminWithPolicy: true, SignEncrypt: true}
	if area.ObjectAttributes != want {
		t.Errorf("attributes %+v, want %+v", area.ObjectAttributes, want)
	}
}

// The certificate is made with OpenSSL, from the public key alone, and given as a file.
func TestIdentityCertificateByOpenSSL(t *testing.T) {
	path := startSwtpm(t, "not-need-init,startup-clear")
	pub, err := tpm.Factory{TPM: path}.CreateIDevID(t.Context(), tpm.P256, 0x81020005)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(file("pub.pem"), pemOf("PUBLIC KEY", der), 0o600); err != nil {
		t.Fatal(err)
	}
	openssl(t, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=CA",
		"-days", "30", "-keyout", file("ca.key"), "-out", file("ca.pem"))
	openssl(t, "x509", "-new", "-force_pubkey", file("pub.pem"), "-CA", file("ca.pem"), "-CAkey", file("ca.key"),
		"-subj", "/O=Maker/serialNumber=PID:MODEL-1 SN:ABC123", "-days", "30", "-out", file("dev.pem"))

	for form, args := range map[string][]string{"PEM": {"-outform", "PEM"}, "DER": {"-outform", "DER"}} {
		t.Run(form, func(t *testing.T) {
			openssl(t, append([]string{"x509", "-in", file("dev.pem"), "-out", file("dev." + form)}, args...)...)
			id := mustOpen(t, tpm.Options{TPM: path, Key: "0x81020005", Certificate: file("dev." + form)})
			if id.SerialNumber != "ABC123" {
				t.Errorf("serial number %q", id.SerialNumber)
			}
		})
	}
}

func openssl(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("openssl", args...).CombinedOutput(); err != nil {
		t.Fatalf("openssl %v: %v\n%s", args, err, out)
	}
}

// No TPM: the key is a file, which is said loudly (R5.1-05).
func TestIdentityKeyFile(t *testing.T) {
	ca, dir := newAuthority(t), t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	openssl(t, "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384", "-out", file("ec-pkcs8"))
	openssl(t, "ec", "-in", file("ec-pkcs8"), "-out", file("ec-sec1"))
	openssl(t, "ecparam", "-name", "prime256v1", "-genkey", "-out", file("ec-sec1-with-parameters"))
	openssl(t, "genrsa", "-out", file("rsa-pkcs8"), "2048")
	openssl(t, "rsa", "-in", file("rsa-pkcs8"), "-traditional", "-out", file("rsa-pkcs1"))
	openssl(t, "genrsa", "-out", file("rsa-1024"), "1024")
	openssl(t, "pkcs8", "-topk8", "-in", file("ec-pkcs8"), "-passout", "pass:x", "-out", file("encrypted"))

	public := func(key string) crypto.PublicKey {
		openssl(t, "pkey", "-in", key, "-pubout", "-outform", "DER", "-out", file("pub"))
		der, err := os.ReadFile(file("pub"))
		if err != nil {
			t.Fatal(err)
		}
		pub, err := x509.ParsePKIXPublicKey(der)
		if err != nil {
			t.Fatal(err)
		}
		return pub
	}
	for _, name := range []string{"ec-pkcs8", "ec-sec1", "ec-sec1-with-parameters", "rsa-pkcs8", "rsa-pkcs1"} {
		t.Run(name, func(t *testing.T) {
			cert := writeFile(t, pemOf("CERTIFICATE", ca.issuer.Raw, ca.device(public(file(name)), "SN7").Raw))
			id := mustOpen(t, tpm.Options{Key: file(name), Certificate: cert})
			if id.Kind != tpm.KindFile || len(id.Warnings) != 1 || id.SerialNumber != "SN7" {
				t.Errorf("kind %q, warnings %q, serial number %q", id.Kind, id.Warnings, id.SerialNumber)
			}
			peer, err := handshake(t, id, ca, &tls.Config{})
			if err != nil || len(peer) != 2 || id.Signatures() != 1 {
				t.Errorf("handshake: %v, %q, %d signatures", err, names(peer), id.Signatures())
			}
		})
	}
	t.Run("readable-by-others", func(t *testing.T) {
		if err := os.Chmod(file("ec-pkcs8"), 0o644); err != nil {
			t.Fatal(err)
		}
		cert := writeFile(t, ca.device(public(file("ec-pkcs8")), "SN7").Raw)
		if id := mustOpen(t, tpm.Options{TPM: "none", Key: file("ec-pkcs8"), Certificate: cert}); len(id.Warnings) != 2 {
			t.Errorf("warnings %q", id.Warnings)
		}
	})
	for name, want := range map[string]struct {
		o    tpm.Options
		code tpm.Code
	}{
		"encrypted":         {tpm.Options{Key: file("encrypted"), Certificate: "x"}, tpm.CodeKeyUnusable},
		"short":             {tpm.Options{Key: file("rsa-1024"), Certificate: "x"}, tpm.CodeKeyUnusable},
		"not-a-key":         {tpm.Options{Key: file("pub"), Certificate: "x"}, tpm.CodeKeyUnusable},
		"missing":           {tpm.Options{Key: file("nowhere"), Certificate: "x"}, tpm.CodeKeyMissing},
		"a-folder":          {tpm.Options{Key: dir, Certificate: "x"}, tpm.CodeKeyMissing},
		"nothing":           {tpm.Options{}, tpm.CodeKeyMissing},
		"handle-but-no-TPM": {tpm.Options{Key: "0x81020000"}, tpm.CodeKeyMissing},
		"auto-but-no-TPM":   {tpm.Options{Key: file("ec-pkcs8")}, tpm.CodeCertificateMissing},
		"no-certificate":    {tpm.Options{Key: file("ec-pkcs8"), Certificate: file("nowhere")}, tpm.CodeCertificateMissing},
		"empty-certificate": {tpm.Options{Key: file("ec-pkcs8"), Certificate: os.DevNull}, tpm.CodeCertificateMissing},
		"key-as-cert":       {tpm.Options{Key: file("ec-pkcs8"), Certificate: file("ec-pkcs8")}, tpm.CodeCertificateMissing},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := tpm.Open(t.Context(), want.o)
			wantCode(t, err, want.code)
		})
	}
}

// A TPM was configured: a key that can be copied must not take its place silently (R5.1-05).
func TestPlainKeyIsRefusedBesideTPM(t *testing.T) {
	sim := startSimulator(t)
	key, err := x509.MarshalPKCS8PrivateKey(newP256(t))
	if err != nil {
		t.Fatal(err)
	}
	_, err = tpm.Open(t.Context(), tpm.Options{TPM: sim.path, Key: writeFile(t, pemOf("PRIVATE KEY", key))})
	wantCode(t, err, tpm.CodeKeyUnusable, "not a TPM key", "none")
}

func TestKeyAndCertificateMismatch(t *testing.T) {
	sim, ca := startSimulator(t), newAuthority(t)
	f := tpm.Factory{TPM: sim.path}
	if _, err := f.CreateIDevID(t.Context(), tpm.P256, tpm.IDevIDHandle); err != nil {
		t.Fatal(err)
	}
	other := ca.device(newP256(t).Public(), "SN1")
	if err := f.WriteCertificate(t.Context(), tpm.IDevIDCertificate, other.Raw); err != nil {
		t.Fatal(err)
	}
	for name, certificate := range map[string]string{
		"auto": "auto", "index": "0x01C90000", "file": writeFile(t, other.Raw),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := tpm.Open(t.Context(), tpm.Options{TPM: sim.path, Certificate: certificate})
			wantCode(t, err, tpm.CodeMismatch, "0x81020000", fingerprint(t, other.PublicKey), "CN=Model X", "sha256:")
		})
	}
}

func fingerprint(t *testing.T, pub crypto.PublicKey) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("sha256:%x", sha256.Sum256(der))
}

func TestConcurrentSignatures(t *testing.T) {
	sim, ca := startSimulator(t), newAuthority(t)
	provision(t, sim.path, tpm.P256, ca)
	id := mustOpen(t, tpm.Options{TPM: sim.path})
	digest := sha256.Sum256([]byte("x"))
	const n = 8
	errs := make(chan error, n)
	for range n {
		go func() {
			_, err := id.Signer().Sign(rand.Reader, digest[:], crypto.SHA256)
			errs <- err
		}()
	}
	for range n {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if id.Signatures() != n {
		t.Errorf("%d signatures counted, want %d", id.Signatures(), n)
	}
}
