package revinfo_test

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/artifacts/cms"
	"github.com/xpu-sztp/ztp/artifacts/revinfo"
)

// element is DER.
func element(tag byte, parts ...[]byte) []byte {
	body := slices.Concat(parts...)
	n := len(body)
	switch {
	case n < 0x80:
		return slices.Concat([]byte{tag, byte(n)}, body)
	case n < 0x100:
		return slices.Concat([]byte{tag, 0x81, byte(n)}, body)
	case n < 0x10000:
		return slices.Concat([]byte{tag, 0x82, byte(n >> 8), byte(n)}, body)
	}
	return slices.Concat([]byte{tag, 0x83, byte(n >> 16), byte(n >> 8), byte(n)}, body)
}

// withMore returns der with one element more at the end of each element in turn, except of what whole is about.
func withMore(der []byte, whole ...[]byte) (list [][]byte) {
	var v asn1.RawValue
	if rest, err := asn1.Unmarshal(der, &v); err != nil || len(rest) > 0 || !v.IsCompound || slices.ContainsFunc(whole, func(w []byte) bool { return bytes.Equal(w, der) }) {
		return nil
	}
	var children [][]byte
	for rest := v.Bytes; len(rest) > 0; {
		var child asn1.RawValue
		rest, _ = asn1.Unmarshal(rest, &child)
		children = append(children, child.FullBytes)
	}
	for i, child := range children {
		for _, variant := range withMore(child, whole...) {
			list = append(list, element(der[0], slices.Concat(slices.Concat(children[:i]...), variant, slices.Concat(children[i+1:]...))))
		}
	}
	return append(list, element(der[0], v.Bytes, []byte{1, 1, 0xff}))
}

// TestNothingMore adds an element at the end of each element of lists and responses.
func TestNothingMore(t *testing.T) {
	w := shared()
	name := w.ca.Certificate.RawSubject
	for i, der := range w.lists {
		for _, more := range append(withMore(der, name), append(bytes.Clone(der), 0)) {
			list, err := revinfo.ParseList(more)
			if err == nil && list.SignedBy(w.ca.Certificate) == nil || err != nil && !errors.Is(err, revinfo.ErrMalformed) {
				t.Errorf("list %d: %v: %x", i, err, more)
			}
		}
	}
	for i, der := range w.responses {
		var certificates [][]byte
		for _, e := range []*x509.Certificate{w.ca.Certificate, w.delegate.Certificate} {
			certificates = append(certificates, e.Raw)
		}
		for _, more := range append(withMore(der, certificates...), append(bytes.Clone(der), 0)) {
			r, err := revinfo.ParseResponse(more)
			if err == nil {
				_, err = r.Responder(w.ca.Certificate)
			}
			if err == nil {
				t.Errorf("response %d verifies: %x", i, more)
			}
		}
		// The same with a signature that holds. In the algorithm by which a CertID hashes, parameters decide nothing.
		p, signer := split(t, der), w.ca
		if bytes.Equal(der, w.delegated) {
			signer = w.delegate
		}
		tolerated := 0
		for _, more := range withMore(element(0x30, p.data)) {
			var inner asn1.RawValue
			asn1.Unmarshal(more, &inner)
			p.data = inner.Bytes
			r, err := revinfo.ParseResponse(p.signedBy(t, signer, nil))
			if err == nil {
				_, err = r.Responder(w.ca.Certificate)
			}
			if err == nil {
				tolerated++
			}
		}
		if answers := len(mustParse(t, der).Answers); tolerated != answers {
			t.Errorf("response %d: more is tolerated in %d places, want %d", i, tolerated, answers)
		}
	}
}

func mustParse(t *testing.T, der []byte) *revinfo.Response {
	t.Helper()
	r, err := revinfo.ParseResponse(der)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// list makes a revocation list of parts of which nobody signed any.
func list(version, inner []byte, rest ...[]byte) []byte {
	name, this := element(0x30), []byte("\x17\x0d700101000000Z")
	body := slices.Concat(version, inner, name, this, slices.Concat(rest...))
	return element(0x30, element(0x30, body), element(0x30, []byte{6, 1, 0x2a}), element(3, []byte{0}))
}

func TestListForms(t *testing.T) {
	algorithm, v2 := element(0x30, []byte{6, 1, 0x2a}), []byte{2, 1, 1}
	next := []byte("\x17\x0d710101000000Z")
	extension := func(last byte) []byte { return element(0x30, []byte{6, 2, 0x2a, last, 4, 0}) }
	extensions := func(n int) (all []byte) {
		for i := range n {
			all = append(all, extension(byte(i))...)
		}
		return element(0xa0, element(0x30, all))
	}
	entry := func(parts ...[]byte) []byte { return element(0x30, element(0x30, parts...)) }
	serial, date := []byte{2, 1, 1}, []byte("\x17\x0d700101000000Z")
	for name, test := range map[string]struct {
		der  []byte
		fine bool
	}{
		"version-2":               {list(v2, algorithm), true},
		"version-1":               {list(nil, algorithm), true},
		"version-1-written":       {list([]byte{2, 1, 0}, algorithm), false},
		"version-3":               {list([]byte{2, 1, 2}, algorithm), false},
		"version-empty":           {list([]byte{2, 0}, algorithm), false},
		"other-algorithm-inside":  {list(v2, element(0x30, []byte{6, 1, 0x2b})), false},
		"next-update":             {list(v2, algorithm, next), true},
		"next-update-generalized": {list(v2, algorithm, []byte("\x18\x0f20710101000000Z")), true},
		"next-update-no-date":     {list(v2, algorithm, []byte("\x17\x0dyesterday....")), false},
		"next-update-twice":       {list(v2, algorithm, next, next), false},
		"no-entries":              {list(v2, algorithm, next, element(0x30)), true},
		"entry":                   {list(v2, algorithm, entry(serial, date)), true},
		"entry-extended":          {list(v2, algorithm, entry(serial, date, element(0x30, extension(1)))), true},
		"entry-no-extensions":     {list(v2, algorithm, entry(serial, date, serial)), false},
		"entry-without-date":      {list(v2, algorithm, entry(serial)), false},
		"entry-without-serial":    {list(v2, algorithm, entry(date)), false},
		"entry-serial-malformed":  {list(v2, algorithm, entry([]byte{2, 2, 0, 1}, date)), false},
		"entries-twice":           {list(v2, algorithm, entry(serial, date), entry(serial, date)), false},
		"extensions-32":           {list(v2, algorithm, extensions(32)), true},
		"extensions-33":           {list(v2, algorithm, extensions(33)), false},
		"extensions-malformed":    {list(v2, algorithm, element(0xa0, element(0x30, serial))), false},
		"extensions-no-list":      {list(v2, algorithm, element(0xa0)), false},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := revinfo.ParseList(test.der); (err == nil) != test.fine || err != nil && !errors.Is(err, revinfo.ErrMalformed) {
				t.Errorf("ParseList: %v", err)
			}
		})
	}
	largest := func(size int) []byte { // one entry's serial number fills it
		n := size
		for {
			der := list(v2, algorithm, entry(element(2, bytes.Repeat([]byte{1}, n)), date))
			if len(der) == size {
				return der
			}
			n += size - len(der)
		}
	}
	if _, err := revinfo.ParseList(largest(revinfo.MaxListBytes)); err != nil {
		t.Errorf("as large as can be: %v", err)
	}
	if _, err := revinfo.ParseList(largest(revinfo.MaxListBytes + 1)); !errors.Is(err, revinfo.ErrLimit) {
		t.Errorf("a byte more: %v", err)
	}
}

// TestRevoked looks up numbers, of which the first entry counts.
func TestRevoked(t *testing.T) {
	entry := func(serial []byte, date string) []byte {
		return element(0x30, element(2, serial), []byte("\x17\x0d"+date+"Z"))
	}
	l, err := revinfo.ParseList(list([]byte{2, 1, 1}, element(0x30, []byte{6, 1, 0x2a}), element(0x30, entry([]byte{1}, "700101000000"),
		entry([]byte{0, 0x80}, "710101000000"), entry([]byte{1}, "720101000000"))))
	if err != nil {
		t.Fatal(err)
	}
	for serial, year := range map[int64]int{1: 1970, 128: 1971} {
		if at, listed := l.Revoked(big.NewInt(serial)); !listed || at.Year() != year {
			t.Errorf("%d: %v, %v", serial, at, listed)
		}
	}
	for _, serial := range []int64{0, 2, 256, 0x180} {
		if at, listed := l.Revoked(big.NewInt(serial)); listed || !at.IsZero() {
			t.Errorf("%d: %v, %v", serial, at, listed)
		}
	}
}

// TestCovers asks of whom lists with extensions speak: of an end entity and of an authority, which name http://a/.
func TestCovers(t *testing.T) {
	w := shared()
	point := func(parts ...[]byte) []byte { return element(0xa0, parts...) }
	uri := func(s string) []byte { return element(0x86, []byte(s)) }
	scoped := func(parts ...[]byte) []pkix.Extension {
		return []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: element(0x30, parts...)}}
	}
	other := func(id asn1.ObjectIdentifier, critical bool) []pkix.Extension {
		return []pkix.Extension{{Id: id, Critical: critical, Value: []byte{2, 1, 1}}}
	}
	delta, unknown := asn1.ObjectIdentifier{2, 5, 29, 27}, asn1.ObjectIdentifier{1, 2, 3, 4}
	for name, test := range map[string]struct {
		extensions  []pkix.Extension
		user, maker bool
	}{
		"plain":                   {nil, true, true},
		"unknown":                 {other(unknown, false), true, true},
		"unknown-critical":        {other(unknown, true), false, false},
		"delta":                   {other(delta, true), false, false},
		"delta-not-critical":      {other(delta, false), false, false},
		"delta-then-unknown":      {append(other(delta, true), other(unknown, false)...), false, false},
		"no-limits":               {scoped(), true, true},
		"users":                   {scoped([]byte{0x81, 1, 0xff}), true, false},
		"authorities":             {scoped([]byte{0x82, 1, 0xff}), false, true},
		"both":                    {scoped([]byte{0x81, 1, 0xff}, []byte{0x82, 1, 0xff}), false, false},
		"users-not-der":           {scoped([]byte{0x81, 1, 1}), false, false},
		"authorities-not-der":     {scoped([]byte{0x82, 2, 0xff, 0xff}), false, false},
		"some-reasons":            {scoped([]byte{0x83, 2, 1, 2}), false, false},
		"indirect":                {scoped([]byte{0x84, 1, 0xff}), false, false},
		"attributes":              {scoped([]byte{0x85, 1, 0xff}), false, false},
		"point":                   {scoped(point(element(0xa0, uri("http://a/")))), true, true},
		"point-among-others":      {scoped(point(element(0xa0, uri("http://b/"), uri("http://a/")))), true, true},
		"point-for-users":         {scoped(point(element(0xa0, uri("http://a/"))), []byte{0x81, 1, 0xff}), true, false},
		"other-point":             {scoped(point(element(0xa0, uri("http://b/")))), false, false},
		"point-of-no-name":        {scoped(point(element(0xa0))), false, false},
		"point-not-uri":           {scoped(point(element(0xa0, element(0x82, []byte("http://a/"))))), false, false},
		"point-relative":          {scoped(point(element(0xa1, uri("http://a/")))), false, false},
		"point-twice":             {scoped(point(element(0xa0, uri("http://a/")), element(0xa0, uri("http://a/")))), false, false},
		"point-malformed":         {scoped(point(element(0xa0, []byte{0x86}))), false, false},
		"point-malformed-after":   {scoped(point(element(0xa0, uri("http://b/"), []byte{0x86}))), false, false},
		"more-after-the-sequence": {[]pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Value: []byte{0x30, 0, 5, 0}}}, false, false},
		"not-a-sequence":          {[]pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Value: []byte{5, 0}}}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			l := w.listWith(t, test.extensions)
			user := &x509.Certificate{RawIssuer: w.ca.Certificate.RawSubject, CRLDistributionPoints: []string{"http://a/"}}
			maker := &x509.Certificate{RawIssuer: user.RawIssuer, CRLDistributionPoints: user.CRLDistributionPoints, IsCA: true}
			if l.Covers(user) != test.user || l.Covers(maker) != test.maker {
				t.Errorf("covers an end entity: %v, an authority: %v", l.Covers(user), l.Covers(maker))
			}
			if l.Covers(&x509.Certificate{RawIssuer: w.good.Certificate.RawSubject, CRLDistributionPoints: user.CRLDistributionPoints}) {
				t.Error("covers certificates of another issuer")
			}
		})
	}
	l := w.listWith(t, nil)
	for name, test := range map[string]struct {
		change func(c *x509.Certificate)
		want   error
	}{
		"itself":          {func(*x509.Certificate) {}, nil},
		"other-name":      {func(c *x509.Certificate) { c.RawSubject = []byte{0x30, 0} }, revinfo.ErrNotAuthorized},
		"other-key":       {func(c *x509.Certificate) { c.PublicKey = w.rekeyed.Certificate.PublicKey }, cms.ErrSignature},
		"end-entity":      {func(c *x509.Certificate) { c.IsCA = false }, revinfo.ErrNotAuthorized},
		"no-constraints":  {func(c *x509.Certificate) { c.BasicConstraintsValid = false }, revinfo.ErrNotAuthorized},
		"of-version-1":    {func(c *x509.Certificate) { c.BasicConstraintsValid, c.IsCA, c.Version = false, false, 1 }, nil},
		"no-usage":        {func(c *x509.Certificate) { c.KeyUsage = 0 }, nil},
		"for-lists":       {func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }, nil},
		"for-other-usage": {func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign }, revinfo.ErrNotAuthorized},
	} {
		t.Run("signed-by/"+name, func(t *testing.T) {
			c := *w.ca.Certificate
			test.change(&c)
			if err := l.SignedBy(&c); !errors.Is(err, test.want) {
				t.Errorf("%v, want %v", err, test.want)
			}
		})
	}
}

// TestTwoScopes has a list say twice of whom it speaks.
func TestTwoScopes(t *testing.T) {
	scope := pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Value: []byte{0x30, 0}}
	if l, err := revinfo.ParseList(shared().extendedList(t, []pkix.Extension{scope, scope})); !errors.Is(err, revinfo.ErrMalformed) {
		t.Errorf("%+v, %v", l, err)
	}
}

func (w world) listWith(t *testing.T, extensions []pkix.Extension) *revinfo.List {
	t.Helper()
	l, err := revinfo.ParseList(w.extendedList(t, extensions))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// extendedList signs a list with the extensions, which are right or wrong, and an entry whose extension is harmless.
func (w world) extendedList(t *testing.T, extensions []pkix.Extension) []byte {
	t.Helper()
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now(),
		NextUpdate: time.Now().Add(time.Hour), ExtraExtensions: extensions, RevokedCertificateEntries: []x509.RevocationListEntry{
			{SerialNumber: big.NewInt(1), RevocationTime: time.Now(), ReasonCode: 1}}}, w.ca.Certificate, key(t, w.ca))
	if err != nil {
		t.Fatal(err)
	}
	return der
}
