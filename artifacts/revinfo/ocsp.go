package revinfo

import (
	"bytes"
	"crypto"
	_ "crypto/sha1" // names issuers in OCSP; nothing relies on its collision resistance
	_ "crypto/sha256"
	_ "crypto/sha512"
	"crypto/x509"
	"fmt"
	"time"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/xpu-sztp/ztp/artifacts/cms"
)

// Status is what an OCSP responder says about a certificate.
type Status string

// The statuses (RFC 6960 §2.2).
const (
	Good    Status = "good"
	Revoked Status = "revoked"
	Unknown Status = "unknown"
)

// Response is an OCSP response (RFC 6960 §4.2). Nothing in it is verified until Responder was asked.
type Response struct {
	// Failure is why the responder gave no answers, such as "tryLater"; "" when it did. Nobody signs failures.
	Failure    string
	ProducedAt time.Time
	Answers    []Answer

	responderName []byte // DER, or
	responderKey  []byte // SHA-1 of the key
	certificates  []*x509.Certificate
	signed        []byte
	algorithm     []byte
	signature     []byte
}

// Answer is what a response says about one certificate.
type Answer struct {
	Serial     []byte // big-endian, without leading zeros
	Status     Status
	RevokedAt  time.Time // zero unless revoked
	ThisUpdate time.Time
	NextUpdate time.Time // zero when absent

	hash            crypto.Hash // 0 when it is not known here
	issuerName      []byte
	issuerKey       []byte
	unknownCritical bool
}

// ParseResponse reads an OCSPResponse in DER. Slices of the result point into der.
func ParseResponse(der []byte) (*Response, error) {
	if len(der) > MaxResponseBytes {
		return nil, tooLarge(len(der), MaxResponseBytes)
	}
	in := cryptobyte.String(der)
	var body, wrapped, content, kind, basic cryptobyte.String
	var status int
	var answered bool
	if !in.ReadASN1(&body, casn1.SEQUENCE) || !in.Empty() || !body.ReadASN1Enum(&status) ||
		!body.ReadOptionalASN1(&wrapped, &answered, explicit(0)) || !body.Empty() {
		return nil, malformed("structure of the OCSP response")
	}
	if status != 0 {
		return &Response{Failure: failure(status)}, nil
	}
	if !answered || !wrapped.ReadASN1(&content, casn1.SEQUENCE) || !wrapped.Empty() ||
		!content.ReadASN1(&kind, casn1.OBJECT_IDENTIFIER) || !content.ReadASN1(&basic, casn1.OCTET_STRING) || !content.Empty() {
		return nil, malformed("structure of the OCSP response")
	}
	if string(kind) != basicResponse {
		return nil, malformed("type of the OCSP response")
	}
	return parseBasic(basic)
}

// basicResponse is id-pkix-ocsp-basic, in DER.
const basicResponse = "\x2b\x06\x01\x05\x05\x07\x30\x01\x01"

func failure(status int) string {
	names := [...]string{1: "malformedRequest", 2: "internalError", 3: "tryLater", 5: "sigRequired", 6: "unauthorized"}
	if status > 0 && status < len(names) && names[status] != "" {
		return names[status]
	}
	return fmt.Sprintf("response status %d", status)
}

func parseBasic(in cryptobyte.String) (*Response, error) {
	r := new(Response)
	var basic, body, signed, algorithm, certs, list cryptobyte.String
	var certified bool
	if !in.ReadASN1(&basic, casn1.SEQUENCE) || !in.Empty() || !basic.ReadASN1Element(&signed, casn1.SEQUENCE) ||
		!basic.ReadASN1Element(&algorithm, casn1.SEQUENCE) || !basic.ReadASN1BitStringAsBytes(&r.signature) ||
		!basic.ReadOptionalASN1(&certs, &certified, explicit(0)) || !basic.Empty() {
		return nil, malformed("structure of the OCSP response")
	}
	r.signed, r.algorithm = signed, algorithm
	if certified && (!certs.ReadASN1(&list, casn1.SEQUENCE) || !certs.Empty()) {
		return nil, malformed("certificates of the OCSP response")
	}
	for !list.Empty() {
		var der cryptobyte.String
		if len(r.certificates) == maxCertificates || !list.ReadASN1Element(&der, casn1.SEQUENCE) {
			return nil, malformed("certificates of the OCSP response")
		}
		c, err := cms.ParseCertificate(der)
		if err != nil {
			return nil, malformed(err.Error())
		}
		r.certificates = append(r.certificates, c)
	}
	if !signed.ReadASN1(&body, casn1.SEQUENCE) || !r.parseData(body) {
		return nil, malformed("data of the OCSP response")
	}
	return r, nil
}

// parseData reads what is inside of ResponseData.
func (r *Response) parseData(in cryptobyte.String) bool {
	var version, responder, answers, extensions cryptobyte.String
	var versioned, extended bool
	var number int
	if !in.ReadOptionalASN1(&version, &versioned, explicit(0)) ||
		versioned && (!version.ReadASN1Integer(&number) || !version.Empty() || number != 0) {
		return false
	}
	switch {
	case in.PeekASN1Tag(explicit(1)):
		if !in.ReadASN1(&responder, explicit(1)) || len(responder) == 0 {
			return false
		}
		r.responderName = responder
	default:
		var key cryptobyte.String
		if !in.ReadASN1(&responder, explicit(2)) || !responder.ReadASN1(&key, casn1.OCTET_STRING) || !responder.Empty() || len(key) == 0 {
			return false
		}
		r.responderKey = key
	}
	if !in.ReadASN1GeneralizedTime(&r.ProducedAt) || !in.ReadASN1(&answers, casn1.SEQUENCE) ||
		!in.ReadOptionalASN1(&extensions, &extended, explicit(1)) || !in.Empty() {
		return false
	}
	// A nonce, which the device does not send, says nothing; a critical extension says what is not understood here.
	if extended && !readExtensions(extensions, func(_ string, critical bool, _ []byte) bool { return !critical }) {
		return false
	}
	for !answers.Empty() {
		var one cryptobyte.String
		var a Answer
		if len(r.Answers) == maxAnswers || !answers.ReadASN1(&one, casn1.SEQUENCE) || !a.parse(one) {
			return false
		}
		r.Answers = append(r.Answers, a)
	}
	return true
}

// parse reads what is inside of SingleResponse.
func (a *Answer) parse(in cryptobyte.String) bool {
	var id, next, extensions cryptobyte.String
	var limited, extended bool
	if !in.ReadASN1(&id, casn1.SEQUENCE) || !a.parseID(id) || !a.parseStatus(&in) ||
		!in.ReadASN1GeneralizedTime(&a.ThisUpdate) || !in.ReadOptionalASN1(&next, &limited, explicit(0)) ||
		limited && (!next.ReadASN1GeneralizedTime(&a.NextUpdate) || !next.Empty()) ||
		!in.ReadOptionalASN1(&extensions, &extended, explicit(1)) || !in.Empty() {
		return false
	}
	return !extended || readExtensions(extensions, func(_ string, critical bool, _ []byte) bool {
		a.unknownCritical = a.unknownCritical || critical
		return true
	})
}

// parseID reads what is inside of CertID.
func (a *Answer) parseID(in cryptobyte.String) bool {
	var algorithm, oid, name, key cryptobyte.String
	if !in.ReadASN1(&algorithm, casn1.SEQUENCE) || !algorithm.ReadASN1(&oid, casn1.OBJECT_IDENTIFIER) ||
		!in.ReadASN1(&name, casn1.OCTET_STRING) || !in.ReadASN1(&key, casn1.OCTET_STRING) || !readSerial(&in, &a.Serial) || !in.Empty() {
		return false
	}
	a.issuerName, a.issuerKey = name, key
	switch string(oid) {
	case "\x2b\x0e\x03\x02\x1a":
		a.hash = crypto.SHA1
	case "\x60\x86\x48\x01\x65\x03\x04\x02\x01":
		a.hash = crypto.SHA256
	case "\x60\x86\x48\x01\x65\x03\x04\x02\x02":
		a.hash = crypto.SHA384
	case "\x60\x86\x48\x01\x65\x03\x04\x02\x03":
		a.hash = crypto.SHA512
	}
	return true
}

// parseStatus reads a CertStatus.
func (a *Answer) parseStatus(in *cryptobyte.String) bool {
	var tag casn1.Tag
	var body, reason cryptobyte.String
	var reasoned bool
	if !in.ReadAnyASN1(&body, &tag) {
		return false
	}
	switch tag {
	case primitive(0):
		a.Status = Good
		return body.Empty()
	case explicit(1):
		a.Status = Revoked
		return body.ReadASN1GeneralizedTime(&a.RevokedAt) && body.ReadOptionalASN1(&reason, &reasoned, explicit(0)) && body.Empty()
	case primitive(2):
		a.Status = Unknown
		return body.Empty()
	}
	return false
}

// About reports whether the answer is about c, issued by issuer, and nothing in it has to be understood that is not.
func (a *Answer) About(c, issuer *x509.Certificate) bool {
	if a.unknownCritical || a.hash == 0 || !sameSerial(a.Serial, c.SerialNumber) {
		return false
	}
	return bytes.Equal(a.issuerName, sum(a.hash, c.RawIssuer)) && bytes.Equal(a.issuerKey, sum(a.hash, keyBits(issuer)))
}

// Responder verifies the response's signature and returns the certificate whose key made it: issuer's, or one that issuer,
// which the caller believes, issued itself for signing OCSP responses (RFC 6960 §4.2.2.2). Whether that one holds now and is
// not revoked is the caller's to check.
func (r *Response) Responder(issuer *x509.Certificate) (*x509.Certificate, error) {
	err := fmt.Errorf("%w: the OCSP response names neither the issuer nor a certificate in it as its signer", ErrNotAuthorized)
	if r.names(issuer) {
		if err = r.signedBy(issuer); err == nil {
			return issuer, nil
		}
	}
	for _, c := range r.certificates {
		if c.Equal(issuer) || !r.names(c) {
			continue
		}
		if err = authorized(c, issuer); err == nil {
			err = r.signedBy(c)
		}
		if err == nil {
			return c, nil
		}
	}
	return nil, err
}

// names reports whether the response says that c's key signed it.
func (r *Response) names(c *x509.Certificate) bool {
	if r.responderName != nil {
		return bytes.Equal(r.responderName, c.RawSubject)
	}
	return bytes.Equal(r.responderKey, sum(crypto.SHA1, keyBits(c)))
}

func (r *Response) signedBy(c *x509.Certificate) error {
	return cms.VerifySignature(c, r.algorithm, r.signed, r.signature)
}

// authorized returns why c may not sign OCSP responses for issuer, or nil.
func authorized(c, issuer *x509.Certificate) error {
	purpose := false
	for _, u := range c.ExtKeyUsage {
		purpose = purpose || u == x509.ExtKeyUsageOCSPSigning // "any" would make a responder of everybody
	}
	why := ""
	switch {
	case !bytes.Equal(c.RawIssuer, issuer.RawSubject) || c.CheckSignatureFrom(issuer) != nil:
		why = "was not issued by the same authority"
	case !purpose:
		why = "is not for signing OCSP responses"
	case c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		why = "is not for signatures"
	case len(c.UnhandledCriticalExtensions) > 0:
		why = "has critical extensions that are not known here"
	default:
		return nil
	}
	return fmt.Errorf("%w: the certificate of OCSP responder %s %s", ErrNotAuthorized, cms.NameOf(c.RawSubject), why)
}

// Request makes an OCSPRequest about c, issued by issuer: without nonce and signature, and with SHA-1 to name the issuer,
// which is what every responder understands (RFC 5019 §2.1.1).
func Request(c, issuer *x509.Certificate) []byte {
	var b cryptobyte.Builder
	sequence := func(add func(*cryptobyte.Builder)) func(*cryptobyte.Builder) {
		return func(b *cryptobyte.Builder) { b.AddASN1(casn1.SEQUENCE, add) }
	}
	id := func(b *cryptobyte.Builder) {
		b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddBytes([]byte{byte(casn1.OBJECT_IDENTIFIER), 5, 0x2b, 0x0e, 0x03, 0x02, 0x1a, byte(casn1.NULL), 0})
		})
		b.AddASN1OctetString(sum(crypto.SHA1, c.RawIssuer))
		b.AddASN1OctetString(sum(crypto.SHA1, keyBits(issuer)))
		b.AddASN1BigInt(c.SerialNumber)
	}
	// OCSPRequest, TBSRequest, requestList, Request, CertID
	sequence(sequence(sequence(sequence(sequence(id)))))(&b)
	return b.BytesOrPanic()
}

func sum(hash crypto.Hash, data []byte) []byte {
	h := hash.New()
	h.Write(data)
	return h.Sum(nil)
}

// keyBits returns the bits of c's public key, without the algorithm around them.
func keyBits(c *x509.Certificate) []byte {
	in := cryptobyte.String(c.RawSubjectPublicKeyInfo)
	var info cryptobyte.String
	var bits []byte
	if !in.ReadASN1(&info, casn1.SEQUENCE) || !info.SkipASN1(casn1.SEQUENCE) || !info.ReadASN1BitStringAsBytes(&bits) {
		return nil // crypto/x509 has read it before
	}
	return bits
}
