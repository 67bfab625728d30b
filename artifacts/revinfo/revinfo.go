// Package revinfo reads what certification authorities say about revocation: certificate revocation lists (RFC 5280 §5) and
// OCSP responses (RFC 6960), in strict DER from untrusted peers. Sizes and counts are bounded, entries of a list are read
// without being kept, and time is linear in the input. Reading verifies nothing: SignedBy and Responder do, for an issuer
// the caller chose to believe, with the algorithms that package cms accepts. It does no I/O and knows no clock.
package revinfo

import (
	"bytes"
	"errors"
	"fmt"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Limits of what is read.
const (
	MaxListBytes     = 8 << 20
	MaxResponseBytes = 64 << 10
	maxAnswers       = 64 // certificates that one OCSP response is about
	maxCertificates  = 8  // in one OCSP response
	maxExtensions    = 32
)

// The kinds of failure, matched with errors.Is. Errors wrap one of them and say more.
var (
	ErrMalformed     = errors.New("malformed revocation information")
	ErrLimit         = errors.New("over the limit of what is read")
	ErrNotAuthorized = errors.New("not signed by whom the issuer authorized")
)

// readExtensions calls each with the extensions of an Extensions; object identifiers are in DER. It reports whether in is
// well-formed and each returned true for all of them.
func readExtensions(in cryptobyte.String, each func(oid string, critical bool, value []byte) bool) bool {
	var list cryptobyte.String
	if !in.ReadASN1(&list, casn1.SEQUENCE) || !in.Empty() {
		return false
	}
	for n := 0; !list.Empty(); n++ {
		var one, oid, value cryptobyte.String
		var critical bool
		if n == maxExtensions || !list.ReadASN1(&one, casn1.SEQUENCE) || !one.ReadASN1(&oid, casn1.OBJECT_IDENTIFIER) ||
			one.PeekASN1Tag(casn1.BOOLEAN) && !one.ReadASN1Boolean(&critical) ||
			!one.ReadASN1(&value, casn1.OCTET_STRING) || !one.Empty() || !each(string(oid), critical, value) {
			return false
		}
	}
	return true
}

// readSerial reads a serial number, without leading zeros.
func readSerial(in *cryptobyte.String, serial *[]byte) bool {
	ok := in.ReadASN1Integer(serial)
	*serial = bytes.TrimLeft(*serial, "\x00")
	return ok
}

func sameSerial(a []byte, b *big.Int) bool { return bytes.Equal(a, b.Bytes()) }

// readTime reads a Time (RFC 5280 §4.1.2.5).
func readTime(in *cryptobyte.String, t *time.Time) bool {
	if in.PeekASN1Tag(casn1.UTCTime) {
		return in.ReadASN1UTCTime(t)
	}
	return in.ReadASN1GeneralizedTime(t)
}

func explicit(n uint8) casn1.Tag { return casn1.Tag(n).ContextSpecific().Constructed() }

func primitive(n uint8) casn1.Tag { return casn1.Tag(n).ContextSpecific() }

func malformed(what string) error { return fmt.Errorf("%w: %s", ErrMalformed, what) }

func tooLarge(size, limit int) error {
	return fmt.Errorf("%w: %d bytes, at most %d", ErrLimit, size, limit)
}
