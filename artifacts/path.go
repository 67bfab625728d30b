package artifacts

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/xpu-sztp/ztp/artifacts/cms"
)

// ErrPeriod says that a path would hold at another time.
var ErrPeriod = errors.New("outside of its validity period")

// CertificationPath returns nil if signer, which signed something else than artifacts, has a path (RFC 5280 §6) to one of
// anchors through others, which came along from a stranger, and all of the path may be used for usage. Without an accurate
// clock certificates do not expire. The error wraps ErrPeriod when only the time is wrong.
func CertificationPath(signer *x509.Certificate, anchors, others []*x509.Certificate, usage x509.ExtKeyUsage, clock Clock) error {
	if refusal := untangled(others); refusal != nil {
		return refusal
	}
	_, err := pathQuery{leaf: signer, roots: anchors, others: others, usage: usage}.verify(clock)
	return err
}

// pathQuery asks for certification paths (RFC 5280 §6).
type pathQuery struct {
	leaf   *x509.Certificate
	roots  []*x509.Certificate // where paths must end; they need not be self-signed
	others []*x509.Certificate // what paths may go through
	usage  x509.ExtKeyUsage
}

// verify returns every path, leaf first. Without an accurate clock certificates do not expire (RFC 8572 §9.1). The error
// wraps ErrPeriod when only the time is wrong.
func (q pathQuery) verify(clock Clock) ([][]*x509.Certificate, error) {
	paths, err := q.ageless()
	if err != nil || !clock.Accurate() {
		return paths, err
	}
	// One search does for both answers; a second for the time would double what a sender can make us do.
	timely := slices.DeleteFunc(slices.Clone(paths), func(p []*x509.Certificate) bool { return outsidePeriod(p, clock.Now) != nil })
	if len(timely) == 0 {
		return nil, outsidePeriod(paths[0], clock.Now)
	}
	return timely, nil
}

func (q pathQuery) at(now time.Time) ([][]*x509.Certificate, error) {
	options := x509.VerifyOptions{
		Roots:         x509.NewCertPool(),
		Intermediates: x509.NewCertPool(),
		CurrentTime:   now,
		KeyUsages:     []x509.ExtKeyUsage{q.usage},
	}
	for _, c := range q.roots {
		options.Roots.AddCert(c)
	}
	for _, c := range q.others {
		options.Intermediates.AddCert(c)
	}
	paths, err := q.leaf.Verify(options)
	if err != nil {
		return nil, err
	}
	var sound [][]*x509.Certificate
	for _, p := range paths {
		if err = weakKey(p); err == nil {
			err = otherKey(p)
		}
		if err == nil {
			err = endEntity(p)
		}
		if err == nil {
			sound = append(sound, p)
		}
	}
	if sound == nil {
		return nil, err
	}
	return sound, nil
}

// ageless verifies with copies of the certificates whose validity has no end, since no single time need lie within the
// validity of all of a path.
func (q pathQuery) ageless() ([][]*x509.Certificate, error) {
	now := time.Unix(0, 0)
	original := make(map[*x509.Certificate]*x509.Certificate)
	copyOf := func(c *x509.Certificate) *x509.Certificate {
		timeless := *c
		timeless.NotBefore, timeless.NotAfter = now, now
		original[&timeless] = c
		return &timeless
	}
	copies := pathQuery{leaf: copyOf(q.leaf), usage: q.usage}
	for _, c := range q.roots {
		copies.roots = append(copies.roots, copyOf(c))
	}
	for _, c := range q.others {
		copies.others = append(copies.others, copyOf(c))
	}
	paths, err := copies.at(now)
	for _, p := range paths {
		for i, c := range p {
			p[i] = original[c]
		}
	}
	return paths, err
}

// outsidePeriod says which certificate of path does not hold at this time, if one does not.
func outsidePeriod(path []*x509.Certificate, now time.Time) error {
	for _, c := range path {
		if now.Before(c.NotBefore) || now.After(c.NotAfter) {
			return fmt.Errorf("certificate of %s %w: valid from %s to %s, the clock says %s",
				subject(c), ErrPeriod, stamp(c.NotBefore), stamp(c.NotAfter), stamp(now))
		}
	}
	return nil
}

// weakKey refuses keys below the strength that is asked of signatures.
func weakKey(path []*x509.Certificate) error {
	for _, c := range path {
		switch key := c.PublicKey.(type) {
		case *rsa.PublicKey:
			if key.N.BitLen() < 2048 {
				return fmt.Errorf("certificate of %s has an RSA key of %d bits, at least 2048", subject(c), key.N.BitLen())
			}
		case *ecdsa.PublicKey:
			if key.Curve == elliptic.P224() {
				return fmt.Errorf("certificate of %s has a key on P-224, at least P-256", subject(c))
			}
		}
	}
	return nil
}

// otherKey refuses a path in which a certificate names another key of its issuer than the one above it has (RFC 5280
// §4.2.1.1), as OpenSSL does. crypto/x509 only prefers certificates that agree.
func otherKey(path []*x509.Certificate) error {
	for i, c := range path[:len(path)-1] {
		authority, key := c.AuthorityKeyId, path[i+1].SubjectKeyId
		if len(authority) > 0 && len(key) > 0 && !bytes.Equal(authority, key) {
			return fmt.Errorf("certificate of %s was issued with key %x, and %s has key %x", subject(c), authority,
				subject(path[i+1]), key)
		}
	}
	return nil
}

// maxKinships bounds how often certificates of one message may name one another as issuers. A chain does so once for each
// of its certificates but the last. Who is really the issuer takes a signature to find out, which is milliseconds on some
// curves, and among certificates of one name everybody could be everybody's.
const maxKinships = 8

// untangled refuses certificates among which to look for paths would take too long.
func untangled(certs []*x509.Certificate) *Error {
	kinships := 0
	for i, child := range certs {
		for j, parent := range certs {
			if i != j && bytes.Equal(child.RawIssuer, parent.RawSubject) {
				kinships++
			}
		}
	}
	if kinships <= maxKinships {
		return nil
	}
	return refuse(CodeTooLarge, fmt.Sprintf("its %d certificates name one another as issuers %d times, at most %d",
		len(certs), kinships, maxKinships), "put in the certificates of one path only", nil)
}

// endEntity refuses a path from an anchor that another authority issued without saying that it may issue others, as certificates
// before version 3 cannot (RFC 5280 §4.2.1.9). crypto/x509 asks that of intermediates, and of anchors of version 3 only.
func endEntity(path []*x509.Certificate) error {
	anchor := path[len(path)-1]
	if len(path) > 1 && anchor.Version < 3 && !selfSigned(anchor) {
		return fmt.Errorf("certificate of %s, of version %d, is neither self-signed nor an authority's", subject(anchor), anchor.Version)
	}
	return nil
}

// selfSigned reports whether c was signed with its own key.
func selfSigned(c *x509.Certificate) bool {
	return bytes.Equal(c.RawIssuer, c.RawSubject) &&
		c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
}

// issued reports whether parent signed child.
func issued(parent, child *x509.Certificate) bool {
	return bytes.Equal(parent.RawSubject, child.RawIssuer) && child.CheckSignatureFrom(parent) == nil
}

// subject and stamp render what messages name.
func subject(c *x509.Certificate) string { return cms.NameOf(c.RawSubject) }

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
