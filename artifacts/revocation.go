package artifacts

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"math/big"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/xpu-sztp/ztp/artifacts/cms"
)

// revocation checks the paths of the owner certificate against the revocation lists that came inside of the artifacts, by
// the voucher's rule: always demands a good and fresh status of every certificate on a path, never looks at nothing, and
// without a rule what is listed is refused. Nothing is fetched. The pinned certificate's own status counts too, unless it
// is self-signed, in which case none can exist.
func (v *validation) revocation(rule revocationRule, paths [][]*x509.Certificate, carriers []*cms.SignedData) (string, error) {
	if rule == revocationNever {
		return "not checked: the voucher forbids it", nil
	}
	if rule == revocationAlways && !v.policy.Clock.Accurate() && !v.policy.UncheckedRevocation {
		return "", refuse(CodeRevocationUnknown,
			"the voucher demands a revocation check, which is not possible without an accurate clock",
			"give the device an accurate clock, or get a voucher without domain-cert-revocation-checks", nil)
	}
	r := revocationLists{clock: v.policy.Clock}
	for _, c := range carriers {
		r.certificates = append(r.certificates, c.Certificates...)
		r.parse(c.CRLs)
	}
	var refusal *Error
	for _, path := range paths {
		detail, err := r.checkPath(path, rule == revocationAlways)
		if err == nil {
			return detail, nil
		}
		refusal = err
	}
	return "", refusal
}

// revocationLists are the lists at hand, not verified yet, with certificates that may have issued them.
type revocationLists struct {
	clock        Clock
	lists        []*x509.RevocationList
	certificates []*x509.Certificate
}

// parse keeps the lists that can be read. One that cannot gives no status, which is an error only where one is demanded.
func (r *revocationLists) parse(ders [][]byte) {
	for _, der := range ders {
		if list, err := x509.ParseRevocationList(der); err == nil {
			r.lists = append(r.lists, list)
		}
	}
}

func (r *revocationLists) checkPath(path []*x509.Certificate, demanded bool) (string, *Error) {
	checked := 0
	for i, c := range path {
		if selfSigned(c) {
			continue
		}
		issuers := r.certificates
		if i+1 < len(path) {
			issuers = path[i+1 : i+2]
		}
		why, err := r.check(c, issuers)
		if err != nil {
			return "", err
		}
		if why == "" {
			checked++
		} else if demanded {
			return "", refuse(CodeRevocationUnknown,
				fmt.Sprintf("the voucher demands the revocation status of %s: %s", subject(c), why),
				"put fresh revocation lists of all issuers into the owner certificate artifact", nil)
		}
	}
	if checked == 0 {
		return "not demanded, or nothing that could be revoked", nil
	}
	return fmt.Sprintf("%s not revoked", plural(checked, "certificate")), nil
}

// check looks c up in the lists of its issuer, which is among issuers. It returns why there is no good status, or "".
func (r *revocationLists) check(c *x509.Certificate, issuers []*x509.Certificate) (why string, _ *Error) {
	why = "no revocation list of its issuer came along"
	good := false
	for _, list := range r.lists {
		if !bytes.Equal(list.RawIssuer, c.RawIssuer) || !covers(list, c) {
			continue
		}
		signed := func(p *x509.Certificate) bool { return issued(p, c) && list.CheckSignatureFrom(p) == nil }
		if !slices.ContainsFunc(issuers, signed) {
			why = "the revocation list that came along was not signed by its issuer"
			continue
		}
		if entry := lookup(list, c.SerialNumber); entry != nil {
			return "", refuse(CodeOwnerRevoked,
				fmt.Sprintf("the certificate of %s was revoked on %s", subject(c), stamp(entry.RevocationTime)),
				"issue a new owner certificate and sign with it", nil)
		}
		if stale := r.stale(list); stale != "" {
			why = stale
		} else {
			good = true
		}
	}
	if good {
		return "", nil
	}
	return why, nil
}

// stale returns why list says nothing about now, or "".
func (r *revocationLists) stale(list *x509.RevocationList) string {
	now := r.clock.Now
	switch {
	case !r.clock.Accurate():
		return ""
	case list.NextUpdate.IsZero():
		return "the revocation list that came along has no end of validity"
	case list.ThisUpdate.After(now) || now.After(list.NextUpdate):
		return fmt.Sprintf("the revocation list that came along is valid from %s to %s, the clock says %s",
			stamp(list.ThisUpdate), stamp(list.NextUpdate), stamp(now))
	}
	return ""
}

func lookup(list *x509.RevocationList, serial *big.Int) *x509.RevocationListEntry {
	for i := range list.RevokedCertificateEntries {
		if e := &list.RevokedCertificateEntries[i]; e.SerialNumber.Cmp(serial) == 0 {
			return e
		}
	}
	return nil
}

var (
	oidDistributionPoint = asn1.ObjectIdentifier{2, 5, 29, 28}
	oidCertificateIssuer = asn1.ObjectIdentifier{2, 5, 29, 29}
)

// covers reports whether list, if genuine, speaks about c for all reasons: whether it is neither a delta nor an indirect
// list nor limited to other kinds of certificates (RFC 5280 §5.2.5), and has no critical extension that is not known here.
func covers(list *x509.RevocationList, c *x509.Certificate) bool {
	for _, e := range list.Extensions {
		if e.Id.Equal(oidDistributionPoint) {
			if !inScope(e.Value, c.IsCA) {
				return false
			}
		} else if e.Critical {
			return false
		}
	}
	for i := range list.RevokedCertificateEntries {
		for _, e := range list.RevokedCertificateEntries[i].Extensions {
			if e.Critical || e.Id.Equal(oidCertificateIssuer) {
				return false
			}
		}
	}
	return true
}

// inScope reads IssuingDistributionPoint.
func inScope(der []byte, isCA bool) bool {
	in := cryptobyte.String(der)
	var body cryptobyte.String
	if !in.ReadASN1(&body, casn1.SEQUENCE) || !in.Empty() || !body.SkipOptionalASN1(explicit(0)) {
		return false
	}
	var usersOnly, authoritiesOnly bool
	if !readFlag(&body, 1, &usersOnly) || !readFlag(&body, 2, &authoritiesOnly) || !body.Empty() {
		return false // only some reasons, indirect, attribute certificates, or malformed
	}
	return !(usersOnly && isCA) && !(authoritiesOnly && !isCA)
}

// readFlag reads an optional [n] IMPLICIT BOOLEAN.
func readFlag(in *cryptobyte.String, n uint8, flag *bool) bool {
	var value cryptobyte.String
	ok := in.ReadOptionalASN1(&value, flag, casn1.Tag(n).ContextSpecific())
	return ok && (!*flag || bytes.Equal(value, []byte{0xff}))
}

func explicit(n uint8) casn1.Tag { return casn1.Tag(n).ContextSpecific().Constructed() }
