package tpm_test

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/xpu-sztp/ztp/artifacts/cms"
	labcms "github.com/xpu-sztp/ztp/test/lab/cms"
	"github.com/xpu-sztp/ztp/tpm"
)

// bothWays are templates of keys that sign and decrypt. The simulator has no RSA 3072.
func bothWays(kind string) map[string]tpm2.TPMTPublic {
	ecc := func(curve tpm2.TPMECCCurve) tpm2.TPMTPublic {
		area := signingKey()
		area.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: curve})
		return decryptOrSign(area)
	}
	keys := map[string]tpm2.TPMTPublic{
		"RSA-2048": decryptOrSign(rsaKey(tpm2.TPMTRSAScheme{})),
		"P-256":    ecc(tpm2.TPMECCNistP256),
		"P-384":    ecc(tpm2.TPMECCNistP384),
		"P-521":    ecc(tpm2.TPMECCNistP521),
	}
	if kind == "swtpm" {
		large := decryptOrSign(rsaKey(tpm2.TPMTRSAScheme{}))
		large.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{KeyBits: 3072})
		keys["RSA-3072"] = large
	}
	return keys
}

// R3-07, R3-08, R5.1-06, R9-02: what OpenSSL encrypts for the certificate of a key in a TPM, in every way it knows, our
// reader opens with that key; and what our lab encrypts.
func TestOpenSSLEncryptsForTPM(t *testing.T) {
	content := []byte(`{"ietf-sztp-conveyed-info:onboarding-information":{}}`)
	oaep := func(opts ...string) []string {
		args := []string{"-keyopt", "rsa_padding_mode:oaep"}
		for _, o := range opts {
			args = append(args, "-keyopt", o)
		}
		return args
	}
	transport := map[string][]string{
		"pkcs1":                 nil,
		"pkcs1-keyid":           {"-keyid"},
		"oaep-sha1":             oaep(),
		"oaep-sha256":           oaep("rsa_oaep_md:sha256"),
		"oaep-sha256-mgf1-sha1": oaep("rsa_oaep_md:sha256", "rsa_mgf1_md:sha1"),
		"oaep-sha384":           oaep("rsa_oaep_md:sha384"),
		"oaep-sha512":           oaep("rsa_oaep_md:sha512"),
		"oaep-label":            oaep("rsa_oaep_md:sha256", "rsa_oaep_label:6c6162656c"),
	}
	agreement := map[string][]string{
		"kdf-sha1":       nil,
		"kdf-sha1-keyid": {"-keyid"},
		"kdf-sha256":     {"-keyopt", "ecdh_kdf_md:sha256"},
		"kdf-sha384":     {"-keyopt", "ecdh_kdf_md:sha384"},
		"kdf-sha512":     {"-keyopt", "ecdh_kdf_md:sha512"},
	}
	for kind, start := range softTPMs {
		path, ca := start(t), newAuthority(t)
		w := tap(t, path)
		for name, template := range bothWays(kind) {
			t.Run(kind+"/"+name, func(t *testing.T) {
				persist(t, w, template, 0x81020002)
				defer evict(t, w, 0x81020002)
				cert := ca.sign(&x509.Certificate{Subject: pkix.Name{SerialNumber: "SN1"}, SubjectKeyId: []byte(name)},
					ca.issuer, publicAt(t, w, 0x81020002), ca.key)
				recipient := writeFile(t, pemOf("CERTIFICATE", cert.Raw))
				id := mustOpen(t, tpm.Options{TPM: w.path, Key: "0x81020002", Certificate: recipient})
				r := cms.Recipient{Certificate: id.Recipient}
				variants := agreement
				if id.MayAgree() == nil {
					r.KeyAgreement = id
				} else {
					variants = transport
					var err error
					if r.Decrypter, err = id.Decrypter(); err != nil {
						t.Fatal(err)
					}
				}
				open := func(t *testing.T, der []byte) *cms.Message {
					t.Helper()
					m, err := cms.Parse(der)
					if err != nil {
						t.Fatal(err)
					}
					opened, err := m.Enveloped.Open(r)
					if err != nil {
						t.Fatal(err)
					}
					return opened
				}
				in := writeFile(t, content)
				for variant, args := range variants {
					for _, cipher := range []string{"-aes-128-cbc", "-aes-192-cbc", "-aes-256-cbc", "-aes-256-gcm"} {
						t.Run(variant+cipher, func(t *testing.T) {
							out := filepath.Join(t.TempDir(), "out")
							openssl(t, append([]string{"cms", "-encrypt", "-binary", cipher, "-in", in, "-outform", "DER", "-out", out,
								"-recip", recipient}, args...)...)
							if m := open(t, readAll(t, out)); !bytes.Equal(m.Data, content) {
								t.Errorf("plaintext %q", m.Data)
							}
							if w.heard(content) {
								t.Error("the plaintext was on the wire")
							}
						})
					}
				}
				for _, style := range []labcms.Style{labcms.Typed, labcms.Whole} {
					der, err := labcms.Unsigned(labcms.ConveyedJSON, content)
					if err == nil {
						der, err = labcms.Encrypt(der, id.Recipient, style)
					}
					if err != nil {
						t.Fatal(err)
					}
					if m := open(t, der); !bytes.Equal(m.Data, content) {
						t.Errorf("style %d: plaintext %q", style, m.Data)
					}
				}
				nothingLeft(t, w)
			})
		}
	}
}

// T-15, R5.1-02: OpenSSL verifies what the TPM signs, and its TLS server accepts every kind of key as a client, in the
// highest version that the key can do.
func TestOpenSSLServerAcceptsTPM(t *testing.T) {
	eccBound := func(hash tpm2.TPMAlgID) tpm2.TPMTPublic {
		area := signingKey()
		area.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC,
			&tpm2.TPMSECCParms{CurveID: tpm2.TPMECCNistP256, Scheme: ecdsaScheme(hash)})
		return area
	}
	rsassa := rsaKey(tpm2.TPMTRSAScheme{Scheme: tpm2.TPMAlgRSASSA,
		Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSASSA, &tpm2.TPMSSigSchemeRSASSA{HashAlg: tpm2.TPMAlgSHA256})})
	pss := rsaKey(tpm2.TPMTRSAScheme{Scheme: tpm2.TPMAlgRSAPSS,
		Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSAPSS, &tpm2.TPMSSigSchemeRSAPSS{HashAlg: tpm2.TPMAlgSHA256})})
	for kind, start := range softTPMs {
		path, ca := start(t), newAuthority(t)
		w := tap(t, path)
		keys := bothWays(kind)
		keys["P-256-bound-to-SHA-384"], keys["RSA-bound-to-PKCS1"], keys["RSA-bound-to-PSS"] = eccBound(tpm2.TPMAlgSHA384), rsassa, pss
		for name, template := range keys {
			t.Run(kind+"/"+name, func(t *testing.T) {
				persist(t, w, template, 0x81020002)
				defer evict(t, w, 0x81020002)
				leaf := ca.device(publicAt(t, w, 0x81020002), "SN1")
				id := mustOpen(t, tpm.Options{TPM: w.path, Key: "0x81020002",
					Certificate: writeFile(t, pemOf("CERTIFICATE", leaf.Raw, ca.issuer.Raw))})
				want := uint16(tls.VersionTLS13)
				if name == "P-256-bound-to-SHA-384" || name == "RSA-bound-to-PKCS1" {
					want = tls.VersionTLS12
				}
				cert, maxVersion, err := id.TLSCertificate(t.Context())
				if err != nil || maxVersion != want {
					t.Fatalf("%s, %v", tls.VersionName(maxVersion), err)
				}
				for version := uint16(tls.VersionTLS12); version <= maxVersion; version++ {
					address := opensslServer(t, ca)
					c, err := tls.Dial("tcp", address, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: version,
						MaxVersion: version, RootCAs: pool(ca.root), ServerName: "server"})
					if err != nil {
						t.Fatalf("%s: %v", tls.VersionName(version), err)
					}
					fmt.Fprint(c, "GET / HTTP/1.0\r\n\r\n")
					line, err := bufio.NewReader(c).ReadString('\n')
					if err != nil || !strings.Contains(line, "200") {
						t.Errorf("%s: %q, %v", tls.VersionName(version), line, err)
					}
					c.Close()
				}
				if n, want := id.Signatures(), int64(maxVersion-tls.VersionTLS12+1); n != want {
					t.Errorf("%d signatures for %d handshakes", n, want)
				}
				if name != "RSA-bound-to-PSS" {
					opensslVerifies(t, id)
				}
				nothingLeft(t, w)
			})
		}
	}
}

// opensslVerifies wants that a signature in the form of TLS 1.2 verifies with the public key in the certificate.
func opensslVerifies(t *testing.T, id *tpm.Identity) {
	t.Helper()
	for _, hash := range []crypto.Hash{crypto.SHA256, crypto.SHA384} {
		sig, err := signWith(id, hash)
		if err != nil {
			continue // bound to the other one
		}
		dir := t.TempDir()
		file := func(name string, content []byte) string {
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		}
		der, err := x509.MarshalPKIXPublicKey(id.Signer().Public())
		if err != nil {
			t.Fatal(err)
		}
		openssl(t, "dgst", "-"+strings.ReplaceAll(strings.ToLower(hash.String()), "-", ""), "-verify",
			file("pub", pemOf("PUBLIC KEY", der)), "-signature", file("sig", sig), file("text", []byte("x")))
		return
	}
	t.Error("the key makes no signature")
}

func pool(certs ...*x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	for _, c := range certs {
		p.AddCert(c)
	}
	return p
}

// opensslServer starts `openssl s_server`, which serves one client that must show a certificate below ca, and returns its
// address.
func opensslServer(t *testing.T, ca *authority) string {
	t.Helper()
	key := newP256(t)
	cert := ca.sign(&x509.Certificate{DNSNames: []string{"server"}}, ca.issuer, key.Public(), ca.key)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "openssl", "s_server", "-accept", "127.0.0.1:0", "-naccept", "1", "-www", "-no_ticket",
		"-Verify", "5", "-verify_return_error", "-CAfile", writeFile(t, pemOf("CERTIFICATE", ca.root.Raw)),
		"-cert", writeFile(t, pemOf("CERTIFICATE", cert.Raw)), "-cert_chain", writeFile(t, pemOf("CERTIFICATE", ca.issuer.Raw)),
		"-key", writeFile(t, pemOf("PRIVATE KEY", der)))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if address, ok := strings.CutPrefix(lines.Text(), "ACCEPT "); ok {
			if _, _, err := net.SplitHostPort(address); err == nil {
				return address
			}
		}
	}
	t.Fatal("openssl s_server does not listen")
	return ""
}

// tpm2tools runs programs of tpm2-tools on a software TPM.
type tpm2tools struct {
	*testing.T
	path string
}

func (t tpm2tools) run(name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, append(args, "-T", "swtpm:path="+strings.TrimPrefix(t.path, "unix:"))...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// T-07…T-12: what the factory made is what the usual tools read: name, attributes and policy of the key, which they make
// again from the TCG's template, and the certificates byte for byte.
func TestTPM2ToolsReadFactory(t *testing.T) {
	for template, test := range map[tpm.Template]struct{ algorithm, hash, policy string }{
		tpm.RSA2048: {"rsa2048:null:null", "sha256", policySHA256},
		tpm.P256:    {"ecc256:null:null", "sha256", policySHA256},
		tpm.P384:    {"ecc384:null:null", "sha384", policySHA384},
		tpm.P521:    {"ecc521:null:null", "sha512", policySHA512},
	} {
		t.Run(string(template), func(t *testing.T) {
			path, ca := startSwtpm(t, "not-need-init,startup-clear"), newAuthority(t)
			pub := provision(t, path, template, ca)
			tools, dir := tpm2tools{t, path}, t.TempDir()
			file := func(name string) string { return filepath.Join(dir, name) }
			// The tools take unique as their library has it in memory: a length, least significant byte first, and 128 bytes for
			// each coordinate, or 510 for a modulus.
			var unique []byte
			for _, size := range map[bool][]int{true: {510}, false: {128, 128}}[template == tpm.RSA2048] {
				unique = append(append(append(unique, 6, 0), "IDEVID"...), make([]byte, size-6)...)
			}
			if err := os.WriteFile(file("unique"), unique, 0o600); err != nil {
				t.Fatal(err)
			}
			printed := tools.run("tpm2_readpublic", "-c", "0x81020000", "-n", file("name"), "-f", "der", "-o", file("key"))
			if want := "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|adminwithpolicy|sign\n"; !strings.Contains(printed, want) {
				t.Errorf("the attributes are not %q in\n%s", want, printed)
			}
			if !strings.Contains(printed, "authorization policy: "+strings.ToUpper(test.policy)) &&
				!strings.Contains(printed, "authorization policy: "+test.policy) {
				t.Errorf("the policy is not %s in\n%s", test.policy, printed)
			}
			if der, err := x509.MarshalPKIXPublicKey(pub); err != nil || !bytes.Equal(der, readAll(t, file("key"))) {
				t.Error("the tools read another public key")
			}
			tools.run("tpm2_createprimary", "-C", "e", "-G", test.algorithm, "-g", test.hash, "-L", test.policy, "-u", file("unique"),
				"-a", "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|adminwithpolicy|sign", "-c", file("again"))
			tools.run("tpm2_readpublic", "-c", file("again"), "-n", file("name-again"))
			if !bytes.Equal(readAll(t, file("name")), readAll(t, file("name-again"))) {
				t.Error("the tools make another key from the same template")
			}
			tools.run("tpm2_flushcontext", "-t")

			leaf, chain := file("leaf"), file("chain")
			tools.run("tpm2_nvread", "0x01C90000", "-o", leaf) // with the index's own empty password
			tools.run("tpm2_nvread", "0x01C90100", "-C", "o", "-o", chain)
			id := mustOpen(t, tpm.Options{TPM: path})
			if !bytes.Equal(readAll(t, leaf), id.Chain[0].Raw) || !bytes.Equal(readAll(t, chain), id.Chain[1].Raw) {
				t.Error("the tools read other certificates")
			}
			printed = tools.run("tpm2_nvreadpublic", "0x01C90000")
			if want := "ownerwrite|writelocked|writedefine|ppread|ownerread|authread|no_da|written"; !strings.Contains(strings.ToLower(printed), want) {
				t.Errorf("the attributes are not %s in\n%s", want, printed)
			}
			if out, err := exec.Command("tpm2_nvwrite", "0x01C90000", "-C", "o", "-i", chain,
				"-T", "swtpm:path="+strings.TrimPrefix(path, "unix:")).CombinedOutput(); err == nil {
				t.Errorf("the certificate was overwritten by accident: %s", out)
			}
		})
	}
}

const (
	policySHA256 = "ad6b3a2284fd698a0710bf5cc1b9bdf15e2532e3f601fa4b93a6a8fa8de579ea"
	policySHA384 = "4db1aa836d0b5615df6ee53a40ef70c61c217f4303d44695925972bc927006cfa5cbdf6dc18c4dbe329b2f1542c3dd33"
	policySHA512 = "7dd7500fd6c1b94f97a6af910da147301ef28f662fee06f225a4ccadda3b4e6b" +
		"38e66b2f3ad5dee1a0503cd2daedb1e68cfe4f84b03a8cd22bb6a976f071a72f"
)

// What the usual tools put into a TPM is found: a key at another handle, and the certificate padded and in a place of the
// maker's choice.
func TestTPM2ToolsProvision(t *testing.T) {
	path, ca := startSwtpm(t, "not-need-init,startup-clear"), newAuthority(t)
	tools, dir := tpm2tools{t, path}, t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	tools.run("tpm2_createprimary", "-C", "e", "-G", "ecc256:null:null", "-g", "sha256", "-c", file("key"),
		"-a", "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign")
	tools.run("tpm2_evictcontrol", "-c", file("key"), "0x81020004")
	tools.run("tpm2_flushcontext", "-t")
	leaf := ca.device(publicAt(t, tap(t, path), 0x81020004), "SN1")
	padded := writeFile(t, append(bytes.Clone(leaf.Raw), bytes.Repeat([]byte{0xFF}, 1600-len(leaf.Raw))...))
	for index, content := range map[string]string{
		"0x01C90007": writeFile(t, ca.device(newP256(t).Public(), "OTHER").Raw),
		"0x01C90008": padded,
		"0x01C90100": writeFile(t, ca.issuer.Raw),
	} {
		tools.run("tpm2_nvdefine", index, "-C", "o", "-s", fmt.Sprint(len(readAll(t, content))),
			"-a", "ownerwrite|ownerread|authread|no_da")
		tools.run("tpm2_nvwrite", index, "-C", "o", "-i", content)
	}
	id := mustOpen(t, tpm.Options{TPM: path, Key: "0x81020004"})
	if id.SerialNumber != "SN1" || len(id.Chain) != 2 || !strings.Contains(id.Certificate, "0x01C90008") || len(id.Warnings) != 0 {
		t.Errorf("serial number %s, chain %q, certificate %s, warnings %q", id.SerialNumber, names(id.Chain), id.Certificate, id.Warnings)
	}
	if err := sign(id); err != nil {
		t.Error(err)
	}
}

// T-07…T-12: the templates are the TCG's, byte for byte (TPM 2.0 Keys for Device Identity and Attestation, 7.3), and go into
// the endorsement hierarchy.
func TestTemplateBytes(t *testing.T) {
	const (
		attributes = "000400f2" // fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, adminWithPolicy, sign
		unique     = "0006494445564944"
		none       = "0010" // TPM_ALG_NULL
	)
	w := tap(t, startSwtpm(t, "not-need-init,startup-clear"))
	for template, want := range map[tpm.Template]string{
		tpm.RSA2048: "0001" + "000b" + attributes + "0020" + policySHA256 + none + none + "0800" + "00000000" + unique,
		tpm.RSA3072: "0001" + "000c" + attributes + "0030" + policySHA384 + none + none + "0c00" + "00000000" + unique,
		tpm.P256:    "0023" + "000b" + attributes + "0020" + policySHA256 + none + none + "0003" + none + unique + unique,
		tpm.P384:    "0023" + "000c" + attributes + "0030" + policySHA384 + none + none + "0004" + none + unique + unique,
		tpm.P521:    "0023" + "000d" + attributes + "0040" + policySHA512 + none + none + "0005" + none + unique + unique,
	} {
		if _, err := (tpm.Factory{TPM: w.path, Overwrite: true}).CreateIDevID(t.Context(), template, tpm.IDevIDHandle); err != nil {
			t.Fatal(err)
		}
		area, err := hex.DecodeString(want)
		if err != nil {
			t.Fatal(err)
		}
		// TPM2_CreatePrimary for the endorsement hierarchy with the empty password, no password for the key, and the template.
		command, err := hex.DecodeString("00000131" + "4000000b" + "00000009" + "40000009" + "0000" + "00" + "0000" + "0004" + "00000000")
		if err != nil {
			t.Fatal(err)
		}
		command = binary.BigEndian.AppendUint16(command, uint16(len(area)))
		if !w.heard(append(command, area...)) {
			t.Errorf("%s was not created with the template %s", template, want)
		}
	}
}
