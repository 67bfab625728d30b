package revinfo

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"math/big"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/xpu-sztp/ztp/artifacts/cms"
)

// List is a certificate revocation list (RFC 5280 §5.1). Nothing in it is verified until SignedBy was asked.
type List struct {
	Issuer     []byte // DER of the issuer's name
	ThisUpdate time.Time
	NextUpdate time.Time // zero when absent
	Entries    int       // certificates in it

	entries   cryptobyte.String
	partial   bool   // has a critical extension that is not known here, or is a delta, or indirect
	scope     []byte // IssuingDistributionPoint; nil when absent
	signed    []byte
	algorithm []byte
	signature []byte
}

// ParseList reads a list in DER. Slices of the result point into der.
func ParseList(der []byte) (*List, error) {
	if len(der) > MaxListBytes {
		return nil, tooLarge(len(der), MaxListBytes)
	}
	l := new(List)
	in := cryptobyte.String(der)
	var list, body, signed, algorithm cryptobyte.String
	if !in.ReadASN1(&list, casn1.SEQUENCE) || !in.Empty() || !list.ReadASN1Element(&signed, casn1.SEQUENCE) ||
		!list.ReadASN1Element(&algorithm, casn1.SEQUENCE) || !list.ReadASN1BitStringAsBytes(&l.signature) || !list.Empty() {
		return nil, malformed("structure of the revocation list")
	}
	l.signed, l.algorithm = signed, algorithm
	if !signed.ReadASN1(&body, casn1.SEQUENCE) {
		return nil, malformed("structure of the revocation list")
	}
	if err := l.parseBody(body); err != nil {
		return nil, err
	}
	return l, nil
}

// parseBody reads what is inside of TBSCertList.
func (l *List) parseBody(in cryptobyte.String) error {
	var algorithm, issuer, extensions cryptobyte.String
	var version int
	var extended bool
	if in.PeekASN1Tag(casn1.INTEGER) && (!in.ReadASN1Integer(&version) || version != 1) {
		return malformed("version of the revocation list")
	}
	if !in.ReadASN1Element(&algorithm, casn1.SEQUENCE) || !bytes.Equal(algorithm, l.algorithm) {
		return malformed("the revocation list names two signature algorithms")
	}
	if !in.ReadASN1Element(&issuer, casn1.SEQUENCE) || !readTime(&in, &l.ThisUpdate) {
		return malformed("header of the revocation list")
	}
	l.Issuer = issuer
	if (in.PeekASN1Tag(casn1.UTCTime) || in.PeekASN1Tag(casn1.GeneralizedTime)) && !readTime(&in, &l.NextUpdate) {
		return malformed("next update of the revocation list")
	}
	if in.PeekASN1Tag(casn1.SEQUENCE) && !in.ReadASN1(&l.entries, casn1.SEQUENCE) ||
		!in.ReadOptionalASN1(&extensions, &extended, explicit(0)) || !in.Empty() {
		return malformed("structure of the revocation list")
	}
	if extended && !readExtensions(extensions, l.extension) {
		return malformed("extensions of the revocation list")
	}
	if !l.each(func([]byte, time.Time) { l.Entries++ }) {
		return malformed("entry of the revocation list")
	}
	return nil
}

// Extensions by their object identifiers in DER: those of id-ce.
const (
	extDeltaList         = "\x55\x1d\x1b"
	extDistributionPoint = "\x55\x1d\x1c"
	extCertificateIssuer = "\x55\x1d\x1d"
)

func (l *List) extension(oid string, critical bool, value []byte) bool {
	switch {
	case oid == extDistributionPoint:
		if l.scope != nil {
			return false
		}
		l.scope = value
	case oid == extDeltaList || critical:
		l.partial = true
	}
	return true
}

// each calls f with every entry. An entry with a critical extension, of which none is known here, or about a certificate of
// another issuer makes the whole list unfit (RFC 5280 §5.3).
func (l *List) each(f func(serial []byte, revoked time.Time)) bool {
	in := l.entries
	var serial []byte
	var revoked time.Time
	special := func(oid string, critical bool, _ []byte) bool {
		l.partial = l.partial || critical || oid == extCertificateIssuer
		return true
	}
	for !in.Empty() {
		var entry cryptobyte.String
		if !in.ReadASN1(&entry, casn1.SEQUENCE) || !readSerial(&entry, &serial) || !readTime(&entry, &revoked) ||
			!entry.Empty() && !readExtensions(entry, special) {
			return false
		}
		f(serial, revoked)
	}
	return true
}

// Revoked returns when the certificate with the serial number was revoked, the zero time and false when it is not listed.
func (l *List) Revoked(serial *big.Int) (at time.Time, listed bool) {
	l.each(func(s []byte, revoked time.Time) {
		if !listed && sameSerial(s, serial) {
			at, listed = revoked, true
		}
	})
	return at, listed
}

// Covers reports whether the list, if genuine, is of c's issuer and speaks about c for all reasons: it is neither a delta
// nor indirect nor limited to other kinds of certificates, and if it stands for one distribution point only, c names that
// one (RFC 5280 §5.2.5, §6.3.3).
func (l *List) Covers(c *x509.Certificate) bool {
	return bytes.Equal(l.Issuer, c.RawIssuer) && !l.partial && (l.scope == nil || inScope(l.scope, c))
}

// inScope reads IssuingDistributionPoint.
func inScope(der []byte, c *x509.Certificate) bool {
	in := cryptobyte.String(der)
	var body, point cryptobyte.String
	var named, usersOnly, authoritiesOnly bool
	if !in.ReadASN1(&body, casn1.SEQUENCE) || !in.Empty() || !body.ReadOptionalASN1(&point, &named, explicit(0)) ||
		!readFlag(&body, 1, &usersOnly) || !readFlag(&body, 2, &authoritiesOnly) || !body.Empty() {
		return false // only some reasons, indirect, attribute certificates, or malformed
	}
	return !(usersOnly && c.IsCA) && !(authoritiesOnly && !c.IsCA) && (!named || namesPoint(point, c.CRLDistributionPoints))
}

// namesPoint reports whether one of the names of a DistributionPointName is a URI among uris.
func namesPoint(in cryptobyte.String, uris []string) bool {
	var names, uri cryptobyte.String
	if !in.ReadASN1(&names, explicit(0)) || !in.Empty() {
		return false
	}
	for !names.Empty() {
		var tag casn1.Tag
		if !names.ReadAnyASN1(&uri, &tag) {
			return false
		}
		if tag == primitive(6) && slices.Contains(uris, string(uri)) {
			return true
		}
	}
	return false
}

// readFlag reads an optional [n] IMPLICIT BOOLEAN.
func readFlag(in *cryptobyte.String, n uint8, flag *bool) bool {
	var value cryptobyte.String
	ok := in.ReadOptionalASN1(&value, flag, primitive(n))
	return ok && (!*flag || bytes.Equal(value, []byte{0xff}))
}

// SignedBy verifies that issuer, which the caller believes, may sign lists and signed this one.
func (l *List) SignedBy(issuer *x509.Certificate) error {
	switch {
	case !bytes.Equal(l.Issuer, issuer.RawSubject):
		return fmt.Errorf("%w: the revocation list is of another issuer", ErrNotAuthorized)
	case issuer.Version == 3 && !issuer.BasicConstraintsValid, issuer.BasicConstraintsValid && !issuer.IsCA,
		issuer.KeyUsage != 0 && issuer.KeyUsage&x509.KeyUsageCRLSign == 0:
		return fmt.Errorf("%w: the certificate of the list's issuer is not for signing lists", ErrNotAuthorized)
	}
	return cms.VerifySignature(issuer, l.algorithm, l.signed, l.signature)
}
