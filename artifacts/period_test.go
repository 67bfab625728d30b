package artifacts_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/artifacts/internal/opensslpki"
)

// between issues a certificate for e's key and name that holds in a period to the second, which OpenSSL's req cannot do.
func (w world) between(t *testing.T, e, issuer *opensslpki.Entity, start, end time.Time) *opensslpki.Entity {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(end.Unix()), Subject: pkix.Name{CommonName: e.Certificate.Subject.CommonName},
		NotBefore: start, NotAfter: end, IsCA: e.Certificate.IsCA, BasicConstraintsValid: true, KeyUsage: e.Certificate.KeyUsage,
		ExtKeyUsage: e.Certificate.ExtKeyUsage, DNSNames: e.Certificate.DNSNames, SubjectKeyId: e.Certificate.SubjectKeyId}
	parent, key := template, privateKey(t, e)
	if issuer != nil {
		parent, key = issuer.Certificate, privateKey(t, issuer)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, e.Certificate.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	made := &opensslpki.Entity{KeyFile: e.KeyFile,
		CertFile: w.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))}
	if made.Certificate, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return made
}

// TestPeriodEdges stands a second before, on and after both ends of the validity of a leaf and of an authority above it, in
// each chain that is believed.
func TestPeriodEdges(t *testing.T) { // R5.3-02, R5.4-01, R5.4-07, R5.4-11
	w := shared()
	start := w.now().Add(24 * time.Hour).Truncate(time.Second)
	end := start.Add(time.Hour)
	for who, r := range w.roles() {
		caKey := w.Issue(nil, "/CN="+who+" CA", opensslpki.Authority...)
		leafKey := w.Issue(nil, "/CN="+who+" leaf", r.leaf...)
		always := func(e, issuer *opensslpki.Entity) *opensslpki.Entity {
			return w.between(t, e, issuer, start.AddDate(-1, 0, 0), end.AddDate(1, 0, 0))
		}
		ca := always(caKey, r.root)
		short := w.between(t, caKey, r.root, start, end)
		for place, chain := range map[string]entities{
			"leaf":      {w.between(t, leafKey, ca, start, end), ca},
			"authority": {always(leafKey, short), short},
		} {
			for when, test := range map[string]struct {
				now  time.Time
				code artifacts.Code
			}{
				"a-nanosecond-before": {start.Add(-1), r.ended},
				"a-second-before":     {start.Add(-time.Second), r.ended},
				"start":               {start, ""},
				"end":                 {end, ""},
				"a-second-after":      {end.Add(time.Second), r.ended},
			} {
				t.Run(who+"/"+place+"/"+when, func(t *testing.T) { r.check(t, chain[0], chain[1:], test.now, test.code) })
			}
		}
	}
}

// TestPeriodEncodings has periods end on both sides of 2050, where certificates change from two digits of the year to four
// (RFC 5280 §4.1.2.5), and at the end of time, as IDevIDs do.
func TestPeriodEncodings(t *testing.T) { // R9-04
	w := shared()
	forever := time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	start := time.Date(1950, 1, 1, 0, 0, 0, 0, time.UTC)
	root := w.between(t, w.Issue(nil, "/CN=Eternal root", opensslpki.Authority...), nil, start, forever)
	key := w.server(nil, "DNS:bs1.example.net")
	for _, end := range []time.Time{time.Date(1999, 12, 31, 23, 59, 59, 0, time.UTC), time.Date(2049, 12, 31, 23, 59, 59, 0, time.UTC),
		time.Date(2050, 1, 1, 0, 0, 0, 0, time.UTC), forever} {
		t.Run(end.Format(time.RFC3339), func(t *testing.T) {
			leaf := w.between(t, key, root, start, end)
			at := func(now time.Time, confidence artifacts.Confidence, code artifacts.Code) {
				t.Helper()
				_, err := artifacts.AuthenticateServer(w.chain(leaf), "bs1.example.net", artifacts.PlainAnchors(w.chain(root)),
					artifacts.Clock{Now: now, Confidence: confidence})
				refused(t, err, code, artifacts.StepServerCertificate)
			}
			at(start.Add(-time.Second), artifacts.ClockRTC, artifacts.CodeServerExpired)
			at(start, artifacts.ClockRTC, "")
			at(end, artifacts.ClockAuthenticated, "")
			at(end.Add(time.Second), artifacts.ClockAuthenticated, artifacts.CodeServerExpired)
			at(end.Add(time.Second), artifacts.ClockNone, "")
		})
	}
}

// TestAnchorsRootExpires: a trust anchor holds as long as all of its chain does, not as long as its lowest certificate.
func TestAnchorsRootExpires(t *testing.T) { // R5.5-07
	w := shared()
	start, end := w.now(), w.now().Add(time.Hour).Truncate(time.Second)
	root := w.between(t, w.Issue(nil, "/CN=Short root", opensslpki.Authority...), nil, start, end)
	ca := w.between(t, w.Issue(nil, "/CN=Longer CA", opensslpki.Authority...), root, start, end.AddDate(1, 0, 0))
	leaf := w.between(t, w.server(nil, "DNS:bs1.example.net"), ca, start, end.AddDate(1, 0, 0))
	anchor := []artifacts.TrustAnchor{{Lowest: ca.Certificate, Chain: w.chain(ca, root)}}
	for now, code := range map[time.Time]artifacts.Code{end: "", end.Add(time.Second): artifacts.CodeServerExpired} {
		_, err := artifacts.AuthenticateServer(w.chain(leaf), "bs1.example.net", anchor, artifacts.Clock{Now: now, Confidence: artifacts.ClockRTC})
		refused(t, err, code, artifacts.StepServerCertificate)
	}
}
