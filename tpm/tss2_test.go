package tpm_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	encoding_asn1 "encoding/asn1"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/xpu-sztp/ztp/tpm"
)

// signingKey is a template for an unrestricted ECC signing key.
func signingKey() tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{
			FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true, SignEncrypt: true},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: tpm2.TPMECCNistP256}),
	}
}

// keyFile is what goes into a TSS2 PRIVATE KEY file.
type keyFile struct {
	oid                  int // last arc of the key type
	emptyAuth, rsaParent bool
	policy               bool
	parent               int64
	public, private      []byte // TPM2B_PUBLIC, TPM2B_PRIVATE
}

func (k keyFile) pem(t *testing.T) []byte {
	t.Helper()
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		field := func(n uint8, f cryptobyte.BuilderContinuation) {
			b.AddASN1(asn1.Tag(n).ContextSpecific().Constructed(), f)
		}
		b.AddASN1ObjectIdentifier(encoding_asn1.ObjectIdentifier{2, 23, 133, 10, 1, k.oid})
		if k.emptyAuth {
			field(0, func(b *cryptobyte.Builder) { b.AddASN1Boolean(true) })
		}
		if k.policy {
			field(1, func(b *cryptobyte.Builder) { b.AddASN1(asn1.SEQUENCE, func(*cryptobyte.Builder) {}) })
		}
		field(4, func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.UTF8String, func(b *cryptobyte.Builder) { b.AddBytes([]byte("a key")) })
		})
		if k.rsaParent {
			field(5, func(b *cryptobyte.Builder) { b.AddASN1Boolean(true) })
		}
		b.AddASN1Int64(k.parent)
		b.AddASN1OctetString(k.public)
		b.AddASN1OctetString(k.private)
	})
	return pemOf("TSS2 PRIVATE KEY", b.BytesOrPanic())
}

// wrap creates a key without a password under a parent with TPM2_Create and returns it as a key file, under the owner hierarchy or a persistent parent.
func wrap(t *testing.T, d transport.TPM, parentTemplate, template tpm2.TPMTPublic, persistent tpm2.TPMHandle) keyFile {
	t.Helper()
	return wrapWithPassword(t, d, parentTemplate, template, persistent, "")
}

func wrapWithPassword(t *testing.T, d transport.TPM, parentTemplate, template tpm2.TPMTPublic,
	persistent tpm2.TPMHandle, password string) keyFile {
	t.Helper()
	primary, err := tpm2.CreatePrimary{
		PrimaryHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
		InPublic:      tpm2.New2B(parentTemplate)}.Execute(d)
	if err != nil {
		t.Fatal(err)
	}
	parent := tpm2.NamedHandle{Handle: primary.ObjectHandle, Name: primary.Name}
	rsp, err := tpm2.Create{
		ParentHandle: tpm2.AuthHandle{Handle: parent.Handle, Name: parent.Name, Auth: tpm2.PasswordAuth(nil)},
		InSensitive: tpm2.TPM2BSensitiveCreate{
			Sensitive: &tpm2.TPMSSensitiveCreate{UserAuth: tpm2.TPM2BAuth{Buffer: []byte(password)}}},
		InPublic: tpm2.New2B(template)}.Execute(d)
	if err != nil {
		t.Fatal(err)
	}
	k := keyFile{oid: 3, emptyAuth: true, parent: int64(tpm2.TPMRHOwner),
		public: tpm2.Marshal(rsp.OutPublic), private: tpm2.Marshal(rsp.OutPrivate)}
	if persistent != 0 {
		_, err := tpm2.EvictControl{Auth: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
			ObjectHandle: parent, PersistentHandle: persistent}.Execute(d)
		if err != nil {
			t.Fatal(err)
		}
		k.parent = int64(persistent)
	}
	if _, err := (tpm2.FlushContext{FlushHandle: primary.ObjectHandle}).Execute(d); err != nil {
		t.Fatal(err)
	}
	return k
}

func (k keyFile) area(t *testing.T) *tpm2.TPMTPublic {
	t.Helper()
	sized, err := tpm2.Unmarshal[tpm2.TPM2BPublic](k.public)
	if err != nil {
		t.Fatal(err)
	}
	area, err := sized.Contents()
	if err != nil {
		t.Fatal(err)
	}
	return area
}

// certificate issues one for the key of a key file and returns its file.
func (k keyFile) certificate(t *testing.T, ca *authority) string {
	t.Helper()
	area := k.area(t)
	var pub crypto.PublicKey
	if point, err := area.Unique.ECC(); err == nil {
		encoded := make([]byte, 65)
		encoded[0] = 4
		copy(encoded[33-len(point.X.Buffer):], point.X.Buffer)
		copy(encoded[65-len(point.Y.Buffer):], point.Y.Buffer)
		if pub, err = ecdsa.ParseUncompressedPublicKey(elliptic.P256(), encoded); err != nil {
			t.Fatal(err)
		}
	} else if pub, err = tpm2.Pub(*area); err != nil {
		t.Fatal(err)
	}
	return writeFile(t, pemOf("CERTIFICATE", ca.device(pub, "SN1").Raw, ca.issuer.Raw))
}

func storageKeys() (ecc, eccZeros, rsa, rsaZeros tpm2.TPMTPublic) {
	ecc, eccZeros, rsa, rsaZeros = tpm2.ECCSRKTemplate, tpm2.ECCSRKTemplate, tpm2.RSASRKTemplate, tpm2.RSASRKTemplate
	ecc.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{})
	rsa.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{})
	return
}

// T-17, T-18, T-16: keys that are stored wrapped, under every parent that is in use.
func TestWrappedKey(t *testing.T) {
	ca := newAuthority(t)
	ecc, eccZeros, rsa, rsaZeros := storageKeys()
	for name, test := range map[string]struct {
		parent     tpm2.TPMTPublic
		rsaParent  bool
		persistent tpm2.TPMHandle
	}{
		"owner-ecc":             {parent: ecc},
		"owner-ecc-zero-filled": {parent: eccZeros},
		"owner-rsa":             {parent: rsa, rsaParent: true},
		"owner-rsa-unsaid":      {parent: rsaZeros},
		"persistent":            {parent: eccZeros, persistent: 0x81000001},
	} {
		t.Run(name, func(t *testing.T) {
			sim := startSimulator(t)
			k := wrap(t, sim, test.parent, signingKey(), test.persistent)
			k.rsaParent = test.rsaParent
			id := mustOpen(t, tpm.Options{TPM: sim.path, Key: writeFile(t, k.pem(t)), Certificate: k.certificate(t, ca)})
			if id.Kind != tpm.KindTPM || len(id.Warnings) != 0 {
				t.Errorf("kind %q, warnings %q", id.Kind, id.Warnings)
			}
			derived := sim.count(tpm2.TPMCCCreatePrimary)
			if _, err := handshake(t, id, ca, &tls.Config{}); err != nil {
				t.Fatal(err)
			}
			if n := sim.count(tpm2.TPMCCCreatePrimary) - derived; n != 0 {
				t.Errorf("the parent was derived again for a signature")
			}
			if n := sim.transients(t); n != 0 {
				t.Errorf("%d transient objects left in the TPM", n)
			}
			if err := sim.sim.Reset(); err != nil {
				t.Fatal(err)
			}
			if err := sign(id); err != nil {
				t.Errorf("after a reset of the TPM: %v", err)
			}
			if n := sim.transients(t); n != 0 {
				t.Errorf("%d transient objects left in the TPM after its reset", n)
			}
		})
	}
}

func TestWrappedKeyUnusable(t *testing.T) {
	sim, ca := startSimulator(t), newAuthority(t)
	ecc, _, _, _ := storageKeys()
	good := wrap(t, sim, ecc, signingKey(), 0)
	cert := good.certificate(t, ca)
	lockable := signingKey()
	lockable.ObjectAttributes.NoDA = false

	for name, test := range map[string]struct {
		change  func(*keyFile)
		mention string
	}{
		"importable":   {func(k *keyFile) { k.oid = 4 }, "importable"},
		"sealed":       {func(k *keyFile) { k.oid = 5 }, "sealed"},
		"unknown-type": {func(k *keyFile) { k.oid = 9 }, "unknown key type"},
		"password": {func(k *keyFile) {
			*k = wrap(t, sim, ecc, lockable, 0)
			k.emptyAuth = false
		}, "password"},
		"parent-absent":      {func(k *keyFile) { k.parent = 0x81000001 }, "not in this TPM"},
		"parent-is-nonsense": {func(k *keyFile) { k.parent = 7 }, "neither"},
		"parent-too-large":   {func(k *keyFile) { k.parent = 1 << 33 }, "malformed"},
		"trailing-public":    {func(k *keyFile) { k.public = append(k.public, 0) }, "TPM2B_PUBLIC"},
		"truncated-public":   {func(k *keyFile) { k.public = k.public[:20] }, "TPM2B_PUBLIC"},
		"garbage-public":     {func(k *keyFile) { k.public = []byte{0, 2, 0xAA, 0xBB} }, "TPMT_PUBLIC"},
		"empty-private":      {func(k *keyFile) { k.private = []byte{0, 0} }, "TPM2B_PRIVATE"},
		"another-TPM's": {func(k *keyFile) {
			k.private = append([]byte(nil), k.private...)
			k.private[10] ^= 1
		}, "not made by this TPM"},
	} {
		t.Run(name, func(t *testing.T) {
			k := good
			test.change(&k)
			_, err := tpm.Open(t.Context(), tpm.Options{TPM: sim.path, Key: writeFile(t, k.pem(t)), Certificate: cert})
			wantCode(t, err, tpm.CodeKeyUnusable, test.mention)
			if n := sim.transients(t); n != 0 {
				t.Errorf("%d transient objects left in the TPM", n)
			}
		})
	}
	t.Run("no-TPM", func(t *testing.T) {
		_, err := tpm.Open(t.Context(), tpm.Options{Key: writeFile(t, good.pem(t)), Certificate: cert})
		wantCode(t, err, tpm.CodeKeyUnusable, "identity.tpm")
	})
	t.Run("policy-beside-empty-password", func(t *testing.T) {
		k := good
		k.policy = true
		mustOpen(t, tpm.Options{TPM: sim.path, Key: writeFile(t, k.pem(t)), Certificate: cert})
	})
	t.Run("said-to-have-a-password-but-harmless-to-try", func(t *testing.T) {
		k := good
		k.emptyAuth = false
		id := mustOpen(t, tpm.Options{TPM: sim.path, Key: writeFile(t, k.pem(t)), Certificate: cert})
		if err := sign(id); err != nil {
			t.Error(err)
		}
	})
	for name, change := range map[string]func(*tpm2.TPMTPublic){
		"may-not-sign": func(a *tpm2.TPMTPublic) {
			a.ObjectAttributes.SignEncrypt, a.ObjectAttributes.Decrypt = false, true
		},
		"restricted": func(a *tpm2.TPMTPublic) {
			a.ObjectAttributes.Restricted = true
			a.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: tpm2.TPMECCNistP256, Scheme: ecdsaScheme(tpm2.TPMAlgSHA256)})
		},
		"policy-only": func(a *tpm2.TPMTPublic) { a.ObjectAttributes.UserWithAuth = false },
	} {
		t.Run(name, func(t *testing.T) {
			template := signingKey()
			change(&template)
			k := wrap(t, sim, ecc, template, 0)
			_, err := tpm.Open(t.Context(), tpm.Options{TPM: sim.path, Key: writeFile(t, k.pem(t)), Certificate: cert})
			wantCode(t, err, tpm.CodeKeyUnusable, "unrestricted signing key")
		})
	}
	t.Run("may-be-duplicated", func(t *testing.T) {
		template := signingKey()
		template.ObjectAttributes.FixedTPM, template.ObjectAttributes.FixedParent = false, false
		k := wrap(t, sim, ecc, template, 0)
		id := mustOpen(t, tpm.Options{TPM: sim.path, Key: writeFile(t, k.pem(t)), Certificate: k.certificate(t, ca)})
		if len(id.Warnings) != 1 || !strings.Contains(id.Warnings[0], "fixedTPM") {
			t.Errorf("warnings %q", id.Warnings)
		}
	})
}

func ecdsaScheme(hash tpm2.TPMAlgID) tpm2.TPMTECCScheme {
	return tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA,
		Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: hash})}
}

// A wrong password counts towards the TPM's lockout: it is tried once, however often a signature is asked for.
func TestKeyWithPassword(t *testing.T) {
	sim, ca := startSimulator(t), newAuthority(t)
	parent, _, _, _ := storageKeys()
	template := signingKey()
	template.ObjectAttributes.NoDA = false
	k := wrapWithPassword(t, sim, parent, template, 0, "secret")
	id := mustOpen(t, tpm.Options{TPM: sim.path, Key: writeFile(t, k.pem(t)), Certificate: k.certificate(t, ca)})
	for range 3 {
		wantCode(t, sign(id), tpm.CodeKeyUnusable, "has a password")
	}
	if n := sim.count(tpm2.TPMCCSign); n != 1 {
		t.Errorf("%d attempts", n)
	}
}

// The key file is made by tpm2-tools in another software TPM.
func TestWrappedKeyByTPM2Tools(t *testing.T) {
	path, dir, ca := startSwtpm(t, "not-need-init,startup-clear"), t.TempDir(), newAuthority(t)
	file := func(name string) string { return filepath.Join(dir, name) }
	run := func(name string, args ...string) {
		t.Helper()
		cmd := exec.Command(name, append(args, "-T", "swtpm:path="+strings.TrimPrefix(path, "unix:"))...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
	}
	if err := os.WriteFile(file("unique"), []byte{0, 0, 0, 0}, 0o600); err != nil {
		t.Fatal(err)
	}
	run("tpm2_createprimary", "-C", "o", "-G", "ecc", "-g", "sha256", "-c", file("parent"), "-u", file("unique"),
		"-a", "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt")
	run("tpm2_create", "-C", file("parent"), "-G", "ecc256", "-u", file("pub"), "-r", file("priv"),
		"-a", "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign")
	run("tpm2_flushcontext", "-t")
	run("tpm2_createprimary", "-C", "o", "-G", "ecc", "-g", "sha256", "-c", file("parent"), "-u", file("unique"),
		"-a", "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt")
	run("tpm2_encodeobject", "-C", file("parent"), "-u", file("pub"), "-r", file("priv"), "-o", file("key.pem"), "-p")
	run("tpm2_flushcontext", "-t")
	var k keyFile
	k.public = readAll(t, file("pub"))
	id := mustOpen(t, tpm.Options{TPM: path, Key: file("key.pem"), Certificate: k.certificate(t, ca)})
	if err := sign(id); err != nil {
		t.Error(err)
	}
}
