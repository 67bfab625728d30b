package artifacts_test

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/artifacts/internal/opensslpki"
)

// server issues a TLS server certificate for the subject alternative name san.
func (w world) server(issuer *opensslpki.Entity, san string) *opensslpki.Entity {
	return w.Issue(issuer, "/CN=bs1.example.net", "basicConstraints=critical,CA:FALSE", "keyUsage=critical,digitalSignature",
		"extendedKeyUsage=serverAuth", "subjectAltName="+san)
}

func (w world) chain(list ...*opensslpki.Entity) []*x509.Certificate {
	var certs []*x509.Certificate
	for _, e := range list {
		certs = append(certs, e.Certificate)
	}
	return certs
}

func TestAuthenticateServer(t *testing.T) {
	w := shared()
	leaf := w.server(w.tlsCA, "DNS:bs1.example.net")
	sibling := w.server(w.tlsSibling, "DNS:bs1.example.net")
	client := w.Issue(w.tlsCA, "/CN=client", "extendedKeyUsage=clientAuth", "subjectAltName=DNS:bs1.example.net")
	archivist := w.Issue(w.tlsCA, "/CN=archive", "keyUsage=critical,nonRepudiation", "extendedKeyUsage=serverAuth",
		"subjectAltName=DNS:bs1.example.net")
	selfSigned := w.server(nil, "DNS:bs1.example.net")
	anchor := func(list ...*opensslpki.Entity) []artifacts.TrustAnchor {
		certs := w.chain(list...)
		return []artifacts.TrustAnchor{{Lowest: certs[0], Chain: certs}}
	}
	plain := func(list ...*opensslpki.Entity) []artifacts.TrustAnchor {
		return artifacts.PlainAnchors(w.chain(list...))
	}
	rtc := artifacts.Clock{Now: w.now(), Confidence: artifacts.ClockRTC}
	expired := leaf.Certificate.NotAfter.Add(time.Second)
	for name, test := range map[string]struct {
		chain   entities
		anchors []artifacts.TrustAnchor
		clock   artifacts.Clock
		code    artifacts.Code
	}{
		"plain-root":                  {entities{leaf, w.tlsCA}, plain(w.tlsRoot), rtc, ""},
		"plain-root-sent-too":         {entities{leaf, w.tlsCA, w.tlsRoot}, plain(w.tlsRoot), rtc, ""},
		"plain-intermediate":          {entities{leaf}, plain(w.tlsCA), rtc, ""},
		"second-of-several":           {entities{leaf}, plain(w.strayRoot, w.tlsCA), rtc, ""},
		"chain":                       {entities{leaf}, anchor(w.tlsCA, w.tlsRoot), rtc, ""},
		"chain-and-sent-intermediate": {entities{leaf, w.tlsCA}, anchor(w.tlsCA, w.tlsRoot), rtc, ""},
		"chain-of-one":                {entities{leaf, w.tlsCA}, anchor(w.tlsRoot), rtc, ""},
		"chain-down-to-the-server":    {entities{leaf}, anchor(leaf, w.tlsCA, w.tlsRoot), rtc, ""},
		"self-signed-server":          {entities{selfSigned}, plain(selfSigned), rtc, ""},
		"sibling-of-the-lowest":       {entities{sibling, w.tlsSibling}, anchor(w.tlsCA, w.tlsRoot), rtc, artifacts.CodeServerUntrusted},
		"sibling-sends-the-lowest":    {entities{sibling, w.tlsSibling, w.tlsCA, w.tlsRoot}, anchor(w.tlsCA, w.tlsRoot), rtc, artifacts.CodeServerUntrusted},
		"other-server":                {entities{leaf}, anchor(selfSigned), rtc, artifacts.CodeServerUntrusted},
		"intermediate-missing":        {entities{leaf}, plain(w.tlsRoot), rtc, artifacts.CodeServerUntrusted},
		"other-root":                  {entities{leaf, w.tlsCA, w.tlsRoot}, plain(w.ownerRoot), rtc, artifacts.CodeServerUntrusted},
		"no-anchors":                  {entities{leaf, w.tlsCA, w.tlsRoot}, nil, rtc, artifacts.CodeServerUntrusted},
		"empty-anchor":                {entities{leaf, w.tlsCA, w.tlsRoot}, []artifacts.TrustAnchor{{}}, rtc, artifacts.CodeServerUntrusted},
		"half-an-anchor":              {entities{leaf, w.tlsCA, w.tlsRoot}, []artifacts.TrustAnchor{{Lowest: w.tlsRoot.Certificate}, {Chain: w.chain(w.tlsRoot)}}, rtc, artifacts.CodeServerUntrusted},
		"no-certificate":              {nil, plain(w.tlsRoot), rtc, artifacts.CodeServerUntrusted},
		"client-certificate":          {entities{client, w.tlsCA}, plain(w.tlsRoot), rtc, artifacts.CodeServerUntrusted},
		"key-for-other-usage":         {entities{archivist, w.tlsCA}, plain(w.tlsRoot), rtc, artifacts.CodeServerUntrusted},
		"self-signed-stranger":        {entities{selfSigned}, plain(w.tlsRoot), rtc, artifacts.CodeServerUntrusted},
		"expired":                     {entities{leaf}, plain(w.tlsCA), artifacts.Clock{Now: expired, Confidence: artifacts.ClockRTC}, artifacts.CodeServerExpired},
		"expired-and-a-stranger":      {entities{leaf}, plain(w.tlsCA, w.strayRoot), artifacts.Clock{Now: expired, Confidence: artifacts.ClockRTC}, artifacts.CodeServerExpired},
		"a-stranger-and-expired":      {entities{leaf}, plain(w.strayRoot, w.tlsCA), artifacts.Clock{Now: expired, Confidence: artifacts.ClockRTC}, artifacts.CodeServerExpired},
		"expired-authenticated-clock": {entities{leaf}, plain(w.tlsCA), artifacts.Clock{Now: expired, Confidence: artifacts.ClockAuthenticated}, artifacts.CodeServerExpired},
		"expired-no-clock":            {entities{leaf}, plain(w.tlsCA), artifacts.Clock{Now: expired}, ""},
		"not-yet-valid":               {entities{leaf}, plain(w.tlsCA), artifacts.Clock{Now: time.Unix(0, 0), Confidence: artifacts.ClockRTC}, artifacts.CodeServerExpired},
		"1970-no-clock":               {entities{leaf}, anchor(w.tlsCA, w.tlsRoot), artifacts.Clock{Now: time.Unix(0, 0), Confidence: artifacts.ClockNone}, ""},
		"no-clock-and-other-root":     {entities{leaf, w.tlsCA}, plain(w.ownerRoot), artifacts.Clock{}, artifacts.CodeServerUntrusted},
		"reading-of-zero":             {entities{leaf}, plain(w.tlsCA), artifacts.Clock{Confidence: artifacts.ClockRTC}, artifacts.CodeServerExpired},
	} {
		t.Run(name, func(t *testing.T) {
			evidence, err := artifacts.AuthenticateServer(w.chain(test.chain...), "bs1.example.net", test.anchors, test.clock)
			refused(t, err, test.code, artifacts.StepServerCertificate)
			if evidence.Valid() != (err == nil) {
				t.Errorf("evidence %v with error %v", evidence.Valid(), err)
			}
		})
	}
}

func TestServerName(t *testing.T) {
	w := shared()
	for _, test := range []struct {
		san, host string
		good      bool
	}{
		{"DNS:bs1.example.net", "bs1.example.net", true},
		{"DNS:bs1.example.net", "BS1.example.NET", true},
		{"DNS:bs1.example.net", "bs1.example.net.", true},
		{"DNS:*.example.net", "bs1.example.net", true},
		{"DNS:*.example.net", "a.bs1.example.net", false},
		{"DNS:*.example.net", "example.net", false},
		{"DNS:other.example.net", "bs1.example.net", false}, // the common name would match
		{"IP:192.0.2.1", "192.0.2.1", true},
		{"IP:192.0.2.1", "192.0.2.2", false},
		{"DNS:192.0.2.1", "192.0.2.1", false},
		{"IP:2001:db8::7", "2001:db8::7", true},
		{"IP:2001:db8::7", "2001:0db8:0::7", true},
		{"IP:fe80::1", "fe80::1%eth0", true},
		{"IP:192.0.2.1", "bs1.example.net", false},
		{"DNS:bs1.example.net", "", false},
	} {
		t.Run(test.san+" as "+test.host, func(t *testing.T) {
			leaf := w.server(w.tlsRoot, test.san)
			evidence, err := artifacts.AuthenticateServer(w.chain(leaf), test.host, artifacts.PlainAnchors(w.chain(w.tlsRoot)), artifacts.Clock{})
			code := artifacts.CodeServerName
			if test.good {
				code = ""
			}
			refused(t, err, code, artifacts.StepServerName)
			if test.good && (!evidence.Valid() || !evidence.Anchor().Equal(w.tlsRoot.Certificate)) {
				t.Error("evidence does not name the anchor")
			}
		})
	}
}

func TestTrustAnchor(t *testing.T) {
	w := shared()
	selfSigned := w.server(nil, "DNS:bs1.example.net")
	leaf := w.server(w.tlsCA, "DNS:bs1.example.net")
	rootOfOtherName := w.Recertify(w.tlsRoot, nil, "/O=TLS/CN=TLS root, renamed", opensslpki.Authority...)
	rootAgain := w.Recertify(w.tlsRoot, nil, "/O=TLS/CN=TLS root", opensslpki.Authority...)
	selfIssued := w.Issue(w.tlsRoot, "/O=TLS/CN=TLS root", opensslpki.Authority...)
	ownKeyOtherName := w.Recertify(w.tlsRoot, rootOfOtherName, "/O=TLS/CN=TLS root", opensslpki.Authority...)
	rootByOwner := w.Recertify(w.tlsRoot, w.ownerRoot, "/O=TLS/CN=TLS root", opensslpki.Authority...)
	ownerByRoot := w.Recertify(w.ownerRoot, w.tlsRoot, "/O=Owner/CN=Owner root", opensslpki.Authority...)
	makerByOwner := w.Recertify(w.makerRoot, w.ownerRoot, "/O=Acme/CN=Acme root", opensslpki.Authority...)
	ownerByMaker := w.Recertify(w.ownerRoot, w.makerRoot, "/O=Owner/CN=Owner root", opensslpki.Authority...)
	for name, test := range map[string]struct {
		der    []byte
		lowest *opensslpki.Entity
		code   artifacts.Code
	}{
		"root":                 {w.Certificates(entities{w.tlsRoot}), w.tlsRoot, ""},
		"lowest-first":         {w.Certificates(entities{w.tlsCA, w.tlsRoot}), w.tlsCA, ""},
		"lowest-last":          {w.Certificates(entities{w.tlsRoot, w.tlsCA}), w.tlsCA, ""},
		"three-shuffled":       {w.Certificates(entities{w.tlsCA, leaf, w.tlsRoot}), leaf, ""},
		"self-signed-server":   {w.Certificates(entities{selfSigned}), selfSigned, ""},
		"root-missing":         {w.Certificates(entities{w.tlsCA}), nil, artifacts.CodeAnchorMalformed},
		"intermediate-missing": {w.Certificates(entities{leaf, w.tlsRoot}), nil, artifacts.CodeAnchorMalformed},
		"two-roots":            {w.Certificates(entities{w.tlsRoot, w.ownerRoot}), nil, artifacts.CodeAnchorMalformed},
		"two-chains":           {w.Certificates(entities{w.tlsRoot, w.tlsCA, w.tlsSibling}), nil, artifacts.CodeAnchorMalformed},
		"twice":                {w.Certificates(entities{w.tlsRoot, w.tlsRoot}), nil, artifacts.CodeAnchorMalformed},
		"stranger":             {w.Certificates(entities{w.tlsRoot, w.tlsCA, w.strayRoot}), nil, artifacts.CodeAnchorMalformed},
		"same-name-other-key":  {w.Certificates(entities{w.strayRoot, w.ownerCA}), nil, artifacts.CodeAnchorMalformed},
		"issuer-of-other-name": {w.Certificates(entities{w.tlsCA, rootOfOtherName}), nil, artifacts.CodeAnchorMalformed},
		"two-issuers":          {w.Certificates(entities{w.tlsCA, w.tlsRoot, rootAgain}), nil, artifacts.CodeAnchorMalformed},
		"self-issued":          {w.Certificates(entities{selfIssued}), nil, artifacts.CodeAnchorMalformed},
		"own-key-other-name":   {w.Certificates(entities{ownKeyOtherName}), nil, artifacts.CodeAnchorMalformed},
		"circle":               {w.Certificates(entities{rootByOwner, ownerByRoot}), nil, artifacts.CodeAnchorMalformed},
		"circle-above-a-chain": {w.Certificates(entities{w.tlsCA, rootByOwner, ownerByRoot}), nil, artifacts.CodeAnchorMalformed},
		"circle-beside-a-root": {w.Certificates(entities{w.tlsRoot, makerByOwner, ownerByMaker}), nil, artifacts.CodeAnchorMalformed},
		"no-certificates":      {w.Run("crl2pkcs7", "-nocrl", "-outform", "DER"), nil, artifacts.CodeAnchorMalformed},
		"signed":               {w.Sign(w.tlsRoot, nil), nil, artifacts.CodeAnchorMalformed},
		"certificate":          {w.tlsRoot.Certificate.Raw, nil, artifacts.CodeAnchorMalformed},
		"data":                 {opensslpki.Data(typeData, nil), nil, artifacts.CodeAnchorMalformed},
		"empty":                {nil, nil, artifacts.CodeAnchorMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			anchor, err := artifacts.ParseTrustAnchor(test.der)
			refused(t, err, test.code, artifacts.StepTrustAnchor)
			if err != nil {
				return
			}
			last := anchor.Chain[len(anchor.Chain)-1]
			if !anchor.Lowest.Equal(test.lowest.Certificate) || !anchor.Chain[0].Equal(anchor.Lowest) || last.CheckSignature(
				last.SignatureAlgorithm, last.RawTBSCertificate, last.Signature) != nil {
				t.Errorf("lowest %v, root %v", anchor.Lowest.Subject, last.Subject)
			}
		})
	}
}
