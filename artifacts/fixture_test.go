package artifacts_test

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/artifacts/internal/opensslpki"
)

const (
	typeData    = "1.2.840.113549.1.7.1"
	typeVoucher = "1.2.840.113549.1.9.16.1.40"
	typeXML     = "1.2.840.113549.1.9.16.1.42"
	typeJSON    = "1.2.840.113549.1.9.16.1.43"
)

const serial = "AC-000123"

// world is the certificates and keys that the tests share: a maker, an owner, bootstrap servers and an unrelated tree.
type world struct {
	*opensslpki.Workspace
	makerRoot, idevidCA, device, otherDevice *opensslpki.Entity
	masaCA, masa, masaDirect                 *opensslpki.Entity
	ownerRoot, ownerCA, owner                *opensslpki.Entity
	tlsRoot, tlsCA, tlsSibling               *opensslpki.Entity
	strayRoot, stray                         *opensslpki.Entity
}

var folder string

var shared = sync.OnceValue(func() world {
	w := world{Workspace: opensslpki.New(folder)}
	authority, signer := opensslpki.Authority, opensslpki.Signer
	w.makerRoot = w.Issue(nil, "/O=Acme/CN=Acme root", authority...)
	w.idevidCA = w.Issue(w.makerRoot, "/O=Acme/CN=Acme IDevID CA", authority...)
	w.device = w.Issue(w.idevidCA, "/O=Acme/CN=X100/serialNumber="+serial, "basicConstraints=critical,CA:FALSE")
	w.otherDevice = w.Issue(w.idevidCA, "/O=Acme/CN=X100/serialNumber=AC-000666", "basicConstraints=critical,CA:FALSE")
	w.masaCA = w.Issue(w.makerRoot, "/O=Acme/CN=Acme voucher CA", authority...)
	w.masa = w.Issue(w.masaCA, "/O=Acme/CN=Acme MASA", signer...)
	w.masaDirect = w.Issue(w.makerRoot, "/O=Acme/CN=Acme MASA 2", signer...)
	w.ownerRoot = w.Issue(nil, "/O=Owner/CN=Owner root", authority...)
	w.ownerCA = w.Issue(w.ownerRoot, "/O=Owner/CN=Owner issuing CA", authority...)
	w.owner = w.Issue(w.ownerCA, "/O=Owner/CN=Owner", signer...)
	w.tlsRoot = w.Issue(nil, "/O=TLS/CN=TLS root", authority...)
	w.tlsCA = w.Issue(w.tlsRoot, "/O=TLS/CN=TLS CA", authority...)
	w.tlsSibling = w.Issue(w.tlsRoot, "/O=TLS/CN=TLS sibling CA", authority...)
	w.strayRoot = w.Issue(nil, "/O=Owner/CN=Owner root", authority...) // same name, another key
	w.stray = w.Issue(w.strayRoot, "/O=Owner/CN=Stray", signer...)
	return w
})

func TestMain(m *testing.M) {
	var err error
	if folder, err = os.MkdirTemp("", "artifacts"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(folder)
	if code == 0 && !enoughNegatives() {
		code = 1
	}
	os.Exit(code)
}

// negatives are the names of the tests that expected a refusal.
var negatives sync.Map

// enoughNegatives counts what the tests refused, when all of them ran: refusing is what this package is for, and a table
// that lost its rows passes every other test.
func enoughNegatives() bool {
	for _, name := range []string{"test.run", "test.skip", "test.list", "test.fuzz"} {
		if flag.Lookup(name).Value.String() != "" {
			return true
		}
	}
	count := 0
	negatives.Range(func(any, any) bool { count++; return true })
	const least = 150
	if count < least {
		fmt.Printf("%d cases expect a refusal, want at least %d\n", count, least)
	}
	if testing.Verbose() {
		fmt.Printf("%d cases expect a refusal\n", count)
	}
	return count >= least
}

// now is a time at which every certificate of the world is valid.
func (w world) now() time.Time { return w.stray.Certificate.NotBefore.Add(time.Hour) }

// object is a JSON object that tests change before it is encoded. A nil member is left out.
type object map[string]any

func (o object) with(changes object) object {
	out := object{}
	for _, from := range []object{o, changes} {
		for k, v := range from {
			out[k] = v
			if v == nil {
				delete(out, k)
			}
		}
	}
	return out
}

func encode(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return data
}

func b64(data []byte) string { return base64.StdEncoding.EncodeToString(data) }

var redirectDocument = encode(object{"ietf-sztp-conveyed-info:redirect-information": object{
	"bootstrap-server": []object{{"address": "bs1.example.net", "port": 8443}}}})

var onboardingDocument = encode(object{"ietf-sztp-conveyed-info:onboarding-information": object{
	"pre-configuration-script": b64([]byte("#!/bin/sh\nexit 0\n"))}})

// signedCase is a bundle of signed data with the device and policy it is validated for. Its zero value, completed by
// defaults, is accepted; tests change what they are about.
type signedCase struct {
	w world

	document []byte
	ciType   string
	ciSigner *opensslpki.Entity
	ciArgs   []string

	voucher   object // changes to the members of the voucher
	ovJSON    []byte // instead
	ovType    string
	masa      *opensslpki.Entity
	masaChain []*opensslpki.Entity
	ovArgs    []string

	owners []*opensslpki.Entity
	crls   []string

	bundle func(*artifacts.Bundle)
	device func(*artifacts.Device)
	policy func(*artifacts.Policy)
	server *artifacts.ServerEvidence
}

func (w world) voucherDocument(changes object) []byte {
	return encode(object{"ietf-voucher:voucher": object{
		"created-on":         w.now().Add(-time.Hour).UTC().Format(time.RFC3339),
		"expires-on":         w.now().Add(24 * time.Hour).UTC().Format(time.RFC3339),
		"assertion":          "verified",
		"serial-number":      serial,
		"pinned-domain-cert": b64(w.ownerRoot.Certificate.Raw),
	}.with(changes)})
}

var signatures, pemFiles sync.Map

// signOnce is Sign without starting OpenSSL again for what it signed before.
func (w world) signOnce(signer *opensslpki.Entity, content []byte, args ...string) []byte {
	key := fmt.Sprintf("%s %q %q", signer.CertFile, content, args)
	der, ok := signatures.Load(key)
	if !ok {
		der = w.Sign(signer, content, args...)
		signatures.Store(key, der)
	}
	return bytes.Clone(der.([]byte))
}

// pemOnce is PEM with one file for each list.
func (w world) pemOnce(list entities) string {
	var key string
	for _, e := range list {
		key += e.CertFile + " "
	}
	file, ok := pemFiles.Load(key)
	if !ok {
		file = w.PEM(list...)
		pemFiles.Store(key, file)
	}
	return file.(string)
}

func (c signedCase) build() (artifacts.Bundle, artifacts.Device, artifacts.Policy) {
	w := c.w
	if c.document == nil {
		c.document = onboardingDocument
	}
	if c.ciType == "" {
		c.ciType = typeJSON
	}
	if c.ciSigner == nil {
		c.ciSigner = w.owner
	}
	if c.ovJSON == nil {
		c.ovJSON = w.voucherDocument(c.voucher)
	}
	if c.ovType == "" {
		c.ovType = typeVoucher
	}
	if c.masa == nil {
		c.masa, c.masaChain = w.masa, []*opensslpki.Entity{w.masaCA}
	}
	if c.owners == nil {
		c.owners = []*opensslpki.Entity{w.owner, w.ownerCA}
	}
	ovArgs := append([]string{"-econtent_type", c.ovType}, c.ovArgs...)
	if c.masaChain != nil {
		ovArgs = append(ovArgs, "-certfile", w.pemOnce(c.masaChain))
	}
	b := artifacts.Bundle{
		ConveyedInformation: w.signOnce(c.ciSigner, c.document, append([]string{"-nocerts", "-econtent_type", c.ciType}, c.ciArgs...)...),
		OwnerCertificate:    w.Certificates(c.owners, c.crls...),
		OwnershipVoucher:    w.signOnce(c.masa, c.ovJSON, ovArgs...),
	}
	d := artifacts.Device{SerialNumber: serial, AuthorityKeyID: w.device.Certificate.AuthorityKeyId}
	p := artifacts.Policy{
		VoucherAnchors: []*x509.Certificate{w.makerRoot.Certificate},
		Clock:          artifacts.Clock{Now: w.now(), Confidence: artifacts.ClockRTC},
	}
	if c.bundle != nil {
		c.bundle(&b)
	}
	if c.device != nil {
		c.device(&d)
	}
	if c.policy != nil {
		c.policy(&p)
	}
	return b, d, p
}

// check validates the case and expects it to be accepted, or refused with code in the step that failed.
func (c signedCase) check(t *testing.T, code artifacts.Code, failing artifacts.Step) *artifacts.Conveyed {
	t.Helper()
	b, d, p := c.build()
	conveyed, trail, err := artifacts.Validate(b, c.server, d, p)
	expect(t, trail, err, code, failing)
	if (conveyed == nil) != (err != nil) {
		t.Errorf("conveyed %v with error %v", conveyed, err)
	}
	return conveyed
}

// signedSteps are the steps of signed data in order, those of the voucher and the owner being R5.4-01 to R5.4-09.
var signedSteps = []artifacts.Step{artifacts.StepConveyed, artifacts.StepVoucher, artifacts.StepOwner,
	artifacts.StepVoucherSignature, artifacts.StepVoucherContents, artifacts.StepVoucherDates, artifacts.StepVoucherAssertion,
	artifacts.StepVoucherSerial, artifacts.StepVoucherIssuer, artifacts.StepVoucherNonce, artifacts.StepOwnerPath,
	artifacts.StepOwnerRevocation, artifacts.StepOwnerSignature, artifacts.StepContents, artifacts.StepTrust}

// expect holds error and trail of signed data against what should have happened: every step before the failing one passed,
// none after it ran.
func expect(t *testing.T, trail artifacts.Trail, err error, code artifacts.Code, failing artifacts.Step) {
	t.Helper()
	refused(t, err, code, failing)
	want := signedSteps
	if code != "" {
		want = signedSteps[:slices.Index(signedSteps, failing)+1]
	}
	var got []artifacts.Step
	for _, v := range trail.Steps {
		if v.OK != (code == "" || v.Step != failing) {
			t.Errorf("step %q: ok %v: %s", v.Step, v.OK, v.Detail)
		}
		if v.Detail == "" {
			t.Errorf("step %q says nothing", v.Step)
		}
		if v.Step != artifacts.StepTrustAnchor {
			got = append(got, v.Step)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
}

// refused holds err against a reason code, none meaning success.
func refused(t *testing.T, err error, code artifacts.Code, step artifacts.Step) {
	t.Helper()
	if code != "" {
		negatives.Store(t.Name(), true)
	}
	var e *artifacts.Error
	switch {
	case err == nil && code == "":
	case err == nil:
		t.Errorf("accepted, want %s", code)
	case !errors.As(err, &e):
		t.Errorf("error of type %T: %v", err, err)
	case e.Code != code || e.Step != step:
		t.Errorf("%s in step %q, want %s in %q: %v", e.Code, e.Step, code, step, err)
	case e.Msg == "" || e.Reason() != string(code):
		t.Errorf("error says nothing: %#v", e)
	}
}

func privateKey(t testing.TB, e *opensslpki.Entity) crypto.Signer {
	t.Helper()
	text, err := os.ReadFile(e.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key.(crypto.Signer)
}

func agreementKey(t testing.TB, e *opensslpki.Entity) *ecdh.PrivateKey {
	t.Helper()
	key, err := privateKey(t, e).(*ecdsa.PrivateKey).ECDH()
	if err != nil {
		t.Fatal(err)
	}
	return key
}
