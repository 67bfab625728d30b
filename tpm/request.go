package tpm

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Request returns a certificate request (PKCS#10, RFC 2986, DER) for the key at a persistent handle, signed by it. The
// subject must carry the serial number of the device, of at most 64 characters (X.520, 6.2.9).
func (f Factory) Request(ctx context.Context, handle uint32, subject pkix.Name) ([]byte, error) {
	serial := subject.SerialNumber
	if serial == "" || utf8.RuneCountInString(serial) > 64 || !utf8.ValidString(serial) || strings.TrimSpace(serial) != serial ||
		strings.ContainsFunc(serial, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return nil, &Error{Code: CodeNoSerial, Msg: "a certificate request for serial number " + quote(serial) + " is not possible",
			Fix: "give the serial number as it is printed on the device, at most 64 printable characters"}
	}
	c, err := f.connect()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	p := pair{conn: c, use: forIdentity}
	if err := p.findKey(ctx, fmt.Sprintf("%#08x", handle)); err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: subject}, p.key)
	return der, explain("making a certificate request", err)
}
