package artifacts

import (
	"crypto/x509"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/xpu-sztp/ztp/artifacts/cms"
	"github.com/xpu-sztp/ztp/artifacts/strictjson"
)

// voucher is the document of RFC 8366 §5.3.
type voucher struct {
	createdOn  time.Time
	expiresOn  time.Time // zero when absent
	assertion  Assertion // empty when tolerated to be absent
	serial     string
	issuer     []byte // nil when absent
	nonce      []byte // nil when absent
	pinned     *x509.Certificate
	revocation revocationRule
}

// revocationRule is the tri-state domain-cert-revocation-checks.
type revocationRule string

const (
	revocationUnset  revocationRule = ""
	revocationAlways revocationRule = "true"
	revocationNever  revocationRule = "false"
)

const voucherModule = "ietf-voucher"

// voucher reads a voucher. Leaves this reader does not know are tolerated with a warning, since successors of RFC 8366 add
// some; none of them can widen what the known ones say.
func (d *decoder) voucher(data []byte) *voucher {
	const top = voucherModule + ":voucher"
	root, err := strictjson.Parse(data)
	if err != nil {
		d.err = err
		return nil
	}
	document := d.object("document", root, "", false, top)
	if !document.has(top) {
		d.fail(document.path, "no %s", top)
		return nil
	}
	o := d.object("voucher", document.members[top], voucherModule, true, "created-on", "expires-on", "assertion",
		"serial-number", "idevid-issuer", "pinned-domain-cert", "domain-cert-revocation-checks", "nonce", "last-renewal-date")
	v := &voucher{
		createdOn:  o.date("created-on"),
		expiresOn:  o.date("expires-on"),
		assertion:  Assertion(o.text("assertion")),
		serial:     o.text("serial-number"),
		issuer:     o.binary("idevid-issuer"),
		nonce:      o.binary("nonce"),
		revocation: o.revocationRule("domain-cert-revocation-checks"),
	}
	if !o.has("created-on") {
		d.fail(o.at("created-on"), "missing")
	}
	if v.assertion == "" {
		if !d.lenient {
			d.fail(o.at("assertion"), "missing")
		}
		d.warn(o.at("assertion"), "missing")
	}
	if v.serial == "" {
		d.fail(o.at("serial-number"), "missing")
	}
	if v.nonce != nil && (len(v.nonce) < 8 || len(v.nonce) > 32) {
		d.fail(o.at("nonce"), "%d bytes, between 8 and 32 are allowed", len(v.nonce))
	}
	pinned := o.binary("pinned-domain-cert")
	if pinned == nil {
		d.fail(o.at("pinned-domain-cert"), "missing")
		return v
	}
	if v.pinned, err = cms.ParseCertificate(pinned); err != nil {
		d.fail(o.at("pinned-domain-cert"), "not an X.509 certificate: %v", err)
	}
	return v
}

// date returns a date-and-time member (RFC 6991 §3), or the zero time when it is not there. The first second of year 1,
// which is that zero time, is refused: as expires-on it would mean no end.
func (o object) date(name string) time.Time {
	if !o.has(name) {
		return time.Time{}
	}
	text := o.text(name)
	t, err := time.Parse(time.RFC3339, text)
	if err != nil || !isDateAndTime(text) || t.IsZero() {
		o.d.fail(o.at(name), "%q is not a date and time of RFC 3339", cms.Printable(text))
	}
	return t
}

// isDateAndTime refuses what package time takes for RFC 3339 and is not: an hour of one digit, a comma before the fraction,
// an offset of a day or more.
func isDateAndTime(parsed string) bool {
	offset := parsed[len(parsed)-len("Z"):]
	if offset != "Z" {
		offset = parsed[len(parsed)-len("+00:00"):]
	}
	return parsed[len("2006-01-02T15")] == ':' && !strings.Contains(parsed, ",") &&
		(offset == "Z" || offset[1:3] < "24" && offset[4:] < "60")
}

// revocationRule returns a boolean member, which RFC 8366's own example spells as a string.
func (o object) revocationRule(name string) revocationRule {
	v, ok := o.members[name]
	if !ok {
		return revocationUnset
	}
	rule := revocationRule(v.Text)
	if v.Kind != strictjson.Bool && v.Kind != strictjson.String || rule != revocationAlways && rule != revocationNever {
		o.d.fail(o.at(name), "neither true nor false")
	}
	return rule
}

// keyIdentifiers returns what an idevid-issuer leaf can mean: the bare key identifier, or that inside of an
// AuthorityKeyIdentifier (RFC 5280 §4.2.1.1), or that again inside of the OCTET STRING of an extension. Encoders disagree.
func keyIdentifiers(leaf []byte) [][]byte {
	ids := [][]byte{leaf}
	in := cryptobyte.String(leaf)
	var wrapped, sequence, id cryptobyte.String
	if whole := in; whole.ReadASN1(&wrapped, casn1.OCTET_STRING) && whole.Empty() {
		in = wrapped
	}
	if in.ReadASN1(&sequence, casn1.SEQUENCE) && in.Empty() && sequence.ReadASN1(&id, casn1.Tag(0).ContextSpecific()) {
		ids = append(ids, id)
	}
	return ids
}
