package tpm

import (
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// maxSerial bounds the length of a serial number in bytes; X.520 allows 64 characters in the attribute.
const maxSerial = 256

// SerialNumber returns the device's serial number from the certificate's subject (IEEE 802.1AR, 8.6), with pattern as in
// Options.SerialPattern. Errors are *Error.
func SerialNumber(cert *x509.Certificate, pattern *SerialPattern) (string, error) {
	const fix = "the maker must put the serial number into attribute serialNumber (2.5.4.5) of the certificate's " +
		"subject; device.serial-pattern adapts to another form of it"
	refuse := func(format string, args ...any) (string, error) {
		return "", &Error{Code: CodeNoSerial, Fix: fix,
			Msg: "the certificate for " + quote(cert.Subject.String()) + " " + fmt.Sprintf(format, args...)}
	}
	var serials []string
	for _, attribute := range cert.Subject.Names {
		value, ok := attribute.Value.(string)
		if !ok || !attribute.Type.Equal(asn1.ObjectIdentifier{2, 5, 4, 5}) {
			continue
		}
		serial, ok := extractSerial(value, pattern)
		if !ok {
			return refuse("has serialNumber %s, which does not match the pattern %s", quote(value), quote(pattern.String()))
		}
		if len(serial) > maxSerial || strings.ContainsFunc(serial, func(r rune) bool { return !unicode.IsPrint(r) }) {
			return refuse("has a serial number that is longer than %d bytes or not printable", maxSerial)
		}
		if serial != "" && !slices.Contains(serials, serial) {
			serials = append(serials, serial)
		}
	}
	switch len(serials) {
	case 0:
		return refuse("has no serial number in its subject")
	case 1:
		return serials[0], nil
	}
	return refuse("has several serial numbers: %q", serials)
}

// extractSerial reduces a serialNumber attribute to the serial number itself.
func extractSerial(value string, pattern *SerialPattern) (serial string, ok bool) {
	if pattern != nil {
		serial, ok = pattern.Find(value)
		return strings.TrimSpace(serial), ok
	}
	value = strings.TrimSpace(value)
	if strings.HasPrefix(value, "PID:") {
		if i := strings.LastIndex(value, " SN:"); i >= 0 {
			value = value[i+len(" SN:"):]
		}
	}
	return strings.TrimSpace(value), true
}
