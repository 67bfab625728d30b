package revinfo_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xpu-sztp/ztp/artifacts/internal/opensslpki"
	"github.com/xpu-sztp/ztp/artifacts/revinfo"
)

// TestFailures are responses that nobody signs, whose status says why.
func TestFailures(t *testing.T) {
	for status, want := range map[byte]string{
		1: "malformedRequest", 2: "internalError", 3: "tryLater", 4: "response status 4", 5: "sigRequired", 6: "unauthorized",
		7: "response status 7", 0xff: "response status -1",
	} {
		r := mustParse(t, element(0x30, []byte{10, 1, status}))
		if r.Failure != want || r.Answers != nil {
			t.Errorf("status %d: %+v", status, r)
		}
		if _, err := r.Responder(shared().ca.Certificate); err == nil {
			t.Errorf("status %d is signed", status)
		}
	}
}

// TestResponseForms changes what is around and inside of a response that is right.
func TestResponseForms(t *testing.T) {
	w := shared()
	plain := split(t, w.plain)
	signed := func(change func(p *parts)) []byte {
		p := parts{bytes.Clone(plain.data), plain.algorithm, plain.rest}
		change(&p)
		return p.signedBy(t, w.ca, nil)
	}
	data := func(prefix ...byte) []byte { return signed(func(p *parts) { p.data = append(prefix, p.data...) }) }
	certificates := func(n int) []byte {
		return signed(func(p *parts) { p.rest = element(0xa0, element(0x30, bytes.Repeat(w.delegate.Certificate.Raw, n))) })
	}
	// responder is what the data begin with, the answers what they end with.
	responder := element(0xa1, w.ca.Certificate.RawSubject)
	date := plain.data[len(responder):][:17]
	answers := plain.data[len(responder)+17:]
	one := answers[2:]
	numbered := func(n int) []byte {
		return signed(func(p *parts) { p.data = append(append(responder, date...), element(0x30, bytes.Repeat(one, n))...) })
	}
	named := func(responder []byte) []byte {
		return signed(func(p *parts) { p.data = append(append(bytes.Clone(responder), date...), answers...) })
	}
	extended := func(n int) []byte {
		return signed(func(p *parts) {
			p.data = append(p.data, element(0xa1, element(0x30, bytes.Repeat(element(0x30, []byte{6, 1, 0x2a, 4, 0}), n)))...)
		})
	}
	for name, test := range map[string]struct {
		der  []byte
		fine bool
	}{
		"plain":                  {signed(func(*parts) {}), true},
		"version-1":              {data(0xa0, 3, 2, 1, 0), true},
		"version-2":              {data(0xa0, 3, 2, 1, 1), false},
		"version-not-a-number":   {data(0xa0, 3, 4, 1, 0), false},
		"version-twice":          {data(0xa0, 6, 2, 1, 0, 2, 1, 0), false},
		"version-empty":          {data(0xa0, 0), false},
		"responder-no-name":      {named([]byte{0xa1, 0}), false},
		"responder-no-key":       {named([]byte{0xa2, 2, 4, 0}), false},
		"responder-key-number":   {named([]byte{0xa2, 3, 2, 1, 1}), false},
		"responder-keys":         {named([]byte{0xa2, 6, 4, 1, 1, 4, 1, 1}), false},
		"responder-otherwise":    {named([]byte{0xa3, 3, 4, 1, 1}), false},
		"responder-missing":      {named(nil), false},
		"certificates-8":         {certificates(8), true},
		"certificates-9":         {certificates(9), false},
		"certificates-malformed": {signed(func(p *parts) { p.rest = element(0xa0, element(0x30, element(0x30))) }), false},
		"certificates-no-list":   {signed(func(p *parts) { p.rest = element(0xa0) }), false},
		"certificates-otherwise": {signed(func(p *parts) { p.rest = element(0xa1, element(0x30)) }), false},
		"answers-none":           {numbered(0), true},
		"answers-64":             {numbered(64), true},
		"answers-65":             {numbered(65), false},
		"extensions-32":          {extended(32), true},
		"extensions-33":          {extended(33), false},
		"other-type":             {bytes.Replace(w.plain, []byte("\x2b\x06\x01\x05\x05\x07\x30\x01\x01"), []byte("\x2b\x06\x01\x05\x05\x07\x30\x01\x02"), 1), false},
		"no-answer":              {element(0x30, []byte{10, 1, 0}), false},
		"empty-answer":           {element(0x30, []byte{10, 1, 0}, element(0xa0)), false},
		"no-status":              {element(0x30), false},
		"empty":                  {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := revinfo.ParseResponse(test.der)
			if !test.fine {
				if !errors.Is(err, revinfo.ErrMalformed) {
					t.Errorf("ParseResponse: %v", err)
				}
				return
			}
			if err == nil {
				_, err = r.Responder(w.ca.Certificate)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	for size, want := range map[int]error{revinfo.MaxResponseBytes: revinfo.ErrMalformed, revinfo.MaxResponseBytes + 1: revinfo.ErrLimit} {
		if _, err := revinfo.ParseResponse(make([]byte, size)); !errors.Is(err, want) {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

// TestHashesOfIssuers has OpenSSL name the issuer by each hash. What names it by one that is not known is about nobody.
func TestHashesOfIssuers(t *testing.T) {
	w := shared()
	for hash, known := range map[string]bool{"sha1": true, "sha256": true, "sha384": true, "sha512": true, "md5": false, "sha224": false} {
		der := opensslpki.Contents(w.Respond(opensslpki.OCSP{Issuer: w.ca, Subjects: []*opensslpki.Entity{w.good}, Args: []string{"-" + hash}}))
		a := mustParse(t, der).Answers[0]
		if a.About(w.good.Certificate, w.ca.Certificate) != known {
			t.Errorf("%s: about it: %v", hash, !known)
		}
		if a.About(w.revoked.Certificate, w.ca.Certificate) || a.About(w.good.Certificate, w.rekeyed.Certificate) {
			t.Errorf("%s: about another", hash)
		}
	}
}

// TestWhoMayRespond has responders sign whom the authority, or somebody else, certified for all kinds of purposes.
func TestWhoMayRespond(t *testing.T) {
	w := shared()
	const leaf, responding = "basicConstraints=critical,CA:FALSE", "extendedKeyUsage=OCSPSigning"
	for name, test := range map[string]struct {
		issuer     *opensslpki.Entity
		extensions []string
		why        string
	}{
		"responder":             {w.ca, []string{leaf, responding}, ""},
		"also-for-servers":      {w.ca, []string{leaf, "extendedKeyUsage=serverAuth,OCSPSigning"}, ""},
		"responder-first":       {w.ca, []string{leaf, "extendedKeyUsage=OCSPSigning,serverAuth"}, ""},
		"for-signatures":        {w.ca, []string{leaf, responding, "keyUsage=critical,digitalSignature"}, ""},
		"for-servers":           {w.ca, []string{leaf, "extendedKeyUsage=serverAuth"}, "is not for signing OCSP responses"},
		"for-everything":        {w.ca, []string{leaf, "extendedKeyUsage=anyExtendedKeyUsage"}, "is not for signing OCSP responses"},
		"for-nothing":           {w.ca, []string{leaf}, "is not for signing OCSP responses"},
		"for-keys":              {w.ca, []string{leaf, responding, "keyUsage=critical,keyAgreement"}, "is not for signatures"},
		"unknown-critical":      {w.ca, []string{leaf, responding, "1.2.3.4=critical,DER:0500"}, "has critical extensions that are not known here"},
		"unknown":               {w.ca, []string{leaf, responding, "1.2.3.4=DER:0500"}, ""},
		"by-another-key":        {w.rekeyed, []string{leaf, responding}, "was not issued by the same authority"},
		"by-another-name":       {w.renamed, []string{leaf, responding}, "was not issued by the same authority"},
		"by-another-altogether": {w.good, []string{leaf, responding}, "was not issued by the same authority"},
	} {
		t.Run(name, func(t *testing.T) {
			signer := w.Issue(test.issuer, "/CN=A responder", test.extensions...)
			r := mustParse(t, opensslpki.Contents(w.Respond(opensslpki.OCSP{Issuer: w.ca, Signer: signer, Subjects: []*opensslpki.Entity{w.good}})))
			got, err := r.Responder(w.ca.Certificate)
			switch {
			case test.why == "" && (err != nil || !got.Equal(signer.Certificate)):
				t.Errorf("signed by %v, %v", got, err)
			case test.why != "" && (!errors.Is(err, revinfo.ErrNotAuthorized) || !strings.HasSuffix(err.Error(), test.why)):
				t.Errorf("%v, want that it %s", err, test.why)
			}
		})
	}
}

// TestRequest asks as OpenSSL does.
func TestRequest(t *testing.T) {
	w := shared()
	file := filepath.Join(t.TempDir(), "request")
	for _, e := range []*opensslpki.Entity{w.good, w.revoked} {
		w.Run("ocsp", "-issuer", w.ca.CertFile, "-cert", e.CertFile, "-no_nonce", "-reqout", file)
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got := revinfo.Request(e.Certificate, w.ca.Certificate); !bytes.Equal(got, want) {
			t.Errorf("%x, OpenSSL makes %x", got, want)
		}
	}
}
