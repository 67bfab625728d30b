package onboard

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/progress"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// TestExecute runs onboarding information that came from an authenticated server, through the exported interface alone.
func TestExecute(t *testing.T) {
	r := newRig(t)
	conveyed, _, err := artifacts.Validate(
		artifacts.Bundle{ConveyedInformation: conveyedInformation(t, map[string]any{
			"boot-image":                map[string]any{"os-name": "AcmeOS", "os-version": "1"},
			"pre-configuration-script":  base64.StdEncoding.EncodeToString(r.tracer("pre", 0)),
			"configuration-handling":    "merge",
			"configuration":             base64.StdEncoding.EncodeToString([]byte(`{"a":1}`)),
			"post-configuration-script": base64.StdEncoding.EncodeToString(r.tracer("post", 10)),
		})},
		authenticated(t), artifacts.Device{SerialNumber: "S"}, artifacts.Policy{},
	)
	if err != nil {
		t.Fatal(err)
	}
	e := New(r.opts)
	if err := e.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	outcome, err := e.Execute(t.Context(), Request{Info: conveyed.Onboarding, Reporter: r.server, Network: loopback{}})
	if outcome != Complete || err != nil {
		t.Fatalf("got %v, %v", outcome, err)
	}
	want := types("bootstrap-initiated, bootstrap-warning, bootstrap-complete")
	if diff := cmp.Diff(want, r.server.types()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"pre", "post"}, r.trace()); diff != "" {
		t.Error(diff)
	}
	if got, _ := os.ReadFile(r.opts.Configuration.Path); string(got) != "{\n  \"a\": 1\n}\n" {
		t.Errorf("configuration %q", got)
	}
	if rec := r.record(t); rec.Outcome != state.OutcomeProvisioned || rec.Journal != nil {
		t.Errorf("record %+v", rec)
	}
	for _, report := range r.server.reports {
		if report.Type == progress.BootstrapComplete && report.Message != "" {
			t.Errorf("bootstrap-complete says %q", report.Message)
		}
	}
}

// conveyedInformation encodes unsigned onboarding information (RFC 8572 §3.1).
func conveyedInformation(t *testing.T, onboarding map[string]any) []byte {
	t.Helper()
	document, err := json.Marshal(map[string]any{"ietf-sztp-conveyed-info:onboarding-information": onboarding})
	if err != nil {
		t.Fatal(err)
	}
	der, err := asn1.Marshal(struct {
		Type    asn1.ObjectIdentifier
		Content []byte `asn1:"explicit,tag:0"`
	}{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 43}, document})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// authenticated is the evidence of a server with a certificate of its own making.
func authenticated(t *testing.T) *artifacts.ServerEvidence {
	t.Helper()
	const host = "bs1.example.net"
	now := time.Now()
	issue := func(template, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) *x509.Certificate {
		template.NotBefore, template.NotAfter = now.Add(-time.Hour), now.Add(time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	key := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	rootKey, leafKey := key(), key()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, BasicConstraintsValid: true, IsCA: true,
		KeyUsage: x509.KeyUsageCertSign,
	}
	root := issue(template, template, rootKey, rootKey)
	leaf := issue(&x509.Certificate{
		SerialNumber: big.NewInt(2), DNSNames: []string{host}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, root, leafKey, rootKey)
	evidence, err := artifacts.AuthenticateServer(
		[]*x509.Certificate{leaf}, host, []artifacts.TrustAnchor{{Lowest: root, Chain: []*x509.Certificate{root}}},
		artifacts.Clock{Now: now, Confidence: artifacts.ClockRTC},
	)
	if err != nil {
		t.Fatal(err)
	}
	return evidence
}
